"""Baselines: simple forecasts that a model is compared with.

Axes: N windows, T context, H horizon.
"""

import numpy as np

NAME = "SeasonalNaive"


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
