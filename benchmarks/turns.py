"""Contenders in processes of their own that are timed in turns, so that load on the machine affects all of them.

Needs only Python's standard library: it is imported in other projects' environments too.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

Answer = dict[str, Any]


class Contender:
    """A process that does one job at a time and is idle while others work.

    Args:
        command: Command of a program that reads `Jobs`.
        environment: Environment variables in addition to those of this process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=os.environ | dict(environment or {}),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            try:
                self._process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
        self._stderr.close()

    def ask(self, **job: Any) -> None:
        """Send a job of plain values."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended: `answer` raises with its error
            print(json.dumps(job), file=self._process.stdin, flush=True)

    def answer(self) -> Answer:
        """Wait for the answer to the last job.

        Returns:
            Plain values.

        Raises:
            RuntimeError: If the process ended without an answer; the message holds the end of its standard error.
        """
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            self._stderr.seek(0)
            log = self._stderr.read().strip()
            last = log.rpartition("\n")[2]
            raise RuntimeError(f"{self._process.args} ended: {last}\n{log[-2000:]}")
        return json.loads(answer)


class Jobs:
    """The jobs of a contender, read in its own process; anything else printed there goes to standard error."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def take(self) -> dict[str, Any] | None:
        """Wait for the next job; None after the last one."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def answer(self, answer: Answer) -> None:
        """Answer the last job with plain values."""
        print(json.dumps(answer), file=self._answers, flush=True)
