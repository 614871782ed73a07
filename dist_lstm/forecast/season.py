"""Seasonal adjustment of many series at once: a test, and classical decomposition where it says so.

Axes: N series, T steps, K seasons, M phases of a season, H horizon.
"""

from dataclasses import dataclass, replace

import numpy as np

from dist_lstm.forecast.history import History

#: Of a standard normal: the autocorrelation at the season is different from 0 with 90 % confidence.
_CRITICAL = 1.645
#: Fewest seasons of a series whose season is estimated.
_LEAST_SEASONS = 3


@dataclass(frozen=True)
class Season:
    """Seasonal indices of series.

    Attributes:
        index: By phase, the first step of a series being phase 0, `[N, M]`: factors around 1 or terms around 0, in
            target units.
        factor: Whether they are factors, `[N]`.
    """

    index: np.ndarray
    factor: np.ndarray

    def remove(self, history: History) -> History:
        """The seasonally adjusted series."""
        index = self.index[:, np.arange(history.y.shape[1]) % self.index.shape[1]]
        factor = self.factor[:, None]
        return replace(history, y=(history.y - np.where(factor, 0, index)) / np.where(factor, index, 1))

    def restore(self, forecast: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Forecasts with the season put back.

        Args:
            forecast: Forecasts of adjusted series, `[N, H]`, in target units.
            step: The step of each forecast, counted from the first of the series, `[N, H]`.

        Returns:
            Forecasts, `[N, H]`, in target units.
        """
        index = np.take_along_axis(self.index, step % self.index.shape[1], axis=1)
        return np.where(self.factor[:, None], forecast * index, forecast + index)


def estimate_season(history: History, season_length: int) -> Season:
    """Estimate the season of those series that have one.

    Factors where all values are positive, terms otherwise. A series without a season, by the test of the M4
    competition or because it is shorter than three seasons, has factors of 1.

    Source: Makridakis et al., "The M4 Competition", IJF 36 (2020), its benchmarks; classical decomposition:
    Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", section 3.4.

    Args:
        history: The series.
        season_length: Steps per season; 1 for none.

    Returns:
        The seasonal indices.
    """
    number = len(history.y)
    if season_length == 1 or history.y.shape[1] < _LEAST_SEASONS * season_length:
        return Season(np.ones((number, 1)), np.ones(number, bool))
    factor = np.where(history.observed, history.y, 1).min(axis=1) > 0
    index = _classical_indices(history, season_length, factor)
    seasonal = _is_seasonal(history, season_length) & np.isfinite(index).all(axis=1)
    return Season(np.where(seasonal[:, None], index, 1.0), factor | ~seasonal)


def _is_seasonal(history: History, season_length: int) -> np.ndarray:
    """Whether the autocorrelation one season apart is significant, `[N]`."""
    inside, length = history.inside, np.maximum(history.length, 1)
    mean = history.y.sum(axis=1) / length
    deviation = np.where(inside, history.y - mean[:, None], 0)
    size = 1 << (deviation.shape[1] + season_length).bit_length()
    spectrum = np.abs(np.fft.rfft(deviation, size)) ** 2
    covariance = np.fft.irfft(spectrum, size)[:, : season_length + 1]
    variance = covariance[:, :1]
    r = np.divide(covariance[:, 1:], variance, out=np.zeros_like(covariance[:, 1:]), where=variance > 0)
    limit = _CRITICAL * np.sqrt((1 + 2 * (r[:, :-1] ** 2).sum(axis=1)) / length)
    return (np.abs(r[:, -1]) > limit) & (history.length >= _LEAST_SEASONS * season_length)


def _classical_indices(history: History, season_length: int, factor: np.ndarray) -> np.ndarray:
    """Means by phase of the ratio or difference to the centred moving average, `[N, M]`; NaN without any."""
    y, half = history.y, season_length // 2
    total = np.cumsum(np.pad(y, ((0, 0), (1, 0))), axis=1)
    trend = (total[:, season_length:] - total[:, :-season_length]) / season_length
    if season_length % 2 == 0:
        trend = (trend[:, 1:] + trend[:, :-1]) / 2
    steps = slice(half, half + trend.shape[1])
    counted = np.zeros(y.shape, bool)
    counted[:, steps] = history.observed[:, steps] & (
        np.arange(steps.stop)[half:] < history.length[:, None] - half
    )
    counted[:, steps] &= ~factor[:, None] | (trend > 0)
    detrended = np.zeros_like(y)
    np.divide(y[:, steps], trend, out=detrended[:, steps], where=counted[:, steps] & factor[:, None])
    np.subtract(y[:, steps], trend, out=detrended[:, steps], where=counted[:, steps] & ~factor[:, None])
    seasons = -(-y.shape[1] // season_length)
    pad = ((0, 0), (0, seasons * season_length - y.shape[1]))
    detrended, counted = (
        np.pad(one, pad).reshape(len(y), seasons, season_length).sum(axis=1) for one in (detrended, counted)
    )
    index = np.divide(detrended, counted, out=np.full(detrended.shape, np.nan), where=counted > 0)
    mean = index.mean(axis=1, keepdims=True)
    return np.where(factor[:, None], index / mean, index - mean)
