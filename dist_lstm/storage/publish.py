"""Files and folders become visible complete or not at all.

They are written next to their destination under a temporary name and renamed when they are complete. On a shared
folder (NFS) a rename is one step on the server; other clients may see the old state as long as they cache a
folder, by default up to a minute. What is in the mirror of an object store is sent to the store as well.
"""

import ctypes
import errno
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

#: Arguments of renameat2 on Linux, and of renamex_np on macOS.
_HERE, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2
#: Errors of a disk, which may come without the name of a file.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


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
        UserError: If the folder can't be written or the disk is full. An `OSError` of the block that is about
            another file is not changed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with publish(Path(folder, "a.txt")) as temporary:
        ...         _ = temporary.write_text("text")
        ...     Path(folder, "a.txt").read_text()
        'text'
    """
    # Not the process ID: nodes that share a folder may have the same.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    inside = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        inside = True
        yield temporary
        inside = False
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else ():
            if file.is_file():
                _sync(file)
        _sync(temporary)
        _replace(temporary, path)
        _sync(path.parent)
        send(path)
    except OSError as error:
        if inside and not _is_about(error, temporary):
            raise
        raise UserError(
            path, f"can't be written: {error.strerror or error}", "free the disk or choose another --out"
        ) from error
    finally:
        remove(temporary)


def _replace(new: Path, path: Path) -> None:
    """Rename a file or a folder; a folder that it replaces may be left under the name `new`."""
    if not path.is_dir():
        new.replace(path)
        return
    if _exchange(new, path):
        return
    # Between these two renames there is neither; whatever ends the block there, the old folder comes back.
    replaced = new.with_suffix(".old")
    try:
        path.replace(replaced)
        new.replace(path)
    finally:
        if path.exists():
            remove(replaced)
        else:
            replaced.replace(path)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system can't. Source: rename(2)."""
    names = os.fsencode(first), os.fsencode(second)
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        status = libc.renameat2(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE)
    elif hasattr(libc, "renamex_np"):
        status = libc.renamex_np(*names, _RENAME_SWAP)
    else:
        return False
    return status == 0


def _is_about(error: OSError, temporary: Path) -> bool:
    """Whether an error of a block is about its result, and not about another file that the block uses."""
    if temporary.name in str(error):  # Arrow and shutil name files in the text alone
        return True
    # A full disk is met while a file is written, without its name.
    return error.filename is None and error.errno in _DISK


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
