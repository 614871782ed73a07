"""The model against a NumPy LSTM written from the equations in `dist_lstm.model.lstm`."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import Task, input_spec
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import load_model, save_model

TASK = Task(
    horizon=4, context_length=12, min_context=1, freq=Frequency(1), season_length=6,
    levels=(80.0, 95.0), validation=4, test=4,
)  # fmt: skip


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def numpy_lstm(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """All states of one layer, `[B, T, U]`, a step and a gate at a time."""
    units = recurrent.shape[0]
    w_i, w_f, w_g, w_o = np.split(kernel, 4, axis=1)
    r_i, r_f, r_g, r_o = np.split(recurrent, 4, axis=1)
    b_i, b_f, b_g, b_o = np.split(bias, 4)
    h = c = np.zeros((len(x), units))
    states = []
    for step in range(x.shape[1]):
        now = x[:, step]
        i = sigmoid(now @ w_i + h @ r_i + b_i)
        f = sigmoid(now @ w_f + h @ r_f + b_f)
        g = np.tanh(now @ w_g + h @ r_g + b_g)
        o = sigmoid(now @ w_o + h @ r_o + b_o)
        c = f * c + i * g
        h = o * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


def forecast(model: keras.Model, y: np.ndarray) -> np.ndarray:
    return model({"y": y})["forecast"].numpy()


def settings(**changes: object) -> ModelSettings:
    values = {"segment_length": 3, "units": (5, 7), "dropout": 0.2, "head": "quantile", "scaling": "standard"}
    return ModelSettings.model_validate(values | changes)


def contexts(batch: int = 6) -> np.ndarray:
    values = np.random.default_rng(3).normal(10, 4, (batch, 12)).astype(np.float32)
    values[0, :5] = np.nan
    values[1, 7] = np.nan
    return values


def test_the_model_computes_the_equations_of_its_docstring():
    model = build_model(TASK, settings())
    y = contexts()
    observed = ~np.isnan(y)
    mean = np.nanmean(y, axis=1, keepdims=True)
    deviation = np.nanstd(y, axis=1, keepdims=True)
    scaled = np.where(observed, (y - mean) / deviation, 0)
    steps = np.stack([scaled, observed], axis=-1).reshape(len(y), 4, 6)
    first = numpy_lstm(steps, *(np.asarray(w, np.float64) for w in model.get_layer("lstm_0").get_weights()))
    second = numpy_lstm(first, *(np.asarray(w, np.float64) for w in model.get_layer("lstm_1").get_weights()))
    kernel, bias = model.get_layer("decoder").get_weights()
    raw = (second[:, -1] @ kernel + bias).reshape(len(y), 4, 5)
    gap = np.log1p(np.exp(raw))
    median = raw[..., 2]
    ordered = np.stack(
        [median - gap[..., 1] - gap[..., 0], median - gap[..., 1], median,
         median + gap[..., 3], median + gap[..., 3] + gap[..., 4]], axis=-1,
    )  # fmt: skip
    expected = mean[..., None] + ordered * deviation[..., None]
    np.testing.assert_allclose(forecast(model, y), expected, rtol=1e-4, atol=1e-4)


def test_a_keras_kernel_reaches_cudnn_in_the_order_of_the_docstring():
    import dist_lstm.model.lstm  # noqa: F401 (loads Keras' backend)

    rnn = sys.modules["keras.src.backend.tensorflow.rnn"]
    import tensorflow as tf

    kernel = np.arange(2 * 12, dtype=np.float32).reshape(2, 12)
    recurrent = 100 + np.arange(3 * 12, dtype=np.float32).reshape(3, 12)
    bias = 1000 + np.arange(12, dtype=np.float32)
    flat = rnn._standardize_cudnn_weights(
        weights=[*tf.split(kernel, 4, axis=1), *tf.split(recurrent, 4, axis=1)],
        biases=tf.split(tf.concat((tf.zeros_like(bias), bias), 0), 8),
        shape=tf.constant([-1]),
        transpose_weights=True,
    )
    gates = [*np.split(kernel, 4, axis=1), *np.split(recurrent, 4, axis=1)]
    expected = np.concatenate([*(gate.T.ravel() for gate in gates), np.zeros(12), bias])
    np.testing.assert_array_equal(flat.numpy(), expected)


@pytest.mark.slow
def test_a_fresh_process_that_imports_the_package_reads_a_model_with_keras_alone(tmp_path):
    model = build_model(TASK, settings())
    save_model(model, tmp_path / "model.keras")
    np.save(tmp_path / "y.npy", contexts())
    lines = [
        "import sys, dist_lstm.model, keras, numpy",
        "model = keras.models.load_model(sys.argv[1] + '/model.keras')",
        "forecast = model({'y': numpy.load(sys.argv[1] + '/y.npy')})['forecast']",
        "numpy.save(sys.argv[1] + '/forecast.npy', forecast.numpy())",
    ]
    subprocess.run([sys.executable, "-c", "; ".join(lines), str(tmp_path)], check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "forecast.npy"), forecast(model, contexts()), rtol=1e-5)


def test_the_forget_gate_starts_open():
    bias = build_model(TASK, settings()).get_layer("lstm_0").get_weights()[2]
    np.testing.assert_array_equal(bias, [0.0] * 5 + [1.0] * 5 + [0.0] * 10)


def test_the_model_takes_what_input_spec_names():
    model = build_model(TASK, settings())
    assert {one.name: (one.shape[1:], one.dtype) for one in model.inputs} == input_spec(TASK)


@pytest.mark.parametrize("segment_length", [1, 12])
@pytest.mark.parametrize(
    ("head", "scaling"),
    [("quantile", "robust"), ("mae", "standard"), ("mse", "minmax"), ("huber", "mean_abs"), ("quantile", "none")],
)
def test_every_architecture_is_saved_and_loaded_with_the_same_forecasts(tmp_path, segment_length, head, scaling):
    model = build_model(TASK, settings(segment_length=segment_length, head=head, scaling=scaling, units=(4,)))
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert forecast(model, contexts()).shape == (6, 4, 5 if head == "quantile" else 1)
    np.testing.assert_array_equal(forecast(loaded, contexts()), forecast(model, contexts()))


@pytest.mark.parametrize("scaling", ["standard", "robust", "minmax", "mean_abs"])
def test_a_series_a_thousand_times_as_large_is_forecast_a_thousand_times_as_large(scaling):
    model = build_model(TASK, settings(scaling=scaling))
    small, large = (forecast(model, contexts() * factor) for factor in (1, 1024))
    np.testing.assert_allclose(large, small * 1024, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 7.5, -3e6, 1e-9])
def test_a_constant_context_is_forecast_as_the_constant(value):
    for scaling in ("standard", "robust", "minmax"):
        model = build_model(TASK, settings(scaling=scaling))
        found = forecast(model, np.full((2, 12), value, np.float32))
        np.testing.assert_array_equal(found, np.float32(value))


def test_what_lies_before_the_start_of_a_series_does_not_change_its_scale():
    model = build_model(TASK, settings(units=(4,)))
    padded = np.array([[np.nan] * 8 + [1, 3, 2, 5]], np.float32)
    np.testing.assert_allclose(forecast(model, padded * 8), forecast(model, padded) * 8, rtol=1e-5)


def test_a_segment_length_that_does_not_divide_the_context_is_refused():
    with pytest.raises(ValueError, match="5 does not divide 12"):
        build_model(TASK, settings(segment_length=5))


def test_no_code_in_a_model_file_is_run(tmp_path):
    inputs = keras.Input((12,), name="y")
    model = keras.Model(inputs, keras.layers.Lambda(lambda y: y * 2)(inputs))
    model.save(tmp_path / "model.keras")
    with pytest.raises(Exception, match="Lambda"):
        load_model(tmp_path / "model.keras")
