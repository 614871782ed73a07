"""Ray Tune: how trials are chosen, stopped, continued and reported."""

import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from dist_lstm.config.schema import Config
from dist_lstm.config.search import Domain, labels_of
from dist_lstm.jobs.ray_private import trials_of
from dist_lstm.layout import SearchLayout
from dist_lstm.search.importance import distribution_of
from dist_lstm.search.outcomes import Outcome, outcome_of
from dist_lstm.search.samples import Sample, all_samples, draw_samples
from dist_lstm.search.trial import Job, run_trial
from dist_lstm.search.tune_state import check_intact, reserve, restore_checkpoints

SCORE = "score"
#: A trial continues if it is among the best third of those that reached the same epoch.
_REDUCTION = 3
#: More epochs than any trial has.
_NO_END = 10**6
#: Called for each trial that ends, with all trials that have ended and this one.
Watcher = Callable[[Sequence[Outcome], Outcome], None]
#: Not in the callback itself: Tune pickles that, and a console can't be pickled.
_WATCHER: ContextVar[Watcher] = ContextVar("watcher")


def samples_of(config: Config, own: Sample) -> list[Sample] | None:
    """The samples of all trials, the config's own settings first; None where Optuna chooses them one by one.

    Args:
        config: The config of the search.
        own: The config's own settings.

    Returns:
        The samples, or None.
    """
    search = config.search
    if search.algorithm == "optuna":
        return None
    if search.algorithm == "grid":
        return [own, *(sample for sample in all_samples(config) if sample != own)]
    return [own, *draw_samples(config, search.num_samples - 1, search.seed)]


def run_trials(job: Job, own: Sample, folder: Path, watch: Watcher) -> list[Outcome]:
    """Run all trials, or those that an interrupted search has not finished.

    SIGINT and SIGTERM end the search and then the process; the state that is needed to continue is saved.

    Args:
        job: What all trials share.
        own: The config's own settings, which are tried first.
        folder: The directory of the search, which contains Tune's state.
        watch: Called for each trial that ends.

    Returns:
        The outcomes of all trials.

    Raises:
        UserError: If Tune's state is damaged or belongs to another user.
    """
    from ray import tune

    search, state = job.config.search, SearchLayout(folder).ray
    reserve(state)
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, job=job), {"cpu": search.cpus, "gpu": search.gpus}
    )
    token = _WATCHER.set(watch)
    try:
        with _quiet(), _ended_by_signals():
            if any(state.glob("experiment_state-*.json")):
                check_intact(state)
                restore_checkpoints(state)
                tuner = tune.Tuner.restore(str(state), trainable, resume_unfinished=True)
            else:
                tuner = _new_tuner(trainable, job.config, own, folder)
            return [outcome_of(trial) for trial in trials_of(tuner.fit())]
    finally:
        _WATCHER.reset(token)


def _new_tuner(trainable: Any, config: Config, own: Sample, folder: Path) -> Any:
    from ray import tune

    search, samples = config.search, samples_of(config, own)
    return tune.Tuner(
        trainable,
        param_space={} if samples is None else {"sample": tune.grid_search(samples)},
        tune_config=tune.TuneConfig(
            metric=SCORE,
            mode="min",
            num_samples=search.num_samples if samples is None else 1,
            search_alg=_optuna(config, own) if samples is None else None,
            scheduler=_scheduler(config, own),
            max_concurrent_trials=search.max_concurrent,
            time_budget_s=search.time_budget,
            reuse_actors=True,
            trial_dirname_creator=partial(_folder_of, first=int(samples is None)),
        ),
        run_config=tune.RunConfig(
            name=SearchLayout.ray,
            storage_path=str(folder),
            callbacks=[_make_callback()],
            failure_config=tune.FailureConfig(max_failures=search.max_failures),
            # Population based training may still read earlier checkpoints than the last.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4 if search.algorithm == "pbt" else 2),
            verbose=0,
        ),
    )


def _folder_of(trial: Any, first: int) -> str:
    """Name of a trial's folder, which begins with its number from 0; with Optuna, Tune counts from 1."""
    return f"{int(trial.experiment_tag.split('_')[0]) - first:04d}-{trial.trial_id}"


def _optuna(config: Config, own: Sample) -> Any:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    domains, seed, number = config.search.domains, config.search.seed, config.search.num_samples
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TPE's options are experimental
        # A fifth of the trials is random; running trials count as bad ones, so that parallel trials differ.
        sampler = optuna.samplers.TPESampler(
            multivariate=True, constant_liar=True, seed=seed, n_startup_trials=max(4, number // 5)
        )
    return OptunaSearch(
        {f"sample/{key}": distribution_of(domain) for key, domain in domains.items()},
        metric=SCORE,
        mode="min",
        points_to_evaluate=[{f"sample/{key}": value for key, value in own.items()}],
        sampler=sampler,
    )


def _scheduler(config: Config, own: Sample) -> Any:
    from ray.tune import schedulers

    search = config.search
    if search.algorithm == "pbt":
        return schedulers.PopulationBasedTraining(
            time_attr="epoch",
            perturbation_interval=search.grace_epochs,
            hyperparam_mutations={"sample": {key: _mutation(one) for key, one in search.domains.items()}},
            log_config=False,
        )
    if not search.early_stopping:
        return schedulers.FIFOScheduler()

    class Halving(schedulers.ASHAScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            decision = super().on_trial_result(tune_controller, trial, result)
            # All others are compared with the config's own settings, so that trial is never stopped.
            return self.CONTINUE if trial.config["sample"] == own else decision

    return Halving(time_attr="epoch", grace_period=search.grace_epochs, reduction_factor=_REDUCTION, max_t=_NO_END)


def _mutation(domain: Domain) -> Any:
    """The distribution of new values in population based training, which also scales values by 0.8 or 1.2."""
    from ray import tune

    kind, given = domain
    if kind == "choice":
        return labels_of(domain)
    if kind == "randint":
        return tune.randint(int(given[0]), int(given[1]) + 1)
    return (tune.loguniform if kind == "loguniform" else tune.uniform)(*map(float, given[:2]))


def _make_callback() -> Any:
    from ray import tune

    def notify(trials: list[Any], trial: Any) -> None:
        # Tune does not yet report the trial that ends now as finished.
        outcomes = {one: outcome_of(one) for one in trials if one.is_finished() or one is trial}
        _WATCHER.get()(list(outcomes.values()), outcomes[trial])

    class Callback(tune.Callback):
        def __reduce__(self) -> tuple[Any, ...]:
            return _make_callback, ()

        def on_trial_complete(self, *_: Any, trials: list[Any], trial: Any, **__: Any) -> None:
            notify(trials, trial)

        def on_trial_error(self, *_: Any, trials: list[Any], trial: Any, **__: Any) -> None:
            notify(trials, trial)

    return Callback()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages of Ray, which would repeat those of the search, unless `-v` is given."""
    is_verbose = logging.getLogger("dist_lstm").isEnabledFor(logging.INFO)
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in () if is_verbose else loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """While the block runs, forward SIGINT and SIGTERM to Tune as SIGUSR1, the one signal it always handles.

    After the block the process exits with the status of a process that was ended by that signal. A second SIGINT
    ends it at once.
    """
    received: list[int] = []

    def forward(number: int, _frame: Any) -> None:
        if number == signal.SIGINT and received:
            raise KeyboardInterrupt
        received.append(number)
        signal.raise_signal(signal.SIGUSR1)

    def exit_before_tune(*_: Any) -> None:
        raise SystemExit(128 + received[0])

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    handlers = {signal.SIGINT: forward, signal.SIGTERM: forward, signal.SIGUSR1: exit_before_tune}
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        # A signal that is ignored, as SIGINT in a background process, stays ignored.
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise SystemExit(128 + received[0])
