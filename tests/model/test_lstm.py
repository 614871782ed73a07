"""The model against NumPy, and what must hold of every forecast."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import TRANSFORMS, Task, input_spec
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import load_model, save_model
from tests.model import oracle

TASK = Task(
    horizon=4, context_length=12, min_context=1, freq=Frequency(1), season_length=6,
    levels=(80.0, 95.0), validation=4, test=4,
)  # fmt: skip
TRANSFORMED = replace(TASK, transformed=True)


def forecast(model: keras.Model, y: np.ndarray, transform: str | None = None) -> np.ndarray:
    inputs = {"y": y}
    if transform is not None:
        inputs["transform"] = np.tile(np.array(TRANSFORMS[transform], np.int32), (len(y), 1))
    return model(inputs)["forecast"].numpy()


def settings(**changes: object) -> ModelSettings:
    values = {"segment_length": 3, "units": (5, 7), "dropout": 0.2, "head": "quantile", "scaling": "standard"}
    return ModelSettings.model_validate(values | changes)


def contexts(batch: int = 6) -> np.ndarray:
    values = np.random.default_rng(3).normal(10, 4, (batch, 12)).astype(np.float32)
    values[0, :5] = np.nan
    values[1, 7] = np.nan
    return values


def test_the_model_computes_the_equations_of_its_docstring():
    model = build_model(TASK, settings(fill_missing=False))
    weights = np.random.default_rng(2).normal(0, 0.1, (24, 4))
    model.get_layer("linear").set_weights([weights])
    y = contexts()
    observed = ~np.isnan(y)
    mean = np.nanmean(y, axis=1, keepdims=True)
    deviation = np.nanstd(y, axis=1, keepdims=True)
    scaled = np.where(observed, (y - mean) / deviation, 0)
    steps = np.stack([scaled, observed], axis=-1)
    kernel, bias = model.get_layer("decoder").get_weights()
    for window in range(len(y)):
        first, *_ = oracle.lstm(steps[window].reshape(4, 6), oracle.weights_of(model, "lstm_0"))
        _, hidden, _ = oracle.lstm(first, oracle.weights_of(model, "lstm_1"))
        raw = (hidden @ kernel + bias).reshape(4, 5)
        gap = np.log1p(np.exp(raw))
        median = raw[:, 2]
        quantiles = np.stack(
            [median - gap[:, 1] - gap[:, 0], median - gap[:, 1], median,
             median + gap[:, 3], median + gap[:, 3] + gap[:, 4]], axis=-1,
        )  # fmt: skip
        linear = sum(steps[window, step, feature] * weights[2 * step + feature]
                     for step in range(12) for feature in range(2))  # fmt: skip
        expected = mean[window] + (quantiles + linear[:, None]) * deviation[window]
        np.testing.assert_allclose(forecast(model, y)[window], expected, rtol=1e-4, atol=1e-4)


def test_the_linear_part_starts_at_zero_and_can_be_left_out():
    keras.utils.set_random_seed(1)
    with_it = build_model(TASK, settings())
    keras.utils.set_random_seed(1)
    without = build_model(TASK, settings(linear=False))
    np.testing.assert_array_equal(forecast(with_it, contexts()), forecast(without, contexts()))
    assert "linear" not in [layer.name for layer in without.layers]


def test_quantiles_shift_with_the_linear_part():
    model = build_model(TASK, settings())
    before = model({"y": contexts()})["scaled"].numpy()
    model.get_layer("linear").set_weights([np.random.default_rng(2).normal(0, 1, (24, 4))])
    shift = model({"y": contexts()})["scaled"].numpy() - before
    assert np.abs(shift).min() > 0
    np.testing.assert_allclose(shift, np.repeat(shift[..., :1], 5, axis=-1), rtol=1e-3, atol=1e-5)


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


@pytest.mark.parametrize("name", ["none", "difference", "seasonal_difference"])
@pytest.mark.parametrize("scaling", ["standard", "robust", "minmax", "mean_abs"])
def test_a_series_1024_times_as_large_is_forecast_1024_times_as_large(scaling, name):
    model = build_model(TRANSFORMED, settings(scaling=scaling))
    small, large = (forecast(model, contexts() * factor, name) for factor in (1, 1024))
    # A power of two: no rounding differs.
    np.testing.assert_array_equal(large, small * 1024)
    untransformed = build_model(TASK, settings(scaling=scaling))
    small, large = (forecast(untransformed, contexts() * factor) for factor in (1, 1024))
    np.testing.assert_array_equal(large, small * 1024)


@pytest.mark.parametrize("name", ["none", "difference", "seasonal_difference"])
def test_a_series_on_another_level_is_forecast_on_that_level(name):
    for scaling in ("standard", "robust", "minmax"):
        model = build_model(TRANSFORMED, settings(scaling=scaling))
        low, high = (forecast(model, contexts() + level, name) for level in (0, 1000))
        np.testing.assert_allclose(high - 1000, low, atol=0.01)


@pytest.mark.parametrize("value", [0.0, 7.5, -3e6, 1e-9, 3e38])
def test_a_constant_context_is_forecast_as_the_constant(value):
    window = np.full((2, 12), value, np.float32)
    window[1, :9] = np.nan
    for scaling in ("standard", "robust", "minmax"):
        plain, model = (build_model(task, settings(scaling=scaling)) for task in (TASK, TRANSFORMED))
        np.testing.assert_array_equal(forecast(plain, window), np.float32(value))
        for name, (log, _) in TRANSFORMS.items():
            actual = forecast(model, window, name)
            if log:
                # A rounding of the log of 3e38, 88, is 1e-5 of the value.
                np.testing.assert_allclose(actual, np.float32(value), rtol=2e-5)
            else:
                np.testing.assert_array_equal(actual, np.float32(value))


def test_padding_before_the_start_of_a_series_does_not_change_its_scale():
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
