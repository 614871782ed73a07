"""Fused models against ordinary ones."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import Task
from dist_lstm.model.fused import FusedModel, first_weights, stack_weights, unstack_weights
from dist_lstm.model.fused_layers import Noise
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import load_model, save_model
from dist_lstm.train.step import summed_loss
from tests.model.test_architectures import (
    AXES,
    CHOSEN,
    HORIZON,
    Choice,
    contexts,
    covering,
    every_combination,
    make,
    make_inputs,
    name_of,
)  # fmt: skip
from tests.model.test_lstm import TASK, settings

MODELS = 3
#: Every choice of every axis is in one of them.
SAMPLE = covering(every_combination(), strength=1)


def random_weights(model: keras.Model, seed: int) -> list[np.ndarray]:
    """No weight is 0, so that none can be left out unseen."""
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 0.3, weight.shape).astype(np.float32) for weight in model.get_weights()]


def make_windows(task: Task) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs, `[M, B, ...]`, and targets, `[M, B, H]`, with missing values, constant and empty contexts."""
    inputs, generator = make_inputs(task, contexts()), np.random.default_rng(4)
    orders = [generator.permutation(len(inputs["y"])) for _ in range(MODELS)]
    target = generator.normal(3, 2, (MODELS, len(inputs["y"]), HORIZON)).astype(np.float32)
    target[0, 1, 2:] = np.nan
    return {name: np.stack([values[order] for order in orders]) for name, values in inputs.items()}, target


def check_fused(choice: Choice, number: int, same_windows: bool) -> None:
    """Compare forecasts, losses and gradients of fused models with those of each alone."""
    task, shape = make(choice, number)
    fused = FusedModel(task, shape)
    model, loss = fused.ordinary, head_loss(shape.head, task)
    assert len({one.path for one in model.weights}) == len(model.weights)
    each = [random_weights(model, seed) for seed in range(MODELS)]
    inputs, target = make_windows(task)
    if same_windows:
        given, given_target = {name: values[0] for name, values in inputs.items()}, target[0]
        inputs = {name: np.stack([values] * MODELS) for name, values in given.items()}
        target = np.stack([given_target] * MODELS)
        network_inputs, scaled_target = fused.normalise(given, given_target)
        scaled_target = np.stack([scaled_target] * MODELS)
    else:
        given, flat = inputs, {name: values.reshape(-1, *values.shape[2:]) for name, values in inputs.items()}
        normalised = fused.normalise(flat, target.reshape(-1, HORIZON))
        network_inputs, scaled_target = tf.nest.map_structure(
            lambda one: np.reshape(one, (MODELS, -1, *one.shape[1:])), normalised
        )
    weights = {path: tf.constant(one) for path, one in stack_weights(model, each).items()}
    outputs, counted = fused.outputs(weights, given), ~np.isnan(scaled_target)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        errors = loss(np.where(counted, scaled_target, 0), fused.network(weights, network_inputs))
        weight = counted * np.expand_dims(network_inputs["weight"], -1)
        losses = tf.reduce_sum(errors * weight, axis=(1, 2)) / weight.sum(axis=(1, 2))
    gradients = tape.gradient(losses, weights)
    for index, own in enumerate(each):
        model.set_weights(own)
        windows = {name: tf.constant(values[index]) for name, values in inputs.items()}
        expected = model(windows)
        assert outputs.keys() == expected.keys()
        for name, values in expected.items():
            assert outputs[name][index].shape == values.shape
            np.testing.assert_allclose(outputs[name][index], values, rtol=1e-5, atol=1e-5, err_msg=name)
        with tf.GradientTape() as tape:
            total, count = summed_loss(model, loss, windows, target[index], training=False)
            mean = total / count
        np.testing.assert_allclose(count, weight[index].sum(), rtol=1e-5)
        np.testing.assert_allclose(losses[index], mean, rtol=1e-5)
        for variable, one in zip(model.weights, tape.gradient(mean, model.weights), strict=True):
            gradient, path = tf.convert_to_tensor(one).numpy(), variable.path
            near = 1e-5 * max(1, np.abs(gradient).max())
            np.testing.assert_allclose(gradients[path][index], gradient, rtol=0, atol=near, err_msg=path)


@pytest.mark.parametrize(("number", "choice"), list(enumerate(SAMPLE)), ids=[name_of(one) for one in SAMPLE])
def test_every_fused_model_equals_the_ordinary_one(number, choice):
    check_fused(choice, number, same_windows=number % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "choice"), list(enumerate(CHOSEN)), ids=[name_of(one) for one in CHOSEN])
def test_every_pair_of_choices_is_fused(number, choice):
    check_fused(choice, number, same_windows=number % 2 == 1)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", AXES["decoder"])
@pytest.mark.parametrize("bidirectional", AXES["bidirectional"])
@pytest.mark.parametrize("residual", AXES["residual"])
def test_every_network_is_fused(decoder, bidirectional, residual):
    network = {"decoder": decoder, "bidirectional": bidirectional, "residual": residual}
    for number, covariates in enumerate(AXES["covariates"]):
        keras.backend.clear_session()
        others = {name: AXES[name][number % len(AXES[name])] for name in ("head", "values", "linear")}
        check_fused(network | {"covariates": covariates} | others, number, same_windows=number % 2 == 0)


def test_a_fused_model_is_saved_and_loaded_as_an_ordinary_one(tmp_path):
    model = build_model(TASK, settings())
    each = [random_weights(model, seed) for seed in range(MODELS)]
    stacked = stack_weights(model, each)
    y = np.random.default_rng(4).normal(10, 4, (MODELS, 5, TASK.context_length)).astype(np.float32)
    model.set_weights(unstack_weights(stacked, 1))
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    forecast = loaded({"y": y[1]})["forecast"]
    expected = FusedModel(TASK, settings()).outputs(stacked, {"y": y})["forecast"][1]
    np.testing.assert_allclose(forecast, expected, rtol=1e-5, atol=1e-5)
    for one, two in zip(unstack_weights(stacked, 2), each[2], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("decoder", AXES["decoder"])
def test_first_weights_are_drawn_as_a_new_model_draws_them(decoder):
    choice = {name: values[-1] for name, values in AXES.items()} | {"covariates": "all", "linear": True}
    task, shape = make(choice | {"decoder": decoder}, units=(32, 16), series_embedding=32)
    model = build_model(task, shape)
    first = first_weights(model, 3)
    drawn = dict(zip((one.path for one in model.weights), first, strict=True))
    for variable in model.weights:
        values, built = drawn[variable.path], variable.numpy()
        assert values.shape == built.shape
        if variable.path.endswith("recurrent_kernel"):
            np.testing.assert_allclose(values @ values.T, np.eye(len(values)), atol=1e-5)
        elif variable.path.endswith("bias") or variable.path.startswith("linear"):
            np.testing.assert_array_equal(values, built)
        else:
            assert (values != built).any()
            limit = 0.05 if variable.path.endswith("embeddings") else np.sqrt(6 / sum(values.shape))
            assert np.abs(values).max() <= limit
            assert values.size < 500 or np.abs(values).max() >= 0.95 * limit
            assert values.size < 500 or values.std() == pytest.approx(built.std(), rel=0.1)
    random = [values.tobytes() for path, values in drawn.items() if not path.endswith("bias")]
    assert len(set(random)) == len(random), "no two are alike"


def test_first_weights_depend_on_the_seed_only():
    model = build_model(TASK, settings())
    keras.utils.set_random_seed(1)
    one = first_weights(model, 3)
    keras.utils.set_random_seed(2)
    for left, right in zip(one, first_weights(model, 3), strict=True):
        np.testing.assert_array_equal(left, right)
    other = first_weights(model, 4)
    assert [bool((left != right).any()) for left, right in zip(one, other, strict=True)] == [
        "kernel" in variable.path and "linear" not in variable.path for variable in model.weights
    ]


def test_a_layer_without_a_fused_form_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("dist_lstm.model.fused.FUSED_LAYERS", {})
    with pytest.raises(TypeError, match="no fused form of LSTM"):
        FusedModel(TASK, settings())


WIDE = ModelSettings(segment_length=3, units=(64, 64), head="mae", linear=False)


def hidden(rate: list[float], seed: list[int], step: list[int]) -> np.ndarray:
    """What dropout leaves of the last state: the decoder hands on unit after unit."""
    fused = FusedModel(replace(TASK, horizon=64, levels=()), WIDE)
    weights = first_weights(fused.ordinary, 1)
    weights[-2:] = [np.eye(64, dtype=np.float32), np.zeros(64, np.float32)]
    stacked = stack_weights(fused.ordinary, [weights] * len(seed))
    features = tf.constant(np.random.default_rng(0).normal(size=(50, 12, 2)).astype(np.float32))
    noise = Noise(tf.constant(rate), tf.constant(seed), tf.constant(step))
    run = tf.function(lambda: fused.network(stacked, {"features": features}, noise), jit_compile=True)
    return run().numpy()[..., 0]


def test_each_model_drops_its_own_share_and_keeps_the_mean():
    none, some, many = hidden([0.0, 0.2, 0.7], [5, 5, 5], [1, 1, 1])
    assert (none != 0).all()
    assert (some == 0).mean() == pytest.approx(0.2, abs=0.03)
    assert (many == 0).mean() == pytest.approx(0.7, abs=0.03)
    # The first layer's dropout changes the state as well; on the whole its size stays.
    assert np.abs(some).mean() == pytest.approx(np.abs(none).mean(), rel=0.1)
    assert np.abs((some == 0).mean(axis=0) - 0.2).max() < 0.3, "no unit is dropped always"


@pytest.mark.same_bytes
def test_what_is_dropped_depends_on_a_models_seed_and_step_only():
    first = hidden([0.5, 0.5, 0.5], [5, 6, 5], [1, 1, 2])
    other = hidden([0.1, 0.5], [9, 5], [7, 1])
    np.testing.assert_array_equal(other[1], first[0])
    masks = first == 0
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert (masks[one] == masks[two]).mean() == pytest.approx(0.5, abs=0.05)


def test_each_model_takes_its_own_windows_to_be_of_unknown_series_and_categories():
    """Where the embedding of the unknown is far off, the forecast shows what was dropped."""
    choice = {name: values[0] for name, values in AXES.items()} | {"covariates": "all"}
    task, shape = make(choice, id_dropout=0.3)
    fused, number = FusedModel(task, shape), 400
    inputs = make_inputs(task, np.random.default_rng(0).normal(size=(number, 12)).astype(np.float32))
    inputs |= {name: np.ones_like(inputs[name]) for name in ("series", "categories")}
    features, _ = fused.normalise(inputs, np.zeros((number, HORIZON), np.float32))
    weights = stack_weights(fused.ordinary, [first_weights(fused.ordinary, 1)] * MODELS)
    no_rate, seed, step = tf.zeros(MODELS), tf.constant([5, 6, 5]), tf.constant([1, 1, 2])
    usual = fused.network(weights, features)
    dropped = []
    for name in ("series_embedding", "category_0"):
        path = fused.ordinary.get_layer(name).embeddings.path
        far = weights | {path: weights[path] + 9 * (np.arange(weights[path].shape[1]) == 0)[:, None]}
        far = {key: np.float32(value) for key, value in far.items()}
        np.testing.assert_allclose(fused.network(far, features), usual, atol=1e-6, err_msg="no noise, no dropout")
        near, noisy = (fused.network(one, features, Noise(no_rate, seed, step)) for one in (weights, far))
        dropped.append((np.abs(noisy - near) > 1e-5).any(axis=(2, 3)))
    assert np.mean(dropped, axis=2) == pytest.approx(np.full((2, MODELS), 0.3), abs=0.08)
    masks = [*dropped[0], dropped[1][0]]
    for one in range(len(masks)):
        for two in range(one):
            assert (masks[one] == masks[two]).mean() == pytest.approx(0.58, abs=0.1)
