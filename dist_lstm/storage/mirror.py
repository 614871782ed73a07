"""A local folder that holds a copy of what is below a URI, and sends to the URI what is published in it.

The store is authoritative, the mirror is a copy. A file and its object are the same if their sizes and times are:
a file is given its object's time. What a process that died left unsent in the mirror is therefore deleted, and
made again.
"""

import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dist_lstm.errors import UserError
from dist_lstm.storage.lease import Claim, claim, make_name
from dist_lstm.storage.locking import LOCK, locked_file
from dist_lstm.storage.objects import INCOMPLETE, Objects, Stamp, hidden, hides_folder

#: The file that says that the work in its folder is finished.
MARKER = "_SUCCESS"


class Mirror:
    """A local copy of what is below a URI.

    Args:
        root: The local folder.
        objects: What it mirrors.
        claim: What allows this process to write; None where others write there at the same time.
        where: The URI as it was given, keys included.
    """

    def __init__(self, root: Path, objects: Objects, claim: Claim | None, where: str) -> None:
        self.root = root
        self.objects = objects
        self.where = where
        self._claim = claim
        self._writable = objects if claim is None else objects.checked(claim.check)
        # Not the same for all processes: one that lost its claim must not show what another is still writing.
        self._incomplete = f"{INCOMPLETE}.{secrets.token_hex(6)}"

    def pull(self, names: Collection[str] | None, keep: Mapping[str, str]) -> None:
        """Make the mirror equal to the store; called once, at the start.

        Files that the store does not hold are deleted if this process is the only one here.

        Args:
            names: Names at the top level of the URI that are fetched; None for all.
            keep: Names at the top level of the mirror that are not deleted, each with a file: as long as that file
                is the same here and at the store.

        Raises:
            UserError: If the store can't be reached or the disk is full.
        """
        there = self.objects.listing()
        if self._claim is not None:
            kept = [name for name, file in keep.items() if _stamp(self.root / file) == there.get(file, ())]
            self._drop_unknown(there, kept)
        self._fetch(there, names)

    def fetch(self, names: Collection[str] | None) -> None:
        """Fetch what the mirror lacks.

        Args:
            names: Names at the top level of the URI; None for all.

        Raises:
            UserError: If the store can't be reached or the disk is full.
        """
        self._fetch(self.objects.listing(), names)

    def _fetch(self, there: Mapping[str, Stamp], names: Collection[str] | None) -> None:
        missing = [
            name
            for name, stamp in there.items()
            if (names is None or name.split("/")[0] in (*names, MARKER)) and _stamp(self.root / name) != stamp
        ]
        self.objects.fetch((name, self.root / name) for name in missing)
        _take_times(self.root, {name: there[name] for name in missing})

    def _drop_unknown(self, there: Mapping[str, Stamp], kept: Collection[str]) -> None:
        for path in sorted(self.root.rglob("*"), reverse=True):  # contents before their folder
            if path.relative_to(self.root).parts[0] in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif _stamp(path) != there.get(path.relative_to(self.root).as_posix()):
                path.unlink()

    def _name(self, path: Path) -> str | None:
        """The object name of a path; None for hidden files, which are not sent."""
        name = path.relative_to(self.root).as_posix()
        return "" if name == "." else None if hidden(name) else name

    def send(self, path: Path) -> None:
        """Send a file or a folder to the store, where it appears complete or not at all.

        A folder replaces the one that is there: that one's marker is deleted first, the new marker is sent last,
        and until then an object of this process hides the folder from readers. What another process, which lost
        its claim, added meanwhile is deleted before the folder is shown.

        Args:
            path: Below the mirror.

        Raises:
            UserError: If the store refuses it or can't be reached, or another process took over.
        """
        name = self._name(path)
        if name is None:
            return
        if not path.is_dir():
            self._writable.send([(path, name)])
            _take_times(self.root, {name: self.objects.stamp(name)})
            return
        target = self._below(name)
        files = [one for one in sorted(path.rglob("*")) if one.is_file()]
        pairs = [(one, one.relative_to(path).as_posix()) for one in files]
        pairs = [(one, inside) for one, inside in pairs if not hidden(inside)]
        target.put(b"", self._incomplete)
        self._clear(target, {self._incomplete})
        target.send(pair for pair in pairs if pair[1] != MARKER)
        target.send(pair for pair in pairs if pair[1] == MARKER)
        sent = target.raw()
        _take_times(path, {inside: sent.get(inside) for _, inside in pairs})
        target.delete({name for name in sent if not hidden(name)} - {inside for _, inside in pairs})
        target.delete([self._incomplete])

    def drop(self, path: Path) -> None:
        """Delete at the store what was deleted in the mirror.

        Args:
            path: Below the mirror.

        Raises:
            UserError: If the store refuses it or can't be reached, or another process took over.
        """
        name = self._name(path)
        if name is None:
            return
        self._clear(self._below(name))
        if name:
            self._writable.delete([name])

    def _below(self, name: str) -> Objects:
        return self._writable.below(name) if name else self._writable

    def _clear(self, target: Objects, kept: Collection[str] = ()) -> None:
        """Delete the objects of a folder: its marker first, what hides it last."""
        there = target.raw()
        names = {name for name in there if not hidden(name)}
        target.delete(names & {MARKER})
        target.delete(names - {MARKER})
        target.delete({name for name in there if hides_folder(name)}.difference(kept))


#: Mirrors this process works in, by their absolute folder.
active_mirrors: dict[Path, Mirror] = {}


def mirror_of(path: Path) -> Mirror | None:
    """The mirror that a path is in; None for other paths."""
    if not active_mirrors:
        return None
    absolute = path.absolute()
    return next((one for root, one in active_mirrors.items() if absolute.is_relative_to(root)), None)


def _stamp(path: Path) -> Stamp | None:
    if not path.is_file():
        return None
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns)


def _take_times(folder: Path, stamps: Mapping[str, Stamp | None]) -> None:
    """Give files the time of their objects."""
    for name, stamp in stamps.items():
        path = folder / name
        if stamp is None or path.stat().st_size != stamp.size:
            raise UserError(path, "changed while it was copied", "start the command again")
        os.utime(path, ns=(stamp.changed, stamp.changed))


def make_folder(root: Path) -> None:
    """Create the folder of a mirror, accessible to its owner only.

    Args:
        root: The folder.

    Raises:
        UserError: If it can't be created.
    """
    try:
        root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            root, f"can't be written: {error.strerror or error}", "set DIST_LSTM_CACHE to a folder with free space"
        ) from error


def cache_folder() -> Path:
    """The folder of all mirrors."""
    folder = os.environ.get("DIST_LSTM_CACHE")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dist-lstm"
    return Path(folder) if folder else default


@contextmanager
def owned(home: Path, objects: Objects) -> Iterator[Claim]:
    """The claim of this process on what a mirror mirrors.

    Args:
        home: The folder that contains the mirror.
        objects: What it mirrors.

    Yields:
        The claim.

    Raises:
        UserError: If another process works there.
    """
    name = make_name()
    with locked_file(home / LOCK, "choose another --out") as (handle, before):
        handle.truncate(0)
        handle.write(name)
        handle.flush()
        # The process that wrote this file before has ended: its lock is free.
        # Where the folder is shared between machines, that is no proof: the lock may not hold between them.
        same_host = before.rsplit(".", 2)[0] == name.rsplit(".", 2)[0]
        with claim(objects, name, before if same_host else None) as owner:
            yield owner
