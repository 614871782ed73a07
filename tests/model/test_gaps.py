"""Missing values are filled from the context alone."""

import numpy as np
import pytest

from dist_lstm.model.gaps import fill_gaps
from dist_lstm.model.lstm import build_model
from tests.model import oracle
from tests.model.test_lstm import TASK, contexts, forecast, settings

NAN = np.nan


def filled(y: np.ndarray, season: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    observed = (~np.isnan(y)).astype(np.float32)
    values, started = fill_gaps(np.nan_to_num(y).astype(np.float32), observed, season.astype(np.float32))
    return np.asarray(values), np.asarray(started)


@pytest.mark.parametrize("length", [1, 2, 7, 20])
def test_gaps_are_interpolated_and_the_end_repeats_the_last_season(length):
    generator = np.random.default_rng(length)
    y = generator.normal(size=(40, length))
    y[generator.random(y.shape) < generator.random((40, 1))] = NAN
    season = generator.normal(size=(40, 3))
    values, started = filled(y, season)
    for row in range(40):
        expected = np.nan_to_num(oracle.fill_gaps(y[row], season[row]))
        np.testing.assert_allclose(values[row], expected, rtol=1e-5, atol=1e-6)
        begin = np.flatnonzero(~np.isnan(y[row]))[:1]
        expected = np.arange(length) >= begin[0] if len(begin) else np.zeros(length)
        np.testing.assert_array_equal(started[row], expected)


def test_a_forecast_depends_on_whether_gaps_are_filled_only_where_there_are_gaps():
    with_gaps, without = build_model(TASK, settings()), build_model(TASK, settings(fill_missing=False))
    without.set_weights(with_gaps.get_weights())
    one, two = forecast(with_gaps, contexts()), forecast(without, contexts())
    same = (one == two).all(axis=(1, 2))
    # The first window begins with missing values, before its series; the second has a gap.
    assert same.tolist() == [True, False, True, True, True, True]
