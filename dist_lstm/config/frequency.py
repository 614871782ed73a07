"""Frequencies: aliases, grids of time stamps, and season lengths.

A frequency is a pandas alias (`h`, `D`, `MS`, ...) for time stamps, or a whole number for integer steps.
Axes: R time stamps, C cycles of the calendar. Time stamps are `datetime64[us]` without a zone.
"""

import math
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from dist_lstm.config.table import STEP, UNITS
from dist_lstm.errors import UserError

_RENAMED = {"H": "h", "T": "min", "S": "s", "M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "BM": "BME"}
_PER_SEASON = (
    {"D": 7, "B": 5, "C": 5, "bh": 8, "cbh": 8}
    | dict.fromkeys(("MS", "ME", "BMS", "BME", "CBMS", "CBME", "WOM", "LWOM"), 12)
    | dict.fromkeys(("SMS", "SME"), 24)
    | dict.fromkeys(("QS", "QE", "BQS", "BQE"), 4)
)
#: Steps that pandas can count one by one in seconds, as it does for business hours.
_LONGEST = 500_000
#: Stretches of a series that are looked at.
_STRETCHES = 40
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_DAY = np.timedelta64(1, "D")
_DAYS_PER_MONTH = 365.25 / 12
_FULL = {"hour": 24, "weekday": 7, "month": 12}


#: Months per step of the frequencies that move from month to month.
_MONTHS = {
    (pd.offsets.MonthBegin, pd.offsets.MonthEnd): 1,
    (pd.offsets.QuarterBegin, pd.offsets.QuarterEnd): 3,
    (pd.offsets.YearBegin, pd.offsets.YearEnd): 12,
}
_HOURS = (pd.offsets.BusinessHour, pd.offsets.CustomBusinessHour)


@dataclass(frozen=True)
class _Months:
    """Time stamps as months, `[R]`, and the time since the first midnight of the month, `[R]`."""

    month: np.ndarray
    within: np.ndarray


def _split_months(ds: np.ndarray) -> _Months:
    month = ds.astype("datetime64[M]")
    return _Months(month, ds - month.astype(ds.dtype))


def _length(month: np.ndarray) -> np.ndarray:
    """Lengths of months, `[R]`, timedelta64[us]."""
    return (month + np.timedelta64(1, "M")).astype("datetime64[us]") - month.astype("datetime64[us]")


@dataclass(frozen=True)
class Cycle:
    """A cycle of the calendar.

    Attributes:
        name: `hour` (of the day), `weekday` or `month` (of the year).
        period: Its length: 24 hours, 7 days (5 for business days), 12 months.
        advance: Length of a step in the unit of `period`; for finer frequencies a month is 30.44 days.
    """

    name: str
    period: float
    advance: float


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
            return offset.n * 7 * _DAY
        if isinstance(offset, pd.offsets.Day):
            return offset.n * _DAY
        if isinstance(offset, pd.offsets.Tick):
            return pd.Timedelta(offset).to_timedelta64().astype("timedelta64[us]")
        return None

    @property
    def _offset(self) -> Any:
        return pd.tseries.frequencies.to_offset(self.name)

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
            at, start = _split_months(ds), _split_months(origin)
            steps, rest = np.divmod((at.month - start.month).astype(np.int64), self._months)
            if self._at_end:
                before_end = _length(start.month) - start.within
                same = (_length(at.month) - at.within == before_end) & (before_end <= _DAY)
            else:  # a day that every month has
                same = (at.within == start.within) & (start.within < 28 * _DAY)
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
            steps: Number of steps, `[R]`, not negative.

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
            start = _split_months(origin)
            month = start.month + steps * self._months
            days = start.within - _length(start.month) + _length(month) if self._at_end else start.within
            return (month.astype("datetime64[us]") + days).astype(origin.dtype)
        # The grid must hold the step farthest from the earliest origin.
        days, steps = self._without_time(origin), steps * self._offset.n
        grid = self._grid(days.min(), last=days.max())
        grid = self._grid(grid[0], periods=len(grid) + int(steps.max()))
        return grid[np.searchsorted(grid, days) + steps] + (origin - days)

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
        return ds if isinstance(self._offset, _HOURS) else ds.astype("datetime64[D]").astype("datetime64[us]")

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

    @property
    def season_length(self) -> int:
        """Steps per season that are usual for this frequency; 1 for no season."""
        if isinstance(self.name, int):
            return 1
        offset = self._offset
        base = offset.base.freqstr.split("-")[0]
        width = self.width
        if base in _PER_SEASON:
            season = _PER_SEASON[base]
        elif width is not None and np.timedelta64(1, "m") <= width < _DAY:
            steps_per_day = _DAY / np.timedelta64(width)
            return int(steps_per_day) if steps_per_day.is_integer() else 1
        else:
            return 1
        return season // offset.n if season % offset.n == 0 else 1

    @property
    def within_day(self) -> bool:
        """Whether a step is shorter than a day, and so lasts equally long in every time zone."""
        return isinstance(self.width, np.timedelta64) and bool(self.width < _DAY)

    @property
    def cycles(self) -> tuple[Cycle, ...]:
        """The calendar cycles that have more than one step; none for integer steps and for years."""
        if self.integer:
            return ()
        width = self.width
        if isinstance(width, np.timedelta64):
            days = float(width / _DAY)
            hour = (Cycle("hour", 24, 24 * days),) if days < 1 else ()
            weekday = (Cycle("weekday", 7, days),) if days < 7 else ()
            return (*hour, *weekday, Cycle("month", 12, days / _DAYS_PER_MONTH))
        offset = self._offset
        base = offset.base.freqstr.split("-")[0]
        if base in ("B", "C"):
            weekday = Cycle("weekday", 5, float(offset.n))
            return (weekday, Cycle("month", 12, 7 / 5 * offset.n / _DAYS_PER_MONTH))
        if isinstance(offset, _HOURS):
            days = offset.n / _PER_SEASON["bh"]
            month = Cycle("month", 12, 7 / 5 * days / _DAYS_PER_MONTH)
            return (Cycle("hour", 8, float(offset.n)), Cycle("weekday", 5, days), month)
        months = {24: 0.5, 12: 1, 4: 3}.get(_PER_SEASON.get(base, 0), 12) * offset.n
        return (Cycle("month", 12, float(months)),) if months % 12 else ()

    def calendar(self, ds: np.ndarray) -> np.ndarray:
        """Compute the positions in the cycles.

        Args:
            ds: Local time stamps, `[R]`.

        Returns:
            One column per cycle, `[R, C]`, float32, in the unit of its period: hours since midnight, days
            since Monday, months since New Year, with fractions.
        """
        day = ds.astype("datetime64[D]")
        month = day.astype("datetime64[M]")
        next_month = (month + np.timedelta64(1, "M")).astype("datetime64[D]")
        within = (day - month.astype("datetime64[D]")) / (next_month - month.astype("datetime64[D]"))
        positions = {
            "hour": (ds - day) / np.timedelta64(1, "h"),
            # 1970 began on a Thursday.
            "weekday": (ds - np.datetime64(0, "D")) / _DAY + 3,
            "month": month.astype(np.int64) + within,
        }
        columns = [positions[cycle.name] % _FULL[cycle.name] for cycle in self.cycles]
        return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(ds), 0), np.float32)


def parse_frequency(freq: str | int) -> Frequency:
    """Parse and check a frequency that the user gave.

    Args:
        freq: A pandas alias or a whole number above 0.

    Returns:
        The frequency, with the alias as pandas spells it.

    Raises:
        UserError: If pandas does not support the alias, it is finer than a microsecond, or the number is below 1.

    Example:
        >>> parse_frequency("60min").season_length
        24
    """
    if isinstance(freq, int) or freq.isdecimal():
        if int(freq) < 1:
            raise UserError("task.freq", f"a whole number must be at least 1, got {freq}")
        return Frequency(int(freq))
    try:
        offset: Any = pd.tseries.frequencies.to_offset(freq)
    except (ValueError, TypeError):
        offset = None
    if offset is None or offset.n < 1:
        letters = freq.lstrip("0123456789")
        hint = (
            f"write {freq.removesuffix(letters)}{_RENAMED[letters]}"
            if letters in _RENAMED
            else ("use an alias such as min, h, D, W, MS, ME, QS or YS, or 1 for integer steps")
        )
        raise UserError("task.freq", f"{freq!r} is not a frequency of pandas", hint)
    if isinstance(offset, pd.offsets.Tick) and offset.nanos % 1000:
        raise UserError("task.freq", f"{freq!r} is not a whole number of microseconds, the finest resolution")
    return Frequency(offset.freqstr)


def frequency_name(freq: Any) -> str | int | None:
    """The alias of an offset or a duration of pandas, NumPy or Python; others as they are.

    Example:
        >>> frequency_name(pd.Timedelta(minutes=15)), frequency_name(pd.offsets.MonthBegin(2)), frequency_name("D")
        ('15min', '2MS', 'D')
    """
    is_offset = isinstance(freq, pd.tseries.offsets.BaseOffset)
    if is_offset or isinstance(freq, pd.Timedelta | np.timedelta64 | timedelta):
        offset: Any = freq if is_offset else pd.tseries.frequencies.to_offset(pd.Timedelta(freq))
        return offset.freqstr
    return int(freq) if isinstance(freq, np.integer) else freq


def infer_frequency(series: list[np.ndarray], ds_format: str | None = None) -> Frequency:
    """Infer the frequency of some series.

    Candidates are the frequencies of stretches of ten steps, those of most steps first, then the distance between
    most pairs of neighbours. The first on whose grid all series lie is the frequency.

    Args:
        series: Sorted time stamps or steps of each series, gaps and duplicates allowed.
        ds_format: `data.ds_format`; where it is `step`, whole numbers may look like dates.

    Returns:
        The frequency. If no candidate fits all series, that of most stretches. For whole numbers, the distance
        that divides all others.

    Raises:
        UserError: If no stretch is regular, whole numbers look like dates or times, or most steps have no row.
    """
    series = [np.unique(ds) for ds in series]
    if any(ds.dtype.kind == "i" for ds in series):
        return _infer_step(series, ds_format == STEP)
    votes: Counter[str] = Counter()
    for ds in series:
        firsts = range(0, len(ds) - 2, max(5, len(ds) // _STRETCHES))
        for first in firsts:
            result = _infer(ds[first : first + 10])
            if result:
                votes[result] += len(ds) / len(firsts)
    regular = sorted(votes, key=lambda name: (-votes[name], name))
    for name in [*regular, *_usual_distance(series)]:
        if _on_grid(parse_frequency(name), series):
            return Frequency(name)
    if not regular:
        raise UserError(
            "task.freq", "the time stamps show no regular frequency", "set it to an alias such as h, D or MS"
        )
    return Frequency(regular[0])


def check_frequency(given: Frequency, series: list[np.ndarray], ds_format: str | None = None) -> None:
    """Refuse a frequency that time stamps or steps contradict, such as days for hourly data.

    Args:
        given: The frequency that the user gave.
        series: Sorted time stamps or steps of each series, gaps and duplicates allowed.
        ds_format: `data.ds_format`; where it is `step`, whole numbers may look like dates.

    Raises:
        UserError: If the series are not on its grid and have another frequency, if weeks begin on another day, or
            whole numbers are multiples of a larger step or look like dates.
    """
    series = [np.unique(ds) for ds in series]
    if any(ds.dtype.kind == "i" for ds in series):
        if given.integer:
            _check_step(given, series, ds_format == STEP)
        return
    if given.integer:
        return
    if _on_grid(given, series):
        _check_weekday(given, series)
        return
    try:
        shown = infer_frequency(series)
    except UserError:  # without a regular frequency nothing contradicts
        return
    if shown != given:
        raise UserError(
            "task.freq",
            f"is {given.name!r}, but the time stamps show {shown.name!r}",
            f"set it to {shown.name!r}, or leave it out",
        )


def _infer(stamps: np.ndarray) -> str | None:
    with warnings.catch_warnings():
        # Pandas 4 will return an offset where pandas 3 returns its name.
        warnings.filterwarnings("ignore", ".*infer_freq", DeprecationWarning)
        offset: Any = pd.tseries.frequencies.to_offset(pd.infer_freq(pd.DatetimeIndex(stamps)))
    if offset is not None:
        return offset.freqstr
    months = _split_months(stamps)
    apart = np.diff(months.month).astype(np.int64)
    monthly = (months.within == months.within[0]).all() and (apart == apart[0]).all() and apart[0] > 0
    return pd.offsets.MonthBegin(int(apart[0])).freqstr if monthly else None


def _on_grid(freq: Frequency, series: list[np.ndarray]) -> bool:
    """Whether all series lie on the grid of a frequency, each from its own start."""
    try:
        return all((freq.position(ds, np.repeat(ds[:1], len(ds))) >= 0).all() for ds in series)
    except UserError:  # too many steps
        return False


def _usual_distance(series: list[np.ndarray]) -> list[str]:
    """The distance between most pairs of neighbours as an alias, if there is one."""
    distances = np.concatenate([np.diff(ds) for ds in series] or [np.zeros(0, "timedelta64[us]")])
    if len(distances) < 2:
        return []
    values, counts = np.unique(distances, return_counts=True)
    if counts.max() <= len(distances) / 2:
        return []
    offset: Any = pd.tseries.frequencies.to_offset(pd.Timedelta(values[np.argmax(counts)]))
    return [offset.freqstr]


def _check_weekday(given: Frequency, series: list[np.ndarray]) -> None:
    offset: Any = given._offset  # noqa: SLF001
    if not isinstance(offset, pd.offsets.Week) or offset.weekday is None:
        return
    # 1970 began on a Thursday.
    days = {int(day) for ds in series for day in (ds[:1].astype("datetime64[D]").astype(np.int64) + 3) % 7}
    if len(days) == 1 and offset.weekday not in days:
        right = f"{given.name[:-3]}{_WEEKDAYS[days.pop()]}"  # type: ignore
        raise UserError(
            "task.freq",
            f"is {given.name!r}, but the time stamps show {right!r}",
            f"set it to {right!r}, or leave it out",
        )


def _infer_step(steps: list[np.ndarray], counted: bool) -> Frequency:
    """The step of whole numbers; those that are known to be counted are not taken for dates."""
    step = _common_step(steps)
    if not counted:
        _refuse_dates(steps)
        _refuse_times(steps, step)
    rows, grid = sum(map(len, steps)), sum((int(ds[-1]) - int(ds[0])) // step + 1 for ds in steps if len(ds))
    if 2 * rows < grid:
        raise UserError(
            "task.freq",
            f"ds holds whole numbers, and at a step of {step} only {rows / grid:.1%} of the steps have a row",
            "set it to the distance between two steps, such as 1, or data.ds_format where they are dates or times",
        )
    return Frequency(step)


def _check_step(given: Frequency, steps: list[np.ndarray], counted: bool) -> None:
    if not counted:
        _refuse_dates(steps)
    step = _common_step(steps)
    if step != given.name and step % int(given.name) == 0:
        raise UserError(
            "task.freq", f"is {given.name}, but all steps are multiples of {step}", f"set it to {step}"
        )


def _common_step(steps: list[np.ndarray]) -> int:
    """The greatest common divisor of all distances between steps; 1 without any."""
    return math.gcd(*(int(np.gcd.reduce(np.diff(ds))) for ds in steps if len(ds) > 1)) or 1


def _refuse_dates(steps: list[np.ndarray]) -> None:
    """Refuse whole numbers that are dates such as 20240131 or 202401."""
    values = np.unique(np.concatenate(steps))
    for digits, form in ((8, "%Y%m%d"), (6, "%Y%m")):
        first, last = (10 ** (digits - 4) * year for year in (1900, 2101))
        if len(values) < 2 or values[0] < first or values[-1] >= last:
            continue
        dates = pd.to_datetime(pd.Series(values).astype(str), format=form, errors="coerce")
        if dates.notna().all():
            raise UserError(
                "data.columns.ds",
                f"holds whole numbers that look like dates, {values[0]} to {values[-1]}",
                f"set data.ds_format to {form!r}, or to {STEP!r} where they count steps",
            )


def _refuse_times(steps: list[np.ndarray], step: int) -> None:
    """Refuse whole numbers that are times since 1970."""
    low, high = (min(int(ds[0]) for ds in steps if len(ds)), max(int(ds[-1]) for ds in steps if len(ds)))
    for unit, per_second in UNITS.items():
        # From 1980 to 2100.
        if low >= 315_532_800 * per_second and high < 4_102_444_800 * per_second:
            raise UserError(
                "data.columns.ds",
                f"holds whole numbers that look like times since 1970 in {unit}, {low} to {high}",
                f"set data.ds_format to {unit!r}, or task.freq to {step} where they count steps",
            )
