"""How a file is found and how it becomes visible: the one place that knows.

A reader never sees half a file or half a folder: whatever is written lies beside its destination under a
temporary name and is renamed when it is complete (`publish`). A folder holds finished work when it
contains the marker (`mark`, `is_marked`). One process at a time works on a folder (`lock`).
"""

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_lstm.errors import UserError

MARKER = "_SUCCESS"
LOCK = ".lock"


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system a path or URI lies on, and the path there.

    Args:
        uri: A local path, or a URI that `pyarrow.fs` knows (`file:`, `s3:`, `gs:`, `hdfs:`).

    Returns:
        A `pyarrow.fs.FileSystem` and the path on it.

    Raises:
        UserError: If the URI's scheme is unknown or its file system can't be reached.
    """
    from pyarrow import fs

    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        return fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{uri}: can't be opened as a storage location: {reason}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Write a file or a folder so that it appears whole or not at all.

    The body writes to the yielded path. When it ends without an exception, the result is flushed to disk
    and takes the place of `path`; otherwise it is deleted and `path` stays as it was.

    Args:
        path: Where the file or folder is to appear.

    Yields:
        A path beside `path` that does not exist yet.

    Raises:
        UserError: If the folder can't be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        yield temporary
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else ():
            if file.is_file():
                _sync(file)
        _sync(temporary)
        if path.is_dir():
            path.replace(replaced)
        temporary.replace(path)
        _sync(path.parent)
        remove(replaced)
    except OSError as error:
        raise UserError(
            f"{path}: can't be written: {error.strerror or error}; free the disk or choose another --out"
        ) from error
    finally:
        remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Publish a text file in UTF-8."""
    with publish(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Publish a JSON file; NaN and infinity, which JSON does not have, are written as null."""
    write_text(path, json.dumps(_finite(value), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mark(folder: Path) -> None:
    """Say that the work in a folder is finished."""
    write_text(folder / MARKER, "")


def is_marked(folder: Path) -> bool:
    """Whether the work in a folder is finished."""
    return (folder / MARKER).exists()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other processes off a folder, which is made if needed.

    The operating system drops the lock when the process ends, however it ends.

    Args:
        folder: The folder to work on.

    Yields:
        Nothing.

    Raises:
        UserError: If another process holds the lock or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: can't be written: {error.strerror or error}; choose another --out") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            raise UserError(
                f"{folder}: process {handle.read().strip() or '?'} is working on it; "
                "wait for it or choose another --out"
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
