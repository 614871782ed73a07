"""Files and folders become visible complete or not at all.

They are written next to their destination under a temporary name and renamed when they are complete. On a shared
folder (NFS) a rename is one step on the server; other clients may see the old state as long as they cache a
folder, by default up to a minute. What is in the mirror of an object store is sent to the store as well.
"""

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_lstm.errors import UserError
from dist_lstm.storage.mirror import MARKER, mirror_of


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or a folder; does nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
    else:
        return
    mirror = mirror_of(path)
    if mirror is not None:
        mirror.drop(path.absolute())


def send(path: Path) -> None:
    """Send to the store what a library wrote in place; does nothing outside of a mirror.

    Args:
        path: A file or folder that is complete.

    Raises:
        UserError: If the store refuses it or can't be reached.
    """
    mirror = mirror_of(path)
    if mirror is not None:
        mirror.send(path.absolute())


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Write a file or a folder so that it appears complete or not at all.

    The block writes to the yielded path. When it ends without an exception, the result is flushed to disk
    and replaces `path`; otherwise it is deleted and `path` stays as it was.

    Args:
        path: The file or folder to write.

    Yields:
        A path in the same folder that does not exist yet.

    Raises:
        UserError: If the folder can't be written or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with publish(Path(folder, "a.txt")) as temporary:
        ...         _ = temporary.write_text("text")
        ...     Path(folder, "a.txt").read_text()
        'text'
    """
    # Not the process ID: nodes that share a folder may have the same.
    unique = secrets.token_hex(6)
    temporary, replaced = (path.with_name(f".{path.name}.{unique}.{kind}") for kind in ("tmp", "old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
        send(path)
    except OSError as error:
        raise UserError(
            path, f"can't be written: {error.strerror or error}", "free the disk or choose another --out"
        ) from error
    finally:
        remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Publish a text file in UTF-8."""
    with publish(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Publish a JSON file; NaN and infinity, which JSON lacks, are written as null."""
    write_text(path, json.dumps(_finite(value), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mark(folder: Path) -> None:
    """Mark the work in a folder as finished."""
    write_text(folder / MARKER, "")


def is_marked(folder: Path) -> bool:
    """Whether the work in a folder is finished."""
    return (folder / MARKER).exists()
