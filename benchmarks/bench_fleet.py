"""Many small models: trained as one graph, against one Keras `fit` a series.

    uv run python benchmarks/bench_fleet.py --data DIR           # M3 monthly; writes results/fleet.json

DIR holds `m3/monthly_train.parquet`. Every way trains the same model on each series (batch 32, context 24, 32
units, one step of the series at a time), on windows drawn the same way:

* `fused`: `fused_fit`, many models at once, for several numbers of slots;
* `fit`: a new model a series, compiled and trained by `Model.fit`, in one process;
* `reset`: `fit` again, but of one compiled model whose weights and optimizer are put back for each series.

The two `fit`s are given their windows normalised. A first round of each way compiles and is left out, but for
`fit`, whose building and tracing a series is what it costs. Seconds are of the wall clock; cpu seconds are those
of all threads, and say more where the machine is shared.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from dist_lstm.train.fused_fit import (
    FusedModels,
    Member,
    fused_fit,
    make_fused_models,
)  # first: TensorFlow, quietly

import keras  # isort: skip

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.schema import ModelSettings, TrainSettings
from dist_lstm.config.task import Task
from dist_lstm.data.groups import GroupWindows, group_seed
from dist_lstm.data.panel import Panel
from dist_lstm.data.sampling import Draw
from dist_lstm.model.heads import head_loss

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "fleet.json"
BATCH = 32
TASK = Task(
    horizon=18, context_length=24, min_context=12, freq=Frequency(1), season_length=12,
    levels=(), validation=0, test=18,
)  # fmt: skip
MODEL = ModelSettings(segment_length=1, units=(32,), head="mae", dropout=0.0)


def read_panel(path: Path) -> Panel:
    """The series of a long table."""
    frame = pd.read_parquet(path).sort_values(["unique_id", "ds"])
    length = frame.groupby("unique_id").size()
    offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    return Panel(length.index.to_numpy(), np.ones(len(length)), frame["y"].to_numpy(np.float32), offset)


def measure(series: int, updates: int, work: Callable[[], object]) -> dict[str, float]:
    """Seconds of some work on some series."""
    begin, used = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - begin, time.process_time() - used
    each = {"ms an update": 1000 * wall / series / updates, "cpu ms an update": 1000 * cpu / series / updates}
    return {"series": series, "series/s": series / wall, "cpu s a series": cpu / series} | each


class Fleet:
    """The series of a table, and the ways to train a model on each.

    Args:
        panel: The series.
        updates: Steps a series.
    """

    def __init__(self, panel: Panel, updates: int) -> None:
        train = TrainSettings(batch_size=BATCH, max_steps=updates, steps_per_epoch=updates, warmup_steps=10)
        self.updates = updates
        self.panel = panel
        self.windows = GroupWindows(panel, TASK, Draw(BATCH, updates, "series", 1, 1, False, 256))
        self.models: FusedModels = make_fused_models(TASK, MODEL, train)

    def members(self, first: int, number: int) -> list[Member]:
        """Some of the series."""
        names = self.panel.unique_id
        return [Member(names[place], np.array([place])) for place in range(first, min(first + number, len(names)))]

    def fused(self, slots: int, series: int) -> dict[str, float]:
        """Train some series, `slots` at a time."""

        def train(number: int) -> None:
            failed = [one.failure for one in fused_fit(self.models, self.windows, self.members(0, number), slots)]
            if any(failed):
                raise RuntimeError(str(failed))

        train(slots)
        return measure(series, self.updates, lambda: train(series))

    def _drawn(self, member: Member) -> tuple[np.ndarray, np.ndarray]:
        seed = group_seed(member.name, 1)
        inputs, target = self.windows.cut(*self.windows.training(member.series, seed, 0))
        features, scaled = self.models.steps.normalise(inputs, target)
        return features.numpy(), np.nan_to_num(scaled.numpy())

    def _build(self) -> keras.Model:
        """The network of `build_model`, from normalised steps to scaled forecasts."""
        steps = keras.Input((TASK.context_length, 2))
        known = keras.layers.LSTM(32)(steps)
        past = keras.layers.Dense(TASK.horizon, use_bias=False, kernel_initializer="zeros")
        forecast = keras.layers.Dense(TASK.horizon)(known) + past(keras.layers.Flatten()(steps))
        model = keras.Model(steps, forecast)
        loss = head_loss("mae", TASK)
        optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.0, clipnorm=1.0)
        model.compile(optimizer, loss=lambda target, scaled: loss(target, scaled[..., None]))
        return model

    def fit(self, series: int) -> dict[str, float]:
        """A new model for each of some series."""

        def train() -> None:
            for member in self.members(0, series):
                self._build().fit(*self._drawn(member), batch_size=BATCH, shuffle=False, verbose=0)

        return measure(series, self.updates, train)

    def reset(self, series: int) -> dict[str, float]:
        """One compiled model, put back for each of some series."""
        model = self._build()
        model.fit(*self._drawn(self.members(0, 1)[0]), batch_size=BATCH, shuffle=False, verbose=0)
        weights = model.get_weights()
        state = [one for one in model.optimizer.variables if "learning_rate" not in one.name]

        def train() -> None:
            for member in self.members(0, series):
                model.set_weights(weights)
                for one in state:
                    one.assign(np.zeros(one.shape, one.dtype))
                model.fit(*self._drawn(member), batch_size=BATCH, shuffle=False, verbose=0)

        return measure(series, self.updates, train)


def main() -> None:
    """Measure each way, print a table and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--updates", type=int, nargs="+", default=[30, 100, 300], help="steps a series")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 16, 64, 256], help="models at once")
    parser.add_argument("--sample", type=int, default=12, help="series of the two ways that take long")
    parser.add_argument("--series", type=int, default=256, help="series of the fused way")
    arguments = parser.parse_args()
    panel, console = read_panel(arguments.data / "m3" / "monthly_train.parquet"), Console()
    results: dict[str, Any] = {"machine": describe_machine(), "updates": {}}
    columns = ("updates", "way", "series", "series/s", "ms an update", "cpu ms an update", "cpu s a series")
    table = Table(*columns, title="M3 monthly, a model a series: batch 32, context 24, 32 units")
    for updates in arguments.updates:
        fleet = Fleet(panel, updates)
        found = results["updates"][str(updates)] = {
            "fit": fleet.fit(arguments.sample),
            "reset": fleet.reset(arguments.sample),
        }
        for slots in arguments.slots:
            found[f"fused {slots}"] = fleet.fused(slots, max(slots, min(arguments.series, 32 * slots)))
        for way, one in found.items():
            numbers = [f"{one[key]:.3g}" for key in columns[3:]]
            table.add_row(str(updates), way, f"{one['series']:.0f}", *numbers)
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(table)
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
