"""Time stamps with a time zone to the grid and back.

The grid of a series has time stamps without a zone. Stamps with a zone are converted to UTC if a step is shorter
than a day, so that a clock change neither doubles nor skips a step; to local time if it is a day or longer,
because days and months begin at local midnight.

Axes: R rows, C cycles of the calendar.
"""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import pyarrow as pa

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.task import Task


def zone_of(kind: pa.DataType) -> str | None:
    """The time zone of a column of time stamps; None for integer steps and stamps without a zone."""
    return kind.tz if pa.types.is_timestamp(kind) else None


def _rules(timezone: str) -> ZoneInfo | str:
    """The rules of a zone; its name where it is an offset such as `+05:30`.

    Pandas 2 would take them from pytz, which may know other changes of the clock than Python does.
    """
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        return timezone


def local_clock(utc: np.ndarray, timezone: str) -> np.ndarray:
    """Time stamps in UTC to the local time of a zone, both `[R]`.

    Args:
        utc: Time stamps in UTC, `[R]`, datetime64.
        timezone: Name of the zone.

    Returns:
        Local time without a zone, `[R]`, datetime64.

    Example:
        >>> local_clock(np.array(["2024-07-01T22:00"], "datetime64[us]"), "Europe/Berlin").astype(str).tolist()
        ['2024-07-02T00:00:00.000000']
    """
    return pd.DatetimeIndex(utc).tz_localize("UTC").tz_convert(_rules(timezone)).tz_localize(None).to_numpy()


def to_grid(utc: np.ndarray, freq: Frequency, timezone: str | None) -> np.ndarray:
    """Time stamps on the grid of a frequency.

    Args:
        utc: Time stamps in UTC, or without a zone, or integer steps, `[R]`.
        freq: The frequency.
        timezone: Zone of the time stamps; None if they have none.

    Returns:
        Time stamps or steps without a zone, `[R]`. Where days begin at midnight and a clock change skips the
        midnight of a day, the first time of that day becomes its midnight.
    """
    if timezone is None or freq.within_day:
        return utc
    local = local_clock(utc, timezone)
    midnight = local.astype("datetime64[D]").astype(local.dtype)
    at_midnight = local == midnight
    return np.where(at_midnight.any() & (_instants(midnight, timezone) == utc), midnight, local)


def _instants(local: np.ndarray, timezone: str) -> np.ndarray:
    """Local time of a zone to UTC: a skipped time becomes the first after it, a doubled one the first of both."""
    first = np.ones(len(local), bool)
    aware = pd.DatetimeIndex(local).tz_localize(_rules(timezone), ambiguous=first, nonexistent="shift_forward")
    return aware.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")


def stamps(grid: np.ndarray, task: Task) -> pa.Array:
    """Time stamps on the grid to those of the user's table, in its time zone.

    Args:
        grid: Time stamps or steps on the grid, `[R]`.
        task: Frequency and zone.

    Returns:
        Time stamps in the task's zone, or `grid` itself without a zone, `[R]`. A local midnight that
        a clock change skips becomes the first time after it; a doubled one is the first of the two.
    """
    if task.timezone is None:
        return pa.array(grid)
    utc = grid.astype("datetime64[us]") if task.freq.within_day else _instants(grid, task.timezone)
    return pa.array(utc.astype(np.int64), pa.timestamp("us", task.timezone))


def cycle_positions(grid: np.ndarray, task: Task) -> np.ndarray:
    """Positions of time stamps in the cycles of the calendar, in local time.

    Args:
        grid: Time stamps on the grid, `[R]`.
        task: Frequency and zone.

    Returns:
        One column per cycle, `[R, C]`, float32.
    """
    local = grid if task.timezone is None or not task.freq.within_day else local_clock(grid, task.timezone)
    return task.freq.calendar(local)
