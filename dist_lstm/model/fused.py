"""M independent small models of one architecture as one graph: every weight has a leading model axis.

A thousand tiny LSTMs one after another leave every device idle; as batched matrix products they use it fully. The
graph is that of `build_model`, weight by weight, so a fused model is exported by giving its slice of the
weights to an ordinary model, and ordinary models are fused by stacking their weights.

Source: Wang et al., "Horizontally Fused Training Array", MLSys 2021, arXiv 2102.02344.

Axes: M fused models, B batch, T context, S segments, H horizon, F features, P head parameters, U units.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.resolved import ResolvedModelSettings
from dist_lstm.config.task import Task, input_spec
from dist_lstm.errors import UserError
from dist_lstm.model.heads import apply_head, head_parameters
from dist_lstm.model.scaling import Denormalise, Normalise, normalise_target

#: Weights by their path in the ordinary model, in the order of its `get_weights()`: tensors or arrays, `[M, ...]`.
Weights = Mapping[str, Any]
#: Model inputs of a fused model.
_INPUTS = frozenset({"y", "transform", "series_scale"})
#: The fractional part of the golden ratio, as 32 bits.
_GOLDEN = 0x9E3779B9


@dataclass(frozen=True)
class Noise:
    """State of the dropout of fused models, which does not depend on the other models.

    Attributes:
        rate: Share of inputs that each model drops, `[M]`.
        seed: Seed of each model, `[M]`, int32.
        step: Number of finished steps of each model, `[M]`, int32.
    """

    rate: tf.Tensor
    seed: tf.Tensor
    step: tf.Tensor


def check_fusable(task: Task, settings: ResolvedModelSettings) -> None:
    """Refuse models that can't be fused.

    Args:
        task: The task with its inputs.
        settings: The architecture.

    Raises:
        UserError: If the task or the architecture has a part that fused models do not have.
    """
    got = {
        "model.decoder": (settings.decoder, "direct"),
        "model.bidirectional": (settings.bidirectional, False),
        "model.residual": (settings.residual, False),
    }
    for key, (value, needed) in got.items():
        if value != needed:
            raise UserError(key, f"many small models are trained as one only with {needed}, got {value}")
    others = sorted(set(input_spec(task)) - _INPUTS)
    if others:
        raise UserError(
            f"{others[0]}",
            "many small models are trained as one only on values",
            "leave out static covariates, model.series_embedding and model.calendar",
        )


def stack_weights(model: keras.Model, weights: Sequence[Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """Fuse the weights of models of one architecture.

    Args:
        model: One of them, or another of the same architecture.
        weights: `get_weights()` of each.

    Returns:
        Weights by path, each `[M, ...]`.
    """
    paths = [variable.path for variable in model.weights]
    return {path: np.stack(parts) for path, parts in zip(paths, zip(*weights, strict=True), strict=True)}


def unstack_weights(weights: Weights, number: int) -> list[np.ndarray]:
    """The weights of one model, for `set_weights` of an ordinary model."""
    return [np.array(weight[number]) for weight in weights.values()]


def first_weights(model: keras.Model, seed: int) -> list[np.ndarray]:
    """Initial weights like those of `build_model`, without building a model.

    Args:
        model: A newly built model of the architecture: weights that are not random are taken from it.
        seed: Seed of the random weights.

    Returns:
        Weights in the order of `get_weights()`.
    """
    generator, drawn = np.random.default_rng(seed), {}
    for layer in model.layers:
        owner = getattr(layer, "cell", layer)
        for name, drawn_by in (("kernel", "kernel_initializer"), ("recurrent_kernel", "recurrent_initializer")):
            initializer = getattr(owner, drawn_by, None)
            if initializer is not None and "seed" in (values := initializer.get_config()):
                variable = getattr(owner, name)
                again = type(initializer).from_config(values | {"seed": int(generator.integers(2**31))})
                with tf.device("CPU:0"):  # on a GPU, each of these small draws would have to be waited for
                    drawn[variable.path] = again(variable.shape).numpy()
    return [
        drawn.get(variable.path, value) for variable, value in zip(model.weights, model.get_weights(), strict=True)
    ]


def normalise_windows(
    inputs: Mapping[str, tf.Tensor], target: tf.Tensor, task: Task, settings: ResolvedModelSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Features and scaled targets of windows; they do not depend on any weight.

    Args:
        inputs: Model inputs, each `[B, ...]`.
        target: Targets, `[B, H]`, in target units; NaN is missing.
        task: The task.
        settings: The architecture.

    Returns:
        Features, `[B, T, F]`; and targets in the network's units, `[B, H]`, NaN where one is not used: if it is
        missing, and in a window whose context does not vary.
    """
    transform = inputs.get("transform")
    normalised = _normalise(inputs, task, settings)
    counted = tf.logical_and(tf.logical_not(tf.math.is_nan(target)), normalised["scale"] > 0)
    scaled = normalise_target(tf.where(counted, target, tf.zeros_like(target)), normalised, transform)
    return normalised["features"], tf.where(counted, scaled, tf.fill(tf.shape(scaled), float("nan")))


def _normalise(
    inputs: Mapping[str, tf.Tensor], task: Task, settings: ResolvedModelSettings
) -> dict[str, tf.Tensor]:
    layer = Normalise(settings.scaling, task.season_length, task.horizon, dtype="float32")
    return layer(inputs["y"], transform=inputs.get("transform"), series_scale=inputs.get("series_scale"))


def fused_outputs(
    weights: Weights, inputs: Mapping[str, tf.Tensor], task: Task, settings: ResolvedModelSettings
) -> dict[str, tf.Tensor]:
    """Forecasts of fused models, each of its own windows.

    Args:
        weights: Their weights.
        inputs: Model inputs, each `[M, B, ...]`.
        task: The task.
        settings: The architecture.

    Returns:
        The outputs of `build_model`, each `[M, B, ...]`.
    """
    models, batch, _ = _sizes(inputs["y"])

    def per_model(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, (models, batch, *values.shape[1:]))

    flat = {name: tf.reshape(values, (models * batch, *values.shape[2:])) for name, values in inputs.items()}
    normalised = _normalise(flat, task, settings)
    features = normalised.pop("features")
    scaled = fused_network(weights, per_model(features), task, settings)
    every = tf.reshape(scaled, (models * batch, *scaled.shape[2:]))
    forecast = Denormalise(dtype="float32")(every, **normalised, transform=flat.get("transform"))
    outputs = {"forecast": forecast, **normalised}
    return {"scaled": scaled, **{name: per_model(values) for name, values in outputs.items()}}


def fused_network(
    weights: Weights, features: tf.Tensor, task: Task, settings: ResolvedModelSettings, noise: Noise | None = None
) -> tf.Tensor:
    """Features to scaled forecasts of each model.

    Args:
        weights: Weights of the models.
        features: Features of steps, `[M, B, T, F]`.
        task: The task.
        settings: The architecture; its rate of dropout is not used.
        noise: Dropout during training; None for none.

    Returns:
        Scaled forecasts, `[M, B, H, P]`.
    """
    models, batch, context, width = _sizes(features)
    segment, layers = settings.segment_length, settings.units
    values = tf.reshape(features, (models, batch, context // segment, segment * width))
    for number in range(len(layers)):
        parts = [weights[f"lstm_{number}/lstm_cell/{part}"] for part in ("kernel", "recurrent_kernel", "bias")]
        values = _lstm(values, parts, every=number < len(layers) - 1)
        values = values if noise is None else _drop(values, noise, number)
    raw = tf.matmul(values, weights["decoder/kernel"]) + weights["decoder/bias"][:, None]
    raw = tf.reshape(raw, (models, batch, task.horizon, head_parameters(settings.head, task)))
    scaled = apply_head(raw, settings.head, task)
    if settings.linear:
        flat = tf.reshape(features, (models, batch, context * width))
        scaled = scaled + tf.expand_dims(tf.matmul(flat, weights["linear/kernel"]), -1)
    return scaled


def _sizes(values: Any) -> list[int]:
    """The axes of a tensor or an array; XLA needs all of them to be known."""
    return [int(size) for size in values.shape]


def _lstm(steps: tf.Tensor, weights: Sequence[tf.Tensor], every: bool) -> tf.Tensor:
    """Hidden states of M LSTM layers; `dist_lstm.model.lstm` has the equations.

    One product per step, [x 1 h] times all weights: computing the input product of all steps before the loop costs
    more in memory traffic than it saves in arithmetic, and so does its gradient.

    Args:
        steps: Inputs, `[M, B, S, F]`.
        weights: Kernels, `[M, F, 4U]`, recurrent kernels, `[M, U, 4U]`, and biases, `[M, 4U]`.
        every: Whether to return the states of all steps, which takes a third of the time.

    Returns:
        Hidden states, `[M, B, S, U]`, or those after the last step, `[M, B, U]`.
    """
    models, batch, length, _ = _sizes(steps)
    kernel, recurrent, bias = weights
    joined = tf.concat([kernel, tf.expand_dims(bias, 1), recurrent], axis=1)
    inputs = tf.transpose(tf.concat([steps, tf.ones_like(steps[:, :, :, :1])], axis=-1), (2, 0, 1, 3))
    state = tf.zeros((models, batch, recurrent.shape[1]))
    kept = (tf.TensorArray(tf.float32, length, element_shape=state.shape),) if every else ()

    def one_step(step: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor, *kept: tf.TensorArray) -> tuple[Any, ...]:
        gates = tf.matmul(tf.concat([inputs[step], hidden], axis=-1), joined)
        i, f, g, o = tf.split(gates, 4, axis=-1)
        cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)
        hidden = tf.sigmoid(o) * tf.tanh(cell)
        return step + 1, hidden, cell, *(states.write(step, hidden) for states in kept)

    loop = (tf.constant(0), state, state, *kept)
    # With the bound XLA knows the memory that the gradient needs.
    _, last, _, *kept = tf.while_loop(lambda step, *_: step < length, one_step, loop, maximum_iterations=length)
    return tf.transpose(kept[0].stack(), (1, 2, 0, 3)) if every else last


def _drop(values: tf.Tensor, noise: Noise, layer: int) -> tf.Tensor:
    """Dropout; each model's mask depends on its own seed and step only.

    TensorFlow's generators take one seed for all models, so the bits are those of a hashed counter.

    Source: Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.

    Args:
        values: Values, `[M, ...]`.
        noise: Rates, seeds and steps.
        layer: Index of the layer, for a mask of its own.

    Returns:
        Values, `[M, ...]`, 0 or divided by 1 - rate.
    """
    key = _mix(_mix(_mix(tf.cast(noise.seed, tf.uint32)) + tf.cast(noise.step, tf.uint32)) + np.uint32(layer))
    counter = tf.cast(tf.range(math.prod(_sizes(values)[1:])), tf.uint32) * np.uint32(_GOLDEN)
    bits = tf.reshape(_mix(key[:, None] + counter), values.shape)
    # 24 bits are what a float32 holds.
    uniform = tf.cast(tf.bitwise.right_shift(bits, np.uint32(8)), tf.float32) * 2.0**-24
    rate = tf.reshape(noise.rate, (-1,) + (1,) * (values.shape.rank - 1))
    return tf.where(uniform >= rate, values / (1 - rate), tf.zeros_like(values))


def _mix(bits: tf.Tensor) -> tf.Tensor:
    """The finaliser of MurmurHash3: every bit of the result depends on every bit of the input."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, np.uint32(shift))) * np.uint32(factor)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, np.uint32(16)))
