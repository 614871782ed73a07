"""Contenders that live in processes of their own and work in turns, so that a busy minute hits all of them.

Needs only Python's own library: it is imported in other projects' environments too.
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
    """A process that does one job at a time and rests while others work.

    Args:
        command: Starts a program that takes `Jobs`.
        environment: Environment variables on top of this process's own.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
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
        self._said.close()

    def ask(self, **job: Any) -> None:
        """Give it a job: plain values."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: `answer` says why
            print(json.dumps(job), file=self._process.stdin, flush=True)

    def answer(self) -> Answer:
        """Wait for what it answers to the last job.

        Returns:
            Plain values.

        Raises:
            RuntimeError: If it ended without an answer; what it said last is in the message.
        """
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            self._said.seek(0)
            said = self._said.read().strip()
            last = said.rpartition("\n")[2]
            raise RuntimeError(f"{self._process.args} ended: {last}\n{said[-2000:]}")
        return json.loads(answer)


class Jobs:
    """The jobs of a contender, taken in its own process; what else is printed there goes to stderr."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def take(self) -> dict[str, Any] | None:
        """Wait for the next job; None is the end of all."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def answer(self, answer: Answer) -> None:
        """Say what came of the last job; plain values."""
        print(json.dumps(answer), file=self._answers, flush=True)
