"""Backtest: forecasts of the model and of baselines at rolling cutoffs in the test range.

Axes: B windows, H horizon, N series, R rows (one forecast step of one window).
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dist_lstm.config.schema import SEASONAL_NAIVE, Baseline
from dist_lstm.config.task import Task
from dist_lstm.data.calendar import stamps
from dist_lstm.data.panel import Panel, seasonal_error, typed_names
from dist_lstm.data.shards import Shards
from dist_lstm.data.windows import Cutoffs, Rolling, backtest_cutoffs, split_ranges
from dist_lstm.forecast.baselines import forecast_windows
from dist_lstm.forecast.combination import combine
from dist_lstm.forecast.table import (
    COMBINED,
    MODEL,
    PartWriter,
    forecast_columns,
    quantile_values,
    value_columns,
)
from dist_lstm.metrics import Rows, owa, series_scores, skill, total_scores
from dist_lstm.storage import mark, publish

if TYPE_CHECKING:  # a type annotation must not import TensorFlow
    from dist_lstm.forecast.predict import Predictor


@dataclass(frozen=True)
class ComparedMethods:
    """The methods that forecast beside the model.

    Attributes:
        baselines: Names of the baselines; the seasonal naive forecast must be among them, and those of `weights`.
        weights: Weights of the model and of baselines in the combined forecast; None for no such forecast.
    """

    baselines: Sequence[Baseline] = (SEASONAL_NAIVE,)
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """What they forecast.

    Attributes:
        baselines: Forecasts by baseline, each `[B, H]`, in target units.
        combined: The model's forecasts combined with those of baselines, `[B, H, P]`, in target units; None where
            they are not combined.
    """

    baselines: Mapping[Baseline, np.ndarray]
    combined: np.ndarray | None = None


@dataclass(frozen=True)
class Backtest:
    """Scores of a backtest.

    Attributes:
        scores: One row per series and model: `unique_id`, `model` and the columns of `series_scores`.
        windows: Windows forecast.
        series: Series scored.
        too_short: Series too short for any cutoff.
        ended: Series that end before the test range.
        seconds: Seconds in which each model forecast.
    """

    scores: pd.DataFrame
    windows: int
    series: int
    too_short: int
    ended: int
    seconds: Mapping[str, float]

    @property
    def counts(self) -> dict[str, int]:
        """Its counts in `metrics.json`."""
        left_out = {"series_too_short": self.too_short, "series_ended": self.ended}
        return {"windows": self.windows, "series": self.series, **left_out}

    @property
    def summary(self) -> str:
        """Its counts in a few words."""
        reasons = {"too short to be scored": self.too_short, "ended before the test range": self.ended}
        left = "".join(f"; {count:,} series {why}, but forecast" for why, count in reasons.items() if count)
        return f"{self.windows:,} windows of {self.series:,} series{left}"


def backtest(
    shards: Shards,
    task: Task,
    rolling: Rolling,
    predict: "Predictor",
    folder: Path,
    methods: ComparedMethods | None = None,
) -> Backtest:
    """Forecast the test range and score it.

    Args:
        shards: The series.
        task: The task.
        rolling: Number of cutoffs per series and their stride.
        predict: The model; not trained on anything after the first cutoff.
        folder: Where `part-*.parquet` are written, one per shard that has windows: `unique_id, ds, cutoff,
            y`, the model's columns, and one per baseline.
        methods: What is scored beside the model; None for the seasonal naive forecast.

    Returns:
        The scores.
    """
    methods, tables = methods or ComparedMethods(), list[pd.DataFrame]()
    seconds: defaultdict[str, float] = defaultdict(float)
    windows = series = total = ended = 0
    with publish(folder) as temporary:
        temporary.mkdir()
        for name, panels in shards.panels_by_file():
            with PartWriter(temporary / name) as part:
                for panel in panels:
                    cutoffs = backtest_cutoffs(panel, task, rolling)
                    total += len(panel.unique_id)
                    series += int((cutoffs.count > 0).sum())
                    windows += cutoffs.total
                    ended += int((panel.lag >= max(task.test, 1)).sum())
                    if cutoffs.total:
                        begin = time.perf_counter()
                        values, target = predict(panel, cutoffs)
                        seconds[MODEL] += time.perf_counter() - begin
                        others = forecast_windows(panel, task, *cutoffs.enumerate(), methods.baselines)
                        for one, value in others.seconds.items():
                            seconds[one] += value
                        weights = methods.weights
                        combined = combine(values, others.values, weights, task) if weights else None
                        beside = Comparison(others.values, combined)
                        part.write(backtest_columns(panel, task, cutoffs, values, target, beside))
                        tables += score_windows(panel, task, cutoffs, values, target, beside)
        mark(temporary)
    scores = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return Backtest(scores, windows, series, total - series - ended, ended, seconds)


def naive_forecast(panel: Panel, task: Task, cutoffs: Cutoffs) -> np.ndarray:
    """The seasonal naive forecast of a panel.

    Args:
        panel: The series.
        task: Horizon and season.
        cutoffs: Cutoffs of the forecasts.

    Returns:
        Forecasts, `[B, H]`, in target units; NaN where no value was observed in the last four seasons.
    """
    return forecast_windows(panel, task, *cutoffs.enumerate(), [SEASONAL_NAIVE]).values[SEASONAL_NAIVE]


def backtest_columns(
    panel: Panel, task: Task, cutoffs: Cutoffs, values: np.ndarray, target: np.ndarray, beside: Comparison
) -> dict[str, pa.Array]:
    """Forecasts beside actual values and other forecasts, one row per window and step.

    Args:
        panel: The series.
        task: The task.
        cutoffs: Cutoffs of the forecasts.
        values: The model's forecasts, `[B, H, P]`, in target units.
        target: Actual values, `[B, H]`; NaN is missing.
        beside: The other forecasts.

    Returns:
        Columns, each `[B * H]`.
    """
    columns = forecast_columns(panel, task, cutoffs, values, beside.combined)
    series, cutoff = cutoffs.enumerate()
    last = task.freq.advance(panel.start[series], cutoff - 1)
    extra = {
        "cutoff": stamps(np.repeat(last, task.horizon), task),
        "y": pa.array(target.ravel(), from_pandas=True),
    }
    first = {name: columns.pop(name) for name in ("unique_id", "ds")}
    others = {name: pa.array(one.ravel(), from_pandas=True) for name, one in beside.baselines.items()}
    return first | extra | columns | others


def score_windows(
    panel: Panel, task: Task, cutoffs: Cutoffs, values: np.ndarray, target: np.ndarray, beside: Comparison
) -> list[pd.DataFrame]:
    """Score each series that has windows.

    Args:
        panel: The series.
        task: The task.
        cutoffs: Cutoffs of the forecasts.
        values: The model's forecasts, `[B, H, P]`, in target units.
        target: Actual values, `[B, H]`; NaN is missing.
        beside: The other forecasts.

    Returns:
        A table of the model and one per other forecast, with one row per series: `unique_id`, `model` and the
        columns of `series_scores`.
    """
    series = np.repeat(cutoffs.enumerate()[0], task.horizon)
    scale_end = split_ranges(panel, task).validation_end
    scales = [seasonal_error(panel, scale_end, task.season_length, power) for power in (1, 2)]
    models = {MODEL: _rows(series, target, values, task)}
    if beside.combined is not None:
        models[COMBINED] = _rows(series, target, beside.combined, task)
    models |= {name: Rows(series, target.ravel(), one.ravel(), {}) for name, one in beside.baselines.items()}
    scored = cutoffs.count > 0
    names = typed_names(panel.unique_id[scored], task.id_type).to_numpy(zero_copy_only=False)
    tables = []
    for model, rows in models.items():
        table = pd.DataFrame(series_scores(rows, *scales))[scored]
        table.insert(0, "unique_id", names)
        table.insert(1, "model", model)
        tables.append(table)
    return tables


def _rows(series: np.ndarray, target: np.ndarray, values: np.ndarray, task: Task) -> Rows:
    """Forecasts with quantiles, `[B, H, P]`, and the series of each step, `[B * H]`, as rows to score."""
    columns = [*quantile_values(values, task).values()]
    levels = dict(zip(value_columns(task).values(), columns, strict=True))
    return Rows(series, target.ravel(), levels.pop(0.5), levels)


def summarise(scores: pd.DataFrame, seconds: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Scores over all series, for `metrics.json`.

    Args:
        scores: One row per series and model.
        seconds: Seconds in which each model forecast; None where they are not known.

    Returns:
        Totals per model, with `owa` where Naive2 is among them, and `seconds` where they are given; `skill`, and
        the number of series that it counts and leaves out.
    """
    if scores.empty:
        return {}
    by_model = {
        str(name): {column: values.to_numpy() for column, values in table.items()}
        for name, table in scores.groupby("model", sort=False)
    }
    summary: dict[str, Any] = {name: total_scores(by_series) for name, by_series in by_model.items()}
    for name, totals in summary.items():
        if "Naive2" in by_model:
            totals["owa"] = owa(by_model[name], by_model["Naive2"])
        if seconds is not None and name in seconds:
            totals["seconds"] = round(seconds[name], 4)
    result = skill(by_model[MODEL], by_model[SEASONAL_NAIVE])
    return summary | {"skill": result.skill, "skill_series": result.series, "skill_left_out": result.left_out}
