"""The outputs of a forecast, and the loss they are trained on.

Axes: B batch, H horizon, Q quantile levels, P head parameters (Q for the quantile head, else 1).
"""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from dist_lstm.config.task import Task

#: Scaled targets `[B, H]` and scaled forecasts `[B, H, P]` to errors `[B, H]`.
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@keras.saving.register_keras_serializable("dist_lstm")
class OrderedQuantiles(keras.layers.Layer):
    """Quantiles that can't cross: a median, and positive distances below and above it.

    Args:
        median: Index of the median among the levels.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, median: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.median = median

    def call(self, raw: keras.KerasTensor) -> keras.KerasTensor:
        """Raw parameters to quantiles in ascending order, both `[B, H, Q]`."""
        middle = raw[..., self.median : self.median + 1]
        above = middle + ops.cumsum(ops.softplus(raw[..., self.median + 1 :]), axis=-1)
        below = middle - ops.flip(ops.cumsum(ops.softplus(ops.flip(raw[..., : self.median], -1)), axis=-1), -1)
        return ops.concatenate([below, middle, above], axis=-1)

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"median": self.median}


def head_parameters(head: str, task: Task) -> int:
    """Head parameters per forecast step, P."""
    return len(task.quantiles) if head == "quantile" else 1


def apply_head(raw: keras.KerasTensor, head: str, task: Task) -> keras.KerasTensor:
    """Raw parameters to scaled forecasts, both `[B, H, P]`."""
    return OrderedQuantiles(task.quantiles.index(0.5), name="quantiles")(raw) if head == "quantile" else raw


def pinball(target: tf.Tensor, forecast: tf.Tensor, quantiles: tuple[float, ...]) -> tf.Tensor:
    """Mean pinball loss over the quantile levels, times two, so that the median's share is its MAE.

    Source: Koenker & Bassett, "Regression Quantiles", Econometrica 46 (1978).

    Args:
        target: Values, `[B, H]`.
        forecast: Quantiles, `[B, H, Q]`.
        quantiles: Their levels, `[Q]`.

    Returns:
        Losses, `[B, H]`, in the unit of `target`.
    """
    error = tf.expand_dims(target, -1) - forecast
    level = tf.constant(quantiles, forecast.dtype)
    return 2 * tf.reduce_mean(tf.maximum(level * error, (level - 1) * error), axis=-1)


def head_loss(head: str, task: Task) -> Loss:
    """The loss of a head.

    Args:
        head: `quantile`, `mae`, `mse` or `huber` (quadratic below one unit of scale).
        task: Quantile levels.

    Returns:
        A function of scaled targets, `[B, H]`, and scaled forecasts, `[B, H, P]`, to losses, `[B, H]`.
    """
    if head == "quantile":
        return lambda target, forecast: pinball(target, forecast, task.quantiles)
    pointwise: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
        "mae": tf.abs,
        "mse": tf.square,
        "huber": lambda error: tf.where(tf.abs(error) < 1, 0.5 * error**2, tf.abs(error) - 0.5),
    }
    return lambda target, forecast: pointwise[head](target - tf.squeeze(forecast, -1))
