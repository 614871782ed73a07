"""Shards to `tf.data`: the windows to train on, and those to be forecast in order.

Training draws windows at random. Panels (row groups) are visited in an order shuffled every epoch, as many
at a time as fit into the memory budget, and give a share of the epoch's batches that is proportional to
their series (or windows). So a draw is uniform over all series (or windows), whatever the size of the data.

Axes: B windows of a batch, T context, H horizon, N series.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from dist_lstm.config.task import Task, input_spec
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.panel import Panel
from dist_lstm.data.shards import RowGroup, read_panel, row_groups
from dist_lstm.data.windows import Cutoffs, WindowCutter, training_cutoffs, validation_cutoffs

MIB = 1 << 20
#: Batches cut at once: from_generator costs about 0.2 ms an element, whatever its size.
_BLOCK = 16
#: Validation windows looked at after every epoch, at most.
_VALIDATION_WINDOWS = 1 << 14


@dataclass(frozen=True)
class Draw:
    """How training windows are drawn.

    Attributes:
        batch_size: Windows a step, over all replicas.
        steps_per_epoch: Steps an epoch.
        sampling: `series` draws uniformly over series, `windows` over windows.
        stride: Steps between the cutoffs of a series.
        seed: Seed of the draw.
        whole: Draw from whole series, validation and test range included.
        memory_budget: MiB of series held in memory.
    """

    batch_size: int
    steps_per_epoch: int
    sampling: str
    stride: int
    seed: int
    whole: bool
    memory_budget: int


@dataclass(frozen=True)
class _Pool:
    """Panels that are in memory together."""

    groups: tuple[RowGroup, ...]
    series: int
    windows: int


class TrainingWindows:
    """The windows of a folder of shards, drawn at random.

    Args:
        folder: The shards.
        manifest: Their manifest.
        task: The task.
        draw: How windows are drawn.
    """

    def __init__(self, folder: Path, manifest: Manifest, task: Task, draw: Draw) -> None:
        self._task = task
        self._draw = draw
        cutoffs = [(group, self._cutoffs(group.lengths)) for group in row_groups(folder, manifest)]
        self._groups = [(group, found) for group, found in cutoffs if found.total]
        #: Windows to draw from.
        self.windows = sum(found.total for _, found in self._groups)
        #: Series that have at least one window.
        self.series = sum(int((found.count > 0).sum()) for _, found in self._groups)
        self._load = lru_cache(maxsize=1)(self._load_pool)

    def _cutoffs(self, lengths: np.ndarray) -> Cutoffs:
        return training_cutoffs(lengths, self._task, self._draw.stride, self._draw.whole)

    def _pools(self, epoch: int) -> list[_Pool]:
        """The panels in the order of an epoch, grouped to what fits into memory."""
        # A pool is held as it was read, padded, and once more while it is replaced.
        room = self._draw.memory_budget * MIB // 3
        fits = sum(self._bytes(group) for group, _ in self._groups) <= room
        generator = np.random.default_rng([self._draw.seed, epoch, 0])
        order = range(len(self._groups)) if fits else generator.permutation(len(self._groups))
        pools: list[list[tuple[RowGroup, Cutoffs]]] = []
        used = 0
        for number in order:
            group, found = self._groups[number]
            if not pools or used + self._bytes(group) > room:
                pools.append([])
                used = 0
            pools[-1].append((group, found))
            used += self._bytes(group)
        return [
            _Pool(
                tuple(group for group, _ in pool),
                sum(int((found.count > 0).sum()) for _, found in pool),
                sum(found.total for _, found in pool),
            )
            for pool in pools
        ]

    def _bytes(self, group: RowGroup) -> int:
        padding = group.series * (self._task.context_length + self._task.horizon)
        return 4 * (int(group.lengths.sum()) + padding)

    def _load_pool(self, groups: tuple[tuple[Path, int], ...]) -> tuple[WindowCutter, Cutoffs]:
        known = {(group.path, group.number): group for group, _ in self._groups}
        panel = _join([read_panel(known[key]) for key in groups])
        return WindowCutter(panel, self._task), self._cutoffs(panel.length)

    def blocks(self, epoch: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """The windows of one epoch, cut many at a time.

        Args:
            epoch: Number of the epoch; it decides the draw.

        Yields:
            Model inputs by name and targets, `[B, H]`, of up to 16 batches of windows.
        """
        draw, pools = self._draw, self._pools(epoch)
        weight = np.array([pool.series if draw.sampling == "series" else pool.windows for pool in pools])
        # Cumulated and rounded, so that the epoch has exactly its number of windows.
        share = np.concatenate([[0.0], np.cumsum(weight)]) / weight.sum()
        bounds = np.rint(share * draw.batch_size * draw.steps_per_epoch).astype(np.int64)
        for number, pool in enumerate(pools):
            wanted = int(bounds[number + 1] - bounds[number])
            if not wanted:
                continue
            cutter, cutoffs = self._load(tuple((group.path, group.number) for group in pool.groups))
            generator = np.random.default_rng([draw.seed, epoch, number + 1])
            series, cutoff = _draw(cutoffs, wanted, draw.sampling, generator)
            for first in range(0, wanted, _BLOCK * draw.batch_size):
                chosen = slice(first, first + _BLOCK * draw.batch_size)
                context, target = cutter.cut(series[chosen], cutoff[chosen])
                yield {"y": context}, target

    def dataset(self, first_epoch: int = 0) -> tf.data.Dataset:
        """Batches without end, epoch after epoch.

        Args:
            first_epoch: Epoch to begin with.

        Returns:
            Pairs of model inputs as in `input_spec` and targets, `[B, H]`, B the global batch size.
        """

        def generate() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
            epoch = first_epoch
            while True:
                yield from self.blocks(epoch)
                epoch += 1

        blocks = tf.data.Dataset.from_generator(generate, output_signature=_signature(self._task))
        return blocks.rebatch(self._draw.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _join(panels: list[Panel]) -> Panel:
    length = np.concatenate([panel.length for panel in panels])
    return Panel(
        np.concatenate([panel.unique_id for panel in panels]),
        np.concatenate([panel.start for panel in panels]),
        np.concatenate([panel.y for panel in panels]),
        np.concatenate([[0], np.cumsum(length)]).astype(np.int64),
    )


def _draw(
    cutoffs: Cutoffs, wanted: int, sampling: str, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Series and cutoffs of windows drawn at random, each as often as any other, give or take one."""

    def shuffled(size: int) -> np.ndarray:
        rounds = -(-wanted // size)
        # Only the last round is cut short, so all but it are whole permutations.
        return np.concatenate([generator.permutation(size) for _ in range(rounds)])[:wanted]

    if sampling == "windows":
        chosen = shuffled(cutoffs.total)
        end = np.cumsum(cutoffs.count)
        series = np.searchsorted(end, chosen, side="right")
        number = chosen - (end - cutoffs.count)[series]
    else:
        usable = np.flatnonzero(cutoffs.count)
        series = usable[shuffled(len(usable))]
        number = (generator.random(wanted) * cutoffs.count[series]).astype(np.int64)
    return series, cutoffs.first[series] + number * cutoffs.stride


def _signature(task: Task) -> tuple[dict[str, tf.TensorSpec], tf.TensorSpec]:
    inputs = {name: tf.TensorSpec((None, *shape), dtype) for name, (shape, dtype) in input_spec(task).items()}
    return inputs, tf.TensorSpec((None, task.horizon), "float32")


def ordered_windows(
    panel: Panel, task: Task, cutoffs: Cutoffs, batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """The windows at given cutoffs in order, in batches of one fixed size.

    One size means one graph and results that do not depend on how many windows there are.

    Args:
        panel: The series.
        task: The task.
        cutoffs: Which windows.
        batch_size: Windows a batch.

    Yields:
        Model inputs by name, padded with NaN to `batch_size` windows, and the targets of the windows,
        `[B, H]`, where the last B may be smaller.
    """
    cutter = WindowCutter(panel, task)
    series, cutoff = cutoffs.enumerate()
    for first in range(0, len(series), batch_size):
        chosen = slice(first, first + batch_size)
        context, target = cutter.cut(series[chosen], cutoff[chosen])
        yield {"y": _fill(context, batch_size)}, target


@dataclass(frozen=True)
class ValidationWindows:
    """Validation windows, held in memory.

    Attributes:
        inputs: Model inputs by name, each `[B, ...]`.
        target: Targets, `[B, H]`, in target units; NaN is missing.
        available: Windows of the validation range.
        batch_size: Windows a batch.
    """

    inputs: dict[str, np.ndarray]
    target: np.ndarray
    available: int
    batch_size: int

    @property
    def used(self) -> int:
        """Windows that are looked at."""
        return len(self.target)

    def batches(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Batches as `ordered_windows` gives them."""
        for first in range(0, self.used, self.batch_size):
            chosen = slice(first, first + self.batch_size)
            inputs = {name: _fill(values[chosen], self.batch_size) for name, values in self.inputs.items()}
            yield inputs, self.target[chosen]


def validation_windows(
    folder: Path, manifest: Manifest, task: Task, batch_size: int, seed: int
) -> ValidationWindows:
    """Cut the windows of the validation range, a seeded sample of them where there are very many.

    Args:
        folder: The shards.
        manifest: Their manifest.
        task: The task.
        batch_size: Windows a batch.
        seed: Seed of the sample.

    Returns:
        At most 16,384 windows, in the order of the shards.
    """
    groups = [(group, validation_cutoffs(group.lengths, task)) for group in row_groups(folder, manifest)]
    available = sum(cutoffs.total for _, cutoffs in groups)
    kept = np.arange(available)
    if available > _VALIDATION_WINDOWS:
        generator = np.random.default_rng([seed, 0])
        kept = np.sort(generator.choice(available, _VALIDATION_WINDOWS, replace=False))
    contexts, targets = [np.zeros((0, task.context_length), np.float32)], [np.zeros((0, task.horizon), np.float32)]
    before = 0
    for group, cutoffs in groups:
        here = kept[(kept >= before) & (kept < before + cutoffs.total)] - before
        before += cutoffs.total
        if len(here):
            series, cutoff = cutoffs.enumerate()
            context, target = WindowCutter(read_panel(group), task).cut(series[here], cutoff[here])
            contexts.append(context)
            targets.append(target)
    return ValidationWindows({"y": np.concatenate(contexts)}, np.concatenate(targets), available, batch_size)


def _fill(values: np.ndarray, size: int) -> np.ndarray:
    """Pad the first axis to a size with NaN."""
    missing = size - len(values)
    return np.pad(values, ((0, missing), *((0, 0),) * (values.ndim - 1)), constant_values=np.nan)


def distribute(
    make: Callable[[], tf.data.Dataset], strategy: tf.distribute.Strategy, batch_size: int
) -> Iterator[tuple[dict[str, tf.Tensor], tf.Tensor]]:
    """Give each replica its part of every batch.

    Args:
        make: Makes the dataset of global batches.
        strategy: The strategy that trains.
        batch_size: Windows of a global batch.

    Returns:
        An iterator for `strategy.run`: consecutive parts of a batch go to consecutive replicas.
    """

    def make_input(context: tf.distribute.InputContext) -> tf.data.Dataset:
        part = context.get_per_replica_batch_size(batch_size)
        return make() if part == batch_size else make().rebatch(part, drop_remainder=True)

    if strategy.num_replicas_in_sync == 1:
        return iter(make())
    return iter(strategy.distribute_datasets_from_function(make_input))
