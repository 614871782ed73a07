"""Error metrics: the errors of rows, reduced to scores per series, reduced to totals over all series.

Axes: N series, R rows (one forecast step of one window).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Scores per series: name of a metric to its values, `[N]`.
Scores = Mapping[str, np.ndarray]
#: Metrics of a point forecast, in the order they are shown.
POINT_METRICS = ("mae", "rmse", "smape", "mase", "rmsse")


@dataclass(frozen=True)
class Rows:
    """Forecasts and the actual values.

    Attributes:
        series: Index of the series of each row, `[R]`, 0 to N - 1.
        y: Actual values, `[R]`; rows where they are NaN do not count.
        forecast: The median or point forecast, `[R]`; rows where it is NaN do not count.
        quantiles: Forecasts of further quantile levels, each `[R]`; the median is taken from `forecast`.

    Example:
        >>> rows = Rows(np.array([0, 0]), np.array([10.0, 12.0]), np.array([11.0, 9.0]), {})
        >>> scores = series_scores(rows, np.array([4.0]), np.array([16.0]))
        >>> scores["mae"].tolist(), scores["mase"].tolist()
        ([2.0], [0.5])
    """

    series: np.ndarray
    y: np.ndarray
    forecast: np.ndarray
    quantiles: Mapping[float, np.ndarray]


def coverage_levels(quantiles: Sequence[float]) -> dict[float, tuple[float, float]]:
    """The central prediction intervals that quantile levels span.

    Args:
        quantiles: Quantile levels, 0 to 1, in any order.

    Returns:
        By level in percent: the quantile levels of the lower and of the upper end.

    Example:
        >>> coverage_levels([0.1, 0.5, 0.9, 0.975])
        {80.0: (0.1, 0.9)}
    """
    tails = sorted(level for level in quantiles if level < 0.5)
    pairs = {round(100 * (1 - 2 * tail), 4): (tail, round(1 - tail, 6)) for tail in tails}
    return {level: pair for level, pair in sorted(pairs.items()) if pair[1] in quantiles}


def series_scores(rows: Rows, absolute_scale: np.ndarray, squared_scale: np.ndarray) -> dict[str, np.ndarray]:
    """Score every series.

    Source: MASE and RMSSE: Hyndman & Koehler, "Another look at measures of forecast accuracy", IJF 22 (2006);
    sMAPE as in the M4 competition, 200 |y - f| / (|y| + |f|) percent, 0 where both are 0.

    Args:
        rows: Forecasts and the actual values.
        absolute_scale: Mean absolute seasonal difference before the first cutoff, `[N]`, in target units.
        squared_scale: Mean squared seasonal difference before the first cutoff, `[N]`.

    Returns:
        By name, each `[N]`: `points` (the number of rows that count), `mae`, `rmse`, `smape` (percent), `mase`,
        `rmsse`, and with quantiles `wql` (weighted quantile loss) and `coverage-LEVEL` (share of values inside
        the interval). `loss_sum` and `y_sum` are the two sums whose ratio is `wql`. NaN where no row counts,
        or the scale is 0 or unknown; the scores of quantiles also where a quantile is NaN.
    """
    number = len(absolute_scale)
    counted = ~np.isnan(rows.y) & ~np.isnan(rows.forecast)
    series = rows.series[counted]
    y, forecast = rows.y[counted].astype(np.float64), rows.forecast[counted].astype(np.float64)
    points = np.bincount(series, minlength=number)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.bincount(series, weights=values, minlength=number)
        return np.divide(total, points, out=np.full(number, np.nan), where=points > 0)

    def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        return np.divide(top, bottom, out=np.full(number, np.nan), where=bottom > 0)

    error = np.abs(y - forecast)
    size = np.abs(y) + np.abs(forecast)
    mae, squared = mean(error), mean(error**2)
    smape = mean(np.divide(200 * error, size, out=np.zeros_like(error), where=size > 0))
    scores: dict[str, np.ndarray] = {
        "points": points,
        "mae": mae,
        "rmse": np.sqrt(squared),
        "smape": smape,
        "mase": ratio(mae, absolute_scale),
        "rmsse": np.sqrt(ratio(squared, squared_scale)),
    }
    if rows.quantiles:
        quantiles = {level: values[counted].astype(np.float64) for level, values in rows.quantiles.items()}
        losses = [pinball_loss(y, values, level) for level, values in (quantiles | {0.5: forecast}).items()]
        scores["loss_sum"] = np.bincount(series, weights=2 * np.mean(losses, axis=0), minlength=number)
        # A series without quantiles has no part in the ratio.
        total = np.bincount(series, weights=np.abs(y), minlength=number)
        scores["y_sum"] = np.where(np.isnan(scores["loss_sum"]), np.nan, total)
        scores["wql"] = ratio(scores["loss_sum"], scores["y_sum"])
        for level, (low, high) in coverage_levels(list(quantiles)).items():
            inside = (y >= quantiles[low]) & (y <= quantiles[high])
            valid = ~np.isnan(quantiles[low] + quantiles[high])
            scores[f"coverage-{level:g}"] = mean(np.where(valid, inside, np.nan))
    return scores


def pinball_loss(y: np.ndarray, forecast: np.ndarray, level: float) -> np.ndarray:
    """Pinball loss of one quantile level.

    Args:
        y: Actual values, `[R]`.
        forecast: Forecasts of the quantile, `[R]`, in the unit of `y`.
        level: Its level, 0 to 1.

    Returns:
        Losses, `[R]`, in the unit of `y`; NaN where a value or a forecast is.

    Example:
        >>> pinball_loss(np.array([10.0, 10.0]), np.array([8.0, 12.0]), 0.75).tolist()
        [1.5, 0.5]
    """
    error = y - forecast
    return np.maximum(level * error, (level - 1) * error)


def total_scores(scores: Scores) -> dict[str, float]:
    """Scores over all series.

    Args:
        scores: `series_scores` of one model, of all series.

    Returns:
        Means over the series whose score is not NaN; for `wql` the ratio of the sums, for coverage the
        share of all points. NaN where nothing counts; `wql` and coverage are left out where the model gives
        no quantiles.
    """
    totals = {name: _mean(scores[name]) for name in POINT_METRICS}
    # Beside a model with quantiles, one without has the metric, all NaN; a sum over no points is 0.
    if "loss_sum" not in scores or np.isnan(scores["loss_sum"]).all():
        return totals
    weight = float(np.nansum(scores["y_sum"]))
    totals["wql"] = float(np.nansum(scores["loss_sum"])) / weight if weight > 0 else float("nan")
    for name, shares in scores.items():
        if name.startswith("coverage-"):
            covered = float(np.nansum(shares * scores["points"]))
            points = float(scores["points"][~np.isnan(shares)].sum())
            totals[name] = covered / points if points else float("nan")
    return totals


def _mean(values: np.ndarray) -> float:
    """The mean of all values that are not NaN; NaN where there are none."""
    count = np.count_nonzero(~np.isnan(values))
    return float(np.nansum(values) / count) if count else float("nan")


@dataclass(frozen=True)
class Skill:
    """How much better a model is than the seasonal naive forecast.

    Attributes:
        skill: 1 - MASE / seasonal naive's MASE, means over the same series; NaN where there are none.
        series: Number of series that count.
        left_out: Number of series that do not, because their scale is 0 or unknown, nothing could be scored, or
            one of the two was scored on fewer points than the other.
    """

    skill: float
    series: int
    left_out: int


def skill(model: Scores, baseline: Scores) -> Skill:
    """Compare a model with the seasonal naive forecast.

    Args:
        model: `series_scores` of the model.
        baseline: `series_scores` of the seasonal naive forecast, of the same series in the same order.

    Returns:
        The skill, and how many series it is based on.

    Example:
        >>> points = np.array([8, 8, 8])
        >>> model = {"mase": np.array([0.5, 1.0, np.nan]), "points": points}
        >>> naive = {"mase": np.array([1.0, 1.0, 1.0]), "points": points}
        >>> skill(model, naive)
        Skill(skill=0.25, series=2, left_out=1)
    """
    valid = _comparable(model, baseline)
    reference = _mean(baseline["mase"][valid])
    value = 1 - _mean(model["mase"][valid]) / reference if reference > 0 else float("nan")
    return Skill(value, int(valid.sum()), int((~valid).sum()))


def _comparable(one: Scores, other: Scores) -> np.ndarray:
    """Whether a series has a scale and both models were scored on as many of its points, `[N]`."""
    return np.isfinite(one["mase"]) & np.isfinite(other["mase"]) & (one["points"] == other["points"])


def owa(model: Scores, naive2: Scores) -> float:
    """Overall weighted average of the M4 competition: errors relative to those of Naive2.

    Source: Makridakis et al., "The M4 Competition", IJF 36 (2020).

    Args:
        model: `series_scores` of the model.
        naive2: `series_scores` of Naive2, of the same series in the same order.

    Returns:
        The mean of the ratios of the two sMAPE and of the two MASE, means over the series in which both are
        comparable as in `skill`; NaN where there are none, or Naive2 has no error.

    Example:
        >>> points = np.array([8])
        >>> model = {"mase": np.array([0.5]), "smape": np.array([9.0]), "points": points}
        >>> naive2 = {"mase": np.array([1.0]), "smape": np.array([10.0]), "points": points}
        >>> owa(model, naive2)
        0.7
    """
    valid = _comparable(model, naive2)
    means = [(_mean(model[name][valid]), _mean(naive2[name][valid])) for name in ("smape", "mase")]
    return sum(top / bottom if bottom > 0 else float("nan") for top, bottom in means) / len(means)


def choose_weights(
    forecasts: np.ndarray, target: np.ndarray, scale: np.ndarray, weight: np.ndarray, rounds: int = 50
) -> list[float]:
    """Choose the weights of several forecasts greedily, by the mean absolute error of their mean.

    The forecast that improves the mean most is added again and again, with replacement, so that few that
    complement each other get most of the weight.

    Source: Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004.

    Args:
        forecasts: Median or point forecasts of each of the K on validation windows, `[K, B, H]`, in target units;
            not NaN where an actual value counts.
        target: Actual values, `[B, H]`; NaN is missing.
        scale: What each window's error is divided by, `[B]`, in target units; windows where it is not above 0 do
            not count.
        weight: Weight of each window, `[B]`.
        rounds: Forecasts to add.

    Returns:
        Weights, `[K]`, which sum to 1; equal ones where nothing counts.

    Example:
        >>> forecasts = np.array([[[1.0, 1.0]], [[3.0, 3.0]], [[9.0, 9.0]]])
        >>> choose_weights(forecasts, np.array([[2.0, 2.0]]), np.ones(1), np.ones(1), rounds=4)
        [0.5, 0.5, 0.0]
    """
    counted = ~np.isnan(target) & (scale > 0)[:, None]
    number = len(forecasts)
    if not counted.any():
        return [1 / number] * number
    divisor, share = (np.broadcast_to(one[:, None], target.shape)[counted] for one in (scale, weight))
    errors = (forecasts[:, counted] - target[counted]) / divisor
    counts, total = np.zeros(number, int), np.zeros(errors.shape[1])
    for step in range(1, rounds + 1):
        losses = np.abs((total + errors) / step) @ share
        best = int(np.argmin(losses))
        counts[best] += 1
        total = total + errors[best]
    return [float(count) for count in counts / rounds]


@dataclass(frozen=True)
class Leaderboard:
    """The scores of all models beside each other.

    Attributes:
        models: Names, the lowest MASE first.
        rows: By metric, its value for each model; None where it has none.
    """

    models: Sequence[str]
    rows: Mapping[str, Sequence[float | None]]


def leaderboard(summary: Mapping[str, Any]) -> Leaderboard:
    """Compare all models of a summary.

    Args:
        summary: A section of `metrics.json`: totals by metric per model, beside other values; None and NaN are
            unknown.

    Returns:
        The leaderboard; models without a MASE last.

    Example:
        >>> board = leaderboard({"A": {"mase": 1.0, "wql": 0.1}, "B": {"mase": 0.5}, "windows": 7})
        >>> board.models, board.rows
        (['B', 'A'], {'mase': [0.5, 1.0], 'wql': [None, 0.1]})
    """
    totals = {name: values for name, values in summary.items() if isinstance(values, Mapping)}

    def rank(name: str) -> float:
        mase = totals[name].get("mase")
        return float("inf") if mase is None or mase != mase else mase

    models = sorted(totals, key=rank)
    # Not every model has every metric; those with quantiles have the most.
    metrics = dict.fromkeys(metric for one in sorted(totals.values(), key=len, reverse=True) for metric in one)
    return Leaderboard(models, {metric: [totals[name].get(metric) for name in models] for metric in metrics})
