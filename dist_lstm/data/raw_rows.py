"""Raw rows of a table, and what errors say about them.

Axes: R rows.
"""

import reprlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.schema import DataSettings
from dist_lstm.data.columns import Columns
from dist_lstm.errors import UserError

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def without_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a column that has a dictionary; any other column as it is."""
    kind = column.type
    if not pa.types.is_dictionary(kind):
        return column
    # Arrow can't take elements of a view, as polars writes text.
    kind = pa.string() if pa.types.is_string_view(kind.value_type) else kind.value_type
    return pa.chunked_array([part.dictionary.cast(kind).take(part.indices) for part in column.chunks], kind)


@dataclass(frozen=True)
class RawRows:
    """Raw rows, and what errors say about them."""

    table: pa.Table
    columns: Columns
    settings: DataSettings
    where: str
    first_row: int
    rounded: Counter[str]

    def column(self, name: str) -> pa.ChunkedArray:
        """A column, decoded if it has a dictionary."""
        return without_dictionary(self.table[name])

    def cast(self, name: str, column: pa.ChunkedArray, kind: pa.DataType, safe: bool = True) -> pa.ChunkedArray:
        """A column in another type."""
        try:
            return pc.cast(column, kind, safe=safe)
        except pa.ArrowException as error:
            raise UserError(self.where, f"column {name!r}: {str(error).splitlines()[0]}") from error

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise for a column."""
        raise UserError(self.where, f"column {name!r} {reason}")

    def check(
        self, name: str, bad: np.ndarray, expected: str, advice: Callable[[str], str] = lambda _: ""
    ) -> None:
        """Raise for the first bad row, if there is one; `bad` is `[R]`, and `advice` is for its text."""
        if not bad.any():
            return
        row, series = int(np.argmax(bad)), ""
        value = self.table[name][row]
        try:
            value = value.as_py()
        except (ValueError, OverflowError):  # a time outside of Python's range
            value = f"a {value.type}"
        if self.columns.unique_id not in (None, name):
            series = f" (unique_id {_SHORT.repr(self.table[self.columns.unique_id][row].as_py())})"
        remedy = advice(value) if isinstance(value, str) else ""
        if value == name:
            remedy = "the heading is repeated there; delete that row"
        raise UserError(
            self.where,
            f"column {name!r}, row {self.first_row + row + 1}{series}: expected {expected}, got "
            f"{_SHORT.repr(value)}",
            remedy,
        )
