"""Series up to their cutoffs as arrays that all statistical baselines share.

Axes: N series, T steps.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class History:
    """Series from their first to their last observed value, side by side.

    Every row begins at its first observed value, so that a season's phases are those of the columns.

    Attributes:
        y: Values in target units, `[N, T]`, float64. A missing value is interpolated between its neighbours; 0
            after the last observed one.
        observed: Whether a value was observed, `[N, T]`.
        length: Steps from the first to the last observed value, `[N]`; 0 without any.
        gap: Steps from the last observed value to the cutoff, `[N]`; forecasts begin after it.
    """

    y: np.ndarray
    observed: np.ndarray
    length: np.ndarray
    gap: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Whether a step lies between the first and the last observed value, `[N, T]`."""
        return np.arange(self.y.shape[1]) < self.length[:, None]

    @property
    def first(self) -> np.ndarray:
        """The first observed value, `[N]`; NaN without any."""
        return self._at(np.zeros_like(self.length))

    @property
    def last(self) -> np.ndarray:
        """The last observed value, `[N]`; NaN without any."""
        return self._at(np.maximum(self.length - 1, 0))

    def _at(self, step: np.ndarray) -> np.ndarray:
        values = np.pad(self.y, ((0, 0), (0, 1)))[np.arange(len(step)), step]
        return np.where(self.length > 0, values, np.nan)


def make_history(context: np.ndarray) -> History:
    """Align series at their first observed value and interpolate what is missing between.

    Args:
        context: Values up to the cutoff, `[N, T]`, in target units; NaN is a missing value or a step before the
            start.

    Returns:
        The series; T is that of the longest one.

    Example:
        >>> history = make_history(np.array([[np.nan, 1.0, np.nan, 3.0], [2.0, 5.0, 8.0, np.nan]]))
        >>> history.y.tolist(), history.length.tolist(), history.gap.tolist()
        ([[1.0, 2.0, 3.0], [2.0, 5.0, 8.0]], [3, 3], [0, 1])
    """
    steps = context.shape[1]
    observed = ~np.isnan(context)
    some = observed.any(axis=1)
    first = np.where(some, observed.argmax(axis=1), 0) if steps else np.zeros(len(context), np.int64)
    gap = np.where(some, observed[:, ::-1].argmax(axis=1), steps) if steps else first
    length = steps - gap - first
    index = first[:, None] + np.arange(length.max(initial=0))
    inside = index < (first + length)[:, None]
    index = np.minimum(index, steps - 1)
    observed = np.take_along_axis(observed, index, axis=1) & inside
    y = np.take_along_axis(context, index, axis=1).astype(np.float64)
    return History(_interpolate(y, observed, inside), observed, length, gap)


def _interpolate(y: np.ndarray, observed: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Values with those missing inside a row on the line between their neighbours, and 0 outside."""
    result = np.where(observed, y, 0.0)
    missing = np.flatnonzero(inside & ~observed)
    if len(missing):
        # Each row begins and ends with an observed value, so no line crosses rows.
        points = np.flatnonzero(observed)
        result.flat[missing] = np.interp(missing, points, result.flat[points])
    return result
