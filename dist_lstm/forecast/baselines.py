"""Baselines: simple forecasts that a model is compared with, for many series at once.

They see a series up to the cutoff, not only the model's context, but at most its last `most_steps`. Theta,
DampedTrend and Naive2 are forecasts of seasonally adjusted values (`dist_lstm.forecast.season`), to which the
season is then given back.

A missing value is skipped: the line of Theta and seasonal indices are those of the values that there are, and
smoothing goes on without an error; only moving averages and the test for a season take interpolated values. Where
the last values are missing, the forecast begins at the last observed one and its first steps are left out.

Axes: N series, B windows, T context, H horizon.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dist_lstm.config.schema import SEASONAL_NAIVE, Baseline
from dist_lstm.config.task import Task
from dist_lstm.data.panel import Panel
from dist_lstm.data.windows import WindowCutter
from dist_lstm.forecast.history import History, make_history
from dist_lstm.forecast.season import Season, estimate_season
from dist_lstm.forecast.smoothing import damped_grid, simple_grid, smooth

#: Seasons in which the seasonal naive forecast searches for a value that is not missing.
_LOOKBACK = 4
#: Steps that the baselines see where four seasons are fewer.
_MOST_STEPS = 200
#: Fewest observed values of a series that is smoothed; one with fewer repeats its last value.
_LEAST_OBSERVED = 5
#: Values of the histories that are in memory at once, which bounds a backtest of any size.
_BLOCK = 1 << 18


def seasonal_naive(context: np.ndarray, horizon: int, season_length: int) -> np.ndarray:
    """Forecast that repeats the last observed season.

    Source: Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", section 5.2.

    Args:
        context: Observed values, `[N, T]`, in target units. NaN is a missing value and is skipped for the
            value one season earlier.
        horizon: Steps to forecast.
        season_length: Steps in a season; 1 repeats the last value.

    Returns:
        Forecasts, `[N, H]`, in target units; NaN where a whole season is missing.

    Raises:
        ValueError: If `horizon` or `season_length` is below 1.

    Example:
        >>> seasonal_naive(np.array([[1.0, 2.0, np.nan, 4.0]]), horizon=3, season_length=2)
        array([[1., 4., 1.]])
    """
    if horizon < 1 or season_length < 1:
        raise ValueError(f"horizon {horizon} and season_length {season_length} must be at least 1")
    count, steps = context.shape
    seasons = -(-steps // season_length)
    padded = np.full((count, seasons * season_length), np.nan, context.dtype)
    padded[:, padded.shape[1] - steps :] = context
    last = np.full((count, season_length), np.nan, context.dtype)
    for season in np.split(padded, seasons, axis=1) if seasons else ():
        last = np.where(np.isnan(season), last, season)
    return np.take(last, np.arange(horizon) % season_length, axis=1)


@dataclass(frozen=True)
class _Contexts:
    """Series up to their cutoffs, and what several baselines compute from them.

    Attributes:
        y: Values, `[N, T]`, in target units; NaN is a missing value or a step before the start.
        horizon: Steps to forecast.
        season_length: Steps in a season.
    """

    y: np.ndarray
    horizon: int
    season_length: int

    @cached_property
    def history(self) -> History:
        return make_history(self.y)

    @cached_property
    def season(self) -> Season:
        return estimate_season(self.history, self.season_length)

    @cached_property
    def adjusted(self) -> History:
        return self.season.remove(self.history)

    @cached_property
    def ahead(self) -> np.ndarray:
        """Steps from the last observed value to each forecast, `[N, H]`."""
        return self.history.gap[:, None] + np.arange(1, self.horizon + 1)

    @property
    def future(self) -> np.ndarray:
        """The step of each forecast, counted from the first observed value, `[N, H]`."""
        return self.history.length[:, None] - 1 + self.ahead

    def with_season(self, forecast: np.ndarray) -> np.ndarray:
        """A forecast of adjusted values, `[N, H]`, in target units."""
        return self.season.restore(forecast, self.future)

    def smoothed(self, forecast: np.ndarray) -> np.ndarray:
        """A forecast of adjusted values with the season; the last value where too few are observed to smooth."""
        few = self.history.observed.sum(axis=1) < _LEAST_OBSERVED
        return self.with_season(np.where(few[:, None], self.adjusted.last[:, None], forecast))


def _seasonal_naive(contexts: _Contexts) -> np.ndarray:
    recent = contexts.y[:, -_LOOKBACK * contexts.season_length :]
    return seasonal_naive(recent, contexts.horizon, contexts.season_length)


def _naive(contexts: _Contexts) -> np.ndarray:
    return np.repeat(contexts.history.last[:, None], contexts.horizon, axis=1)


def _naive2(contexts: _Contexts) -> np.ndarray:
    return contexts.with_season(np.repeat(contexts.adjusted.last[:, None], contexts.horizon, axis=1))


def _drift(contexts: _Contexts) -> np.ndarray:
    history = contexts.history
    slope = (history.last - history.first) / np.maximum(history.length - 1, 1)
    return history.last[:, None] + slope[:, None] * contexts.ahead


def _theta(contexts: _Contexts) -> np.ndarray:
    """The mean of two forecasts of the adjusted values.

    They are the line through all values, and simple exponential smoothing of values twice as far from that line.

    Source: Assimakopoulos & Nikolopoulos, "The theta model", IJF 16 (2000).
    """
    adjusted = contexts.adjusted
    weight, step = adjusted.observed, np.arange(adjusted.y.shape[1])
    count = np.maximum(weight.sum(axis=1), 1)
    middle, mean = weight @ step / count, np.where(weight, adjusted.y, 0).sum(axis=1) / count
    distance = np.where(weight, step - middle[:, None], 0)
    spread = (distance**2).sum(axis=1)
    slope = np.divide((distance * adjusted.y).sum(axis=1), spread, out=np.zeros(len(spread)), where=spread > 0)

    def line(at: np.ndarray) -> np.ndarray:
        return mean[:, None] + slope[:, None] * (at - middle[:, None])

    doubled = smooth(replace(adjusted, y=2 * adjusted.y - line(step)), simple_grid(), contexts.horizon)
    return contexts.smoothed((line(contexts.future) + doubled) / 2)


def _damped_trend(contexts: _Contexts) -> np.ndarray:
    return contexts.smoothed(smooth(contexts.adjusted, damped_grid(), contexts.horizon))


_METHODS: Mapping[Baseline, Callable[[_Contexts], np.ndarray]] = {
    SEASONAL_NAIVE: _seasonal_naive,
    "Naive": _naive,
    "Drift": _drift,
    "Naive2": _naive2,
    "Theta": _theta,
    "DampedTrend": _damped_trend,
}


@dataclass(frozen=True)
class BaselineForecasts:
    """Forecasts of baselines.

    Attributes:
        values: By baseline, `[B, H]`, in target units; NaN where nothing was observed.
        seconds: By baseline, the seconds it took; the first to need the seasonal adjustment took them for all.
    """

    values: Mapping[Baseline, np.ndarray]
    seconds: Mapping[Baseline, float]


def forecast_contexts(
    context: np.ndarray, horizon: int, season_length: int, names: Sequence[Baseline]
) -> BaselineForecasts:
    """Forecast series from the ends of their contexts.

    Args:
        context: Values up to the cutoff, `[B, T]`, in target units; NaN is a missing value or a step before the
            start of a series.
        horizon: Steps to forecast.
        season_length: Steps in a season; 1 for none.
        names: Baselines.

    Returns:
        The forecasts.

    Example:
        >>> values = forecast_contexts(np.array([[1.0, np.nan, 3.0]]), 2, 1, ["Naive", "Drift"]).values
        >>> {name: one.tolist() for name, one in values.items()}
        {'Naive': [[3.0, 3.0]], 'Drift': [[4.0, 5.0]]}
    """
    contexts = _Contexts(context, horizon, season_length)
    values: dict[Baseline, np.ndarray] = {}
    seconds: dict[Baseline, float] = {}
    # A value whose square is beyond float64 gives NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        for name in names:
            begin = time.perf_counter()
            values[name] = _METHODS[name](contexts)
            seconds[name] = time.perf_counter() - begin
    return BaselineForecasts(values, seconds)


def most_steps(season_length: int) -> int:
    """Most steps before a cutoff that the baselines see: four seasons, or 200 where these are fewer."""
    return max(_LOOKBACK * season_length, _MOST_STEPS)


def forecast_windows(
    panel: Panel, task: Task, series: np.ndarray, cutoff: np.ndarray, names: Sequence[Baseline]
) -> BaselineForecasts:
    """Forecast series of a panel from any of their cutoffs.

    Args:
        panel: The series.
        task: Horizon and season.
        series: Series of each forecast, `[B]`.
        cutoff: Steps of the series before the forecast, `[B]`.
        names: Baselines.

    Returns:
        The forecasts, of the panel's type.
    """
    steps = most_steps(task.season_length)
    cutter = WindowCutter(panel, replace(task, context_length=steps))
    values: dict[Baseline, np.ndarray] = {
        name: np.zeros((len(series), task.horizon), panel.y.dtype) for name in names
    }
    seconds = dict.fromkeys(names, 0.0)
    size = max(_BLOCK // steps, 1)
    for first in range(0, len(series), size):
        rows = slice(first, first + size)
        context = cutter.windows(series[rows], cutoff[rows])[:, :steps]
        block = forecast_contexts(context, task.horizon, task.season_length, names)
        for name in names:
            values[name][rows] = block.values[name]
            seconds[name] += block.seconds[name]
    return BaselineForecasts(values, seconds)
