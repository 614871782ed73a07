"""The combined forecast: the model's and those of baselines, with weights that all series share.

Axes: B windows, H horizon, P head parameters.
"""

from collections.abc import Mapping

import numpy as np

from dist_lstm.config.schema import Baseline
from dist_lstm.config.task import Task
from dist_lstm.forecast.table import MODEL, median


def combine(
    values: np.ndarray, baselines: Mapping[Baseline, np.ndarray], weights: Mapping[str, float], task: Task
) -> np.ndarray:
    """The weighted mean of the model's median and of baselines, with the model's intervals around it.

    Args:
        values: The model's forecasts, `[B, H, P]`, in target units.
        baselines: The forecasts of baselines with a weight, each `[B, H]`, in target units. Where one is NaN, the
            others share its weight.
        weights: Weight of the model and of each baseline.
        task: Quantile levels.

    Returns:
        Forecasts, `[B, H, P]`: all quantiles of the model, moved by as much as its median. NaN where the model's
        are.

    Example:
        >>> from types import SimpleNamespace
        >>> task, values = SimpleNamespace(quantiles=(0.1, 0.5, 0.9)), np.array([[[1.0, 2.0, 4.0]]])
        >>> combine(values, {"Theta": np.array([[4.0]])}, {"LSTM": 0.5, "Theta": 0.5}, task)
        array([[[2., 3., 5.]]])
    """
    middle = median(values, task).astype(np.float64)
    total, weight = np.zeros_like(middle), np.zeros_like(middle)
    forecasts: dict[str, np.ndarray] = {MODEL: middle, **baselines}
    for name, share in weights.items():
        if not share:
            continue
        forecast = forecasts[name]
        defined = np.isfinite(forecast)
        total += np.where(defined, share * forecast, 0.0)
        weight += np.where(defined, share, 0.0)
    center = np.divide(total, weight, out=middle.copy(), where=weight > 0)
    largest = np.finfo(values.dtype).max
    moved = values.astype(np.float64) + (center - middle)[:, :, None]
    return np.clip(moved, -largest, largest).astype(values.dtype)
