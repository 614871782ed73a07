"""The process that measures an item: started, listened to, and ended with all that it started."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from benchmarks.gpu import ROOT, Job, Values

PROGRAM = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Stop:
    """Why a worker stopped before its end.

    Attributes:
        kind: `cut`, when its time was over, or `failed`.
        line: The line it was at; empty where it was at none.
        reason: In a few words.
    """

    kind: str
    line: str
    reason: str


class Worker:
    """A process that does a job.

    Args:
        job: The job.
        program: What it runs.
    """

    def __init__(self, job: Job, program: Path = PROGRAM) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment(job.rehearse),
            cwd=ROOT,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        self._answers: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._listener.join()
        self._process.__exit__(None, None, None)
        self._said.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for answer in self._process.stdout:
            self._answers.put(answer)
        self._answers.put("")  # no more come

    def follow(self, deadline: float, add: Callable[[str, Values], None]) -> Stop | None:
        """Take its lines until it ends.

        Args:
            deadline: When its time is over, on the monotonic clock.
            add: Takes the name of a line and its values.

        Returns:
            Where and why it stopped; None where all lines were measured.
        """
        line = ""
        while True:
            try:
                text = self._answers.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                return Stop("cut", line, "its time was over")
            if not text:
                return self._failure(line)
            answer = json.loads(text)
            line = answer.get("begin", "")
            if "line" in answer:
                add(answer["line"], answer["values"] | {"seconds": answer["seconds"]})

    def _failure(self, line: str) -> Stop | None:
        status = self._process.wait()
        self._said.seek(0)
        said = [one.strip() for one in self._said if one.strip()] or [f"ended with status {status}"]
        return Stop("failed", line, said[-1][:300]) if status else None


def environment(rehearse: bool) -> dict[str, str]:
    """Environment variables of a worker: no GPU for a rehearsal; where XLA finds `ptxas`."""
    given = dict(os.environ) | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    if rehearse:
        given["CUDA_VISIBLE_DEVICES"] = ""
    cuda = Path(given.get("CUDA_HOME", "/usr/local/cuda"))
    if cuda.is_dir():
        given.setdefault("XLA_FLAGS", f"--xla_gpu_cuda_data_dir={cuda}")
    return given
