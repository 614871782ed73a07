"""One process at a time works on what lies below a URI.

`pyarrow.fs` has no conditional write, so nobody can take what is free in one step. Instead each process that wants
to work puts a claim of its own, `.owners/HOST.PID.RANDOM`, renews it every few seconds, and then lists the claims.
Those that were there before go first: one that is renewed is alive, and the newcomer gives up; one that is not for
`LEASE` seconds is dead, and is deleted. Whoever comes later sees the newcomer's claim. Where lists show what was
written before (S3 since 2020, Google, MinIO), two processes never both go on; two that start within the same
moment may both give up.

The weakness: a process that stands still for longer than `LEASE` (a machine that sleeps, a network that is gone)
and wakes up finds its claim deleted and stops before it writes again, but not what it was sending at that moment.
"""

import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dist_lstm.errors import UserError
from dist_lstm.storage.objects import Objects

LEASE = 20.0
_RENEWED = 4.0
_LOOKED = 0.5
_FOLDER = ".owners"

_log = logging.getLogger(__name__)


def make_name() -> str:
    """A name for the claim of this process."""
    return f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(6)}"


class Claim:
    """The claim of this process; made by `claim`.

    Args:
        objects: What is claimed.
        name: The name of the claim.
    """

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = f"{_FOLDER}/{name}"
        self._renewed = 0.0
        self._stop = threading.Event()
        # Two that found each other must not stay in step.
        self._every = random.uniform(0.6, 1) * _RENEWED  # noqa: S311
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def put(self) -> None:
        """Put or renew the claim."""
        now = time.monotonic()
        self._objects.put(b"", self._name)
        self._renewed = now

    def _renew(self) -> None:
        while not self._stop.wait(self._every):
            # The network may come back; `check` decides.
            with suppress(UserError):
                if self._objects.stamp(self._name) is None:
                    self._renewed = float("-inf")
                    return
                self.put()

    def check(self) -> None:
        """Make sure that this process may still write.

        Raises:
            UserError: If it stood still and another took over, or the store can't be reached.
        """
        if time.monotonic() - self._renewed > LEASE / 2 and self._objects.stamp(self._name) is None:
            raise UserError(
                self._objects.uri,
                f"another process took it over, because this one was cut off from it for {LEASE:.0f} s",
                "the same command goes on once that is done",
            )

    def wait_for_earlier(self, dead: str | None) -> None:
        """Give up where an earlier claim is alive, and delete those that are not.

        Args:
            dead: A claim whose process is known to have ended.

        Raises:
            UserError: If another process is working.
        """
        seen = self._objects.raw(_FOLDER)
        gone = f"{_FOLDER}/{dead}"
        self._objects.delete({gone} & seen.keys())
        earlier = {name: stamp for name, stamp in seen.items() if name not in (self._name, gone)}
        if earlier:
            _log.warning(
                "%s: looking for up to %.0f s whether %s still works on it",
                self._objects.uri,
                LEASE,
                " and ".join(map(_who, earlier)),
            )
        begin = time.monotonic()
        while earlier and time.monotonic() - begin < LEASE:
            time.sleep(_LOOKED)
            now = self._objects.raw(_FOLDER)
            for name, stamp in list(earlier.items()):
                if name not in now:
                    del earlier[name]
                elif now[name] != stamp:
                    raise UserError(
                        self._objects.uri, f"{_who(name)} is working on it", "wait for it or choose another --out"
                    )
        self._objects.delete(earlier)

    def start(self) -> None:
        """Put the claim and go on renewing it."""
        self.put()
        self._thread.start()

    def end(self) -> None:
        """Give it back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        # Where the store is gone the lease ends it.
        with suppress(UserError):
            self._objects.delete([self._name])


def _who(name: str) -> str:
    host, process, _ = name.removeprefix(f"{_FOLDER}/").rsplit(".", 2)
    return f"process {process} on {host}"


@contextmanager
def claim(objects: Objects, name: str, dead: str | None = None) -> Iterator[Claim]:
    """Keep other processes off what lies below a URI.

    Args:
        objects: What is to be written.
        name: A name from `make_name`.
        dead: An earlier name whose process is known to have ended.

    Yields:
        The claim.

    Raises:
        UserError: If another process is working there, or the store refuses a claim or can't be reached.
    """
    made = Claim(objects, name)
    try:
        made.start()
        made.wait_for_earlier(dead)
        yield made
    finally:
        made.end()
