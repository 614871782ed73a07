"""The level of a series at the end of its context, smoothed, in the graph.

Source: Smyl, "A hybrid method of exponential smoothing and recurrent neural networks for time series forecasting",
IJF 36 (2020): the network forecasts how far values are from the smoothed level at its last input.

Axes: B batch, T context.
"""

import keras
import numpy as np
from keras import ops

#: Smoothing constants, of which each window takes one; of equally good ones the first.
_CONSTANTS = (0.5, 0.3, 0.7, 0.1, 0.9)
#: A constant is better than another if its error is below this share of the other's: rounding decides nothing.
_BETTER = 0.999
#: Steps that are smoothed where four seasons are fewer; older values have no weight left.
_LEAST_STEPS = 48


def smoothed_level(
    values: keras.KerasTensor, observed: keras.KerasTensor, season_length: int, otherwise: keras.KerasTensor
) -> keras.KerasTensor:
    """Exponentially smoothed level at the end of each context.

    The smoothing constant of a window is that whose level before each step is closest to the value of the step, by
    the mean absolute error over its context. With a season, means over the last season are smoothed.

    Args:
        values: Values, `[B, T]`, 0 if missing.
        observed: 1 if there is a value, `[B, T]`.
        season_length: Steps in a season; 1 for none.
        otherwise: The level of windows without a value in the steps that are smoothed, `[B, 1]`.

    Returns:
        Levels, `[B, 1]`, in the unit of the values.
    """
    steps = min(values.shape[1], max(4 * season_length, _LEAST_STEPS))
    total, weight = values[:, -steps:], observed[:, -steps:]
    if season_length > 1:
        age = np.arange(steps)[None, :] - np.arange(steps)[:, None]
        season = ops.array((age >= 0) & (age < season_length), dtype=values.dtype)
        count = ops.matmul(weight, season)
        total = ops.matmul(total, season) / ops.maximum(count, 1.0)
        weight = ops.cast(count > 0, values.dtype)
    best, least = otherwise, ops.full_like(otherwise, float("inf"))
    counted, weighted = weight[:, 1:], total * weight
    for constant in _CONSTANTS:
        levels, defined = _levels(weighted, weight, constant)
        both = counted * ops.cast(defined[:, :-1], values.dtype)
        error = ops.sum(ops.abs(total[:, 1:] - levels[:, :-1]) * both, axis=1, keepdims=True)
        better = ops.logical_and(error < _BETTER * least, defined[:, -1:])
        best, least = ops.where(better, levels[:, -1:], best), ops.where(better, error, least)
    return best


def _levels(
    total: keras.KerasTensor, weight: keras.KerasTensor, constant: float
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The level after each step, and whether there is one, both `[B, T]`."""
    steps = total.shape[1]
    age = np.arange(steps)[None, :] - np.arange(steps)[:, None]
    kernel = ops.array(np.where(age >= 0, (1 - constant) ** np.maximum(age, 0), 0.0), dtype=total.dtype)
    weights = ops.matmul(weight, kernel)
    defined = weights > 0
    return ops.matmul(total, kernel) / ops.where(defined, weights, ops.ones_like(weights)), defined
