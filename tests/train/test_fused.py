"""Many models trained as one, against each trained alone."""

import io
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import Task
from dist_lstm.config.training import TrainSettings
from dist_lstm.data.fused_windows import GroupWindows, group_seed
from dist_lstm.data.panel import Panel
from dist_lstm.data.sampling import SamplingConfig
from dist_lstm.model.fused import FusedModel, stack_weights
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import Checkpoints
from dist_lstm.train.fit import Phase, fit
from dist_lstm.train.fused import fit as module
from dist_lstm.train.fused.fit import (
    FittedMember,
    FusedModels,
    Member,
    fused_fit,
    make_fused_models,
    training_losses,
)
from dist_lstm.train.fused.step import FusedSteps, Rates, State, learning_rate_at, make_fused_steps
from dist_lstm.train.monitor import Monitor
from dist_lstm.train.optimizer import make_optimizer
from dist_lstm.train.progress import Fitted
from dist_lstm.train.state import TrainState
from dist_lstm.train.step import COUNT, LOSS, make_mean_loss, make_train_steps
from dist_lstm.train.trainer import make_trainer
from tests.model.test_architectures import AXES, make_inputs
from tests.model.test_architectures import make as make_choice
from tests.model.test_fused import random_weights
from tests.model.test_lstm import TASK, TRANSFORMED, settings

MODELS, BATCH, STEPS = 3, 8, 50
LENGTHS = (40, 25, 90, 33, 61)
NAMES = ("A", "B", "C", "D", "E")
TRAIN: dict[str, Any] = {
    "batch_size": BATCH, "max_steps": 40, "steps_per_epoch": 10, "learning_rate": 0.02, "warmup_steps": 5,
    "patience": 2, "clip_norm": 0.5,
}  # fmt: skip


def batches(task: Task) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs, `[K, M, B, ...]`, and targets, `[K, M, B, H]`: each model's own, some missing."""
    generator = np.random.default_rng(5)
    y = generator.normal(3, 2, (STEPS, MODELS, BATCH, task.context_length)).astype(np.float32)
    target = generator.normal(3, 2, (STEPS, MODELS, BATCH, task.horizon)).astype(np.float32)
    y[:, 0, ::3, :4] = np.nan
    target[:, 1, : BATCH // 2, 1:] = np.nan
    target[7, 2] = np.nan
    y *= np.array([1, 100, 0.01], np.float32)[:, None, None]
    target *= np.array([1, 100, 0.01], np.float32)[:, None, None]
    inputs = {"y": y}
    if task.transformed:
        codes = np.array([[0, 0], [0, 1], [0, 2]], np.int32)
        inputs["transform"] = np.broadcast_to(codes[None, :, None], (STEPS, MODELS, BATCH, 2)).copy()
    return inputs, target


def normalised(graphs: FusedSteps, inputs: dict[str, np.ndarray], target: np.ndarray) -> Any:
    """Inputs of the network and targets as `train` takes them, of any leading axes."""
    axes = target.shape[:-1]
    flat = {name: values.reshape(-1, *values.shape[len(axes) :]) for name, values in inputs.items()}
    return tf.nest.map_structure(
        lambda one: np.reshape(one, (*axes, *one.shape[1:])),
        graphs.normalise(flat, target.reshape(-1, target.shape[-1])),
    )


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (TRANSFORMED, {"units": (6,), "segment_length": 1, "scaling": "robust"}),
        pytest.param(TASK, {}, marks=pytest.mark.slow),
        pytest.param(TASK, {"head": "mse"}, marks=pytest.mark.slow),
    ],
)
def test_each_fused_model_equals_the_same_model_trained_alone(task, changes):
    """After 50 steps, the whole schedule, from the same weights on the same batches, each with its own rates."""
    shape = settings(**changes | {"dropout": 0.0})
    train = TrainSettings(batch_size=BATCH, max_steps=60, warmup_steps=10, clip_norm=0.3)
    learning_rate, weight_decay = [0.02, 0.003, 0.01], [0.0, 0.1, 0.01]
    inputs, target = batches(task)
    model, loss = build_model(task, shape), head_loss(shape.head, task)
    first = [random_weights(model, number) for number in range(MODELS)]

    graphs = make_fused_steps(FusedModel(task, shape), train)
    features, scaled = normalised(graphs, inputs, target)
    weights = stack_weights(model, first)
    zeros = {name: np.zeros_like(one) for name, one in weights.items()}
    state = State(weights, zeros, zeros, np.zeros(MODELS, np.int32))
    numbers = np.zeros(MODELS, np.int32)
    rates = Rates(
        np.float32(learning_rate), np.float32(weight_decay), np.float32(numbers), numbers, numbers + STEPS
    )
    state, sums = tf.nest.map_structure(np.array, graphs.train(state, rates, features, scaled, tf.constant(STEPS)))

    for number in range(MODELS):
        model.set_weights(first[number])
        own = train.model_copy(
            update={"learning_rate": learning_rate[number], "weight_decay": weight_decay[number]}
        )
        optimizer = make_optimizer(own)
        optimizer.build(model.trainable_variables)
        optimizer.schedule.set_steps(STEPS)
        steps = make_train_steps(TrainState(model, optimizer, tf.distribute.get_strategy()), loss, own)
        data = ({name: values[:, number] for name, values in inputs.items()}, target[:, number])
        in_order = iter(tf.data.Dataset.from_tensor_slices(data))
        _, alone = steps(in_order, tf.constant(STEPS), tf.zeros(5, tf.float64))
        total, count = alone.numpy()[[LOSS, COUNT]]
        for path, expected, before in zip(weights, model.get_weights(), first[number], strict=True):
            np.testing.assert_allclose(state.weights[path][number], expected, atol=1e-4, err_msg=path)
            assert np.abs(expected - before).max() > 1e-2, "a model that does not move shows nothing"
        assert sums[number, 0] == pytest.approx(total, rel=1e-4)
        assert sums[number, 1] == count


@pytest.mark.parametrize(
    ("decoder", "covariates"),
    [
        ("direct", "series"),
        *(pytest.param(one, "all", marks=pytest.mark.slow) for one in ("segment", "recursive")),
    ],
)
def test_models_with_the_same_windows_take_the_steps_of_models_with_copies_of_them(decoder, covariates):
    choice = {name: values[0] for name, values in AXES.items()} | {"decoder": decoder, "covariates": covariates}
    task, shape = make_choice(choice, units=(4,))
    fused, train = FusedModel(task, shape), TrainSettings.model_validate(TRAIN)
    graphs, steps = make_fused_steps(fused, train), 6
    y = np.random.default_rng(5).normal(3, 2, (steps * BATCH, task.context_length)).astype(np.float32)
    inputs = {
        name: values.reshape(steps, BATCH, *values.shape[1:]) for name, values in make_inputs(task, y).items()
    }
    target = np.random.default_rng(6).normal(3, 2, (steps, BATCH, task.horizon)).astype(np.float32)
    target[:, 2, 1:] = np.nan
    same = normalised(graphs, inputs, target)
    own = tf.nest.map_structure(lambda one: np.repeat(one[:, None], MODELS, axis=1), same)
    weights = stack_weights(fused.ordinary, [random_weights(fused.ordinary, seed) for seed in range(MODELS)])
    zeros, numbers = {name: np.zeros_like(one) for name, one in weights.items()}, np.zeros(MODELS, np.int32)
    rate, seeds = np.full(MODELS, 0.2, np.float32), np.array([5, 6, 7], np.int32)
    rates = Rates(np.full(MODELS, 0.02, np.float32), np.float32(numbers), rate, seeds, numbers + steps)
    first = State(weights, zeros, zeros, numbers)
    results = [
        tf.nest.map_structure(np.array, graphs.train(first, rates, *windows, tf.constant(steps)))
        for windows in (same, own)
    ]
    (state, sums), (expected, expected_sums) = results
    np.testing.assert_allclose(sums, expected_sums, rtol=1e-5)
    np.testing.assert_array_equal(state.step, steps)
    for name, one in expected.weights.items():
        np.testing.assert_allclose(state.weights[name], one, atol=1e-5, err_msg=name)
        assert (np.abs(one - weights[name]).max(axis=tuple(range(1, one.ndim))) > 1e-3).all(), name


def test_values_that_float32_does_not_hold_are_normalised_in_float64():
    shape, train = settings(units=(6,)), TrainSettings.model_validate(TRAIN)
    normalise = make_fused_steps(FusedModel(replace(TASK, value_type="float64"), shape), train).normalise
    steps = np.arange(TASK.context_length + TASK.horizon, dtype=np.float64)[None]
    inputs, target = normalise({"y": 1e9 + steps[:, : TASK.context_length]}, 1e9 + steps[:, TASK.context_length :])
    low = make_fused_steps(FusedModel(TASK, shape), train).normalise
    context, ahead = np.float32(steps[:, : TASK.context_length]), np.float32(steps[:, TASK.context_length :])
    expected, expected_target = low({"y": context}, ahead)
    assert inputs["features"].dtype == target.dtype == np.float32
    np.testing.assert_allclose(inputs["features"], expected["features"], atol=1e-5)
    np.testing.assert_allclose(target, expected_target, atol=1e-5)


@pytest.mark.parametrize(("steps", "warmup"), [(60, 10), (60, 0), (5, 100), (1, 1)])
@pytest.mark.parametrize("share", [1, 0.4])
def test_the_learning_rate_is_that_of_the_optimizer_and_falls_to_0_in_the_steps_of_a_model(steps, warmup, share):
    train = TrainSettings(max_steps=steps, warmup_steps=warmup, learning_rate=0.01)
    optimizer, taken = make_optimizer(train), math.ceil(share * steps)
    optimizer.schedule.set_steps(taken)
    step = np.arange(taken + 2)
    expected = []
    for number in step:
        optimizer.iterations.assign(number)
        expected.append(float(optimizer.learning_rate))
    zeros = np.zeros(len(step), np.float32)
    rates = Rates(zeros + np.float32(0.01), zeros, zeros, np.int32(zeros), np.int32(zeros + taken))
    np.testing.assert_allclose(learning_rate_at(step, rates, train), expected, rtol=1e-5, atol=1e-9)
    assert expected[taken] < 1e-9


def panel() -> Panel:
    offset = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    y = np.random.default_rng(0).normal(0, 1, offset[-1]).cumsum().astype(np.float32)
    y[[3, 50, 51]] = np.nan
    return Panel(np.array(NAMES), np.ones(len(LENGTHS), np.int64), y, offset)


@cache
def make(dropout: float = 0.0, **changes: Any) -> tuple[FusedModels, ModelSettings]:
    """An architecture; compiled once, as nothing in it changes."""
    shape = settings(units=(6,), dropout=dropout)
    return make_fused_models(TASK, shape, TrainSettings.model_validate(TRAIN | changes)), shape


def windows(whole: bool = False) -> GroupWindows:
    return GroupWindows(panel(), TASK, SamplingConfig(BATCH, 10, "series", 1, 1, whole, 64))


def members(names: str = "ABCDE", **changes: Any) -> list[Member]:
    return [Member(name, np.array([NAMES.index(name)]), **changes) for name in names]


def train_all(
    models: FusedModels, given: list[Member], slots: int, whole: bool = False
) -> dict[str, FittedMember]:
    fitted = list(fused_fit(models, windows(whole), given, slots))
    assert sorted(one.name for one in fitted) == sorted(one.name for one in given), "each once"
    return {one.name: one for one in fitted}


def assert_same(one: FittedMember, two: FittedMember) -> None:
    assert one.history == two.history
    assert (one.steps, one.validation_loss, one.stopped_early) == (
        two.steps,
        two.validation_loss,
        two.stopped_early,
    )
    for left, right in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(left, right)


def cut(source: GroupWindows, chosen: Any) -> tuple:
    """A batch of windows with their weights."""
    return *source.cut(chosen.series, chosen.cutoff), chosen.weight


def fit_alone(name: str, folder: Path, models: FusedModels, shape: ModelSettings) -> Fitted:
    """The ordinary loop on what the fused one sees."""
    source, series, seed = windows(), np.array([NAMES.index(name)]), group_seed(name, 1)

    def build() -> keras.Model:
        model = build_model(TASK, shape)
        model.set_weights(models.draw_weights(seed))
        return model

    def every_batch() -> Any:
        for epoch in range(4):
            inputs, target = source.cut(*source.training(series, seed, epoch))
            for first in range(0, len(target), BATCH):
                yield {"y": inputs["y"][first : first + BATCH]}, target[first : first + BATCH]

    spec = ({"y": tf.TensorSpec((BATCH, 12))}, tf.TensorSpec((BATCH, 4)))
    data = tf.data.Dataset.from_generator(every_batch, output_signature=spec)
    monitor = Monitor(folder, Console(file=io.StringIO()))
    phase = Phase(
        name="train",
        steps=40,
        batches=lambda *_: iter(data),
        validation=lambda: iter([cut(source, source.validation(series, seed))]),
        checkpoints=Checkpoints(folder, name, 1, monitor.print),
    )
    trainer = make_trainer(build, head_loss(shape.head, TASK), models.train, tf.distribute.get_strategy())
    return fit(trainer, phase, monitor)


@pytest.mark.slow
def test_a_member_is_trained_and_stopped_as_the_ordinary_loop_does_it(tmp_path):
    models, shape = make()
    fused = train_all(models, members(), slots=3)
    for name, one in fused.items():
        alone = fit_alone(name, tmp_path, models, shape)
        assert (one.steps, one.stopped_early, one.failure) == (alone.steps, alone.stopped_early, None)
        assert one.validation_loss == pytest.approx(alone.validation_loss, rel=1e-4)
        for got, expected in zip(one.history, alone.history, strict=True):
            assert (got.epoch, got.step) == (expected.epoch, expected.step)
            names = ("learning_rate", "loss", "validation_loss", "smoothed_loss")
            numbers = [[getattr(line, one) for one in names] for line in (got, expected)]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
        for left, right in zip(one.weights, alone.model.get_weights(), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-4)
    assert len({len(one.history) for one in fused.values()}) > 1, "patience ends some before others"


def test_the_weights_kept_are_those_with_the_least_smoothed_validation_loss():
    models, shape = make(learning_rate=0.1)
    source = windows()
    for name, one in train_all(models, members(), slots=3).items():
        losses = [line.smoothed_loss for line in one.history]
        assert one.validation_loss == min(losses)
        best = one.history[int(np.argmin(losses))]
        assert one.steps == best.step
        models.ordinary.set_weights(one.weights)
        validation = cut(source, source.validation(np.array([NAMES.index(name)]), 1))
        loss = make_mean_loss(models.ordinary, head_loss(shape.head, TASK))(iter([validation]))
        assert loss == pytest.approx(best.validation_loss, rel=1e-5)


@pytest.mark.same_bytes
def test_what_a_model_becomes_does_not_depend_on_the_others_nor_on_its_place():
    models, _ = make(dropout=0.3)
    every = train_all(models, members(), slots=3)
    for pack in ("ECA", "BDAEC", "C"):
        for name, one in train_all(models, members(pack), slots=3).items():
            assert_same(one, every[name])


@pytest.mark.same_bytes
def test_dividing_an_epoch_into_calls_changes_nothing(monkeypatch):
    models, _ = make(dropout=0.3)
    whole = train_all(models, members("AB"), slots=3)
    monkeypatch.setattr(module, "_CALL_BYTES", 3 * 4 * BATCH * 3 * (3 * 12 + 4))
    for name, one in train_all(models, members("AB"), slots=3).items():
        np.testing.assert_allclose(one.history[0].loss, whole[name].history[0].loss, rtol=1e-12)
        for left, right in zip(one.weights, whole[name].weights, strict=True):
            np.testing.assert_array_equal(left, right)


def test_training_losses_are_those_of_each_model_alone():
    models, shape = make()
    given = [
        Member(one.name, one.series, weights=models.draw_weights(number)) for number, one in enumerate(members())
    ]
    source = windows()
    expected = []
    for one in given:
        models.ordinary.set_weights(one.weights)
        sample = cut(source, source.training_sample(one.series, group_seed(one.name, models.train.seed)))
        expected.append(make_mean_loss(models.ordinary, head_loss(shape.head, TASK))(iter([sample])))
    for slots in (2, 3, 5, 8):
        np.testing.assert_allclose(training_losses(models, source, given, slots), expected, rtol=1e-4)
    spoilt = [*given[:2], replace(given[2], weights=[one * np.nan for one in given[2].weights])]
    assert training_losses(models, source, spoilt, 2)[2] == np.inf
    assert training_losses(models, source, [], 2) == []


def test_a_model_that_diverges_fails_alone():
    models, _ = make()
    every = train_all(models, members(), slots=3)
    bad = [np.full_like(one, np.inf) for one in models.ordinary.get_weights()]
    given = [*members("AB"), *members("C", weights=bad), *members("DE")]
    fitted = train_all(models, given, slots=3)
    assert fitted["C"].failure == "training diverged: the loss is nan at step 10"
    for name in "ABDE":
        assert_same(fitted[name], every[name])


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_step_without_numbers_is_not_taken_and_is_seen(kind):
    """A non-finite loss, or a gradient that is too large for float32."""
    models, shape = make()
    graphs = make_fused_steps(FusedModel(TASK, shape), models.train)
    weights = stack_weights(models.ordinary, [models.draw_weights(1)] * 2)
    moments = {name: np.full_like(one, 0.01) for name, one in weights.items()}
    numbers = np.zeros(2, np.int32)
    rates = Rates(np.float32([0.1, 0.1]), np.float32(numbers), np.float32(numbers), numbers, numbers + 9)
    features = np.zeros((1, 2, BATCH, 12, 2), np.float32)
    target = np.full((1, 2, BATCH, 4), np.nan, np.float32)
    target[..., 0] = 100
    features[0, 1, :, [0, 6], 0] = np.nan if kind == "loss" else 3e38
    before, one_each = State(weights, moments, moments, numbers + 5), np.ones((1, 2, BATCH), np.float32)
    after, sums = tf.nest.map_structure(
        np.array, graphs.train(before, rates, {"features": features, "weight": one_each}, target, tf.constant(1))
    )
    for name, one in weights.items():
        np.testing.assert_array_equal(after.weights[name][1], one[1])
        np.testing.assert_array_equal(after.mean[name][1], moments[name][1])
        np.testing.assert_array_equal(after.square[name][1], moments[name][1])
        assert np.isfinite(after.weights[name][0]).all()
    assert (after.weights["decoder/kernel"][0] != weights["decoder/kernel"][0]).any()
    assert np.isnan(sums[1]).all()
    assert np.isfinite(sums[0]).all()


def test_a_series_without_a_training_window_is_given_back_with_the_reason():
    models, _ = make()
    short = Panel(
        np.array(["S", "A"]), np.ones(2, np.int64), np.arange(48, dtype=np.float32), np.array([0, 8, 48])
    )
    source = GroupWindows(short, TASK, SamplingConfig(BATCH, 10, "series", 1, 1, False, 64))
    given = [Member("S", np.array([0])), Member("A", np.array([1]))]
    fitted = {one.name: one for one in fused_fit(models, source, given, 3)}
    assert fitted["S"].failure == "too short: it has no window to train on"
    assert (fitted["S"].steps, fitted["S"].history) == (0, ())
    assert fitted["A"].failure is None


def test_on_whole_series_each_takes_the_steps_it_is_given():
    models, _ = make()
    given = [*members("A", steps=10), *members("B", steps=17), *members("C"), *members("D", steps=3)]
    fitted = train_all(models, given, slots=3, whole=True)
    assert {name: one.steps for name, one in fitted.items()} == {"A": 10, "B": 17, "C": 40, "D": 3}
    assert [line.step for line in fitted["B"].history] == [10, 17]
    assert all(np.isnan(one.validation_loss) and not one.stopped_early for one in fitted.values())


@pytest.mark.parametrize("changes", [{"learning_rate": 0.005}, {"weight_decay": 0.5}, {"dropout": 0.5}])
def test_each_model_may_have_rates_of_its_own(changes):
    models, _ = make()
    usual = train_all(models, members("A"), slots=3)["A"]
    fitted = train_all(models, [*members("A", **changes), *members("B")], slots=3)["A"]
    assert fitted.history != usual.history
    other, _ = make(**changes)
    assert_same(train_all(other, members("A"), slots=3)["A"], fitted)


def test_a_model_may_start_from_weights_it_is_given():
    models, _ = make()
    first = train_all(models, members("A"), slots=3)["A"]
    again = train_all(models, members("A", weights=first.weights, learning_rate=1e-9), slots=3)["A"]
    for left, right in zip(again.weights, first.weights, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_one_model_may_be_trained_on_several_series():
    models, _ = make()
    group = Member("group", np.array([0, 3]))
    both = train_all(models, [group, *members("C")], slots=3)["group"]
    assert both.failure is None
    assert len(windows().validation(group.series, 1).series) == 2


def test_out_of_time_what_runs_is_kept_and_what_has_not_begun_says_so():
    models, _ = make(budget=1e-9, patience=100)
    fitted = train_all(models, members(), slots=3)
    begun = [one for one in fitted.values() if one.failure is None]
    assert sorted(one.name for one in begun) == ["A", "B", "C"]
    assert all(one.out_of_time and one.steps == 10 for one in begun)
    others = [one for one in fitted.values() if one.failure is not None]
    assert {one.failure for one in others} == {"train.budget ended before its training began"}


def test_no_members_are_no_work():
    models, _ = make()
    assert train_all(models, [], slots=4) == {}
