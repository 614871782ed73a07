"""Cost of a MirroredStrategy of one GPU compared with no strategy; the framework never uses one."""

import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from benchmarks.gpu import Job, Lines, Values
from benchmarks.gpu.comparison import Turn, summarise, take_turns
from benchmarks.turns import Contender
from benchmarks.work import Size, make_config, prepare


def lines(job: Job) -> Lines:
    """Lines of the item."""
    size = Size((4,), 8, 24) if job.rehearse else Size((64, 64), 256, 96)
    prepare(Path(job.folder), make_config(Path(job.folder), size))  # once for both processes
    turns = {name: start(job, size, mirrored=name == "mirrored") for name in ("none", "mirrored")}
    yield size.describe(), partial(measure, job, size, turns)


def measure(job: Job, size: Size, contenders: Mapping[str, Turn]) -> Values:
    """Time the framework with and without the strategy, in turns."""
    return summarise(take_turns(contenders, size.batch, job), [("mirrored", "none")])


def start(job: Job, size: Size, mirrored: bool) -> Turn:
    """Start a process that trains with or without the strategy and ends with this process."""
    contender = Contender([sys.executable, str(Path(__file__).parents[1] / "step_worker.py")])
    gpus = 0 if job.rehearse else 1
    contender.ask(folder=job.folder, size=size.plain(), threads="auto", gpus=gpus, mirrored=mirrored)
    ready = cache(contender.answer)  # the first turn waits for it

    def turn(steps: int) -> dict[str, float]:
        ready()
        contender.ask(contender="framework", steps=steps)
        return contender.answer()

    return turn
