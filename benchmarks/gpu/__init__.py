"""The items of `bench_gpu.py`, one module per item.

Each module has a function `lines(job)` that yields the item's lines in the order of measurement: a name and a
function that measures it and returns plain values. A worker process (`worker.py`) measures one item, so that a
hang or a crash affects that item alone and its GPU memory is freed afterwards.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Values of a line, as stored in the results file.
Values = dict[str, Any]
#: Name of a line, and the function that measures it.
Line = tuple[str, Callable[[], Values]]
Lines = Iterator[Line]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """Input of a worker process.

    Attributes:
        item: Name of the item's module.
        folder: Temporary folder shared by all items; holds `series.parquet`.
        rehearse: Whether all sizes are tiny, for a CPU.
        torch: A Python interpreter that has PyTorch; None where there is none.
        steps: Lines of the item `steps` measured so far, by name.
        skip: Lines that are already in the results file and are not measured again.
        last: Lines that were cut or failed before and are measured after all others.
    """

    item: str
    folder: str
    rehearse: bool
    torch: str | None
    steps: dict[str, Values] = field(default_factory=dict)
    skip: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
