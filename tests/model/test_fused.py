"""Fused models against ordinary ones."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import TRANSFORMS, Task, Vocabulary, input_spec
from dist_lstm.errors import UserError
from dist_lstm.model.fused import (
    Noise,
    check_fusable,
    first_weights,
    fused_network,
    fused_outputs,
    normalise_windows,
    stack_weights,
    unstack_weights,
)
from dist_lstm.model.lstm import build_model
from dist_lstm.model.scaling import normalise_target
from dist_lstm.train.checkpoint import load_model, save_model
from tests.model.test_lstm import TASK, settings

MODELS, BATCH = 3, 5
TRANSFORMED = replace(TASK, transformed=True)


def random_weights(model: keras.Model, seed: int) -> list[np.ndarray]:
    """No weight is 0, so that none can be left out unseen."""
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 0.3, weight.shape).astype(np.float32) for weight in model.get_weights()]


def windows(task: Task) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs, `[M, B, ...]`, and targets, `[M, B, H]`, with missing values, a constant and an empty context."""
    generator = np.random.default_rng(4)
    y = generator.normal(10, 4, (MODELS, BATCH, task.context_length)).astype(np.float32)
    y[0, 0, :5] = y[1, 1, 7] = y[2, 2] = np.nan
    y[1, 3] = 7
    target = generator.normal(10, 4, (MODELS, BATCH, task.horizon)).astype(np.float32)
    target[0, 1, 2:] = np.nan
    made = {
        "y": y,
        "transform": np.array(list(TRANSFORMS.values()))[generator.integers(0, 6, (MODELS, BATCH))],
        "series_scale": np.where(generator.random((MODELS, BATCH, 1)) < 0.5, np.nan, [[[9.0, 3.0]]]),
    }
    return {name: made[name].astype(kind) for name, (_, kind) in input_spec(task).items()}, target


ARCHITECTURES = [
    (TASK, {}),
    (TASK, {"segment_length": 1, "units": (6,)}),
    (TASK, {"segment_length": 12, "units": (4, 3, 5), "linear": False}),
    (TASK, {"head": "mae", "scaling": "robust"}),
    (replace(TRANSFORMED, levels=()), {"head": "huber", "scaling": "none"}),
    (TRANSFORMED, {"scaling": "minmax"}),
    (replace(TRANSFORMED, series_scaling="standard"), {"scaling_by": "series"}),
]


@pytest.mark.parametrize(("task", "changes"), ARCHITECTURES)
def test_every_fused_model_forecasts_what_the_ordinary_one_does(task, changes):
    model, shape = build_model(task, settings(**changes)), settings(**changes)
    each = [random_weights(model, seed) for seed in range(MODELS)]
    inputs, _ = windows(task)
    fused = fused_outputs(stack_weights(model, each), inputs, task, shape)
    for number, weights in enumerate(each):
        model.set_weights(weights)
        expected = model({name: values[number] for name, values in inputs.items()})
        assert fused.keys() == expected.keys()
        for name, values in expected.items():
            assert fused[name][number].shape == values.shape
            np.testing.assert_allclose(fused[name][number], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("task", "changes"), ARCHITECTURES)
def test_normalised_windows_are_what_the_ordinary_model_is_trained_on(task, changes):
    model, shape = build_model(task, settings(**changes)), settings(**changes)
    inputs, target = windows(task)
    inputs, target = {name: values[0] for name, values in inputs.items()}, target[0]
    outputs = model(inputs)
    counted = ~np.isnan(target) & (outputs["scale"].numpy() > 0)
    expected = normalise_target(np.nan_to_num(target), outputs, inputs.get("transform")).numpy()
    _, scaled = normalise_windows(inputs, target, task, shape)
    np.testing.assert_array_equal(~np.isnan(scaled), counted)
    np.testing.assert_array_equal(scaled.numpy()[counted], expected[counted])


def test_a_fused_model_is_saved_and_loaded_as_an_ordinary_one(tmp_path):
    model = build_model(TASK, settings())
    each = [random_weights(model, seed) for seed in range(MODELS)]
    stacked = stack_weights(model, each)
    inputs, _ = windows(TASK)
    model.set_weights(unstack_weights(stacked, 1))
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    forecast = loaded({name: values[1] for name, values in inputs.items()})["forecast"]
    expected = fused_outputs(stacked, inputs, TASK, settings())["forecast"][1]
    np.testing.assert_allclose(forecast, expected, rtol=1e-5, atol=1e-5)
    for one, two in zip(unstack_weights(stacked, 2), each[2], strict=True):
        np.testing.assert_array_equal(one, two)


def test_first_weights_are_drawn_as_a_new_model_draws_them():
    model = build_model(TASK, settings(units=(32, 16)))
    drawn = dict(zip((one.path for one in model.weights), first_weights(model, 3), strict=True))
    for variable in model.weights:
        values, built = drawn[variable.path], variable.numpy()
        assert values.shape == built.shape
        if variable.path.endswith("recurrent_kernel"):
            np.testing.assert_allclose(values @ values.T, np.eye(len(values)), atol=1e-5)
        elif variable.path.endswith("bias") or variable.path.startswith("linear"):
            np.testing.assert_array_equal(values, built)
        else:
            limit = np.sqrt(6 / sum(values.shape))
            assert 0.95 * limit < np.abs(values).max() <= limit
            assert values.std() == pytest.approx(built.std(), rel=0.1)


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


@pytest.mark.parametrize(
    ("task", "changes", "named"),
    [
        (TASK, {"decoder": "segment"}, "model.decoder"),
        (TASK, {"bidirectional": True}, "model.bidirectional"),
        (TASK, {"residual": True}, "model.residual"),
        (replace(TASK, calendar=True, freq=Frequency("D")), {}, "calendar"),
        (replace(TASK, series=3), {}, "series"),
        (replace(TASK, vocabulary=Vocabulary(3, (("colour", 2),))), {}, "categories"),
        (replace(TASK, vocabulary=Vocabulary(3, (), ("price",))), {}, "numbers"),
    ],
)
def test_what_is_not_fused_is_refused_by_name(task, changes, named):
    with pytest.raises(UserError, match=f"^{named}: .*trained as one only"):
        check_fusable(task, settings(**changes))


def test_what_is_fused_is_not_refused():
    for task, changes in ARCHITECTURES:
        check_fusable(task, settings(**changes))


WIDE = ModelSettings(segment_length=3, units=(64, 64), head="mae", linear=False)


def hidden(rate: list[float], seed: list[int], step: list[int]) -> np.ndarray:
    """What dropout leaves of the last state: the decoder hands on unit after unit."""
    task = replace(TASK, horizon=64, levels=())
    model = build_model(task, WIDE)
    model.set_weights(first_weights(model, 1))
    weights = model.get_weights()
    weights[-2:] = [np.eye(64, dtype=np.float32), np.zeros(64, np.float32)]
    fused = stack_weights(model, [weights] * len(seed))
    features = tf.constant(np.random.default_rng(0).normal(size=(1, 50, 12, 2)).astype(np.float32))
    features = tf.repeat(features, len(seed), axis=0)
    noise = Noise(tf.constant(rate), tf.constant(seed), tf.constant(step))
    run = tf.function(lambda: fused_network(fused, features, task, WIDE, noise), jit_compile=True)
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
