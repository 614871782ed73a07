"""The recurrent part: from scaled steps to the state at the cutoff.

Axes: B batch, T context, S segments of the context, F features of a segment, U units.
"""

import keras
import tensorflow as tf
from keras import ops

from dist_lstm.config.resolved import ResolvedModelSettings


@keras.saving.register_keras_serializable("dist_lstm")
class ReplicaDropout(keras.layers.Dropout):
    """Dropout whose mask differs from replica to replica.

    Keras' own layer draws the same mask on all replicas of a MirroredStrategy, because they share its seed.
    """

    def call(self, inputs: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Drop inputs during training; `inputs` and the result have the same shape."""
        if not training or self.rate == 0:
            return inputs
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        seed = tf.cast(self.seed_generator.next(), tf.int32) + tf.stack([0, tf.cast(replica, tf.int32)])
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed=seed, rng_alg="philox")


def encode(
    segments: keras.KerasTensor, settings: ResolvedModelSettings
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Stacked LSTMs over segments.

    A segment of steps is read at once, which divides the number of recurrent steps by its length.

    Source: Lin et al., "SegRNN: Segment Recurrent Neural Network for Long-Term Time Series Forecasting",
    arXiv 2308.11200; layers that read backwards as well: Schuster & Paliwal, "Bidirectional Recurrent Neural
    Networks", IEEE Transactions on Signal Processing 45 (1997); residual layers: Wu et al., "Google's Neural
    Machine Translation System", arXiv 1609.08144.

    Args:
        segments: Scaled steps and covariates of each segment, `[B, S, F]`, S is T / segment_length.
        settings: Units of each layer, direction, residual connections and dropout.

    Returns:
        Hidden state and cell state of the last layer at the cutoff, each `[B, U]`; `[B, 2U]` if it is
        bidirectional.
    """
    layers = settings.units
    sequence, last = segments, len(layers) - 1
    hidden = cell = segments[:, -1]
    for number, units in enumerate(layers):
        layer = keras.layers.LSTM(units, return_sequences=number < last, return_state=True, name=f"lstm_{number}")
        if settings.bidirectional:
            layer = keras.layers.Bidirectional(layer, name=f"both_ways_{number}")
        output, *states = layer(sequence)
        hidden, cell = (_side_by_side(states[direction::2]) for direction in (0, 1))
        if settings.residual:
            skip = _as_wide(sequence if number < last else sequence[:, -1], hidden.shape[-1], f"skip_{number}")
            output, hidden = output + skip, hidden + (skip if number == last else skip[:, -1])
        if settings.dropout:
            dropped = output if number < last else hidden
            dropped = ReplicaDropout(settings.dropout, name=f"dropout_{number}")(dropped)
            output, hidden = (dropped, hidden) if number < last else (output, dropped)
        sequence = output
    return hidden, cell


def _side_by_side(states: list[keras.KerasTensor]) -> keras.KerasTensor:
    return states[0] if len(states) == 1 else ops.concatenate(states, axis=-1)


def _as_wide(values: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """The values if they have the width, otherwise a linear map of them to it."""
    return values if values.shape[-1] == width else keras.layers.Dense(width, use_bias=False, name=name)(values)
