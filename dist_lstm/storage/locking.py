"""One process at a time works in a folder.

The lock is `flock` on a file in it. On a shared folder (NFS) it holds between clients on Linux, where NFS makes a
lock of bytes of it, unless the folder is mounted with `nolock` or `local_lock`; the lock of a machine that died
goes with its lease (NFSv4) or when it is back (NFSv3). Lustre needs the mount option `flock`. Where there are no
locks the folder is refused. Source: flock(2) and nfs(5).
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dist_lstm.errors import UserError

LOCK = ".lock"


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
    with locked_file(folder / LOCK, "choose another --out") as (handle, _):
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


@contextmanager
def locked_file(path: Path, advice: str, wait: bool = False) -> Iterator[tuple[TextIO, str]]:
    """Hold a file that no other process holds.

    Args:
        path: The file, which is made if needed.
        advice: What else to do.
        wait: Whether to wait for who holds it.

    Yields:
        The open file, and what it says.

    Raises:
        UserError: If it can't be written, or another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(path.parent, f"can't be written: {error.strerror or error}", advice) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise UserError(path.parent, f"can't be locked: {error.strerror or error}", advice) from error
            handle.seek(0)
            raise UserError(
                path.parent, f"process {handle.read().strip() or '?'} is working on it", f"wait for it or {advice}"
            ) from error
        handle.seek(0)
        yield handle, handle.read()
