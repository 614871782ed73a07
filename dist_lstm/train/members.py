"""The trainings of a run: each member of its ensemble, twice; and their models put together.

A run without an ensemble is one with a single member, whose model is the run's.

Axes: B windows, T context, H horizon, P head parameters, K members.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.members import Member, make_members
from dist_lstm.config.task import Task, input_spec
from dist_lstm.data.stream import WindowSample
from dist_lstm.metrics import choose_weights
from dist_lstm.model.ensemble import build_ensemble
from dist_lstm.train.devices import generators_restored
from dist_lstm.train.fit import Trainer
from dist_lstm.train.monitor import EpochRecord, Speed
from dist_lstm.train.phases import Refit, Training, train_phase, train_refit
from dist_lstm.train.process_group import make_process_group
from dist_lstm.train.progress import Fitted


@dataclass(frozen=True)
class Trained:
    """The trained members of a run.

    Attributes:
        members: Settings of each, `[K]` and of those that the budget left out.
        fitted: Their trainings up to the validation range, `[K]`.
        refits: Their trainings on whole series, `[K]`.
        weights: Their weights, `[K]`; None for the median.
    """

    members: Sequence[Member]
    fitted: Sequence[Fitted]
    refits: Sequence[Refit]
    weights: Sequence[float] | None

    @property
    def history(self) -> list[EpochRecord]:
        """The epochs of all trainings."""
        return [record for one in (*self.fitted, *self.refits) for record in one.history]

    @property
    def models(self) -> list[keras.Model]:
        """The model of each member that is used: that on whole series, unless there is none or it was refused."""
        return [(refit.accepted or first).model for first, refit in zip(self.fitted, self.refits, strict=True)]

    @property
    def speed(self) -> Speed:
        """The throughput of the first training of the first member."""
        return self.fitted[0].speed

    def describe(self) -> dict[str, Any]:
        """Its entry in `metrics.json`: that of the only member, or sums and `members` with each."""
        single = [
            first.describe() | refit.describe() for first, refit in zip(self.fitted, self.refits, strict=True)
        ]
        if len(self.members) == 1:
            return single[0]
        sums = {key: sum(one[key] for one in single) for key in ("steps", "skipped_steps", "parameters")}
        flags = {key: any(one[key] for one in single) for key in ("stopped_early", "out_of_time", "refit")}
        weights = self.weights or [None] * len(single)
        variants = [dict(member.variant) for member in self.members[: len(single)]]
        loss = float(np.mean([one["validation_loss"] for one in single]))
        listed = [
            one | {"variant": variant, "weight": weight}
            for one, variant, weight in zip(single, variants, weights, strict=True)
        ]
        left_out = {"members_left_out": len(self.members) - len(single)}
        return sums | flags | {"validation_loss": loss, "members": listed} | left_out

    def summarise(self, cudnn: bool) -> str:
        """Steps and speed in a few words, and whether cuDNN was used."""
        path = "cuDNN" if cudnn else "no cuDNN"
        if len(self.fitted) == 1:
            return f"{self.fitted[0].summary}, {path}{self.refits[0].summary}"
        steps = [one.steps for one in self.fitted]
        speed = np.mean([one.speed.windows_per_second for one in self.fitted])
        trained = f"{len(steps)} members, {min(steps)} to {max(steps)} steps each, {speed:,.0f} windows/s, {path}"
        accepted = sum(refit.accepted is not None for refit in self.refits)
        return f"{trained}; {accepted} of {len(self.refits)} refit on whole series" if accepted else trained


#: A member is left out where the budget holds less than this share of what the members before it took.
_LEAST_SHARE = 0.5


class _Budget:
    """The seconds that are left of `train.budget`.

    The first trainings of all members may take the share of their steps where each is trained a second time.
    A member is trained as if it were the last, so that the first ones are complete whatever the budget.

    Args:
        seconds: The budget; None for no limit.
        refit_ratio: Steps of the second training of a member, on whole series, divided by those of the first; 0
            where there is none.
    """

    def __init__(self, seconds: float | None, refit_ratio: float) -> None:
        self._seconds = float("inf") if seconds is None else seconds
        self._share = 1 / (1 + refit_ratio)
        self._begin = time.perf_counter()

    def _spent(self, trainings: Sequence[Fitted]) -> float:
        """Seconds of training so far, those before a restart too."""
        return max(sum(one.seconds for one in trainings), time.perf_counter() - self._begin)

    def of_member(self, fitted: Sequence[Fitted]) -> float:
        """Seconds for the next member; 0 if it is to be left out."""
        left = self._seconds * self._share - self._spent(fitted)
        usual = sum(one.seconds for one in fitted) / len(fitted) if fitted else 0.0
        return 0.0 if fitted and left < _LEAST_SHARE * usual else max(left, 0.0)

    def of_refit(self, trainings: Sequence[Fitted], left: int) -> float:
        """Seconds for the next training on whole series, of as many as are left."""
        return max(self._seconds - self._spent(trainings), 0.0) / left


class MemberTrainings:
    """Trains the members of a run one after the other; those of one architecture share its compiled graphs.

    Args:
        training: The training of the run; its config may have an ensemble.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self.members = make_members(training.config)
        self._trainers: list[tuple[Any, Trainer]] = []
        task, settings = training.task, training.config.train
        #: Whether members are trained on whole series as well.
        self.refits = settings.refit and task.validation + task.test > 0
        has_both = self.refits and settings.budget is not None
        self._budget = _Budget(settings.budget, training.refit_ratio() if has_both else 0.0)
        self._processes = make_process_group(training.strategy)
        self._samples: dict[Task, WindowSample] = {}

    def _of(self, member: Member) -> Training:
        """The training of a member."""
        training = self._training
        task = _member_task(training.task, member)
        return replace(
            training, config=member.config, task=task, member=member.number, validation=self._validation(task)
        )

    def _validation(self, task: Task) -> WindowSample:
        """The validation windows of a task, chosen by the seed of the run and cut once."""
        if task not in self._samples:
            self._samples[task] = replace(self._training, task=task).validation_windows()
        return self._samples[task]

    def _trainer(self, training: Training) -> Trainer:
        config = training.config
        key = (training.task, config.model, config.train.model_copy(update={"seed": 0}))
        for other, trainer in self._trainers:
            if other == key:
                return trainer
        with generators_restored():
            trainer = training.make_trainer()
        self._trainers.append((key, trainer))
        return trainer

    def train(self) -> Trained:
        """Train each member up to the validation range, and choose the weights.

        Returns:
            The trained members; fewer where the budget ends before.

        Raises:
            UserError: As `train_phase`.
        """
        fitted: list[Fitted] = []
        for member in self.members:
            # By the clock of the chief: all processes train the same members.
            seconds = self._processes.broadcast(self._budget.of_member(fitted))
            if fitted and not seconds:
                left_out, budget = len(self.members) - len(fitted), self._training.config.train.budget
                self._training.monitor.print(
                    f"members   {left_out} of {len(self.members)} are left out: train.budget is {budget:g} seconds"
                )
                break
            training = replace(self._of(member), seconds=seconds)
            fitted.append(train_phase(training, trainer=self._trainer(training)))
        return Trained(self.members, fitted, [Refit()] * len(fitted), self._weights(fitted))

    def refit(self, trained: Trained) -> Trained:
        """Train each member on whole series, for as many passes as in its first training.

        Args:
            trained: The members after their first trainings.

        Returns:
            The members after both.

        Raises:
            UserError: As `train_refit`.
        """
        refits: list[Refit] = []
        for member, first in zip(self.members, trained.fitted, strict=False):
            spent = [*trained.fitted, *(one.fitted for one in refits if one.fitted)]
            seconds = self._budget.of_refit(spent, len(trained.fitted) - len(refits))
            training = replace(self._of(member), seconds=seconds)
            refits.append(train_refit(training, first, self._trainer(training)))
        return replace(trained, refits=refits)

    def _weights(self, fitted: Sequence[Fitted]) -> list[float] | None:
        """Weights of members, `[K]`, chosen on the validation range or equal; None for the median."""
        combination, count = self._training.config.model.combination, len(fitted)
        if combination == "median" or count == 1:
            return None
        if combination == "mean":
            return [1 / count] * count
        task = self._training.task
        sample = self._validation(task)
        median = task.quantiles.index(0.5) if task.levels else 0
        forecasts = [
            np.concatenate([*_forecasts(one.model, _member_task(task, member), sample.batches())])[:, :, median]
            for member, one in zip(self.members, fitted, strict=False)
        ]
        scale = _scale(sample.inputs["y"], task.season_length)
        return choose_weights(np.stack(forecasts), sample.target, scale, sample.weight)

    def combine(self, trained: Trained) -> keras.Model:
        """Put the models of the members into that of the run.

        Args:
            trained: The trained members.

        Returns:
            The only member's model, or one that combines them.
        """
        task = self._training.task
        tasks = [_member_task(task, member) for member in self.members[: len(trained.models)]]
        if len(self.members) == 1 and tasks == [task]:
            return trained.models[0]
        with generators_restored():
            members = [*zip(tasks, trained.models, strict=True)]
            return build_ensemble(task, members, trained.weights)


def _member_task(task: Task, member: Member) -> Task:
    """The task of a member, which may read a shorter context and set the transform of all series."""
    lengths = member.config.task
    changed = replace(task, context_length=lengths.context_length, min_context=lengths.min_context)
    if member.transform is None:
        return changed
    return replace(changed, transformed=False, transform=None if member.transform == "none" else member.transform)


def _forecasts(
    model: keras.Model, task: Task, batches: Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]
) -> Iterator[np.ndarray]:
    """Forecasts of a member for the inputs of the ensemble, `[B, H, P]` per batch."""
    graph = tf.function(lambda inputs: model(inputs, training=False)["forecast"], autograph=False)
    for inputs, target, _ in batches:
        taken = {name: inputs[name] for name in input_spec(task)}
        taken["y"] = taken["y"][:, -task.context_length :]
        yield graph(taken).numpy()[: len(target)]


def _scale(y: np.ndarray, season_length: int) -> np.ndarray:
    """Mean absolute seasonal difference of contexts `[B, T]`, or that of steps where there is none, `[B]`."""
    lag = season_length if season_length < y.shape[1] else 1
    changes = np.abs(y[:, lag:].astype(np.float64) - y[:, :-lag])
    counted = ~np.isnan(changes)
    total = np.where(counted, changes, 0.0).sum(axis=1)
    return np.divide(total, counted.sum(axis=1), out=np.zeros(len(y)), where=counted.any(axis=1))
