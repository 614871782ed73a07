"""What the item `steps` is to reach."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.gpu import Values


@dataclass(frozen=True)
class Goal:
    """A goal of the item `steps`, over its cells.

    Attributes:
        name: What is to be reached.
        found: What was found.
        reached: Whether it is.
        worst: The cell that is farthest from it.
    """

    name: str
    found: float
    reached: bool
    worst: str


def goals(cells: Mapping[str, Values]) -> list[Goal]:
    """The goals, for the cells measured so far.

    Args:
        cells: Lines of the item `steps` by name.

    Returns:
        Each goal that has a cell with the numbers it takes.
    """
    sound = {name: values for name, values in cells.items() if "input_wait_share" in values}
    ratios = {
        other: {
            name: values["ratios"][f"framework / {other}"]["median"]
            for name, values in sound.items()
            if f"framework / {other}" in values["ratios"]
        }
        for other in ("ready", "torch")
    }
    waits = {name: values["input_wait_share"] for name, values in sound.items()}
    found = []
    if ready := ratios["ready"]:
        worst = min(ready, key=ready.__getitem__)
        found.append(
            Goal("framework / ready, at least 0.9 in every cell", ready[worst], ready[worst] >= 0.9, worst)
        )
    if torch := ratios["torch"]:
        mean = statistics.geometric_mean(torch.values())
        worst = min(torch, key=torch.__getitem__)
        found.append(Goal("framework / torch, at least 1 as a geometric mean", mean, mean >= 1, worst))
    if waits:
        worst = max(waits, key=waits.__getitem__)
        found.append(Goal("input wait, at most 5 % in every cell", waits[worst], waits[worst] <= 0.05, worst))
    return found
