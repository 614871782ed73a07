"""Packs as trials of Ray Tune, assigned one after the other to workers whose processes are reused.

`run_packs` is all that a fleet needs of Tune. The fleet itself repeats an interrupted pack from its beginning, so
Tune keeps no checkpoints, retries nothing, writes no results and saves no state.

By default Tune prepares up to 200 trials ahead, each with a placement group that is removed when a worker becomes
free, searches all trials at each step, and copies the whole grid for each trial. Here a searcher suggests the next
pack when a worker has resources for it.
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

#: Runs the pack with this number and returns the results to report.
Work = Callable[[int], dict[str, Any]]
#: Packs that may wait for nodes which an autoscaler starts; Tune's own default.
_WAITING = 200
#: Seconds between two reads of the resources of a cluster, which may grow.
_REFRESH = 10.0
#: Lifts Tune's own limit of trials that wait: `_Capacity` sets it.
_ENVIRONMENT = {"TUNE_MAX_PENDING_TRIALS_PG": "100000"}


def run_packs(
    packs: Sequence[int],
    open_worker: Callable[[], AbstractContextManager[Work]],
    resources: Mapping[str, float],
    folder: Path,
    on_end: Callable[[int, dict[str, Any], float], None],
    on_death: Callable[[int], None],
) -> list[Exception]:
    """Run packs, each once, as one trial.

    Args:
        packs: Numbers of the packs, in the order in which they are started.
        open_worker: Opens the function that runs packs; called once in each worker's process, before its first
            pack. Pickled.
        resources: `cpu` and `gpu` of each worker.
        folder: A folder for Tune's files, which are not needed afterwards; empty or missing.
        on_end: Called for each pack that is done with its number, its result and its duration in seconds.
        on_death: Called with the number of each pack that failed, or whose worker or node died.

    Returns:
        The exceptions that ended packs.

    Raises:
        UserError: If a worker raised one; of several, the first in the order of their texts.
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
    """Maximum number of packs that are running or waiting for a worker.

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
    """Number of workers that fit on a node.

    Args:
        node: Resources of the node, such as `CPU` and `GPU`.
        needed: Resources of one worker.

    Returns:
        The number; 1 if a worker needs no resources.

    Example:
        >>> workers_of({"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 0.5})
        4
    """
    return min((int(node.get(name, 0.0) / number) for name, number in needed.items()), default=1)


def _searcher(packs: Sequence[int], capacity: Callable[[], int]) -> Any:
    from ray.tune.search import Searcher

    class Packs(Searcher):
        """Suggests packs in order, no more at a time than there is capacity for."""

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
            """Saves nothing: the fleet reads from its own files which packs are done."""

        def restore(self, checkpoint_path: str) -> None:
            """Restores nothing: nothing was saved."""

    return Packs()


def _scheduler() -> Any:
    from ray.tune.schedulers import FIFOScheduler

    class Scheduler(FIFOScheduler):
        """Leaves the order to Tune's queue, instead of searching all trials for a pending one at each step."""

        def choose_trial_to_run(self, tune_controller: Any) -> None:  # noqa: ARG002
            return None

    return Scheduler()


def _trial() -> type:
    """The trial of a pack; a class inside a function, as Ray is imported only when it is needed."""
    from ray.tune import Trainable

    class PackTrial(Trainable):
        """Runs one pack after the other in the same process."""

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
                    # Not in `setup`: Tune ends an actor that is slow to start once another is free for its pack.
                    work = self._work or self._resources.enter_context(self._open_worker())
                    self._work = work
                    return {"done": True, "result": work(self._pack)}
                except UserError as error:
                    self._problem = error
            return {"done": True, "problem": self._problem}

        def cleanup(self) -> None:
            self._resources.close()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Saves nothing: an interrupted pack is repeated."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Restores nothing: nothing was saved."""

    return PackTrial


def _callback(on_end: Callable[[int, dict[str, Any], float], None], on_death: Callable[[int], None]) -> Any:
    from ray.tune import Callback

    class Ends(Callback):
        """Reports packs as they end."""

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Tune pickles its callbacks, but the functions that this one calls can't be pickled."""
            return Callback, ()

        def on_trial_complete(self, *_: Any, trial: Any, **__: Any) -> None:
            last = trial.last_result or {}
            if last.get("result") is not None:
                on_end(trial.config["pack"], dict(last["result"]), last["time_this_iter_s"])

        def on_trial_error(self, *_: Any, trial: Any, **__: Any) -> None:
            on_death(trial.config["pack"])

    return Ends()
