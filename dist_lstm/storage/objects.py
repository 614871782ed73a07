"""Objects below a URI: listed, sent, fetched, deleted.

A store has no rename. One object appears whole or not at all; many appear together by a word beside them: while
`NAME/.incomplete` is there, nothing below NAME counts. Names with a dot are what processes leave for each
other: they are never listed and never fetched.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from dist_lstm.errors import UserError

_Item = TypeVar("_Item")

INCOMPLETE = ".incomplete"
_CHUNK = 8 << 20
_AT_ONCE = 8

#: What a store's answer means for whoever typed the URI: the first that is found in it.
_MEANINGS = (
    (
        r"NO_SUCH_BUCKET|bucket '\S*' not found|bucket does not exist|NoSuchBucket",
        "there is no such bucket",
        "make it or choose another",
    ),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT|INVALID_CLIENT_TOKEN|HTTP status 40[13]|Forbidden"
        r"|PERMISSION_DENIED|UNAUTHENTICATED|credentials",
        "access is denied",
        "give credentials that may read and write it (in the environment, a profile, or the machine's role)",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|UNAVAILABLE|Could ?n.t (connect|resolve)|timed? ?out",
        "can't be reached",
        "check the network and the endpoint; the same command goes on from there",
    ),
)


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system a path or URI lies on, and the path there.

    A store that can't be reached is given up after about 6 s, one that takes a connection and stays silent after
    about 100 s (S3) or 60 s (Google).

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
    # One request a small object instead of three; Google's own limit is 15 minutes.
    wish = {"s3": "allow_delayed_open=true", "gs": "retry_limit_seconds=60"}.get(uri.partition("://")[0])
    try:
        return fs.FileSystem.from_uri(f"{uri}{'&' if '?' in uri else '?'}{wish}" if wish else uri)
    except (OSError, ValueError) as error:
        problem, advice = _meaning(error)
        raise UserError(without_keys(uri), f"can't be opened as a storage location: {problem}", advice) from error


def without_keys(uri: str) -> str:
    """A URI that may be shown: keys lie before the @ and after the question mark."""
    return re.sub(r"(?<=://)[^/]*@", "", uri.partition("?")[0])


def _meaning(error: Exception) -> tuple[str, str]:
    """What is wrong, and what to do."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    matching = (rest for pattern, *rest in _MEANINGS if re.search(pattern, str(error), re.IGNORECASE))
    problem, advice = next(matching, (reason, ""))
    return problem, advice


@dataclass(frozen=True)
class Stamp:
    """What tells whether an object changed.

    Attributes:
        size: Bytes.
        changed: When the store took it, ns since 1970 by the store's clock, often in whole seconds.
    """

    size: int
    changed: int


def hidden(name: str) -> bool:
    """Whether a name is not for readers, or would lead out of the folder it is in."""
    return any(part.startswith(".") or not part for part in name.split("/"))


class Objects:
    """The objects below a URI.

    Args:
        uri: The URI of a folder.
        located: File system and path, where they are known.
    """

    def __init__(self, uri: str, located: tuple[Any, str] | None = None) -> None:
        self.uri = without_keys(uri).rstrip("/")
        self.filesystem, root = located or filesystem(uri)
        self._root = root.rstrip("/")

    def below(self, name: str) -> Self:
        """The objects below one of its folders, or one object."""
        return type(self)(f"{self.uri}/{name}", (self.filesystem, self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            where = f"{self.uri}/{name}" if name else self.uri
            raise UserError(where, *_meaning(error)) from error

    def raw(self, inside: str = "") -> dict[str, Stamp]:
        """All objects, also those that are not for readers.

        Args:
            inside: A folder to list alone.

        Returns:
            Stamps by name, the folder included.
        """
        from pyarrow import fs

        start = self._path(inside)
        with self._explained(inside):
            selector = fs.FileSelector(start, recursive=True, allow_not_found=True)
            result = self.filesystem.get_file_info(selector)
        return {
            one.path.removeprefix(f"{self._root}/"): Stamp(one.size, one.mtime_ns)
            for one in result
            if one.type == fs.FileType.File
        }

    def listing(self) -> dict[str, Stamp]:
        """The objects that are there for readers: none of a folder that is not yet whole."""
        result = self.raw()
        halves = [name.removesuffix(INCOMPLETE) for name in result if f"/{name}".endswith(f"/{INCOMPLETE}")]
        return {
            name: stamp
            for name, stamp in result.items()
            if not hidden(name) and not name.startswith(tuple(halves))
        }

    def stamp(self, name: str = "") -> Stamp | None:
        """The stamp of one object; None where there is none."""
        from pyarrow import fs

        with self._explained(name):
            result = self.filesystem.get_file_info(self._path(name))
        return Stamp(result.size, result.mtime_ns) if result.type == fs.FileType.File else None

    def put(self, content: bytes, name: str = "") -> None:
        """Write one object.

        Args:
            content: What it holds.
            name: Its name; empty for the URI itself.

        Raises:
            UserError: If the store refuses it or can't be reached.
        """

        def put(name: str) -> None:
            with self._explained(name), self.filesystem.open_output_stream(self._path(name)) as stream:
                stream.write(content)

        _together(put, [name])

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; nothing happens where there is none.

        Args:
            names: Their names.

        Raises:
            UserError: If the store refuses it or can't be reached.
        """

        def delete(name: str) -> None:
            with self._explained(name):
                try:
                    self.filesystem.delete_file(self._path(name))
                except FileNotFoundError:
                    return

        _together(delete, names)

    def send(self, files: Iterable[tuple[Path, str]]) -> None:
        """Send local files.

        `pyarrow.fs.copy_files` is not used: it ends without an error where a store refuses what was written.

        Args:
            files: Each with the name of its object.

        Raises:
            UserError: If a file can't be read, or the store refuses it or can't be reached.
        """

        def send(file: tuple[Path, str]) -> None:
            path, name = file
            opened = self.filesystem.open_output_stream
            with self._explained(name), path.open("rb") as source, opened(self._path(name)) as stream:
                while chunk := source.read(_CHUNK):
                    stream.write(chunk)

        _together(send, files)

    def fetch(self, files: Iterable[tuple[str, Path]]) -> None:
        """Fetch objects; each file appears whole.

        Args:
            files: Names of objects, and where they go.

        Raises:
            UserError: If an object is gone, the store can't be reached, or the file can't be written.
        """

        def fetch(file: tuple[str, Path]) -> None:
            name, path = file
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.fetched")
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._explained(name):
                with self.filesystem.open_input_stream(self._path(name)) as stream, temporary.open("wb") as target:
                    while chunk := stream.read(_CHUNK):
                        target.write(chunk)
                temporary.replace(path)

        _together(fetch, files)


def _together(work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
    """Do a thing to many, several at a time.

    Also to a single one: a signal is raised in the main thread, and a stream that is left in the middle there
    would become a truncated object.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [pool.submit(work, item) for item in items]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
