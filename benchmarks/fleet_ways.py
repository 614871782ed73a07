"""Ways to train a small model on each of many series, for `bench_fleet.py`.

All ways train the same network on the same samples of windows: batch 32, context 24, 32 units, `segment_length` 1.
The ways that call `Model.fit` receive normalised windows.
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))

import keras

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.resolved import MeasuredTrainSettings, ResolvedModelSettings
from dist_lstm.config.task import Task
from dist_lstm.data.fused_windows import GroupWindows, group_seed
from dist_lstm.data.panel import Panel
from dist_lstm.data.sampling import SamplingConfig
from dist_lstm.model.heads import head_loss
from dist_lstm.train.fused.fit import (
    FusedModels,
    Member,
    fused_fit,
    make_fused_models,
)

BATCH = 32
TASK = Task(
    horizon=18, context_length=24, min_context=12, freq=Frequency(1), season_length=12,
    levels=(), validation=0, test=18,
)  # fmt: skip
MODEL = ResolvedModelSettings(segment_length=1, units=(32,), head="mae", dropout=0.0)


def read_panel(path: Path) -> Panel:
    """Read the series of a long table."""
    frame = pd.read_parquet(path).sort_values(["unique_id", "ds"])
    length = frame.groupby("unique_id").size()
    offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    return Panel(length.index.to_numpy(), np.ones(len(length)), frame["y"].to_numpy(np.float32), offset)


def make_panel(series: int) -> Panel:
    """Generate series of 120 steps with a season and noise."""
    steps, offset = np.arange(120), 120 * np.arange(series + 1)
    noise = np.random.default_rng(0).normal(0, 0.3, (series, len(steps)))
    y = 10 + np.sin(steps * 2 * np.pi / TASK.season_length + np.arange(series)[:, None]) + noise
    names = np.array([f"s{number:05d}" for number in range(series)], object)
    return Panel(names, np.ones(series), y.astype(np.float32).ravel(), offset)


def measure(series: int, updates: int, work: Callable[[], object]) -> dict[str, float]:
    """Time `work`, which trains `series` models for `updates` steps each."""
    begin, used = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - begin, time.process_time() - used
    each = {"ms an update": 1000 * wall / series / updates, "cpu ms an update": 1000 * cpu / series / updates}
    return {"series": series, "series/s": series / wall, "cpu s a series": cpu / series} | each


def build() -> keras.Model:
    """Build and compile the network of `build_model`, from normalised steps to scaled forecasts."""
    steps = keras.Input((TASK.context_length, 2))
    state = keras.layers.LSTM(32)(steps)
    past = keras.layers.Dense(TASK.horizon, use_bias=False, kernel_initializer="zeros")
    forecast = keras.layers.Dense(TASK.horizon)(state) + past(keras.layers.Flatten()(steps))
    model = keras.Model(steps, forecast)
    loss = head_loss("mae", TASK)
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.0, clipnorm=1.0)
    model.compile(optimizer, loss=lambda target, scaled: loss(target, scaled[..., None]))
    return model


class Fleet:
    """The series of a table, and the ways to train a model on each.

    Args:
        panel: The series.
        updates: Training steps per series.
    """

    def __init__(self, panel: Panel, updates: int) -> None:
        train = MeasuredTrainSettings(
            batch_size=BATCH, max_steps=updates, steps_per_epoch=updates, warmup_steps=10, learning_rate=1e-3
        )
        self.updates = updates
        self.panel = panel
        self.windows = GroupWindows(panel, TASK, SamplingConfig(BATCH, updates, "series", 1, 1, False, 256))
        self.models: FusedModels = make_fused_models(TASK, MODEL, train)

    def members(self, first: int, number: int) -> list[Member]:
        """Members for `number` series from the index `first` on."""
        names = self.panel.unique_id
        return [Member(names[index], np.array([index])) for index in range(first, min(first + number, len(names)))]

    def fused(self, slots: int, series: int) -> dict[str, float]:
        """Time the training of `series` models, `slots` at a time, without compilation."""
        self.train(slots, slots)
        return measure(series, self.updates, lambda: self.train(slots, series))

    def train(self, slots: int, series: int) -> None:
        """Train `series` models, `slots` at a time; the first call compiles."""
        fitted = fused_fit(self.models, self.windows, self.members(0, series), slots)
        failed = [one.failure for one in fitted if one.failure]
        if failed:
            raise RuntimeError(str(failed))

    def training_data(self, member: Member) -> tuple[np.ndarray, np.ndarray]:
        """Normalised windows of a series for all updates: `[updates * B, T, 2]` and targets `[updates * B, H]`."""
        seed = group_seed(member.name, 1)
        inputs, target = self.windows.cut(*self.windows.training(member.series, seed, 0))
        normalised, scaled = self.models.steps.normalise(inputs, target)
        return np.asarray(normalised["features"]), np.nan_to_num(scaled)

    def fit(self, series: int) -> dict[str, float]:
        """Time a new model for each series."""

        def train() -> None:
            for member in self.members(0, series):
                build().fit(*self.training_data(member), batch_size=BATCH, shuffle=False, verbose=0)

        return measure(series, self.updates, train)

    def reset(self, series: int) -> dict[str, float]:
        """Time one compiled model that is reset for each series."""
        model = build()
        model.fit(*self.training_data(self.members(0, 1)[0]), batch_size=BATCH, shuffle=False, verbose=0)
        weights = model.get_weights()
        state = [one for one in model.optimizer.variables if "learning_rate" not in one.name]

        def train() -> None:
            for member in self.members(0, series):
                model.set_weights(weights)
                for one in state:
                    one.assign(np.zeros(one.shape, one.dtype))
                model.fit(*self.training_data(member), batch_size=BATCH, shuffle=False, verbose=0)

        return measure(series, self.updates, train)

    def trials(self, series: int) -> dict[str, float]:
        """Time one trial of Ray Tune per series, in reused processes whose start is not timed."""
        from ray import tune

        from dist_lstm.jobs.session import join_cluster

        windows = [self.training_data(member) for member in self.members(0, series)]
        with join_cluster() as cluster, tempfile.TemporaryDirectory() as scratch:
            at_once = int(cluster.cpus)
            results = tune.Tuner(
                tune.with_parameters(train_alone, windows=windows),
                param_space={"series": tune.grid_search(list(range(series)))},
                tune_config=tune.TuneConfig(reuse_actors=True),
                run_config=tune.RunConfig(storage_path=scratch, verbose=0),
            ).fit()
            ended = sorted(one.metrics["ended"] for one in results if one.metrics)
        # The first trial of each process imports TensorFlow.
        wall, rest = ended[-1] - ended[at_once - 1], series - at_once
        each = {"ms an update": 1000 * wall / rest / self.updates, "cpu ms an update": math.nan}
        return {"series": rest, "series/s": rest / wall, "cpu s a series": math.nan} | each


def train_alone(settings: dict[str, Any], windows: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Build, compile and fit the model of one series, in a trial."""
    build().fit(*windows[settings["series"]], batch_size=BATCH, shuffle=False, verbose=0)
    return {"ended": time.time()}
