"""One process at a time works in a folder.

The lock is `flock` on a file in it. On a shared folder (NFS) it also holds between clients on Linux, where NFS
turns it into a byte-range lock, unless the folder is mounted with `nolock` or `local_lock`; the lock of a machine
that died is released when its lease ends (NFSv4) or when the machine is back (NFSv3). Lustre needs the mount
option `flock`. A folder without locks is refused. Source: flock(2) and nfs(5).
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
    """Keep other processes from working in a folder, which is created if needed.

    The operating system releases the lock when the process ends, for any reason.

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
    """Lock a file.

    Args:
        path: The file, which is created if needed.
        advice: What the user can do, other than waiting, for errors.
        wait: Whether to wait for a process that holds the lock.

    Yields:
        The open file, and its content.

    Raises:
        UserError: If it can't be written, or another process holds the lock.
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
