"""The smoothed level at the end of a context, against loops over its steps."""

import numpy as np
import pytest

from dist_lstm.model.level import smoothed_level
from tests.model import oracle


def level(y: np.ndarray, season: int) -> np.ndarray:
    observed = ~np.isnan(y)
    values = np.where(observed, y, 0).astype(np.float32)
    return smoothed_level(
        values, observed.astype(np.float32), season, np.full((len(y), 1), -7, np.float32)
    ).numpy()


@pytest.mark.parametrize("season", [1, 4, 24])
@pytest.mark.parametrize("steps", [1, 2, 9, 60, 200])
def test_it_is_that_of_the_constant_with_the_least_error_of_one_step_ahead(steps, season):
    generator = np.random.default_rng(steps)
    y = np.concatenate([generator.normal(size=(20, steps)).cumsum(axis=1), 5 + generator.normal(size=(20, steps))])
    y[10:30][generator.random((20, steps)) < 0.3] = np.nan
    expected = [oracle.smoothed_level(one, season, -7.0) for one in y]
    np.testing.assert_allclose(level(y, season)[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_it_follows_a_random_walk_and_averages_noise():
    generator = np.random.default_rng(1)
    walks, noise = generator.normal(size=(200, 48)).cumsum(axis=1), generator.normal(size=(200, 48))
    assert np.abs(level(walks, 1)[:, 0] - walks[:, -1]).mean() < 0.5
    assert np.abs(level(noise, 1)[:, 0]).mean() < 0.5


def test_the_level_of_an_exact_season_is_its_mean():
    y = np.tile([1.0, 5.0, 3.0, 7.0], 6)[None]
    assert level(y, 4)[0, 0] == pytest.approx(4.0)


def test_without_a_value_among_the_last_steps_there_is_none():
    y = np.full((2, 100), np.nan)
    y[0, 10] = 3.0
    assert level(y, 1)[:, 0].tolist() == [-7.0, -7.0]
