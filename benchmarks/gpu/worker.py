"""Measures the lines of one item, for `bench_gpu.py`, which starts it.

Reads a job as JSON from standard input. Writes a JSON object when a line begins, `{"begin": name}`, when it is
measured, `{"line": name, "seconds": s, "values": {...}}`, and when all lines are, `{"end": true}`. A line that
fails ends the process, since the state it leaves on the GPU may be unusable; the last line of standard error is
then the error message. SIGUSR1 writes the stack to standard error.
"""

import faulthandler
import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu import Job, Line
from benchmarks.gpu.comparison import describe_error
from benchmarks.turns import Jobs


def ordered(lines: list[Line], job: Job) -> list[Line]:
    """Lines to measure; those that were cut or failed before are last."""
    return sorted((line for line in lines if line[0] not in job.skip), key=lambda line: line[0] in job.last)


def main() -> None:
    """Measure the lines of a job."""
    jobs = Jobs()
    job, begin = Job(**(jobs.take() or {})), time.perf_counter()
    module = importlib.import_module(f"benchmarks.gpu.{job.item}")
    for name, measure in ordered(list(module.lines(job)), job):
        jobs.answer({"begin": name})
        values = measure()
        now = time.perf_counter()
        jobs.answer({"line": name, "seconds": round(now - begin, 1), "values": values})
        begin = now
    jobs.answer({"end": True})


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    status = 0
    try:
        main()
    except Exception as error:  # noqa: BLE001 (every error is reported as the reason)
        traceback.print_exc()
        print(describe_error(error), file=sys.stderr, flush=True)
        status = 1
    os._exit(status)  # TensorFlow's own shutdown may take seconds
