"""The two trainings of a member: up to the validation range, and on whole series."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from dist_lstm.config.resolved import MeasuredConfig
from dist_lstm.config.task import Task
from dist_lstm.data.sampling import TrainingWindows, make_sampling, refit_ratio
from dist_lstm.data.shards import Shards
from dist_lstm.data.stream import (
    WindowSample,
    distribute,
    training_dataset,
    training_sample,
    validation_windows,
)
from dist_lstm.layout import RunLayout
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import Checkpoints
from dist_lstm.train.devices import generators_restored, seeded
from dist_lstm.train.divergence import DivergedError, divergence
from dist_lstm.train.fit import AfterEpoch, Phase, fit
from dist_lstm.train.monitor import EpochRecord, Monitor
from dist_lstm.train.process_group import make_process_group
from dist_lstm.train.progress import Fitted
from dist_lstm.train.step import make_mean_loss
from dist_lstm.train.trainer import Trainer, make_trainer


@dataclass(frozen=True)
class Training:
    """The part that both trainings of a member share.

    Attributes:
        folder: The run directory.
        shards: The series.
        config: Resolved, nothing left to be measured; that of the member.
        task: The task of both.
        strategy: The strategy to train under.
        monitor: Follows the training.
        after_epoch: Called after every epoch of the first; None to call nothing.
        stop_signal: As in `dist_lstm.train.fit.Phase`.
        member: Index of the member in its ensemble, from 0.
        seconds: Seconds after which each of its trainings ends with the epoch.
        validation: The windows of the validation range; None to cut them.
    """

    folder: Path
    shards: Shards
    config: MeasuredConfig
    task: Task
    strategy: Any
    monitor: Monitor
    after_epoch: AfterEpoch | None = None
    stop_signal: Callable[[], int | None] = lambda: None
    member: int = 0
    seconds: float = float("inf")
    validation: WindowSample | None = None

    def build(self) -> keras.Model:
        """Build the model in the precision of the training.

        Where no series has a gap it does not look for any: on a CPU that takes a tenth of a step.
        """
        model = self.config.model
        if not self.shards.manifest.has_gaps:
            model = model.model_copy(update={"fill_missing": False})
        return build_model(self.task, model, self.config.train.precision)

    def refit_ratio(self) -> float:
        """Steps of the training on whole series divided by those of the first, as in `data.sampling`."""
        first, whole = (
            TrainingWindows(self.shards, self.task, make_sampling(self.config, one)).windows
            for one in (False, True)
        )
        return refit_ratio(first, whole)

    def make_trainer(self) -> Trainer:
        """Build the model and its graphs."""
        config = self.config
        return make_trainer(self.build, head_loss(config.model.head, self.task), config.train, self.strategy)

    def validation_windows(self) -> WindowSample:
        """Cut the windows of the validation range."""
        settings = self.config.train
        steps = settings.steps_per_epoch
        return validation_windows(self.shards, self.task, settings.batch_size, settings.seed, steps)


def train_phase(training: Training, refit_steps: int | None = None, trainer: Trainer | None = None) -> Fitted:
    """Train a model from its first weights, or from where a process before this one was stopped.

    Args:
        training: The training.
        refit_steps: Steps to train on whole series; None to train on the training range and choose the
            number of steps on the validation range.
        trainer: A trainer of this architecture, which is used instead of a new one.

    Returns:
        The trained model, which computes in float32 whatever the precision it was trained in, and how training
        went.

    Raises:
        DivergedError: If training diverges.
        UserError: If the batch can't be divided, or a checkpoint can't be written.
    """
    config, settings = training.config, training.config.train
    phase = _make_phase(training, refit_steps)
    if trainer is None:
        with generators_restored():
            trainer = training.make_trainer()
    with seeded(settings.seed, settings.deterministic):
        # The trainer's own model may be trained again, in another precision too.
        model = build_model(training.task, config.model)
        trainer.reset(model)
        fitted = fit(trainer, phase, training.monitor)
    model.set_weights(fitted.model.get_weights())
    return replace(fitted, model=model)


def _make_phase(training: Training, refit_steps: int | None) -> Phase:
    config, task, monitor = training.config, training.task, training.monitor
    settings, whole = config.train, refit_steps is not None
    windows = TrainingWindows(training.shards, task, make_sampling(config, whole))
    validation = None if whole else training.validation or training.validation_windows()
    if validation is not None and not training.member:
        monitor.print(
            f"windows   {windows.windows:,} to train on, of {windows.series:,} series; "
            f"{validation.used:,} of {validation.available:,} to validate on"
        )
    name = "refit" if whole else "train"
    name = f"{name}_{training.member}" if training.member else name
    return Phase(
        name=name,
        steps=refit_steps or settings.max_steps,
        batches=lambda epoch, batch: distribute(
            lambda part: training_dataset(windows, epoch, batch, part),
            training.strategy,
            settings.batch_size,
            settings.accumulate,
        ),
        validation=validation.batches if validation and validation.used else None,
        checkpoints=Checkpoints(training.folder, name, settings.keep_checkpoints, monitor.print),
        stop_signal=training.stop_signal,
        after_epoch=None if whole else training.after_epoch,
        seconds=training.seconds,
    )


@dataclass(frozen=True)
class Refit:
    """The second training of a run, on whole series.

    Attributes:
        fitted: How it went; None if there was none, or its loss became non-finite, which ended it.
        refused: Why its model is not used; None if it is used.
    """

    fitted: Fitted | None = None
    refused: str | None = None

    @property
    def accepted(self) -> Fitted | None:
        """The training whose model is used; None where the first model is used."""
        return None if self.refused else self.fitted

    @property
    def history(self) -> list[EpochRecord]:
        """Its epochs."""
        return self.fitted.history if self.fitted else []

    @property
    def summary(self) -> str:
        """Its steps in a few words, to be put behind those of the first; empty where the first model is used."""
        return f"; refit on whole series for {self.accepted.steps} steps" if self.accepted else ""

    def describe(self) -> dict[str, Any]:
        """Its entries in `metrics.json`."""
        if self.accepted is not None:
            return {"refit": True, "refit_steps": self.accepted.steps}
        return {"refit": False} | ({"refit_refused": self.refused} if self.refused else {})


def train_refit(training: Training, first: Fitted, trainer: Trainer | None = None) -> Refit:
    """Train on whole series for as many passes as the first training, and refuse the model if this diverged.

    Both models are compared on at most 4,096 windows of the range that both were trained on, chosen by the seed.

    Args:
        training: The training.
        first: The first training.
        trainer: As for `train_phase`.

    Returns:
        The training; one that diverged is refused instead of raising an exception.

    Raises:
        UserError: As `train_phase`, but for divergence.
    """
    refit = _refit(training, first, trainer)
    if refit.refused:
        task, settings = training.task, training.config.train
        training.monitor.print(
            f"refit     diverged: {refit.refused}; {RunLayout.model} is the first model, which was not trained on "
            f"the last {task.validation + task.test} steps of the series; to train on them, lower "
            f"train.learning_rate ({settings.learning_rate}) or train.clip_norm ({settings.clip_norm})"
        )
    return refit


def _refit(training: Training, first: Fitted, trainer: Trainer | None) -> Refit:
    steps = round(first.steps * training.refit_ratio())
    try:
        refit = train_phase(training, refit_steps=steps, trainer=trainer)
    except DivergedError as error:
        return Refit(refused=error.problem)
    config, task = training.config, training.task
    settings = config.train
    sample = training_sample(training.shards, task, settings.stride, settings.batch_size, settings.seed)
    processes, weights = make_process_group(training.strategy), refit.model.get_weights()
    mean_loss = make_mean_loss(refit.model, head_loss(config.model.head, task), processes)
    after = mean_loss(sample.batches())
    refit.model.set_weights(first.model.get_weights())
    before = mean_loss(sample.batches())
    refit.model.set_weights(weights)
    return Refit(refit, divergence(before, after, first.validation_loss, weights))
