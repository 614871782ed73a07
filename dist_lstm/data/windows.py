"""Which windows are used for training, validation and backtest, and how they are cut.

A window is identified by its series and its cutoff: the number of steps of the series before the forecast. It has
`context_length` steps before the cutoff and `horizon` steps after it; NaN before the start of the series and after
its end. Training, validation, backtest and forecast use the same cutter.

Where series share a calendar, ranges are the same dates for all of them: a series that ends earlier than the panel
has a lag, and its ranges are counted from `length + lag`, as if it went on to the panel's end. Without a shared
calendar every lag is 0.

Axes: B windows, T context, H horizon, N series, S steps of all series together.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np

from dist_lstm.config.resolved import ResolvedBacktestSettings
from dist_lstm.config.task import Task
from dist_lstm.data.calendar import cycle_positions
from dist_lstm.data.covariates import series_inputs
from dist_lstm.data.panel import Panel

#: Validation cutoffs per series: at least about so many where the range has room for them, and at most.
_FEWEST_CUTOFFS, _MOST_CUTOFFS = 4, 10


class Extents(Protocol):
    """Where series end: a panel, or a row group whose values are not read."""

    @property
    def length(self) -> np.ndarray:
        """Steps of each series, `[N]`."""
        ...

    @property
    def lag(self) -> np.ndarray:
        """Steps from the end of each series to the end of the panel, `[N]`; 0 without a shared calendar."""
        ...


@dataclass(frozen=True)
class SplitRanges:
    """Cutoffs between train, validation and test of each series.

    Attributes:
        train_end: Steps of the training range, `[N]`.
        validation_end: Steps before the test range, `[N]`.
    """

    train_end: np.ndarray
    validation_end: np.ndarray


def split_ranges(series: Extents, task: Task) -> SplitRanges:
    """Cut series into train, validation and test, in time order.

    Args:
        series: Lengths and lags of the series.
        task: Lengths of the validation and the test range.

    Returns:
        The cutoffs: 0 if a series starts later, its length if it ends earlier.
    """
    length, end = series.length, series.length + series.lag
    validation_end = end - task.test
    return SplitRanges(np.clip(validation_end - task.validation, 0, length), np.clip(validation_end, 0, length))


@dataclass(frozen=True)
class Cutoffs:
    """Evenly spaced cutoffs of each series.

    Attributes:
        first: The first cutoff of each series, `[N]`.
        count: How many cutoffs each series has, `[N]`.
        stride: Steps between two cutoffs.
    """

    first: np.ndarray
    count: np.ndarray
    stride: int

    @property
    def total(self) -> int:
        """Cutoffs of all series."""
        return int(self.count.sum())

    def enumerate(self) -> tuple[np.ndarray, np.ndarray]:
        """All cutoffs in order.

        Returns:
            The series of each cutoff, `[B]`, and the cutoffs, `[B]`.

        Example:
            >>> series, cutoff = Cutoffs(np.array([3, 7]), np.array([2, 1]), stride=5).enumerate()
            >>> series.tolist(), cutoff.tolist()
            ([0, 0, 1], [3, 8, 7])
        """
        series = np.repeat(np.arange(len(self.count)), self.count)
        number = np.arange(self.total) - np.repeat(np.cumsum(self.count) - self.count, self.count)
        return series, self.first[series] + number * self.stride


def _between(first: np.ndarray, last: np.ndarray, stride: int) -> Cutoffs:
    return Cutoffs(first, np.maximum((last - first) // stride + 1, 0), stride)


def training_cutoffs(series: Extents, task: Task, stride: int, whole: bool, span: int | None = None) -> Cutoffs:
    """Cutoffs of the windows to train on: their targets lie inside the training range.

    Args:
        series: Lengths and lags of the series.
        task: The task.
        stride: Steps between two cutoffs.
        whole: Train on all steps, validation and test range included.
        span: Steps before the last cutoff in which the others lie; None for all.

    Returns:
        Cutoffs, none for a series that is too short.
    """
    end = series.length if whole else split_ranges(series, task).train_end
    last = end - task.horizon
    first = np.full(len(end), task.min_context)
    return _between(first if span is None else np.maximum(first, last - span), last, stride)


def validation_cutoffs(series: Extents, task: Task) -> Cutoffs:
    """Cutoffs whose targets lie inside the validation range, the last one horizon before its end.

    They are a horizon apart, or closer so that there are at least about four; at most ten.

    Args:
        series: Lengths and lags of the series.
        task: The task.

    Returns:
        Cutoffs, those that a series has.
    """
    room = task.validation - task.horizon
    stride = min(task.horizon, room // (_FEWEST_CUTOFFS - 1))
    stride = max(1, stride, -(-room // (_MOST_CUTOFFS - 1)))
    return _last_cutoffs(series, task, task.test, Rolling(room // stride + 1, stride))


@dataclass(frozen=True)
class Rolling:
    """The cutoffs of a backtest.

    Attributes:
        windows: Cutoffs per series.
        stride: Steps between two cutoffs.
    """

    windows: int
    stride: int

    @classmethod
    def of(cls, settings: ResolvedBacktestSettings) -> Self:
        """The cutoffs that the settings describe."""
        return cls(settings.windows, settings.stride)


def backtest_cutoffs(series: Extents, task: Task, rolling: Rolling) -> Cutoffs:
    """Cutoffs whose targets lie inside the test range, the last one horizon before its end.

    Args:
        series: Lengths and lags of the series.
        task: The task.
        rolling: Number of cutoffs and their stride.

    Returns:
        Cutoffs, those that a series has.
    """
    return _last_cutoffs(series, task, 0, rolling if task.test else Rolling(0, 1))


def _last_cutoffs(series: Extents, task: Task, held_out: int, rolling: Rolling) -> Cutoffs:
    """The last cutoffs before the steps held out, those with enough context and at least one step to forecast."""
    last = series.length + series.lag - held_out - task.horizon
    first = last - (rolling.windows - 1) * rolling.stride
    skipped = np.maximum(-((first - task.min_context) // rolling.stride), 0)
    first = first + skipped * rolling.stride
    return _between(first, np.minimum(last, series.length - 1), rolling.stride)


def weights_by_series(series: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights of windows by which every series counts the same, however many windows it has.

    Args:
        series: Series of each window, `[B]`.
        target: Targets, `[B, H]`; NaN is missing.

    Returns:
        Weights of the targets of each window, `[B]`, float32: one over the observed targets of its series; 0 if it
        has none.

    Example:
        >>> weights_by_series(np.array([0, 0, 3]), np.array([[1.0], [2.0], [5.0]])).tolist()
        [0.5, 0.5, 1.0]
    """
    _, code = np.unique(series, return_inverse=True)
    observed = np.bincount(code, (~np.isnan(target)).sum(axis=1))[code] if len(code) else np.zeros(0)
    return np.divide(1, observed, out=np.zeros(len(code)), where=observed > 0).astype(np.float32)


def forecast_cutoffs(length: np.ndarray) -> Cutoffs:
    """One cutoff per series, at its end."""
    return Cutoffs(length, np.ones(len(length), np.int64), 1)


class WindowCutter:
    """Cuts windows out of a panel as views of one buffer.

    The buffer holds every series with `context_length` NaN before and `horizon` NaN after it, so that every
    cutoff of a series is a valid position.

    Args:
        panel: The series.
        task: Lengths of context and horizon.
    """

    def __init__(self, panel: Panel, task: Task) -> None:
        context, horizon = task.context_length, task.horizon
        number = len(panel.unique_id)
        # A window at cutoff 0 of a series begins with its padding.
        self._origin = panel.offset[:-1] + np.arange(number) * (context + horizon)
        # The size of one window even without any series.
        buffer = np.full(len(panel.y) + max(number, 1) * (context + horizon), np.nan, panel.y.dtype)
        # One copy per series: an index of every step would take several times the memory of the values.
        first, last = panel.offset[:-1].tolist(), panel.offset[1:].tolist()
        for position, begin, end in zip((self._origin + context).tolist(), first, last, strict=True):
            buffer[position : position + end - begin] = panel.y[begin:end]
        self._windows = np.lib.stride_tricks.sliding_window_view(buffer, context + horizon)
        self._panel = panel
        self._task = task

    def windows(self, series: np.ndarray, cutoff: np.ndarray) -> np.ndarray:
        """Cut windows, contexts and targets side by side.

        Args:
            series: Series of each window, `[B]`.
            cutoff: Steps before the forecast, `[B]`, 0 to the length of the series.

        Returns:
            Windows, `[B, T + H]`, in target units, of the panel's type; NaN is missing or outside of the series.
        """
        return self._windows[self._origin[series] + cutoff]

    @cached_property
    def _of_series(self) -> dict[str, np.ndarray]:
        return series_inputs(self._panel, self._task)

    def covariates(self, series: np.ndarray, cutoff: np.ndarray) -> dict[str, np.ndarray]:
        """Model inputs of windows other than their values.

        Args:
            series: Series of each window, `[B]`.
            cutoff: Steps before the forecast, `[B]`.

        Returns:
            Model inputs by name as in `input_spec`, all but `y`, each `[B, ...]`.
        """
        result = {name: values[series] for name, values in self._of_series.items()}
        if self._task.calendar:
            result["calendar"] = cycle_positions(
                self._task.freq.advance(self._panel.start[series], cutoff), self._task
            )
        return result

    def cut(self, series: np.ndarray, cutoff: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Cut windows into model inputs by name, each `[B, ...]`, and targets, `[B, H]`, of the panel's type."""
        both, context = self.windows(series, cutoff), self._task.context_length
        # A table that a model forecasts may hold values of another type than that it was trained on.
        y = both[:, :context].astype(self._task.value_type, copy=False)
        return {"y": y, **self.covariates(series, cutoff)}, both[:, context:]
