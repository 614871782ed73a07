"""Aliases of pandas for frequencies, the same with its versions 2 and 3.

Axes: R time stamps.
"""

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd

from dist_lstm.errors import UserError

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_RENAMED = {"H": "h", "T": "min", "S": "s", "M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "BM": "BME"}
#: Spellings that pandas 3 accepts with a warning at most, and pandas 2 does not, or the other way round.
_SPELLINGS = {"d": "D", "w": "W", "MIN": "min"}
_LAST_WEEK = re.compile(f"([0-9]*)LWOM-({'|'.join(WEEKDAYS)})")
_DAY = pd.Timedelta(days=1)


def to_offset(alias: str) -> Any:
    """The offset of pandas for an alias.

    Args:
        alias: An alias as pandas 3 spells it.

    Returns:
        The offset.

    Raises:
        ValueError: If pandas has no such alias.
    """
    last_week = _LAST_WEEK.fullmatch(alias)
    if last_week is None:
        return pd.tseries.frequencies.to_offset(alias)
    # Pandas 2 has this offset, but does not read its alias.
    return pd.offsets.LastWeekOfMonth(int(last_week[1] or 1), weekday=WEEKDAYS.index(last_week[2]))


def read_alias(alias: str) -> Any:
    """The offset of pandas for an alias that the user gave.

    Args:
        alias: The alias, also in another spelling or one that is no longer supported.

    Returns:
        The offset.

    Raises:
        UserError: If pandas 3 does not support the alias, or it is finer than a microsecond.
    """
    letters = alias.lstrip("0123456789")
    number = alias.removesuffix(letters)
    try:
        with warnings.catch_warnings():
            # With these pandas 2 accepts what pandas 3 refuses.
            warnings.simplefilter("error", FutureWarning)
            offset = to_offset(number + _SPELLINGS.get(letters, letters))
    except (ValueError, TypeError, FutureWarning):
        offset = None
    if offset is None or offset.n < 1:
        hint = (
            f"write {number}{_RENAMED[letters]}"
            if letters in _RENAMED
            else "use an alias such as min, h, D, W, MS, ME, QS or YS, or 1 for integer steps"
        )
        raise UserError("task.freq", f"{alias!r} is not a frequency of pandas", hint)
    if isinstance(offset, pd.offsets.Tick) and offset.nanos % 1000:
        raise UserError("task.freq", f"{alias!r} is not a whole number of microseconds, the finest resolution")
    return offset


def duration_alias(duration: Any) -> str:
    """The alias of a duration; whole days are days, and not 24 hours as in pandas 3.

    Args:
        duration: A duration of pandas, NumPy or Python.

    Returns:
        The alias.

    Example:
        >>> duration_alias(np.timedelta64(48, "h")), duration_alias(pd.Timedelta(hours=36))
        ('2D', '36h')
    """
    days, rest = divmod(pd.Timedelta(duration), _DAY)
    offset: Any = pd.tseries.frequencies.to_offset(pd.Timedelta(duration)) if rest else pd.offsets.Day(int(days))
    return offset.freqstr


def infer_alias(stamps: np.ndarray) -> str | None:
    """The alias that pandas infers; quarters have the first month of the year in which one begins.

    Args:
        stamps: Time stamps, `[R]`, sorted; three at least.

    Returns:
        The alias; None where pandas finds none.
    """
    with warnings.catch_warnings():
        # Pandas 4 will return an offset where pandas 3 returns its name.
        warnings.filterwarnings("ignore", ".*infer_freq", DeprecationWarning)
        offset: Any = pd.tseries.frequencies.to_offset(pd.infer_freq(pd.DatetimeIndex(stamps)))
    if isinstance(offset, pd.offsets.QuarterBegin | pd.offsets.BQuarterBegin):
        # Pandas 2 has the last such month.
        offset = type(offset)(offset.n, startingMonth=(offset.startingMonth - 1) % 3 + 1)
    return None if offset is None else offset.freqstr
