"""Objects below a URI: listed, sent, fetched, deleted.

A store has no rename. One object appears complete or not at all; a folder of objects is hidden while it is being
written: while an object `NAME/.incomplete*` exists, nothing below NAME is listed. Names that begin with a dot are
messages between processes: they are never listed and never fetched.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from dist_lstm.credentials import refuse_keys, without_keys
from dist_lstm.errors import UserError

_Item = TypeVar("_Item")

#: How the names of objects begin that hide the folder they are in.
INCOMPLETE = ".incomplete"
_CHUNK = 8 << 20
_AT_ONCE = 8

#: Patterns of a store's errors, each with the problem and the advice for the user; the first that matches counts.
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

    The time-out is about 6 s for a store that can't be reached, and about 100 s (S3) or 60 s (Google) for one that
    accepts a connection and does not answer.

    Args:
        uri: A local path, or a URI that `pyarrow.fs` knows (`file:`, `s3:`, `gs:`, `hdfs:`).

    Returns:
        A `pyarrow.fs.FileSystem` and the path on it.

    Raises:
        UserError: If the URI's scheme is unknown, its file system can't be reached, or it holds a secret key.
    """
    from pyarrow import fs

    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    shown = without_keys(uri)
    refuse_keys(f"{uri.partition('://')[0]}://...", uri)
    # One request per small object instead of three; Google's own limit is 15 minutes.
    option = {"s3": "allow_delayed_open=true", "gs": "retry_limit_seconds=60"}.get(uri.partition("://")[0])
    complete = f"{uri}{'&' if '?' in uri else '?'}{option}" if option else uri
    try:
        return fs.FileSystem.from_uri(complete)
    except (OSError, ValueError) as error:
        problem, advice = (text.replace(complete, shown) for text in _meaning(error))
        raise UserError(shown, f"can't be opened as a storage location: {problem}", advice) from error


def _meaning(error: Exception) -> tuple[str, str]:
    """What is wrong, and what to do."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    matching = (rest for pattern, *rest in _MEANINGS if re.search(pattern, str(error), re.IGNORECASE))
    problem, advice = next(matching, (reason, ""))
    return problem, advice


@dataclass(frozen=True)
class Stamp:
    """Size and time of an object; another stamp means that the object changed.

    Attributes:
        size: Bytes.
        changed: Time of the last write by the store's clock, ns since 1970, often in whole seconds.
    """

    size: int
    changed: int


def hidden(name: str) -> bool:
    """Whether a name is not for readers, or would lead out of the folder it is in.

    Args:
        name: Name of an object, with `/` between folders.

    Returns:
        True if a part of it is empty or begins with a dot.

    Example:
        >>> hidden("part/.incomplete"), hidden("../part"), hidden("part/a.parquet")
        (True, True, False)
    """
    return any(part.startswith(".") or not part for part in name.split("/"))


def hides_folder(name: str) -> bool:
    """Whether an object hides the folder it is in, because the folder is incomplete."""
    return name.rpartition("/")[2].startswith(INCOMPLETE)


class Objects:
    """The objects below a URI.

    Args:
        uri: The URI of a folder.
        located: File system and path, if they are known already.
        check: Called before each object is written or deleted; an exception prevents it.
    """

    def __init__(
        self, uri: str, located: tuple[Any, str] | None = None, check: Callable[[], None] = lambda: None
    ) -> None:
        self.uri = without_keys(uri).rstrip("/")
        self.filesystem, root = located or filesystem(uri)
        self._root = root.rstrip("/")
        self._check = check

    def below(self, name: str) -> Self:
        """The objects below one of its folders, or one object."""
        return type(self)(f"{self.uri}/{name}", (self.filesystem, self._path(name)), self._check)

    def checked(self, check: Callable[[], None]) -> Self:
        """The same objects, each written or deleted only after a check.

        Args:
            check: Called before each object; raises where it must not be written or deleted.

        Returns:
            The objects.
        """
        return type(self)(self.uri, (self.filesystem, self._root), check)

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
            inside: The only folder to list; empty for all.

        Returns:
            Stamps by name; a name begins with the folder's.
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
        """The objects that are there for readers: none of a folder that is incomplete."""
        result = self.raw()
        incomplete = tuple(name[: name.rfind("/") + 1] for name in result if hides_folder(name))
        return {
            name: stamp for name, stamp in result.items() if not hidden(name) and not name.startswith(incomplete)
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
            content: Its bytes.
            name: Its name; empty for the URI itself.

        Raises:
            UserError: If the store refuses it or can't be reached.
        """

        def put(name: str) -> None:
            self._check()
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
            self._check()
            with self._explained(name):
                try:
                    self.filesystem.delete_file(self._path(name))
                except FileNotFoundError:
                    return

        _together(delete, names)

    def send(self, files: Iterable[tuple[Path, str]]) -> None:
        """Send local files.

        `pyarrow.fs.copy_files` is not used: it ends without an error where a store refuses a file.

        Args:
            files: Each with the name of its object.

        Raises:
            UserError: If a file can't be read, or the store refuses it or can't be reached.
        """

        def send(file: tuple[Path, str]) -> None:
            path, name = file
            self._check()
            opened = self.filesystem.open_output_stream
            with self._explained(name), path.open("rb") as source, opened(self._path(name)) as stream:
                while chunk := source.read(_CHUNK):
                    stream.write(chunk)

        _together(send, files)

    def fetch(self, files: Iterable[tuple[str, Path]]) -> None:
        """Fetch objects; each file appears complete or not at all.

        Args:
            files: Names of objects, each with the path of its file.

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
    """Call a function with each of many items, in several threads.

    Also with a single one: the exception of a signal is raised in the main thread, and a stream that is left
    unfinished there would become a truncated object.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [pool.submit(work, item) for item in items]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
