"""AdamW, its schedule, and clipping of the gradient of all replicas together."""

from typing import Any

import keras
import tensorflow as tf

from dist_lstm.config.resolved import MeasuredTrainSettings


class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a variable factor, 1 at first, whose number of steps can be changed.

    Args:
        schedule: Learning rate by step.
        steps: Steps of the schedule.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int) -> None:
        super().__init__()
        self._schedule = schedule
        self._steps = steps
        self._speed = keras.Variable(1.0, trainable=False, dtype="float32", name="schedule_speed")
        self.factor = keras.Variable(1.0, trainable=False, dtype="float32", name="learning_rate_factor")

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step."""
        return self._schedule(keras.ops.cast(step, "float32") * self._speed) * self.factor

    def set_steps(self, steps: int) -> None:
        """Go through the whole schedule in so many steps."""
        self._speed.assign(self._steps / steps)

    def get_config(self) -> dict[str, Any]:
        """Settings to make the same schedule again."""
        return {"schedule": self._schedule, "steps": self._steps}


class ReducedAdamW(keras.optimizers.AdamW):
    """AdamW for gradients that are already summed over replicas, with a factor on its learning rate.

    Keras clips on each replica before it sums; the step of this package sums first, then clips. So the
    optimizer must not sum again.
    """

    @property
    def schedule(self) -> ScaledSchedule:
        """The schedule of the learning rate."""
        return self._learning_rate

    @property
    def learning_rate_factor(self) -> keras.Variable:
        """The factor of the learning rates of the schedule."""
        return self.schedule.factor

    def _all_reduce_sum_gradients(self, grads_and_vars: list[Any]) -> list[Any]:
        return grads_and_vars


def make_optimizer(settings: MeasuredTrainSettings) -> keras.optimizers.Optimizer:
    """The optimizer of a run; to be made and built inside the strategy's scope.

    Args:
        settings: Learning rate, warm-up, steps, weight decay and moving average; resolved.

    Returns:
        AdamW whose learning rate rises linearly over `warmup_steps`, then falls to 0 along a cosine at
        `max_steps`. Biases do not decay. With `ema` it keeps a moving average of the weights as well.
    """
    steps, rate = settings.max_steps, settings.learning_rate
    warmup = min(settings.warmup_steps, steps // 2)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else rate,
        decay_steps=steps - warmup,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = ReducedAdamW(
        learning_rate=ScaledSchedule(schedule, steps),
        weight_decay=settings.weight_decay,
        use_ema=settings.ema > 0,
        ema_momentum=settings.ema,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def clip(gradients: list[tf.Tensor], norm: float) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Scale a gradient down to a maximum norm.

    Args:
        gradients: One tensor a weight, summed over replicas.
        norm: Maximum Euclidean norm of all of them together.

    Returns:
        The scaled gradient, and its norm before.
    """
    # In float32 the square of a gradient above 1e19 is infinite, and all would become NaN.
    whole = tf.linalg.global_norm([tf.cast(gradient, tf.float64) for gradient in gradients])
    return tf.clip_by_global_norm(gradients, norm, use_norm=tf.cast(whole, tf.float32))
