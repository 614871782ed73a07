"""Measures the lines of one item, for `bench_gpu.py`, which starts it.

Takes a job as JSON on its standard input. Answers with a JSON object when it begins a line, `{"begin": name}`,
when that is measured, `{"line": name, "seconds": s, "values": {...}}`, and when all are, `{"end": true}`. A line
that fails ends it: what that leaves on the GPU may be of no use to the next. The last line of its standard error
is then the reason. SIGUSR1 has it write its stack there.
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
    """What is to be measured, what was cut or failed before at the end."""
    return sorted((line for line in lines if line[0] not in job.skip), key=lambda line: line[0] in job.last)


def main() -> None:
    """Do the job."""
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
    except Exception as error:  # noqa: BLE001 (whatever it is, it is why the line has no values)
        traceback.print_exc()
        print(describe_error(error), file=sys.stderr, flush=True)
        status = 1
    os._exit(status)  # at once: what TensorFlow does as it ends may take seconds
