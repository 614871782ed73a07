"""Frequencies: aliases, grids of time stamps, and season lengths.

A frequency is a pandas alias (`h`, `D`, `MS`, ...) for time stamps, or a whole number for integer steps.
Axes: R time stamps, C cycles of the calendar. Time stamps are `datetime64[us]` without a zone.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from dist_lstm.config.alias import duration_alias, read_alias, to_offset
from dist_lstm.config.seasons import DAY, HOURS, Cycle, cycles_of, positions_in, usual_season
from dist_lstm.errors import UserError

#: Steps that pandas can count one by one in seconds, as it does for business hours.
_LONGEST = 500_000

#: Months per step of the frequencies that move from month to month.
_MONTHS = {
    (pd.offsets.MonthBegin, pd.offsets.MonthEnd): 1,
    (pd.offsets.QuarterBegin, pd.offsets.QuarterEnd): 3,
    (pd.offsets.YearBegin, pd.offsets.YearEnd): 12,
}


@dataclass(frozen=True)
class Months:
    """Time stamps as months, `[R]`, and the time since the first midnight of the month, `[R]`."""

    month: np.ndarray
    within: np.ndarray


def split_months(ds: np.ndarray) -> Months:
    """Time stamps as months and the time since their first midnights; `ds` is `[R]`."""
    month = ds.astype("datetime64[M]")
    return Months(month, ds - month.astype(ds.dtype))


def month_length(month: np.ndarray) -> np.ndarray:
    """Lengths of months, `[R]`, timedelta64[us]."""
    return (month + np.timedelta64(1, "M")).astype("datetime64[us]") - month.astype("datetime64[us]")


@dataclass(frozen=True)
class Frequency:
    """The distance between two steps of a series.

    Attributes:
        name: The alias as pandas spells it, or the whole number.
    """

    name: str | int

    @property
    def integer(self) -> bool:
        """Whether steps are whole numbers rather than time stamps."""
        return isinstance(self.name, int)

    @property
    def width(self) -> np.timedelta64 | int | None:
        """The fixed distance between two steps; None where it varies, as with months."""
        if isinstance(self.name, int):
            return self.name
        offset = self._offset
        if isinstance(offset, pd.offsets.Week):
            return offset.n * 7 * DAY
        if isinstance(offset, pd.offsets.Day):
            return offset.n * DAY
        if isinstance(offset, pd.offsets.Tick):
            return pd.Timedelta(offset).to_timedelta64().astype("timedelta64[us]")
        return None

    @property
    def _offset(self) -> Any:
        return to_offset(str(self.name))

    def position(self, ds: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Count the steps from an origin to a time stamp.

        Args:
            ds: Time stamps or steps, `[R]`.
            origin: The origin of each, `[R]`.

        Returns:
            Steps, `[R]`, int64; -1 where the time stamp is not a whole number of steps after the origin. Steps of
            days and longer keep the time of day of the origin, those from month to month also its day.
        """
        if len(ds) == 0:
            return np.zeros(0, np.int64)
        width = self.width
        if width is not None:
            steps, rest = np.divmod(ds - origin, width)
            return np.where((rest == np.zeros((), rest.dtype)) & (steps >= 0), steps, -1).astype(np.int64)
        if self._months is not None:
            at, start = split_months(ds), split_months(origin)
            steps, rest = np.divmod((at.month - start.month).astype(np.int64), self._months)
            if self._at_end:
                before_end = month_length(start.month) - start.within
                same = (month_length(at.month) - at.within == before_end) & (before_end <= DAY)
            else:  # a day that every month has
                same = (at.within == start.within) & (start.within < 28 * DAY)
            return np.where(same & (rest == 0) & (steps >= 0), steps, -1)
        days, first = self._without_time(ds), self._without_time(origin)
        grid = self._grid(first.min(), last=days.max())
        at, start = np.searchsorted(grid, days), np.searchsorted(grid, first)
        padded = np.append(grid, np.datetime64("NaT", "us"))
        steps, rest = np.divmod(at - start, self._offset.n)
        on_grid = (padded[at] == days) & (padded[start] == first) & (rest == 0) & (steps >= 0)
        return np.where(on_grid & (ds - days == origin - first), steps, -1)

    def advance(self, origin: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Compute the time stamps that are a number of steps after their origins.

        Args:
            origin: Time stamps on the grid, `[R]`.
            steps: Number of steps, `[R]`; negative ones only from month to month.

        Returns:
            Time stamps, `[R]`, of the type of `origin`.

        Example:
            >>> january = np.array(["2024-01-01"], "datetime64[us]")
            >>> parse_frequency("MS").advance(january, np.array([2])).astype("datetime64[D]")
            array(['2024-03-01'], dtype='datetime64[D]')
        """
        if len(origin) == 0:
            return origin
        width = self.width
        if width is not None:
            return origin + steps * width
        if self._months is not None:
            start = split_months(origin)
            month = start.month + steps * self._months
            days = start.within - month_length(start.month) + month_length(month) if self._at_end else start.within
            return (month.astype("datetime64[us]") + days).astype(origin.dtype)
        # The grid must hold the step farthest from the earliest origin.
        days, steps = self._without_time(origin), steps * self._offset.n
        grid = self._grid(days.min(), last=days.max())
        grid = self._grid(grid[0], periods=len(grid) + int(steps.max()))
        return grid[np.searchsorted(grid, days) + steps] + (origin - days)

    def steps_until(self, origin: np.ndarray, last: Any) -> np.ndarray:
        """Count the steps from time stamps to a later one, which need not be on their grids.

        Args:
            origin: Time stamps or steps on the grid, `[R]`, not after `last`.
            last: A time stamp or step.

        Returns:
            Whole steps, `[R]`, int64: one more would be after `last`.

        Example:
            >>> days = np.array(["2024-01-05", "2024-01-09"], "datetime64[us]")
            >>> parse_frequency("B").steps_until(days, np.datetime64("2024-01-14", "us")).tolist()
            [5, 3]
        """
        if len(origin) == 0:
            return np.zeros(0, np.int64)
        width = self.width
        if width is not None:
            return ((last - origin) // width).astype(np.int64)
        if self._months is not None:
            months = last.astype("datetime64[M]") - split_months(origin).month
            steps = months.astype(np.int64) // self._months
        else:
            days = self._without_time(origin)
            grid = self._grid(days.min(), last=last)
            steps = (len(grid) - 1 - np.searchsorted(grid, days)) // self._offset.n
        # The time stamp in the last month or on the last day may be later than `last`.
        return steps - (self.advance(origin, steps) > last)

    def steps_from(self, first: Any, last: Any) -> int:
        """Count the steps from one time stamp to another, which is on the grid.

        Args:
            first: A time stamp or step; it need not be on the grid.
            last: A time stamp or step on the grid.

        Returns:
            Number of steps that are neither before `first` nor after `last`.

        Example:
            >>> first, last = np.array(["2024-01-15", "2024-04-01"], "datetime64[us]")
            >>> parse_frequency("MS").steps_from(first, last)
            3
        """
        if first > last:
            return 0
        width = self.width
        if width is not None:
            return int((last - first) // width) + 1
        if self._months is not None:
            most = int((last.astype("datetime64[M]") - first.astype("datetime64[M]")).astype(int)) // self._months
            return most + bool(self.back(last, most) >= first)
        at_most = len(self._grid(first, last=last)) + 1
        return -(-int((self._grid_until(last, at_most) >= first).sum()) // self._offset.n)

    def back(self, last: Any, steps: int) -> Any:
        """Compute the time stamp a number of steps before another one.

        Args:
            last: A time stamp or step on the grid.
            steps: Number of steps.

        Returns:
            The time stamp or step.
        """
        width = self.width
        if width is not None:
            return last - steps * width
        if self._months is not None:
            return self.advance(np.array([last]), np.array([-steps]))[0]
        return self._grid_until(last, steps * self._offset.n + 1)[0]

    @property
    def _months(self) -> int | None:
        """Months per step of frequencies that move by months, quarters or years; None for others."""
        offset = self._offset
        months = next((number for kinds, number in _MONTHS.items() if isinstance(offset, kinds)), None)
        return None if months is None else months * offset.n

    @property
    def _at_end(self) -> bool:
        """Whether steps are the last days of months."""
        return isinstance(self._offset, (pd.offsets.MonthEnd, pd.offsets.QuarterEnd, pd.offsets.YearEnd))

    def _without_time(self, ds: np.ndarray) -> np.ndarray:
        """The midnights before time stamps; the time stamps themselves where steps are hours of business."""
        return ds if isinstance(self._offset, HOURS) else ds.astype("datetime64[D]").astype("datetime64[us]")

    def _grid(
        self, first: np.datetime64, last: np.datetime64 | None = None, periods: int | None = None
    ) -> np.ndarray:
        """Time stamps one day (half month, ...) apart, also where a step is several: series may start in any."""
        if last is not None:
            few = pd.date_range(pd.Timestamp(first), periods=10, freq=self._offset.base, unit="us")
            if (last - first) / ((few[-1] - few[0]) / 9).to_timedelta64() > _LONGEST:
                raise UserError(
                    "task.freq",
                    f"from {first} to {last} there are more than {_LONGEST:,} steps of {self.name!r}",
                    "set the correct frequency, or correct the first or last time stamp",
                )
        grid = pd.date_range(pd.Timestamp(first), last, periods=periods, freq=self._offset.base, unit="us")
        return grid.to_numpy()

    def _grid_until(self, last: Any, periods: int) -> np.ndarray:
        """The last time stamps of the grid of `_grid`."""
        # pandas takes the closing hour for the first one, not the equal opening hour of the next day.
        base = self._offset.base
        return pd.date_range(end=pd.Timestamp(last), periods=periods + 1, freq=base, unit="us").to_numpy()[1:]

    @property
    def season_length(self) -> int:
        """Steps per season that are usual for this frequency; 1 for no season."""
        return 1 if self.integer else usual_season(self._offset, self.width)

    @property
    def within_day(self) -> bool:
        """Whether a step is shorter than a day, and so lasts equally long in every time zone."""
        return isinstance(self.width, np.timedelta64) and bool(self.width < DAY)

    @property
    def weekday(self) -> int | None:
        """The day on which weeks begin, 0 for Monday; None for other frequencies than weeks."""
        return getattr(self._offset, "weekday", None) if isinstance(self._offset, pd.offsets.Week) else None

    @property
    def cycles(self) -> tuple[Cycle, ...]:
        """The calendar cycles that have more than one step; none for integer steps and for years."""
        return () if self.integer else cycles_of(self._offset, self.width)

    def calendar(self, ds: np.ndarray) -> np.ndarray:
        """Compute the positions in the cycles.

        Args:
            ds: Local time stamps, `[R]`.

        Returns:
            One column per cycle, `[R, C]`, float32, in the unit of its period: hours since midnight, days
            since Monday, months since New Year, with fractions.
        """
        return positions_in(self.cycles, ds)


def parse_frequency(freq: str | int) -> Frequency:
    """Parse and check a frequency that the user gave.

    Args:
        freq: A pandas alias or a whole number above 0.

    Returns:
        The frequency, with the alias as pandas spells it.

    Raises:
        UserError: If pandas 3 does not support the alias, it is finer than a microsecond, or the number is below
            1.

    Example:
        >>> parse_frequency("60min").season_length
        24
    """
    if isinstance(freq, int) or freq.isdecimal():
        if int(freq) < 1:
            raise UserError("task.freq", f"a whole number must be at least 1, got {freq}")
        return Frequency(int(freq))
    return Frequency(read_alias(freq).freqstr)


def frequency_name(freq: Any) -> str | int | None:
    """The name of a frequency that a program gives.

    Args:
        freq: An offset of pandas, a duration of pandas, NumPy or Python, or what `task.freq` may be.

    Returns:
        The alias of an offset or a duration; anything else as it is.

    Example:
        >>> frequency_name(pd.Timedelta(minutes=15)), frequency_name(pd.offsets.MonthBegin(2)), frequency_name("D")
        ('15min', '2MS', 'D')
    """
    if isinstance(freq, pd.tseries.offsets.BaseOffset):
        return freq.freqstr
    if isinstance(freq, pd.Timedelta | np.timedelta64 | timedelta):
        return duration_alias(freq)
    return int(freq) if isinstance(freq, np.integer) else freq
