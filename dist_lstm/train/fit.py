"""The training loop: epochs of steps, validation, early stopping, the best weights kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.schema import TrainSettings
from dist_lstm.config.section import known
from dist_lstm.errors import UserError
from dist_lstm.model.heads import Loss
from dist_lstm.train.monitor import EpochRecord, Monitor, Speed
from dist_lstm.train.optimizer import make_optimizer
from dist_lstm.train.step import TrainSteps, make_mean_loss, make_train_steps

#: With `steps_per_call: auto`, a call takes about this long: progress moves and Ctrl-C is heard.
_SECONDS_A_CALL = 0.5

#: Inputs and targets, batch after batch.
Batches = Callable[[], Iterator[Any]]


@dataclass(frozen=True)
class Phase:
    """One training from the first step to the last.

    Attributes:
        name: `train` or `refit`.
        steps: Steps at most.
        batches: Makes the endless iterator of training batches, distributed to the replicas.
        validation: Makes the batches to choose the number of steps on; None to take all steps.
    """

    name: str
    steps: int
    batches: Batches
    validation: Batches | None


@dataclass(frozen=True)
class Fitted:
    """What training ended with.

    Attributes:
        model: The model with its best weights.
        steps: Steps after which the validation loss was best; all steps where there was no validation.
        validation_loss: That loss, in units of scale; NaN without validation windows.
        stopped_early: Whether patience ended the training.
        out_of_time: Whether `train.max_seconds` ended it.
        speed: How fast it was.
    """

    model: keras.Model
    steps: int
    validation_loss: float
    stopped_early: bool
    out_of_time: bool
    speed: Speed


def fit(
    build: Callable[[], keras.Model],
    loss: Loss,
    settings: TrainSettings,
    strategy: Any,
    phase: Phase,
    monitor: Monitor,
) -> Fitted:
    """Train a model.

    Args:
        build: Builds the model; called inside the strategy's scope.
        loss: The head's loss.
        settings: Batch size, learning rate, patience; resolved.
        strategy: The strategy to train under.
        phase: What to train on, and for how long.
        monitor: Follows the training.

    Returns:
        The trained model, and how training went.

    Raises:
        UserError: If the loss is no longer a number.
    """
    with strategy.scope():
        model = build()
        optimizer = make_optimizer(settings)
        optimizer.build(model.trainable_variables)
    timed = not settings.deterministic
    train_steps = make_train_steps(model, optimizer, loss, settings.clip_norm, strategy, timed)
    mean_loss = make_mean_loss(model, loss)
    best_steps, best_loss, best_weights, waited, stopped = 0, float("inf"), None, 0, False
    deadline, late = time.perf_counter() + (settings.max_seconds or float("inf")), False
    with closing(_Run(train_steps, phase, settings, monitor)) as run, monitor.phase(phase.name, phase.steps):
        while run.step < phase.steps and not stopped and not late:
            train_loss = run.epoch()
            validation_loss = mean_loss(phase.validation()) if phase.validation else float("nan")
            rate = float(optimizer.learning_rate)
            monitor.epoch(EpochRecord(phase.name, run.epochs, run.step, rate, train_loss, validation_loss))
            if not np.isfinite(train_loss) or np.isinf(validation_loss):
                raise UserError(
                    f"training diverged: the loss is {train_loss} at step {run.step}; lower train.learning_rate "
                    f"({settings.learning_rate}) or train.clip_norm ({settings.clip_norm})"
                )
            waited += 1
            if np.isnan(validation_loss) or validation_loss < best_loss:
                best_steps, best_loss, best_weights, waited = run.step, validation_loss, model.get_weights(), 0
            stopped, late = waited >= settings.patience, time.perf_counter() > deadline
    if best_weights is not None:
        model.set_weights(best_weights)
    return Fitted(model, best_steps, best_loss, stopped, late and not stopped, run.speed)


class _Run:
    """Runs a phase epoch by epoch, some steps a call."""

    def __init__(self, train_steps: TrainSteps, phase: Phase, settings: TrainSettings, monitor: Monitor) -> None:
        self._train_steps = train_steps
        self._batches = phase.batches()
        self._last = phase.steps
        self._settings = settings
        self._monitor = monitor
        self.step = 0
        self.epochs = 0
        self.speed = Speed(known(settings.batch_size))

    def close(self) -> None:
        """Let go of the input: threads that still fetch batches would keep the process from ending."""
        self._batches = None

    def epoch(self) -> float:
        """Run the steps of one epoch; returns their mean loss."""
        until = min(self.step + (self._settings.steps_per_epoch or self._last), self._last)
        sums = tf.zeros(3, tf.float64)
        while self.step < until:
            steps = min(self._steps_a_call(), until - self.step)
            begin, before = time.perf_counter(), sums
            sums = self._train_steps(self._batches, tf.constant(steps), sums)
            total, count, waited = (sums - before).numpy()
            if self.step:
                self.speed.add(time.perf_counter() - begin, steps, waited)
            self.step += steps
            self._monitor.step(self.step, total / max(count, 1), self.speed.windows_per_second)
        self.epochs += 1
        total, count, _ = sums.numpy()
        return float(total / max(count, 1))

    def _steps_a_call(self) -> int:
        if self._settings.steps_per_call != "auto":
            return self._settings.steps_per_call
        if not self.speed.steps:
            return 1
        return max(1, int(_SECONDS_A_CALL * self.speed.steps / self.speed.seconds))
