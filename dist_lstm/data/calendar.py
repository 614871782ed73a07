"""Time stamps with a zone to the grid and back.

Series lie on a grid of time stamps without a zone. Stamps with a zone go to UTC where a step is shorter than
a day, so that a clock change neither doubles nor skips a step; to the local clock where it is a day or
longer, because days and months begin at local midnight.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.task import Task


def zone_of(kind: pa.DataType) -> str | None:
    """The zone of a column of time stamps; None for integer steps and stamps without a zone."""
    return kind.tz if pa.types.is_timestamp(kind) else None


def local_clock(utc: np.ndarray, timezone: str) -> np.ndarray:
    """Time stamps in UTC as the clock of a zone shows them, both `[R]`."""
    return pd.DatetimeIndex(utc).tz_localize("UTC").tz_convert(timezone).tz_localize(None).to_numpy()


def to_grid(utc: np.ndarray, freq: Frequency, timezone: str | None) -> np.ndarray:
    """Time stamps as they lie on the grid of a frequency.

    Args:
        utc: Time stamps in UTC, or without a zone, or integer steps, `[R]`.
        freq: The frequency.
        timezone: Zone of the time stamps; None where they have none.

    Returns:
        Time stamps or steps without a zone, `[R]`. Where days begin at midnight, the first time of a day whose
        midnight a clock change skips stands for that midnight.
    """
    if timezone is None or freq.within_day:
        return utc
    local = local_clock(utc, timezone)
    midnight = local.astype("datetime64[D]").astype(local.dtype)
    at_midnight = local == midnight
    return np.where(at_midnight.any() & (_instants(midnight, timezone) == utc), midnight, local)


def _instants(local: np.ndarray, timezone: str) -> np.ndarray:
    """Times on the clock of a zone in UTC: of a skipped one the first after it, of a doubled one the first."""
    first = np.ones(len(local), bool)
    aware = pd.DatetimeIndex(local).tz_localize(timezone, ambiguous=first, nonexistent="shift_forward")
    return aware.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")


def stamps(grid: np.ndarray, task: Task) -> pa.Array:
    """Time stamps on the grid as they are shown to the user, in the zone they came in.

    Args:
        grid: Time stamps or steps on the grid, `[R]`.
        task: Frequency and zone.

    Returns:
        Time stamps in the task's zone, or `grid` as it is where there is none, `[R]`. A local midnight that
        a clock change skips becomes the first time after it; a doubled one is the first of the two.
    """
    if task.timezone is None:
        return pa.array(grid)
    utc = grid.astype("datetime64[us]") if task.freq.within_day else _instants(grid, task.timezone)
    return pa.array(utc.astype(np.int64), pa.timestamp("us", task.timezone))


def cycle_positions(grid: np.ndarray, task: Task) -> np.ndarray:
    """Places of time stamps in the cycles of the calendar, on the local clock.

    Args:
        grid: Time stamps on the grid, `[R]`.
        task: Frequency and zone.

    Returns:
        One column a cycle, `[R, C]`, float32.
    """
    local = grid if task.timezone is None or not task.freq.within_day else local_clock(grid, task.timezone)
    return task.freq.calendar(local)
