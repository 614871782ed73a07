"""The recurrent part: scaled steps to the state at the cutoff.

Axes: B batch, T context, F features of a step, U units.
"""

import keras
import tensorflow as tf
from keras import ops

from dist_lstm.config.schema import ModelSettings


@keras.saving.register_keras_serializable("dist_lstm")
class ReplicaDropout(keras.layers.Dropout):
    """Dropout whose mask differs from replica to replica.

    Keras' own draws the same mask on all replicas of a MirroredStrategy, because they share its seed.
    """

    def call(self, inputs: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Drop inputs while training; `inputs` and the result have the same shape."""
        if not training or self.rate == 0:
            return inputs
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        seed = tf.cast(self.seed_generator.next(), tf.int32) + tf.stack([0, tf.cast(replica, tf.int32)])
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed=seed, rng_alg="philox")


def encode(features: keras.KerasTensor, settings: ModelSettings, segment_length: int) -> keras.KerasTensor:
    """Stacked LSTMs over steps or segments.

    A segment of steps is read at once, which cuts the recurrence by its length.

    Source: Lin et al., "SegRNN: Segment Recurrent Neural Network for Long-Term Time Series Forecasting",
    arXiv 2308.11200.

    Args:
        features: Scaled steps, `[B, T, F]`.
        settings: Units of each layer and dropout.
        segment_length: Steps of a segment, a divisor of T.

    Returns:
        The last state of the last layer, `[B, U]`.
    """
    steps, width = features.shape[1:]
    state = ops.reshape(features, (-1, steps // segment_length, segment_length * width))
    for number, units in enumerate(settings.units):
        inner = number < len(settings.units) - 1
        state = keras.layers.LSTM(units, return_sequences=inner, name=f"lstm_{number}")(state)
        if settings.dropout:
            state = ReplicaDropout(settings.dropout, name=f"dropout_{number}")(state)
    return state
