"""Numbers from raw columns, also from text.

Axes: R rows.
"""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.table import MARKS, DataSettings

#: Texts for a missing value, in lower case.
_MISSING = ("", "nan", "na", "n/a", "#n/a", "null")
#: Whole numbers of so many digits need not be held by float64.
_LONG = r"^[+-]?\d{16,}$"
#: Regular expressions of marks; a space may be a non-breaking or a narrow one.
_MARKS = {name: re.escape(mark) for name, mark in MARKS.items()} | {
    "space": "[ \u00a0\u202f]",
    "apostrophe": "['\u2019]",
}
_LONGEST = 80


def parse_numbers(column: pa.ChunkedArray, settings: DataSettings) -> tuple[np.ndarray, np.ndarray]:
    """Convert a raw column to float64.

    Args:
        column: Raw numbers or text, `[R]`.
        settings: How numbers are written, and what means a missing value.

    Returns:
        Values, `[R]`, NaN if missing; and True where there is something else than a number, `[R]`.
    """
    kind = column.type
    numeric = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean)
    if any(test(kind) for test in numeric):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return _without_missing(values, settings), np.zeros(len(values), bool)
    if not is_text(kind):
        return np.full(len(column), np.nan), column.is_valid().to_numpy()
    text = plain_numbers(column, settings)
    try:
        # Exact to the last digit, as pandas is only from 3.1 on.
        values = pc.cast(text, pa.float64()).to_numpy()
        unreadable = np.zeros(len(values), bool)
    except pa.ArrowInvalid:
        values = pd.to_numeric(text.to_pandas(), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        unreadable = np.isnan(values) & text.is_valid().to_numpy()
    return _without_missing(values, settings), unreadable


def _without_missing(values: np.ndarray, settings: DataSettings) -> np.ndarray:
    """NaN for the numbers that mean a missing value, `[R]`."""
    numbers = pd.to_numeric(pd.Series(settings.missing_values, dtype=str), errors="coerce").dropna()
    return np.where(np.isin(values, numbers), np.nan, values) if len(numbers) else values


def plain_numbers(column: pa.ChunkedArray, settings: DataSettings) -> pa.ChunkedArray:
    """Text of numbers with a decimal point and without groups.

    Args:
        column: Raw text, `[R]`.
        settings: How numbers are written, and which texts mean a missing value.

    Returns:
        Text, `[R]`; null is missing. What is not a number in the given form is no plain number either.
    """
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    missing = pa.array([*_MISSING, *(one.strip().lower() for one in settings.missing_values)])
    text = pc.if_else(pc.is_in(pc.utf8_lower(text), missing), None, text)
    decimal = _MARKS[settings.decimal]
    if settings.thousands is not None:
        mark = _MARKS[settings.thousands]
        grouped = pc.match_substring_regex(text, rf"^[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?:{decimal}\d*)?$")
        text = pc.if_else(grouped, pc.replace_substring_regex(text, mark, ""), text)
    if settings.decimal == "comma":
        # A point that is left is not part of a number.
        text = pc.replace_substring(pc.replace_substring(text, ".", "?"), ",", ".")
    return text


def number_advice(text: str, settings: DataSettings) -> str:
    """What to do about text that is not a number.

    Args:
        text: The text.
        settings: How numbers are written.

    Returns:
        Advice, which names the settings to change.
    """
    text = text.strip()
    if not re.search(r"\d", text):
        return "if it means a missing value, add it to data.missing_values"
    forms = [
        {"decimal": decimal, "thousands": thousands}
        for decimal in ("comma", "point")
        for thousands in (None, *MARKS)
        if decimal != thousands and _is_number(text, decimal, thousands)
    ]
    changes = [{key: mark for key, mark in form.items() if mark != getattr(settings, key)} for form in forms]
    fewest = min(map(len, changes), default=0)
    options = [
        " and ".join(f"data.{key} to {mark or 'null'}" for key, mark in change.items())
        for change in changes
        if len(change) == fewest
    ]
    missing = "or add it to data.missing_values if it means a missing value"
    return f"set {', or '.join(options)}" if options else f"write it as a plain number without units, {missing}"


def _is_number(text: str, decimal: str, thousands: str | None) -> bool:
    whole = r"\d+" if thousands is None else rf"(?:\d+|\d{{1,3}}(?:{_MARKS[thousands]}\d{{3}})+)"
    return re.fullmatch(rf"[+-]?{whole}(?:{_MARKS[decimal]}\d*)?", text[:_LONGEST]) is not None


def count_rounded(column: pa.ChunkedArray, values: pa.Array, settings: DataSettings) -> int:
    """How many numbers of a column differ from their float64 values; numbers with a decimal point are not counted.

    Args:
        column: Raw numbers, `[R]`.
        values: The same as float64, `[R]`; null is missing.
        settings: How numbers are written.

    Returns:
        The count.
    """
    if is_text(column.type) or pa.types.is_decimal(column.type):
        text = plain_numbers(column, settings) if is_text(column.type) else pc.cast(column, pa.string())
        long = pc.fill_null(pc.match_substring_regex(text, _LONG), False)
        pairs = zip(text.filter(long).to_pylist(), values.filter(long.combine_chunks()).to_pylist(), strict=True)
        return sum(value is not None and int(text) != value for text, value in pairs)
    if not pa.types.is_integer(column.type):
        return 0
    whole = column.drop_null().to_numpy()
    result = whole.astype(np.float64)
    limits = np.iinfo(whole.dtype)
    # The largest whole numbers become 2^63 or 2^64, which would not fit back.
    inside = result < float(limits.max)
    back = np.where(inside, result, 0).astype(whole.dtype)
    return int(np.count_nonzero(~inside | (back != whole))) if whole.dtype.itemsize == 8 else 0


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, or nothing."""
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in texts)
