"""The progress of a training, which a checkpoint holds beside the variables; and its result."""

from dataclasses import dataclass, field
from typing import Any

import keras

from dist_lstm.train.monitor import EpochRecord, Speed


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        step: Steps taken so far.
        epoch: Complete epochs.
        sums: Sums over the steps of this epoch, as `dist_lstm.train.step` defines them.
        skipped: Steps of complete epochs that were not taken because their loss was non-finite.
        best_steps: Steps after which the smoothed validation loss was lowest.
        best_loss: That loss; NaN where nothing is validated.
        waited: Epochs since then.
        seconds: Seconds of training so far, over all restarts.
        late: Whether they exceed its share of `train.budget`.
        halved: Whether it went back to a checkpoint at half the learning rate.
        speed: Its throughput.
        history: The epochs so far.
    """

    step: int = 0
    epoch: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)
    skipped: int = 0
    best_steps: int = 0
    best_loss: float = float("inf")
    waited: int = 0
    seconds: float = 0.0
    late: bool = False
    halved: bool = False
    speed: Speed = field(default_factory=Speed)
    history: list[EpochRecord] = field(default_factory=list)

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "Progress":
        """Make it from plain values, as `asdict` gives them."""
        history = [EpochRecord(**record) for record in values["history"]]
        return cls(**values | {"speed": Speed(**values["speed"]), "history": history})


@dataclass(frozen=True)
class Fitted:
    """The result of a training.

    Attributes:
        model: The model with its best weights.
        steps: Steps after which the smoothed validation loss was lowest; all steps where there was no validation.
        validation_loss: That loss, in units of scale; NaN without validation windows.
        stopped_early: Whether patience ended the training.
        out_of_time: Whether its share of `train.budget` ended it.
        skipped: Steps that were not taken because their loss was non-finite.
        speed: Its throughput.
        history: Its epochs.
        seconds: Seconds that it took, over all restarts.
    """

    model: keras.Model
    steps: int
    validation_loss: float
    stopped_early: bool
    out_of_time: bool
    skipped: int
    speed: Speed
    history: list[EpochRecord]
    seconds: float = 0.0

    def describe(self) -> dict[str, Any]:
        """Its entry in `metrics.json`."""
        names = ("steps", "validation_loss", "stopped_early", "out_of_time")
        counts = {"skipped_steps": self.skipped, "parameters": self.model.count_params()}
        return {name: getattr(self, name) for name in names} | counts

    @property
    def summary(self) -> str:
        """Steps and speed in a few words."""
        ended = ", stopped early" if self.stopped_early else ", out of time" if self.out_of_time else ""
        skipped = f", {self.skipped} not taken: non-finite loss" if self.skipped else ""
        wait = self.speed.input_wait_share
        waited = "" if wait is None else f", input wait {wait:.1%}"
        return f"{self.steps} steps{ended}{skipped}, {self.speed.windows_per_second:,.0f} windows/s{waited}"
