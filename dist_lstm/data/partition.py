"""Out-of-core regrouping: rows in any order to tables that hold all rows of their series.

A table that fits into the memory budget stays in memory. A larger one is spilled to files, each series to the file
that a hash of its name selects, and read back file by file. A file is a sequence of Arrow streams, one per piece,
so that only one file is open at a time.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.errors import UserError

_BUCKETS = 256
MIB = 1 << 20


def partition(pieces: Iterable[pa.Table], memory_budget: int, scratch: Path) -> Iterator[pa.Table]:
    """Regroup rows by series.

    Args:
        pieces: Tables with a text column `unique_id`.
        memory_budget: MiB that may be held in memory at a time.
        scratch: A folder for spilled rows, created if needed; the caller deletes it.

    Yields:
        Tables with all rows of their series, in the order of `pieces`. No series is in two of them.

    Raises:
        UserError: If the series of one file are larger than the budget.

    Example:
        >>> pieces = [pa.table({"unique_id": ["a", "b"], "y": [1, 2]}), pa.table({"unique_id": ["a"], "y": [3]})]
        >>> [table.to_pydict() for table in partition(pieces, 1, Path("unused"))]
        [{'unique_id': ['a', 'b', 'a'], 'y': [1, 2, 3]}]
    """
    held: list[pa.Table] = []
    size = 0
    pieces = iter(pieces)
    for piece in pieces:
        held.append(piece)
        size += piece.nbytes
        if size > memory_budget * MIB:
            break
    else:
        if held:
            yield pa.concat_tables(held)
        return
    for path in _spill(held, pieces, scratch):
        with pa.memory_map(str(path)) as source:
            table = pa.concat_tables(_streams(source))
        if table.nbytes > memory_budget * MIB:
            raise UserError(
                "data.memory_budget",
                (
                    f"{memory_budget} MiB are too few for this table: some of its series take "
                    f"{table.nbytes / MIB:.0f} MiB together"
                ),
                f"raise it to at least {table.nbytes // MIB + 1}",
            )
        yield table


def _spill(held: list[pa.Table], rest: Iterator[pa.Table], scratch: Path) -> list[Path]:
    """Write all rows to one file per bucket; `held` is emptied meanwhile."""
    scratch.mkdir(parents=True, exist_ok=True)
    while (table := held.pop(0) if held else next(rest, None)) is not None:
        bucket = _bucket(table["unique_id"])
        for number in np.unique(bucket):
            with (
                pa.OSFile(str(scratch / f"bucket-{number:03d}.arrow"), "ab") as file,
                pa.ipc.new_stream(file, table.schema) as stream,
            ):
                stream.write_table(table.filter(pa.array(bucket == number)))
    return sorted(scratch.glob("bucket-*.arrow"))


def _streams(source: pa.NativeFile) -> Iterator[pa.Table]:
    """The tables of the streams in a file."""
    while source.tell() < source.size():
        yield pa.ipc.open_stream(source).read_all()


def _bucket(ids: pa.ChunkedArray) -> np.ndarray:
    encoded = pc.dictionary_encode(ids).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    names = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    hashes = pd.util.hash_array(names, categorize=False) % _BUCKETS
    return hashes[encoded.indices.to_numpy()]
