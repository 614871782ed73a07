"""Seconds until the command line shows its help, and until the quickstart's first training step is done.

    uv run python benchmarks/bench_start.py      # prints a table, writes benchmarks/results/start.json

Each is measured in several new processes; the median counts. Goals: `--help` under 0.4 s, the first step under
15 s after the command.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "start.json"
#: Goals in seconds.
TARGETS = {"--help": 0.4, "first training step of the quickstart": 15.0}


def time_help() -> float:
    """Seconds until `--help` is shown and the process has ended."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dist_lstm", "--help"], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - begin


def time_first_step() -> float:
    """Seconds until the quickstart, started from the raw table, reports its first step with its validation."""
    settings = ("train.steps_per_epoch=1", "train.max_steps=1", "train.refit=false")
    flags = [part for setting in settings for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "dist_lstm",
            "train",
            "configs/quickstart.yaml",
            "--out",
            f"{scratch}/run",
        ]
        begin = time.perf_counter()
        with subprocess.Popen([*command, *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            seconds = next(time.perf_counter() - begin for line in process.stdout if line.startswith("  step 1 "))
            process.stdout.read()
    return seconds


def main() -> None:
    """Measure, print a table and write the results file."""
    console = Console()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="number of processes of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    arguments = parser.parse_args()
    seconds = {
        name: [round(measure(), 3) for _ in range(arguments.rounds)]
        for name, measure in zip(TARGETS, (time_help, time_first_step), strict=True)
    }
    table = Table("command", "seconds, median", "range", "goal")
    for name, values in seconds.items():
        verdict = "reached" if median(values) < TARGETS[name] else "MISSED"
        table.add_row(
            name, f"{median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}", f"{TARGETS[name]} {verdict}"
        )
    console.print(table)
    results = {"machine": describe_machine(), "targets": TARGETS, "seconds": seconds}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
