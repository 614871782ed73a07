"""A training step in windows per second: the framework from Parquet compared with others on preloaded tensors.

* `framework`: the training of `dist-lstm train`, from Parquet, including validation after every epoch of 50 steps;
* `ready`: a bare `tf.function` step on tensors ready on the GPU;
* `loop`: the bare step with cuDNN off, in the first cell only;
* `torch`: a bare step of `torch.nn.LSTM` of the same size on ready tensors.

All use the precision of `train.precision: auto`, TF32 on a GPU, and are timed in turns; a ratio compares two turns
of the same round. Kernels are timed alone, after the cells of their group.
"""

import itertools
import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu import Job, Lines, Values
from benchmarks.gpu.comparison import Turn, Turns, rounds, size_turns, summarise, take_round
from benchmarks.gpu.kernels import measure_kernels, torch_turn
from benchmarks.training import (
    Work,
    make_bare_step,
    one_device,
    open_work,
    ready_batches,
    time_bare,
    train_framework,
)
from benchmarks.turns import Contender
from benchmarks.work import HORIZON, QUANTILES, Size
from dist_lstm.data.sampling import BLOCK

#: Units, batch and context of the cells, in groups by priority.
GROUPS = (
    ((64, 128), (256, 4096), (96,)),
    ((32, 256), (256, 4096), (96,)),
    ((32, 64, 128, 256), (256, 4096), (24,)),
)
TINY = (((4,), (8,), (24,)),)
#: Training ends with the last turn; an epoch has the default number of steps.
EPOCH = 50
ENDLESS = {"train.max_steps": 1_000_000, "train.steps_per_epoch": EPOCH, "train.patience": 1_000_000}


def lines(job: Job) -> Lines:
    """Lines of the item."""
    torch = start_torch(job)
    for number, group in enumerate(TINY if job.rehearse else GROUPS):
        sizes = [Size((units, units), batch, context) for units, batch, context in itertools.product(*group)]
        for size in sizes:
            loop = number == 0 and size is sizes[0]
            yield size.describe(), partial(measure_cell, job, size, torch, loop)
        for size in sizes:
            yield f"kernels: {size.describe()}", partial(measure_kernels, job, size, torch)


def start_torch(job: Job) -> Contender | None:
    """Start PyTorch in a process of its own, which ends with this one; None where PyTorch is missing."""
    return Contender([job.torch, str(Path(__file__).parents[1] / "torch_lstm.py")]) if job.torch else None


def measure_cell(job: Job, size: Size, torch: Contender | None, loop: bool) -> Values:
    """Time one size with the default settings."""
    cell = {"units": list(size.units), "batch": size.batch, "context": size.context}
    return {"cell": cell} | compare(job, size, torch, loop=loop)


def compare(
    job: Job,
    size: Size,
    torch: Contender | None,
    settings: Mapping[str, Any] | None = None,
    loop: bool = False,
    validate: bool = True,
) -> Values:
    """Time the framework and the others in turns.

    Args:
        job: Folder of the table, and the duration of a turn.
        size: Windows, context and units of a step.
        torch: PyTorch's process, or None.
        settings: Further settings of the framework, by dotted key.
        loop: Whether a bare step with cuDNN off is timed as well.
        validate: Whether the framework validates after every epoch.

    Returns:
        The values of `summarise`, and the framework's `input_wait_share`, the median of its turns.
    """
    strategy = one_device()
    work = open_work(Path(job.folder), size, settings=ENDLESS | dict(settings or {}))
    batches = ready_batches(work)
    others: dict[str, Turn] = {"ready": partial(time_bare, work, make_bare_step(work), batches)}
    if loop:
        others["loop"] = partial(time_bare, work, make_bare_step(work, cudnn=False), batches)
    if torch is not None:
        network = {"kind": "step", "size": size.plain(), "horizon": HORIZON, "quantiles": QUANTILES}
        network |= {"dropout": work.config.model.dropout, "clip_norm": work.config.train.clip_norm}
        others["torch"] = torch_turn(torch, network)
    turns = turns_of_framework(job, work, strategy, others, validate)
    wait = statistics.median(turn["input_wait_share"] for turn in turns.results["framework"])
    return summarise(turns, [("framework", name) for name in others]) | {"input_wait_share": wait}


def turns_of_framework(job: Job, work: Work, strategy: Any, others: Mapping[str, Turn], validate: bool) -> Turns:
    """Time the others in turns while the framework's training is paused."""
    turns = Turns({"framework": []})
    sizes: dict[str, int] = {}

    def rest(passed: dict[str, float] | None) -> int | None:
        if passed is None:
            return EPOCH  # not timed: validation is traced at the end of this epoch
        if not sizes:
            sizes.update(size_turns(others, work.batch_size, job, turns))
        else:
            turns.results["framework"].append(passed)
        number = len(turns.results["framework"])
        if number == rounds(job):
            return None
        take_round(others, sizes, number, turns)
        return sizes["ready"]

    train_framework(work, strategy, rest, validate, BLOCK)
    return turns
