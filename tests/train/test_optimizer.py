"""The schedule and the clipping."""

import math

import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.training import TrainSettings
from dist_lstm.train.optimizer import clip, make_optimizer


def oracle(step: int, warmup: int, last: int, rate: float) -> float:
    if step < warmup:
        return rate * step / warmup
    return rate * (1 + math.cos(math.pi * (step - warmup) / (last - warmup))) / 2


@pytest.mark.parametrize(("warmup", "last"), [(0, 50), (10, 50), (25, 50)])
def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine(warmup, last):
    settings = TrainSettings(max_steps=last, warmup_steps=warmup, learning_rate=0.01)
    schedule = make_optimizer(settings)._learning_rate
    for step in range(0, last + 1, 5):
        assert float(schedule(step)) == pytest.approx(oracle(step, warmup, last, 0.01), abs=1e-7)


def test_a_warm_up_longer_than_the_training_is_cut_to_half_of_it():
    schedule = make_optimizer(TrainSettings(max_steps=20, warmup_steps=100, learning_rate=0.01))._learning_rate
    assert float(schedule(10)) == pytest.approx(0.01)


def test_biases_do_not_decay():
    optimizer = make_optimizer(TrainSettings(max_steps=100, weight_decay=0.1, warmup_steps=0, learning_rate=0.5))
    kernel, bias = tf.Variable([1.0], name="kernel"), tf.Variable([1.0], name="bias")
    optimizer.build([kernel, bias])
    optimizer.apply([tf.zeros(1), tf.zeros(1)], [kernel, bias])
    assert float(kernel[0]) == pytest.approx(0.95)
    assert float(bias[0]) == 1.0


def test_clipping_keeps_the_direction_of_the_whole_gradient():
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
    clipped, norm = clip(gradients, 1.0)
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose(np.concatenate([one.numpy().ravel() for one in clipped]), [0.6, 0.0, 0.8])
    untouched, _ = clip(gradients, 10.0)
    np.testing.assert_array_equal(untouched[0].numpy(), [3.0, 0.0])


@pytest.mark.parametrize("size", [1e-30, 1e19, 1e25, 1e37])
def test_clipping_keeps_the_direction_of_a_gradient_of_any_size(size):
    gradients = [tf.constant([3.0 * size, 0.0]), tf.constant([[4.0 * size]])]
    clipped, norm = clip(gradients, size)
    assert float(norm) == pytest.approx(5.0 * size)
    result = np.concatenate([one.numpy().ravel() for one in clipped])
    np.testing.assert_allclose(result / np.float32(size), [0.6, 0.0, 0.8], rtol=1e-6)


def test_a_gradient_that_is_no_number_stays_one():
    """So that the loss shows it, and training ends with advice."""
    for value in (np.nan, np.inf):
        clipped, _ = clip([tf.constant([value, 1.0])], 1.0)
        assert np.isnan(clipped[0].numpy()).all()
