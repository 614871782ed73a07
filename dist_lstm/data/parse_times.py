"""Time stamps and steps from raw columns, also from text.

Axes: R rows.
"""

import datetime as dt
import re
import zoneinfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.table import STEP, UNITS
from dist_lstm.data.columns import TRANSPOSE, dates_among
from dist_lstm.data.parse_numbers import is_text, parse_numbers
from dist_lstm.data.raw_rows import RawRows

TIMESTAMP = pa.timestamp("us")
#: Text that is a whole number which fits into 64 bits.
WHOLE = r"^[+-]?\d{1,18}$"
#: Calendars end in 9999, and forecasts go further; 0001-01-01 and 9999-12-31 mean "never" in other programs.
_FIRST, _LAST = (np.datetime64(year, "us").astype(np.int64) for year in ("1000", "9000"))
#: Steps are subtracted from each other in 64 bits.
_LARGEST_STEP = 1 << 62
_ZONE = r"[T ]\d\d[^Z+-]*(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)$"
#: The end of a day.
_MIDNIGHT = r"(^|[^\d:])24(:00(?::00)?(?:\.0+)?)([^\d:.]|$)"
_DAY = pa.scalar(dt.timedelta(days=1), pa.duration("us"))
_YEARS = "a year from 1000 to 8999"
_EXPECTED_TIME = "a time stamp in ISO 8601, such as 2024-03-01 or 2024-03-01 12:00, or a whole number"
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


def parse_times(rows: RawRows, name: str) -> pa.ChunkedArray:
    """Steps or time stamps, `[R]`, of a raw column.

    Args:
        rows: Raw rows.
        name: The column.

    Returns:
        `int64`, or `timestamp[us]` with the zone if there is one.

    Raises:
        UserError: If a value can't be read.
    """
    column, settings = rows.column(name), rows.settings
    form = settings.ds_format
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
        stamps, zone = _written_times(rows, name, column, form), _UTC if re.search("%[zZ]|UTC|GMT", form) else None
    instants = pc.cast(stamps, pa.int64())
    outside = (instants.to_numpy() < _FIRST) | (instants.to_numpy() >= _LAST)
    rows.check(name, outside, _YEARS)
    return pc.cast(instants, pa.timestamp("us", _choose_zone(rows, name, zone, settings.timezone)))


def _whole_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column, as integers if it is text; None if it has other values than whole numbers."""
    if pa.types.is_integer(column.type):
        return column
    if not is_text(column.type) or not len(column):
        return None
    text = pc.cast(column, pa.string())
    is_whole = pc.all(pc.match_substring_regex(text, WHOLE), skip_nulls=False).as_py()
    return pc.cast(text, pa.int64()) if is_whole else None


def _recognised_times(
    rows: RawRows, name: str, column: pa.ChunkedArray, several_zones: bool
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
    if not is_text(kind):
        rows.refuse(name, f"must hold time stamps or whole numbers, got {kind}")
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    stamps = _parse_stamps(text)
    if stamps.null_count and re.match(WHOLE, text[0].as_py() or ""):
        whole = pc.fill_null(pc.match_substring_regex(text, WHOLE), False)
        rows.check(name, ~whole.to_numpy(), "a whole number, as in the rows before")
    transposed = len(dates_among(rows.columns.targets, years=True)) > 1
    rows.check(
        name,
        stamps.is_null().to_numpy(),
        f"{_EXPECTED_TIME} (data.ds_format allows other formats)",
        lambda _: f"if the columns of the table are dates, {TRANSPOSE}" if transposed else "",
    )
    return stamps, _common_offset(rows, name, text, several_zones)


def _times_since_1970(rows: RawRows, name: str, column: pa.ChunkedArray, unit: str) -> pa.Array:
    """Time stamps in UTC without a zone, of numbers of a unit since 1970."""
    values, unreadable = parse_numbers(column, rows.settings)
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


def _written_times(rows: RawRows, name: str, column: pa.ChunkedArray, form: str) -> pa.Array:
    """Time stamps in UTC without a zone, written in a format."""
    if pa.types.is_floating(column.type):
        column = rows.cast(name, column, pa.int64())
    if not (is_text(column.type) or pa.types.is_integer(column.type)):
        rows.refuse(name, f"must hold text or whole numbers written as {form}, as data.ds_format says")
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    stamps = _to_stamps(text, form)
    rows.check(name, stamps.is_null().to_numpy(), f"a time stamp written as {form}, as data.ds_format says")
    return stamps


def _steps(rows: RawRows, name: str, column: pa.ChunkedArray, timezone: str | None) -> pa.ChunkedArray:
    if timezone is not None:
        rows.refuse(name, "holds whole numbers, which have no time zone; leave data.timezone out")
    rows.check(name, column.is_null().to_numpy(), _EXPECTED_TIME)
    steps = rows.cast(name, column, pa.int64())
    values = steps.to_numpy()
    rows.check(name, (values > _LARGEST_STEP) | (values < -_LARGEST_STEP), "a whole number of at most 62 bits")
    return steps


def has_format(text: pa.ChunkedArray, form: str | None) -> bool:
    """Whether all texts are time stamps.

    Args:
        text: Text, `[R]`.
        form: `data.ds_format`.

    Returns:
        Whether each one is.
    """
    stamps = _to_stamps(text, form) if form is not None and "%" in form else _parse_stamps(text)
    return stamps.null_count == 0


def _parse_stamps(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Time stamps in UTC without a zone, of text in ISO 8601; null if it can't be read."""
    # pandas reads "now" and "today" as time stamps too.
    text = pc.if_else(pc.match_substring_regex(text, r"^\d{4}"), text, None)
    if pc.any(pc.or_(pc.ends_with(text, "UTC"), pc.ends_with(text, "GMT"))).as_py():
        text = pc.replace_substring_regex(text, " ?(?:UTC|GMT)$", "Z")
    return _to_stamps(text, "ISO8601")


def _to_stamps(text: pa.ChunkedArray, form: str) -> pa.ChunkedArray:
    """Time stamps in UTC without a zone, of text in a format; null if it can't be read.

    24:00 is midnight at the end of the day.
    """
    ends_day = None
    if pc.any(pc.match_substring(text, "24:00")).as_py():
        ends_day = pc.match_substring_regex(text, _MIDNIGHT)
        text = pc.replace_substring_regex(text, _MIDNIGHT, r"\100\2\3")
    stamps = pd.to_datetime(text.to_pandas(), format=form, errors="coerce", utc=True)
    result = pa.chunked_array([pa.array(stamps.dt.tz_localize(None), TIMESTAMP, from_pandas=True)])
    return result if ends_day is None else pc.if_else(ends_day, pc.add(result, _DAY), result)


def _common_offset(rows: RawRows, name: str, text: pa.ChunkedArray, several: bool) -> str | None:
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
    """`+0100` as `+01:00`, and `Z`, `GMT` and no offset as `UTC`."""
    if text.isalpha():
        return _UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    return f"{text[0]}{digits[:2]}:{digits[2:]}" if digits.strip("0") else "UTC"


def _choose_zone(rows: RawRows, name: str, zone: str | None, timezone: str | None) -> str | None:
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
