"""One process at a time writes below a URI.

A claim and a token, two objects per process, both named after it:

* The **claim** `.owners/HOST.PID.RANDOM` is renewed every few seconds. A process that wants to write puts its
  claim and then watches those that were there before: one that is renewed belongs to a live process, and the
  newcomer gives up; one that is not renewed for `LEASE` seconds belongs to a dead one and is deleted.
* The **token** `.tokens/HOST.PID.RANDOM` is the right to write. It is put once, after that wait, and never again.
  Whoever takes over deletes the tokens of its predecessors; whoever finds a token that was put during its own wait
  gives up. So of two processes that start at the same moment, at most one goes on.

A process may be suspended for longer than `LEASE` (a machine that sleeps, a network that is gone) while another
takes over. When it wakes up it may renew its claim, which is then withdrawn, but no renewal brings back its token.
`Claim.check` asks the store for the token before each single object is written or deleted, markers included, so
the process stops there. What remains is the single requests that had passed that check when the process stalled,
one per upload thread: each may still replace or delete one object. In a folder that another process is sending,
the object that hides it is that process's own, so a late request can't show the folder too early (`Mirror.send`).

This needs a store whose lists and reads show what was written before (S3 since 2020, Google, MinIO).

Why there is no conditional write ("create if absent", HTTP `If-None-Match`): `pyarrow.fs`, which reads and writes
all else, does not offer one (https://github.com/apache/arrow/issues/44281). `obstore` does, but reads no profile
in ~/.aws, neither keys nor `credential_process`, unless boto3 is installed
(https://github.com/developmentseed/obstore/issues/571, tried with 0.12.1), so runs that can reach the store today
could not. And a claim taken by a conditional write would not stop a late upload: the token would be needed all the
same.
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

#: Seconds without a renewal after which the process of a claim is taken for dead.
LEASE = 20.0
_RENEWAL_INTERVAL = 4.0
_POLL_INTERVAL = 0.5
_CLAIMS = ".owners"
_TOKENS = ".tokens"

_log = logging.getLogger(__name__)


def make_name() -> str:
    """A name for the claim and the token of this process."""
    return f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(6)}"


class Claim:
    """The claim and the token of this process; made by `claim`.

    Args:
        objects: What is claimed.
        name: Their name.
    """

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._claim = f"{_CLAIMS}/{name}"
        self._token = f"{_TOKENS}/{name}"
        self._has_token = False
        self._stop = threading.Event()
        # Two processes that started at the same moment must not stay in step.
        self._interval = random.uniform(0.6, 1) * _RENEWAL_INTERVAL  # noqa: S311
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def _renew(self) -> None:
        while not self._stop.wait(self._interval):
            # The network may come back; `check` decides whether this process may write.
            with suppress(UserError):
                if self._has_token and self._objects.stamp(self._token) is None:
                    self._objects.delete([self._claim])
                    return
                self._objects.put(b"", self._claim)

    def check(self) -> None:
        """Make sure that this process may still write.

        Raises:
            UserError: If another process took over, or the store can't be reached.
        """
        if self._objects.stamp(self._token) is None:
            raise UserError(
                self._objects.uri,
                f"another process took it over, because this one was cut off from it for {LEASE:.0f} s",
                "the same command goes on once that is done",
            )

    def start(self, dead: str | None) -> None:
        """Put the claim, wait for earlier ones, and take the token.

        Args:
            dead: The name of an earlier process that is known to have ended.

        Raises:
            UserError: If another process is working.
        """
        predecessors = self._objects.raw(_TOKENS).keys()
        self._objects.put(b"", self._claim)
        self._thread.start()
        self._wait_for_earlier(dead)
        self._objects.put(b"", self._token)
        self._has_token = True
        rivals = self._objects.raw(_TOKENS).keys() - predecessors - {self._token}
        if rivals:
            self._refuse(min(rivals))
        self._objects.delete(predecessors)

    def _wait_for_earlier(self, dead: str | None) -> None:
        claims = self._objects.raw(_CLAIMS)
        ended = f"{_CLAIMS}/{dead}"
        self._objects.delete({ended} & claims.keys())
        earlier = {name: stamp for name, stamp in claims.items() if name not in (self._claim, ended)}
        if earlier:
            _log.warning(
                "%s: checking for up to %.0f s whether %s is still working on it",
                self._objects.uri,
                LEASE,
                " and ".join(map(_describe, earlier)),
            )
        begin = time.monotonic()
        while earlier and time.monotonic() - begin < LEASE:
            time.sleep(_POLL_INTERVAL)
            now = self._objects.raw(_CLAIMS)
            for name, stamp in list(earlier.items()):
                if name not in now:
                    del earlier[name]
                elif now[name] != stamp:
                    self._refuse(name)
        self._objects.delete(earlier)

    def _refuse(self, name: str) -> None:
        raise UserError(
            self._objects.uri, f"{_describe(name)} is working on it", "wait for it or choose another --out"
        )

    def end(self) -> None:
        """Delete claim and token."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        # Where the store can't be reached the lease ends the claim.
        with suppress(UserError):
            self._objects.delete([self._claim, self._token])


def _describe(name: str) -> str:
    host, process, _ = name.rpartition("/")[2].rsplit(".", 2)
    return f"process {process} on {host}"


@contextmanager
def claim(objects: Objects, name: str, dead: str | None = None) -> Iterator[Claim]:
    """Keep other processes from writing below a URI.

    Args:
        objects: What is to be written.
        name: A name from `make_name`.
        dead: The name of an earlier process that is known to have ended.

    Yields:
        The claim.

    Raises:
        UserError: If another process is working there, or the store refuses a claim or can't be reached.
    """
    made = Claim(objects, name)
    try:
        made.start(dead)
        yield made
    finally:
        made.end()
