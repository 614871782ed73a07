"""All that changes in training: a model, its optimizer and its scales, under a strategy."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.resolved import MeasuredTrainSettings
from dist_lstm.train.optimizer import make_optimizer

#: Steps without an overflow after which float16's loss is scaled up again.
_GROW_AFTER = 500


@dataclass
class LossScale:
    """Keeps small gradients of float16 from becoming 0, and large ones from becoming infinite.

    Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018: dynamic loss scaling.

    Attributes:
        scale: What the loss is multiplied by; a gradient that overflows halves it, and its step is not taken.
        good: Steps taken since it changed.
    """

    scale: keras.Variable = field(default_factory=lambda: _state(16.0, "loss_scale"))
    good: keras.Variable = field(default_factory=lambda: _state(0.0, "steps_without_overflow"))

    def update(self, fine: tf.Tensor) -> None:
        """Double the scale after many steps that were fine, halve it after one that overflowed."""
        grown = self.good + 1 >= _GROW_AFTER
        good_scale = tf.where(grown, self.scale * 2, self.scale.value)
        self.good.assign(tf.where(fine & ~grown, self.good + 1, 0.0))
        self.scale.assign(tf.where(fine, good_scale, self.scale / 2))


def _state(value: float, name: str) -> keras.Variable:
    return keras.Variable(value, trainable=False, dtype="float32", name=name)


@dataclass(frozen=True)
class TrainState:
    """A model and what trains it.

    Attributes:
        model: Built inside the strategy's scope.
        optimizer: Made and built there.
        strategy: The strategy.
        loss_scale: Made there; for float16 alone.
    """

    model: keras.Model
    optimizer: Any
    strategy: Any
    loss_scale: LossScale | None = None

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a step changes: weights, states of random numbers, the optimizer's own, scales."""
        scales = [self.loss_scale.scale, self.loss_scale.good] if self.loss_scale else []
        return [*self.model.variables, *self.optimizer.variables, self.optimizer.learning_rate_factor, *scales]

    def read(self) -> list[np.ndarray]:
        """The values of all variables."""
        return [keras.ops.convert_to_numpy(variable) for variable in self.variables]

    def write(self, values: Sequence[np.ndarray]) -> None:
        """Set all variables, on every replica."""
        with self.strategy.scope():
            for variable, value in zip(self.variables, values, strict=True):
                variable.assign(value)

    def set_rate(self, factor: float) -> None:
        """Multiply the learning rates of the schedule."""
        with self.strategy.scope():
            self.optimizer.learning_rate_factor.assign(factor)

    def halve_rate(self) -> None:
        """Halve the learning rate of all steps to come."""
        self.set_rate(float(self.optimizer.learning_rate_factor.numpy()) / 2)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the weights are their moving average, where there is one."""
        if not self.optimizer.use_ema:
            yield
            return
        weights = self.model.trainable_variables
        kept = [keras.ops.convert_to_numpy(weight) for weight in weights]
        with self.strategy.scope():
            self.optimizer.finalize_variable_values(weights)
        yield
        with self.strategy.scope():
            for weight, value in zip(weights, kept, strict=True):
                weight.assign(value)


def make_train_state(
    build: Callable[[], keras.Model], settings: MeasuredTrainSettings, strategy: Any
) -> TrainState:
    """Build a model and its optimizer.

    Args:
        build: Builds the model.
        settings: Of the training; resolved.
        strategy: The strategy to train under.

    Returns:
        The state before the first step.
    """
    with strategy.scope():
        model = build()
        optimizer = make_optimizer(settings)
        optimizer.build(model.trainable_variables)
        return TrainState(model, optimizer, strategy, LossScale() if settings.precision == "float16" else None)
