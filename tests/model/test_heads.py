"""Heads and losses against NumPy."""

import numpy as np
import pytest

from dist_lstm.model.heads import apply_head, head_loss, pinball
from tests.model.test_lstm import TASK

RAW = np.random.default_rng(0).normal(0, 3, (50, 4, 5)).astype(np.float32)


def test_quantiles_never_cross():
    assert (np.diff(apply_head(RAW, "quantile", TASK).numpy(), axis=-1) > 0).all()


def test_the_median_of_the_quantile_head_is_its_middle_parameter():
    np.testing.assert_array_equal(apply_head(RAW, "quantile", TASK).numpy()[..., 2], RAW[..., 2])


def test_the_pinball_loss_is_that_of_each_level_averaged():
    target = np.array([[1.0, -2.0]], np.float32)
    forecast = np.array([[[0.0, 2.0], [-3.0, 1.0]]], np.float32)
    expected = [[2 * np.mean([0.1 * 1.0, 0.1 * 1.0]), 2 * np.mean([0.1 * 1.0, 0.1 * 3.0])]]
    np.testing.assert_allclose(pinball(target, forecast, (0.1, 0.9)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("head", "expected"), [("mae", [0.5, 3.0]), ("mse", [0.25, 9.0]), ("huber", [0.125, 2.5])]
)
def test_point_losses_are_their_formulas(head, expected):
    target, forecast = np.array([[1.0, 1.0]], np.float32), np.array([[[0.5], [-2.0]]], np.float32)
    np.testing.assert_allclose(head_loss(head, TASK)(target, forecast).numpy(), [expected])


def test_the_pinball_loss_is_least_at_the_quantile_of_the_data():
    data = np.random.default_rng(1).gamma(2, size=4000).astype(np.float32)
    guesses = np.linspace(0, 8, 801, dtype=np.float32)
    losses = [pinball(data[:, None], np.full((4000, 1, 1), g), (0.9,)).numpy().mean() for g in guesses]
    assert guesses[int(np.argmin(losses))] == pytest.approx(np.quantile(data, 0.9), abs=0.05)
