"""The frequency of time stamps, and whether they contradict the one that the user gave.

Axes: R time stamps.
"""

import math
from collections import defaultdict

import numpy as np
import pandas as pd

from dist_lstm.config.alias import WEEKDAYS, duration_alias, infer_alias
from dist_lstm.config.frequency import Frequency, month_length, parse_frequency, split_months
from dist_lstm.config.table import STEP, UNITS
from dist_lstm.errors import UserError

#: Stretches of a series that are looked at.
_STRETCHES = 40


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
    votes: defaultdict[str, float] = defaultdict(float)
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
    alias = infer_alias(stamps)
    # Pandas takes the last Friday of a month for the fourth.
    if alias is not None and _on_grid(parse_frequency(alias), [stamps]):
        return alias
    months = split_months(stamps)
    apart = np.diff(months.month).astype(np.int64)
    if (apart != apart[0]).any() or apart[0] < 1:
        return None
    if (months.within == months.within[0]).all():
        return pd.offsets.MonthBegin(int(apart[0])).freqstr
    weekday = _weekday(stamps)
    in_last_week = month_length(months.month) - months.within <= np.timedelta64(7, "D")
    if apart[0] == 1 and in_last_week.all() and (weekday == weekday[0]).all():
        return f"LWOM-{WEEKDAYS[weekday[0]]}"
    return None


def _weekday(stamps: np.ndarray) -> np.ndarray:
    """Days of the week, `[R]`, 0 for Monday."""
    # 1970 began on a Thursday.
    return (stamps.astype("datetime64[D]").astype(np.int64) + 3) % 7


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
    return [duration_alias(values[np.argmax(counts)])]


def _check_weekday(given: Frequency, series: list[np.ndarray]) -> None:
    if given.weekday is None:
        return
    days = {int(day) for ds in series for day in _weekday(ds[:1])}
    if len(days) == 1 and given.weekday not in days:
        right = f"{str(given.name).rpartition('-')[0]}-{WEEKDAYS[days.pop()]}"
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
