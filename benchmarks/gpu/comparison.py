"""Contenders that take turns in one process, and the ratios of their turns."""

import statistics
from collections.abc import Callable, Iterable, Mapping

from benchmarks.gpu import Job, Values

#: Does some steps; `windows_per_second` and more.
Turn = Callable[[int], dict[str, float]]
#: Of every contender, what came of its turns, one per round.
Turns = dict[str, list[dict[str, float]]]

_PILOT, _FEWEST, _MOST = 5, 2, 2000


def duration(job: Job) -> float:
    """Seconds of a turn."""
    return 0.05 if job.rehearse else 0.2


def rounds(job: Job) -> int:
    """Turns of each contender."""
    return 2 if job.rehearse else 4


def steps_of(turn: Turn, batch: int, seconds: float) -> int:
    """Steps of so many windows that take so many seconds."""
    turn(1)  # traces the graph
    rate = turn(_PILOT)["windows_per_second"]
    return min(max(round(seconds * rate / batch), _FEWEST), _MOST)


def take_turns(contenders: Mapping[str, Turn], batch: int, job: Job) -> Turns:
    """Let contenders take turns, in every other round in reverse order."""
    sizes = {name: steps_of(turn, batch, duration(job)) for name, turn in contenders.items()}
    turns: Turns = {name: [] for name in contenders}
    for number in range(rounds(job)):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            turns[name].append(contenders[name](sizes[name]))
    return turns


def summarise(turns: Turns, pairs: Iterable[tuple[str, str]]) -> Values:
    """Speeds and ratios.

    Args:
        turns: Of every contender.
        pairs: What is compared with what.

    Returns:
        `windows_per_second` by contender, the median of its turns; and `ratios` by pair, of two turns of one
        round: their median, least and greatest.
    """
    speeds = {name: [turn["windows_per_second"] for turn in one] for name, one in turns.items()}
    return {
        "windows_per_second": {name: round(statistics.median(one)) for name, one in speeds.items()},
        "ratios": {f"{name} / {other}": spread(speeds[name], speeds[other]) for name, other in pairs},
    }


def spread(mine: list[float], theirs: list[float]) -> dict[str, float]:
    """Ratios of numbers that belong together: their median, least and greatest."""
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    return {
        "median": round(statistics.median(ratios), 4),
        "least": round(min(ratios), 4),
        "greatest": round(max(ratios), 4),
    }
