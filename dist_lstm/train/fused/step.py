"""One training step of M fused models, several steps per call, compiled by XLA.

Each model takes the step that `dist_lstm.train.step` would take with it alone: its own mean loss over its own
observed targets, its own clipping, its own AdamW. Nothing is summed over models but the total that is
differentiated, and its gradient for one model's weights is that of this model's loss.

Axes: M fused models, K steps of a call, B batch, H horizon.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from dist_lstm.config.resolved import MeasuredTrainSettings
from dist_lstm.config.task import input_spec
from dist_lstm.model.fused import FusedModel
from dist_lstm.model.fused_layers import Noise, Weights
from dist_lstm.model.heads import Loss, head_loss

#: AdamW's decay of the mean of gradients and of that of their squares, and its guard of a division; as in Keras.
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


#: Inputs of the network by name.
Inputs = Mapping[str, Any]


class Rates(NamedTuple):
    """What may differ from model to model.

    Attributes:
        learning_rate: Highest learning rate, `[M]`, float32.
        weight_decay: Decoupled weight decay, `[M]`, float32.
        dropout: Share of inputs dropped after each layer, `[M]`, float32.
        seed: Seed of dropout, `[M]`, int32.
        limit: Maximum number of steps, `[M]`, int32; a model that has taken them no longer changes.
    """

    learning_rate: Any
    weight_decay: Any
    dropout: Any
    seed: Any
    limit: Any


class State(NamedTuple):
    """All that training changes.

    Attributes:
        weights: By path, each `[M, ...]`.
        mean: Running mean of gradients, like the weights.
        square: Running mean of their squares, like the weights.
        step: Steps that each model has taken, `[M]`, int32.
    """

    weights: Weights
    mean: Weights
    square: Weights
    step: Any


@dataclass(frozen=True)
class FusedSteps:
    """Compiled functions; all shapes but those of `normalise` are fixed by the first call.

    The windows of `train` and `loss` are as `normalise` gives them: each model's own, `[M, B, ...]`, or the same
    for all models, `[B, ...]`.

    Attributes:
        normalise: `FusedModel.normalise` of any number of windows.
        train: A state, rates, K batches of inputs and targets, `[K, M, B, ...]` or `[K, B, ...]`, and how many of
            the K steps to take, to the next state; and the weighted sum of the loss over the counted targets of
            these steps, and that of the weights, `[M, 2]`, float64. A step whose loss or gradient is non-finite
            is not applied; it makes the sum NaN.
        loss: Weights, inputs, targets and weights of windows, `[M, B]`, to the weighted sum of the loss without
            dropout and that of the weights, `[M, 2]`, float64.
    """

    normalise: Callable[..., tuple[Inputs, tf.Tensor]]
    train: Callable[..., tuple[State, tf.Tensor]]
    loss: Callable[..., tf.Tensor]


def make_fused_steps(model: FusedModel, train: MeasuredTrainSettings) -> FusedSteps:
    """Build the graphs of fused models.

    Args:
        model: The architecture.
        train: Schedule and clipping; its rates are not used.

    Returns:
        The functions.
    """
    task, loss = model.task, head_loss(model.settings.head, model.task)
    specs = {name: tf.TensorSpec((None, *shape), kind) for name, (shape, kind) in input_spec(task).items()}
    target_spec = tf.TensorSpec((None, task.horizon), task.value_type)
    normalise = tf.function(model.normalise, autograph=False, input_signature=[specs, target_spec])

    def one_step(state: State, rates: Rates, inputs: Inputs, target: tf.Tensor) -> tuple[State, tf.Tensor]:
        noise = Noise(rates.dropout, rates.seed, state.step)
        with tf.GradientTape() as tape:
            tape.watch(state.weights)
            scaled = model.network(state.weights, inputs, noise)
            total, count = _summed_loss(loss, scaled, target, inputs["weight"])
            mean = tf.math.divide_no_nan(total, count)
        gradients, norm = _clip(dict(tape.gradient(mean, state.weights)), train.clip_norm)
        running = state.step < rates.limit
        applied = tf.logical_and(running, tf.logical_and(tf.math.is_finite(total), tf.math.is_finite(norm)))
        rate = learning_rate_at(state.step, rates, train)
        state = _apply(state, gradients, (rate, rates.weight_decay), applied)
        sums = tf.cast(tf.stack([total, count], axis=1), tf.float64)
        sums = tf.where(applied[:, None], sums, tf.fill(sums.shape, tf.constant(float("nan"), tf.float64)))
        state = state._replace(step=state.step + tf.cast(running, tf.int32))
        return state, tf.where(running[:, None], sums, tf.zeros_like(sums))

    @tf.function(autograph=False, jit_compile=True)
    def train_steps(
        state: State, rates: Rates, inputs: Inputs, target: tf.Tensor, steps: tf.Tensor
    ) -> tuple[State, tf.Tensor]:
        def body(step: tf.Tensor, state: State, sums: tf.Tensor) -> tuple[tf.Tensor, State, tf.Tensor]:
            batch = {name: values[step] for name, values in inputs.items()}
            state, more = one_step(state, rates, batch, target[step])
            return step + 1, state, sums + more

        none = tf.zeros((*state.step.shape, 2), tf.float64)
        _, state, sums = tf.while_loop(lambda step, *_: step < steps, body, (tf.constant(0), state, none))
        return state, sums

    @tf.function(autograph=False, jit_compile=True)
    def mean_loss(weights: Weights, inputs: Inputs, target: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        weight = weight * inputs["weight"]
        sums = _summed_loss(loss, model.network(weights, inputs, None), target, weight)
        return tf.cast(tf.stack(sums, axis=1), tf.float64)

    return FusedSteps(normalise, train_steps, mean_loss)


def _summed_loss(
    loss: Loss, scaled: tf.Tensor, target: tf.Tensor, window_weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loss of each model, `[M]`, summed over observed targets by their weights, and the weights', `[M]`."""
    target = target if target.shape.rank == 3 else tf.expand_dims(target, 0)
    counted = tf.logical_not(tf.math.is_nan(target))
    errors = loss(tf.where(counted, target, tf.zeros_like(target)), scaled)
    weight = tf.cast(counted, errors.dtype) * tf.expand_dims(window_weight, -1)
    weight = tf.broadcast_to(weight, errors.shape)
    return tf.reduce_sum(errors * weight, axis=(1, 2)), tf.reduce_sum(weight, axis=(1, 2))


def learning_rate_at(step: tf.Tensor, rates: Rates, train: MeasuredTrainSettings) -> tf.Tensor:
    """The schedule of `dist_lstm.train.optimizer` for models at different steps.

    Args:
        step: Steps that each model has taken, `[M]`.
        rates: Highest learning rate and number of steps of each.
        train: Warm-up and steps of the schedule, which a model with fewer steps goes through faster.

    Returns:
        Learning rates of the next step, `[M]`.
    """
    steps = train.max_steps
    warmup = min(train.warmup_steps, steps // 2)
    speed = steps / tf.cast(tf.maximum(rates.limit, 1), tf.float32)
    step_number, highest = tf.cast(step, tf.float32) * speed, rates.learning_rate
    share = tf.minimum(step_number - warmup, steps - warmup) / (steps - warmup)
    falling = highest * 0.5 * (1 + tf.cos(math.pi * share))
    return tf.where(step_number < warmup, highest * step_number / max(warmup, 1), falling)


def _clip(gradients: dict[str, Any], norm: float) -> tuple[Weights, tf.Tensor]:
    """Scale each model's gradient down to a maximum norm; returns the norms before as well, `[M]`."""
    squares = [
        # In float32 the square of a gradient above 1e19 is infinite, and all would become NaN.
        tf.reduce_sum(tf.square(tf.cast(one, tf.float64)), axis=list(range(1, one.shape.rank)))
        for one in gradients.values()
    ]
    whole = tf.cast(tf.sqrt(tf.add_n(squares)), tf.float32)
    factor = norm * tf.minimum(1 / whole, 1 / norm)
    return {name: one * _beside(factor, one) for name, one in gradients.items()}, whole


def _apply(state: State, gradients: Weights, rates: tuple[tf.Tensor, tf.Tensor], applied: tf.Tensor) -> State:
    """AdamW as Keras computes it, where it is applied.

    Args:
        state: Before the step.
        gradients: Clipped.
        rates: Learning rate and weight decay, `[M]`; biases do not decay.
        applied: Which models change, `[M]`.

    Returns:
        The state, at the same step.
    """
    rate, decay = rates
    step_number = tf.cast(state.step + 1, tf.float32)
    alpha = rate * tf.sqrt(1 - tf.pow(_BETA_2, step_number)) / (1 - tf.pow(_BETA_1, step_number))
    weights, means, squares = {}, {}, {}
    for name, gradient in gradients.items():
        weight, mean, square = (part[name] for part in (state.weights, state.mean, state.square))
        new_mean = mean + (gradient - mean) * (1 - _BETA_1)
        new_square = square + (tf.square(gradient) - square) * (1 - _BETA_2)
        new = weight if name.endswith("bias") else weight - weight * _beside(decay * rate, weight)
        new = new - new_mean * _beside(alpha, weight) / (tf.sqrt(new_square) + _EPSILON)
        where = _beside(applied, weight)
        weights[name] = tf.where(where, new, weight)
        means[name], squares[name] = tf.where(where, new_mean, mean), tf.where(where, new_square, square)
    return State(weights, means, squares, state.step)


def _beside(vector: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """One number per model, `[M]`, with as many axes as a weight."""
    return tf.reshape(vector, (-1,) + (1,) * (weight.shape.rank - 1))
