"""One training step under a strategy, several steps per call; and the loss of given windows.

Axes: B batch, T context, H horizon.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.resolved import MeasuredTrainSettings
from dist_lstm.model.heads import Loss
from dist_lstm.model.scaling import normalise_target
from dist_lstm.train.optimizer import clip
from dist_lstm.train.process_group import SINGLE_PROCESS, ProcessGroup
from dist_lstm.train.state import TrainState

#: Sums over the steps so far, float64 `[5]`: the loss over observed targets, their count, the seconds spent
#: waiting for a batch, the steps that were not taken because their loss was non-finite, and how many of those came
#: last in a row.
LOSS, COUNT, WAITED, SKIPPED, IN_A_ROW = range(5)

#: Takes an iterator of batches, a number of steps, and the sums so far. Returns the number of steps that were run,
#: fewer where too many in a row were not taken, and the new sums. The sums go through the graph, so that the same
#: steps give the same sums however they are divided into calls.
TrainSteps = Callable[[Any, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def summed_loss(
    model: keras.Model,
    loss: Loss,
    inputs: dict[str, tf.Tensor],
    target: tf.Tensor,
    training: bool,
    window_weight: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Loss of a batch, as the network forecasts (transformed, in units of scale), summed over observed targets.

    Args:
        model: Gives `scaled`, `base`, `scale` and `unit`, and perhaps `weight`.
        loss: The head's loss.
        inputs: Model inputs, each `[B, ...]`.
        target: Targets, `[B, H]`, in target units; NaN does not count, nor does a window whose context
            does not vary: its forecast is the base, whatever the weights.
        training: Whether dropout is on.
        window_weight: Weights of windows, `[B]`, beside those of the model; None for 1.

    Returns:
        The sum, and how many targets it counts, or the sum of their weights.
    """
    outputs = model(inputs, training=training)
    transform = outputs.get("transform", inputs.get("transform"))
    counted = tf.logical_and(tf.logical_not(tf.math.is_nan(target)), outputs["scale"] > 0)
    # Masked before the loss: the gradient of where() would be NaN for a NaN that is only masked after.
    observed = tf.where(counted, target, tf.zeros_like(target))
    scaled = normalise_target(observed, outputs, transform)
    errors = loss(tf.where(counted, scaled, tf.zeros_like(scaled)), outputs["scaled"])
    weight = tf.cast(counted, errors.dtype)
    if "weight" in outputs:
        weight *= outputs["weight"]
    if window_weight is not None:
        weight *= tf.cast(window_weight, errors.dtype)[:, None]
    return tf.reduce_sum(errors * weight), tf.reduce_sum(weight)


def make_train_steps(state: TrainState, loss: Loss, settings: MeasuredTrainSettings) -> TrainSteps:
    """Build the graph of several training steps.

    The gradient of the summed loss is summed over replicas, divided by the number of observed targets of all of
    them, or by the sum of their weights, then clipped, then applied: so any number of replicas takes the same
    step. A step whose loss or gradient is non-finite is not applied.

    Args:
        state: Model, optimizer and strategy; the optimizer must not sum gradients over replicas itself.
        loss: The head's loss.
        settings: Clipping, parts of a batch, bad steps in a row; with `deterministic`, waiting for input is
            not measured: TensorFlow forbids clocks among deterministic ops.

    Returns:
        The function; it is traced once, whatever the number of steps.
    """
    now = (lambda: tf.constant(0.0, tf.float64)) if settings.deterministic else tf.timestamp
    gradient_of_replica = _make_replica_gradient(state, loss, settings)
    strategy, loss_scale, weights = state.strategy, state.loss_scale, state.model.trainable_variables

    def one_step(batches: Any, sums: tf.Tensor) -> tf.Tensor:
        # The clock starts when the step before is done, or a wait hidden behind it would count.
        with tf.control_dependencies([sums]):
            begin = now()
        with tf.control_dependencies([begin]):
            batch = next(batches)
        with tf.control_dependencies(tf.nest.flatten(strategy.experimental_local_results(batch))):
            waited = now() - begin
        gradients, numbers = strategy.run(gradient_of_replica, args=(batch,))
        # Already summed over replicas: any one's value is the value.
        total, count, norm = tf.unstack(strategy.experimental_local_results(numbers)[0])
        loss_is_finite = tf.math.is_finite(total)
        is_finite = loss_is_finite & tf.math.is_finite(norm)

        def apply() -> tf.Tensor:
            strategy.run(lambda summed: state.optimizer.apply(summed, weights), args=(gradients,))
            return tf.constant(0.0, tf.float64)

        # In float16 a gradient may overflow where the loss is finite: that is what the scale is for.
        bad = tf.cond(is_finite, apply, lambda: tf.constant(1.0, tf.float64))
        if loss_scale is not None:
            loss_scale.update(is_finite)
            bad = tf.where(loss_is_finite & (loss_scale.scale > _LEAST_LOSS_SCALE), tf.zeros_like(bad), bad)
        in_a_row = (sums[IN_A_ROW] + 1) * bad
        counted = [tf.where(is_finite, tf.cast(one, tf.float64), 0.0) for one in (total, count)]
        return tf.stack([sums[LOSS] + counted[0], sums[COUNT] + counted[1], sums[WAITED] + waited,
                         sums[SKIPPED] + bad, in_a_row])  # fmt: skip

    # AutoGraph could write this loop, but not where it can't see the source, as under coverage on Python 3.12.
    @tf.function(autograph=False)
    def train_steps(batches: Any, steps: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.while_loop(
            lambda step, sums: (step < steps) & (sums[IN_A_ROW] < settings.max_bad_steps),
            lambda step, sums: (step + 1, one_step(batches, sums)),
            (tf.constant(0), sums),
        )

    return train_steps


#: Below this, it is not float16 that makes a gradient overflow.
_LEAST_LOSS_SCALE = 2.0**-16

#: The gradient of the mean loss, one tensor per weight, clipped; and the summed loss, its count and the norm of
#: the gradient before clipping, float32 `[3]`: all of all replicas together.
_ReplicaGradient = Callable[[Any], tuple[list[tf.Tensor], tf.Tensor]]


def _make_replica_gradient(state: TrainState, loss: Loss, settings: MeasuredTrainSettings) -> _ReplicaGradient:
    """What one replica does with its part of a batch."""
    model, loss_scale, parts = state.model, state.loss_scale, settings.accumulate
    weights = model.trainable_variables

    def of_part(inputs: dict[str, tf.Tensor], target: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total, count = summed_loss(model, loss, inputs, target, training=True)
            scaled = total if loss_scale is None else total * loss_scale.scale
        # The gradient of an embedding comes as slices, which can't be divided or clipped with the others.
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(scaled, weights)]
        if loss_scale is not None:
            gradients = [gradient / loss_scale.scale for gradient in gradients]
        return [*gradients, total, count]

    def of_parts(inputs: dict[str, tf.Tensor], target: tf.Tensor) -> list[tf.Tensor]:
        divided = tf.nest.map_structure(
            lambda one: tf.reshape(one, tf.concat([[parts, -1], tf.shape(one)[1:]], 0)), (inputs, target)
        )

        def add(part: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
            here = tf.nest.map_structure(lambda one: one[part], divided)
            return part + 1, [one + more for one, more in zip(sums, of_part(*here), strict=True)]

        zeros = [tf.zeros(weight.shape) for weight in weights] + [tf.constant(0.0)] * 2
        # One at a time: that is what saves memory.
        _, sums = tf.while_loop(lambda part, _: part < parts, add, (tf.constant(0), zeros), parallel_iterations=1)
        return sums

    def replica_gradient(batch: tuple[dict[str, tf.Tensor], tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        summed = of_part(*batch) if parts == 1 else of_parts(*batch)
        replicas = tf.distribute.get_replica_context()
        *gradients, total, count = replicas.all_reduce(tf.distribute.ReduceOp.SUM, summed)
        clipped, norm = clip(
            [tf.math.divide_no_nan(gradient, count) for gradient in gradients], settings.clip_norm
        )
        return clipped, tf.stack([total, count, tf.cast(norm, tf.float32)])

    return replica_gradient


def make_mean_loss(
    model: keras.Model, loss: Loss, processes: ProcessGroup = SINGLE_PROCESS
) -> Callable[[Iterator[Any]], float]:
    """Build the graph of the loss without training.

    Args:
        model: The model.
        loss: The head's loss.
        processes: The processes that share the batches: each takes every `processes.size`-th.

    Returns:
        A function of batches of inputs, targets and weights of windows to the weighted mean loss over their
        observed targets; NaN where there are none, infinity where the model's forecasts are non-finite.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def one_batch(inputs: Any, target: Any, weight: Any) -> tuple[tf.Tensor, tf.Tensor]:
        return summed_loss(model, loss, inputs, target, False, weight)

    def mean_loss(batches: Iterator[Any]) -> float:
        total, count = 0.0, 0.0
        for inputs, target, weight in itertools.islice(batches, processes.number, None, processes.size):
            missing = len(next(iter(inputs.values()))) - len(target)
            padded = np.pad(target, ((0, missing), (0, 0)), constant_values=np.nan)
            one, counted = one_batch(inputs, padded, np.pad(weight, (0, missing)))
            total, count = total + float(one), count + float(counted)
        total, count = processes.total(total, count)
        # NaN means that nothing counts; a non-finite loss is worse than any other.
        return (float("inf") if np.isnan(total) else total / count) if count else float("nan")

    return mean_loss
