"""Training steps: replicas, calls, clipping, missing targets."""

from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.task import TRANSFORMS, Task, Vocabulary, input_spec
from dist_lstm.config.training import TrainSettings
from dist_lstm.data.stream import WindowSample, distribute
from dist_lstm.data.windows import weights_by_series
from dist_lstm.model.encoder import ReplicaDropout
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.model.scaling import normalise_target
from dist_lstm.train import state as state_module
from dist_lstm.train.state import TrainState, make_train_state
from dist_lstm.train.step import (
    COUNT,
    IN_A_ROW,
    LOSS,
    SKIPPED,
    WAITED,
    make_mean_loss,
    make_train_steps,
    summed_loss,
)
from tests.model import oracle
from tests.model.test_lstm import TASK, settings

BATCH = 8
RICH = replace(TASK, transformed=True, series=5, vocabulary=Vocabulary(5, (("colour", 3),), ("price",)))
FULL = replace(RICH, series_scaling="standard", calendar=True, freq=Frequency("D"))
SETTINGS = TrainSettings(batch_size=BATCH, max_steps=40, warmup_steps=5, learning_rate=0.01, clip_norm=0.5)
SETTINGS_CHANGED = {"accumulate", "precision", "ema"}
ONE_DEVICE = tf.distribute.get_strategy()


def windows(steps: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Contexts and targets; the later half of every batch misses most targets."""
    generator = np.random.default_rng(5)
    y = generator.normal(3, 2, (steps * BATCH, 12)).astype(np.float32)
    target = generator.normal(3, 2, (steps * BATCH, 4)).astype(np.float32)
    target[np.arange(len(target)) % BATCH >= BATCH // 2, 1:] = np.nan
    y[::7, :4] = np.nan
    return y, target


def batches(task: Task = TASK) -> tf.data.Dataset:
    y, target = windows()
    generator = np.random.default_rng(6)
    made = {
        "y": y,
        "transform": np.array(list(TRANSFORMS.values()))[np.arange(len(y)) % len(TRANSFORMS)],
        "series_scale": np.where(generator.random((len(y), 1)) < 0.5, np.nan, [[3.0, 2.0]]),
        "calendar": generator.integers(0, 7, (len(y), len(task.freq.cycles))),
        "series": generator.integers(0, task.series + 1, (len(y), 1)),
        "categories": generator.integers(0, 4, (len(y), 1)),
        "numbers": np.where(generator.random((len(y), 1)) < 0.2, np.nan, generator.normal(size=(len(y), 1))),
    }
    inputs = {name: made[name].astype(kind) for name, (_, kind) in input_spec(task).items()}
    return tf.data.Dataset.from_tensor_slices((inputs, target)).batch(BATCH, drop_remainder=True)


def train(
    strategy: tf.distribute.Strategy, calls: list[int], task: Task = TASK, **changes: object
) -> tuple[list[np.ndarray], float]:
    """Weights and mean loss after some calls of some steps each."""
    keras.utils.set_random_seed(1)
    train = SETTINGS.model_copy(update={key: changes.pop(key) for key in SETTINGS_CHANGED & changes.keys()})
    rows = settings(**{"dropout": 0.0, "id_dropout": 0.0} | changes)
    state = make_train_state(lambda: build_model(task, rows, train.precision), train, strategy)
    steps = make_train_steps(state, head_loss("quantile", task), train)
    iterator = distribute(lambda _: batches(task), strategy, BATCH)
    sums = tf.zeros(5, tf.float64)
    for number in calls:
        taken, sums = steps(iterator, tf.constant(number), sums)
        assert taken == number
    return state.model.get_weights(), float(sums[LOSS] / sums[COUNT])


def test_two_replicas_and_one_end_with_the_same_weights(two_cpus):
    alone, alone_loss = train(ONE_DEVICE, [12])
    both, both_loss = train(two_cpus, [12])
    for one, two in zip(alone, both, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)
    assert both_loss == pytest.approx(alone_loss, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["recursive", "direct", "segment"])
def test_so_do_they_with_embeddings_and_transforms(two_cpus, decoder):
    """The gradient of an embedding comes as slices of it, other rows on each replica."""
    alone, alone_loss = train(ONE_DEVICE, [12], RICH, decoder=decoder, series_embedding=3)
    both, both_loss = train(two_cpus, [12], RICH, decoder=decoder, series_embedding=3)
    for one, two in zip(alone, both, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)
    assert both_loss == pytest.approx(alone_loss, rel=1e-6)


@pytest.mark.parametrize(("task", "changes"), [(TASK, {}), (RICH, {"series_embedding": 3})])
def test_training_changes_every_weight(task, changes):
    keras.utils.set_random_seed(1)
    before = build_model(task, settings(dropout=0.0, **changes)).get_weights()
    after, _ = train(ONE_DEVICE, [12], task, **changes)
    assert len(before) == len(after)
    assert all((one != two).any() for one, two in zip(before, after, strict=True))


def test_an_embedding_that_no_window_names_does_not_change():
    """The slices of a gradient are put where they belong."""
    task = replace(RICH, series=9)
    model = build_model(task, settings(dropout=0.0, id_dropout=0.0, series_embedding=3))
    table = model.get_layer("series_embedding").embeddings
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    before = table.numpy()
    steps = make_train_steps(TrainState(model, optimizer, ONE_DEVICE), head_loss("quantile", task), SETTINGS)
    # Only numbers 0 to 5 are drawn.
    data = batches(RICH)
    steps(iter(data), tf.constant(1), tf.zeros(5, tf.float64))
    named = {int(one) for one in next(iter(data))[0]["series"].numpy().ravel()}
    changed = {row for row in range(10) if (table.numpy()[row] != before[row]).any()}
    assert changed == named


@pytest.mark.same_bytes
def test_dividing_steps_into_calls_changes_nothing_bit_for_bit():
    changes = {"dropout": 0.2, "id_dropout": 0.3, "series_embedding": 3}
    one, one_loss = train(ONE_DEVICE, [12], RICH, **changes)
    several, several_loss = train(ONE_DEVICE, [1, 4, 7], RICH, **changes)
    for left, right in zip(one, several, strict=True):
        np.testing.assert_array_equal(left, right)
    assert one_loss == several_loss


@pytest.mark.parametrize("clip_norm", [0.05, 1000.0])
def test_a_step_goes_down_the_clipped_mean_gradient_over_observed_targets(clip_norm):
    model, loss = build_model(TASK, settings(dropout=0.0)), head_loss("quantile", TASK)
    y, target = (part[:BATCH] for part in windows())
    with tf.GradientTape() as tape:
        outputs = model({"y": y}, training=True)
        location, scale = outputs["base"] * outputs["unit"], outputs["scale"] * outputs["unit"]
        # In units of scale, and in target units divided by scale, is the same.
        errors = loss((target - location) / scale, (outputs["forecast"] - location[..., None]) / scale[..., None])
        mean = tf.reduce_mean(tf.boolean_mask(errors, ~np.isnan(target)))
    gradients = [one.numpy() for one in tape.gradient(mean, model.trainable_variables)]
    norm = np.sqrt(sum((one**2).sum() for one in gradients))
    before = [one.numpy() for one in model.trainable_variables]
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    train = SETTINGS.model_copy(update={"clip_norm": clip_norm})
    steps = make_train_steps(TrainState(model, optimizer, ONE_DEVICE), loss, train)
    steps(iter(batches()), tf.constant(1), tf.zeros(5, tf.float64))
    for was, gradient, variable in zip(before, gradients, model.trainable_variables, strict=True):
        np.testing.assert_allclose(was - variable.numpy(), gradient * min(1, clip_norm / norm), atol=1e-6)


def test_a_missing_target_has_no_gradient_and_no_loss():
    model = build_model(TASK, settings(dropout=0.0))
    loss = head_loss("quantile", TASK)
    y, target = (part[:BATCH] for part in windows())
    target[:] = np.nan
    with tf.GradientTape() as tape:
        total, count = summed_loss(model, loss, {"y": y}, tf.constant(target), training=True)
    assert (float(total), float(count)) == (0.0, 0.0)
    for gradient in tape.gradient(total, model.trainable_variables):
        np.testing.assert_array_equal(gradient.numpy(), 0.0)


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_a_window_whose_context_does_not_vary_does_not_count(name):
    """Nor one without any: its forecast is the base, whatever the weights."""
    task = replace(TASK, transformed=True)
    model, loss = build_model(task, settings(dropout=0.0)), head_loss("quantile", task)
    y = np.stack([np.full(12, np.nan), np.full(12, 7.0), np.zeros(12), [np.nan] * 11 + [3.0], np.arange(12.0)])
    y[1, ::5] = np.nan
    inputs = {"y": y.astype(np.float32), "transform": np.tile(np.array(TRANSFORMS[name], np.int32), (5, 1))}
    target = np.random.default_rng(0).normal(3, 100, (5, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        total, count = summed_loss(model, loss, inputs, target, training=False)
    gradients = [one.numpy() for one in tape.gradient(total, model.trainable_variables)]
    assert float(count) == 4.0
    alone = {name: values[4:] for name, values in inputs.items()}
    with tf.GradientTape() as tape:
        expected, _ = summed_loss(model, loss, alone, target[4:], training=False)
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    for one, two in zip(gradients, tape.gradient(expected, model.trainable_variables), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_missing_target_among_others_changes_neither_loss_nor_gradient():
    task = replace(TASK, transformed=True)
    model, loss = build_model(task, settings(dropout=0.0)), head_loss("quantile", task)
    y, target = (part[: len(TRANSFORMS)] for part in windows())
    target = np.nan_to_num(target)
    inputs = {"y": y, "transform": np.array(list(TRANSFORMS.values()), np.int32)}
    outputs = model(inputs)
    errors = loss(normalise_target(target, outputs, inputs["transform"]), outputs["scaled"]).numpy()
    target[:, 1] = np.nan
    with tf.GradientTape() as tape:
        total, count = summed_loss(model, loss, inputs, target, training=False)
    assert float(count) == 3 * len(TRANSFORMS)
    assert float(total) == pytest.approx(errors[:, [0, 2, 3]].sum(), rel=1e-5)
    for gradient in tape.gradient(total, model.trainable_variables):
        assert np.isfinite(gradient).all()


def test_the_loss_is_measured_as_the_network_forecasts():
    """Under a log in differences of logs, and seasonal differences in their mean size."""
    task = replace(TASK, transformed=True)
    rows = settings(dropout=0.0, scaling="standard", head="mae")
    model, loss = build_model(task, rows), head_loss("mae", task)
    y, target = (np.abs(part[:BATCH]) + 1 for part in windows())
    for code in TRANSFORMS.values():
        inputs = {"y": y, "transform": np.tile(np.array(code, np.int32), (BATCH, 1))}
        scaled = model(inputs)["scaled"].numpy()[..., 0]
        expected, counted = 0.0, 0
        for window in range(BATCH):
            normal = oracle.normalise(y[window], "standard", 6, 4, np.array(code))
            for step in range(4):
                z = oracle.signed_log(target[window, step]) if code[0] else target[window, step]
                if not np.isnan(z):
                    expected += abs((z - normal.base[step]) / normal.scale - scaled[window, step])
                    counted += 1
        total, count = summed_loss(model, loss, inputs, target, training=False)
        assert float(count) == counted
        assert float(total) == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_a_series_does_not_depend_on_its_unit():
    model, loss = build_model(TASK, settings(dropout=0.0)), head_loss("quantile", TASK)
    y, target = (part[:BATCH] for part in windows())

    def mean_loss(factor: float) -> float:
        def once() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
            yield {"y": y * factor}, target * factor, np.ones(BATCH)

        return make_mean_loss(model, loss)(once())

    assert mean_loss(4096.0) == pytest.approx(mean_loss(1.0), rel=1e-5)


def test_the_mean_loss_is_that_of_series_however_many_windows_they_have():
    model, loss = build_model(TASK, settings(dropout=0.0)), head_loss("quantile", TASK)
    y, target = (part[:6] for part in windows())
    series, target = np.array([0, 0, 0, 0, 1, 2]), target.copy()
    target[1] = np.nan

    def mean_loss(chosen: np.ndarray) -> float:
        weight = weights_by_series(series[chosen], target[chosen])
        return make_mean_loss(model, loss)(WindowSample({"y": y[chosen]}, target[chosen], weight, 6, 4).batches())

    alone = [mean_loss(series == one) for one in range(3)]
    assert mean_loss(series >= 0) == pytest.approx(np.mean(alone), rel=1e-5)


@pytest.mark.parametrize("task", [TASK, FULL], ids=["values alone", "every input"])
def test_the_mean_loss_of_padded_batches_is_that_of_the_windows(task):
    """Padding of a batch has no values and no calendar features."""
    changes = {"calendar": True, "series_embedding": 3} if task is FULL else {}
    model, loss = build_model(task, settings(dropout=0.0, **changes)), head_loss("quantile", task)
    inputs, target = next(batches(task).as_numpy_iterator())

    def mean_loss(batch_size: int) -> float:
        windows = WindowSample(inputs, target, np.ones(BATCH, np.float32), BATCH, batch_size)
        return make_mean_loss(model, loss)(windows.batches())

    whole = mean_loss(BATCH)
    assert np.isfinite(whole)
    for batch_size in (3, 5, 2 * BATCH):
        assert mean_loss(batch_size) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("parts", [4, pytest.param(2, marks=pytest.mark.slow)])
def test_a_batch_worked_through_in_parts_gives_the_same_steps(parts):
    whole, whole_loss = train(ONE_DEVICE, [12], RICH, series_embedding=3)
    divided, divided_loss = train(ONE_DEVICE, [12], RICH, series_embedding=3, accumulate=parts)
    for one, two in zip(whole, divided, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)
    assert divided_loss == pytest.approx(whole_loss, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("decoder", ["direct", "segment", "recursive"])
def test_half_precision_trains_nearly_as_float32_with_weights_that_are_float32(precision, decoder):
    _, expected = train(ONE_DEVICE, [12], decoder=decoder)
    weights, loss = train(ONE_DEVICE, [12], decoder=decoder, precision=precision)
    assert loss == pytest.approx(expected, rel=0.03)
    assert loss != expected
    assert {weight.dtype for weight in weights} == {np.dtype("float32")}


def fragile(target: tf.Tensor, forecast: tf.Tensor) -> tf.Tensor:
    """The loss of the quantile head, infinite for enormous targets."""
    return head_loss("quantile", TASK)(target, forecast) * tf.where(tf.abs(target) > 1e6, np.inf, 1.0)


def bad_batches(*numbers: int) -> tf.data.Dataset:
    """Batches, some of which have an enormous target."""

    def spoil(number: tf.Tensor, batch: tuple) -> tuple:
        inputs, target = batch
        return inputs, tf.where(tf.reduce_any(number == numbers) & ~tf.math.is_nan(target), 1e30, target)

    return batches().enumerate().map(spoil)


@pytest.mark.parametrize("strategy", ["one device", "two replicas"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_step_whose_loss_is_no_number_is_counted_and_changes_nothing(precision, strategy, request):
    where = ONE_DEVICE if strategy == "one device" else request.getfixturevalue("two_cpus")
    settings_ = SETTINGS.model_copy(update={"precision": precision})
    state = make_train_state(lambda: build_model(TASK, settings(dropout=0.0), precision), settings_, where)
    steps = make_train_steps(state, fragile, settings_)
    iterator = distribute(lambda _: bad_batches(2), where, BATCH)
    _, sums = steps(iterator, tf.constant(2), tf.zeros(5, tf.float64))
    before = state.model.get_weights() + [one.numpy() for one in state.optimizer.variables]
    _, sums = steps(iterator, tf.constant(1), sums)
    after = state.model.get_weights() + [one.numpy() for one in state.optimizer.variables]
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)
    assert sums.numpy()[[SKIPPED, IN_A_ROW]].tolist() == [1.0, 1.0]
    _, sums = steps(iterator, tf.constant(2), sums)
    assert sums.numpy()[[SKIPPED, IN_A_ROW]].tolist() == [1.0, 0.0]
    assert np.isfinite(sums.numpy()).all()
    assert sums[COUNT] == 4 * np.isfinite(windows(1)[1]).sum()
    assert any((one != two).any() for one, two in zip(after[:3], state.model.get_weights()[:3], strict=True))


def test_too_many_bad_steps_in_a_row_end_a_call():
    state = make_train_state(lambda: build_model(TASK, settings()), SETTINGS, ONE_DEVICE)
    limit = SETTINGS.model_copy(update={"max_bad_steps": 3})
    steps = make_train_steps(state, fragile, limit)
    taken, sums = steps(iter(bad_batches(1, 2, 4, 5, 6)), tf.constant(10), tf.zeros(5, tf.float64))
    assert int(taken) == 7
    assert sums.numpy()[[SKIPPED, IN_A_ROW]].tolist() == [5.0, 3.0]


def test_a_gradient_that_overflows_float16_halves_the_scale_of_the_loss_and_is_no_fault():
    half = SETTINGS.model_copy(update={"precision": "float16"})
    state = make_train_state(lambda: build_model(TASK, settings(), "float16"), half, ONE_DEVICE)
    state.loss_scale.scale.assign(2.0**24)
    steps = make_train_steps(state, head_loss("quantile", TASK), half)
    _, sums = steps(iter(batches().repeat()), tf.constant(40), tf.zeros(5, tf.float64))
    assert sums[SKIPPED] == 0
    assert 2.0**4 < float(state.loss_scale.scale.numpy()) < 2.0**24
    assert 0 < int(state.optimizer.iterations.numpy()) < 40


def test_the_scale_of_the_loss_doubles_after_many_good_steps(monkeypatch):
    monkeypatch.setattr(state_module, "_GROW_AFTER", 3)
    scale = state_module.LossScale()
    seen = []
    for fine in (True, True, True, True, True, False, True):
        scale.update(tf.constant(fine))
        seen.append(float(scale.scale.numpy()))
    assert seen == [16, 16, 32, 32, 32, 16, 16]


def test_the_moving_average_is_there_within_its_block_only():
    """Checked against a sum over the steps, written out."""
    averaging = SETTINGS.model_copy(update={"ema": 0.5})
    state = make_train_state(lambda: build_model(TASK, settings()), averaging, ONE_DEVICE)
    steps = make_train_steps(state, head_loss("quantile", TASK), averaging)
    iterator, sums, average = iter(batches()), tf.zeros(5, tf.float64), None
    for _ in range(4):
        _, sums = steps(iterator, tf.constant(1), sums)
        weights = state.model.get_weights()
        average = weights if average is None else [(a + w) / 2 for a, w in zip(average, weights, strict=True)]
    with state.averaged():
        for one, two in zip(state.model.get_weights(), average, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)
    for one, two in zip(state.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_dropout_differs_between_replicas_and_from_step_to_step(two_cpus):
    with two_cpus.scope():
        layer = ReplicaDropout(0.5, seed=3)
        layer.build((4, 64))
    ones = tf.ones((4, 64))
    run = tf.function(lambda: two_cpus.run(lambda: layer(ones, training=True)))
    first, second = (one.numpy() for one in two_cpus.experimental_local_results(run()))
    later = two_cpus.experimental_local_results(run())[0].numpy()
    assert (first != second).any()
    assert (first != later).any()
    assert {0.0, 2.0} == set(first.ravel()) == set(second.ravel())


def test_input_that_is_slow_shows_as_waiting():
    import time

    def slow() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        y, target = windows(1)
        while True:
            time.sleep(0.05)
            yield {"y": y}, target

    spec = ({"y": tf.TensorSpec((BATCH, 12))}, tf.TensorSpec((BATCH, 4)))
    state = make_train_state(lambda: build_model(TASK, settings()), SETTINGS, ONE_DEVICE)
    steps = make_train_steps(state, head_loss("quantile", TASK), SETTINGS)
    iterator = iter(tf.data.Dataset.from_generator(slow, output_signature=spec))
    _, before = steps(iterator, tf.constant(1), tf.zeros(5, tf.float64))
    waited = float((steps(iterator, tf.constant(6), before)[1] - before)[WAITED])
    # Six batches of 0.05 s each, at most one of them ready before it was asked for.
    assert waited > 0.2
