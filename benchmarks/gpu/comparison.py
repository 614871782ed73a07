"""Implementations that are timed alternately (contenders), and the ratios of their speeds."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.gpu import Job, Values

#: Times the given number of steps; returns `windows_per_second` and other values.
Turn = Callable[[int], dict[str, float]]

_PILOT, _FEWEST, _MOST = 5, 2, 2000


@dataclass
class Turns:
    """Results of the turns.

    Attributes:
        results: Values by contender, one entry per round.
        failed: Error messages of contenders that failed in their first turn; they take no other turn.
    """

    results: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def speeds(self, name: str) -> list[float]:
        """Windows per second of a contender, one value per round."""
        return [result["windows_per_second"] for result in self.results[name]]


def duration(job: Job) -> float:
    """Seconds per turn."""
    return 0.05 if job.rehearse else 0.2


def rounds(job: Job) -> int:
    """Number of turns of each contender."""
    return 2 if job.rehearse else 4


def size_turns(contenders: Mapping[str, Turn], batch: int, job: Job, turns: Turns) -> dict[str, int]:
    """Run the first steps of every contender, which trace its graph and choose its kernels.

    Args:
        contenders: Contenders by name.
        batch: Windows per step.
        job: Sets the duration of a turn.
        turns: Errors of contenders that fail are added to it.

    Returns:
        Steps per turn by contender, without those that failed.
    """
    sizes = {}
    for name, turn in contenders.items():
        try:
            turn(1)
            rate = turn(_PILOT)["windows_per_second"]
        except Exception as error:  # noqa: BLE001 (the others are measured all the same)
            turns.failed[name] = describe_error(error)
        else:
            sizes[name] = min(max(round(duration(job) * rate / batch), _FEWEST), _MOST)
            turns.results[name] = []
    return sizes


def take_turns(contenders: Mapping[str, Turn], batch: int, job: Job) -> Turns:
    """Time contenders in turns, in reverse order in every second round."""
    turns = Turns()
    sizes = size_turns(contenders, batch, job, turns)
    for number in range(rounds(job)):
        take_round(contenders, sizes, number, turns)
    return turns


def take_round(contenders: Mapping[str, Turn], sizes: Mapping[str, int], number: int, turns: Turns) -> None:
    """Time one turn of each contender."""
    for name in list(sizes)[:: -1 if number % 2 else 1]:
        turns.results[name].append(contenders[name](sizes[name]))


def summarise(turns: Turns, pairs: Iterable[tuple[str, str]]) -> Values:
    """Compute speeds and ratios.

    Args:
        turns: Turns of all contenders.
        pairs: Names of the contenders whose speeds are divided.

    Returns:
        `windows_per_second` by contender, the median of its turns; `ratios` by pair, each of two turns of the same
        round: median, min and max; and `left_out`, the error messages of contenders that failed.
    """
    measured = [(name, other) for name, other in pairs if {name, other} <= turns.results.keys()]
    values: Values = {
        "windows_per_second": {name: round(statistics.median(turns.speeds(name))) for name in turns.results},
        "ratios": {
            f"{name} / {other}": spread(turns.speeds(name), turns.speeds(other)) for name, other in measured
        },
    }
    return values | ({"left_out": turns.failed} if turns.failed else {})


def spread(numerators: list[float], denominators: list[float]) -> dict[str, float]:
    """Median, min and max of the ratios of paired numbers."""
    ratios = [one / other for one, other in zip(numerators, denominators, strict=True)]
    return {
        "median": round(statistics.median(ratios), 4),
        "min": round(min(ratios), 4),
        "max": round(max(ratios), 4),
    }


def describe_error(error: BaseException) -> str:
    """Type and message on one line; of a long message the end, where TensorFlow puts the cause."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
