"""Windows to `tf.data`: those for training, and those that are forecast in order.

Axes: B windows of a batch, T context, H horizon, N series.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from dist_lstm.config.task import Task, input_spec
from dist_lstm.data.panel import Panel
from dist_lstm.data.sampling import WHOLE, Part, TrainingWindows
from dist_lstm.data.shards import RowGroup, Shards, read_panel
from dist_lstm.data.windows import (
    Cutoffs,
    WindowCutter,
    training_cutoffs,
    validation_cutoffs,
    weights_by_series,
)
from dist_lstm.errors import UserError

#: Maximum number of validation windows per epoch, and that number whatever the length of an epoch.
_VALIDATION_WINDOWS, _FEW_WINDOWS = 1 << 14, 1 << 10
#: Validation windows per window that an epoch trains on, at most: one takes about a third of the time, so
#: validation takes up to a fifth of all time.
_VALIDATION_SHARE = 0.75
#: Maximum number of training windows on which two models are compared, and of row groups they are read from.
_TRAINING_WINDOWS, _TRAINING_GROUPS = 1 << 12, 16


def training_dataset(
    windows: TrainingWindows, epoch: int = 0, batch: int = 0, part: Part = WHOLE
) -> tf.data.Dataset:
    """Batches of training windows without end, epoch after epoch.

    Args:
        windows: The windows to draw from.
        epoch: First epoch.
        batch: First batch of that epoch; nothing before it is read.
        part: The part of every batch.

    Returns:
        Pairs of model inputs as in `input_spec` and targets, `[B, H]`, B the windows of the part.
    """
    context, horizon = windows.task.context_length, windows.task.horizon

    def generate() -> Iterator[dict[str, np.ndarray]]:
        yield from windows.blocks(epoch, batch, part)
        for later in itertools.count(epoch + 1):
            yield from windows.blocks(later, part=part)

    def split(block: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        both = block.pop("window")
        return {"y": both[:, :context], **block}, both[:, context:]

    signature = {
        name: tf.TensorSpec((None, *shape), kind) for name, (shape, kind) in input_spec(windows.task).items()
    }
    signature = {"window": tf.TensorSpec((None, context + horizon), signature.pop("y").dtype), **signature}
    blocks = tf.data.Dataset.from_generator(generate, output_signature=signature)
    # Split after the blocks are cut into batches: one array to copy instead of two.
    batches = blocks.rebatch(windows.sampling.batch_size // part.of, drop_remainder=True).map(
        split, tf.data.AUTOTUNE
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def ordered_windows(
    panel: Panel, task: Task, cutoffs: Cutoffs, batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """The windows at given cutoffs in order, in batches of one fixed size.

    With one size there is one graph for any number of windows.

    Args:
        panel: The series.
        task: The task.
        cutoffs: The cutoffs of the windows.
        batch_size: Windows per batch.

    Yields:
        Model inputs by name, each `[batch_size, ...]`, padded with windows without any value, and the targets of
        the windows, `[B, H]`, of which the last may be fewer.
    """
    cutter = WindowCutter(panel, task)
    series, cutoff = cutoffs.enumerate()
    for first in range(0, len(series), batch_size):
        chosen = slice(first, first + batch_size)
        inputs, target = cutter.cut(series[chosen], cutoff[chosen])
        yield _fill(inputs, batch_size), target


@dataclass(frozen=True)
class WindowSample:
    """Windows to compute a loss on, held in memory.

    Attributes:
        inputs: Model inputs by name, each `[B, ...]`.
        target: Targets, `[B, H]`, in target units; NaN is missing.
        weight: Weights of windows by which every series counts the same, `[B]`.
        available: Windows that they were chosen from.
        batch_size: Windows per batch.
    """

    inputs: dict[str, np.ndarray]
    target: np.ndarray
    weight: np.ndarray
    available: int
    batch_size: int

    @property
    def used(self) -> int:
        """Number of windows that are evaluated."""
        return len(self.target)

    def batches(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
        """Batches like those of `ordered_windows`, with the weights of the windows, `[B]`."""
        for first in range(0, self.used, self.batch_size):
            chosen = slice(first, first + self.batch_size)
            inputs = {name: values[chosen] for name, values in self.inputs.items()}
            yield _fill(inputs, self.batch_size), self.target[chosen], self.weight[chosen]


def validation_windows(
    shards: Shards, task: Task, batch_size: int, seed: int, steps_per_epoch: int
) -> WindowSample:
    """Cut the windows of the validation range, a seeded sample of them if there are very many.

    Args:
        shards: The series.
        task: The task.
        batch_size: Windows per batch.
        seed: Seed of the sample.
        steps_per_epoch: Steps that an epoch trains on.

    Returns:
        At most 16,384 windows, in the order of the shards; and no more than 1,024 or three quarters of the windows
        that an epoch trains on, whichever is more.
    """
    share = int(_VALIDATION_SHARE * batch_size * steps_per_epoch)
    most = min(_VALIDATION_WINDOWS, max(_FEW_WINDOWS, share))
    return _cut_sample(*sample_validation(shards, task, most, seed), task, batch_size)


def sample_validation(
    shards: Shards, task: Task, most: int, seed: int
) -> tuple[int, Iterator[tuple[Panel, np.ndarray, np.ndarray]]]:
    """Choose windows of the validation range: all of them, or a seeded sample if there are too many.

    Args:
        shards: The series.
        task: The task.
        most: Maximum number of windows.
        seed: Seed of the sample.

    Returns:
        Number of all windows, and panel by panel the series and the cutoffs of the chosen ones, each `[B]`, in the
        order of the shards.
    """
    groups = [(group, validation_cutoffs(group, task)) for group in shards.row_groups()]
    return _sample(groups, most, np.random.default_rng([seed, 0]))


def training_sample(shards: Shards, task: Task, stride: int, batch_size: int, seed: int) -> WindowSample:
    """Cut a seeded sample of the windows of the training range, from a few row groups if there are many.

    Args:
        shards: The series.
        task: The task.
        stride: Steps between the cutoffs of a series.
        batch_size: Windows per batch.
        seed: Seed of the sample.

    Returns:
        At most 4,096 windows from at most 16 row groups, in the order of the shards.
    """
    generator = np.random.default_rng([seed, 1])
    cutoffs = [(group, training_cutoffs(group, task, stride, whole=False)) for group in shards.row_groups()]
    groups = [(group, some) for group, some in cutoffs if some.total]
    if len(groups) > _TRAINING_GROUPS:
        chosen = np.sort(generator.choice(len(groups), _TRAINING_GROUPS, replace=False))
        groups = [groups[number] for number in chosen]
    return _cut_sample(*_sample(groups, _TRAINING_WINDOWS, generator), task, batch_size)


def _sample(
    groups: list[tuple[RowGroup, Cutoffs]], most: int, generator: np.random.Generator
) -> tuple[int, Iterator[tuple[Panel, np.ndarray, np.ndarray]]]:
    """Choose windows of row groups; returns the number of all, and the chosen ones panel by panel."""
    available = sum(cutoffs.total for _, cutoffs in groups)
    kept = np.arange(min(available, most))
    if available > most:
        kept = np.sort(generator.choice(available, most, replace=False))

    def panels() -> Iterator[tuple[Panel, np.ndarray, np.ndarray]]:
        before = 0
        for group, cutoffs in groups:
            here = kept[(kept >= before) & (kept < before + cutoffs.total)] - before
            before += cutoffs.total
            if len(here):
                series, cutoff = cutoffs.enumerate()
                yield read_panel(group), series[here], cutoff[here]

    return available, panels()


def _cut_sample(
    available: int, sample: Iterator[tuple[Panel, np.ndarray, np.ndarray]], task: Task, batch_size: int
) -> WindowSample:
    none = {name: np.zeros((0, *shape), kind) for name, (shape, kind) in input_spec(task).items()}
    result, targets, owners = [none], [np.zeros((0, task.horizon), task.value_type)], [np.zeros(0, np.int64)]
    before = 0
    for panel, series, cutoff in sample:
        inputs, target = WindowCutter(panel, task).cut(series, cutoff)
        result.append(inputs)
        targets.append(target)
        owners.append(before + series)
        before += len(panel.unique_id)
    inputs = {name: np.concatenate([one[name] for one in result]) for name in none}
    target = np.concatenate(targets)
    weight = weights_by_series(np.concatenate(owners), target)
    return WindowSample(inputs, target, weight, available, batch_size)


def _fill(inputs: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Pad inputs, each `[B, ...]`, with windows without any value to `[size, ...]`."""

    def fill(name: str, values: np.ndarray) -> np.ndarray:
        padding = ((0, size - len(values)), *((0, 0),) * (values.ndim - 1))
        # Only a missing value may be NaN: results of other inputs would be NaN, and NaN * 0 is NaN.
        return np.pad(values, padding, constant_values=np.nan if name == "y" else 0)

    return {name: fill(name, values) for name, values in inputs.items()}


def distribute(
    make: Callable[[Part], tf.data.Dataset], strategy: tf.distribute.Strategy, batch_size: int, parts: int = 1
) -> Iterator[tuple[dict[str, tf.Tensor], tf.Tensor]]:
    """Give each replica its part of every batch.

    Args:
        make: Returns the dataset of a process' part of the global batches.
        strategy: The strategy of the training.
        batch_size: Windows per global batch.
        parts: Parts that each replica will divide its share into.

    Returns:
        An iterator for `strategy.run`: consecutive replicas get consecutive parts of a batch.

    Raises:
        UserError: If the batch can't be divided evenly.
    """
    replicas = strategy.num_replicas_in_sync
    rest = batch_size % (replicas * parts)
    if rest:
        accumulated = f" and train.accumulate {parts}" if parts > 1 else ""
        raise UserError(
            "train.batch_size",
            f"{batch_size} windows can't be divided over {replicas} replicas{accumulated}",
            f"set it to {batch_size + replicas * parts - rest}",
        )

    def make_input(context: tf.distribute.InputContext) -> tf.data.Dataset:
        part = Part(context.input_pipeline_id, context.num_input_pipelines)
        per_replica = context.get_per_replica_batch_size(batch_size)
        dataset = make(part)
        if per_replica * part.of < batch_size:
            dataset = dataset.rebatch(per_replica, drop_remainder=True)
        if part.of == 1:
            return dataset
        # Otherwise the processes would synchronise before every step on whether each has a batch.
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.experimental.INFINITE_CARDINALITY))

    if replicas == 1:
        return iter(make(WHOLE))
    return iter(strategy.distribute_datasets_from_function(make_input))
