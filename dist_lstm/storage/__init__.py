"""How a file is found and how it becomes visible: the one place that knows.

A reader never sees half a file or half a folder: whatever is written lies beside its destination under a
temporary name and is renamed when it is complete (`publish`). A folder holds finished work when it
contains the marker (`mark`, `is_marked`). One process at a time works on a folder (`lock`).

Work on an object store (`s3://`, `gs://`) is done in a local mirror (`mirrored`): what is published, marked or
removed there goes to the store as well, so that no other room knows of stores.

A shared folder (NFS) is a local path. A rename is one step on the server; other clients may see the old state as
long as they cache a folder, by default up to a minute. `flock` holds between clients on Linux, where NFS makes a
lock of bytes of it, unless the folder is mounted with `nolock` or `local_lock`; the lock of a machine that died
goes with its lease (NFSv4) or when it is back (NFSv3). Lustre needs the mount option `flock`. Where there are no
locks the folder is refused. Source: flock(2) and nfs(5).
"""

import hashlib
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dist_lstm.errors import UserError
from dist_lstm.storage.mirror import LOCK, MARKER, Mirror, cache_folder, flocked, make_folder, owned
from dist_lstm.storage.objects import Objects

#: Mirrors this process works in, by their absolute folder.
_mirrors: dict[Path, Mirror] = {}


def _mirror_of(path: Path) -> Mirror | None:
    if not _mirrors:
        return None
    absolute = path.absolute()
    return next((one for root, one in _mirrors.items() if absolute.is_relative_to(root)), None)


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
    else:
        return
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.drop(path.absolute())


def send(path: Path) -> None:
    """Take to the store what a library wrote in place; nothing happens to what lies in no mirror.

    Args:
        path: A file or folder that is complete.

    Raises:
        UserError: If the store refuses it or can't be reached.
    """
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.send(path.absolute())


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
    # Not the process's number: nodes that share a folder may have the same.
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
    with flocked(folder / LOCK, "choose another --out") as (handle, _):
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


@contextmanager
def mirrored(
    where: str | Path,
    own: bool = True,
    fetch: Collection[str] | None = None,
    keep: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """A local folder to work in, whatever `where` is.

    A path is that folder itself. For a URI it is a mirror of what lies there, below `DIST_LSTM_CACHE` (default
    `~/.cache/dist-lstm`): what the store holds finished is fetched where the mirror lacks it, and until the end of
    the body what is published, marked or removed in it goes to the store as well. The mirror stays for the next
    time; it may be deleted whenever no process works in it.

    A worker on another node, that writes its part of what the owner has begun:

        with mirrored(out, own=False, fetch=["shards"]) as folder, publish(folder / "scores" / name) as temporary:
            table.to_parquet(temporary)

    Args:
        where: A path, or the URI of a folder.
        own: Whether this process works there alone; else others may write other files there meanwhile.
        fetch: What right below the URI is needed; None for all. Where nothing is (`()`) the mirror is a temporary
            folder.
        keep: What right below the mirror is this machine's own and never at the store, each with a file that says
            whose it is: what was kept stays as long as the store holds that same file.

    Yields:
        The folder. Messages of the body that name it name the URI.

    Raises:
        UserError: If the store can't be reached or refuses, or another process works there as its owner.
    """
    local = local_path(where)
    if local is not None:
        yield local
        return
    objects = Objects(str(where))
    with ExitStack() as stack:
        if fetch is not None and not fetch:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dist-lstm-")))
        else:
            home = cache_folder() / hashlib.sha256(str(where).encode()).hexdigest()[:16]
        root = (home / objects.uri.rpartition("/")[2]).absolute()
        if root in _mirrors:
            yield root
            return
        make_folder(root)
        try:
            owner = stack.enter_context(owned(home, objects)) if own else None
            mirror = Mirror(root, objects, owner, str(where))
            with _fetching(mirror):
                mirror.pull(fetch, keep or {})
            _mirrors[root] = mirror
            yield root
        except UserError as error:
            raise UserError(str(error).replace(str(root), objects.uri)) from error
        finally:
            _mirrors.pop(root, None)


def _fetching(mirror: Mirror) -> AbstractContextManager[Any]:
    return flocked(mirror.root.parent / ".fetch", "set DIST_LSTM_CACHE", wait=True)


def refresh(folder: Path, names: Collection[str]) -> None:
    """Fetch what other processes have taken to the store meanwhile; nothing happens outside of a mirror.

    Args:
        folder: The folder that `mirrored` gave.
        names: What right below it is needed.

    Raises:
        UserError: If the store can't be reached.
    """
    mirror = _mirrors.get(folder.absolute())
    if mirror is not None:
        with _fetching(mirror):
            mirror.fetch(names)


def origin(folder: Path) -> str:
    """What another process gives to `mirrored` to work in the same place: a URI, or the folder's absolute path.

    The URI is as its user gave it and may hold keys: it is not to be shown.
    """
    mirror = _mirrors.get(folder.absolute())
    return str(folder.absolute()) if mirror is None else mirror.where


def local_path(where: str | Path) -> Path | None:
    """The path; None for the URI of a store."""
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    return Path(where.removeprefix("file://")) if where.startswith("file:///") else None


def shown(path: Path) -> str:
    """A path as its user knows it: in a mirror, the URI."""
    mirror = _mirror_of(path)
    return str(path) if mirror is None else str(path.absolute()).replace(str(mirror.root), mirror.objects.uri, 1)


def _objects(where: str | Path) -> Objects | None:
    """What lies at a URI or in a mirror; None for other paths."""
    if local_path(where) is None:
        return Objects(str(where))
    mirror = _mirror_of(Path(where))
    if mirror is None:
        return None
    name = Path(where).absolute().relative_to(mirror.root).as_posix()
    return mirror.objects if name == "." else mirror.objects.below(name)


def listing(where: str | Path) -> list[str]:
    """Names of what lies in a folder, whole; in a mirror, of what lies at the store.

    Args:
        where: A path, or a URI.

    Returns:
        The names, sorted; empty where there is no folder.

    Raises:
        UserError: If the store can't be reached.
    """
    objects = _objects(where)
    if objects is not None:
        return sorted({name.split("/")[0] for name in objects.listing()})
    folder = local_path(where) or Path()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def exists(where: str | Path) -> bool:
    """Whether there is a file or a folder; in a mirror, at the store.

    Args:
        where: A path, or a URI.

    Returns:
        Whether it is there, whole.

    Raises:
        UserError: If the store can't be reached.
    """
    objects = _objects(where)
    if objects is None:
        return (local_path(where) or Path()).exists()
    return objects.stamp() is not None or bool(objects.listing())


def try_to_write(where: str | Path) -> None:
    """Write a file into a folder, and delete it.

    Args:
        where: A path, or a URI.

    Raises:
        UserError: If that can't be done, and why.
    """
    name, local = f".dist-lstm-{secrets.token_hex(8)}", local_path(where)
    if local is None:
        objects = Objects(str(where))
        objects.put(b"", name)
        objects.delete([name])
    else:
        write_text(local / name, "")
        remove(local / name)
