"""Whether a shard is the file that was written: its size, its checksum, and those of its pages."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dist_lstm.data.manifest import Shard
from dist_lstm.errors import UserError

_AT_ONCE = 4


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def compare_with_manifest(folder: Path, shards: Sequence[Shard]) -> None:
    """Compare size and checksum of files with those that the manifest lists.

    A process reads each file for this once, several at a time: about 1 GB per second and core, or as fast as the
    disk is. A file whose size or time of change is another one is read again.

    Args:
        folder: The folder of the shards.
        shards: Entries of its manifest.

    Raises:
        UserError: If a file is missing or differs.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda shard: _compare(folder / shard.file, shard), shards):
            pass


def _compare(path: Path, shard: Shard) -> None:
    try:
        status = path.stat()
        if status.st_size != shard.bytes:
            raise _damaged(path, f"it has {status.st_size:,} bytes, its manifest says {shard.bytes:,}")
        actual = _checksum_once(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _damaged(path, (error.strerror or str(error)).lower()) from error
    if actual != shard.sha256:
        raise _damaged(path, f"its SHA-256 begins with {actual[:8]}, its manifest says {shard.sha256[:8]}")


@lru_cache(maxsize=1 << 16)
def _checksum_once(path: Path, _size: int, _changed: int) -> str:
    return checksum(path)


@contextmanager
def open_shard(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a shard; the checksum of every page that is read is compared.

    Args:
        path: The shard.

    Yields:
        The open file.

    Raises:
        UserError: If it is missing or damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, "it can't be read as Parquet") from error


def _damaged(path: Path, detail: str) -> UserError:
    return UserError(
        path, f"the shard is missing or damaged: {detail}", "prepare the data again into another --out"
    )
