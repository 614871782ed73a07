"""Two implementations of one training: the framework's, from Parquet, and a bare step on preloaded tensors.

The bare step is a minimal hand-written one: the same Keras layers, loss, clipping and optimizer in one
`tf.function` that is called once per step; no mask for missing targets, schedule, strategy, input pipeline or
monitoring.
"""

import io
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from benchmarks.work import Size, make_config, prepare
from dist_lstm.config.resolved import MeasuredConfig, as_measured
from dist_lstm.config.schema import ResourceSettings
from dist_lstm.config.task import Task
from dist_lstm.data.sampling import TrainingWindows, make_sampling
from dist_lstm.data.shards import Shards
from dist_lstm.data.stream import training_dataset
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.model.scaling import normalise_target
from dist_lstm.train.devices import make_strategy
from dist_lstm.train.monitor import Monitor, Speed
from dist_lstm.train.phases import Training, train_phase

_READY_BATCHES = 8

#: Receives the values of the last turn and returns the steps of the next one; None ends the training.
Rest = Callable[[dict[str, float] | None], int | None]
#: Model inputs by name, and targets.
Batch = tuple[dict[str, tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Work:
    """Prepared data and the resolved config of a size."""

    shards: Shards
    config: MeasuredConfig
    task: Task

    @property
    def batch_size(self) -> int:
        """Windows per step."""
        return self.config.train.batch_size


def open_work(
    folder: Path, size: Size, precision: str = "auto", settings: Mapping[str, Any] | None = None
) -> Work:
    """Prepare the table in a folder, unless it is prepared already, for a size, a precision and other settings."""
    config = make_config(folder, size, precision, settings)
    resolved, shards = prepare(folder, config)
    return Work(shards, as_measured(resolved), shards.make_task(resolved))


def one_device(precision: str = "auto") -> Any:
    """A strategy for one GPU where there is one, else for the CPU; `precision` switches TF32 on or off."""
    gpus = min(len(tf.config.list_physical_devices("GPU")), 1)
    return make_strategy(ResourceSettings(gpus=gpus), precision)


class _StopTrainingError(Exception):
    """Ends a training."""


class _TurnMonitor(Monitor):
    """A monitor that pauses training after every turn."""

    def __init__(self, work: Work, rest: Rest, warm_up: int) -> None:
        # No terminal, hence no progress bar that would be redrawn while others work.
        super().__init__(work.shards.folder.parent, Console(file=io.StringIO()))
        self._work, self._rest, self._warm_up = work, rest, warm_up
        #: Steps of the turn, the first and the last timed step, and the clocks at the first.
        self._steps, self._first, self._last = 0, 0, 1
        self._begin = np.zeros(4)

    def step(self, step: int, loss: float, speed: Speed) -> None:
        super().step(step, loss, speed)
        if self._steps and step >= self._first and not self._last:
            self._count_from(step, speed)
        elif self._last and step >= self._last:
            self._end_turn(step, speed)

    def _count_from(self, step: int, speed: Speed) -> None:
        self._first, self._last = step, step + self._steps
        self._begin = self._clocks(speed)

    def _end_turn(self, step: int, speed: Speed) -> None:
        passed = None
        if self._steps:
            wall, cpu, waited, trained = (self._clocks(speed) - self._begin).tolist()
            passed = _rates(self._work, step - self._first, wall, cpu)
            passed["input_wait_share"] = round(waited / trained, 4) if trained else 0.0
        further = self._rest(passed)
        if further is None:
            raise _StopTrainingError
        self._steps, self._first, self._last = further, step + self._warm_up, 0
        if not self._warm_up:
            self._count_from(step, speed)

    def _clocks(self, speed: Speed) -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time(), speed.waited, speed.seconds])


#: Without validation: more steps than any benchmark takes.
_NEVER = 1_000_000


def train_framework(work: Work, strategy: Any, rest: Rest, validate: bool = False, warm_up: int = 0) -> None:
    """Train as `dist-lstm train` does, from initial weights: shards, stream, loop and monitor, with pauses.

    Args:
        work: Prepared data and config.
        strategy: The strategy to train under.
        rest: Called with None after the first step, which traces the graph; then after as many steps as it
            returned, with `windows_per_second`, `cpu_seconds` per step (all threads) and `input_wait_share`.
        validate: Whether to validate at the end of every epoch, as the first of a run's two trainings does.
        warm_up: Steps after a pause that are not timed, since their batches were prefetched during the pause.
    """
    monitor = _TurnMonitor(work, rest, warm_up)
    # A new directory, so that no checkpoint of another measurement is resumed.
    folder = Path(tempfile.mkdtemp(dir=work.shards.folder.parent))
    training = Training(folder, work.shards, work.config, work.task, strategy, monitor)
    with suppress(_StopTrainingError):
        train_phase(training, None if validate else _NEVER)


def make_bare_step(work: Work, cudnn: bool = True) -> Any:
    """Build a bare training step.

    Args:
        work: Prepared data and config, which set the network and the loss.
        cudnn: Whether its LSTM layers may run through cuDNN.

    Returns:
        A `tf.function` that maps inputs and target to the mean loss.
    """
    loss, settings = _loss(work), work.config.train
    model = build_model(work.task, work.config.model, settings.precision)
    for layer in model.layers:
        if isinstance(layer, keras.layers.LSTM) and not cudnn:
            layer.use_cudnn = False
    weights = model.trainable_variables
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    optimizer.build(weights)

    @tf.function(autograph=False)
    def step(inputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            scaled = normalise_target(target, outputs, inputs.get("transform"))
            mean = tf.reduce_mean(loss(scaled, outputs["scaled"]))
        clipped, _ = tf.clip_by_global_norm(tape.gradient(mean, weights), settings.clip_norm)
        optimizer.apply(clipped, weights)
        return mean

    return step


def _loss(work: Work) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    return head_loss(work.config.model.head, work.task)


def ready_batches(work: Work) -> list[Batch]:
    """A few batches of the stream as tensors on the device that computes."""
    windows = TrainingWindows(work.shards, work.task, make_sampling(work.config, whole=True))
    batches = list(training_dataset(windows).take(_READY_BATCHES))
    with tf.device("GPU:0" if tf.config.get_visible_devices("GPU") else "CPU:0"):
        return [tf.nest.map_structure(tf.identity, batch) for batch in batches]


def time_bare(work: Work, step: Any, batches: list[Batch], steps: int) -> dict[str, float]:
    """Time a bare step on preloaded tensors, after two calls that are not timed.

    Args:
        work: Prepared data and config.
        step: The step of `make_bare_step`.
        batches: Preloaded batches, used in turn.
        steps: Steps to time.

    Returns:
        `windows_per_second`, and `cpu_seconds` per step (all threads).
    """
    for _ in range(2):
        step(*batches[0]).numpy()
    begin, used = time.perf_counter(), time.process_time()
    loss = None
    for number in range(steps):
        loss = step(*batches[number % len(batches)])
    if loss is not None:
        loss.numpy()  # the last call returns before the GPU has finished
    return _rates(work, steps, time.perf_counter() - begin, time.process_time() - used)


def _rates(work: Work, steps: int, seconds: float, cpu_seconds: float) -> dict[str, float]:
    return {
        "windows_per_second": round(steps * work.batch_size / seconds, 1),
        "cpu_seconds": round(cpu_seconds / steps, 6),
    }
