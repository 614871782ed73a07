"""Time of handing out packs that do nothing: by the fleet's driver, by Ray Tune alone, and by Ray's actors."""

import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        `run_packs`, `Tune` and `actors` in all rounds, start-up included; and `profile`: the driver's calls and ms
        per pack, ms per pack of `parts`, some within others, and of the functions with the `largest` time of their
        own.
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
    return {
        "start": start,
        "trial": median(further),
        "packs": number,
        "packs/s": rates,
        "profile": profile,
    }


def _seconds(run: Callable[[int, Path], None], number: int, folder: Path) -> float:
    begin = time.perf_counter()
    run(number, folder)
    return time.perf_counter() - begin


@contextmanager
def _worker_of_nothing() -> Iterator[Work]:
    yield lambda pack: {"pack": pack}


def _by_fleet(number: int, folder: Path) -> None:
    done: list[int] = []
    run_packs(
        range(number), _worker_of_nothing, {"cpu": 1.0}, folder, lambda pack, *_: done.append(pack), done.append
    )
    assert sorted(done) == list(range(number))


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
    own = sorted(((one[2], _named(*key)) for key, one in functions.items()), reverse=True)
    return {
        "calls per pack": sum(one[1] for one in functions.values()) / number,
        "ms per pack": 1000 * sum(seconds for seconds, _ in own) / number,
        "largest": {name: 1000 * seconds / number for seconds, name in own[:_SHOWN]},
        "parts": {name: 1000 * seconds / number for name, seconds in _cumulative(functions).items()},
    }


def _named(path: str, _: int, function: str) -> str:
    """Module and function, such as `ray/_private/worker.py wait`, without the folder of the environment."""
    return function if path == "~" else f"{path.rpartition('site-packages/')[2].rpartition('lib/')[2]} {function}"


def _cumulative(functions: dict[Any, Any]) -> dict[str, float]:
    """Seconds in all calls, and in those they make, of the parts of a step of Tune's controller."""
    parts = {
        ("tune_controller.py", "step"): "all steps",
        ("tune_controller.py", "_update_trial_queue"): "making trials",
        ("tune_controller.py", "_maybe_add_actors"): "assigning trials to actors",
        ("actor_manager.py", "next"): "waiting for results and handling them",
        ("internal_kv.py", "_internal_kv_get"): "looking up the trial's class in Ray's key-value store",
        ("actor.py", "_remote"): "calling actors",
    }
    seconds: dict[str, float] = {}
    for (path, _, function), one in functions.items():
        name = parts.get((Path(path).name, function))
        if name:
            seconds[name] = max(seconds.get(name, 0.0), one[3])
    return seconds
