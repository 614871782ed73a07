"""Complete fleets for `bench_fleet.py`, through the command line: scores, memory, and seconds per stage."""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
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
#: Seconds between two samples of memory.
_INTERVAL = 0.5


def run_fleet(config: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Run a fleet of one model per series through the command line.

    Args:
        config: The fleet's config.
        scratch: Folder in which `config.yaml` and `fleet/` are written.

    Returns:
        `seconds` of the command; `stages`, seconds per stage; `packs`, number of models and seconds of each pack
        of single series; `levels`, number of series by the level that forecasts them; `bytes` of the tables;
        `peak_mib`, peak memory of all processes, shared memory counted once, and `command_mib` of the command.
    """
    (scratch / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    words = ("-v", "fleet", "config.yaml", "--out", "fleet", "--set", "fleet.by=series")
    with tempfile.TemporaryFile("w+") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "dist_lstm", *words], cwd=scratch, stdout=output, stderr=subprocess.STDOUT
        )
        monitor = _MemoryMonitor(process.pid)
        failed = process.wait()
        seconds = time.perf_counter() - begin
        peak = monitor.end()
        output.seek(0)
        text = output.read()
    if failed:
        raise RuntimeError(text)
    metrics = json.loads((scratch / "fleet" / "metrics.json").read_text(encoding="utf-8"))
    stages = {name: float(number) for name, number in re.findall(r"^(\w+) +([\d.]+) s$", text, re.MULTILINE)}
    packs = re.findall(r"^own +\d+ of \d+: (\d+) models in (\d+) s", text, re.MULTILINE)
    levels = metrics["fleet"]["levels"]
    result = {"seconds": seconds, "series": metrics["fleet"]["series"], "levels": levels, "stages": stages}
    tables = [path for name in TABLES for path in (scratch / "fleet" / name).glob("*.parquet")]
    result["bytes"] = sum(path.stat().st_size for path in tables)
    return result | {"packs": [(int(models), int(elapsed)) for models, elapsed in packs]} | peak


def score_frequency(name: str, folder: Path, scratch: Path) -> dict[str, Any]:
    """Score a fleet on a frequency of M3 against the competition's test part.

    Args:
        name: One of `FREQUENCIES`.
        folder: Folder of the tables.
        scratch: Folder in which the fleet is written.

    Returns:
        The values of `run_fleet`, and the scores of the `fleet` and of its `global` model alone.
    """
    horizon, season = FREQUENCIES[name]
    table = (folder / f"{name}_train.parquet").absolute()
    result = run_fleet(
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
    return result | {key: _score(fleet, actuals, value) for key, value in forecasts.items()}


def _score(fleet: Path, actuals: Path, forecasts: Path) -> dict[str, Any]:
    from dist_lstm.config.resolved import load_resolved
    from dist_lstm.data.shards import open_shards
    from dist_lstm.evaluate.actuals import evaluate_forecasts

    config, shards = load_resolved(fleet / "config.yaml"), open_shards(fleet / "shards")
    return evaluate_forecasts(shards, config, shards.make_task(config), str(actuals), forecasts)["LSTM"]


def run_generated(series: int, scratch: Path) -> dict[str, Any]:
    """Run a fleet of generated series of 60 steps, with models of 8 units and 30 updates.

    Args:
        series: Number of series, a multiple of 1,000.
        scratch: Folder in which the fleet is written.

    Returns:
        The values of `run_fleet`.
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
    """Write series with a season of 12 steps, a trend and noise."""
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


class _MemoryMonitor:
    """Samples the memory of a process and its descendants twice per second and keeps the peak."""

    def __init__(self, pid: int) -> None:
        self._pid, self._stop, self._peak = pid, threading.Event(), [0.0, 0.0]
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stop.wait(_INTERVAL):
            sizes = [_proportional_memory(pid) for pid in _process_tree(self._pid)]
            self._peak = [max(self._peak[0], sum(sizes)), max(self._peak[1], sizes[0])]

    def end(self) -> dict[str, float]:
        """Stop sampling and return the peaks."""
        self._stop.set()
        self._thread.join()
        return dict(zip(("peak_mib", "command_mib"), self._peak, strict=True))


def _process_tree(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(folder.name))
    pids = [pid]
    for child in pids:
        pids.extend(children.get(child, []))
    return pids


def _proportional_memory(pid: int) -> float:
    """Proportional set size of a process in MiB: shared pages are divided among the processes that share them."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(text.split("\nPss:")[1].split()[0]) / 1024
