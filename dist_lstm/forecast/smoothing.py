"""Exponential smoothing of many series at once, over a grid of constants.

A model has a level l and a damped trend b, and makes one error e per step:

    e = y - l - phi b,    l <- l + phi b + alpha e,    b <- phi b + beta e

Its errors are linear in the initial l and b, so for each point of the grid those that minimise the sum of squares
are known exactly; the best point of the grid is taken. Simple exponential smoothing has phi = beta = 0.

Source: Hyndman, Koehler, Ord & Snyder, "Forecasting with Exponential Smoothing" (2008), chapters 2 and 5.

At a step without a value, e is 0.

Axes: N series, T steps, G points of the grid, S initial states, H horizon.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dist_lstm.forecast.history import History

#: Numbers in an array of one block, so that a handful of them stays in a core's cache.
_BLOCK = 1 << 15
#: The same for arrays over all steps, which series with missing values need.
_BLOCK_WITH_STEPS = 1 << 21


@dataclass(frozen=True)
class Grid:
    """Smoothing constants to try, or those of each series.

    Attributes:
        alpha: Weight of an error in the level, `[G]`, 0 to 1.
        beta: Its weight in the trend, `[G]`, 0 to alpha.
        phi: Damping of the trend per step, `[G]`.
        states: Initial states that are fitted: 1 for the level, 2 for level and trend.
    """

    alpha: np.ndarray
    beta: np.ndarray
    phi: np.ndarray
    states: int

    def take(self, points: np.ndarray) -> "Grid":
        """The constants of some points."""
        return Grid(self.alpha[points], self.beta[points], self.phi[points], self.states)


def simple_grid() -> Grid:
    """The constants of simple exponential smoothing, `[42]`."""
    alpha = np.concatenate([[0.0001, 0.01], np.linspace(0.025, 0.975, 39), [0.9999]])
    return Grid(alpha, 0 * alpha, 0 * alpha, states=1)


def damped_grid() -> Grid:
    """The constants of a damped trend, `[120]`: beta is at most alpha, phi from 0.8 to 0.98."""
    alpha = [0.0001, 0.03, 0.15, 0.3, 0.5, 0.7, 0.85, 0.9999]
    share, phi = [0.0001, 0.05, 0.25, 0.6, 0.999], [0.8, 0.9, 0.98]
    alpha, share, phi = (one.ravel() for one in np.meshgrid(alpha, share, phi))
    return Grid(alpha, alpha * share, phi, states=2)


def smooth(history: History, grid: Grid, horizon: int) -> np.ndarray:
    """Forecast with the constants and initial states that minimise the squared errors one step ahead.

    Args:
        history: The series.
        grid: Constants to try.
        horizon: Steps to forecast.

    Returns:
        Forecasts from the cutoff on, `[N, H]`, in target units.
    """
    if not history.y.size:
        return np.full((len(history.y), horizon), np.nan)
    count = np.maximum(history.observed.sum(axis=1, keepdims=True), 1)
    mean = np.where(history.observed, history.y, 0).sum(axis=1, keepdims=True) / count
    y = np.where(history.observed, history.y - mean, 0)
    scale = np.sqrt((y**2).sum(axis=1, keepdims=True) / count)
    scale[scale == 0] = 1
    y /= scale
    best, initial = _fit(y, history, grid)
    constants = grid.take(best)
    level, trend = _final_states(y, history, constants, initial)
    ahead = history.gap[:, None] + np.arange(1, horizon + 1)
    phi = constants.phi[:, None]
    # The sum of phi, phi^2, ... up to each step ahead; phi is below 1.
    damping = phi * (1 - phi**ahead) / (1 - phi)
    return mean + scale * (level[:, None] + damping * trend[:, None])


def _fit(y: np.ndarray, history: History, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The best point of the grid for each series, `[N]`, and its initial states, `[N, 2]`."""
    number, steps = y.shape
    best, initial = np.zeros(number, np.int64), np.zeros((number, 2))
    observed, points = history.observed, len(grid.alpha)
    complete = observed.sum(axis=1) == history.length
    # Series without missing values share the effects of their initial states.
    shared = _effect_of_initial_states(np.ones((1, steps)), grid)
    for rows in _blocks(np.flatnonzero(complete), _BLOCK // points):
        best[rows], initial[rows, : grid.states] = _fit_block(y[rows], observed[rows], grid, shared)
    for rows in _blocks(np.flatnonzero(~complete), _BLOCK_WITH_STEPS // (points * steps)):
        own = _effect_of_initial_states(observed[rows], grid)
        best[rows], initial[rows, : grid.states] = _fit_block(y[rows], observed[rows], grid, own)
    return best, initial


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    size = max(size, 1)
    return (rows[first : first + size] for first in range(0, len(rows), size))


def _effect_of_initial_states(observed: np.ndarray, grid: Grid) -> np.ndarray:
    """How much a unit of each initial state lowers the errors of each series, `[S, T, N, G]`."""
    number, steps = observed.shape
    shape = (grid.states, number, len(grid.alpha))
    level, trend = np.eye(2)[:, : grid.states, None, None] * np.ones(shape)
    effect = np.zeros((grid.states, steps, *shape[1:]))
    for step in range(steps):
        trend = grid.phi * trend
        level = level + trend
        effect[:, step] = level * observed[:, step][:, None]
        level = level - grid.alpha * effect[:, step]
        trend = trend - grid.beta * effect[:, step]
    return effect


def _fit_block(
    y: np.ndarray, observed: np.ndarray, grid: Grid, effect: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best point of the grid for some series, `[N]`, and its initial states, `[N, S]`.

    Args:
        y: Normalised values, `[N, T]`; 0 is missing.
        observed: Whether a value was observed, `[N, T]`.
        grid: Constants to try.
        effect: Effects of the initial states, `[S, T, N, G]`, or `[S, T, 1, G]` for all series alike.

    Returns:
        The indices and the states.
    """
    squares, cross = _error_sums(y, observed, grid, effect)
    # Sums up to the last observed value; for a product with the mask BLAS would start threads for every block.
    last = y.shape[1] - 1 - observed[:, ::-1].argmax(axis=1)
    column = np.arange(len(y)) % effect.shape[2]
    gram = [
        np.cumsum(effect[one] * effect[other], axis=0)[last, column]
        for one in range(grid.states)
        for other in range(one, grid.states)
    ]
    states = _solve(gram, cross)
    point = np.argmin(squares - (states * cross).sum(axis=0), axis=1)
    return point, states[:, np.arange(len(point)), point].T


def _error_sums(
    y: np.ndarray, observed: np.ndarray, grid: Grid, effect: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over steps with initial states of 0: of squared errors, `[N, G]`, and errors by effect, `[S, N, G]`.

    In float32: the values are normalised, and the sums only choose a point of the grid and its initial states.
    Arrays are allocated once, as this is nearly all the work.
    """
    alpha, beta, phi, y, weight, effect = (
        one.astype(np.float32) for one in (grid.alpha, grid.beta, grid.phi, y.T, observed.T, effect)
    )
    level, trend, squares, error, product = np.zeros((5, y.shape[1], len(alpha)), np.float32)
    cross = np.zeros((grid.states, *level.shape), np.float32)
    for step in range(len(y)):
        if grid.states == 2:
            trend *= phi
            level += trend
        np.subtract(y[step][:, None], level, out=error)
        error *= weight[step][:, None]
        level += np.multiply(error, alpha, out=product)
        if grid.states == 2:
            trend += np.multiply(error, beta, out=product)
        for state in range(grid.states):
            cross[state] += np.multiply(error, effect[state, step], out=product)
        squares += np.square(error, out=error)
    return squares, cross.astype(np.float64)


def _solve(gram: list[np.ndarray], cross: np.ndarray) -> np.ndarray:
    """Least squares of one or two states, `[S, N, G]`; a trend that the data do not determine is 0."""
    first = np.maximum(gram[0], 1e-300)
    if len(cross) == 1:
        return cross / first
    _, both, second = gram
    determinant = first * second - both**2
    defined = determinant > 1e-9 * first * second
    trend = np.zeros_like(first)
    np.divide(first * cross[1] - both * cross[0], determinant, out=trend, where=defined)
    return np.stack([(cross[0] - both * trend) / first, trend])


def _final_states(
    y: np.ndarray, history: History, constants: Grid, initial: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Level and trend after the last observed value of each series, `[N]` each, with the constants of each."""
    level, trend = initial.T.copy()
    inside = history.inside
    for step in range(y.shape[1]):
        damped = constants.phi * trend
        error = np.where(history.observed[:, step], y[:, step] - level - damped, 0)
        np.copyto(level, level + damped + constants.alpha * error, where=inside[:, step])
        np.copyto(trend, damped + constants.beta * error, where=inside[:, step])
    return level, trend
