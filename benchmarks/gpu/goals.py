"""Goals of the item `steps`."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.gpu import Values


@dataclass(frozen=True)
class Goal:
    """A goal of the item `steps`, over its cells.

    Attributes:
        name: The goal with its threshold.
        value: The measured value.
        reached: Whether the value meets the threshold.
        worst: The cell that is farthest from the threshold.
    """

    name: str
    value: float
    reached: bool
    worst: str


def goals(cells: Mapping[str, Values]) -> list[Goal]:
    """Evaluate the goals on the cells measured so far.

    Args:
        cells: Lines of the item `steps` by name.

    Returns:
        The goals for which at least one cell has the required values.
    """
    measured = {name: values for name, values in cells.items() if "input_wait_share" in values}
    ratios = {
        other: {
            name: values["ratios"][f"framework / {other}"]["median"]
            for name, values in measured.items()
            if f"framework / {other}" in values["ratios"]
        }
        for other in ("ready", "torch")
    }
    waits = {name: values["input_wait_share"] for name, values in measured.items()}
    result = []
    if ready := ratios["ready"]:
        worst = min(ready, key=ready.__getitem__)
        result.append(
            Goal("framework / ready, at least 0.9 in every cell", ready[worst], ready[worst] >= 0.9, worst)
        )
    if torch := ratios["torch"]:
        mean = statistics.geometric_mean(torch.values())
        worst = min(torch, key=torch.__getitem__)
        result.append(Goal("framework / torch, at least 1 as a geometric mean", mean, mean >= 1, worst))
    if waits:
        worst = max(waits, key=waits.__getitem__)
        result.append(Goal("input wait, at most 5 % in every cell", waits[worst], waits[worst] <= 0.05, worst))
    return result
