"""One trial of a search: trains with its settings and reports one score per epoch, on the devices Ray assigned.

TensorFlow is not imported before `hide_gpus_not_given` has restricted the GPUs that it may use.
"""

import json
import os
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_lstm.config.load import dump_config, load_config, measured_before, override
from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.schema import Config
from dist_lstm.data.shards import open_shards
from dist_lstm.errors import UserError
from dist_lstm.jobs.session import hide_gpus_not_given
from dist_lstm.layout import SearchLayout, TrialLayout
from dist_lstm.search.samples import Sample, trial_config
from dist_lstm.startup import start_tensorflow
from dist_lstm.storage import mirrored, write_text

#: Values of `status` in the reports of a trial.
RUNNING, DONE, FAILED = "running", "done", "failed"
#: Seconds until the process of a hung trial is ended: with a hung thread it may not end by itself.
_SECONDS_TO_END = 30


@dataclass(frozen=True)
class Job:
    """What all trials of a search share.

    Attributes:
        config: The config of the search; settings may be left out.
        shards: The prepared data.
        min_context: Minimum number of steps before a scored cutoff.
    """

    config: Config
    shards: Path
    min_context: int


def run_trial(settings: dict[str, Any], job: Job) -> None:
    """Train and report to Tune, which calls this for each trial.

    A trial that fails because of its settings reports the reason and ends. Any other exception is left to Tune: it
    restarts the trial from its last epoch, at most `search.max_failures` times.

    Args:
        settings: `sample`, the values that the trial tries.
        job: What all trials share.

    Raises:
        TimeoutError: If the trial makes no progress for `search.trial_timeout` seconds.
    """
    from ray import tune

    hide_gpus_not_given()
    watchdog = Watchdog(job.config.search.trial_timeout)
    try:
        watchdog.run(lambda: _train(settings["sample"], job, watchdog))
        return
    except TimeoutError:
        threading.Timer(_SECONDS_TO_END, os._exit, (1,)).start()
        raise
    except UserError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 (raised again, as text)
        text = next(iter(str(error).splitlines()), "")
        if type(error).__name__ != "ResourceExhaustedError":
            traceback.print_exc()
            # To unpickle an exception class of TensorFlow, the process of the search would have to import it.
            raise RuntimeError(f"{type(error).__name__}: {text}") from None
        reason = f"out of memory: {text}"
    tune.report({"score": float("nan"), "epoch": 0, "status": FAILED, "reason": reason})


class Watchdog:
    """Ends work that makes no progress.

    Args:
        seconds: Maximum duration without progress, in seconds.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()
        self._waits = False

    def beat(self) -> None:
        """Record that there is progress."""
        self._last = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Suspend the limit while the block runs, in which the work waits for something else."""
        self._waits = True
        yield
        self.beat()
        self._waits = False

    def run(self, work: Callable[[], None]) -> None:
        """Call a function in a daemon thread, which is abandoned if it hangs: Python can't end a thread.

        Args:
            work: The function; it must call `beat` regularly.

        Raises:
            TimeoutError: If there is no progress for too long.
            BaseException: Any exception that the function raised, including `SystemExit`.
        """
        ended: list[BaseException] = []

        def target() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (raised below)
                ended.append(error)

        self.beat()
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(min(1.0, self._seconds / 4))
            if thread.is_alive() and not self._waits and time.monotonic() - self._last > self._seconds:
                raise TimeoutError(f"no progress for {self._seconds:g} seconds (search.trial_timeout)")
        if ended:
            raise ended[0]


def _train(sample: Sample, job: Job, watchdog: Watchdog) -> None:
    """Train in a temporary folder on this node, from the trial's last checkpoint if there is one."""
    start_tensorflow()
    import keras
    from ray import tune
    from rich.console import Console

    from dist_lstm.evaluate.validation import make_scorer
    from dist_lstm.train.devices import make_strategy
    from dist_lstm.train.measure import Workload, measure
    from dist_lstm.train.monitor import Monitor
    from dist_lstm.train.phases import Training, train_phase

    class Pulse(Monitor):
        def step(self, step: int, loss: float, speed: Any) -> None:  # noqa: ARG002
            watchdog.beat()

    # Actors are reused: this frees the model of the previous trial.
    keras.backend.clear_session()
    # The working directory is a local folder of Ray, which Ray deletes with its own files.
    with tempfile.TemporaryDirectory(prefix="trial-", dir=Path.cwd(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        checkpoint = tune.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as saved:
                shutil.copytree(saved, folder, dirs_exist_ok=True)
        shards = open_shards(job.shards)
        resolved = _as_trial(trial_config(job.config, sample, shards.manifest.statistics))
        files = TrialLayout(folder)
        if files.config.exists():
            resolved = override(resolved, measured_before(resolved, load_config(files.config)))
        task = shards.make_task(resolved)
        strategy = make_strategy(resolved.resources, resolved.train.precision)
        monitor = Pulse(folder, Console(quiet=True))
        config = measure(resolved, Workload(shards, task, strategy), monitor.print)
        write_text(files.config, dump_config(config))
        score = make_scorer(shards, task, job.min_context, job.config.search.seed)
        report = _Report(folder, score, config.train.max_steps, watchdog)
        seconds = config.train.budget or float("inf")
        train_phase(Training(folder, shards, config, task, strategy, monitor, report.epoch, seconds=seconds))
        report.end()


def _as_trial(config: ResolvedConfig) -> ResolvedConfig:
    """Checkpoint only at the end of each epoch; use as many threads as the trial has CPUs."""
    changes: dict[str, Any] = {
        "train.checkpoint_every": None,
        "train.checkpoint_seconds": None,
        "train.keep_checkpoints": 1,
        "train.profile": False,
    }
    if config.resources.threads == "auto":
        changes["resources.threads"] = max(1, int(config.search.cpus))
    return override(config, changes)


class _Report:
    """Reports epochs to Tune. Its state is part of the checkpoint, so a trial that continues from one has it.

    Args:
        folder: The trial's temporary folder.
        score: Computes the score of a model.
        steps: Maximum number of training steps.
        watchdog: Suspended while the trial waits for Tune.
    """

    def __init__(self, folder: Path, score: Callable[[Any], float], steps: int, watchdog: Watchdog) -> None:
        self._folder = folder
        self._score = score
        self._steps = steps
        self._watchdog = watchdog
        saved = TrialLayout(folder).trial_score
        self._reported: dict[str, Any] = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else {}

    def epoch(self, model: Any, record: Any, best: bool) -> None:
        """Score the weights of the epoch, and report the score of the weights that would be kept."""
        from ray import tune

        score = self._score(model)
        if score != score:
            raise UserError(
                "",
                (
                    "no validation window can be scored: their values are missing, or the series do not change "
                    "from season to season"
                ),
                "give split.validation more steps",
            )
        # Training that is resumed from a checkpoint may repeat an epoch.
        curve = [[step, one] for step, one in self._reported.get("curve", []) if step < record.step]
        self._reported = {
            "score": score if best else self._reported["score"],
            "epoch": record.epoch,
            "status": DONE if record.step >= self._steps else RUNNING,
            "curve": [*curve, [record.step, score]],
        }
        write_text(TrialLayout(self._folder).trial_score, json.dumps(self._reported))  # may hold infinity
        with self._watchdog.waiting():
            tune.report(dict(self._reported), checkpoint=tune.Checkpoint.from_directory(str(self._folder)))

    def end(self) -> None:
        """Report that training has ended, unless the report of the last epoch did."""
        from ray import tune

        if self._reported["status"] != DONE:
            tune.report(self._reported | {"status": DONE})


def finish_run(where: str) -> None:
    """Finish the run of the best trial, as `dist-lstm run` does, on the devices that Ray assigned.

    Args:
        where: Path or URI of the search.
    """
    hide_gpus_not_given()
    from rich.console import Console

    from dist_lstm.run import run_all
    from dist_lstm.run_directory import start_run

    with mirrored(where, own=False, fetch=(SearchLayout.best_config, SearchLayout.best)) as search:
        files = SearchLayout(search)
        with start_run(load_config(files.best_config), files.best, Console(quiet=True)) as run:
            run_all(run)
