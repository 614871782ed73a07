"""Seasons and cycles of the calendar, by the offset of pandas that a step is.

Axes: R time stamps, C cycles of the calendar. Time stamps are `datetime64[us]` without a zone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

DAY = np.timedelta64(1, "D")
#: Offsets of hours of business.
HOURS = (pd.offsets.BusinessHour, pd.offsets.CustomBusinessHour)
_PER_SEASON = (
    {"D": 7, "B": 5, "C": 5, "bh": 8, "cbh": 8}
    | dict.fromkeys(("MS", "ME", "BMS", "BME", "CBMS", "CBME", "WOM", "LWOM"), 12)
    | dict.fromkeys(("SMS", "SME"), 24)
    | dict.fromkeys(("QS", "QE", "BQS", "BQE"), 4)
)
_DAYS_PER_MONTH = 365.25 / 12
_FULL = {"hour": 24, "weekday": 7, "month": 12}


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


def usual_season(offset: Any, width: Any) -> int:
    """Steps per season that are usual for an offset.

    Args:
        offset: The offset of pandas.
        width: Its fixed length; None where it varies.

    Returns:
        The steps; 1 for no season.
    """
    base = offset.base.freqstr.split("-")[0]
    if base in _PER_SEASON:
        season = _PER_SEASON[base]
        return season // offset.n if season % offset.n == 0 else 1
    if width is not None and np.timedelta64(1, "m") <= width < DAY:
        steps_per_day = DAY / np.timedelta64(width)
        return int(steps_per_day) if steps_per_day.is_integer() else 1
    return 1


def cycles_of(offset: Any, width: Any) -> tuple[Cycle, ...]:
    """The calendar cycles that have more than one step; none for years.

    Args:
        offset: The offset of pandas.
        width: Its fixed length; None where it varies.

    Returns:
        The cycles.
    """
    if width is not None:
        days = float(width / DAY)
        hour = (Cycle("hour", 24, 24 * days),) if days < 1 else ()
        weekday = (Cycle("weekday", 7, days),) if days < 7 else ()
        return (*hour, *weekday, Cycle("month", 12, days / _DAYS_PER_MONTH))
    base = offset.base.freqstr.split("-")[0]
    if base in ("B", "C"):
        weekday = Cycle("weekday", 5, float(offset.n))
        return (weekday, Cycle("month", 12, 7 / 5 * offset.n / _DAYS_PER_MONTH))
    if isinstance(offset, HOURS):
        days = offset.n / _PER_SEASON["bh"]
        month = Cycle("month", 12, 7 / 5 * days / _DAYS_PER_MONTH)
        return (Cycle("hour", 8, float(offset.n)), Cycle("weekday", 5, days), month)
    months = {24: 0.5, 12: 1, 4: 3}.get(_PER_SEASON.get(base, 0), 12) * offset.n
    return (Cycle("month", 12, float(months)),) if months % 12 else ()


def positions_in(cycles: Sequence[Cycle], ds: np.ndarray) -> np.ndarray:
    """Positions of time stamps in cycles.

    Args:
        cycles: The cycles.
        ds: Local time stamps, `[R]`.

    Returns:
        One column per cycle, `[R, C]`, float32, in the unit of its period: hours since midnight, days since
        Monday, months since New Year, with fractions.
    """
    day = ds.astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    next_month = (month + np.timedelta64(1, "M")).astype("datetime64[D]")
    within = (day - month.astype("datetime64[D]")) / (next_month - month.astype("datetime64[D]"))
    positions = {
        "hour": (ds - day) / np.timedelta64(1, "h"),
        # 1970 began on a Thursday.
        "weekday": (ds - np.datetime64(0, "D")) / DAY + 3,
        "month": month.astype(np.int64) + within,
    }
    columns = [positions[cycle.name] % _FULL[cycle.name] for cycle in cycles]
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(ds), 0), np.float32)
