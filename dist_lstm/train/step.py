"""One training step under a strategy, several steps a call; and the loss on given windows.

Axes: B batch, T context, H horizon.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.model.heads import Loss
from dist_lstm.model.scaling import normalise_target
from dist_lstm.train.optimizer import clip

#: Takes an iterator of batches, a number of steps, and the sums so far: the loss over observed targets,
#: their count, and the seconds in which a batch was waited for, float64 `[3]`. Returns the new sums. They
#: go through the graph, so that the same steps give the same sums however they are divided into calls.
TrainSteps = Callable[[Any, tf.Tensor, tf.Tensor], tf.Tensor]


def summed_loss(
    model: keras.Model, loss: Loss, inputs: dict[str, tf.Tensor], target: tf.Tensor, training: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Loss of a batch, as the network forecasts (transformed, in units of scale), summed over observed targets.

    Args:
        model: Gives `scaled`, `base`, `scale` and `unit`.
        loss: The head's loss.
        inputs: Model inputs, each `[B, ...]`.
        target: Targets, `[B, H]`, in target units; NaN does not count, nor does a window whose context
            does not vary: its forecast is the base, whatever the weights.
        training: Whether dropout is on.

    Returns:
        The sum, and how many targets it counts.
    """
    outputs, transform = model(inputs, training=training), inputs.get("transform")
    counted = tf.logical_and(tf.logical_not(tf.math.is_nan(target)), outputs["scale"] > 0)
    # Masked before the loss: the gradient of where() would be NaN for a NaN that is only masked after.
    known = tf.where(counted, target, tf.zeros_like(target))
    scaled = normalise_target(known, outputs, transform)
    errors = loss(tf.where(counted, scaled, tf.zeros_like(scaled)), outputs["scaled"])
    weight = tf.cast(counted, errors.dtype)
    return tf.reduce_sum(errors * weight), tf.reduce_sum(weight)


def make_train_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: Loss,
    clip_norm: float,
    strategy: Any,
    timed: bool = True,
) -> TrainSteps:
    """Build the graph of several training steps.

    The gradient of the summed loss is summed over replicas, divided by the number of observed targets of
    all of them, then clipped, then applied: so any number of replicas takes the same step.

    Args:
        model: Built inside the strategy's scope.
        optimizer: Made and built inside the strategy's scope; must not sum gradients itself.
        loss: The head's loss.
        clip_norm: Greatest norm of the gradient.
        strategy: The strategy.
        timed: Whether waiting for input is measured; TensorFlow forbids clocks among deterministic ops.

    Returns:
        The function; it is traced once, whatever the number of steps.
    """
    now = tf.timestamp if timed else lambda: tf.constant(0.0, tf.float64)
    replica_step = _make_replica_step(model, optimizer, loss, clip_norm)

    def one_step(batches: Any, sums: tf.Tensor) -> tf.Tensor:
        # The clock starts when the step before is done, or a wait hidden behind it would count.
        with tf.control_dependencies([sums]):
            begin = now()
        with tf.control_dependencies([begin]):
            batch = next(batches)
        with tf.control_dependencies(tf.nest.flatten(strategy.experimental_local_results(batch))):
            waited = now() - begin
        reduced = strategy.run(replica_step, args=(batch,))
        # Already summed over replicas: any one's value is the value.
        total, count = (strategy.experimental_local_results(one)[0] for one in reduced)
        return sums + tf.stack([tf.cast(total, tf.float64), tf.cast(count, tf.float64), waited])

    # AutoGraph could write this loop, but not where it can't see the source, as under coverage on Python 3.12.
    @tf.function(autograph=False)
    def train_steps(batches: Any, steps: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
        _, sums = tf.while_loop(
            lambda step, _: step < steps,
            lambda step, sums: (step + 1, one_step(batches, sums)),
            (tf.constant(0), sums),
        )
        return sums

    return train_steps


def _make_replica_step(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss, clip_norm: float
) -> Callable[[Any], tuple[tf.Tensor, tf.Tensor]]:
    """One step of one replica: a batch to the sum of its loss and its count, over all replicas."""
    weights = model.trainable_variables

    def replica_step(batch: tuple[dict[str, tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        inputs, target = batch
        with tf.GradientTape() as tape:
            total, count = summed_loss(model, loss, inputs, target, training=True)
        # The gradient of an embedding comes as slices, which can't be divided or clipped with the others.
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(total, weights)]
        replicas = tf.distribute.get_replica_context()
        *gradients, total, count = replicas.all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, total, count])
        mean = [gradient / tf.maximum(count, 1.0) for gradient in gradients]
        clipped, _ = clip(mean, clip_norm)
        optimizer.apply(clipped, weights)
        return total, count

    return replica_step


def make_mean_loss(model: keras.Model, loss: Loss) -> Callable[[Iterator[Any]], float]:
    """Build the graph of the loss without training.

    Args:
        model: The model.
        loss: The head's loss.

    Returns:
        A function of batches of inputs and targets to the mean loss over their observed targets; NaN
        where there are none, infinity where the model's forecasts are no numbers.
    """

    @tf.function(reduce_retracing=True)
    def one_batch(inputs: Any, target: Any) -> tuple[tf.Tensor, tf.Tensor]:
        return summed_loss(model, loss, inputs, target, training=False)

    def mean_loss(batches: Iterator[Any]) -> float:
        total, count = 0.0, 0.0
        for inputs, target in batches:
            missing = len(next(iter(inputs.values()))) - len(target)
            padded = np.pad(target, ((0, missing), (0, 0)), constant_values=np.nan)
            one, counted = one_batch(inputs, padded)
            total, count = total + float(one), count + float(counted)
        # NaN says that nothing counts; a loss that is no number is as bad as can be.
        return (float("inf") if np.isnan(total) else total / count) if count else float("nan")

    return mean_loss
