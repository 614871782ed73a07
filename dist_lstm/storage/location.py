"""Paths and URIs: a local folder to work in for either of them, and listings of both."""

import hashlib
import secrets
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dist_lstm.errors import UserError
from dist_lstm.storage.locking import locked_file
from dist_lstm.storage.mirror import Mirror, active_mirrors, cache_folder, make_folder, mirror_of, owned
from dist_lstm.storage.objects import Objects
from dist_lstm.storage.publish import remove, write_text


@contextmanager
def mirrored(
    where: str | Path,
    own: bool = True,
    fetch: Collection[str] | None = None,
    keep: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """A local folder to work in, for a path or a URI.

    A path is that folder itself. For a URI the folder is a mirror of it below `DIST_LSTM_CACHE` (default
    `~/.cache/dist-lstm`): complete files of the store that the mirror lacks are fetched, and until the end of the
    block what is published, marked or removed in it is also published, marked or removed at the store. The mirror
    is kept for the next time; it may be deleted whenever no process works in it.

    A worker on another node, which writes its part of the owner's work:

        with mirrored(out, own=False, fetch=["shards"]) as folder, publish(folder / "scores" / name) as temporary:
            table.to_parquet(temporary)

    Args:
        where: A path, or the URI of a folder.
        own: Whether this process is the only one that works there; otherwise others may write other files there.
        fetch: Names at the top level of the URI that are needed; None for all. If none is (`()`), the mirror is a
            temporary folder.
        keep: Names at the top level of the mirror that stay on this machine and are never sent, each with a file
            that identifies its work: it is kept as long as the store has the same file.

    Yields:
        The folder. Errors of the block that name it name the URI instead.

    Raises:
        UserError: If the store can't be reached or refuses a request, or another process works there as its owner.
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
        if root in active_mirrors:
            yield root
            return
        make_folder(root)
        try:
            owner = stack.enter_context(owned(home, objects)) if own else None
            mirror = Mirror(root, objects, owner, str(where))
            with _fetching(mirror):
                mirror.pull(fetch, keep or {})
            active_mirrors[root] = mirror
            yield root
        except UserError as error:
            raise error.with_name(str(root), objects.uri) from error
        finally:
            active_mirrors.pop(root, None)


def _fetching(mirror: Mirror) -> AbstractContextManager[Any]:
    return locked_file(mirror.root.parent / ".fetch", "set DIST_LSTM_CACHE", wait=True)


def refresh(folder: Path, names: Collection[str]) -> None:
    """Fetch what other processes have sent to the store meanwhile; does nothing outside of a mirror.

    Args:
        folder: The folder of `mirrored`.
        names: Names at its top level that are needed.

    Raises:
        UserError: If the store can't be reached.
    """
    mirror = active_mirrors.get(folder.absolute())
    if mirror is not None:
        with _fetching(mirror):
            mirror.fetch(names)


def origin(folder: Path) -> str:
    """The argument with which another process calls `mirrored` for the same location: a URI or an absolute path.

    The URI is as its user gave it and may contain keys: it must not be shown.
    """
    mirror = active_mirrors.get(folder.absolute())
    return str(folder.absolute()) if mirror is None else mirror.where


def local_path(where: str | Path) -> Path | None:
    """The path of a local location; None for the URI of a store.

    Args:
        where: A path or a URI.

    Returns:
        The path.

    Example:
        >>> str(local_path("file:///data/runs/x")), local_path("s3://bucket/runs/x")
        ('/data/runs/x', None)
    """
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    return Path(where.removeprefix("file://")) if where.startswith("file:///") else None


def shown(path: Path) -> str:
    """A path as its user gave it: in a mirror, the URI."""
    mirror = mirror_of(path)
    return str(path) if mirror is None else str(path.absolute()).replace(str(mirror.root), mirror.objects.uri, 1)


def _objects(where: str | Path) -> Objects | None:
    """The objects at a URI or of a path in a mirror; None for other paths."""
    if local_path(where) is None:
        return Objects(str(where))
    mirror = mirror_of(Path(where))
    if mirror is None:
        return None
    name = Path(where).absolute().relative_to(mirror.root).as_posix()
    return mirror.objects if name == "." else mirror.objects.below(name)


def listing(where: str | Path) -> list[str]:
    """Names of complete files and folders in a folder; for a mirror, in its store.

    Args:
        where: A path, or a URI.

    Returns:
        The names, sorted; empty if there is no folder.

    Raises:
        UserError: If the store can't be reached.
    """
    objects = _objects(where)
    if objects is not None:
        return sorted({name.split("/")[0] for name in objects.listing()})
    folder = local_path(where) or Path()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def exists(where: str | Path) -> bool:
    """Whether there is a file or a folder; for a mirror, at the store.

    Args:
        where: A path, or a URI.

    Returns:
        Whether it exists and is complete.

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
        UserError: If that can't be done, with the reason.
    """
    name, local = f".dist-lstm-{secrets.token_hex(8)}", local_path(where)
    if local is None:
        objects = Objects(str(where))
        objects.put(b"", name)
        objects.delete([name])
    else:
        write_text(local / name, "")
        remove(local / name)
