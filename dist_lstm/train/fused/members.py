"""One of many small models that are trained as one graph: what it is trained on, and the result.

Axes: N series.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist_lstm.train.monitor import EpochRecord


@dataclass(frozen=True)
class Member:
    """One of the models.

    Attributes:
        name: The series' id, or the group's name; its seed is derived from it.
        series: Indices of its series in the panel, `[N]`.
        steps: Maximum number of steps; None for `train.max_steps`. The learning rate decays over them.
        learning_rate: None for `train.learning_rate`.
        weight_decay: None for `train.weight_decay`.
        dropout: None for `model.dropout`.
        weights: First weights, in the order of `get_weights()`; None for weights drawn by its seed.
    """

    name: str
    series: np.ndarray
    steps: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    weights: Sequence[np.ndarray] | None = None


@dataclass(frozen=True)
class FittedMember:
    """The result of the training of one model.

    Attributes:
        name: The member's name.
        weights: Its best weights, for `set_weights` of `FusedModels.ordinary`; the last good ones where it failed.
        steps: Steps after which the smoothed validation loss was lowest; all steps where there was no validation.
        validation_loss: That loss, in units of scale; NaN without validation windows.
        stopped_early: Whether patience ended the training.
        out_of_time: Whether `train.budget` ended it.
        failure: Why it is not usable; None for a usable model.
        history: Its epochs.
    """

    name: str
    weights: list[np.ndarray]
    steps: int
    validation_loss: float
    stopped_early: bool
    out_of_time: bool
    failure: str | None
    history: tuple[EpochRecord, ...]
