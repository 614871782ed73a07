"""All that training changes: a model, its optimizer and its loss scale, under a strategy."""

from collections.abc import Callable, Iterator, Mapping
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
        good: Steps taken since the scale changed.
    """

    scale: keras.Variable = field(default_factory=lambda: _state(16.0, "loss_scale"))
    good: keras.Variable = field(default_factory=lambda: _state(0.0, "steps_without_overflow"))

    def update(self, is_finite: tf.Tensor) -> None:
        """Double the scale after many steps without an overflow, halve it after one that overflowed."""
        grown = self.good + 1 >= _GROW_AFTER
        good_scale = tf.where(grown, self.scale * 2, self.scale.value)
        self.good.assign(tf.where(is_finite & ~grown, self.good + 1, 0.0))
        self.scale.assign(tf.where(is_finite, good_scale, self.scale / 2))


def _state(value: float, name: str) -> keras.Variable:
    return keras.Variable(value, trainable=False, dtype="float32", name=name)


@dataclass(frozen=True)
class TrainState:
    """A model, and what it is trained with.

    Attributes:
        model: Built inside the strategy's scope.
        optimizer: Built inside it as well.
        strategy: The strategy.
        loss_scale: Built inside its scope; None unless the precision is float16.
    """

    model: keras.Model
    optimizer: Any
    strategy: Any
    loss_scale: LossScale | None = None

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """All that a step changes: weights, states of random numbers, the optimizer's own, scales.

        Returns:
            Variables by a name that depends on the structure of the model only: it is the same in every process
            and for every model that is built from the same settings.
        """
        named = [*model_variables(self.model).items()]
        named += [(f"optimizer/{variable.name}", variable) for variable in self.optimizer.variables]
        named.append(("optimizer/learning_rate_factor", self.optimizer.learning_rate_factor))
        if self.loss_scale:
            named += [("loss_scale/scale", self.loss_scale.scale), ("loss_scale/good", self.loss_scale.good)]
        return _distinct(named)

    @property
    def weights(self) -> dict[str, keras.Variable]:
        """The model's weights, by the same names."""
        names = {id(variable): name for name, variable in self.variables.items()}
        return {names[id(weight)]: weight for weight in self.model.weights}

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """Set variables, on every replica.

        Args:
            values: Values by name; the other variables keep theirs.
        """
        variables = self.variables
        with self.strategy.scope():
            for name, value in values.items():
                variables[name].assign(value)

    def set_rate(self, factor: float) -> None:
        """Multiply the learning rates of the schedule by a factor."""
        with self.strategy.scope():
            self.optimizer.learning_rate_factor.assign(factor)

    def set_steps(self, steps: int) -> None:
        """Go through the whole schedule of the learning rate in so many steps."""
        with self.strategy.scope():
            self.optimizer.schedule.set_steps(steps)

    def halve_rate(self) -> None:
        """Halve the learning rate of all steps to come."""
        self.set_rate(float(self.optimizer.learning_rate_factor.numpy()) / 2)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the weights are their moving average, if the optimizer keeps one."""
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


def read_values(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """The values of variables, by name."""
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}


def model_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables of a model by the names that `TrainState.variables` gives them, in the order of the model."""
    names = {id(variable): name for name, variable in _name_variables(model)}
    return _distinct([(f"model/{names[id(variable)]}", variable) for variable in model.variables])


def _distinct(named: list[tuple[str, keras.Variable]]) -> dict[str, keras.Variable]:
    result = dict(named)
    if len(result) != len(named):
        raise ValueError("two variables have the same name")
    return result


def _name_variables(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """The variables of a model, each with a name that begins with that of its layer."""
    for layer in model.layers:
        yield from ((weight.path, weight) for weight in layer.trainable_variables)
        # Keras numbers seed generators by all that were made in the process.
        for number, variable in enumerate(layer.non_trainable_variables):
            yield f"{layer.name}/{variable.name}_{number}", variable


def make_train_state(
    build: Callable[[], keras.Model], settings: MeasuredTrainSettings, strategy: Any
) -> TrainState:
    """Build a model and its optimizer.

    Args:
        build: Builds the model.
        settings: Settings of the training.
        strategy: The strategy to train under.

    Returns:
        The state before the first step.
    """
    with strategy.scope():
        model = build()
        optimizer = make_optimizer(settings)
        optimizer.build(model.trainable_variables)
        return TrainState(model, optimizer, strategy, LossScale() if settings.precision == "float16" else None)
