"""The layers of `build_model` for M models at once: their weights and their values have a leading model axis.

A value that is the same for all models has a model axis of size 1, and is computed once.

Axes: M fused models, B batch, S segments or steps, F features, W outputs or width of an embedding, U units.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.model.covariates import IdDropout
from dist_lstm.model.decoder import FeedbackCell, SegmentEmbedding, feed_back
from dist_lstm.model.encoder import ReplicaDropout

#: Weights by their path in the ordinary model, in the order of its `get_weights()`; each `[M, ...]`.
Weights = Mapping[str, Any]
#: One step of a recurrence: input, `[M, B, F]`, and states, each `[M, B, U]`, to output and next states.
_Step = Callable[[tf.Tensor, list[tf.Tensor]], tuple[tf.Tensor, list[tf.Tensor]]]
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

    def uniform(self, name: str, shape: Sequence[int]) -> tf.Tensor:
        """Uniform random numbers in [0, 1); those of a model depend on its own seed and step only.

        TensorFlow's generators take one seed for all models, so the bits are those of a hashed counter.

        Source: Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.

        Args:
            name: Name of the layer, for numbers of its own.
            shape: Shape of each model's numbers.

        Returns:
            The numbers, `[M, *shape]`.
        """
        layer = np.uint32(zlib.crc32(name.encode()))
        key = _mix(_mix(_mix(tf.cast(self.seed, tf.uint32)) + tf.cast(self.step, tf.uint32)) + layer)
        counter = tf.cast(tf.range(math.prod(shape)), tf.uint32) * np.uint32(_GOLDEN)
        bits = tf.reshape(_mix(key[:, None] + counter), (-1, *shape))
        # 24 bits are what a float32 holds.
        return tf.cast(tf.bitwise.right_shift(bits, np.uint32(8)), tf.float32) * 2.0**-24


def _mix(bits: tf.Tensor) -> tf.Tensor:
    """The finaliser of MurmurHash3: every bit of the result depends on every bit of the input."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, np.uint32(shift))) * np.uint32(factor)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, np.uint32(16)))


@dataclass(frozen=True)
class Fused:
    """What layers need to compute all models at once.

    Attributes:
        weights: Weights of the models.
        noise: Dropout during training; None for none.
    """

    weights: Weights
    noise: Noise | None

    def of(self, variable: keras.Variable) -> tf.Tensor:
        """The weights of all models for a variable of the ordinary model, `[M, ...]`."""
        return self.weights[variable.path]


def sizes(values: Any) -> list[int]:
    """The axes of a tensor or an array; XLA needs all of them to be known."""
    return [int(size) for size in values.shape]


def repeat_models(values: tf.Tensor, models: int) -> tf.Tensor:
    """Values with a model axis of size M or 1, repeated to `[M, ...]`."""
    return values if values.shape[0] == models else tf.repeat(values, models, axis=0)


def _dense(fused: Fused, layer: keras.layers.Dense, inputs: tf.Tensor) -> tf.Tensor:
    """Linear maps of inputs, `[M, B, F]` or `[M, B, S, F]`, to `[M, B, W]` or `[M, B, S, W]`."""
    kernel = fused.of(layer.kernel)
    flat = tf.reshape(inputs, (inputs.shape[0], -1, inputs.shape[-1]))
    outputs = tf.matmul(flat, kernel)
    if layer.use_bias:
        outputs += tf.expand_dims(fused.of(layer.bias), 1)
    return tf.reshape(layer.activation(outputs), (kernel.shape[0], -1, *inputs.shape[2:-1], kernel.shape[-1]))


def _embedding(fused: Fused, layer: keras.layers.Embedding, ids: tf.Tensor) -> tf.Tensor:
    """Vectors of indices, `[M, B]` or `[M, B, S]`, with an axis W more."""
    vectors = fused.of(layer.embeddings)
    return tf.gather(vectors, repeat_models(ids, sizes(vectors)[0]), batch_dims=1)


def _segment_embedding(fused: Fused, layer: SegmentEmbedding, state: tf.Tensor) -> tf.Tensor:
    """The vectors of segments for each of the states, `[M, B, U]`, to `[M, B, S, W]`."""
    return tf.ones_like(state[:, :, :1, None]) * tf.expand_dims(fused.of(layer.vectors), 1)


def _dropout(fused: Fused, layer: ReplicaDropout, values: tf.Tensor) -> tf.Tensor:
    """Values of which each model drops its own share; the others are divided by 1 - rate."""
    if fused.noise is None:
        return values
    rate = tf.reshape(fused.noise.rate, (-1,) + (1,) * (values.shape.rank - 1))
    kept = fused.noise.uniform(layer.name, sizes(values)[1:]) >= rate
    return tf.where(kept, values / (1 - rate), tf.zeros_like(values))


def _id_dropout(fused: Fused, layer: IdDropout, ids: tf.Tensor) -> tf.Tensor:
    """Indices, `[M, B, S]`, of which each model takes all of some windows to be unknown."""
    if fused.noise is None or layer.rate == 0:
        return ids
    kept = fused.noise.uniform(layer.name, (sizes(ids)[1], 1)) >= layer.rate
    return tf.where(kept, ids, tf.zeros_like(ids))


def _joined(fused: Fused, cell: keras.layers.LSTMCell) -> tf.Tensor:
    """All weights of LSTM cells: those of an input, the bias, those of the state, `[M, F + 1 + U, 4U]`."""
    kernel, bias, recurrent = (fused.of(one) for one in (cell.kernel, cell.bias, cell.recurrent_kernel))
    return tf.concat([kernel, tf.expand_dims(bias, 1), recurrent], axis=1)


def _lstm_step(joined: tf.Tensor, inputs: tf.Tensor, states: list[tf.Tensor]) -> list[tf.Tensor]:
    """One step of LSTMs; `dist_lstm.model.lstm` has the equations.

    One product per step, [x 1 h] times all weights: computing the input product of all steps before the loop costs
    more in memory traffic than it saves in arithmetic, and so does its gradient.

    Args:
        joined: All weights, `[M, F + 1 + U, 4U]`.
        inputs: Inputs and a 1, `[M, B, F + 1]`.
        states: Hidden and cell state, each `[M, B, U]`.

    Returns:
        The next hidden and cell state.
    """
    hidden, cell = states
    i, f, g, o = tf.split(tf.matmul(tf.concat([inputs, hidden], axis=-1), joined), 4, axis=-1)
    cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)
    return [tf.sigmoid(o) * tf.tanh(cell), cell]


def _with_one(inputs: tf.Tensor) -> tf.Tensor:
    """Inputs with a feature more, which is 1."""
    return tf.concat([inputs, tf.ones((*sizes(inputs)[:-1], 1))], axis=-1)


def _recur(sequence: tf.Tensor, states: list[tf.Tensor], one_step: _Step, width: int | None) -> list[tf.Tensor]:
    """Run a recurrence over the steps of a sequence.

    Args:
        sequence: Inputs, `[M, B, S, F]`; of a model axis of size 1 if all models have the same.
        states: States before the first step, each `[M, B, U]`.
        one_step: One step.
        width: Width of the outputs, W, which take a third of the time; None for the last states only.

    Returns:
        Outputs of all steps, `[M, B, S, W]`, unless `width` is None; and the last states.
    """
    inputs = tf.transpose(sequence, (2, 0, 1, 3))
    length, (models, batch, _) = sizes(inputs)[0], sizes(states[0])
    kept = () if width is None else (tf.TensorArray(tf.float32, length, element_shape=(models, batch, width)),)

    def body(step: tf.Tensor, states: list[tf.Tensor], kept: tuple[tf.TensorArray, ...]) -> tuple[Any, ...]:
        output, states = one_step(repeat_models(inputs[step], models), states)
        return step + 1, states, tuple(outputs.write(step, output) for outputs in kept)

    # With the bound XLA knows the memory that the gradient needs.
    _, states, kept = tf.while_loop(
        lambda step, *_: step < length, body, (tf.constant(0), states, kept), maximum_iterations=length
    )
    return [*(tf.transpose(outputs.stack(), (1, 2, 0, 3)) for outputs in kept), *states]


def _lstm(
    fused: Fused, layer: keras.layers.LSTM, sequence: tf.Tensor, initial_state: list[tf.Tensor] | None = None
) -> list[tf.Tensor] | tf.Tensor:
    """LSTM layers over sequences, `[M, B, S, F]`; the result is that of the layer."""
    joined = _joined(fused, layer.cell)
    if initial_state is None:
        zeros = tf.zeros((sizes(joined)[0], sizes(sequence)[1], layer.units))
        initial_state = [zeros, zeros]

    def one_step(inputs: tf.Tensor, states: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        hidden, cell = _lstm_step(joined, inputs, states)
        return hidden, [hidden, cell]

    steps = _with_one(tf.reverse(sequence, [2]) if layer.go_backwards else sequence)
    if layer.return_sequences:
        outputs, *states = _recur(steps, initial_state, one_step, layer.units)
    else:
        states = _recur(steps, initial_state, one_step, None)
        outputs = states[0]
    return [outputs, *states] if layer.return_state else outputs


def _bidirectional(fused: Fused, layer: keras.layers.Bidirectional, sequence: tf.Tensor) -> list[tf.Tensor]:
    """LSTM layers in both directions; outputs of all or the last steps, side by side, and the states of both."""
    forward, *states = _lstm(fused, layer.forward_layer, sequence)
    backward, *more = _lstm(fused, layer.backward_layer, sequence)
    if layer.return_sequences:
        backward = tf.reverse(backward, [2])
    return [tf.concat([forward, backward], axis=-1), *states, *more]


def _recursive(
    fused: Fused, layer: keras.layers.RNN, features: tf.Tensor, initial_state: list[tf.Tensor]
) -> tf.Tensor:
    """A recurrence whose steps read their own last output.

    Args:
        fused: Weights of the models.
        layer: A layer with a `FeedbackCell`.
        features: Features of steps, `[M, B, S, F]`.
        initial_state: Hidden and cell state, each `[M, B, U]`, and last output, `[M, B, W]`.

    Returns:
        Outputs of all steps, `[M, B, S, W]`.

    Raises:
        TypeError: If the cell is another.
    """
    cell = layer.cell
    if not isinstance(cell, FeedbackCell):
        raise TypeError(f"no fused form of {type(cell).__name__}")
    joined = _joined(fused, cell.lstm)

    def lstm(inputs: tf.Tensor, states: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        states = _lstm_step(joined, _with_one(inputs), states)
        return states[0], states

    def one_step(inputs: tf.Tensor, states: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        return feed_back(lstm, lambda hidden: _dense(fused, cell.dense, hidden), inputs, states)

    states = [repeat_models(one, sizes(joined)[0]) for one in initial_state]
    return _recur(features, states, one_step, cell.outputs)[0]


#: By type of layer: how all models compute it at once. A layer without weights and without dropout needs no entry.
FUSED_LAYERS: Mapping[type, Callable[..., Any]] = {
    keras.layers.Dense: _dense,
    keras.layers.Embedding: _embedding,
    keras.layers.LSTM: _lstm,
    keras.layers.Bidirectional: _bidirectional,
    keras.layers.RNN: _recursive,
    SegmentEmbedding: _segment_embedding,
    ReplicaDropout: _dropout,
    IdDropout: _id_dropout,
}
