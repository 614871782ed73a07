"""Throughput of forecasting many series, from Parquet to Parquet."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.gpu import Job, Lines, Values
from benchmarks.training import one_device
from benchmarks.work import HORIZON, SEASON, Size, make_config
from dist_lstm.forecast.predict import BATCH_SIZE
from dist_lstm.model.lstm import build_model
from dist_lstm.run import forecast
from dist_lstm.run_directory import start_run
from dist_lstm.train.checkpoint import save_model

_SERIES, _STEPS, _CONTEXT = 200_000, 36, 24


def lines(job: Job) -> Lines:
    """Lines of the item."""
    series, units = (500, 4) if job.rehearse else (_SERIES, 64)
    yield f"{series:,} windows", partial(measure, Path(job.folder) / "forecasting", series, units)


def measure(folder: Path, series: int, units: int) -> Values:
    """Prepare a table and forecast every series from its end, with an untrained model."""
    folder.mkdir(exist_ok=True)
    write_table(folder / "series.parquet", series)
    size = Size((units, units), 256, _CONTEXT)
    whole = {"split.validation": 0, "split.test": 0, "task.min_context": _STEPS - HORIZON}
    config = make_config(folder, size, settings=whole)
    begin = time.perf_counter()
    with start_run(config, folder / "run", Console(quiet=True)) as run:
        prepared = time.perf_counter()
        one_device()
        save_model(build_model(run.task, run.config.model), run.files.model)
        built = time.perf_counter()
        out = forecast(run)
    seconds = time.perf_counter() - built
    rows = sum(pq.read_metadata(path).num_rows for path in out.glob("part-*.parquet"))
    if rows != series * HORIZON:
        raise RuntimeError(f"{rows} rows of forecasts, {series * HORIZON} expected")
    return {
        "series": series,
        "steps": _STEPS,
        "context": _CONTEXT,
        "horizon": HORIZON,
        "units": list(size.units),
        "batch": BATCH_SIZE,
        "prepare_s": round(prepared - begin, 1),
        "forecast_s": round(seconds, 1),
        "series_per_second": round(series / seconds),
        "series_per_second_with_prepare": round(series / (seconds + prepared - begin)),
    }


def write_table(path: Path, series: int) -> None:
    """Write a long table of series with a season and noise."""
    steps = np.arange(_STEPS)
    noise = np.random.default_rng(0).normal(0, 0.3, (series, _STEPS))
    y = 10 + np.sin(steps * 2 * np.pi / SEASON) + noise
    names = pa.array([f"s{number:06d}" for number in range(series)])
    ids = pa.DictionaryArray.from_arrays(pa.array(np.repeat(np.arange(series, dtype=np.int32), _STEPS)), names)
    table = pa.table({"unique_id": ids, "ds": np.tile(steps, series), "y": y.ravel().astype(np.float32)})
    pq.write_table(table, path)
