"""The items of `bench_gpu.py`, a module each.

A module has `lines(job)`, which gives the item's lines in the order in which they are measured: a name, and a
function that measures it and returns plain values. A worker process (`worker.py`) does one item, so that a hang
or a crash costs that item alone, and its memory on the GPU is free afterwards.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Values of a line, as they stand in the results file.
Values = dict[str, Any]
#: Name, and what measures it.
Line = tuple[str, Callable[[], Values]]
Lines = Iterator[Line]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """What a worker is asked to do.

    Attributes:
        item: Name of the item's module.
        folder: Scratch that all items of a call share; `series.parquet` lies there.
        rehearse: Whether all sizes are tiny, for a CPU.
        torch: A Python that has PyTorch; None where there is none.
        steps: Lines of the item `steps` so far, by name.
        skip: Lines that are not to be measured: the results file holds them.
        last: Lines to be measured after all others: they were cut or failed before.
    """

    item: str
    folder: str
    rehearse: bool
    torch: str | None
    steps: dict[str, Values] = field(default_factory=dict)
    skip: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
