"""A local folder that holds what lies below a URI, and takes to it what is published there.

The store is right, the mirror a copy. A file and its object are the same where size and time are: both are given
the store's time. What a process that died left unsent in the mirror is therefore dropped, and done again.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dist_lstm.errors import UserError
from dist_lstm.storage.lease import Claim, claim, make_name
from dist_lstm.storage.locking import LOCK, locked_file
from dist_lstm.storage.objects import INCOMPLETE, Objects, Stamp, hidden

#: In a folder whose work is finished.
MARKER = "_SUCCESS"


class Mirror:
    """A mirror.

    Args:
        root: The local folder.
        objects: What it mirrors.
        claim: What allows this process to write; None where others write there at the same time.
        where: The URI as it was given, keys and all.
    """

    def __init__(self, root: Path, objects: Objects, claim: Claim | None, where: str) -> None:
        self.root = root
        self.objects = objects
        self.where = where
        self._claim = claim

    def pull(self, names: Collection[str] | None, keep: Mapping[str, str]) -> None:
        """Begin: delete what the store does not hold where no other process works here, and fetch what it does.

        Args:
            names: Files and folders right below the URI; None for all.
            keep: What right below the mirror stays as long as the store holds the same file, by name.

        Raises:
            UserError: If the store can't be reached or the disk is full.
        """
        there = self.objects.listing()
        if self._claim is not None:
            kept = [name for name, file in keep.items() if _stamp(self.root / file) == there.get(file, ())]
            self._drop_unknown(there, kept)
        self._fetch(there, names)

    def fetch(self, names: Collection[str] | None) -> None:
        """Fetch what is not there yet.

        Args:
            names: Files and folders right below the URI; None for all.

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
        for path in sorted(self.root.rglob("*"), reverse=True):  # what is inside first
            if path.relative_to(self.root).parts[0] in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif _stamp(path) != there.get(path.relative_to(self.root).as_posix()):
                path.unlink()

    def _name(self, path: Path) -> str | None:
        """The name of what lies at a path; None for what a process keeps for itself."""
        name = path.relative_to(self.root).as_posix()
        return "" if name == "." else None if hidden(name) else name

    def send(self, path: Path) -> None:
        """Take a file or a folder to the store, where it appears whole or not at all.

        A folder takes the place of the one that is there, whose marker goes first; its own comes last.

        Args:
            path: Below the mirror.

        Raises:
            UserError: If the store refuses it or can't be reached, or another process took over.
        """
        name = self._name(path)
        if name is None:
            return
        self._check()
        if not path.is_dir():
            self.objects.send([(path, name)])
            _take_times(self.root, {name: self.objects.stamp(name)})
            return
        target = self.objects.below(name) if name else self.objects
        files = [one for one in sorted(path.rglob("*")) if one.is_file()]
        pairs = [(one, one.relative_to(path).as_posix()) for one in files]
        pairs = [(one, inside) for one, inside in pairs if not hidden(inside)]
        target.put(b"", INCOMPLETE)
        self._clear(target)
        target.send(pair for pair in pairs if pair[1] != MARKER)
        target.send(pair for pair in pairs if pair[1] == MARKER)
        sent = target.raw()
        _take_times(path, {inside: sent.get(inside) for _, inside in pairs})
        target.delete([INCOMPLETE])

    def drop(self, path: Path) -> None:
        """Delete at the store what was deleted here.

        Args:
            path: Below the mirror.

        Raises:
            UserError: If the store refuses it or can't be reached, or another process took over.
        """
        name = self._name(path)
        if name is None:
            return
        self._check()
        target = self.objects.below(name) if name else self.objects
        self._clear(target)
        target.delete([INCOMPLETE])
        if name:
            self.objects.delete([name])

    def _clear(self, target: Objects) -> None:
        names = {name for name in target.raw() if not hidden(name)}
        target.delete(names & {MARKER})
        target.delete(names - {MARKER})

    def _check(self) -> None:
        if self._claim is not None:
            self._claim.check()


#: Mirrors this process works in, by their absolute folder.
active_mirrors: dict[Path, Mirror] = {}


def mirror_of(path: Path) -> Mirror | None:
    """The mirror that a path lies in; None for other paths."""
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
    """Make the folder of a mirror, for its owner alone.

    Args:
        root: The folder.

    Raises:
        UserError: If it can't be made.
    """
    try:
        root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            root, f"can't be written: {error.strerror or error}", "set DIST_LSTM_CACHE to a folder with room"
        ) from error


def cache_folder() -> Path:
    """The folder of all mirrors."""
    folder = os.environ.get("DIST_LSTM_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dist-lstm"
    return Path(folder) if folder else usual


@contextmanager
def owned(home: Path, objects: Objects) -> Iterator[Claim]:
    """The claim of this process on what a mirror mirrors.

    Args:
        home: The folder the mirror lies in.
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
        # What an earlier process left is dead: its lock is free.
        # Where the folder is shared, its lock may not hold between machines.
        same_host = before.rsplit(".", 2)[0] == name.rsplit(".", 2)[0]
        with claim(objects, name, before if same_host else None) as owner:
            yield owner
