"""From the state at the cutoff to the parameters of every forecast step.

Axes: B batch, H horizon, S segments of the horizon, L steps of a segment, P head parameters, U units,
E features of a series, F features of a segment, W width of a segment's embedding.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

State = tuple[keras.KerasTensor, keras.KerasTensor]


def decode_directly(
    state: State, about: keras.KerasTensor | None, horizon: int, parameters: int
) -> keras.KerasTensor:
    """Forecast all steps at once, each by its own linear map of the state.

    Args:
        state: Hidden and cell state at the cutoff, each `[B, U]`.
        about: Features of the series and of the first forecast step, `[B, E]`, or None.
        horizon: Steps to forecast.
        parameters: Head parameters per step, P.

    Returns:
        Raw head parameters, `[B, H, P]`.
    """
    inputs = state[0] if about is None else ops.concatenate([state[0], about], axis=-1)
    flat = keras.layers.Dense(horizon * parameters, name="decoder")(inputs)
    return ops.reshape(flat, (-1, horizon, parameters))


@keras.saving.register_keras_serializable("dist_lstm", name="Places")
class SegmentEmbedding(keras.layers.Layer):
    """A learned vector for each segment of the horizon.

    Args:
        segments: Number of segments, S.
        width: Size of each vector, W.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, segments: int, width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.segments = segments
        self.width = width
        self.vectors_initializer = keras.initializers.GlorotUniform()
        self.vectors = self.add_weight(
            shape=(segments, width), initializer=self.vectors_initializer, name="vectors"
        )

    def call(self, state: keras.KerasTensor) -> keras.KerasTensor:
        """Repeat the vectors for each of the states, `[B, U]`, to `[B, S, W]`."""
        ones = ops.ones_like(state[:, :1])
        return ops.expand_dims(ones, -1) * ops.expand_dims(ops.cast(self.vectors, state.dtype), 0)

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"segments": self.segments, "width": self.width}


# Keras finds a layer's weights in a model file by the name of its class; this is the name in version 0.1.0.
SegmentEmbedding.__name__ = "Places"


def decode_segments(
    state: State, features: keras.KerasTensor | None, segments: int, outputs: int
) -> keras.KerasTensor:
    """Forecast segments in parallel, each by one step of an LSTM from the state at the cutoff.

    Source: Lin et al., "SegRNN", arXiv 2308.11200: parallel multi-step forecasting.

    Args:
        state: Hidden and cell state at the cutoff, each `[B, U]`.
        features: Features of each segment, `[B, S, F]`, or None.
        segments: Segments of the horizon, S.
        outputs: Head parameters per segment, L * P.

    Returns:
        Head parameters of each segment, `[B, S, L * P]`.
    """
    units = state[0].shape[-1]
    queries = SegmentEmbedding(segments, max(units // 2, 1), name="places")(state[0])
    if features is not None:
        queries = ops.concatenate([queries, features], axis=-1)
    steps = ops.reshape(queries, (-1, 1, queries.shape[-1]))
    repeated = [ops.reshape(ops.repeat(one, segments, axis=0), (-1, units)) for one in state]
    hidden = keras.layers.LSTM(units, name="decoder_lstm")(steps, initial_state=repeated)
    return ops.reshape(keras.layers.Dense(outputs, name="decoder")(hidden), (-1, segments, outputs))


def feed_back(
    lstm: Callable[..., Any],
    dense: Callable[..., Any],
    features: keras.KerasTensor,
    states: list[keras.KerasTensor],
) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """One step of an LSTM that reads its own last output.

    Args:
        lstm: One step: its input, and hidden and cell state, to the next hidden state and both next states.
        dense: Hidden state to output.
        features: Features of a segment, `[..., F]`.
        states: Hidden and cell state, each `[..., U]`, and last output, `[..., L * P]`.

    Returns:
        The output, `[..., L * P]`, and the next states.
    """
    *before, last = states
    hidden, (_, cell) = lstm(ops.concatenate([features, last], axis=-1), before)
    output = dense(hidden)
    return output, [hidden, cell, output]


@keras.saving.register_keras_serializable("dist_lstm")
class FeedbackCell(keras.layers.Layer):
    """A step of an LSTM that reads its own last output.

    Args:
        units: Units of the LSTM, U.
        outputs: Size of an output, L * P.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, units: int, outputs: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.outputs = outputs
        self.state_size = [units, units, outputs]
        self.output_size = outputs
        self.lstm = keras.layers.LSTMCell(units, name="lstm")
        self.dense = keras.layers.Dense(outputs, name="output")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for features of a segment, `[B, F]`."""
        self.lstm.build((None, (input_shape[-1] or 0) + self.outputs))
        self.dense.build((None, self.units))

    def call(
        self, features: keras.KerasTensor, states: list[keras.KerasTensor]
    ) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
        """One segment: features, `[B, F]`, and states to its parameters, `[B, L * P]`, and the next states."""
        return feed_back(self.lstm, self.dense, features, states)

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"units": self.units, "outputs": self.outputs}


def decode_recursively(
    state: State, features: keras.KerasTensor | None, segments: int, outputs: int
) -> keras.KerasTensor:
    """Forecast segments one after the other, each from the state and the forecast of the one before.

    Because of the feedback this loop can't use cuDNN; the encoder still does.

    Args:
        state: Hidden and cell state at the cutoff, each `[B, U]`.
        features: Features of each segment, `[B, S, F]`, or None.
        segments: Segments of the horizon, S.
        outputs: Head parameters per segment, L * P.

    Returns:
        Head parameters of each segment, `[B, S, L * P]`.
    """
    units = state[0].shape[-1]
    if features is None:
        features = ops.repeat(ops.expand_dims(ops.zeros_like(state[0][:, :1]), 1), segments, axis=1)
    first = ops.repeat(ops.zeros_like(state[0][:, :1]), outputs, axis=1)
    layer = keras.layers.RNN(
        FeedbackCell(units, outputs, name="feedback_cell"), return_sequences=True, name="decoder"
    )
    return layer(features, initial_state=[*state, first])
