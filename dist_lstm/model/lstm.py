"""Task and architecture to a Keras model.

One step of an LSTM layer, for an input x and a state (h, c), with the gates i (input), f (forget), g (cell
update) and o (output):

    i = sigmoid(x W_i + h R_i + b_i)
    f = sigmoid(x W_f + h R_f + b_f)
    g = tanh(x W_g + h R_g + b_g)
    o = sigmoid(x W_o + h R_o + b_o)
    c' = f * c + i * g
    h' = o * tanh(c')

`*` multiplies element by element. Keras keeps the four gates side by side, in the order i, f, g, o:
`kernel` is [W_i W_f W_g W_o], `[F, 4U]`; `recurrent_kernel` is [R_i R_f R_g R_o], `[U, 4U]`; `bias` is
[b_i b_f b_g b_o], `[4U]`, with b_f 1 at the start. cuDNN takes the same gates in the same order, each
matrix transposed, as one flat buffer: W_i' W_f' W_g' W_o' R_i' R_f' R_g' R_o', then eight biases. It
adds a bias to the input product and one to the recurrent product; Keras sets the first four to zero and
the last four to `bias`. So both compute the same, and weights trained on one run on the other.

Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9 (1997); the forget gate:
Gers, Schmidhuber & Cummins, "Learning to Forget", Neural Computation 12 (2000).

Axes: B batch, T context, H horizon, P head parameters.
"""

import keras

from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import Task, input_spec
from dist_lstm.model.decoder import decode
from dist_lstm.model.encoder import encode
from dist_lstm.model.heads import apply_head, head_parameters
from dist_lstm.model.scaling import LossScale, Unscale, WindowScaling


def build_model(task: Task, settings: ModelSettings) -> keras.Model:
    """The model of a task.

    Args:
        task: Lengths and quantile levels.
        settings: The architecture, resolved.

    Returns:
        A model from the inputs of `input_spec(task)` to `forecast`, `[B, H, P]`, in target units, and
        `loss_scale`, `[B, 1]`, the unit in which its errors are measured in training. A context without
        any value is forecast as 0; `dist_lstm.forecast.predict` makes that NaN.

    Raises:
        ValueError: If the segment length is not resolved or does not divide the context.
    """
    if settings.segment_length is None or task.context_length % settings.segment_length:
        raise ValueError(f"segment_length {settings.segment_length} does not divide {task.context_length}")
    inputs = {
        name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in input_spec(task).items()
    }
    features, location, scale = WindowScaling(settings.scaling, name="scaling")(inputs["y"])
    state = encode(features, settings, settings.segment_length)
    raw = decode(state, task.horizon, head_parameters(settings.head, task))
    scaled = apply_head(raw, settings.head, task)
    outputs = {
        "forecast": Unscale(name="forecast")(scaled, location, scale),
        "loss_scale": LossScale(name="loss_scale")(location, scale),
    }
    return keras.Model(inputs, outputs, name="dist_lstm")
