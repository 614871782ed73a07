"""Accuracy on public tables, scored on values that took no part in any choice.

    uv run python -m benchmarks.bench_accuracy rolling m3 m4 --data DIR    # results/accuracy.json

Every run goes through `dist-lstm run` with the horizon and season of its table; all else are defaults, but for
`--set`. A run that is done is stored in `results/runs/LABEL.jsonl` and not repeated; `--hours` ends the benchmark
early, and the same command goes on later. The results file keeps one section per label, such as `before`.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.cells import RUNS, Cells
from benchmarks.accuracy.runs import Job
from benchmarks.accuracy.tables import COMPETITIONS, ETT, ROLLING, TABLES
from benchmarks.machine import describe_machine
from dist_lstm.config.yaml import parse_yaml

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
#: Names that stand for several tables.
GROUPS: Mapping[str, Iterable[str]] = {
    "rolling": ROLLING,
    "etth": ETT,
    **{
        group: [name for name in COMPETITIONS if name.startswith(f"{group}_")]
        for group in ("m1", "m3", "m4", "nn3")
    },
}
#: Metrics of the results file.
METRICS = ("mase", "smape", "owa", "rmsse", "wql", "coverage-80", "coverage-95", "mse", "mae")


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of one table, and the standard error of the model's.

    Args:
        results: Stored results, one per seed.

    Returns:
        By model, each by metric; for the model of several seeds `NAME-se` beside each; `seconds`, `steps`, `seeds`
        and `commit`.
    """
    models = dict.fromkeys(name for one in results for name in one["scores"])
    scores: dict[str, dict[str, float]] = {}
    for model in models:
        for metric in METRICS:
            values = [one["scores"][model][metric] for one in results if metric in one["scores"].get(model, {})]
            values = [value for value in values if value is not None and np.isfinite(value)]
            if not values:
                continue
            scores.setdefault(model, {})[metric] = round(float(np.mean(values)), 5)
            if model == "LSTM" and len(values) > 1:
                error = np.std(values, ddof=1) / np.sqrt(len(values))
                scores[model][f"{metric}-se"] = round(float(error), 5)
    return {
        "scores": scores,
        "seconds": round(float(np.mean([one["seconds"] for one in results])), 1),
        "steps": [one["training"]["steps"] for one in results],
        "seeds": len(results),
        "commit": sorted({one["commit"] for one in results}),
    }


def geometric_mean_ratio(tables: Mapping[str, Any]) -> float:
    """Geometric mean over rolling tables of MASE divided by the seasonal naive forecast's."""
    ratios = [
        one["scores"]["LSTM"]["mase"] / one["scores"]["SeasonalNaive"]["mase"]
        for name, one in tables.items()
        if name in ROLLING
    ]
    return round(float(np.exp(np.mean(np.log(ratios)))), 4) if ratios else float("nan")


def make_table(section: Mapping[str, Any], label: str) -> Table:
    """Format one section of the results file as a table."""
    columns = ("table", "seeds", "model", "MASE", "sMAPE", "OWA", "MSE", "WQL", "in 80 %", "seconds")
    result = Table(*columns, title=f"accuracy, {label}")
    for name, one in section["tables"].items():
        for model, scores in one["scores"].items():
            keys = ("mase", "smape", "owa", "mse", "wql", "coverage-80")
            numbers = [f"{scores[key]:.3f}" if key in scores else "" for key in keys]
            own = model == "LSTM"
            result.add_row(
                name if own else "",
                str(one["seeds"]) if own else "",
                model,
                *numbers,
                f"{one['seconds']:.0f}" if own else "",
            )
    return result


def main() -> None:
    """Run the tables that are asked for, print a table and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(GROUPS)}, or one table")
    parser.add_argument("--data", type=Path, required=True, help="folder of the public tables")
    parser.add_argument("--label", default="after", help="section of the results file")
    parser.add_argument("--seeds", type=int, default=3, help="runs per table")
    parser.add_argument("--hours", type=float, default=24.0, help="hours after which no run is started")
    parser.add_argument("--at-once", type=int, default=1, help="runs at the same time, each with one thread")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    arguments = parser.parse_args()
    names = [table for name in arguments.names for table in GROUPS.get(name, [name])]
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        parser.error(f"{unknown[0]} is not a table; there are {', '.join([*GROUPS, *TABLES])}")
    settings = {key: parse_yaml(value, "--set") for key, _, value in (one.partition("=") for one in arguments.set)}
    console, cells = Console(), Cells(RUNS / f"{arguments.label}.jsonl", arguments.data.absolute())
    jobs = [Job(name, settings, seed) for seed in range(1, arguments.seeds + 1) for name in names]
    cells.run_all(jobs, arguments.hours, arguments.at_once, console)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    section = results.setdefault(arguments.label, {"tables": {}})
    section |= {"machine": describe_machine(), "settings": settings}
    for name in names:
        done = [cells.get(job) for job in jobs if job.table == name]
        done = [one for one in done if one is not None]
        if done:
            section["tables"][name] = summarise(done)
    section["geometric_mean_of_mase_to_seasonal_naive"] = geometric_mean_ratio(section["tables"])
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(make_table(section, arguments.label))
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
