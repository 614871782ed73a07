"""Contexts with missing values, in the graph: means, changes, and gaps filled from the context alone.

Axes: B batch, T context.
"""

import keras
import tensorflow as tf
from keras import ops


def at_steps(values: keras.KerasTensor, step: keras.KerasTensor) -> keras.KerasTensor:
    """The values of each window at some of its steps: one op of TensorFlow, where `take_along_axis` has twenty.

    Args:
        values: Values, `[B, T]`.
        step: Steps, `[B, K]`, 0 to T - 1.

    Returns:
        The values, `[B, K]`.
    """
    return tf.gather(values, step, batch_dims=1)


def mean_of_observed(values: keras.KerasTensor, observed: keras.KerasTensor) -> keras.KerasTensor:
    """Mean of the observed values of each window, `[B, 1]`; 0 if there are none."""
    count = ops.sum(observed, axis=1, keepdims=True)
    return ops.sum(values * observed, axis=1, keepdims=True) / ops.maximum(count, 1.0)


def changes(
    values: keras.KerasTensor, observed: keras.KerasTensor, lag: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Differences to the value some steps before, 0 if one is missing, and 1 where both exist, both `[B, T]`."""
    lag = min(lag, values.shape[1])
    before, both = (ops.pad(one[:, :-lag], ((0, 0), (lag, 0))) for one in (values, observed))
    both = both * observed
    return (values - before) * both, both


def _running_max(values: keras.KerasTensor) -> keras.KerasTensor:
    """The largest value up to each step, `[B, T]`."""
    shift, steps = 1, values.shape[1]
    while shift < steps:
        earlier = ops.pad(values[:, :-shift], ((0, 0), (shift, 0)), constant_values=-1)
        values, shift = ops.maximum(values, earlier), 2 * shift
    return values


def fill_gaps(
    values: keras.KerasTensor, observed: keras.KerasTensor, season: keras.KerasTensor
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Fill missing values from the context alone.

    A gap between two observed values is interpolated linearly. After the last observed value the last season is
    repeated. Before the first one there is nothing to fill from.

    Args:
        values: Values, `[B, T]`, 0 if missing.
        observed: 1 if there is a value, `[B, T]`.
        season: The last observed value at each position of the season that ends the context, `[B, season]`, in
            the order of positions; the season is 1 step for a series without one.

    Returns:
        The filled values, `[B, T]`, 0 before the first observed one; and 1 from there on, 0 before, `[B, T]`.
    """
    steps, length = values.shape[1], season.shape[1]
    number = ops.expand_dims(ops.arange(steps, dtype="int32"), 0)
    is_observed = observed > 0
    before = _running_max(ops.where(is_observed, number, -1))
    mirrored = _running_max(ops.where(ops.flip(is_observed, 1), number, -1))
    after = ops.flip(steps - 1 - mirrored, 1)
    started, ended = before >= 0, after >= steps
    low = at_steps(values, ops.maximum(before, 0))
    high = at_steps(values, ops.minimum(after, steps - 1))
    share = ops.cast(number - before, values.dtype) / ops.cast(ops.maximum(after - before, 1), values.dtype)
    inside = low + (high - low) * share
    repeated = ops.tile(season, (1, -(-steps // length)))[:, -steps:]
    filled = ops.where(is_observed, values, ops.where(ended, repeated, inside))
    return ops.where(started, filled, ops.zeros_like(filled)), ops.cast(started, values.dtype)
