"""Scores of forecasts against actual values, for `dist-lstm evaluate`.

Axes: N series, R rows (one forecast step).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dist_lstm.config.load import override
from dist_lstm.config.schema import Baseline, Config
from dist_lstm.config.task import Task
from dist_lstm.data.calendar import stamps
from dist_lstm.data.panel import seasonal_error
from dist_lstm.data.shards import Shards
from dist_lstm.data.source import read, source_files
from dist_lstm.data.windows import forecast_cutoffs
from dist_lstm.errors import UserError
from dist_lstm.evaluate.backtest import summarise
from dist_lstm.forecast.baselines import forecast_windows
from dist_lstm.forecast.table import COMBINED, MODEL, value_columns
from dist_lstm.layout import part_files
from dist_lstm.metrics import Rows, series_scores
from dist_lstm.storage import is_marked

_KEY = ["unique_id", "ds"]


def evaluate_forecasts(shards: Shards, config: Config, task: Task, data: str, folder: Path) -> dict[str, Any]:
    """Score forecasts against actual values.

    The scale of MASE and RMSSE and the baselines come from the run's own series, up to their ends.

    Args:
        shards: The run's series.
        config: The run's config: names of baselines, and of the columns of the actuals.
        task: The run's task.
        data: Path or URI of the table of actuals; only its rows at forecast steps are used.
        folder: Forecasts, `part-*.parquet`.

    Returns:
        Totals per model and the skill, as in `summarise`; `points` scored, `series` with at least one of them,
        and `points_without_actual`.

    Raises:
        UserError: If there are no forecasts, or none of their steps has an actual value.
    """
    parts = part_files(folder)
    if not parts or not is_marked(folder):
        raise UserError(folder, "holds no finished forecasts", "run dist-lstm forecast first")
    forecasts = pd.concat([_with_text_names(pq.read_table(part)).to_pandas() for part in parts], ignore_index=True)
    # Static covariates are not needed to score.
    changes = {"data.path": data, "data.static_categories": [], "data.static_numbers": []}
    actuals = _actuals(override(config, changes), forecasts)
    joined = forecasts.merge(actuals, on=_KEY, how="left", validate="one_to_one")
    has_actual = joined["y"].notna()
    if not has_actual.any():
        raise UserError(
            "--data",
            (
                f"{data} has no value at any of the forecast steps, {forecasts['ds'].min()} to "
                f"{forecasts['ds'].max()} of {forecasts['unique_id'].nunique()} series"
            ),
        )
    baselines = config.backtest.baselines
    context = _context(shards, task, set(forecasts["unique_id"]), baselines)
    joined = joined.merge(pd.concat([one for one, _ in context]), on=_KEY, how="left")
    scales = pd.concat([scale for _, scale in context]).reindex(joined["unique_id"].unique())
    series = pd.Categorical(joined["unique_id"], categories=scales.index).codes
    quantiles: dict[str, dict[float, np.ndarray]] = {}
    for model in (MODEL, COMBINED):
        if model in joined:
            columns = value_columns(task, model).items()
            quantiles[model] = {level: joined[name].to_numpy() for name, level in columns if level != 0.5}
    quantiles |= {name: {} for name in baselines}
    tables = []
    for name, others in quantiles.items():
        rows = Rows(series, joined["y"].to_numpy(), joined[name].to_numpy(), others)
        by_series = series_scores(rows, scales["absolute"].to_numpy(), scales["squared"].to_numpy())
        tables.append(pd.DataFrame(by_series).assign(unique_id=scales.index, model=name))
    return summarise(pd.concat(tables)) | {
        "points": int(has_actual.sum()),
        "series": int(joined.loc[has_actual, "unique_id"].nunique()),
        "points_without_actual": int((~has_actual).sum()),
    }


def _actuals(config: Config, forecasts: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table at or after the first forecast step; duplicates are merged by `data.duplicates`."""
    first, pieces = forecasts["ds"].min(), []
    for piece in read(config.data, source_files(config.data.path)):
        if piece["ds"].type != pa.Schema.from_pandas(forecasts[["ds"]]).field("ds").type:
            raise UserError(
                "--data", f"column ds holds {piece['ds'].type}, the forecasts hold {forecasts['ds'].dtype}"
            )
        later = piece.filter(pc.greater_equal(piece["ds"], pa.scalar(first, piece["ds"].type)))
        pieces.append(_with_text_names(later).to_pandas())
    actuals = pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=[*_KEY, "y"])
    repeated = actuals.duplicated(_KEY)
    if not repeated.any():
        return actuals
    match config.data.duplicates:
        case "error":
            row = actuals[repeated].iloc[0]
            raise UserError(
                "--data",
                f"two rows for unique_id {row['unique_id']!r} at {row['ds']}",
                "drop one; a run whose data.duplicates is first, last, mean or sum merges them",
            )
        case "first" | "last" as kept:
            return actuals.drop_duplicates(_KEY, keep=kept)
        case "mean":
            return actuals.groupby(_KEY, as_index=False)["y"].mean()
        case "sum":
            return actuals.groupby(_KEY, as_index=False)["y"].sum(min_count=1)


def _with_text_names(table: pa.Table) -> pa.Table:
    """The table with `unique_id` as text: actual values may come in another type than the forecasts."""
    column = table.column_names.index("unique_id")
    return table.set_column(column, "unique_id", table["unique_id"].cast(pa.string()))


def _context(
    shards: Shards, task: Task, names: set[str], baselines: Sequence[Baseline]
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Baselines' forecasts and scales of the run's series, one pair per panel."""

    def per_panel() -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        for full in shards.panels():
            panel = full.take(np.isin(full.unique_id, list(names)))
            cutoffs = forecast_cutoffs(panel.length)
            series, cutoff = cutoffs.enumerate()
            steps = (cutoff[:, None] + np.arange(task.horizon)).ravel()
            rows = np.repeat(series, task.horizon)
            forecasts = forecast_windows(panel, task, series, cutoff, baselines).values
            key = {
                "unique_id": panel.unique_id[rows],
                "ds": stamps(task.freq.advance(panel.start[rows], steps), task).to_pandas(),
            }
            absolute, squared = (
                seasonal_error(panel, panel.length, task.season_length, power) for power in (1, 2)
            )
            table = pd.DataFrame(key | {name: one.ravel() for name, one in forecasts.items()})
            yield table, pd.DataFrame({"absolute": absolute, "squared": squared}, index=panel.unique_id)

    return list(per_panel())
