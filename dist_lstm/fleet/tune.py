"""Packs as trials of Ray Tune: handed out one after the other to workers that stay alive.

All that a fleet needs of Tune is `run_packs`. A pack that was interrupted is done again from its beginning, by the
fleet, so Tune keeps no checkpoints, retries nothing, writes no results and saves no state.

Tune by itself prepares up to 200 trials ahead, each with a placement group that is removed again when a worker
becomes free, searches all trials at each step, and copies the whole grid for each trial. Here a searcher gives out
a pack when a worker can take it.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from dist_lstm.errors import UserError
from dist_lstm.jobs.ray_private import tune_without_state
from dist_lstm.jobs.session import hide_gpus_not_given

#: Does a pack, by its number, and returns what is reported of it.
Work = Callable[[int], dict[str, Any]]
#: Packs that wait for nodes which an autoscaler may start; Tune's own number.
_WAITING = 200
#: Seconds between two looks at the resources of a cluster that may grow.
_REFRESH = 10.0
#: Read by Tune: how many trials may wait is decided here.
_ENVIRONMENT = {"TUNE_MAX_PENDING_TRIALS_PG": "100000"}


def run_packs(
    packs: Sequence[int],
    open_worker: Callable[[], AbstractContextManager[Work]],
    resources: Mapping[str, float],
    folder: Path,
    on_end: Callable[[int, dict[str, Any], float], None],
    on_death: Callable[[int], None],
) -> list[Exception]:
    """Do packs, each as a trial, once.

    Args:
        packs: Their numbers, in the order in which they are handed out.
        open_worker: Opens what does packs, in a worker's process; called there before its first pack. Pickled.
        resources: `cpu` and `gpu` of each worker.
        folder: An empty folder for Tune's files, which are not needed afterwards.
        on_end: Called with the number of each pack that is done, its result and its seconds.
        on_death: Called with the number of each pack whose worker or node died, or that failed.

    Returns:
        The exceptions that ended packs.

    Raises:
        UserError: If a worker raised it; the first by its text of several.
    """
    from ray import tune

    trial = tune.with_resources(tune.with_parameters(_trial(), open_worker=open_worker), dict(resources))
    os.environ.update(_ENVIRONMENT)
    tuner = tune.Tuner(
        trial,
        tune_config=tune.TuneConfig(
            num_samples=len(packs),
            search_alg=_searcher(packs, _Capacity(resources)),
            scheduler=_scheduler(),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name, storage_path=str(folder.parent), verbose=0, callbacks=[_callback(on_end, on_death)]
        ),
    )
    with tune_without_state():
        results = tuner.fit()
    problems = [one.metrics["problem"] for one in results if one.metrics and one.metrics.get("problem")]
    if problems:
        raise min(problems, key=str)
    return results.errors


class _Capacity:
    """How many packs may be with workers or wait for one.

    Args:
        resources: `cpu` and `gpu` of each worker.
    """

    def __init__(self, resources: Mapping[str, float]) -> None:
        self._needed = {name.upper(): number for name, number in resources.items() if number}
        self._grows = "RAY_ADDRESS" in os.environ
        self._read_at = float("-inf")
        self._workers = 1

    def __call__(self) -> int:
        if time.monotonic() > self._read_at + _REFRESH:
            import ray

            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._workers = sum(workers_of(node, self._needed) for node in nodes)
            self._read_at = time.monotonic()
        return max(1, self._workers) + (_WAITING if self._grows else 0)


def workers_of(node: Mapping[str, float], needed: Mapping[str, float]) -> int:
    """Workers that fit on a node.

    Args:
        node: Its resources, such as `CPU` and `GPU`.
        needed: Resources of a worker.

    Returns:
        Their number.

    Example:
        >>> workers_of({"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 0.5})
        4
    """
    return min((int(node.get(name, 0.0) / number) for name, number in needed.items()), default=1)


def _searcher(packs: Sequence[int], capacity: Callable[[], int]) -> Any:
    from ray.tune.search import Searcher

    class Packs(Searcher):
        """Gives out packs in order, as many at a time as workers can take."""

        def __init__(self) -> None:
            super().__init__()
            self._left: Iterator[int] = iter(packs)
            self._out = 0

        def suggest(self, trial_id: str) -> dict[str, Any] | None:  # noqa: ARG002
            if self._out >= capacity():
                return None
            self._out += 1
            return {"pack": next(self._left)}

        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            self._out -= 1

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the fleet knows which packs are done."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing was saved."""

    return Packs()


def _scheduler() -> Any:
    from ray.tune.schedulers import FIFOScheduler

    class Scheduler(FIFOScheduler):
        """Leaves the order to Tune's queue, instead of searching all trials for one that waits at each step."""

        def choose_trial_to_run(self, tune_controller: Any) -> None:  # noqa: ARG002
            return None

    return Scheduler()


def _trial() -> type:
    """The trial of a pack; a class in a function, since Ray is imported only where it is needed."""
    from ray.tune import Trainable

    class PackTrial(Trainable):
        """Does one pack after the other, in a process that stays."""

        def setup(self, config: dict[str, Any], open_worker: Any) -> None:  # pyright: ignore
            self._pack, self._open_worker = config["pack"], open_worker
            self._resources = ExitStack()
            self._work: Work | None = None
            self._problem: UserError | None = None
            hide_gpus_not_given()

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._pack = new_config["pack"]
            return True

        def step(self) -> dict[str, Any]:
            if self._problem is None:
                try:
                    # Not in `setup`: Tune ends an actor that is slow to start once another has time for its pack.
                    work = self._work or self._resources.enter_context(self._open_worker())
                    self._work = work
                    return {"done": True, "result": work(self._pack)}
                except UserError as error:
                    self._problem = error
            return {"done": True, "problem": self._problem}

        def cleanup(self) -> None:
            self._resources.close()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing: a pack that was interrupted is done again."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Nothing was saved."""

    return PackTrial


def _callback(on_end: Callable[[int, dict[str, Any], float], None], on_death: Callable[[int], None]) -> Any:
    from ray.tune import Callback

    class Ends(Callback):
        """Reports packs as they end."""

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Tune pickles its callbacks; what these call, such as a console's method, can't be."""
            return Callback, ()

        def on_trial_complete(self, *_: Any, trial: Any, **__: Any) -> None:
            last = trial.last_result or {}
            if last.get("result") is not None:
                on_end(trial.config["pack"], dict(last["result"]), last["time_this_iter_s"])

        def on_trial_error(self, *_: Any, trial: Any, **__: Any) -> None:
            on_death(trial.config["pack"])

    return Ends()
