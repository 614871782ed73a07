"""Raw rows of a table to checked ones: `unique_id`, `ds`, `y` float64, then the static covariates.

`unique_id` is text, or whole numbers of 64 bits. `ds` is `int64`, or `timestamp[us]`, with the time zone of the
table if it has one. Text is converted here, also that of CSV files, so that an error can name the row.

Axes: R rows.
"""

import re
import reprlib
import zoneinfo
from collections import Counter
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.table import STEP, UNITS, DataSettings
from dist_lstm.data.columns import Columns
from dist_lstm.errors import UserError

TIMESTAMP = pa.timestamp("us")
#: Texts for a missing value, in lower case.
_MISSING = pa.array(["", "nan", "na", "n/a", "#n/a", "null"])
#: Calendars end in 9999, and forecasts go further; 0001-01-01 and 9999-12-31 mean "never" in other programs.
_FIRST, _LAST = (np.datetime64(year, "us").astype(np.int64) for year in ("1000", "9000"))
#: Steps are subtracted from each other in 64 bits.
_LARGEST_STEP = 1 << 62
_ZONE = r"[T ]\d\d[^Z+-]*(?P<zone>Z|[+-]\d\d(?::?\d\d)?)$"
_WHOLE = r"^[+-]?\d{1,18}$"
#: Whole numbers of so many digits need not be held by float64.
_LONG = r"^[+-]?\d{16,}$"
_YEARS = "a year from 1000 to 8999"
_EXPECTED_TIME = "a time stamp in ISO 8601, such as 2024-03-01 or 2024-03-01 12:00, or a whole number"
_GROUPED = re.compile(r"[+-]?\d+([.,' \u00a0\u202f]\d+)+")
_UTC = "UTC"
_NAMES_OF_UTC = (
    "UTC",
    "Etc/UTC",
    "Etc/UCT",
    "UCT",
    "Etc/Universal",
    "Universal",
    "Etc/Zulu",
    "Zulu",
    "+00:00",
    "-00:00",
)
_FLAGS = pa.array(["true", "false"])
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


@dataclass(frozen=True)
class _Rows:
    """Raw rows, and what errors say about them."""

    table: pa.Table
    columns: Columns
    where: str
    first_row: int
    rounded: Counter[str]

    def column(self, name: str) -> pa.ChunkedArray:
        """A column, decoded if it has a dictionary."""
        column = self.table[name]
        return self.cast(name, column, column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def cast(self, name: str, column: pa.ChunkedArray, kind: pa.DataType, safe: bool = True) -> pa.ChunkedArray:
        """A column in another type."""
        try:
            return pc.cast(column, kind, safe=safe)
        except pa.ArrowException as error:
            raise UserError(self.where, f"column {name!r}: {str(error).splitlines()[0]}") from error

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise for a column."""
        raise UserError(self.where, f"column {name!r} {reason}")

    def check(self, name: str, bad: np.ndarray, expected: str) -> None:
        """Raise for the first bad row, if there is one; `bad` is `[R]`."""
        if not bad.any():
            return
        row, series, hint = int(np.argmax(bad)), "", ""
        value = self.table[name][row]
        try:
            value = value.as_py()
        except (ValueError, OverflowError):  # a time outside of Python's range
            value = f"a {value.type}"
        if self.columns.unique_id not in (None, name):
            series = f" (unique_id {_SHORT.repr(self.table[self.columns.unique_id][row].as_py())})"
        if name in self.columns.targets and isinstance(value, str):
            if _GROUPED.fullmatch(value.strip()):
                hint = "; write it with a decimal point and without thousands separators"
            elif self.columns.melted:
                hint = "; if this column is not a series, list those that are in data.columns.y"
        raise UserError(
            self.where,
            (
                f"column {name!r}, row {self.first_row + row + 1}{series}: expected {expected}, got "
                f"{_SHORT.repr(value)}{hint}"
            ),
        )


def check_rows(
    table: pa.Table, columns: Columns, settings: DataSettings, where: str, first_row: int, rounded: Counter[str]
) -> pa.Table:
    """Convert raw rows to the names and types of a long table, with rows of its own for each series.

    Args:
        table: Raw rows, with at least these columns.
        columns: The columns by their role.
        settings: The format of time stamps, and the zone to which those with a zone are converted.
        where: The table, for errors.
        first_row: Number of rows of the table before these.
        rounded: Adds the values that the result does not hold exactly, by their kind: `numbers` with more digits
            than float64 has, such as whole numbers above 2^53, and `time stamps` with parts of a microsecond.

    Returns:
        Columns `unique_id`, `ds`, `y`, then static covariates under their own names.

    Raises:
        UserError: If a value does not have the type of its column.
    """
    rows = _Rows(table, columns, where, first_row, rounded)
    ids = None if columns.unique_id is None else _names(rows, columns.unique_id)
    ds = _times(rows, columns.ds, settings)
    statics = {name: _categories(rows, name) for name in columns.categories}
    statics |= {name: _numbers(rows, name) for name in columns.numbers}
    series = []
    for target in columns.targets:
        if ids is None:
            name = pa.repeat(target if columns.melted else "y", table.num_rows)
        else:
            name = pc.binary_join_element_wise(ids.cast(pa.string()), target, "/") if columns.melted else ids
        y = _numbers(rows, target)
        rounded["numbers"] += _count_rounded(rows.column(target), y)
        series.append(pa.table({"unique_id": name, "ds": ds, "y": y, **statics}))
    return series[0] if len(series) == 1 else pa.concat_tables(series).combine_chunks()


def column_kind(column: pa.ChunkedArray) -> Literal["time", "whole", "number", "flag", "text", "empty", "other"]:
    """What a raw column may be taken for; text that holds nothing but time stamps or numbers is one of them.

    Args:
        column: Values as they are stored, without a dictionary.

    Returns:
        `time`, `whole` (numbers, none missing), `number`, `flag`, `text`, `empty` (no value) or `other`.
    """
    kind = column.type
    if column.null_count == len(column):
        return "empty"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    if pa.types.is_integer(kind):
        return "whole" if column.null_count == 0 else "number"
    if pa.types.is_boolean(kind):
        return "flag"
    if not _is_text(kind):
        return "number" if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else "other"
    text = pc.cast(column, pa.string())
    if pc.all(pc.match_substring_regex(text, _WHOLE), skip_nulls=False).as_py():
        return "whole"
    values, unreadable = _parse_numbers(text)
    if not unreadable.any():
        return "empty" if np.isnan(values).all() else "number"
    is_time = (
        pc.all(pc.match_substring_regex(text, r"^\d{4}")).as_py()
        and not _parse_stamps(text.drop_null()).null_count
    )
    return "time" if is_time else "text"


def _is_text(kind: pa.DataType) -> bool:
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in texts)


def _names(rows: _Rows, name: str) -> pa.ChunkedArray:
    column = rows.column(name)
    if not (pa.types.is_integer(column.type) or _is_text(column.type)):
        rows.refuse(name, f"names the series and must hold text or whole numbers, got {column.type}")
    rows.check(name, column.is_null().to_numpy(), "the name of a series")
    if pa.types.is_uint64(column.type):
        return column
    return rows.cast(name, column, pa.int64() if pa.types.is_integer(column.type) else pa.string())


def _categories(rows: _Rows, name: str) -> pa.ChunkedArray:
    """Text in one spelling, `[R]`: booleans as true and false, whole numbers without a decimal point."""
    column = rows.column(name)
    kind = column.type
    is_number = pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if is_number:
        values = pc.cast(column, pa.float64()).to_numpy()
        is_number = not (values[~np.isnan(values)] % 1).any()
        column = pa.chunked_array([pa.array(values, from_pandas=True)]) if is_number else column
    if not (is_number or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_text(kind)):
        rows.refuse(
            name, f"is in data.static_categories and must hold text, whole numbers or booleans, got {kind}"
        )
    if is_number:
        column = rows.cast(name, column, pa.int64())
    text = rows.cast(name, column, pa.string())
    text = pc.replace_substring_regex(text, r"^([+-]?\d+)\.0+$", r"\1")
    lower = pc.utf8_lower(text)
    return pc.if_else(pc.is_in(lower, _FLAGS), lower, text)


def _numbers(rows: _Rows, name: str) -> pa.Array:
    """Numbers, `[R]`; null is missing."""
    values, unreadable = _parse_numbers(rows.column(name))
    rows.check(name, unreadable, "a number")
    rows.check(name, np.abs(values) > np.finfo(np.float32).max, "a finite number that fits into 32 bits")
    return pa.array(values, from_pandas=True)


def _parse_numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values, `[R]`, float64, NaN if missing; and True where there is something else than a number, `[R]`."""
    kind = column.type
    numeric = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean)
    if any(test(kind) for test in numeric):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return values, np.zeros(len(values), bool)
    if not _is_text(kind):
        return np.full(len(column), np.nan), column.is_valid().to_numpy()
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    text = pc.if_else(pc.is_in(pc.utf8_lower(text), _MISSING), None, text)
    try:
        # Exact to the last digit, as pandas is only from 3.1 on.
        values = pc.cast(text, pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        values = pd.to_numeric(text.to_pandas(), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        return values, np.isnan(values) & text.is_valid().to_numpy()
    return values, np.zeros(len(values), bool)


def _count_rounded(column: pa.ChunkedArray, values: pa.Array) -> int:
    """How many numbers of a column differ from their float64 values; numbers with a decimal point are not counted.

    Args:
        column: Raw numbers, `[R]`.
        values: The same as float64, `[R]`; null is missing.

    Returns:
        The count.
    """
    if _is_text(column.type) or pa.types.is_decimal(column.type):
        text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
        long = pc.fill_null(pc.match_substring_regex(text, _LONG), False)
        pairs = zip(text.filter(long).to_pylist(), values.filter(long.combine_chunks()).to_pylist(), strict=True)
        return sum(int(text) != value for text, value in pairs)
    if not pa.types.is_integer(column.type):
        return 0
    whole = column.drop_null().to_numpy()
    result = whole.astype(np.float64)
    limits = np.iinfo(whole.dtype)
    # The largest whole numbers become 2^63 or 2^64, which would not fit back.
    inside = result < float(limits.max)
    back = np.where(inside, result, 0).astype(whole.dtype)
    return int(np.count_nonzero(~inside | (back != whole))) if whole.dtype.itemsize == 8 else 0


def _times(rows: _Rows, name: str, settings: DataSettings) -> pa.ChunkedArray:
    """Steps or time stamps."""
    column, form = rows.column(name), settings.ds_format
    if form is None or form == STEP:
        steps = _whole_numbers(column)
        if steps is not None:
            return _steps(rows, name, steps, settings.timezone)
        if form == STEP:
            rows.refuse(name, f"must hold whole numbers, as data.ds_format is {STEP!r}")
        stamps, zone = _recognised_times(rows, name, column, several_zones=settings.timezone is not None)
    elif form in UNITS:
        stamps, zone = _times_since_1970(rows, name, column, form), _UTC
    else:
        stamps, zone = _written_times(rows, name, column, form), _UTC if "%z" in form else None
    instants = pc.cast(stamps, pa.int64())
    outside = (instants.to_numpy() < _FIRST) | (instants.to_numpy() >= _LAST)
    rows.check(name, outside, _YEARS)
    return pc.cast(instants, pa.timestamp("us", _choose_zone(rows, name, zone, settings.timezone)))


def _whole_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column, as integers if it is text; None if it has other values than whole numbers."""
    if pa.types.is_integer(column.type):
        return column
    if not _is_text(column.type) or not len(column):
        return None
    text = pc.cast(column, pa.string())
    is_whole = pc.all(pc.match_substring_regex(text, _WHOLE), skip_nulls=False).as_py()
    return pc.cast(text, pa.int64()) if is_whole else None


def _recognised_times(
    rows: _Rows, name: str, column: pa.ChunkedArray, several_zones: bool
) -> tuple[pa.ChunkedArray, str | None]:
    """Time stamps in UTC, and their zone; without a zone as they are."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = getattr(kind, "tz", None)
        # Only nanoseconds are cut off; years outside of the range of microseconds are an error.
        is_fine = getattr(kind, "unit", "") == "ns"
        stamps = rows.cast(name, column, pa.timestamp("us", zone), safe=not is_fine)
        if is_fine:
            parts = pc.cast(column, pa.int64()).drop_null().to_numpy() % 1000
            rows.rounded["time stamps"] += int(np.count_nonzero(parts))
        rows.check(name, stamps.is_null().to_numpy(), _EXPECTED_TIME)
        return stamps, zone
    if not _is_text(kind):
        rows.refuse(name, f"must hold time stamps or whole numbers, got {kind}")
    text = pc.cast(column, pa.string())
    stamps = _parse_stamps(text)
    rows.check(name, stamps.is_null().to_numpy(), f"{_EXPECTED_TIME} (data.ds_format allows other formats)")
    return stamps, _common_offset(rows, name, text, several_zones)


def _times_since_1970(rows: _Rows, name: str, column: pa.ChunkedArray, unit: str) -> pa.Array:
    """Time stamps in UTC without a zone, of numbers of a unit since 1970."""
    values, unreadable = _parse_numbers(column)
    rows.check(name, unreadable | np.isnan(values), f"a number of {unit} since 1970, as data.ds_format says")
    per_second = UNITS[unit]
    whole = _whole_numbers(column)
    if whole is None:
        exact = values * (10**6 / per_second)
        result = np.rint(exact)
        rows.rounded["time stamps"] += int(np.count_nonzero(result != exact))
    elif per_second > 10**6:
        result, rest = np.divmod(whole.to_numpy().astype(np.int64), per_second // 10**6)
        rows.rounded["time stamps"] += int(np.count_nonzero(rest))
    else:
        result, factor = whole.to_numpy().astype(np.int64), 10**6 // per_second
        # Before the product, which may leave 64 bits.
        rows.check(name, (result < _FIRST // factor) | (result >= _LAST // factor), _YEARS)
        result = result * factor
    rows.check(name, (result < _FIRST) | (result >= _LAST), _YEARS)
    return pa.array(result.astype(np.int64), TIMESTAMP)


def _written_times(rows: _Rows, name: str, column: pa.ChunkedArray, form: str) -> pa.Array:
    """Time stamps in UTC without a zone, written in a format."""
    if pa.types.is_floating(column.type):
        column = rows.cast(name, column, pa.int64())
    if not (_is_text(column.type) or pa.types.is_integer(column.type)):
        rows.refuse(name, f"must hold text or whole numbers written as {form}, as data.ds_format says")
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string())).to_pandas()
    stamps = pd.to_datetime(text, format=form, errors="coerce", utc=True)
    rows.check(name, stamps.isna().to_numpy(), f"a time stamp written as {form}, as data.ds_format says")
    return pa.array(stamps.dt.tz_localize(None), TIMESTAMP, from_pandas=True)


def _steps(rows: _Rows, name: str, column: pa.ChunkedArray, timezone: str | None) -> pa.ChunkedArray:
    if timezone is not None:
        rows.refuse(name, "holds whole numbers, which have no time zone; leave data.timezone out")
    rows.check(name, column.is_null().to_numpy(), _EXPECTED_TIME)
    steps = rows.cast(name, column, pa.int64())
    values = steps.to_numpy()
    rows.check(name, (values > _LARGEST_STEP) | (values < -_LARGEST_STEP), "a whole number of at most 62 bits")
    return steps


def _parse_stamps(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Time stamps in UTC without a zone; null if the text can't be read."""
    # pandas reads "now" and "today" as time stamps too.
    text = pc.if_else(pc.match_substring_regex(text, r"^\d{4}"), text, None)
    stamps = pd.to_datetime(text.to_pandas(), format="ISO8601", errors="coerce", utc=True)
    return pa.chunked_array([pa.array(stamps.dt.tz_localize(None), TIMESTAMP, from_pandas=True)])


def _common_offset(rows: _Rows, name: str, text: pa.ChunkedArray, several: bool) -> str | None:
    """The UTC offset of all time stamps, the first one if `several` are allowed; None if they have none."""
    result = pc.struct_field(pc.extract_regex(text, _ZONE), "zone").to_pandas()
    offsets = result.map({one: _offset(one) for one in result.dropna().unique()})
    if not len(offsets):
        return None
    first = offsets.iloc[0]
    with_zone = offsets.notna().to_numpy()
    kind = "with" if with_zone[0] else "without"
    rows.check(name, with_zone != with_zone[0], f"a time stamp {kind} a time zone, as in the rows before")
    if not with_zone[0]:
        return None
    if not several:
        expected = f"the offset {first} of the rows before (where it changes, set data.timezone to the zone)"
        rows.check(name, (offsets != first).to_numpy(), expected)
    return first


def _offset(text: str) -> str:
    """`+0100` as `+01:00`, and no offset as `UTC`."""
    digits = text[1:].replace(":", "").ljust(4, "0")
    return f"{text[0]}{digits[:2]}:{digits[2:]}" if digits.strip("0") else "UTC"


def _choose_zone(rows: _Rows, name: str, zone: str | None, timezone: str | None) -> str | None:
    if zone is None and timezone is not None:
        rows.refuse(name, "holds time stamps without a time zone; leave data.timezone out, or write them with one")
    if zone is None or timezone is not None:
        return _UTC if timezone in _NAMES_OF_UTC else timezone
    if zone in _NAMES_OF_UTC:
        return _UTC
    if not re.fullmatch(r"[+-]\d\d:\d\d", zone):
        try:
            zoneinfo.ZoneInfo(zone)
        except (LookupError, ValueError, OSError):
            rows.refuse(name, f"has the unknown time zone {zone!r}; set data.timezone to the right one")
    return zone


def check_same_names(kind: pa.DataType, before: pa.DataType, name: str | None, where: str) -> None:
    """Refuse a table whose series have names of different types: 7 and "007" may be the same series or not.

    Args:
        kind: Type of `unique_id` in some rows.
        before: Its type in the rows before.
        name: The column it is read from.
        where: The table and the row, for errors.

    Raises:
        UserError: If they differ.
    """
    if kind != before:
        reason = f"column {name!r} names the series and holds {kind}, the rows before hold {before}"
        raise UserError(where, reason, "write it with one type in all files")


def check_same_times(kind: pa.DataType, before: pa.DataType, name: str, where: str) -> None:
    """Refuse a table whose time stamps change their type.

    Args:
        kind: Type of `ds` in some rows.
        before: Its type in the rows before.
        name: The column it is read from.
        where: The table and the row, for errors.

    Raises:
        UserError: If they differ.
    """
    if kind == before:
        return
    stamps = pa.types.is_timestamp(kind) and pa.types.is_timestamp(before)
    if not stamps:
        remedy = "write all of them with one type"
    elif kind.tz is None or before.tz is None:
        remedy = "give all time stamps a time zone, or none"
    else:
        remedy = "set data.timezone to the zone of all, such as Europe/Berlin"
    raise UserError(where, f"column {name!r} holds {kind}, the rows before hold {before}", remedy)
