"""Files, folders and DataFrames to raw Arrow pieces, and those to checked rows.

A table may be long or wide; the result of `read` is long. CSV files are read as text, which `rows` converts.
"""

import glob as globbing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from dist_lstm.config.schema import DataSettings
from dist_lstm.data.columns import Choose, Columns, Piece, all_columns, choose_columns
from dist_lstm.data.csv_files import csv_pieces
from dist_lstm.data.rows import check_rows, check_same_names, check_same_times
from dist_lstm.errors import UserError
from dist_lstm.storage import filesystem

_ENDINGS = {
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "parquet": (".parquet", ".parq", ".pq"),
    "feather": (".feather", ".arrow", ".ipc"),
}
_EXPECTED = "expected " + ", ".join(ending for endings in _ENDINGS.values() for ending in endings)
#: A table in memory, as errors name it.
_FRAME = "the DataFrame"
_ROWS = 1 << 18
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """One file of a table.

    Attributes:
        filesystem: Its `pyarrow.fs.FileSystem`.
        path: Its path in the file system.
        size: Bytes.
        changed: Time of its last change, ns since 1970, as text.
    """

    filesystem: Any
    path: str
    size: int
    changed: str

    @property
    def folders(self) -> dict[str, str | None]:
        """Columns in the names of its folders, `column=value` as Hive writes them.

        Returns:
            Values by column; None for Hive's null.

        Example:
            >>> SourceFile(None, "sales/store=12/part.parquet", 0, "").folders
            {'store': '12'}
        """
        pairs = [name.split("=", 1) for name in self.path.split("/")[:-1] if "=" in name]
        return {unquote(key): None if value == _NULL_FOLDER else unquote(value) for key, value in pairs if key}

    def open(self) -> Any:
        """Open it as a stream, decompressed as its name says."""
        return self.filesystem.open_input_stream(self.path, compression="detect")


def source_files(path: str) -> list[SourceFile]:
    """The files of a table, sorted by path.

    Args:
        path: A file, a folder or a glob (local only), or a URI of a file or a folder.

    Returns:
        The files, at least one.

    Raises:
        UserError: If there are none, their kind is unknown or mixed, or a name is not UTF-8.
    """
    try:
        return _source_files(path)
    except UnicodeError as error:
        name = getattr(error, "object", path)
        raise UserError("data.path", f"the name {name!a} is not UTF-8", "rename the file or folder") from error


def _source_files(path: str) -> list[SourceFile]:
    files, where = filesystem(path)
    try:
        info = files.get_file_info(where)
    except UnicodeError:
        raise
    except (OSError, ValueError) as error:
        raise UserError("data.path", f"{path!r} can't be looked up: {str(error).splitlines()[0]}") from error
    if info.type == fs.FileType.NotFound and globbing.has_magic(where) and "://" not in path:
        result = files.get_file_info(sorted(globbing.glob(where, recursive=True)))  # noqa: PTH207
    elif info.type == fs.FileType.NotFound:
        raise UserError("data.path", f"{path} does not exist")
    elif info.type == fs.FileType.Directory:
        result = files.get_file_info(fs.FileSelector(where, recursive=True))
        result = [one for one in result if not _hidden(one.path.removeprefix(where))]
    else:
        result = [info]
    chosen = [one for one in result if one.type == fs.FileType.File and not one.base_name.startswith(("_", "."))]
    kinds = {_kind(one.path) for one in chosen}
    if not chosen:
        raise UserError("data.path", f"{path} holds no files", _EXPECTED)
    if None in kinds:
        other = next(one.path for one in chosen if _kind(one.path) is None)
        raise UserError("data.path", f"{other} is neither CSV, Parquet nor Feather", _EXPECTED)
    if len(kinds) > 1:
        mixed = " and ".join(sorted(map(str, kinds)))
        raise UserError("data.path", f"{path} mixes {mixed} files", "give one kind")
    return [
        SourceFile(files, one.path, one.size, str(one.mtime_ns))
        for one in sorted(chosen, key=lambda one: one.path)
    ]


def _hidden(inside: str) -> bool:
    """Whether a file, or a folder that contains it, is not meant to be read, such as `.ipynb_checkpoints`."""
    return any(name.startswith(("_", ".")) and "=" not in name for name in inside.split("/"))


def _kind(path: str) -> str | None:
    return next((kind for kind, endings in _ENDINGS.items() if path.lower().endswith(endings)), None)


def signature(source: Sequence[SourceFile] | pd.DataFrame) -> list[list[str | int]]:
    """Name, size and time of each file of a table: another signature means that the table changed.

    Args:
        source: The files of a table, or a DataFrame, whose content is hashed.

    Returns:
        One entry per file.

    Raises:
        UserError: If a DataFrame contains values that can't be hashed, such as lists.
    """
    if isinstance(source, pd.DataFrame):
        try:
            hashed = pd.util.hash_pandas_object(source)
        except TypeError as error:
            raise UserError(_FRAME, f"can't be read: {error}") from error
        return [["DataFrame", ", ".join(map(str, source)), len(source), int(hashed.sum())]]
    return [[one.path, one.size, one.changed] for one in source]


def read(
    settings: DataSettings, source: Sequence[SourceFile] | pd.DataFrame, rounded: Counter[str] | None = None
) -> Iterator[pa.Table]:
    """Read a long or wide table piece by piece as a long one.

    Args:
        settings: Layout, column names and time zone.
        source: The files of the table, or a DataFrame.
        rounded: Counts values that a piece does not hold exactly, as `check_rows` does; None to count nothing.

    Yields:
        Pieces with columns `unique_id`, `ds`, `y` and the static covariates, all of the same types. The rows of
        a series are in the order of the table.

    Raises:
        UserError: If a file can't be read, a column is missing, or a value does not have the type of its column.
    """
    if isinstance(source, pd.DataFrame):
        sources = [(_FRAME, _frame_pieces(source, settings))]
    else:
        sources = ((file.path, _pieces(file, settings)) for file in source)
    names, kind, rounded = None, None, Counter() if rounded is None else rounded
    for where, pieces in sources:
        row = 0
        for columns, piece in pieces:
            table = check_rows(piece, columns, settings, where, row, rounded)
            if not table.num_rows:
                continue
            types = {name: table.schema.field(name).type for name in ("unique_id", "ds")}
            near = f"{where}, near row {row + 1}"
            check_same_names(types["unique_id"], names or types["unique_id"], columns.unique_id, near)
            check_same_times(types["ds"], kind or types["ds"], columns.ds, near)
            names, kind = types.values()
            yield table
            row += piece.num_rows


def read_sample(source: Sequence[SourceFile], settings: DataSettings, cells: int) -> pa.Table:
    """The first rows of a table as they are stored, with every column, those of its folders too.

    Args:
        source: The files of the table.
        settings: How CSV files are written.
        cells: How many values are enough, rows times columns.

    Returns:
        Raw rows: of CSV, text. Later files whose columns differ from the first one's are left out.

    Raises:
        UserError: If a file can't be read, or two columns have the same name.
    """
    pieces: list[pa.Table] = []
    for file in source:
        for _, piece in _raw_pieces(
            file, settings, lambda present, file=file: all_columns(present, file.folders, file.path)
        ):
            if not pieces or piece.schema.equals(pieces[0].schema):
                pieces.append(piece)
            if sum(one.num_rows * one.num_columns for one in pieces) >= cells:
                return pa.concat_tables(pieces)
    return pa.concat_tables(pieces) if pieces else pa.table({})


def used_columns(frame: pd.DataFrame, settings: DataSettings) -> pd.DataFrame:
    """The columns of a DataFrame that are read.

    Args:
        frame: The DataFrame.
        settings: Layout and names.

    Returns:
        A DataFrame of them.

    Raises:
        UserError: If one is missing, or is the index.
    """
    for name in frame.index.names:
        if name is not None and name in settings.named_columns and name not in frame.columns:
            raise UserError(_FRAME, f"{name!r} is its index, not a column", "call reset_index() on it first")
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    ds = settings.columns.ds
    if isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex) and ds not in frame and "timestamp" not in frame:
        raise UserError(
            _FRAME,
            f"has no column {ds!r}, and its index holds times",
            f"call reset_index(names={ds!r}) on it first",
        )
    return frame[choose_columns(settings, list(frame.columns), (), _FRAME).names]


def _frame_pieces(frame: pd.DataFrame, settings: DataSettings) -> Iterator[Piece]:
    where, frame = _FRAME, used_columns(frame, settings)
    columns = choose_columns(settings, list(frame.columns), (), where)
    if isinstance(frame[columns.ds].dtype, pd.PeriodDtype):
        raise UserError(
            where, f"column {columns.ds!r} holds periods, not time stamps", "convert it with .dt.to_timestamp()"
        )
    if frame[columns.ds].dtype == object:
        # Arrow would use the time zone of the first object for all.
        frame = frame.assign(**{columns.ds: frame[columns.ds].map(str, na_action="ignore")})
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise UserError(where, f"can't be read: {'; '.join(map(str, error.args))}") from error
    for piece in table.to_batches(max_chunksize=_rows_at_once(columns)):
        yield columns, pa.Table.from_batches([piece])


def _rows_at_once(columns: Columns) -> int:
    """Rows per piece: fewer if each row becomes many."""
    return max(1, _ROWS // len(columns.targets))


def _pieces(file: SourceFile, settings: DataSettings) -> Iterator[Piece]:
    """Raw pieces of a file, with the columns that the settings name."""
    folders = file.folders.keys()
    return _raw_pieces(file, settings, lambda present: choose_columns(settings, present, folders, file.path))


def _raw_pieces(file: SourceFile, settings: DataSettings, choose: Choose) -> Iterator[Piece]:
    """Raw pieces of a file, with the columns in the names of its folders."""
    kind, folders = _kind(file.path) or "", file.folders
    try:
        if kind == "csv":
            pieces = csv_pieces(file.open, file.path, settings.csv, choose)
        else:
            pieces = _READERS[kind](file, choose)
        for columns, piece in pieces:
            yield columns, _with_folders(piece, columns, folders)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(file.path, f"can't be read as {kind}: {reason}") from error


def _with_folders(table: pa.Table, columns: Columns, folders: dict[str, str | None]) -> pa.Table:
    present = {*table.column_names}
    for name in columns.names:
        if name not in present:
            value = pa.scalar(folders[name], pa.string())
            table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table


def _parquet_pieces(file: SourceFile, choose: Choose) -> Iterator[Piece]:
    with file.filesystem.open_input_file(file.path) as stream:
        parquet = pq.ParquetFile(stream)
        columns = choose(parquet.schema_arrow.names)
        included = columns.inside(parquet.schema_arrow.names)
        for batch in parquet.iter_batches(_rows_at_once(columns), columns=included):
            yield columns, pa.Table.from_batches([batch])


def _feather_pieces(file: SourceFile, choose: Choose) -> Iterator[Piece]:
    with file.filesystem.open_input_file(file.path) as stream:
        # Feather is Arrow's file format; .arrow may also be its stream format.
        is_file = stream.read(6) == b"ARROW1"
        stream.seek(0)
        open_ = pa.ipc.open_file if is_file else pa.ipc.open_stream
        schema = open_(stream).schema
        columns = choose(schema.names)
        stream.seek(0)
        included = [schema.get_field_index(name) for name in columns.inside(schema.names)]
        reader = open_(stream, options=pa.ipc.IpcReadOptions(included_fields=included))
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            # Arrow does not check a file's offsets and would read beyond its end.
            batch.validate(full=True)
            table, rows = pa.Table.from_batches([batch]), _rows_at_once(columns)
            for first in range(0, len(table), rows):
                yield columns, table.slice(first, rows)


_READERS = {"parquet": _parquet_pieces, "feather": _feather_pieces}
