"""The seasonal naive forecast against a loop over single values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dist_lstm.forecast.baselines import seasonal_naive

NAN = float("nan")


def slow_seasonal_naive(context: np.ndarray, horizon: int, season_length: int) -> np.ndarray:
    """Walk back from each step to forecast, one season at a time, to the first value there is."""
    number, steps = context.shape
    forecast = np.full((number, horizon), np.nan, context.dtype)
    for window in range(number):
        for step in range(horizon):
            index = steps + step - season_length
            while index >= steps or (index >= 0 and np.isnan(context[window, index])):
                index -= season_length
            if index >= 0:
                forecast[window, step] = context[window, index]
    return forecast


contexts = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.integers(0, 20)),
    elements=st.one_of(st.just(NAN), st.floats(-1e6, 1e6, width=32)),
)


@settings(deadline=None, max_examples=300)
@given(context=contexts, horizon=st.integers(1, 12), season_length=st.integers(1, 9))
def test_the_forecast_equals_that_of_the_loop(context, horizon, season_length):
    forecast = seasonal_naive(context, horizon, season_length)
    assert forecast.dtype == context.dtype
    np.testing.assert_array_equal(forecast, slow_seasonal_naive(context, horizon, season_length))


@pytest.mark.parametrize(
    ("context", "season_length", "expected"),
    [
        pytest.param([1, 2, 3, 4, 5, 6], 3, [4, 5, 6, 4, 5], id="the last season is repeated"),
        pytest.param([1, 2, 3, 4], 1, [4, 4, 4, 4, 4], id="without a season the last value is repeated"),
        pytest.param([1, 2, 3, 4, NAN, 6], 3, [4, 2, 6, 4, 2], id="a gap is filled from a season earlier"),
        pytest.param([7, 2, 1, 4, NAN, NAN], 2, [1, 4, 1, 4, 1], id="several gaps too"),
        pytest.param([1, NAN, NAN], 1, [1, 1, 1, 1, 1], id="with season 1 the last value there is"),
        pytest.param([8, 9], 4, [NAN, NAN, 8, 9, NAN], id="a short context knows part of a season"),
        pytest.param([1, 2, 3, 4, 5], 3, [3, 4, 5, 3, 4], id="seasons are counted from the end"),
        pytest.param([NAN, NAN, NAN], 2, [NAN] * 5, id="nothing gives nothing"),
        pytest.param([], 2, [NAN] * 5, id="no context gives nothing"),
    ],
)
def test_a_season_is_repeated_as_in_examples_written_by_hand(context, season_length, expected):
    forecast = seasonal_naive(np.array([context], np.float32), 5, season_length)
    np.testing.assert_array_equal(forecast, np.array([expected], np.float32))


def test_the_context_is_not_changed():
    context = np.array([[1, NAN, 3, 4]], np.float32)
    before = context.copy()
    seasonal_naive(context, 3, 2)
    np.testing.assert_array_equal(context, before)


@pytest.mark.parametrize(("horizon", "season_length"), [(0, 1), (-1, 1), (1, 0), (1, -2)])
def test_a_horizon_or_season_below_one_is_refused(horizon, season_length):
    with pytest.raises(ValueError, match=f"horizon {horizon} and season_length {season_length}"):
        seasonal_naive(np.zeros((1, 4), np.float32), horizon, season_length)
