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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.tables import COMPETITIONS, ROLLING, PublicTable
from benchmarks.machine import describe_machine
from dist_lstm.config.yaml import dump_yaml

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "data.json"


#: Tables to train on, by their paths.
JOBS = {str(table.train_file(Path()).with_suffix("")): table for table in (COMPETITIONS | ROLLING).values()}


def run_job(name: str, table: PublicTable, data: Path, out: Path) -> dict[str, Any]:
    """Run one table through the command line: its scores, or the error message."""
    folder = out / name.replace("/", "-")
    config = folder.with_suffix(".yaml")
    values = {
        "task": table.task,
        "data": {"path": str(table.train_file(data))},
        "train": {"budget": 60, "refit": False},
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
    for name, table in JOBS.items():
        result = results["tables"][name] = run_job(
            name, table, arguments.data.absolute(), arguments.out.absolute()
        )
        skill = result.get("backtest", {}).get("skill")
        console.print(name, result.get("failed") or (f"{skill:+.1%}" if skill is not None else "no skill"))
        # After every table, so that an interruption loses no result.
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(make_table(results["tables"]))
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
