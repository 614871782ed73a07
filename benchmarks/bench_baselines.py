"""Accuracy and speed of the baselines on public competitions, beside published figures.

    uv run python -m benchmarks.bench_baselines --data DIR     # prints a table, writes results/baselines.json

DIR is a folder of tables `m3/monthly_train.parquet`, `m3/monthly_test.parquet` and so on. Each table is forecast
once from the end of its training part, by the competitions' protocol, with whole histories; where a backtest would
see less, with that as well. Speed is by the processor time of the fastest of three rounds: series per second of
one core.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.tables import COMPETITIONS, PUBLISHED, PublicTable
from benchmarks.machine import describe_machine
from dist_lstm.config.schema import Baseline
from dist_lstm.forecast.baselines import forecast_contexts, most_steps
from dist_lstm.metrics import Rows, series_scores, total_scores

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "baselines.json"
ROUNDS = 3
NAMES: tuple[Baseline, ...] = get_args(Baseline)


def read_competition(data: Path, table: PublicTable) -> tuple[np.ndarray, np.ndarray]:
    """Histories with NaN before their start, `[N, T]`, and actual values, `[N, H]`, of a table."""
    train, test = (
        pd.read_parquet(path).groupby("unique_id", sort=False)["y"].apply(np.array)
        for path in (table.train_file(data), table.test_file(data))
    )
    steps = max(len(y) for y in train)
    history = np.full((len(train), steps), np.nan)
    for row, y in enumerate(train):
        history[row, steps - len(y) :] = y
    return history, np.stack([*test.loc[train.index]])


def measure(history: np.ndarray, actual: np.ndarray, season: int, steps: int) -> dict[str, Any]:
    """Scores and speed of every baseline that sees at most some steps; scales are those of whole histories."""
    number, horizon = actual.shape
    context = history[:, -steps:]
    with np.errstate(invalid="ignore"):
        change = np.abs(history[:, season:] - history[:, :-season])
    scale = np.nanmean(change, axis=1)
    results = {}
    for name in NAMES:
        seconds, values = float("inf"), actual
        for _ in range(ROUNDS):
            begin = time.process_time()
            values = forecast_contexts(context, horizon, season, [name]).values[name]
            seconds = min(seconds, time.process_time() - begin)
        rows = Rows(np.repeat(np.arange(number), horizon), actual.ravel(), values.ravel(), {})
        totals = total_scores(series_scores(rows, scale, scale))
        results[name] = {
            "smape": round(totals["smape"], 3),
            "mase": round(totals["mase"], 3),
            "series_per_second": round(number / seconds),
        }
    return {"series": number, "steps": min(steps, history.shape[1]), "baselines": results}


def measure_all(data: Path) -> dict[str, Any]:
    """Every table, and those that a backtest would cut once more, cut."""
    results = {}
    for table in COMPETITIONS.values():
        name, season = table.path, table.season_length
        history, actual = read_competition(data, table)
        longest, most = history.shape[1], most_steps(season)
        results[name] = measure(history, actual, season, longest)
        if longest > most:
            results[f"{name}, last {most}"] = measure(history, actual, season, most)
    return results


def make_table(results: dict[str, Any]) -> Table:
    """Format the results as a table."""
    columns = ("table", "baseline", "sMAPE", "published", "MASE", "published", "series/s")
    table = Table(*columns, title="baselines on public competitions")
    for name, result in results.items():
        for baseline, one in result["baselines"].items():
            published = PUBLISHED.get(name, {}).get(baseline, ())
            smape, mase = [*(f"{value:g}" for value in published), "", ""][:2]
            numbers = (f"{one['smape']:.3f}", smape, f"{one['mase']:.3f}", mase)
            table.add_row(name, baseline, *numbers, f"{one['series_per_second']:,}")
    return table


def main() -> None:
    """Measure, print a table and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    arguments = parser.parse_args()
    console = Console()
    results = measure_all(arguments.data)
    console.print(make_table(results))
    published = {name: {one: list(values) for one, values in rows.items()} for name, rows in PUBLISHED.items()}
    content = {"machine": describe_machine(), "tables": results, "published": published}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
