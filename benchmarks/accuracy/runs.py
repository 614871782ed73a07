"""One run of a table through the command line, and its scores from the files that the run leaves.

Axes: R rows (one forecast step).
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.accuracy.tables import TABLES, PublicTable
from dist_lstm.config.defaults import DatasetStatistics, resolve
from dist_lstm.config.load import parse_config
from dist_lstm.config.yaml import dump_yaml

#: Months of 30 days, hourly: training, validation and test range of ETT, as in Zhou et al., "Informer", AAAI 2021.
_ETT_TRAIN, _ETT_VALIDATION, _ETT_TEST = 12 * 720, 4 * 720, 4 * 720


@dataclass(frozen=True)
class Job:
    """A run to make.

    Attributes:
        table: Name of the table, a key of `TABLES`.
        settings: Settings other than those of the protocol, by dotted key.
        seed: Seed of the training.
        inside: Whether the test range is cut off first, so that all scores are of the training range: those on
            which the recipe is chosen.
    """

    table: str
    settings: Mapping[str, Any]
    seed: int
    inside: bool = False

    @property
    def public_table(self) -> PublicTable:
        """The table and its protocol."""
        return TABLES[self.table]

    @property
    def scored_on(self) -> str:
        """`forecasts` from the end of a table, or the run's own `backtest`."""
        return "forecasts" if self.public_table.protocol == "competition" else "backtest"


def run_job(job: Job, data: Path, scratch: Path, threads: int | str = "auto") -> dict[str, Any]:
    """Train, forecast and score one table with `dist-lstm run`.

    Inside of the training range a competition is held one horizon earlier; any other table is scored on the run's
    own backtest.

    Args:
        job: The run to make.
        data: Folder of the public tables.
        scratch: An empty folder, which the caller deletes.
        threads: Threads per operation of TensorFlow.

    Returns:
        Scores by model, each by metric; `seconds` of the whole run, and the `training` section of its metrics.
        `failed` with the last line of the errors instead, where the run failed.
    """
    table, out, config = job.public_table, scratch / "run", scratch / "config.yaml"
    values = _config(job, data, scratch)
    config.write_text(dump_yaml(values), encoding="utf-8")
    settings = [f"{key}={json.dumps(value)}" for key, value in job.settings.items()]
    settings.append(f"resources.threads={threads}")
    command = [sys.executable, "-m", "dist_lstm", "run", str(config), "--out", str(out)]
    command += [part for setting in settings for part in ("--set", setting)]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = round(time.perf_counter() - begin, 1)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1], "seconds": seconds}
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    match "rolling" if job.inside and table.protocol == "windows" else table.protocol:
        case "rolling":
            scores = {name: value for name, value in metrics["backtest"].items() if isinstance(value, dict)}
        case "competition":
            scores = _score_competition(out, _test_file(job, data, scratch))
            if table.naive2 is not None and not job.inside:
                smape, mase = table.naive2
                for one in scores.values():
                    one["owa"] = (one["smape"] / smape + one["mase"] / mase) / 2
        case "windows":
            scores = {"LSTM": score_windows(out / "backtest")}
    return {"scores": scores, "seconds": seconds, "training": metrics["training"]}


def _config(job: Job, data: Path, scratch: Path) -> dict[str, Any]:
    """The config of a job; a table that it needs in another form is written to `scratch`."""
    table, path = job.public_table, job.public_table.train_file(data)
    sections: dict[str, Any] = {}
    if job.inside:
        frame, path = pd.read_parquet(path), scratch / "inside.parquet"
        inside = without_test(frame, table)
        inside.to_parquet(path)
        if table.protocol == "competition":
            frame.drop(inside.index).to_parquet(_test_file(job, data, scratch))
    elif table.protocol == "windows":
        path = scratch / "standardised.parquet"
        standardise(pd.read_parquet(table.train_file(data))).to_parquet(path)
        split = {"validation": _ETT_VALIDATION, "test": _ETT_TEST}
        sections = {"split": split, "backtest": {"windows": _ETT_TEST - table.horizon + 1, "stride": 1}}
    if table.protocol == "competition":
        sections = {"split": {"test": 0}}
    context = {"context_length": int(job.table.split("_")[1])} if table.protocol == "windows" else {}
    refit = table.protocol == "competition"
    return {
        "task": table.task | context,
        "data": {"path": str(path)},
        "train": {"seed": job.seed, "refit": refit},
    } | sections


def without_test(frame: pd.DataFrame, table: PublicTable) -> pd.DataFrame:
    """A table without the range on which the accuracy is reported.

    Args:
        frame: Columns `unique_id`, `ds`, `y`, in order of time.
        table: The table.

    Returns:
        The same columns: of a competition all but the last horizon, of the standardised windows those before the
        test months, otherwise all but the last horizons of each series that the default backtest scores.
    """
    if table.protocol == "windows":
        return standardise(frame).groupby("unique_id", sort=False).head(_ETT_TRAIN + _ETT_VALIDATION)
    lengths = frame["unique_id"].value_counts()
    position = frame.groupby("unique_id", sort=False).cumcount()
    if table.protocol == "competition":
        return frame[position < frame["unique_id"].map(lengths) - table.horizon]
    statistics = DatasetStatistics(freq=1, steps=len(frame), median=int(lengths.median()))
    config = parse_config({"task": {"horizon": table.horizon}, "data": {"path": table.path}})
    test = resolve(config, statistics).split.test
    return frame[position < frame["unique_id"].map(lengths) - test]


def standardise(frame: pd.DataFrame) -> pd.DataFrame:
    """The first 20 months of a table, each series by mean and standard deviation of its first 12.

    Args:
        frame: Columns `unique_id`, `ds`, `y`, in order of time.

    Returns:
        The same columns.
    """
    kept = frame.groupby("unique_id", sort=False).head(_ETT_TRAIN + _ETT_VALIDATION + _ETT_TEST)
    first = kept.groupby("unique_id", sort=False).head(_ETT_TRAIN).groupby("unique_id")["y"]
    mean, deviation = (kept["unique_id"].map(one) for one in (first.mean(), first.std(ddof=0)))
    return kept.assign(y=(kept["y"] - mean) / deviation)


def score_windows(backtest: Path) -> dict[str, float]:
    """Mean squared and mean absolute error over all windows, steps and variables.

    Args:
        backtest: Folder of the part files of a backtest.

    Returns:
        `mse` and `mae`, in squared and in single units of the table.
    """
    squared = absolute = points = 0.0
    for path in sorted(backtest.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["y", "LSTM"]):
                error = batch["y"].to_numpy().astype(np.float64) - batch["LSTM"].to_numpy()
                squared, absolute = squared + float((error**2).sum()), absolute + float(np.abs(error).sum())
                points += len(error)
    return {"mse": squared / points, "mae": absolute / points}


def _test_file(job: Job, data: Path, scratch: Path) -> Path:
    """Where the actual values of a competition are."""
    return scratch / "actuals.parquet" if job.inside else job.public_table.test_file(data)


def _score_competition(out: Path, actuals: Path) -> dict[str, Any]:
    """Scores of a run's forecasts against the actual values of a competition."""
    from dist_lstm.config.resolved import load_resolved
    from dist_lstm.data.shards import open_shards
    from dist_lstm.evaluate.actuals import evaluate_forecasts

    config, shards = load_resolved(out / "config.yaml"), open_shards(out / "shards")
    result = evaluate_forecasts(shards, config, shards.make_task(config), str(actuals), out / "forecasts")
    return {name: value for name, value in result.items() if isinstance(value, dict)}
