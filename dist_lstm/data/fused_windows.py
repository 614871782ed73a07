"""Windows of many small models: each has a group of series of its own, often a single one.

The windows of a group depend on its seed and its series only, not on the other groups.

Axes: B windows, H horizon, N series.
"""

from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from dist_lstm.config.task import Task
from dist_lstm.data.panel import Panel
from dist_lstm.data.sampling import SamplingConfig, draw_windows
from dist_lstm.data.windows import Cutoffs, WindowCutter, training_cutoffs, validation_cutoffs, weights_by_series

#: Maximum number of validation windows per group and epoch.
_VALIDATION_WINDOWS = 1 << 10
#: Maximum number of training windows per group on which two models are compared.
_TRAINING_WINDOWS = 1 << 8


def group_seed(name: str, seed: int) -> int:
    """Seed of a group: a hash of its name and the seed of the run.

    Args:
        name: Name of the group.
        seed: Seed of the run.

    Returns:
        The seed, 0 to 2^31 - 1.

    Example:
        >>> group_seed("T12", 0)
        909388897
    """
    return int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=4).digest()) >> 1


@dataclass(frozen=True)
class WindowsOfGroup:
    """Windows of a group on which a loss is computed.

    Attributes:
        series: Index in the panel of the series of each, `[B]`.
        cutoff: Their cutoffs, `[B]`.
        weight: Weights by which every series counts the same, `[B]`.
    """

    series: np.ndarray
    cutoff: np.ndarray
    weight: np.ndarray


class GroupWindows:
    """The windows of groups of series that are in memory.

    Args:
        panel: The series of all groups.
        task: The task.
        sampling: How windows are drawn; each group has its own seed.
    """

    def __init__(self, panel: Panel, task: Task, sampling: SamplingConfig) -> None:
        self.task = task
        self.sampling = sampling
        self._cutter = WindowCutter(panel, task)
        self._training = training_cutoffs(panel, task, sampling.stride, sampling.whole, sampling.span)
        self._validation = validation_cutoffs(panel, task)
        if sampling.whole:
            self._validation = replace(self._validation, count=np.zeros_like(self._validation.count))

    def available(self, series: np.ndarray) -> int:
        """Number of training windows of a group; `series` are its indices in the panel, `[N]`."""
        return int(self._training.count[series].sum())

    def training(self, series: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the training windows of an epoch.

        Args:
            series: Indices of the group's series in the panel, `[N]`.
            seed: The group's seed.
            epoch: Number of the epoch, from 0.

        Returns:
            Series and cutoff of each window, each `[B]`, all batches of the epoch in order.
        """
        count = self.sampling.batch_size * self.sampling.steps_per_epoch
        # The same windows as those of `TrainingWindows` for these series alone, as long as an epoch has all of
        # them.
        generator = np.random.default_rng([seed, epoch, 1])
        chosen, cutoff = draw_windows(_of(self._training, series), count, self.sampling.window_sampling, generator)
        return series[chosen], cutoff

    def validation(self, series: np.ndarray, seed: int) -> WindowsOfGroup:
        """The validation windows of a group, a seeded sample if there are many.

        Args:
            series: Indices of the group's series in the panel, `[N]`.
            seed: The group's seed.

        Returns:
            At most 1,024 windows; none if all steps are trained on.
        """
        return self._sample(self._validation, series, _VALIDATION_WINDOWS, np.random.default_rng([seed, 0]))

    def training_sample(self, series: np.ndarray, seed: int) -> WindowsOfGroup:
        """A seeded sample of the training windows of a group.

        Args:
            series: Indices of the group's series in the panel, `[N]`.
            seed: The group's seed.

        Returns:
            At most 256 windows.
        """
        return self._sample(self._training, series, _TRAINING_WINDOWS, np.random.default_rng([seed, 2]))

    def cut(self, series: np.ndarray, cutoff: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Cut windows into model inputs by name, each `[B, ...]`, and targets, `[B, H]`."""
        return self._cutter.cut(series, cutoff)

    def _sample(
        self, cutoffs: Cutoffs, series: np.ndarray, most: int, generator: np.random.Generator
    ) -> WindowsOfGroup:
        """All windows of some series, or as many as allowed."""
        chosen, cutoff = _of(cutoffs, series).enumerate()
        if len(chosen) > most:
            kept = np.sort(generator.choice(len(chosen), most, replace=False))
            chosen, cutoff = chosen[kept], cutoff[kept]
        series = series[chosen]
        target = self._cutter.windows(series, cutoff)[:, self.task.context_length :]
        return WindowsOfGroup(series, cutoff, weights_by_series(series, target))


def _of(cutoffs: Cutoffs, series: np.ndarray) -> Cutoffs:
    return Cutoffs(cutoffs.first[series], cutoffs.count[series], cutoffs.stride)
