"""The process that measures an item: started, read and ended together with its child processes."""

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
#: Characters of a worker's standard error that are kept, and seconds to wait for its stack and for its end.
_LOG, _DUMP_SECONDS, _END_SECONDS = 4000, 1.0, 10.0


@dataclass(frozen=True)
class Stop:
    """Why a worker stopped early.

    Attributes:
        kind: `cut` at the time limit, or `failed`.
        line: The line that was being measured; empty where there was none.
        reason: The reason, in a few words.
    """

    kind: str
    line: str
    reason: str


class Worker:
    """A process that measures the lines of a job.

    Args:
        job: The job.
        program: The Python program to run.
    """

    def __init__(self, job: Job, program: Path = PROGRAM) -> None:
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed with the process)
        # Its own process group, so that it can be ended with its children; in the session of this process, so that
        # it ends with this process.
        self._process = subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=environment(job),
            cwd=ROOT,
            process_group=0,
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # A process that is stuck in a driver survives SIGKILL; it is not waited for.
        self._reader.join(_END_SECONDS)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        if not self._reader.is_alive():
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdout.close()
        self._stderr.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for answer in self._process.stdout:
            self._answers.put(answer)
        self._answers.put("")  # marks the end

    @property
    def log(self) -> str:
        """The end of its standard error."""
        self._stderr.seek(0)
        return self._stderr.read()[-_LOG:].strip()

    def follow(self, deadline: float, add: Callable[[str, Values], None]) -> Stop | None:
        """Read its lines until it ends.

        Args:
            deadline: Time limit on the monotonic clock, in seconds.
            add: Called with the name and the values of each line.

        Returns:
            Where and why it stopped; None where all lines were measured.
        """
        line = ""
        while True:
            try:
                text = self._answers.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                self._dump_stack()
                return Stop("cut", line, "time limit exceeded")
            try:
                answer = json.loads(text)
            except ValueError:
                return self._failure(line)
            if "end" in answer:
                return None
            line = answer.get("begin", "")
            if "line" in answer:
                add(answer["line"], answer["values"] | {"seconds": answer["seconds"]})

    def _failure(self, line: str) -> Stop:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        last = (self.log.splitlines() or [f"ended with status {self._process.returncode}"])[-1]
        return Stop("failed", line, last.strip())

    def _dump_stack(self) -> None:
        """Make the worker write its stack to its standard error."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        until = time.monotonic() + _DUMP_SECONDS
        while "most recent call first" not in self.log and time.monotonic() < until:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
                return


def environment(job: Job) -> dict[str, str]:
    """Environment variables of a worker: no GPU in a rehearsal, TensorFlow's log at its start, XLA's `ptxas`."""
    variables = dict(os.environ) | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    if job.rehearse:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    if job.item == "start":
        variables["TF_CPP_MIN_LOG_LEVEL"] = "0"
    folders = [Path(variables[name]) for name in ("CUDA_HOME",) if name in variables] + [Path("/usr/local/cuda")]
    cuda = next((folder for folder in folders if (folder / "bin" / "ptxas").exists()), None)
    flags = variables.get("XLA_FLAGS", "")
    if cuda and "xla_gpu_cuda_data_dir" not in flags:
        variables["XLA_FLAGS"] = f"{flags} --xla_gpu_cuda_data_dir={cuda}".strip()
    return variables
