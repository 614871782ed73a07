"""Alignment, seasonal adjustment and exponential smoothing of many series, against loops over one series."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dist_lstm.forecast import smoothing
from dist_lstm.forecast.history import make_history
from dist_lstm.forecast.season import estimate_season
from dist_lstm.forecast.smoothing import Grid, damped_grid, simple_grid, smooth

NAN = float("nan")


def padded(rows: list[np.ndarray]) -> np.ndarray:
    """Series of different lengths in one array, each at the right."""
    steps = max(map(len, rows))
    return np.array([np.concatenate([np.full(steps - len(row), NAN), row]) for row in rows])


def slow_smooth(y: np.ndarray, grid: Grid, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts of one series by every point of the grid, and their sums of squares."""

    def run(values: np.ndarray, point: int, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (level, trend), errors = states, []
        for value in values:
            errors.append(0 if np.isnan(value) else value - level - grid.phi[point] * trend)
            level += grid.phi[point] * trend + grid.alpha[point] * errors[-1]
            trend = grid.phi[point] * trend + grid.beta[point] * errors[-1]
        steps = np.cumsum(grid.phi[point] ** np.arange(1, horizon + 1))
        return np.array(errors), level + steps * trend

    forecasts, squares = [], []
    for point in range(len(grid.alpha)):
        start = run(y, point, np.zeros(2))[0]
        effect = np.stack([start - run(y, point, one)[0] for one in np.eye(2)[: grid.states]], axis=1)
        initial = np.zeros(2)
        initial[: grid.states] = np.linalg.lstsq(effect, start)[0]
        errors, forecast = run(y, point, initial)
        forecasts.append(forecast)
        squares.append((errors**2).sum())
    return np.array(forecasts), np.array(squares)


@pytest.mark.parametrize("grid", [simple_grid(), damped_grid()], ids=["simple", "damped"])
def test_the_forecast_is_that_of_a_loop_with_the_smallest_sum_of_squares(grid, monkeypatch):
    monkeypatch.setattr(smoothing, "_BLOCK", 2 * len(grid.alpha))
    monkeypatch.setattr(smoothing, "_BLOCK_WITH_STEPS", 0)
    generator = np.random.default_rng(1)
    rows = [np.cumsum(generator.normal(0.3, 2, size)) for size in (12, 40, 25, 6, 90, 30, 31)]
    for row in rows[-2:]:
        row[[1, 4, 5, 6, 20, 28]] = NAN
    forecasts = smooth(make_history(padded(rows)), grid, 7)
    shifted = smooth(make_history(padded([1e7 + 100 * row for row in rows])), grid, 7)
    np.testing.assert_allclose(shifted, 1e7 + 100 * forecasts, rtol=1e-7)
    for row, forecast in zip(rows, forecasts, strict=True):
        candidates, squares = slow_smooth(row, grid, 7)
        distance = np.abs(candidates - forecast).max(axis=1)
        nearest = int(np.argmin(distance))
        assert distance[nearest] < 1e-3 * np.nanstd(row)
        assert squares[nearest] <= squares.min() * 1.001


def test_a_series_is_forecast_alone_as_beside_others():
    generator = np.random.default_rng(2)
    rows = [generator.normal(5, 1, size) for size in (10, 50, 23)]
    together = smooth(make_history(padded(rows)), damped_grid(), 5)
    alone = [smooth(make_history(row[None]), damped_grid(), 5)[0] for row in rows]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_a_constant_series_stays_constant():
    np.testing.assert_allclose(smooth(make_history(np.full((1, 9), 7.0)), damped_grid(), 4), 7)


contexts = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 4), st.integers(0, 20)),
    elements=st.one_of(st.just(NAN), st.floats(-1e6, 1e6)),
)


@settings(deadline=None, max_examples=200)
@given(context=contexts)
def test_a_history_holds_the_values_between_the_first_and_the_last_observed_one(context):
    history = make_history(context)
    for row, y in enumerate(context):
        steps = np.flatnonzero(~np.isnan(y))
        if not len(steps):
            assert history.length[row] == 0
            assert history.gap[row] == len(y)
            assert np.isnan([history.first[row], history.last[row]]).all()
            continue
        inside = np.arange(steps[0], steps[-1] + 1)
        assert history.length[row] == len(inside)
        assert history.gap[row] == len(y) - 1 - steps[-1]
        np.testing.assert_allclose(history.y[row, : len(inside)], np.interp(inside, steps, y[steps]))
        assert not history.y[row, len(inside) :].any()
        np.testing.assert_array_equal(np.flatnonzero(history.observed[row]), steps - steps[0])
        assert (history.first[row], history.last[row]) == (y[steps[0]], y[steps[-1]])


def slow_is_seasonal(y: np.ndarray, season: int) -> bool:
    """The test of the M4 competition's benchmarks."""
    centred, count = y - y.mean(), len(y)
    r = [sum(centred[lag:] * centred[: count - lag]) / sum(centred**2) for lag in range(1, season + 1)]
    limit = 1.645 * np.sqrt((1 + 2 * sum(one**2 for one in r[:-1])) / count)
    return count >= 3 * season and abs(r[-1]) > limit


def slow_indices(y: np.ndarray, season: int, factor: bool) -> np.ndarray:
    half = season // 2
    ends = 0.5 if season % 2 == 0 else 1.0
    weight = np.ones(2 * half + 1)
    weight[[0, -1]] = ends
    by_phase: list[list[float]] = [[] for _ in range(season)]
    for step in range(half, len(y) - half):
        trend = (y[step - half : step + half + 1] * weight).sum() / season
        by_phase[step % season].append(y[step] / trend if factor else y[step] - trend)
    index = np.array([np.mean(one) for one in by_phase])
    return index / index.mean() if factor else index - index.mean()


@pytest.mark.parametrize("season", [4, 7, 12])
@pytest.mark.parametrize("level", [100.0, 0.0], ids=["positive", "both signs"])
def test_seasonal_indices_are_those_of_loops_where_the_test_says_so(season, level):
    generator = np.random.default_rng(season)
    waves = [np.sin(2 * np.pi * np.arange(120) / season) * size for size in (0, 1, 3, 10, 20)]
    rows = [level + (wave + generator.normal(0, 3, 120))[: 120 - 17 * number] for number, wave in enumerate(waves)]
    history = make_history(padded(rows))
    estimate = estimate_season(history, season)
    decided = [slow_is_seasonal(row, season) for row in rows]
    assert len(set(decided)) == 2, "the test has both answers"
    for row, seasonal, index, factor in zip(rows, decided, estimate.index, estimate.factor, strict=True):
        expected = slow_indices(row, season, level > 0) if seasonal else np.ones(season)
        np.testing.assert_allclose(index, expected)
        assert factor == (level > 0 or not seasonal)
    adjusted = estimate.remove(history)
    steps = np.tile(np.arange(history.y.shape[1]), (len(rows), 1))
    restored = np.where(history.inside, estimate.restore(adjusted.y, steps), 0)
    np.testing.assert_allclose(restored, history.y, atol=1e-9)


def test_a_missing_value_takes_no_part_in_the_seasonal_indices():
    y = np.tile([10.0, 20.0, 30.0], 8)
    y[[7, 13]] = NAN
    estimate = estimate_season(make_history(y[None]), 3)
    # Interpolated neighbours enter the moving averages only.
    np.testing.assert_allclose(estimate.index, [[0.5, 1, 1.5]], rtol=0.1)
