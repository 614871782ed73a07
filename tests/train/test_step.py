"""Training steps: replicas, calls, clipping, missing targets."""

from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.schema import TrainSettings
from dist_lstm.data.stream import distribute
from dist_lstm.model.encoder import ReplicaDropout
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.optimizer import make_optimizer
from dist_lstm.train.step import make_mean_loss, make_train_steps, summed_loss
from tests.model.test_lstm import TASK, settings

BATCH = 8
SETTINGS = TrainSettings(batch_size=BATCH, max_steps=40, warmup_steps=5, learning_rate=0.01, clip_norm=0.5)
ONE_DEVICE = tf.distribute.get_strategy()


def windows(steps: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Contexts and targets; the later half of every batch misses most targets."""
    generator = np.random.default_rng(5)
    y = generator.normal(3, 2, (steps * BATCH, 12)).astype(np.float32)
    target = generator.normal(3, 2, (steps * BATCH, 4)).astype(np.float32)
    target[np.arange(len(target)) % BATCH >= BATCH // 2, 1:] = np.nan
    y[::7, :4] = np.nan
    return y, target


def batches() -> tf.data.Dataset:
    y, target = windows()
    return tf.data.Dataset.from_tensor_slices(({"y": y}, target)).batch(BATCH, drop_remainder=True)


def train(
    strategy: tf.distribute.Strategy, calls: list[int], dropout: float = 0.0
) -> tuple[list[np.ndarray], float]:
    """Weights and mean loss after some calls of some steps each."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = build_model(TASK, settings(dropout=dropout))
        optimizer = make_optimizer(SETTINGS)
        optimizer.build(model.trainable_variables)
    steps = make_train_steps(model, optimizer, head_loss("quantile", TASK), SETTINGS.clip_norm, strategy)
    iterator = distribute(batches, strategy, BATCH)
    sums = tf.zeros(3, tf.float64)
    for number in calls:
        sums = steps(iterator, tf.constant(number), sums)
    total, count, _ = sums.numpy()
    return model.get_weights(), total / count


def test_two_replicas_and_one_end_with_the_same_weights(two_cpus):
    alone, alone_loss = train(ONE_DEVICE, [12])
    both, both_loss = train(two_cpus, [12])
    for one, two in zip(alone, both, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)
    assert both_loss == pytest.approx(alone_loss, rel=1e-6)


def test_training_changes_every_weight():
    keras.utils.set_random_seed(1)
    before = build_model(TASK, settings(dropout=0.0)).get_weights()
    after, _ = train(ONE_DEVICE, [12])
    assert all((one != two).any() for one, two in zip(before, after, strict=True))


def test_dividing_steps_into_calls_changes_nothing_bit_for_bit():
    (one, one_loss), (several, several_loss) = train(ONE_DEVICE, [12], 0.2), train(ONE_DEVICE, [1, 4, 7], 0.2)
    for left, right in zip(one, several, strict=True):
        np.testing.assert_array_equal(left, right)
    assert one_loss == several_loss


@pytest.mark.parametrize("clip_norm", [0.05, 1000.0])
def test_a_step_goes_down_the_clipped_mean_gradient_over_observed_targets(clip_norm):
    model, loss = build_model(TASK, settings(dropout=0.0)), head_loss("quantile", TASK)
    y, target = (part[:BATCH] for part in windows())
    with tf.GradientTape() as tape:
        outputs = model({"y": y}, training=True)
        scale = outputs["scale"] * outputs["unit"]
        base = outputs["base"] * outputs["unit"]
        errors = loss((target - base) / scale, (outputs["forecast"] - base[..., None]) / scale[..., None])
        mean = tf.reduce_mean(tf.boolean_mask(errors, ~np.isnan(target)))
    gradients = [one.numpy() for one in tape.gradient(mean, model.trainable_variables)]
    norm = np.sqrt(sum((one**2).sum() for one in gradients))
    before = [one.numpy() for one in model.trainable_variables]
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    steps = make_train_steps(model, optimizer, loss, clip_norm, ONE_DEVICE)
    steps(iter(batches()), tf.constant(1), tf.zeros(3, tf.float64))
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


def test_a_window_without_any_context_does_not_count():
    model = build_model(TASK, settings(dropout=0.0))
    y = np.full((2, 12), np.nan, np.float32)
    _, count = summed_loss(model, head_loss("quantile", TASK), {"y": y}, tf.ones((2, 4)), training=False)
    assert float(count) == 0.0


def test_the_loss_of_a_series_does_not_depend_on_its_unit():
    model, loss = build_model(TASK, settings(dropout=0.0)), head_loss("quantile", TASK)
    y, target = (part[:BATCH] for part in windows())

    def mean_loss(factor: float) -> float:
        def once() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
            yield {"y": y * factor}, target * factor

        return make_mean_loss(model, loss)(once())

    assert mean_loss(4096.0) == pytest.approx(mean_loss(1.0), rel=1e-5)


def test_the_mean_loss_of_padded_batches_is_that_of_the_windows():
    model, loss = build_model(TASK, settings(dropout=0.0)), head_loss("quantile", TASK)
    y, target = windows(1)

    def padded(part: np.ndarray) -> np.ndarray:
        return np.concatenate([part, np.full((BATCH - len(part), 12), np.nan, np.float32)])

    def mean_loss(cut: int) -> float:
        halves = [({"y": padded(y[:cut])}, target[:cut]), ({"y": padded(y[cut:])}, target[cut:])]
        return make_mean_loss(model, loss)(iter(halves))

    assert mean_loss(3) == pytest.approx(mean_loss(BATCH), rel=1e-6)


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
    model = build_model(TASK, settings())
    optimizer = make_optimizer(SETTINGS)
    optimizer.build(model.trainable_variables)
    steps = make_train_steps(model, optimizer, head_loss("quantile", TASK), 1.0, ONE_DEVICE)
    iterator = iter(tf.data.Dataset.from_generator(slow, output_signature=spec))
    before = steps(iterator, tf.constant(1), tf.zeros(3, tf.float64))
    waited = (steps(iterator, tf.constant(6), before) - before).numpy()[2]
    # Six batches of 0.05 s each, at most one of them ready before it was asked for.
    assert waited > 0.2
