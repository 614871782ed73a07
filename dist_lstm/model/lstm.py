"""The Keras model of a task and an architecture.

One step of an LSTM layer, for an input x and a state (h, c), with the gates i (input), f (forget), g (cell
update) and o (output):

    i = sigmoid(x W_i + h R_i + b_i)
    f = sigmoid(x W_f + h R_f + b_f)
    g = tanh(x W_g + h R_g + b_g)
    o = sigmoid(x W_o + h R_o + b_o)
    c' = f * c + i * g
    h' = o * tanh(c')

`*` multiplies elementwise. Keras stores the four gates side by side, in the order i, f, g, o:
`kernel` is [W_i W_f W_g W_o], `[F, 4U]`; `recurrent_kernel` is [R_i R_f R_g R_o], `[U, 4U]`; `bias` is
[b_i b_f b_g b_o], `[4U]`, with b_f 1 at the start. cuDNN takes the same gates in the same order, each
matrix transposed, as one flat buffer: W_i' W_f' W_g' W_o' R_i' R_f' R_g' R_o', then eight biases. It
adds a bias to the input product and one to the recurrent product; Keras sets the first four to zero and
the last four to `bias`. So both compute the same, and weights trained on one run on the other.

Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9 (1997); the forget gate:
Gers, Schmidhuber & Cummins, "Learning to Forget", Neural Computation 12 (2000).

Axes: B batch, T context, H horizon, P head parameters, F features of a step or segment, E features of a series,
S segments, U units.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras import ops

from dist_lstm.config.resolved import ResolvedModelSettings
from dist_lstm.config.task import Task, input_spec
from dist_lstm.model import decoder
from dist_lstm.model.covariates import calendar_waves, describe_series
from dist_lstm.model.cudnn import check_precision
from dist_lstm.model.encoder import encode
from dist_lstm.model.heads import apply_head, head_parameters
from dist_lstm.model.scaling import Denormalise, Normalise
from dist_lstm.model.statistics import ContextStatistics, is_described, loss_weight
from dist_lstm.model.transform import FixedTransform

#: Precisions in which the network computes with half the bits of its weights.
HALF = ("float16", "bfloat16")

#: Larger values of features would be infinite in float16.
_LARGEST_HALF = 6e4


@contextmanager
def layers_in(precision: str) -> Iterator[None]:
    """Layers that are built in the block compute in this precision; their weights are float32.

    A policy that the process has set for other models does not hold in the block.
    """
    policy, kind = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(f"mixed_{precision}" if precision in HALF else "float32")
    try:
        yield
    finally:
        keras.config.set_floatx(kind)
        keras.config.set_dtype_policy(policy)


@layers_in("float32")
def build_model(task: Task, settings: ResolvedModelSettings, precision: str = "float32") -> keras.Model:
    """The model of a task.

    Args:
        task: Lengths, quantile levels and inputs.
        settings: The architecture, resolved.
        precision: As `train.precision`; scaling, the linear part and the forecast stay in float32 in all of them.

    Returns:
        A model from the inputs of `input_spec(task)` to `forecast`, `[B, H, P]`, in target units; and the outputs
        for training: `scaled`, the same forecasts in units of scale, `[B, H, P]`, and `base`, `[B, H]`, `scale`
        and `unit`, `[B, 1]`, of `dist_lstm.model.scaling`, `transform`, `[B, 2]`, where the task sets one, and
        `weight`, `[B, 1]`, where errors are in units of the seasonal change. A context without any value is
        forecast as 0; `dist_lstm.forecast.predict` replaces that by NaN.

    Raises:
        ValueError: If the segment length is not resolved or does not divide the context.
        UserError: If this machine can't train in the precision.
    """
    check_precision(precision)
    segment, context = settings.segment_length, task.context_length
    if segment is None or context % segment:
        raise ValueError(f"segment_length {segment} does not divide {context}")
    inputs = {
        name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in input_spec(task).items()
    }
    transform = FixedTransform(task.transform)(inputs["y"]) if task.transform else inputs.get("transform")
    normalise = Normalise(
        settings.scaling, task.season_length, task.horizon, settings.fill_missing, name="normalise"
    )
    normalised = normalise(inputs["y"], transform=transform, series_scale=inputs.get("series_scale"))
    described = {}
    if is_described(settings):
        describe = ContextStatistics(task.season_length, name="context_statistics")
        described = describe(inputs["y"], normalised["unit"], transform=transform)
    statistics = described["statistics"] if settings.statistics else None
    series = describe_series(inputs, statistics, task, settings)
    features = normalised.pop("features")
    segments = ops.reshape(features, (-1, context // segment, features.shape[-1] * segment))
    if precision == "float16":
        segments = ops.clip(segments, -_LARGEST_HALF, _LARGEST_HALF)
    calendar = calendar_waves(inputs, task, range(-context, 0, segment), "calendar_past")
    with layers_in(precision):
        state = encode(_beside(segments, series, calendar), settings)
        raw = _decode(state, series, inputs, task, settings)
    if precision in HALF:
        raw = ops.cast(raw, "float32")
    scaled = apply_head(raw, settings.head, task)
    if settings.linear:
        scaled = scaled + _linear(features, task.horizon)
    forecast = Denormalise(name="denormalise")(scaled, **normalised, transform=transform)
    outputs = {"forecast": forecast, "scaled": scaled, **normalised}
    if task.transform:
        outputs["transform"] = transform
    if settings.loss_unit == "seasonal_change":
        outputs["weight"] = loss_weight(normalised["scale"], described["seasonal_change"])
    return keras.Model(inputs, outputs, name="dist_lstm")


def _beside(
    steps: keras.KerasTensor | None, series: keras.KerasTensor | None, calendar: keras.KerasTensor | None
) -> keras.KerasTensor | None:
    """Features of segments side by side, `[B, S, F]`; those of the series, `[B, E]`, are repeated for each."""
    parts = [part for part in (steps, calendar) if part is not None]
    if series is not None and parts:
        parts.append(ops.repeat(ops.expand_dims(series, 1), parts[0].shape[1], axis=1))
    return ops.concatenate(parts, axis=-1) if len(parts) > 1 else (parts[0] if parts else None)


def _linear(features: keras.KerasTensor, horizon: int) -> keras.KerasTensor:
    """A linear forecast that is added to the network's, `[B, H, 1]`; it starts at 0.

    It copies and averages past values, for which a saturating state is ill-suited.

    Source: Lai et al., "Modeling Long- and Short-Term Temporal Patterns with Deep Neural Networks", SIGIR 2018:
    the autoregressive part.

    Args:
        features: Features of steps, `[B, T, F]`.
        horizon: Steps to forecast.

    Returns:
        The linear part, in units of scale.
    """
    flat = ops.reshape(features, (-1, features.shape[1] * features.shape[2]))
    dense = keras.layers.Dense(horizon, use_bias=False, kernel_initializer="zeros", name="linear")
    return ops.expand_dims(dense(flat), -1)


def _decode(
    state: decoder.State,
    series: keras.KerasTensor | None,
    inputs: dict[str, keras.KerasTensor],
    task: Task,
    settings: ResolvedModelSettings,
) -> keras.KerasTensor:
    """The state to raw head parameters, `[B, H, P]`."""
    parameters = head_parameters(settings.head, task)
    if settings.decoder == "direct":
        # The calendar of the first step determines that of all others.
        first = calendar_waves(inputs, task, [0], "calendar_next")
        parts = [part for part in (series, None if first is None else first[:, 0]) if part is not None]
        about = ops.concatenate(parts, axis=-1) if len(parts) > 1 else (parts[0] if parts else None)
        return decoder.decode_directly(state, about, task.horizon, parameters)
    segment = min(settings.segment_length, task.horizon)
    segments = -(-task.horizon // segment)
    calendar = calendar_waves(inputs, task, range(0, segments * segment, segment), "calendar_next")
    decode = decoder.decode_segments if settings.decoder == "segment" else decoder.decode_recursively
    features = _beside(calendar, series, None)
    if features is None and series is not None:
        features = ops.repeat(ops.expand_dims(series, 1), segments, axis=1)
    numbers = decode(state, features, segments, segment * parameters)
    return ops.reshape(numbers, (-1, segments * segment, parameters))[:, : task.horizon]
