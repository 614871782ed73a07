"""Settings that `auto` leaves to be measured on this machine and these data, before training starts."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from dist_lstm.config.load import MEASURED, flatten, override
from dist_lstm.config.resolved import MeasuredConfig, ResolvedConfig, as_measured
from dist_lstm.config.task import Task
from dist_lstm.data.sampling import TrainingWindows, make_sampling
from dist_lstm.data.shards import Shards
from dist_lstm.data.stream import distribute, training_dataset
from dist_lstm.errors import UserError
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.devices import seeded
from dist_lstm.train.process_group import ProcessGroup, make_process_group
from dist_lstm.train.state import TrainState, make_train_state
from dist_lstm.train.step import COUNT, LOSS, TrainSteps, make_train_steps

_SMALLEST_BATCH, _LARGEST_BATCH = 64, 1 << 16
#: A batch twice as large must train so many times as many windows per second to be worth it.
_WORTH_IT = 1.1
_SECONDS = 0.5
#: The sweep of learning rates: from the first to the last, in so many steps.
_FIRST_RATE, _LAST_RATE, _SWEEP = 1e-5, 1.0, 100
#: The sweep ends where the smoothed loss is so many times its least.
_DIVERGED = 4.0


@dataclass(frozen=True)
class Workload:
    """What is to be trained, and where.

    Attributes:
        shards: The series.
        task: The task.
        strategy: The strategy to train under.
    """

    shards: Shards
    task: Task
    strategy: Any


def measure(config: ResolvedConfig, work: Workload, log: Callable[[str], None]) -> MeasuredConfig:
    """Measure what the settings leave to the machine.

    Args:
        config: The settings.
        work: What is to be trained.
        log: Called with a message about each value that was measured.

    Returns:
        The config with numbers where `train.batch_size` and `train.learning_rate` were `auto`.

    Raises:
        UserError: If no learning rate trains, or not even the smallest batch fits into memory.
    """
    result: dict[str, Any] = {}
    for key in [key for key, value in flatten(config) if key in MEASURED and value == "auto"]:
        here = override(config, result)
        result[key] = _batch_size(work, here) if key == "train.batch_size" else _learning_rate(work, here)
        log(f"measured  {key} {result[key]:g}")
    return as_measured(config, result)


def _start(work: Workload, config: ResolvedConfig, batch_size: int) -> tuple[TrainState, TrainSteps]:
    """A train state whose learning rate is the factor of its schedule, and its steps."""
    flat = {"train.learning_rate": 1.0, "train.warmup_steps": 0, "train.max_steps": 10**9}
    settings, task = as_measured(config, flat | {"train.batch_size": batch_size}).train, work.task
    with seeded(settings.seed, settings.deterministic):
        state = make_train_state(
            lambda: build_model(task, config.model, settings.precision), settings, work.strategy
        )
    return state, make_train_steps(state, head_loss(config.model.head, task), settings)


def _batch_size(work: Workload, config: ResolvedConfig) -> int:
    """The smallest batch that trains about as many windows per second as any larger one."""
    processes = make_process_group(work.strategy)
    whole = work.strategy.num_replicas_in_sync * config.train.accumulate
    size = math.ceil(_SMALLEST_BATCH / whole) * whole
    state, train_steps = _start(work, config, size)
    state.set_rate(0.0)
    windows = {"train.batch_size": size, "train.learning_rate": 1.0}
    some = TrainingWindows(work.shards, work.task, make_sampling(as_measured(config, windows), whole=False))
    inputs, target = next(iter(training_dataset(some)))
    best, speed = 0, 0.0
    while size <= max(_LARGEST_BATCH, whole):
        windows = tf.data.Dataset.from_tensor_slices((inputs, target)).repeat()
        batches = distribute(
            lambda part, windows=windows, size=size: windows.batch(size // part.of).prefetch(tf.data.AUTOTUNE),
            work.strategy,
            size,
            config.train.accumulate,
        )
        try:
            here = size * _steps_per_second(train_steps, batches, processes)
        except tf.errors.ResourceExhaustedError as error:
            if processes.size > 1:  # the others wait for this one's gradient, in vain
                raise UserError(
                    "train.batch_size",
                    f"{size} windows do not fit into the memory of {processes.size} nodes",
                    f"set it to {best or size // 2} instead of auto",
                ) from error
            break
        if here < _WORTH_IT * speed:
            break
        best, speed, size = size, here, 2 * size
    if not best:
        raise UserError(
            "train.batch_size",
            f"not even {size} windows fit into memory",
            "lower task.context_length or model.units, or raise train.accumulate",
        )
    return best


def _steps_per_second(train_steps: TrainSteps, batches: Any, processes: ProcessGroup) -> float:
    """By the clock of the chief."""

    def run(steps: int) -> float:
        begin = time.perf_counter()
        _, sums = train_steps(batches, tf.constant(steps), tf.zeros(5, tf.float64))
        sums.numpy()
        return processes.broadcast(time.perf_counter() - begin)

    run(1)  # traces the graph
    steps = max(2, int(_SECONDS / run(1)))
    return steps / run(steps)


def _learning_rate(work: Workload, config: ResolvedConfig) -> float:
    """A tenth of the rate at which the loss, smoothed, is least while the rate rises from step to step.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017: the range test; a tenth:
    Howard & Gugger, "fastai: A Layered API for Deep Learning", Information 11 (2020).
    """
    measured = as_measured(config, {"train.learning_rate": 1.0})
    state, train_steps = _start(work, config, measured.train.batch_size)
    windows = TrainingWindows(work.shards, work.task, make_sampling(measured, whole=False))
    batches = distribute(
        lambda part: training_dataset(windows, part=part),
        work.strategy,
        measured.train.batch_size,
        config.train.accumulate,
    )
    rates = np.geomspace(_FIRST_RATE, _LAST_RATE, _SWEEP)
    smoothed, best, result = 0.0, math.inf, None
    for step, rate in enumerate(rates, start=1):
        state.set_rate(rate)
        _, sums = train_steps(batches, tf.constant(1), tf.zeros(5, tf.float64))
        total, count = sums[LOSS].numpy(), sums[COUNT].numpy()
        if not count:
            break
        smoothed = 0.9 * smoothed + 0.1 * total / count
        here = smoothed / (1 - 0.9**step)
        if here > _DIVERGED * best:
            break
        if here < best:
            best, result = here, rate
    if result is None:
        raise UserError(
            "train.learning_rate", "no rate trains: the first loss is non-finite", "scale or check the data"
        )
    return float(f"{result / 10:.1e}")
