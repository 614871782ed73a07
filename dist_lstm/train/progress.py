"""Where a training stands: what a checkpoint holds beside the variables."""

from dataclasses import dataclass, field
from typing import Any

from dist_lstm.train.monitor import EpochRecord, Speed


@dataclass
class Progress:
    """Where a training stands, beside its variables.

    Attributes:
        step: Steps so far.
        epoch: Epochs that are complete.
        sums: Sums over the steps of this epoch, as `dist_lstm.train.step` defines them.
        skipped: Steps of the epochs before that were not taken because their loss was no number.
        best_steps: Steps after which the validation loss was best.
        best_loss: That loss; NaN where nothing is validated.
        waited: Epochs since.
        seconds: Seconds so far, of all processes that worked on it.
        late: Whether they are over.
        halved: Whether it went back to a checkpoint at half the learning rate.
        speed: How fast it is.
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
        """From plain values, as `asdict` gives them."""
        history = [EpochRecord(**record) for record in values["history"]]
        return cls(**values | {"speed": Speed(**values["speed"]), "history": history})
