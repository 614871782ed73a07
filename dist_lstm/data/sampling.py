"""Which windows each training step gets: an endless random sequence, in passes over the data.

A pass visits all panels (row groups) in a new order, as many at a time as fit into the memory budget: a pool.
The number of windows from each pool is proportional to its series (or windows), so sampling is uniform over
all series (or windows) whatever the size of the data. A window is determined by its position in the sequence: any
epoch can be started without drawing those before it.

Axes: B windows, T context, H horizon, N series.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dist_lstm.config.resolved import MeasuredConfig
from dist_lstm.config.task import Task
from dist_lstm.data.augmentation import Augmentation
from dist_lstm.data.panel import join_panels
from dist_lstm.data.partition import MIB
from dist_lstm.data.shards import RowGroup, Shards, read_panel
from dist_lstm.data.windows import Cutoffs, Extents, WindowCutter, training_cutoffs

#: Batches cut at once: handing a block to tf.data costs about 0.2 ms, whatever its size.
BLOCK = 16
#: A training on whole series takes at most so many times the steps of the first.
_LARGEST_RATIO = 4.0


@dataclass(frozen=True)
class SamplingConfig:
    """How training windows are drawn.

    Attributes:
        batch_size: Windows per step, over all replicas.
        steps_per_epoch: Steps per epoch.
        window_sampling: `series` draws uniformly over series, `windows` over windows, `recent` over series with a
            probability that rises linearly from a series' first cutoff to its last.
        stride: Steps between the cutoffs of a series.
        seed: Seed of the sampling.
        whole: Draw from all steps, validation and test range included.
        memory_budget: MiB of series held in memory.
        span: Steps before the end of the training range in which the cutoffs lie; None for all.
        augmentation: How windows are changed; None to leave them as they are.
    """

    batch_size: int
    steps_per_epoch: int
    window_sampling: str
    stride: int
    seed: int
    whole: bool
    memory_budget: int
    span: int | None = None
    augmentation: Augmentation | None = None


def make_sampling(config: MeasuredConfig, whole: bool) -> SamplingConfig:
    """The sampling of training windows in a resolved config.

    Args:
        config: The config.
        whole: Draw from all steps, validation and test range included.

    Returns:
        The sampling.
    """
    train = config.train
    augmentation = Augmentation(train.stretch, train.mix, train.noise, train.seed)
    return SamplingConfig(
        batch_size=train.batch_size,
        steps_per_epoch=train.steps_per_epoch,
        window_sampling=train.window_sampling,
        stride=train.stride,
        seed=train.seed,
        whole=whole,
        memory_budget=config.data.memory_budget,
        span=train.span,
        augmentation=augmentation if augmentation.active else None,
    )


def refit_ratio(windows: int, whole: int) -> float:
    """Steps of a training on whole series divided by those of the first: both pass as often over their windows.

    Args:
        windows: Windows that the first training draws from.
        whole: Windows of whole series.

    Returns:
        The ratio, 1 to 4.

    Example:
        >>> refit_ratio(windows=500, whole=600)
        1.2
    """
    return min(max(whole / max(windows, 1), 1.0), _LARGEST_RATIO)


class Part(NamedTuple):
    """The part of every batch that belongs to one of several processes.

    Attributes:
        number: Index of the part, from 0; its windows are consecutive in the batch.
        of: Number of parts.
    """

    number: int = 0
    of: int = 1

    def among(self, windows: slice, before: int, batch_size: int) -> slice | np.ndarray:
        """Those of some windows that belong to the part.

        Args:
            windows: Positions in a pool.
            before: Windows of the sequence before the pool.
            batch_size: Windows per batch.

        Returns:
            Their positions in the pool.

        Example:
            >>> Part(1, of=2).among(slice(0, 8), before=0, batch_size=4).tolist()
            [2, 3, 6, 7]
        """
        if self.of == 1:
            return windows
        positions = np.arange(windows.start, windows.stop)
        return positions[(before + positions) % batch_size * self.of // batch_size == self.number]


WHOLE = Part()


@dataclass(frozen=True)
class _Pool:
    """Panels that are in memory together."""

    groups: tuple[RowGroup, ...]
    series: int
    windows: int


class TrainingWindows:
    """The windows of a folder of shards, drawn at random.

    Args:
        shards: The series.
        task: The task.
        sampling: How windows are drawn.
    """

    def __init__(self, shards: Shards, task: Task, sampling: SamplingConfig) -> None:
        self.task = task
        self.sampling = sampling
        cutoffs = [(group, self._cutoffs(group)) for group in shards.row_groups()]
        self._groups = [(group, result) for group, result in cutoffs if result.total]
        #: Windows to draw from.
        self.windows = sum(result.total for _, result in self._groups)
        #: Series that have at least one window.
        self.series = sum(int((result.count > 0).sum()) for _, result in self._groups)
        self._load = lru_cache(maxsize=1)(self._load_pool)

    def _cutoffs(self, series: Extents) -> Cutoffs:
        sampling = self.sampling
        return training_cutoffs(series, self.task, sampling.stride, sampling.whole, sampling.span)

    @property
    def _epoch_size(self) -> int:
        return self.sampling.batch_size * self.sampling.steps_per_epoch

    @property
    def _pass_length(self) -> int:
        """Windows per pass: several epochs if they are short, so that a pool is not read for a few windows."""
        return max(self._epoch_size, self.series)

    def _pools(self, number: int) -> list[_Pool]:
        """The panels in the order of a pass, grouped into pools that fit into memory."""
        # A pool is held as it was read, padded, and once more while it is replaced.
        capacity = self.sampling.memory_budget * MIB // 3
        fits = sum(self._bytes(group) for group, _ in self._groups) <= capacity
        generator = np.random.default_rng([self.sampling.seed, number, 0])
        order = range(len(self._groups)) if fits else generator.permutation(len(self._groups))
        pools: list[list[tuple[RowGroup, Cutoffs]]] = []
        used = 0
        for position in order:
            group, result = self._groups[position]
            if not pools or used + self._bytes(group) > capacity:
                pools.append([])
                used = 0
            pools[-1].append((group, result))
            used += self._bytes(group)
        return [
            _Pool(
                tuple(group for group, _ in pool),
                sum(int((result.count > 0).sum()) for _, result in pool),
                sum(result.total for _, result in pool),
            )
            for pool in pools
        ]

    def _bytes(self, group: RowGroup) -> int:
        padding = group.series * (self.task.context_length + self.task.horizon)
        return np.dtype(self.task.value_type).itemsize * (int(group.length.sum()) + padding)

    def _load_pool(self, groups: tuple[tuple[Path, int], ...]) -> tuple[WindowCutter, Cutoffs]:
        by_key = {(group.path, group.number): group for group, _ in self._groups}
        panel = join_panels([read_panel(by_key[key]) for key in groups])
        return WindowCutter(panel, self.task), self._cutoffs(panel)

    def blocks(self, epoch: int, batch: int = 0, part: Part = WHOLE) -> Iterator[dict[str, np.ndarray]]:
        """The windows of one epoch, many at a time.

        Args:
            epoch: Index of the epoch in the sequence, from 0.
            batch: First batch of the epoch.
            part: The part of every batch; no other windows are cut.

        Yields:
            Blocks of b windows, those of up to 16 batches, by name: `window`, `[b, T + H]`, contexts followed by
            targets; and the model inputs other than `y`, each `[b, ...]`.
        """
        size, length = self._epoch_size, self._pass_length
        position, end = epoch * size + batch * self.sampling.batch_size, (epoch + 1) * size
        while position < end:
            number, begin = divmod(position, length)
            until = min(end - number * length, length)
            yield from self._part_of_pass(number, begin, until, part)
            position = number * length + until

    def _part_of_pass(self, number: int, begin: int, end: int, part: Part) -> Iterator[dict[str, np.ndarray]]:
        """The windows of a pass from one position to another."""
        sampling, pools, length = self.sampling, self._pools(number), self._pass_length
        weight = np.array(
            [pool.windows if sampling.window_sampling == "windows" else pool.series for pool in pools]
        )
        # Cumulative and rounded, so that the pass has exactly its number of windows.
        share = np.concatenate([[0.0], np.cumsum(weight)]) / weight.sum()
        bounds = np.rint(share * length).astype(np.int64)
        for position, pool in enumerate(pools):
            first, last = max(begin, bounds[position]), min(end, bounds[position + 1])
            if first >= last:
                continue
            cutter, cutoffs = self._load(tuple((group.path, group.number) for group in pool.groups))
            generator = np.random.default_rng([sampling.seed, number, position + 1])
            count = int(bounds[position + 1] - bounds[position])
            series, cutoff = draw_windows(cutoffs, count, sampling.window_sampling, generator)
            for here in range(first - bounds[position], last - bounds[position], BLOCK * sampling.batch_size):
                until = min(here + BLOCK * sampling.batch_size, int(last - bounds[position]))
                before = number * length + int(bounds[position])
                chosen = part.among(slice(here, until), before, sampling.batch_size)
                window = cutter.windows(series[chosen], cutoff[chosen])
                if sampling.augmentation is not None:
                    at = before + np.arange(count)[chosen]
                    partner = window
                    if sampling.augmentation.mix:
                        other = sampling.augmentation.partner(at, count)
                        partner = cutter.windows(series[other], cutoff[other])
                    window = sampling.augmentation.apply(window, partner, at, self.task.context_length)
                yield {"window": window, **cutter.covariates(series[chosen], cutoff[chosen])}


def draw_windows(
    cutoffs: Cutoffs, count: int, sampling: str, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw windows at random, in which each series (or window) is as frequent as any other, plus or minus one.

    Args:
        cutoffs: Cutoffs to draw from; at least one.
        count: Number of windows, B.
        sampling: `series`, `windows` or `recent`, as in `SamplingConfig`.
        generator: Random generator.

    Returns:
        Series and cutoffs of the windows, each `[B]`.

    Example:
        >>> cutoffs = Cutoffs(np.array([3, 7]), np.array([2, 1]), stride=5)
        >>> series, cutoff = draw_windows(cutoffs, 3, "windows", np.random.default_rng(0))
        >>> sorted(zip(series.tolist(), cutoff.tolist()))
        [(0, 3), (0, 8), (1, 7)]
    """

    def shuffled(size: int) -> np.ndarray:
        rounds, rest = divmod(count, size)
        complete = generator.permuted(np.tile(np.arange(size), (rounds, 1)), axis=1)
        return np.concatenate([complete.ravel(), generator.choice(size, rest, replace=False)])

    if sampling == "windows":
        chosen = shuffled(cutoffs.total)
        end = np.cumsum(cutoffs.count)
        series = np.searchsorted(end, chosen, side="right")
        number = chosen - (end - cutoffs.count)[series]
    else:
        usable = np.flatnonzero(cutoffs.count)
        series = usable[shuffled(len(usable))]
        position = generator.random(count)
        # The square root of a uniform number has a density that rises linearly.
        position = np.sqrt(position) if sampling == "recent" else position
        number = (position * cutoffs.count[series]).astype(np.int64)
    return series, cutoffs.first[series] + number * cutoffs.stride
