"""Accuracy and run time of the configs of this repository, from a table to scores.

    uv run python benchmarks/bench_configs.py --m3 DIR     # prints a table, writes results/configs.json

Runs `configs/quickstart.yaml` and, where a folder with `monthly_train.parquet` and `monthly_test.parquet` of
the M3 competition is given, `configs/m3_monthly.yaml`, each through the command line in a fresh directory.
The M3 forecasts are scored against the competition's own test months as well.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "configs.json"


def run_config(name: str, out: Path, settings: list[str]) -> dict[str, Any]:
    """Run a config: scores of its backtest, facts of its training, and seconds."""
    command = [sys.executable, "-m", "dist_lstm", "run", f"configs/{name}.yaml", "--out", str(out)]
    for setting in settings:
        command += ["--set", setting]
    begin = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    seconds = time.perf_counter() - begin
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
    speed = {name: environment[name] for name in ("windows_per_second", "input_wait_share", "cudnn")}
    return {"seconds": round(seconds, 1)} | metrics | {"speed": speed}


def score_forecasts(out: Path, actuals: Path) -> dict[str, Any]:
    """Score a run's forecasts against the actual values."""
    from dist_lstm.config.resolved import load_resolved
    from dist_lstm.data.shards import open_shards
    from dist_lstm.evaluate.actuals import evaluate_forecasts

    config, shards = load_resolved(out / "config.yaml"), open_shards(out / "shards")
    return evaluate_forecasts(shards, config, shards.make_task(config), str(actuals), out / "forecasts")


def main() -> None:
    """Run both configs, print a table and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m3", type=Path, help="folder with monthly_train.parquet and monthly_test.parquet")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": describe_machine()}
    with tempfile.TemporaryDirectory() as scratch:
        results["quickstart"] = run_config("quickstart", Path(scratch) / "quickstart", [])
        if arguments.m3:
            out, folder = Path(scratch) / "m3_monthly", arguments.m3.absolute()
            results["m3_monthly"] = run_config(
                "m3_monthly", out, [f"data.path={folder / 'monthly_train.parquet'}"]
            )
            results["m3_monthly"]["test"] = score_forecasts(out, folder / "monthly_test.parquet")
    table = Table("config", "scored on", "MASE", "sMAPE", "naive's MASE", "skill", "seconds", title="configs")
    for name, scores in results.items():
        for kind in ("backtest", "test"):
            if kind in scores:
                model, naive = scores[kind]["LSTM"], scores[kind]["SeasonalNaive"]
                numbers = (f"{model['mase']:.3f}", f"{model['smape']:.2f}", f"{naive['mase']:.3f}")
                table.add_row(name, kind, *numbers, f"{scores[kind]['skill']:+.1%}", f"{scores['seconds']:.0f}")
    console = Console()
    console.print(table)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
