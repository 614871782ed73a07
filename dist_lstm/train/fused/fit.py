"""The loop for many small models: schedule and stopping rules of `dist_lstm.train.fit`, one slot per model.

A fixed number of models is trained at once. A model that ends leaves its slot to the next one, so none waits for
the slowest, and one compiled graph serves any number of models. What a model becomes depends on its name, its
series and the settings, not on its slot, nor on the models in the others.

Axes: M slots, K steps of a call, B batch, H horizon.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.resolved import MeasuredTrainSettings, ResolvedModelSettings
from dist_lstm.config.task import Task
from dist_lstm.data.fused_windows import GroupWindows, WindowsOfGroup, group_seed
from dist_lstm.model.fused import FusedModel, first_weights, unstack_weights
from dist_lstm.model.lstm import build_model
from dist_lstm.train.fused.members import FittedMember, Member
from dist_lstm.train.fused.step import FusedSteps, Rates, State, learning_rate_at, make_fused_steps
from dist_lstm.train.monitor import EpochRecord, smoothed_loss

#: Windows of a call, in bytes, at most.
_CALL_BYTES = 1 << 26


@dataclass(frozen=True)
class FusedModels:
    """An architecture, ready to train any number of models.

    Attributes:
        fused: The architecture.
        train: Batch size, learning rate, patience; resolved.
        ordinary: A model of this architecture, which takes the weights of any member.
        steps: The compiled functions.
    """

    fused: FusedModel
    train: MeasuredTrainSettings
    ordinary: keras.Model
    steps: FusedSteps

    def draw_weights(self, seed: int) -> list[np.ndarray]:
        """First weights of a model, by its seed."""
        return first_weights(self.fused.ordinary, seed)


def make_fused_models(task: Task, settings: ResolvedModelSettings, train: MeasuredTrainSettings) -> FusedModels:
    """Build the part that all models of an architecture share.

    Args:
        task: The task.
        settings: The architecture, resolved.
        train: How it is trained, resolved.

    Returns:
        The architecture; it is compiled at its first use.
    """
    fused = FusedModel(task, settings)
    return FusedModels(fused, train, build_model(task, settings), make_fused_steps(fused, train))


@dataclass
class _Training:
    """A member in a slot."""

    member: Member
    seed: int
    validation: WindowsOfGroup
    limit: int
    weights: list[np.ndarray]
    steps: int = 0
    best_steps: int = 0
    best_loss: float = float("inf")
    waited: int = 0
    failure: str | None = None
    history: list[EpochRecord] = field(default_factory=list)

    def fitted(self, patience: int, late: bool) -> FittedMember:
        early = self.failure is None and self.waited >= patience
        late = late and not early and self.steps < self.limit
        return FittedMember(
            self.member.name, self.weights, self.best_steps, self.best_loss, early, late, self.failure,
            tuple(self.history),
        )  # fmt: skip


def fused_fit(
    models: FusedModels, windows: GroupWindows, members: Sequence[Member], slots: int
) -> Iterator[FittedMember]:
    """Train many models, a fixed number at a time.

    Args:
        models: The architecture.
        windows: The windows of all members.
        members: The models to train.
        slots: Number of models trained at once, M. On a CPU few are as fast as many; a GPU takes hundreds. With
            another number of slots results differ by rounding; an empty slot costs as much as a full one.

    Yields:
        Each member once, as soon as its training has ended; the order depends on how long each takes.
    """
    run = _Slots(models, windows, slots)
    # With a second training on whole series, each of the two may take half of it.
    seconds = (models.train.budget or float("inf")) * (0.5 if models.train.refit else 1.0)
    deadline = time.perf_counter() + seconds
    waiting = iter(members)
    late = False
    while True:
        for slot in run.empty():
            for member in waiting:
                training = _begin(models, windows, member)
                if late:
                    training.failure = "train.budget ended before its training began"
                if training.failure is None:
                    run.put(slot, training)
                    break
                yield training.fitted(models.train.patience, late)
        if not any(run.trainings):
            return
        run.epoch()
        late = time.perf_counter() > deadline
        for training in run.ended(late):
            yield training.fitted(models.train.patience, late)


def training_losses(
    models: FusedModels, windows: GroupWindows, members: Sequence[Member], slots: int
) -> list[float]:
    """Mean losses of trained models on a sample of the windows that they are trained on.

    Args:
        models: The architecture.
        windows: The windows of all members.
        members: The models, each with its weights.
        slots: Number of models computed at once; as in `fused_fit`.

    Returns:
        One loss per member, in units of scale: NaN where nothing counts, infinity where forecasts are non-finite.
    """
    run, losses = _Slots(models, windows, slots), []
    for first in range(0, len(members), slots):
        part = members[first : first + slots]
        for slot, member in enumerate(part):
            training = _begin(models, windows, member)
            training.validation = windows.training_sample(member.series, training.seed)
            run.put(slot, training)
        losses += run.mean_losses()[: len(part)].tolist()
    return losses


def _begin(models: FusedModels, windows: GroupWindows, member: Member) -> _Training:
    seed = group_seed(member.name, models.train.seed)
    weights = list(models.draw_weights(seed) if member.weights is None else member.weights)
    limit = member.steps or models.train.max_steps
    training = _Training(member, seed, windows.validation(member.series, seed), limit, weights)
    if not windows.available(member.series):
        training.failure = "too short: it has no window to train on"
    return training


class _Slots:
    """The models in training, an epoch at a time."""

    def __init__(self, models: FusedModels, windows: GroupWindows, slots: int) -> None:
        self._models = models
        self._windows = windows
        self.trainings: list[_Training | None] = [None] * slots
        zeros = {
            one.path: np.zeros((slots, *one.shape), np.float32) for one in models.ordinary.trainable_variables
        }
        mean, square = ({name: one.copy() for name, one in zeros.items()} for _ in range(2))
        self._state = State(zeros, mean, square, np.zeros(slots, np.int32))
        kinds = (np.float32, np.float32, np.float32, np.int32, np.int32)
        self._rates = Rates(*(np.zeros(slots, kind) for kind in kinds))

    def empty(self) -> list[int]:
        """Slots without a model."""
        return [slot for slot, training in enumerate(self.trainings) if training is None]

    def put(self, slot: int, training: _Training) -> None:
        """Begin a training in a slot."""
        self.trainings[slot] = training
        for name, weight in zip(self._state.weights, training.weights, strict=True):
            self._state.weights[name][slot] = weight
            self._state.mean[name][slot] = self._state.square[name][slot] = 0
        self._state.step[slot] = 0
        member, train = training.member, self._models.train
        rates = self._rates
        rates.learning_rate[slot] = _value_or(member.learning_rate, train.learning_rate)
        rates.weight_decay[slot] = _value_or(member.weight_decay, train.weight_decay)
        rates.dropout[slot] = _value_or(member.dropout, self._models.fused.settings.dropout)
        rates.seed[slot], rates.limit[slot] = training.seed, training.limit

    def epoch(self) -> None:
        """Train every model for one epoch, compute its validation loss, keep its weights where it is the best."""
        sums = self._train()
        validation = self.mean_losses()
        rates = learning_rate_at(self._state.step, self._rates, self._models.train).numpy()
        for slot, training in enumerate(self.trainings):
            if training is None:
                continue
            training.steps = int(self._state.step[slot])
            total, count = sums[slot]
            loss, validation_loss = float(total / count) if count else 0.0, float(validation[slot])
            epoch, smoothed = len(training.history) + 1, smoothed_loss(training.history, validation_loss)
            training.history.append(
                EpochRecord("train", epoch, training.steps, float(rates[slot]), loss, validation_loss, smoothed)
            )
            if not np.isfinite(loss) or np.isinf(validation_loss):
                training.failure = f"training diverged: the loss is {loss} at step {training.steps}"
                continue
            training.waited += 1
            if np.isnan(validation_loss) or smoothed < training.best_loss:
                training.weights = unstack_weights(self._state.weights, slot)
                training.best_steps, training.best_loss, training.waited = training.steps, smoothed, 0

    def ended(self, late: bool) -> Iterator[_Training]:
        """Remove the models that are done from their slots."""
        for slot, training in enumerate(self.trainings):
            if training is None:
                continue
            over = training.waited >= self._models.train.patience or training.steps >= training.limit
            if over or late or training.failure is not None:
                self.trainings[slot] = None
                self._rates.limit[slot] = 0
                yield training

    def _train(self) -> np.ndarray:
        """Steps of one epoch; the loss of each model, summed, and its count, `[M, 2]`."""
        sampling = self._windows.sampling
        epochs = [
            None if one is None else self._windows.training(one.member.series, one.seed, len(one.history))
            for one in self.trainings
        ]
        step_bytes = self._models.fused.window_bytes * sampling.batch_size * len(epochs)
        call_steps = max(1, min(sampling.steps_per_epoch, _CALL_BYTES // step_bytes))
        sums = np.zeros((len(epochs), 2))
        for first in range(0, sampling.steps_per_epoch, call_steps):
            steps = min(call_steps, sampling.steps_per_epoch - first)
            part = slice(first * sampling.batch_size, (first + call_steps) * sampling.batch_size)
            chosen = [None if one is None else (one[0][part], one[1][part]) for one in epochs]
            shape = (len(epochs), call_steps, sampling.batch_size)
            inputs, target = tf.nest.map_structure(
                lambda one, shape=shape: np.moveaxis(one.reshape(*shape, *one.shape[2:]), 1, 0),
                self._gather(chosen, call_steps * sampling.batch_size),
            )
            state, more = self._models.steps.train(self._state, self._rates, inputs, target, tf.constant(steps))
            self._state = tf.nest.map_structure(np.array, state)
            sums += more.numpy()
        return sums

    def mean_losses(self) -> np.ndarray:
        """Validation losses, `[M]`; NaN where nothing counts, infinity where the forecasts are non-finite."""
        size = self._windows.sampling.batch_size
        validation = [None if one is None else one.validation for one in self.trainings]
        longest = max((len(one.series) for one in validation if one is not None), default=0)
        sums = np.zeros((len(validation), 2))
        for first in range(0, longest, size):
            part = slice(first, first + size)
            chosen = [None if one is None else (one.series[part], one.cutoff[part]) for one in validation]
            weight = np.zeros((len(validation), size), np.float32)
            for slot, one in enumerate(validation):
                if one is not None:
                    weight[slot, : len(one.weight[part])] = one.weight[part]
            sums += self._models.steps.loss(self._state.weights, *self._gather(chosen, size), weight).numpy()
        total, count = sums.T
        mean = np.where(np.isnan(total), np.inf, total / np.where(count > 0, count, 1))
        return np.where(count > 0, mean, np.nan)

    def _gather(
        self, chosen: Sequence[tuple[np.ndarray, np.ndarray] | None], size: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Normalised windows of each slot, filled up to one size with windows that do not count.

        A window that is drawn several times, as happens in short series, is cut and normalised once.

        Args:
            chosen: Series and cutoff of each slot's windows.
            size: Windows per slot.

        Returns:
            Inputs of the network, each `[M, size, ...]`, and targets, `[M, size, H]`.
        """
        indices = np.full((2, len(chosen), size), -1, np.int64)
        for slot, pair in enumerate(chosen):
            if pair is not None:
                indices[:, slot, : len(pair[0])] = pair
        flat = indices.reshape(2, -1)
        code = flat[0] * (flat[1].max() + 2) + flat[1]
        _, where, back = np.unique(code, return_index=True, return_inverse=True)
        missing = flat[0, where] < 0
        series, cutoff = np.where(missing, 0, flat[:, where])
        inputs, target = self._models.steps.normalise(*self._windows.cut(series, cutoff))
        target = np.where(missing[:, None], np.float32(np.nan), target)
        return tf.nest.map_structure(
            lambda one: np.asarray(one)[back].reshape(len(chosen), size, *one.shape[1:]), (inputs, target)
        )


def _value_or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
