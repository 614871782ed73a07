"""Windows per second read from shards, compared with Keras' own utility.

    uv run python benchmarks/bench_stream.py     # prints a table, writes results/stream.json

One million steps, context 96, horizon 24. Measured in turns, median of the turns: cutting windows (NumPy, one
core), the complete stream (sampled over all series, cut, batched, passed to TensorFlow), and
`keras.utils.timeseries_dataset_from_array`, which reads one array without series, also shuffled.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from dist_lstm.config.defaults import resolve
from dist_lstm.config.load import parse_config
from dist_lstm.config.resolved import MeasuredConfig, as_measured
from dist_lstm.config.schema import ResourceSettings
from dist_lstm.config.task import make_task
from dist_lstm.data.prepare import describe, ingest
from dist_lstm.data.sampling import TrainingWindows, make_sampling
from dist_lstm.data.shards import Shards, read_panel
from dist_lstm.data.stream import training_dataset
from dist_lstm.data.windows import WindowCutter, training_cutoffs
from dist_lstm.train.devices import make_strategy

RESULTS = Path(__file__).parent / "results" / "stream.json"
SERIES, STEPS, CONTEXT, HORIZON, TURNS, SECONDS = 500, 2000, 96, 24, 5, 2.0


def rate(batches: Callable[[], Any], size: int) -> float:
    """Windows per second of an endless source of batches."""
    batches()
    begin, number = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS:
        batches()
        number += size
    return number / (time.perf_counter() - begin)


def main() -> None:
    """Measure in turns, print a table and write the results file."""
    make_strategy(ResourceSettings(gpus=0))
    y = np.random.default_rng(0).normal(size=SERIES * STEPS).astype(np.float32)
    results: dict[str, Any] = {"machine": describe_machine(), "windows_per_second": {}}
    with tempfile.TemporaryDirectory() as scratch:
        ids, ds = np.repeat([f"s{n:04d}" for n in range(SERIES)], STEPS), np.tile(np.arange(STEPS), SERIES)
        pq.write_table(pa.table({"unique_id": ids, "ds": ds, "y": y}), Path(scratch) / "series.parquet")
        for batch in (512, 4096):
            settings = {
                "task": {"horizon": HORIZON, "context_length": CONTEXT, "freq": 1, "season_length": 24},
                "data": {"path": str(Path(scratch) / "series.parquet")},
                "train": {"batch_size": batch},
            }
            config, folder = parse_config(settings), Path(scratch) / "shards"
            with ingest(config, folder) as dataset:
                resolved = resolve(config, dataset.statistics)
                shards = describe(dataset, resolved)
            results["windows_per_second"][f"batch {batch}"] = measure(as_measured(resolved), shards, y)
    table = Table("windows per second", *results["windows_per_second"], title="stream", title_justify="left")
    for name in results["windows_per_second"]["batch 512"]:
        table.add_row(name, *(f"{rates[name]:,.0f}" for rates in results["windows_per_second"].values()))
    console = Console()
    console.print(table)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {RESULTS.relative_to(RESULTS.parents[2])}")


def measure(config: MeasuredConfig, shards: Shards, y: np.ndarray) -> dict[str, float]:
    """Measure the three sources in turns, for one batch size."""
    task, batch = make_task(config), config.train.batch_size
    panel = read_panel(shards.row_groups()[0])
    cutter = WindowCutter(panel, task)
    series, cutoff = training_cutoffs(panel, task, 1, whole=False).enumerate()
    generator = np.random.default_rng(1)
    stream = iter(training_dataset(TrainingWindows(shards, task, make_sampling(config, whole=False))))
    utility = iter(
        keras.utils.timeseries_dataset_from_array(
            y, y[CONTEXT:], sequence_length=CONTEXT, batch_size=batch, shuffle=True, seed=1
        ).repeat()
    )

    def cut() -> None:
        chosen = generator.integers(0, len(series), 16 * batch)
        cutter.windows(series[chosen], cutoff[chosen])

    sources = {
        "cut (NumPy, one core)": (cut, 16 * batch),
        "stream": (lambda: next(stream), batch),
        "keras utility": (lambda: next(utility), batch),
    }
    speeds: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(TURNS):
        for name, (batches, size) in sources.items():
            speeds[name].append(rate(batches, size))
    return {name: round(median(rates)) for name, rates in speeds.items()}


if __name__ == "__main__":
    main()
