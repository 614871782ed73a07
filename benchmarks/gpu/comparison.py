"""Contenders that take turns, and the ratios of their turns."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.gpu import Job, Values

#: Does some steps; `windows_per_second` and more.
Turn = Callable[[int], dict[str, float]]

_PILOT, _FEWEST, _MOST = 5, 2, 2000


@dataclass
class Turns:
    """What came of the turns.

    Attributes:
        results: By contender, one per round.
        failed: Contenders that could not take their first turn, and why; they take no other.
    """

    results: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def speeds(self, name: str) -> list[float]:
        """Windows per second of a contender, round by round."""
        return [result["windows_per_second"] for result in self.results[name]]


def duration(job: Job) -> float:
    """Seconds of a turn."""
    return 0.05 if job.rehearse else 0.2


def rounds(job: Job) -> int:
    """Turns of each contender."""
    return 2 if job.rehearse else 4


def size_turns(contenders: Mapping[str, Turn], batch: int, job: Job, turns: Turns) -> dict[str, int]:
    """Let every contender make its first steps, which trace its graph and choose its kernels.

    Args:
        contenders: By name.
        batch: Windows per step.
        job: How long a turn is.
        turns: Contenders that fail are noted there.

    Returns:
        Steps of a turn, of those that did not fail.
    """
    sizes = {}
    for name, turn in contenders.items():
        try:
            turn(1)
            rate = turn(_PILOT)["windows_per_second"]
        except Exception as error:  # noqa: BLE001 (one that fails does not take the others with it)
            turns.failed[name] = describe_error(error)
        else:
            sizes[name] = min(max(round(duration(job) * rate / batch), _FEWEST), _MOST)
            turns.results[name] = []
    return sizes


def take_turns(contenders: Mapping[str, Turn], batch: int, job: Job) -> Turns:
    """Let contenders take turns, in every other round in reverse order."""
    turns = Turns()
    sizes = size_turns(contenders, batch, job, turns)
    for number in range(rounds(job)):
        take_round(contenders, sizes, number, turns)
    return turns


def take_round(contenders: Mapping[str, Turn], sizes: Mapping[str, int], number: int, turns: Turns) -> None:
    """One turn of each contender."""
    for name in list(sizes)[:: -1 if number % 2 else 1]:
        turns.results[name].append(contenders[name](sizes[name]))


def summarise(turns: Turns, pairs: Iterable[tuple[str, str]]) -> Values:
    """Speeds and ratios.

    Args:
        turns: Of every contender.
        pairs: What is compared with what.

    Returns:
        `windows_per_second` by contender, the median of its turns; `ratios` by pair, of two turns of one round:
        their median, min and max; and `left_out`, contenders that failed, and why.
    """
    sound = [(name, other) for name, other in pairs if {name, other} <= turns.results.keys()]
    values: Values = {
        "windows_per_second": {name: round(statistics.median(turns.speeds(name))) for name in turns.results},
        "ratios": {f"{name} / {other}": spread(turns.speeds(name), turns.speeds(other)) for name, other in sound},
    }
    return values | ({"left_out": turns.failed} if turns.failed else {})


def spread(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Ratios of numbers that belong together: their median, min and max."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "median": round(statistics.median(ratios), 4),
        "min": round(min(ratios), 4),
        "max": round(max(ratios), 4),
    }


def describe_error(error: BaseException) -> str:
    """Type and message in one line; of a long message the end, where TensorFlow says what happened."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
