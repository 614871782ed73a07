"""The combined forecast: a weighted median, and the model's intervals around it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dist_lstm.forecast.combination import combine
from tests.forecast.test_table import make_task

TASK = make_task()
NUMBERS = st.floats(-1e6, 1e6, width=32)


@given(values=arrays(np.float32, (2, 3, 5), elements=NUMBERS), theta=arrays(np.float32, (2, 3), elements=NUMBERS))
def test_the_median_is_the_weighted_mean_and_every_quantile_keeps_its_distance(values, theta):
    values = np.sort(values, axis=2)
    result = combine(values, {"Theta": theta}, {"LSTM": 0.75, "Theta": 0.25}, TASK)
    assert result.dtype == np.float32
    median = TASK.quantiles.index(0.5)
    np.testing.assert_allclose(result[:, :, median], 0.75 * values[:, :, median] + 0.25 * theta, atol=0.5)
    distance = values - values[:, :, median:][:, :, :1]
    np.testing.assert_allclose(result - result[:, :, median:][:, :, :1], distance, atol=1.0)
    assert (np.diff(result, axis=2) >= 0).all()


def test_where_a_baseline_has_no_forecast_the_others_share_its_weight():
    values = np.array([[[1.0], [2.0]]])
    baselines = {"Theta": np.array([[np.nan, 6.0]]), "Naive": np.array([[5.0, np.inf]]), "Drift": np.zeros((1, 2))}
    result = combine(values, baselines, {"LSTM": 0.5, "Theta": 0.25, "Naive": 0.25}, make_task(levels=()))
    assert result[0, :, 0].tolist() == pytest.approx([(0.5 * 1 + 0.25 * 5) / 0.75, (0.5 * 2 + 0.25 * 6) / 0.75])


def test_where_the_model_has_no_forecast_there_is_none():
    values = np.full((1, 2, 1), np.nan)
    assert np.isnan(combine(values, {"Theta": np.ones((1, 2))}, {"LSTM": 0.5, "Theta": 0.5}, make_task(()))).all()


def test_a_model_without_weight_gives_its_intervals_alone():
    values = np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    result = combine(values, {"Theta": np.array([[30.0]])}, {"LSTM": 0.0, "Theta": 1.0}, TASK)
    assert result.tolist() == [[[28.0, 29.0, 30.0, 31.0, 32.0]]]


def test_the_largest_numbers_stay_finite():
    values = np.full((1, 1, 5), 3e38, np.float32)
    theta = np.full((1, 1), 3e38, np.float32)
    assert np.isfinite(combine(values, {"Theta": theta}, {"LSTM": 0.5, "Theta": 0.5}, TASK)).all()
