"""Train the models of a pack as one graph, up to the validation range and then on whole series.

Axes: N series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist_lstm.config.resolved import MeasuredConfig
from dist_lstm.config.task import Task
from dist_lstm.data.fused_windows import GroupWindows
from dist_lstm.data.panel import Panel
from dist_lstm.data.sampling import make_sampling, refit_ratio
from dist_lstm.fleet.packing import Group
from dist_lstm.train.divergence import divergence

#: Weights by the name of a model: for the one trained without the test range, and the one trained on all steps.
InitialWeights = Mapping[str, tuple[list[np.ndarray], list[np.ndarray]]]


@dataclass(frozen=True)
class TrainedGroup:
    """A small model.

    Attributes:
        group: Its series.
        before: The `FittedMember` that was trained without the test range.
        after: The one that was trained on whole series; `before` if there is none, or it was refused.
        refused: Why the one that was trained on whole series was refused; None if it was not.
    """

    group: Group
    before: Any
    after: Any
    refused: str | None = None

    @property
    def failure(self) -> str | None:
        """Why it could not be trained; None if it could."""
        return self.before.failure

    def row(self, level: str) -> dict[str, Any]:
        """Its row in the table of models."""
        return {
            "name": self.group.name,
            "level": level,
            "series": len(self.group.indices),
            "steps": self.before.steps,
            "validation_loss": self.before.validation_loss,
            "stopped_early": self.before.stopped_early,
            "failure": self.failure,
            "refit_refused": self.refused,
            "weights": self.after.weights,
            "weights_backtest": self.before.weights,
        }


@dataclass(frozen=True)
class GroupTrainer:
    """Trains the models of groups of series.

    Attributes:
        models: The `FusedModels` of their architecture.
        task: The task of the models.
        config: Their config.
        slots: Models trained at once.
    """

    models: Any
    task: Task
    config: MeasuredConfig
    slots: int

    def train(self, panel: Panel, groups: Sequence[Group], initial: InitialWeights) -> list[TrainedGroup]:
        """Train the model of each group.

        Args:
            panel: The series of all groups.
            groups: The groups, with indices into the panel.
            initial: Weights that training starts from; the other models start from random ones.

        Returns:
            One entry per group. A model whose training on whole series diverged is the one from before it.
        """
        from dist_lstm.train.fused.fit import FittedMember, Member, fused_fit

        def fit(windows: GroupWindows, members: Sequence[Member]) -> dict[str, FittedMember]:
            return {one.name: one for one in fused_fit(self.models, windows, members, self.slots)}

        def member(group: Group, which: int, steps: int | None = None) -> Member:
            weights = initial[group.name][which] if group.name in initial else None
            return Member(group.name, group.indices, steps, weights=weights)

        windows = self._windows(panel, whole=False)
        before = fit(windows, [member(group, 0) for group in groups])
        if not (self.config.train.refit and self.task.validation + self.task.test):
            return [TrainedGroup(group, before[group.name], before[group.name]) for group in groups]
        sound = [group for group in groups if before[group.name].failure is None]
        whole = self._windows(panel, whole=True)
        steps = {
            group.name: self._refit_steps(group, before[group.name].steps, (windows, whole)) for group in sound
        }
        after = fit(whole, [member(group, 1, steps[group.name]) for group in sound])
        refused = self._refused(windows, sound, before, after)
        return [
            TrainedGroup(group, before[name], before[name] if name in refused else after[name], refused.get(name))
            if (name := group.name) in after
            else TrainedGroup(group, before[name], before[name])
            for group in groups
        ]

    @staticmethod
    def _refit_steps(group: Group, chosen: int, windows: tuple[GroupWindows, GroupWindows]) -> int:
        return round(chosen * refit_ratio(*(one.available(group.indices) for one in windows)))

    def _windows(self, panel: Panel, whole: bool) -> GroupWindows:
        return GroupWindows(panel, self.task, make_sampling(self.config, whole))

    def _refused(
        self, windows: GroupWindows, groups: Sequence[Group], before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> dict[str, str]:
        """Why the second training of some groups is refused, by name; it failed or diverged."""
        from dist_lstm.train.fused.fit import Member, training_losses

        first, second = (
            training_losses(
                self.models,
                windows,
                [Member(group.name, group.indices, weights=fitted[group.name].weights) for group in groups],
                self.slots,
            )
            for fitted in (before, after)
        )
        reasons = {}
        for name, loss, refit_loss in zip([group.name for group in groups], first, second, strict=True):
            fitted, validation_loss = after[name], before[name].validation_loss
            reasons[name] = fitted.failure or divergence(loss, refit_loss, validation_loss, fitted.weights)
        return {name: reason for name, reason in reasons.items() if reason}
