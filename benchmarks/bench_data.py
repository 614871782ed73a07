"""Skill on every table of a folder of real series, after a minute of training with defaults.

    uv run python benchmarks/bench_data.py --data DIR --out RUNS     # prints a table, writes results/data.json

Runs `dist-lstm run` on each table with its horizon and season. All other settings are defaults, except for 60
seconds of training and no refit, which does not change the scores. Covariates are not used. Runs that are finished
in RUNS are not repeated; each has its `report.html` there.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from dist_lstm.config.yaml import dump_yaml

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "data.json"


@dataclass(frozen=True)
class Job:
    """Settings of a table that are not left to the defaults.

    Attributes:
        horizon: Steps to forecast.
        task: Season and frequency, where they can't be derived from the time stamps.
        data: Settings of the section `data`.
    """

    horizon: int
    task: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


#: Horizons and seasons as the README of the tables gives them.
JOBS = {
    "m4/hourly_train": Job(48, {"season_length": 24}),
    "m4/weekly_train": Job(13),
    "m3/monthly_train": Job(18, {"season_length": 12}),
    "m3/other_train": Job(8),
    "m3/quarterly_train": Job(8, {"season_length": 4}),
    "m3/yearly_train": Job(6),
    "m1/monthly_train": Job(18, {"season_length": 12}),
    "m1/quarterly_train": Job(8, {"season_length": 4}),
    "m1/yearly_train": Job(6),
    "nn3/monthly_train": Job(18, {"season_length": 12}),
    "favorita_1000/favorita_1000": Job(16, {"season_length": 7}),
    "kaggle_web_traffic_1000/kaggle_web_traffic_1000": Job(59),
    "ett/etth1": Job(24),
    "ett/etth2": Job(24),
    "exchange_rate/exchange_rate": Job(12),
    "los_loop/los_loop": Job(12),
    "gefcom2012/load": Job(168),
    "gefcom2012/temperature": Job(168),
    "carparts/carparts": Job(12),
    "vic_elec/vic_elec": Job(48),
    "pedestrian/pedestrian": Job(24),
    "us_employment/us_employment": Job(24),
    "aus_retail/aus_retail": Job(24),
    "pbs/pbs": Job(12),
    "bank_calls/bank_calls": Job(288, {"freq": "5min"}),
    "beijing_pm25/beijing_pm25": Job(24),
    "pjm_load/pjm_load": Job(24),
    "m5_small/m5_small": Job(28),
    "classics/airline_passengers": Job(12),
    "classics/sunspots_monthly": Job(132, {"season_length": 132}),
    "classics/melbourne_min_temp": Job(30),
    "classics/nyc_taxi": Job(48),
}


def run_job(name: str, job: Job, data: Path, out: Path) -> dict[str, Any]:
    """Run one table through the command line: its scores, or the error message."""
    folder = out / name.replace("/", "-")
    config = folder.with_suffix(".yaml")
    values = {
        "task": {"horizon": job.horizon} | job.task,
        "data": {"path": str(data / f"{name}.parquet")} | job.data,
        "train": {"max_seconds": 60, "refit": False},
    }
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(dump_yaml(values), encoding="utf-8")
    begin = time.perf_counter()
    command = [sys.executable, "-m", "dist_lstm", "run", str(config), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = round(time.perf_counter() - begin, 1)
    folder.with_suffix(".log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1], "seconds": seconds}
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    manifest = json.loads((folder / "shards" / "manifest.json").read_text(encoding="utf-8"))
    facts = {key: manifest[key] for key in ("series", "steps", "transforms")}
    return facts | {"training": metrics["training"], "backtest": metrics["backtest"], "seconds": seconds}


def make_table(tables: dict[str, dict[str, Any]]) -> Table:
    """Format the results as a table."""
    columns = ("table", "series", "steps", "MASE", "naive", "skill", "coverage 80", "training", "seconds")
    table = Table(*columns, title="a minute of training with defaults")
    for name, result in tables.items():
        if "failed" in result:
            table.add_row(name, result["failed"])
            continue
        model, naive = (result["backtest"][key] for key in ("LSTM", "SeasonalNaive"))
        numbers = ["-" if mase is None else f"{mase:.3f}" for mase in (model["mase"], naive["mase"])]
        skill, coverage = result["backtest"]["skill"], model.get("coverage-80")
        shares = ["-" if skill is None else f"{skill:+.1%}", "-" if coverage is None else f"{coverage:.0%}"]
        counts = (f"{result['training']['steps']:,}", f"{result['seconds']:.0f}")
        table.add_row(name, f"{result['series']:,}", f"{result['steps']:,}", *numbers, *shares, *counts)
    return table


def main() -> None:
    """Run every table, print a table of skills and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    arguments = parser.parse_args()
    console = Console()
    results: dict[str, Any] = {"machine": describe_machine(), "tables": {}}
    for name, job in JOBS.items():
        result = results["tables"][name] = run_job(name, job, arguments.data.absolute(), arguments.out.absolute())
        skill = result.get("backtest", {}).get("skill")
        console.print(name, result.get("failed") or (f"{skill:+.1%}" if skill is not None else "no skill"))
        # After every table, so that an interruption loses no result.
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(make_table(results["tables"]))
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
