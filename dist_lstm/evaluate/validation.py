"""A validation score that compares models of different scaling, head and context length.

Their validation losses can't be compared: each is in units of the model's scale and head.

Axes: B windows, H horizon, P head parameters.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dist_lstm.config.task import Task
from dist_lstm.data.panel import Panel, seasonal_error
from dist_lstm.data.shards import Shards
from dist_lstm.data.windows import WindowCutter, split_ranges
from dist_lstm.forecast.table import median

#: Most windows that are scored.
MOST_WINDOWS = 1 << 12
_BATCH_SIZE = 512

#: A function from a model to its score.
Scorer = Callable[[Any], float]


@dataclass(frozen=True)
class ValidationBatch:
    """Some windows of the validation range.

    Attributes:
        panel: Their series, and others.
        series: Index of each window's series in the panel, `[B]`.
        cutoff: Steps of the series before the forecast, `[B]`.
        owner: Index of each window's series among all series, `[B]`.
        inputs: Inputs of the model, by name.
        target: Actual values, `[B, H]`, in target units; NaN is missing.
        scale: Mean absolute seasonal difference of the series in its training range, `[B]`, in target units; NaN
            where the context has no value.
    """

    panel: Panel
    series: np.ndarray
    cutoff: np.ndarray
    owner: np.ndarray
    inputs: dict[str, np.ndarray]
    target: np.ndarray
    scale: np.ndarray


def validation_batches(shards: Shards, task: Task, min_context: int, seed: int) -> Iterator[ValidationBatch]:
    """Cut windows of the validation range: all, or a sample of 4,096.

    Args:
        shards: The series.
        task: The task.
        min_context: Fewest steps of a series before a cutoff. It and the seed determine the windows, so that
            models of different context lengths are scored on the same ones.
        seed: Seed of the sample.

    Yields:
        At most 512 windows at a time.
    """
    from dist_lstm.data.stream import sample_validation

    _, sample = sample_validation(shards, replace(task, min_context=min_context), MOST_WINDOWS, seed)
    before = 0
    for panel, series, cutoff in sample:
        scale = seasonal_error(panel, split_ranges(panel, task).train_end, task.season_length, power=1)
        cutter = WindowCutter(panel, task)
        for first in range(0, len(series), _BATCH_SIZE):
            rows = slice(first, first + _BATCH_SIZE)
            inputs, target = cutter.cut(series[rows], cutoff[rows])
            observed = ~np.isnan(inputs["y"]).all(axis=1)
            scales = np.where(observed, scale[series[rows]], np.nan)
            yield ValidationBatch(panel, series[rows], cutoff[rows], before + series[rows], inputs, target, scales)
        before += len(panel.unique_id)


def make_scorer(shards: Shards, task: Task, min_context: int, seed: int) -> Scorer:
    """Choose validation windows and hold them in memory.

    Args:
        shards: The series.
        task: The task of the models to score.
        min_context: Fewest steps of a series before a scored cutoff. It and the seed determine the windows, so
            that models of different context lengths are scored on the same ones.
        seed: Seed of the sample.

    Returns:
        A function from a model to its MASE: the mean over series, and over the windows of each, of the mean
        absolute error of its median forecast divided by the series' mean absolute seasonal difference in its
        training range. Left out are missing values, windows whose context has no value, and windows of series
        where that difference is 0 or unknown. NaN where nothing is left, infinity where a forecast is not finite.
    """
    import tensorflow as tf

    windows = [*validation_batches(shards, task, min_context, seed)]
    owner = np.concatenate([np.zeros(0, np.int64), *(one.owner for one in windows)])

    # The model is an argument, so that its graph is traced once.
    graph = tf.function(
        lambda model, inputs: model(inputs, training=False)["forecast"], autograph=False, reduce_retracing=True
    )

    def score(model: Any) -> float:
        errors = [
            scaled_errors(median(graph(model, one.inputs).numpy(), task), one.target, one.scale) for one in windows
        ]
        return mean_over_series(np.concatenate([np.zeros(0), *errors]), owner)

    return score


def mean_over_series(errors: np.ndarray, owner: np.ndarray) -> float:
    """The mean over series of the mean over the windows of each.

    Args:
        errors: Error of each window, `[B]`; NaN is left out.
        owner: Index of each window's series, `[B]`.

    Returns:
        The mean; NaN where nothing is left.

    Example:
        >>> mean_over_series(np.array([1.0, 3.0, 4.0]), np.array([7, 7, 9]))
        3.0
    """
    defined = ~np.isnan(errors)
    count = np.bincount(owner[defined])
    total = np.bincount(owner[defined], errors[defined])
    return float((total[count > 0] / count[count > 0]).mean()) if defined.any() else float("nan")


def scaled_errors(forecast: np.ndarray, target: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Mean absolute error of each window divided by its scale.

    Args:
        forecast: Forecasts, `[B, H]`, in target units.
        target: Actual values, `[B, H]`; NaN is missing and left out.
        scale: Scale of each window's series, `[B]`, in target units; 0 and NaN are unknown.

    Returns:
        Errors, `[B]`; NaN where nothing is left, infinity where a forecast with an actual value is not finite.
    """
    has_target = ~np.isnan(target)
    error = np.abs(np.where(has_target, forecast.astype(np.float64) - target, 0.0))
    error[~np.isfinite(error)] = np.inf
    points, defined = has_target.sum(axis=1), (scale > 0) & has_target.any(axis=1)
    unknown = np.full(len(scale), np.nan)
    return np.divide(error.sum(axis=1), points * scale, out=unknown, where=defined)
