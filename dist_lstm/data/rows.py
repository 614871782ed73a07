"""Raw rows of a table to checked ones: `unique_id`, `ds`, `y` float64, then the static covariates.

`unique_id` is text, or whole numbers of 64 bits. `ds` is `int64`, or `timestamp[us]`, with the time zone of the
table if it has one. Text is converted here, also that of CSV files, so that an error can name the row.

Axes: R rows.
"""

from collections import Counter
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.schema import DataSettings
from dist_lstm.data.columns import Columns
from dist_lstm.data.parse_numbers import count_rounded, is_text, number_advice, parse_numbers
from dist_lstm.data.parse_times import WHOLE, has_format, parse_times
from dist_lstm.data.raw_rows import RawRows
from dist_lstm.errors import UserError

_FLAGS = pa.array(["true", "false"])


def check_rows(
    table: pa.Table, columns: Columns, settings: DataSettings, where: str, first_row: int, rounded: Counter[str]
) -> pa.Table:
    """Convert raw rows to the names and types of a long table, with rows of its own for each series.

    Args:
        table: Raw rows, with at least these columns.
        columns: The columns by their role.
        settings: How time stamps and numbers are written, and the zone to which time stamps with a zone are
            converted.
        where: The table, for errors.
        first_row: Number of rows of the table before these.
        rounded: Adds the values that the result does not hold exactly, by their kind: `numbers` with more digits
            than float64 has, such as whole numbers above 2^53, and `time stamps` with parts of a microsecond.

    Returns:
        Columns `unique_id`, `ds`, `y`, then static covariates under their own names.

    Raises:
        UserError: If a value does not have the type of its column.
    """
    rows = RawRows(table, columns, settings, where, first_row, rounded)
    ids = None if columns.unique_id is None else _names(rows, columns.unique_id)
    ds = parse_times(rows, columns.ds)
    statics = {name: _categories(rows, name) for name in columns.categories}
    statics |= {name: _numbers(rows, name) for name in columns.numbers}
    series = []
    for target in columns.targets:
        if ids is None:
            name = pa.repeat(target if columns.melted else "y", table.num_rows)
        else:
            name = pc.binary_join_element_wise(ids.cast(pa.string()), target, "/") if columns.melted else ids
        y = _numbers(rows, target)
        rounded["numbers"] += count_rounded(rows.column(target), y, settings)
        series.append(pa.table({"unique_id": name, "ds": ds, "y": y, **statics}))
    return series[0] if len(series) == 1 else pa.concat_tables(series).combine_chunks()


def column_kind(
    column: pa.ChunkedArray, settings: DataSettings
) -> Literal["time", "whole", "number", "flag", "text", "empty", "other"]:
    """What a raw column may be taken for; text that holds nothing but time stamps or numbers is one of them.

    Args:
        column: Values as they are stored, without a dictionary.
        settings: How numbers and time stamps are written, and what means a missing value.

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
    if not is_text(kind):
        return "number" if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else "other"
    text = pc.cast(column, pa.string())
    if pc.all(pc.match_substring_regex(text, WHOLE), skip_nulls=False).as_py():
        return "whole"
    values, unreadable = parse_numbers(text, settings)
    if not unreadable.any():
        # What means a missing value among numbers may be the name of a series.
        return "text" if np.isnan(values).all() else "number"
    return "time" if has_format(text.drop_null(), settings.ds_format) else "text"


def _names(rows: RawRows, name: str) -> pa.ChunkedArray:
    column = rows.column(name)
    if not (pa.types.is_integer(column.type) or is_text(column.type)):
        rows.refuse(name, f"names the series and must hold text or whole numbers, got {column.type}")
    rows.check(name, column.is_null().to_numpy(), "the name of a series")
    if pa.types.is_uint64(column.type):
        return column
    return rows.cast(name, column, pa.int64() if pa.types.is_integer(column.type) else pa.string())


def _categories(rows: RawRows, name: str) -> pa.ChunkedArray:
    """Text in one spelling, `[R]`: booleans as true and false, whole numbers without a decimal point."""
    column = rows.column(name)
    kind = column.type
    is_number = pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if is_number:
        values = pc.cast(column, pa.float64()).to_numpy()
        is_number = not (values[~np.isnan(values)] % 1).any()
        column = pa.chunked_array([pa.array(values, from_pandas=True)]) if is_number else column
    if not (is_number or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or is_text(kind)):
        rows.refuse(
            name, f"is in data.static_categories and must hold text, whole numbers or booleans, got {kind}"
        )
    if is_number:
        column = rows.cast(name, column, pa.int64())
    text = rows.cast(name, column, pa.string())
    text = pc.replace_substring_regex(text, r"^([+-]?\d+)\.0+$", r"\1")
    lower = pc.utf8_lower(text)
    return pc.if_else(pc.is_in(lower, _FLAGS), lower, text)


def _numbers(rows: RawRows, name: str) -> pa.Array:
    """Numbers, `[R]`; null is missing."""
    values, unreadable = parse_numbers(rows.column(name), rows.settings)

    def advice(text: str) -> str:
        is_series = rows.columns.melted and name in rows.columns.targets
        other = "if this column is not a series, list those that are in data.columns.y; " if is_series else ""
        return other + number_advice(text, rows.settings)

    rows.check(name, unreadable, "a number", advice)
    rows.check(name, np.abs(values) > np.finfo(np.float32).max, "a finite number that fits into 32 bits")
    return pa.array(values, from_pandas=True)


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
