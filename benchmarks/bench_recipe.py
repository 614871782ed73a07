"""What each ingredient of the recipe is worth, by scores inside the training range of public tables.

    uv run python -m benchmarks.bench_recipe --data DIR --hours 2     # results/recipe.json

Each table without the range on which accuracy is reported, as in `bench_accuracy`, is run with the defaults
and with one change at a time, and scored on rolling cutoffs at its end. So nothing here has seen a test value, and
what is chosen by it is not tuned on any. Runs that are done are stored in `results/runs/LABEL.jsonl` and not
repeated; the main changes come first.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.cells import RUNS, Cells
from benchmarks.accuracy.runs import Job
from benchmarks.accuracy.tables import TABLES, PublicTable
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "recipe.json"
#: Tables of all frequencies, lengths and numbers of series.
NAMES = (
    "m3_quarterly", "m3_monthly", "m4_hourly", "us_employment", "pedestrian", "m3_yearly", "pbs", "nyc_taxi",
    "etth1", "m4_weekly", "nn3_monthly", "m3_other", "kaggle_web_traffic", "favorita", "aus_retail", "pjm_load",
    "beijing_pm25", "gefcom_load",
)  # fmt: skip

#: Settings of a change: the same for all tables, or depending on the table.
Change = Mapping[str, Any] | Callable[[PublicTable], Mapping[str, Any]]


def _base(prefix: str = "") -> Change:
    """Forecast the difference to the last season, or to the last value where there is no season."""
    return lambda table: {"data.transform": f"{prefix}{'seasonal_' * (table.season_length > 1)}difference"}


def _context(horizons: int) -> Change:
    """A context of some horizons, in whole seasons unless these are long."""

    def change(table: PublicTable) -> Mapping[str, Any]:
        unit = table.season_length if table.season_length <= 60 else 1
        return {"task.context_length": max(-(-horizons * table.horizon // unit), 2) * unit}

    return change


#: By name, the most important first.
CHANGES: Mapping[str, Change] = {
    "defaults": {},
    "steps 300": {"train.max_steps": 300},
    "steps 3,000": {"train.max_steps": 3000},
    "MAE head": {"model.head": "mae"},
    "no linear part": {"model.linear": False},
    "transform none": {"data.transform": "none"},
    "transform log": {"data.transform": "log1p"},
    "base: last season": _base(),
    "log, base: last season": _base("log1p_"),
    "no statistics": {"model.statistics": False},
    "errors in units of scale": {"model.loss_unit": "scale"},
    "gaps not filled": {"model.fill_missing": False},
    "scaling mean_abs": {"model.scaling": "mean_abs"},
    "scaling standard": {"model.scaling": "standard"},
    "no dropout": {"model.dropout": 0.0},
    "dropout 0.3": {"model.dropout": 0.3},
    "segment decoder": {"model.decoder": "segment"},
    "plain steps": {"model.segment_length": 1},
    "64 units": {"model.units": [64]},
    "256 units": {"model.units": [256]},
    "two layers": {"model.units": [128, 128]},
    "context 1 horizon": _context(1),
    "context 2 horizons": _context(2),
    "context 4 horizons": _context(4),
    "learning rate 3e-3": {"train.learning_rate": 3e-3},
    "learning rate 3e-4": {"train.learning_rate": 3e-4},
    "EMA 0.99": {"train.ema": 0.99},
    "recent cutoffs": {"train.window_sampling": "recent"},
    "calendar": {"model.calendar": True},
    "series embedding 8": {"model.series_embedding": 8},
    "5 members": {"model.members": 5},
}


def settings_of(change: Change, name: str) -> Mapping[str, Any]:
    """The settings of a change on a table."""
    return change(TABLES[name]) if callable(change) else change


def compare(cells: Cells, seeds: int) -> dict[str, Any]:
    """MASE of each change divided by that of the defaults.

    Args:
        cells: Stored results.
        seeds: Seeds that are averaged.

    Returns:
        By change: `geometric_mean` of the ratios, `tables` with the ratio on each, and on how many it is `better`.
    """
    result: dict[str, Any] = {}
    defaults = {name: _mase(cells, {}, name, seeds) for name in NAMES}
    for change, settings in CHANGES.items():
        scores = {name: _mase(cells, settings_of(settings, name), name, seeds) for name in NAMES}
        ratios = {
            name: round(score / default, 4)
            for name, score in scores.items()
            if score is not None and (default := defaults[name]) is not None
        }
        if ratios:
            mean = float(np.exp(np.mean(np.log([*ratios.values()]))))
            better = sum(ratio < 1 for ratio in ratios.values())
            result[change] = {"geometric_mean": round(mean, 4), "better": better, "tables": ratios}
    scores = {name: round(score, 4) for name, score in defaults.items() if score is not None}
    return {"default_mase": scores, "changes": result}


def _mase(cells: Cells, settings: Mapping[str, Any], name: str, seeds: int) -> float | None:
    """Mean MASE over seeds; None where a run is missing or failed."""
    done = [cells.get(Job(name, settings, seed, inside=True)) for seed in range(1, seeds + 1)]
    values = [one["scores"]["LSTM"]["mase"] for one in done if one is not None]
    return float(np.mean(values)) if len(values) == seeds else None


def make_table(results: Mapping[str, Any]) -> Table:
    """Format the comparison as a table."""
    table = Table(
        "change", "MASE / default's", "better on", "range", title="ingredients, inside the training range"
    )
    for change, one in results["changes"].items():
        ratios = [*one["tables"].values()]
        row = (f"{one['geometric_mean']:.3f}", f"{one['better']} of {len(ratios)}")
        table.add_row(change, *row, f"{min(ratios):.2f} to {max(ratios):.2f}")
    return table


def main() -> None:
    """Work off the list, print a table and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public tables")
    parser.add_argument("--label", default="recipe", help="the state of the defaults")
    parser.add_argument("--seeds", type=int, default=1, help="runs per change and table")
    parser.add_argument("--hours", type=float, default=2.0, help="hours after which no run is started")
    parser.add_argument("--at-once", type=int, default=1, help="runs at the same time, each with one thread")
    arguments = parser.parse_args()
    console, cells = Console(), Cells(RUNS / f"{arguments.label}.jsonl", arguments.data.absolute())
    jobs = [
        Job(name, settings_of(change, name), seed, inside=True)
        for change in CHANGES.values()
        for seed in range(1, arguments.seeds + 1)
        for name in NAMES
    ]
    cells.run_all(jobs, arguments.hours, arguments.at_once, console)
    results = {"machine": describe_machine(), "seeds": arguments.seeds, **compare(cells, arguments.seeds)}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(make_table(results))
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
