"""Training windows changed at random, so that a model learns from more than the windows that there are.

Source: Semenoglou, Spiliotis & Assimakopoulos, "Data augmentation for univariate time series forecasting with
neural networks", Pattern Recognition 134 (2023): stretched and mixed windows.

What happens to a window depends on the seed and on its position in the endless sequence of windows alone.

Axes: B windows, L steps of a window (T context, then H horizon).
"""

from dataclasses import dataclass

import numpy as np

#: Constants of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), a hash that gives one random number per position.
_STEP, _FIRST, _SECOND = (np.uint64(one) for one in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
#: The least share of a window that is stretched to its length.
_SHORTEST = 0.5
#: Numbers per position that decide what happens to a window; those of the noise come after them.
_DECISIONS = 8


@dataclass(frozen=True)
class Augmentation:
    """How training windows are changed.

    Attributes:
        stretch: Share of windows of which a part, at least half, is stretched to the whole length.
        mix: Share of windows that are mixed with another one, each in units of its mean absolute value.
        noise: Standard deviation of the noise that is added to contexts, in units of a context's own.
        seed: Seed.
    """

    stretch: float = 0.0
    mix: float = 0.0
    noise: float = 0.0
    seed: int = 0

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return max(self.stretch, self.mix, self.noise) > 0

    def partner(self, position: np.ndarray, count: int) -> np.ndarray:
        """Which of `count` windows each one may be mixed with, by its position in the sequence, both `[B]`."""
        return (self._uniform(position, 0) * count).astype(np.int64)

    def apply(self, window: np.ndarray, partner: np.ndarray, position: np.ndarray, context: int) -> np.ndarray:
        """Change windows.

        Args:
            window: Values, `[B, L]`; NaN is missing, and stays so.
            partner: The windows that these may be mixed with, `[B, L]`.
            position: Positions in the sequence of windows, `[B]`.
            context: Steps of the context, T.

        Returns:
            New windows, `[B, L]`, of the same type.
        """
        result = window.astype(np.float64)
        if self.stretch:
            chosen = self._uniform(position, 1) < self.stretch
            result = np.where(chosen[:, None], self._stretched(result, position), result)
        if self.mix:
            chosen = self._uniform(position, 4) < self.mix
            result = np.where(chosen[:, None], self._mixed(result, partner, position), result)
        if self.noise:
            result[:, :context] += self.noise * _deviation(result[:, :context]) * self._normal(position, context)
        return result.astype(window.dtype)

    def _stretched(self, window: np.ndarray, position: np.ndarray) -> np.ndarray:
        steps = window.shape[1]
        span = (_SHORTEST + (1 - _SHORTEST) * self._uniform(position, 2)) * (steps - 1)
        begin = self._uniform(position, 3) * (steps - 1 - span)
        at = begin[:, None] + span[:, None] * np.linspace(0, 1, steps)
        low = np.minimum(at.astype(np.int64), max(steps - 2, 0))
        before, after = (np.take_along_axis(window, one, axis=1) for one in (low, np.minimum(low + 1, steps - 1)))
        return before + (after - before) * (at - low)

    def _mixed(self, window: np.ndarray, partner: np.ndarray, position: np.ndarray) -> np.ndarray:
        own, other = _size(window), _size(partner.astype(np.float64))
        share = 0.5 + 0.5 * self._uniform(position, 5)[:, None]
        ratio = np.divide(own, other, out=np.zeros_like(own), where=other > 0)
        return np.where(ratio > 0, share * window + (1 - share) * ratio * partner, window)

    def _uniform(self, position: np.ndarray, number: int | np.ndarray) -> np.ndarray:
        """A number from 0 to 1 for each position and number."""
        with np.errstate(over="ignore"):
            state = (position.astype(np.uint64) + np.uint64(1)) * _STEP + np.uint64(self.seed)
            state = _hash(_hash(state) + np.asarray(number, np.uint64) * _STEP)
        return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def _normal(self, position: np.ndarray, steps: int) -> np.ndarray:
        """Numbers of the standard normal distribution, `[B, steps]`, by Box & Muller."""
        number = _DECISIONS + 2 * np.arange(steps)
        radius = np.sqrt(-2 * np.log1p(-self._uniform(position[:, None], number)))
        return radius * np.cos(2 * np.pi * self._uniform(position[:, None], number + 1))


def _hash(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def _size(window: np.ndarray) -> np.ndarray:
    """Mean absolute value of each window, `[B, 1]`; 0 for one without a value."""
    observed = ~np.isnan(window)
    total = np.where(observed, np.abs(window), 0.0).sum(axis=1, keepdims=True)
    return total / np.maximum(observed.sum(axis=1, keepdims=True), 1)


def _deviation(window: np.ndarray) -> np.ndarray:
    """Standard deviation of each window, `[B, 1]`; 0 for one without a value."""
    observed = ~np.isnan(window)
    count = np.maximum(observed.sum(axis=1, keepdims=True), 1)
    mean = np.where(observed, window, 0.0).sum(axis=1, keepdims=True) / count
    return np.sqrt(np.where(observed, (window - mean) ** 2, 0.0).sum(axis=1, keepdims=True) / count)
