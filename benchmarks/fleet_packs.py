"""Time of handing out packs that do nothing: by the fleet's driver, by Ray Tune alone, and by Ray's actors."""

import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dist_lstm.fleet.tune import Work, run_packs
from dist_lstm.jobs.session import join_cluster

#: Functions that the profile shows, those with the largest time of their own.
_SHOWN = 8


def time_packs(number: int = 2_000, few: int = 200, rounds: int = 3) -> dict[str, Any]:
    """Measure packs per second, in turns, and profile the fleet's driver.

    Args:
        number: Packs of nothing per round.
        few: The smaller number whose time is subtracted to get the time per further pack.
        rounds: Rounds of all ways.

    Returns:
        `start`, seconds of two packs; `trial`, seconds of each further one; `packs` per round; `packs/s` of
        `run_packs`, `Tune` and `actors` in all rounds, start-up included; and `profile`: all function calls and ms
        per pack of the driver, then those of `parts`, some of which lie within others, and of the functions with
        the `largest` time of their own.
    """
    with join_cluster(), tempfile.TemporaryDirectory() as folder:
        ways = {"run_packs": _by_fleet, "Tune": _by_tune, "actors": _by_actors}
        scratch = Path(folder)
        start = _seconds(_by_fleet, 2, scratch / "two")
        rates: dict[str, list[float]] = {way: [] for way in ways}
        further = []
        for one in range(rounds):
            for way, run in ways.items():
                rates[way].append(number / _seconds(run, number, scratch / f"{way}-{one}"))
            small = _seconds(_by_fleet, few, scratch / f"few-{one}")
            further.append((number / rates["run_packs"][-1] - small) / (number - few))
        profile = _profile(number, scratch / "profile")
    return {"start": start, "trial": median(further), "packs": number, "packs/s": rates, "profile": profile}


def _seconds(run: Callable[[int, Path], None], number: int, folder: Path) -> float:
    begin = time.perf_counter()
    run(number, folder)
    return time.perf_counter() - begin


@contextmanager
def _worker_of_nothing() -> Iterator[Work]:
    yield lambda pack: {"pack": pack}


def _by_fleet(number: int, folder: Path) -> None:
    done: list[int] = []
    dead: list[int] = []
    errors = run_packs(
        range(number), _worker_of_nothing, {"cpu": 1.0}, folder, lambda pack, *_: done.append(pack), dead.append
    )
    assert (sorted(done), dead, errors) == (list(range(number)), [], [])


def _by_tune(number: int, folder: Path) -> None:
    from ray import tune

    tune.Tuner(
        _nothing,
        param_space={"pack": tune.grid_search(list(range(number)))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0),
    ).fit()


def _nothing(config: dict[str, Any]) -> dict[str, Any]:
    return config


def _by_actors(number: int, folder: Path) -> None:  # noqa: ARG001
    import ray
    from ray.util import ActorPool

    @ray.remote(num_cpus=1)
    class Worker:
        def work(self, pack: int) -> dict[str, Any]:
            return {"pack": pack}

    workers = [Worker.remote() for _ in range(int(ray.cluster_resources()["CPU"]))]
    results = ActorPool(workers).map_unordered(lambda worker, pack: worker.work.remote(pack), range(number))  # type: ignore
    assert len(list(results)) == number
    for worker in workers:
        ray.kill(worker)  # type: ignore


def _profile(number: int, folder: Path) -> dict[str, Any]:
    """Profile the driver; the profiler makes it slower by about a third."""
    profiler = cProfile.Profile()
    profiler.runcall(_by_fleet, number, folder)
    functions: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore
    entries = [_Entry(_named(*key), one[1], one[2], one[3]) for key, one in functions.items()]
    largest = sorted(entries, key=lambda one: -one.own)[:_SHOWN]
    parts = {name: one for name, end in _PARTS.items() for one in entries if one.name.endswith(end)}
    return {
        "calls per pack": sum(one.calls for one in entries) / number,
        "ms per pack": 1000 * sum(one.own for one in entries) / number,
        "parts": {
            name: {"calls": one.calls / number, "ms": 1000 * one.total / number} for name, one in parts.items()
        },
        "largest": [[one.name, one.calls / number, 1000 * one.own / number] for one in largest],
    }


@dataclass(frozen=True)
class _Entry:
    """A function in a profile.

    Attributes:
        name: Its module and name.
        calls: How often it was called.
        own: Seconds in the function itself.
        total: Seconds in the function and in those that it called.
    """

    name: str
    calls: int
    own: float
    total: float


#: The parts of a step of Tune's controller that are shown, by the ends of their functions' names.
_PARTS = {
    "all steps": "execution/tune_controller.py step",
    "making trials": "execution/tune_controller.py _update_trial_queue",
    "assigning trials to actors": "execution/tune_controller.py _schedule_trial_actor",
    "waiting for results and handling them": "_internal/actor_manager.py next",
    "looking up the trial's class in Ray's key-value store": "ray/experimental/internal_kv.py _internal_kv_get",
    "calling actors": "ray/actor.py _actor_method_call",
}


def _named(path: str, _: int, function: str) -> str:
    """Module and function, such as `ray/_private/worker.py wait`, without the folder of the environment."""
    return function if path == "~" else f"{path.rpartition('site-packages/')[2].rpartition('lib/')[2]} {function}"
