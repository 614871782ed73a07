"""The training loop: epochs of steps, validation, early stopping, checkpoints, the best weights kept.

The state of the loop is in the variables and in `Progress`, and a checkpoint holds both. So a training that was
killed goes on from its last checkpoint as if nothing had happened, bit for bit where ops are deterministic.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.model.cudnn import uses_cudnn
from dist_lstm.signals import HeldSignals
from dist_lstm.train.checkpoint import Checkpoint, Checkpoints
from dist_lstm.train.divergence import DivergedError
from dist_lstm.train.monitor import EpochRecord, Monitor, Speed, smoothed_loss
from dist_lstm.train.progress import Fitted, Progress
from dist_lstm.train.state import read_values
from dist_lstm.train.step import (
    COUNT,
    IN_A_ROW,
    LOSS,
    SKIPPED,
    WAITED,
    TrainSteps,
)
from dist_lstm.train.trainer import Trainer

#: Approximate seconds per call with `steps_per_call: auto`; progress and signals are handled between two calls.
_SECONDS_PER_CALL = 0.5

#: Epoch and number of a batch in it, to the endless iterator of training batches from there on, distributed to the
#: replicas.
Batches = Callable[[int, int], Iterator[Any]]

#: Called after an epoch once its checkpoint is written: with the model, which has the weights that were validated;
#: the record of the epoch; and whether these are the best weights so far.
AfterEpoch = Callable[[keras.Model, EpochRecord, bool], None]


@dataclass(frozen=True)
class Phase:
    """One training from the first step to the last.

    Attributes:
        name: `train` or `refit`.
        steps: Maximum number of steps.
        batches: Makes the training batches.
        validation: Makes the batches to choose the number of steps on; None to take all steps.
        checkpoints: The checkpoints that the training writes and goes on from.
        after_epoch: Called after every epoch; None to call nothing.
        stop_signal: Called between two calls; gives the number of a signal that another process has received, on
            whose behalf this one trains; None where there is none.
        seconds: Seconds after which it ends with the epoch.
    """

    name: str
    steps: int
    batches: Batches
    validation: Callable[[], Iterator[Any]] | None
    checkpoints: Checkpoints
    after_epoch: AfterEpoch | None = None
    stop_signal: Callable[[], int | None] = lambda: None
    seconds: float = float("inf")


def fit(trainer: Trainer, phase: Phase, monitor: Monitor) -> Fitted:
    """Train a model, from its last checkpoint where there is one.

    SIGINT and SIGTERM are handled between two calls, once a checkpoint is saved. On several nodes every process
    calls it: the chief saves, and all follow its decisions.

    Args:
        trainer: The model and its graphs.
        phase: What to train on, and for how long.
        monitor: Follows the training.

    Returns:
        The trained model, which is the trainer's own, and how training went.

    Raises:
        DivergedError: If the loss is non-finite, also at half the learning rate.
        UserError: If a checkpoint can't be written, or is one of another model.
        SystemExit: If `stop_signal` gives a signal, once a checkpoint is saved.
    """
    processes = trainer.processes
    with closing(_Training(trainer, phase, monitor)) as training:
        training.start()
        with monitor.phase(phase.name, phase.steps, uses_cudnn(trainer.state.model)), HeldSignals() as held:
            signal_number = 0
            while not training.ended and not signal_number:
                training.call(trainer.train_steps)
                epoch_ended = training.at_end_of_epoch
                if epoch_ended:
                    training.end_epoch(trainer.mean_loss)
                signal_number = int(processes.broadcast(held.number or phase.stop_signal() or 0))
                if training.diverged:
                    training.go_back_at_half_rate()
                elif epoch_ended and phase.after_epoch:
                    training.save()
                    training.report(phase.after_epoch)
                elif training.ended or training.checkpoint_is_due or signal_number:
                    training.save()
            if signal_number and held.number is None:
                raise SystemExit(128 + signal_number)
        return training.finish()


class _Training:
    """A phase of training in this process: runs calls, keeps the best weights, saves and goes back."""

    def __init__(self, trainer: Trainer, phase: Phase, monitor: Monitor) -> None:
        self._state = trainer.state
        self._state.set_steps(phase.steps)
        self._processes = trainer.processes
        self._settings = trainer.settings
        self._phase = phase
        self._monitor = monitor
        self._batches: Iterator[Any] | None = None
        self._calls = 0
        self._best: Mapping[str, np.ndarray] = {}
        self._clock = self._saved = time.perf_counter()
        batch_size, deterministic = self._settings.batch_size, self._settings.deterministic
        self._progress = Progress(speed=Speed(batch_size, timed=not deterministic))
        self._validation_is_finite = True

    def close(self) -> None:
        """Release the input: threads that still fetch batches would keep the process from ending."""
        self._batches = None

    @property
    def ended(self) -> bool:
        """Whether no step is left to take."""
        progress = self._progress
        return progress.step >= self._phase.steps or progress.waited >= self._settings.patience or progress.late

    @property
    def _begin_of_epoch(self) -> int:
        return self._progress.epoch * (self._settings.steps_per_epoch or self._phase.steps)

    @property
    def _end_of_epoch(self) -> int:
        return min(self._begin_of_epoch + (self._settings.steps_per_epoch or self._phase.steps), self._phase.steps)

    @property
    def at_end_of_epoch(self) -> bool:
        """Whether all steps of the epoch were taken."""
        return self._progress.step == self._end_of_epoch and not self.diverged

    @property
    def diverged(self) -> bool:
        """Whether too many steps in a row had a non-finite loss, or the validation loss is infinite."""
        return self._progress.sums[IN_A_ROW] >= self._settings.max_bad_steps or not self._validation_is_finite

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether a checkpoint is due, by the number of steps or by the time since the last."""
        every, seconds = self._settings.checkpoint_every, self._settings.checkpoint_seconds
        by_step = every is not None and self._progress.step % every == 0
        return by_step or (seconds is not None and time.perf_counter() - self._saved > seconds)

    def start(self) -> None:
        """Go on from the last checkpoint, or save the beginning, to which a training that diverges goes back."""
        if not self._go_back():
            self.save()
        elif self._progress.step:
            self._monitor.print(f"{self._phase.name}: going on from step {self._progress.step}")

    def call(self, train_steps: TrainSteps) -> None:
        """Run some steps, up to the end of the epoch at most."""
        progress = self._progress
        if self._batches is None:
            self._batches = self._phase.batches(progress.epoch, progress.step - self._begin_of_epoch)
        begin, before = time.perf_counter(), progress.sums
        with self._profile():
            taken, sums = train_steps(self._batches, tf.constant(self._steps()), tf.constant(before, tf.float64))
            steps, progress.sums = int(taken), sums.numpy().tolist()
        if self._calls:
            progress.speed.add(time.perf_counter() - begin, steps, progress.sums[WAITED] - before[WAITED])
        self._calls += 1
        progress.step += steps
        count = progress.sums[COUNT] - before[COUNT]
        self._monitor.step(
            progress.step, (progress.sums[LOSS] - before[LOSS]) / count if count else float("nan"), progress.speed
        )
        self._tick()

    def _steps(self) -> int:
        """Steps of the next call."""
        progress, call_steps = self._progress, self._settings.steps_per_call
        if call_steps == "auto":
            speed = progress.speed
            call_steps = max(1, int(_SECONDS_PER_CALL * speed.steps / speed.seconds)) if speed.steps else 1
            call_steps = int(self._processes.broadcast(call_steps))
        every = self._settings.checkpoint_every
        to_checkpoint = every - progress.step % every if every else call_steps
        return min(call_steps, self._end_of_epoch - progress.step, to_checkpoint)

    def _profile(self) -> Any:
        """Profile the second call; the first one traces the graph."""
        if self._settings.profile and self._calls == 1 and self._phase.name == "train":
            return tf.profiler.experimental.Profile(str(self._monitor.tensorboard))
        return nullcontext()

    def end_epoch(self, mean_loss: Callable[[Iterator[Any]], float]) -> None:
        """Validate, and keep the weights if they are the best so far."""
        progress, sums = self._progress, self._progress.sums
        train_loss = sums[LOSS] / sums[COUNT] if sums[COUNT] else float("nan")
        with self._state.averaged():
            validation = self._phase.validation
            loss = mean_loss(validation()) if validation else float("nan")
            smoothed = smoothed_loss(progress.history, loss)
            progress.waited += 1
            if np.isnan(loss) or smoothed < progress.best_loss:
                progress.best_steps, progress.best_loss, progress.waited = progress.step, smoothed, 0
                self._best = read_values(self._state.weights)
        rate = float(self._state.optimizer.learning_rate)
        progress.epoch += 1
        record = EpochRecord(self._phase.name, progress.epoch, progress.step, rate, train_loss, loss, smoothed)
        progress.history.append(record)
        progress.skipped += int(sums[SKIPPED])
        progress.sums = [0.0, 0.0, 0.0, 0.0, sums[IN_A_ROW]]
        self._validation_is_finite = not np.isinf(loss)
        self._tick()
        late = progress.seconds > self._phase.seconds
        progress.late = bool(self._processes.broadcast(late))
        self._monitor.epoch(record)

    def report(self, after_epoch: AfterEpoch) -> None:
        """Call `after_epoch` with the epoch that ended."""
        progress = self._progress
        with self._state.averaged():
            after_epoch(self._state.model, progress.history[-1], progress.waited == 0)

    def _tick(self) -> None:
        now = time.perf_counter()
        self._progress.seconds += now - self._clock
        self._clock = now

    def save(self) -> None:
        """Write a checkpoint; only the chief does, at any time, as all processes hold the same values."""
        if not self._processes.chief:
            return
        values = read_values(self._state.variables)
        self._phase.checkpoints.save(Checkpoint(self._progress, values, self._best))
        self._saved = time.perf_counter()

    def _go_back(self) -> bool:
        """Return to the last checkpoint; False where there is none."""
        state = self._state
        checkpoint = self._phase.checkpoints.load(state.variables, state.weights, self._processes)
        if checkpoint is None:
            return False
        self._progress, self._best, self._batches = checkpoint.progress, checkpoint.best, None
        self._validation_is_finite = True
        state.write(checkpoint.variables)
        return True

    def go_back_at_half_rate(self) -> None:
        """Return to the last checkpoint at half the learning rate; a second time ends the training."""
        step, halved = self._progress.step, self._progress.halved
        if halved or not self._go_back():
            raise DivergedError(
                "training diverged",
                f"the loss is non-finite at step {step}, at half the learning rate as well",
                (
                    f"lower train.learning_rate ({self._settings.learning_rate}) or train.clip_norm "
                    f"({self._settings.clip_norm})"
                ),
            )
        self._progress.halved = True
        self._state.halve_rate()
        self.save()
        self._monitor.print(
            f"{self._phase.name}: the loss is non-finite at step {step}; back to step {self._progress.step} at "
            "half the learning rate"
        )

    def finish(self) -> Fitted:
        """The result of training; the model has its best weights."""
        progress, model = self._progress, self._state.model
        self._state.write(self._best)
        stopped = progress.waited >= self._settings.patience
        return Fitted(
            model=model,
            steps=progress.best_steps,
            validation_loss=progress.best_loss,
            stopped_early=stopped,
            out_of_time=progress.late and not stopped,
            skipped=progress.skipped,
            speed=progress.speed,
            history=progress.history,
            seconds=progress.seconds,
        )
