"""First dates of the validation and the test range, and the steps from them to the last date of all series."""

from datetime import datetime
from typing import Any

import pandas as pd

from dist_lstm.config.frequency import parse_frequency
from dist_lstm.errors import UserError


def check_date(text: str) -> str:
    """Refuse a text that is not a date, or one with a UTC offset.

    Args:
        text: The text.

    Returns:
        The text.

    Raises:
        ValueError: If it is neither a date nor a date with a time of day in ISO 8601.
    """
    if datetime.fromisoformat(text).tzinfo is not None:
        raise ValueError("has a UTC offset")
    return text


def steps_held_out(key: str, start: str | int, statistics: Any) -> int:
    """Steps from a first date to the last one of all series.

    Args:
        key: The setting, named in errors.
        start: Its value.
        statistics: The `DatasetStatistics`.

    Returns:
        The steps, at least 1.

    Raises:
        UserError: If the series share no calendar, the table has another kind of time stamps, or the date is after
            the last one.
    """
    last = statistics.last
    if last is None:
        raise UserError(
            f"split.{key}",
            "series share no calendar: ds holds whole numbers, which count from the start of each",
            f"set split.{key.removesuffix('_start')} in steps, or data.shared_steps to true",
        )
    if isinstance(start, int) != isinstance(last, int):
        kinds = ("a date", "whole numbers") if isinstance(last, int) else ("a whole number", "dates")
        raise UserError(f"split.{key}", f"{start} is {kinds[0]}, ds holds {kinds[1]}", "give what ds holds")
    freq = parse_frequency(statistics.freq)
    first: Any = start
    if not isinstance(start, int):
        stamp = pd.Timestamp(start)
        if statistics.timezone is not None and freq.within_day:
            # The grid of steps within a day is in UTC.
            local = stamp.tz_localize(statistics.timezone, ambiguous=True, nonexistent="shift_forward")
            stamp = local.tz_convert("UTC").tz_localize(None)
        first = stamp.to_datetime64().astype("datetime64[us]")
    steps = freq.steps_from(first, last)
    if not steps:
        shown = last if isinstance(last, int) else pd.Timestamp(last)
        raise UserError(f"split.{key}", f"{start} is after the last time stamp, {shown}", "give an earlier one")
    return steps
