"""Where a goal of the item `steps` is missed: the worst cell again, with one setting changed at a time.

The effect of a change on a ratio shows the cause: a cost per layer, per window, per call or per validation.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.gpu import Job, Lines
from benchmarks.gpu.goals import goals
from benchmarks.gpu.steps import compare, start_torch
from benchmarks.work import Size


def lines(job: Job) -> Lines:
    """Lines of the item; none where every goal is reached."""
    missed = dict.fromkeys(goal.worst for goal in goals(job.steps) if job.rehearse or not goal.reached)
    torch = start_torch(job) if missed else None
    for name in missed:
        cell = job.steps[name]["cell"]
        size = Size(tuple(cell["units"]), cell["batch"], cell["context"])
        for change, changed, options in variants(size)[-1 if job.rehearse else 0 :]:
            yield f"{size.describe()}: {change}", partial(compare, job, changed, torch, **options)


def variants(size: Size) -> list[tuple[str, Size, dict[str, Any]]]:
    """Changes of a size or of the settings, each with its name."""
    changes: list[tuple[str, Size, dict[str, Any]]] = [
        (f"{layers} layer{'s' * (layers > 1)}", replace(size, units=size.units[:1] * layers), {})
        for layers in (1, 2, 4)
    ]
    changes += [("half the batch", replace(size, batch=size.batch // 2), {})]
    # A call never extends beyond an epoch.
    epoch = {"train.steps_per_epoch": 64}
    for steps in (1, 8, 64):
        changes += [(f"steps_per_call {steps}", size, {"settings": epoch | {"train.steps_per_call": steps}})]
    return [*changes, ("no validation", size, {"validate": False})]
