"""Paths and URIs: a local folder to work in, whatever is given, and what lies there."""

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
    """Fetch what other processes have taken to the store meanwhile; nothing happens outside of a mirror.

    Args:
        folder: The folder that `mirrored` gave.
        names: What right below it is needed.

    Raises:
        UserError: If the store can't be reached.
    """
    mirror = active_mirrors.get(folder.absolute())
    if mirror is not None:
        with _fetching(mirror):
            mirror.fetch(names)


def origin(folder: Path) -> str:
    """What another process gives to `mirrored` to work in the same place: a URI, or the folder's absolute path.

    The URI is as its user gave it and may hold keys: it is not to be shown.
    """
    mirror = active_mirrors.get(folder.absolute())
    return str(folder.absolute()) if mirror is None else mirror.where


def local_path(where: str | Path) -> Path | None:
    """The path; None for the URI of a store."""
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    return Path(where.removeprefix("file://")) if where.startswith("file:///") else None


def shown(path: Path) -> str:
    """A path as its user knows it: in a mirror, the URI."""
    mirror = mirror_of(path)
    return str(path) if mirror is None else str(path.absolute()).replace(str(mirror.root), mirror.objects.uri, 1)


def _objects(where: str | Path) -> Objects | None:
    """What lies at a URI or in a mirror; None for other paths."""
    if local_path(where) is None:
        return Objects(str(where))
    mirror = mirror_of(Path(where))
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
