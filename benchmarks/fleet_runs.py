"""Whole fleets for `bench_fleet.py`, through the command line: scores, memory, and seconds of their parts."""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
#: Horizon and season of each frequency of M3.
FREQUENCIES = {"yearly": (6, 1), "quarterly": (8, 4), "monthly": (18, 12), "other": (8, 1)}
#: Makridakis & Hibon, "The M3-Competition", IJF 16 (2000), recomputed from the competitors' own forecasts.
THETA = {"yearly": 16.97, "quarterly": 8.96, "monthly": 13.89, "other": 4.41}
TABLES = ("models", "scores", "forecasts", "backtest")
_STEPS = 60
_LOOK = 0.5


def run_fleet(config: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """A fleet of a model a series by the command line.

    Args:
        config: Its config.
        scratch: Where `config.yaml` and `fleet/` are written.

    Returns:
        `seconds` of the command; `stages`, seconds of each; `packs`, models and seconds of each pack of single
        series; `levels`, how many series are forecast by what; `bytes` of the tables; `peak_mib` of memory of all
        its processes, shared memory counted once, and `command_mib` of the command alone.
    """
    (scratch / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    words = ("-v", "fleet", "config.yaml", "--out", "fleet", "--set", "fleet.by=series")
    with tempfile.TemporaryFile("w+") as said:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "dist_lstm", *words], cwd=scratch, stdout=said, stderr=subprocess.STDOUT
        )
        watch = _Watch(process.pid)
        failed = process.wait()
        seconds = time.perf_counter() - begin
        peak = watch.end()
        said.seek(0)
        text = said.read()
    if failed:
        raise RuntimeError(text)
    metrics = json.loads((scratch / "fleet" / "metrics.json").read_text(encoding="utf-8"))
    stages = {name: float(number) for name, number in re.findall(r"^(\w+) +([\d.]+) s$", text, re.MULTILINE)}
    packs = re.findall(r"^own +\d+ of \d+: (\d+) models in (\d+) s", text, re.MULTILINE)
    levels = metrics["fleet"]["levels"]
    found = {"seconds": seconds, "series": metrics["fleet"]["series"], "levels": levels, "stages": stages}
    tables = [path for name in TABLES for path in (scratch / "fleet" / name).glob("*.parquet")]
    found["bytes"] = sum(path.stat().st_size for path in tables)
    return found | {"packs": [(int(models), int(took)) for models, took in packs]} | peak


def score_frequency(name: str, folder: Path, scratch: Path) -> dict[str, Any]:
    """A fleet on a frequency of M3, scored against the competition's test part.

    Args:
        name: One of `FREQUENCIES`.
        folder: Folder of the tables.
        scratch: Where the fleet may lie.

    Returns:
        What `run_fleet` says, and the scores of the `fleet` and of its `global` model alone.
    """
    horizon, season = FREQUENCIES[name]
    table = (folder / f"{name}_train.parquet").absolute()
    found = run_fleet(
        {
            "task": {"horizon": horizon, "freq": 1, "season_length": season, "levels": [80, 95]},
            "data": {"path": str(table)},
            "split": {"validation": horizon, "test": horizon},
            "backtest": {"windows": 1},
        },
        scratch,
    )
    words = ("forecast", "fleet", "--data", str(table), "--out", "global")
    subprocess.run([sys.executable, "-m", "dist_lstm", *words], cwd=scratch, check=True, capture_output=True)
    actuals, fleet = folder / f"{name}_test.parquet", scratch / "fleet"
    forecasts = {"fleet": fleet / "forecasts", "global": scratch / "global"}
    return found | {key: _score(fleet, actuals, value) for key, value in forecasts.items()}


def _score(fleet: Path, actuals: Path, forecasts: Path) -> dict[str, Any]:
    from dist_lstm.config.resolved import load_resolved
    from dist_lstm.data.shards import open_shards
    from dist_lstm.evaluate.actuals import evaluate_forecasts

    config, shards = load_resolved(fleet / "config.yaml"), open_shards(fleet / "shards")
    return evaluate_forecasts(shards, config, shards.make_task(config), str(actuals), forecasts)["LSTM"]


def run_generated(series: int, scratch: Path) -> dict[str, Any]:
    """A fleet of generated series of 60 steps, with models of 8 units and 30 updates.

    Args:
        series: How many, a multiple of 1,000.
        scratch: Where the fleet may lie.

    Returns:
        What `run_fleet` says.
    """
    _write_generated(series, scratch / "table.parquet")
    small = {"train.max_steps": 30, "model.units": [8], "train.batch_size": 8}
    return run_fleet(
        {
            "task": {"horizon": 6, "freq": 1, "season_length": 12, "context_length": 12},
            "data": {"path": "table.parquet"},
            "split": {"validation": 6, "test": 6},
            "train": {"max_steps": 200},
            "fleet": {"settings": small},
        },
        scratch,
    )


def _write_generated(series: int, path: Path) -> None:
    """A season of 12, a trend and noise."""
    generator, step = np.random.default_rng(0), np.arange(_STEPS)
    schema = pa.schema([("unique_id", "string"), ("ds", "int64"), ("y", "float32")])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, series, 1000):
            names = np.repeat([f"s{number:07d}" for number in range(first, first + 1000)], _STEPS)
            slope, phase = generator.normal(size=(2, 1000, 1))
            season = 10 * np.sin(2 * np.pi * step / 12 + phase)
            y = 50 + slope * step + season + generator.normal(size=(1000, _STEPS))
            columns = [names, np.tile(step + 1, 1000), y.ravel().astype(np.float32)]
            writer.write_table(pa.table(columns, schema=schema))


class _Watch:
    """Looks at a process and all below it, twice a second, for the most memory that they take."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over, self._peak = pid, threading.Event(), [0.0, 0.0]
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(_LOOK):
            sizes = [_share_of_memory(one) for one in _below(self._pid)]
            self._peak = [max(self._peak[0], sum(sizes)), max(self._peak[1], sizes[0])]

    def end(self) -> dict[str, float]:
        """What was seen."""
        self._over.set()
        self._thread.join()
        return dict(zip(("peak_mib", "command_mib"), self._peak, strict=True))


def _below(pid: int) -> list[int]:
    """A process, and all that it or these started."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def _share_of_memory(pid: int) -> float:
    """MiB of a process; pages that others share are divided among them."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(text.split("\nPss:")[1].split()[0]) / 1024


def time_trials(numbers: Sequence[int] = (50, 250)) -> dict[str, float]:
    """What Tune itself takes.

    Args:
        numbers: Few and many trials that do nothing; their difference is what a trial takes.

    Returns:
        Seconds of two trials, `start`, and of one more, `trial`.
    """
    from dist_lstm.jobs.session import join_cluster

    seconds = []
    with join_cluster(), tempfile.TemporaryDirectory() as scratch:
        from ray import tune

        for number in (2, *numbers):
            begin = time.perf_counter()
            tune.Tuner(
                _nothing,
                param_space={"pack": tune.grid_search(list(range(number)))},
                tune_config=tune.TuneConfig(reuse_actors=True),
                run_config=tune.RunConfig(name=str(number), storage_path=scratch, verbose=0),
            ).fit()
            seconds.append(time.perf_counter() - begin)
    few, many = numbers
    return {"start": seconds[0], "trial": (seconds[2] - seconds[1]) / (many - few)}


def _nothing(_: dict[str, Any]) -> dict[str, float]:
    return {"score": 0.0}
