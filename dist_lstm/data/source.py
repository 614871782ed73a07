"""Any long table to Arrow batches of three columns: `unique_id` text, `ds`, `y` float64.

`ds` is `timestamp[us]` without a zone, or `int64`. CSV files are read as text and converted here, so that
an error can name the row.
"""

import glob as globbing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pyarrow import fs

from dist_lstm.config.schema import ColumnSettings, DataSettings
from dist_lstm.errors import UserError
from dist_lstm.storage import filesystem

TIMESTAMP = pa.timestamp("us")
_PARQUET = (".parquet", ".parq", ".pq")
_CSV = (".csv", ".csv.gz")
_ROWS = 1 << 18
#: Texts that mean a missing value, in lower case.
_MISSING = ("", "nan", "na", "n/a", "#n/a", "null")


@dataclass(frozen=True)
class SourceFile:
    """One file of a table.

    Attributes:
        filesystem: Where it lies.
        path: Its path there.
        size: Bytes.
        changed: When it was last written, as text.
    """

    filesystem: Any
    path: str
    size: int
    changed: str


def source_files(path: str) -> list[SourceFile]:
    """The files of a table, sorted by path.

    Args:
        path: A file, a folder or a glob (local only), or a URI of a file or a folder.

    Returns:
        The CSV and Parquet files, at least one.

    Raises:
        UserError: If there are none, or their kind is unknown or mixed.
    """
    files, where = filesystem(path)
    try:
        info = files.get_file_info(where)
    except (OSError, ValueError) as error:
        raise UserError(f"data.path: {path!r} can't be looked up: {str(error).splitlines()[0]}") from error
    if info.type == fs.FileType.NotFound and globbing.has_magic(where) and "://" not in path:
        found = files.get_file_info(sorted(globbing.glob(where, recursive=True)))  # noqa: PTH207
    elif info.type == fs.FileType.NotFound:
        raise UserError(f"data.path: {path} does not exist")
    elif info.type == fs.FileType.Directory:
        found = files.get_file_info(fs.FileSelector(where, recursive=True))
        found = [one for one in found if not _hidden(one.path.removeprefix(where))]
    else:
        found = [info]
    chosen = [one for one in found if one.type == fs.FileType.File and not one.base_name.startswith(("_", "."))]
    kinds = {_kind(one.path) for one in chosen}
    if not chosen:
        raise UserError(f"data.path: {path} holds no files; expected {', '.join(_CSV + _PARQUET)}")
    if None in kinds:
        stranger = next(one.path for one in chosen if _kind(one.path) is None)
        raise UserError(f"data.path: {stranger} is neither CSV nor Parquet; expected {', '.join(_CSV + _PARQUET)}")
    if len(kinds) > 1:
        raise UserError(f"data.path: {path} mixes CSV and Parquet files; give one kind")
    return [
        SourceFile(files, one.path, one.size, str(one.mtime_ns))
        for one in sorted(chosen, key=lambda one: one.path)
    ]


def _hidden(inside: str) -> bool:
    """Whether a file or a folder on the way to it is not meant to be read, as `.ipynb_checkpoints`."""
    return any(name.startswith(("_", ".")) for name in inside.split("/"))


def _kind(path: str) -> str | None:
    name = path.lower()
    return "parquet" if name.endswith(_PARQUET) else "csv" if name.endswith(_CSV) else None


def signature(source: str | pd.DataFrame) -> list[list[str | int]]:
    """What tells whether a table changed: name, size and time of each file.

    Args:
        source: A path or URI, or a DataFrame, whose content is hashed.

    Returns:
        One entry a file.
    """
    if isinstance(source, pd.DataFrame):
        return [["DataFrame", len(source), int(pd.util.hash_pandas_object(source).sum())]]
    return [[one.path, one.size, one.changed] for one in source_files(source)]


def read(settings: DataSettings, frame: pd.DataFrame | None = None) -> Iterator[pa.Table]:
    """Read a long table piece by piece.

    Args:
        settings: Path and column names.
        frame: A table in memory, read instead of the path.

    Yields:
        Pieces with columns `unique_id`, `ds` and `y`, in the order of the rows.

    Raises:
        UserError: If a file can't be read, a column is missing, or a value is not what its column needs.
    """
    if frame is not None:
        wanted = _wanted(settings.columns, list(frame.columns), "the DataFrame")
        try:
            table = pa.Table.from_pandas(frame[wanted], preserve_index=False)
        except (pa.ArrowException, ValueError) as error:
            raise UserError(f"the DataFrame: can't be read: {'; '.join(map(str, error.args))}") from error
        for piece in table.to_batches(max_chunksize=_ROWS):
            yield _convert(pa.Table.from_batches([piece]), settings.columns, "the DataFrame", 0)
        return
    kind = None
    for file in source_files(settings.path):
        row = 0
        for piece in _pieces(file, settings.columns):
            table = _convert(piece, settings.columns, file.path, row)
            kind = kind or table.schema.field("ds").type
            if table.schema.field("ds").type != kind:
                raise UserError(
                    f"{file.path}: column {settings.columns.ds!r}, near row {row + 1}: holds "
                    f"{table.schema.field('ds').type}, the rows before hold {kind}; give one kind"
                )
            yield table
            row += piece.num_rows


def _wanted(columns: ColumnSettings, present: list[str], where: str) -> list[str]:
    wanted = [name for name in (columns.unique_id, columns.ds, columns.y) if name is not None]
    for key, name in (("unique_id", columns.unique_id), ("ds", columns.ds), ("y", columns.y)):
        if name is not None and name not in present:
            alone = " (null if the table is one series)" if key == "unique_id" else ""
            raise UserError(
                f"{where}: has no column {name!r}; set data.columns.{key} to one of "
                f"{', '.join(map(str, present[:20]))}{alone}"
            )
    return wanted


def _pieces(file: SourceFile, columns: ColumnSettings) -> Iterator[pa.Table]:
    read_pieces = _parquet_pieces if _kind(file.path) == "parquet" else _csv_pieces
    try:
        yield from read_pieces(file, columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file.path}: can't be read as {_kind(file.path)}: {reason}") from error


def _parquet_pieces(file: SourceFile, columns: ColumnSettings) -> Iterator[pa.Table]:
    with file.filesystem.open_input_file(file.path) as stream:
        parquet = pq.ParquetFile(stream)
        wanted = _wanted(columns, parquet.schema_arrow.names, file.path)
        for batch in parquet.iter_batches(_ROWS, columns=wanted):
            yield pa.Table.from_batches([batch])


def _csv_pieces(file: SourceFile, columns: ColumnSettings) -> Iterator[pa.Table]:
    def open_csv(**convert: Any) -> Any:
        stream = file.filesystem.open_input_stream(file.path, compression="detect")
        return pa_csv.open_csv(stream, convert_options=pa_csv.ConvertOptions(**convert))

    with open_csv() as head:
        wanted = _wanted(columns, head.schema.names, file.path)
    text = dict.fromkeys(wanted, pa.string())
    # A series may be called NA; what a missing value looks like is for the numbers to say.
    options = {"strings_can_be_null": True, "null_values": [""]}
    with open_csv(include_columns=wanted, column_types=text, **options) as stream:
        for batch in stream:
            yield pa.Table.from_batches([batch])


def _convert(piece: pa.Table, columns: ColumnSettings, where: str, first_row: int) -> pa.Table:
    """Give the three columns their names and types; `first_row` counts the rows before this piece."""

    def fail(key: str, bad: np.ndarray, expected: str) -> None:
        row = int(np.argmax(bad))
        value = piece[getattr(columns, key)][row].as_py()
        series = f" (unique_id {ids[row].as_py()!r})" if columns.unique_id and key != "unique_id" else ""
        raise UserError(
            f"{where}: column {getattr(columns, key)!r}, row {first_row + row + 1}{series}: "
            f"expected {expected}, got {value!r}"
        )

    if columns.unique_id is None:
        ids = pa.chunked_array([pa.repeat("y", piece.num_rows)])
    else:
        ids = _ids(piece[columns.unique_id], columns.unique_id, where)
        if ids.null_count:
            fail("unique_id", ids.is_null().to_numpy(), "the name of a series")
    ds = _times(piece[columns.ds], columns.ds, where)
    if ds.null_count:
        fail(
            "ds", ds.is_null().to_numpy(), "a time stamp such as 2024-03-01 or 2024-03-01 12:00, or a whole number"
        )
    y, unreadable = _numbers(piece[columns.y])
    if unreadable.any():
        fail("y", unreadable, "a number")
    too_large = np.abs(y) > np.finfo(np.float32).max
    if too_large.any():
        fail("y", too_large, "a finite number that fits into 32 bits")
    return pa.table({"unique_id": ids, "ds": ds, "y": pa.array(y, from_pandas=True)})


def _ids(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or _is_text(kind)):
        raise UserError(
            f"{where}: column {name!r} names the series and must hold text or whole numbers, got {kind}"
        )
    return pc.cast(column, pa.string())


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _times(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """Time stamps or steps; what can't be read becomes null."""
    kind = column.type
    if pa.types.is_integer(kind):
        return pc.cast(column, pa.int64())
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        raise UserError(f"{where}: column {name!r} has the time zone {kind.tz}; convert it to one without a zone")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pc.cast(column, TIMESTAMP, safe=False)
    if not _is_text(kind):
        raise UserError(f"{where}: column {name!r} must hold time stamps or whole numbers, got {kind}")
    text = pc.cast(column, pa.string())
    digits = pc.match_substring_regex(text, r"^[+-]?\d{1,18}$")
    if len(text) and pc.all(digits, skip_nulls=False).as_py():
        return pc.cast(text, pa.int64())
    stamps = pd.to_datetime(text.to_pandas(), format="ISO8601", errors="coerce", utc=True)
    with_zone = pc.match_substring_regex(text, r"\d(Z|[+-]\d\d:?\d\d)$")
    if pc.any(with_zone).as_py():
        raise UserError(f"{where}: column {name!r} has time zones; convert it to time stamps without a zone")
    return pa.chunked_array([pa.array(stamps.dt.tz_localize(None), TIMESTAMP, from_pandas=True)])


def _numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values as float64, NaN where missing; and where something else than a number stands."""
    kind = column.type
    if (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    ):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return values, np.zeros(len(values), bool)
    if pa.types.is_temporal(kind):
        return np.full(len(column), np.nan), column.is_valid().to_numpy()
    try:
        # Exact to the last digit, which pandas is only from 3.1 on.
        values = pc.cast(pc.utf8_trim_whitespace(pc.cast(column, pa.string())), pa.float64())
        return values.to_numpy(), np.zeros(len(values), bool)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        text = column.to_pandas()
    numbers = pd.to_numeric(text, errors="coerce")
    missing = text.isna() | text.astype(str).str.strip().str.lower().isin(_MISSING)
    return numbers.to_numpy(np.float64, na_value=np.nan), (numbers.isna() & ~missing).to_numpy()
