"""What a MirroredStrategy of one GPU costs beside none: the framework never uses one."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.gpu import Job, Lines, Values
from benchmarks.gpu.comparison import Turn, summarise, take_turns
from benchmarks.gpu.steps import describe
from benchmarks.turns import Contender
from benchmarks.work import Size, make_config
from dist_lstm.data.prepare import prepare


def lines(job: Job) -> Lines:
    """Lines of the item."""
    size = Size((4,), 8, 24) if job.rehearse else Size((64, 64), 256, 96)
    yield describe(size), partial(measure, job, size)


def measure(job: Job, size: Size) -> Values:
    """The framework under both strategies, in turns."""
    prepare(make_config(Path(job.folder), size), Path(job.folder) / "shards")  # once, for both
    with ExitStack() as stack:
        turns = {name: start(job, size, name, stack) for name in ("none", "mirrored")}
        return summarise(take_turns(turns, size.batch, job), [("mirrored", "none")])


def start(job: Job, size: Size, name: str, stack: ExitStack) -> Turn:
    """A process that trains under a strategy."""
    contender = stack.enter_context(Contender([sys.executable, str(Path(__file__).parents[1] / "step_worker.py")]))
    gpus = 0 if job.rehearse else 1
    contender.ask(folder=job.folder, size=size.plain(), threads="auto", gpus=gpus, mirrored=name == "mirrored")
    waiting = [True]

    def turn(steps: int) -> dict[str, float]:
        if waiting:
            contender.answer()  # it is ready
            waiting.clear()
        contender.ask(contender="framework", steps=steps)
        return contender.answer()

    return turn
