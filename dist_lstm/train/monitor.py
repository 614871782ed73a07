"""What a training run shows and writes: progress, `history.csv`, TensorBoard files, input wait."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dist_lstm.layout import RunLayout
from dist_lstm.storage import send, write_text
from dist_lstm.train.devices import peak_memory

#: Epochs over which the validation loss is averaged.
_SMOOTHED = 3


@dataclass(frozen=True)
class EpochRecord:
    """One row of `history.csv`; every column is the same in every run with the same seed.

    Attributes:
        phase: `train` (up to the validation range) or `refit` (whole series).
        epoch: Number, from 1.
        step: Steps so far in this phase.
        learning_rate: At the end of the epoch.
        loss: Mean training loss of the epoch, in units of scale.
        validation_loss: Mean over series of their mean loss on the validation windows, in units of scale; NaN
            where there are none.
        smoothed_loss: Mean of the validation losses of this epoch and the two before it, on which the number of
            steps is chosen; NaN where there are none, and in checkpoints of version 0.1.0.
    """

    phase: str
    epoch: int
    step: int
    learning_rate: float
    loss: float
    validation_loss: float
    smoothed_loss: float = float("nan")


def smoothed_loss(history: Sequence[EpochRecord], loss: float) -> float:
    """Mean of the validation losses of the last epochs, less noisy than a single one.

    Args:
        history: The epochs before.
        loss: Validation loss of the epoch that ended; NaN where nothing is validated.

    Returns:
        The mean over up to three epochs.

    Example:
        >>> smoothed_loss([EpochRecord("train", 1, 5, 0.1, 1.0, 3.0)], 1.0)
        2.0
    """
    last = [*(record.validation_loss for record in history[1 - _SMOOTHED :]), loss]
    return sum(last) / len(last)


@dataclass
class Speed:
    """Throughput of a phase; the first call of a process, which traces the graph, is left out.

    Attributes:
        batch_size: Windows per step.
        seconds: Seconds in training steps.
        steps: Steps in that time.
        waited: Seconds of that time in which the next batch was waited for.
        timed: Whether waiting is measured.
    """

    batch_size: int = 0
    timed: bool = True
    seconds: float = 0.0
    steps: int = 0
    waited: float = 0.0

    def add(self, seconds: float, steps: int, waited: float) -> None:
        """Count a call of several steps."""
        self.seconds += seconds
        self.steps += steps
        self.waited += waited

    @property
    def windows_per_second(self) -> float:
        """Windows trained on per second; 0 where nothing was counted."""
        return self.steps * self.batch_size / self.seconds if self.seconds else 0.0

    @property
    def steps_per_second(self) -> float:
        """Steps per second; 0 where nothing was counted."""
        return self.steps / self.seconds if self.seconds else 0.0

    @property
    def input_wait_share(self) -> float | None:
        """Share of the time in which input was waited for; None where that is not measured."""
        if not self.timed:
            return None
        return self.waited / self.seconds if self.seconds else 0.0

    def describe(self) -> dict[str, float | None]:
        """Its entry in `environment.json`."""
        wait = self.input_wait_share
        return {
            "windows_per_second": round(self.windows_per_second, 1),
            "steps_per_second": round(self.steps_per_second, 2),
            "input_wait_share": None if wait is None else round(wait, 4),
        }


class _Bar(Progress):
    """A bar, and a line below it."""

    below = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar and the line."""
        yield self.make_tasks_table(self.tasks)
        yield Text(self.below, overflow="ellipsis", no_wrap=True)


class Monitor:
    """Follows one training run.

    Args:
        folder: The run directory.
        console: Where progress is shown.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        self._bar: _Bar | None = None
        self._task: Any = None
        self._cudnn = False
        self._speed = ""

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's files."""
        return RunLayout(self._folder).tensorboard

    @contextmanager
    def phase(self, name: str, steps: int, cudnn: bool) -> Iterator[None]:
        """Show the progress of a phase: a bar on a terminal, else one line per epoch.

        Args:
            name: What is being done.
            steps: Steps at most.
            cudnn: Whether the model runs through cuDNN.

        Yields:
            Nothing.
        """
        if not self._console.is_terminal:
            self._console.print(f"{name}: up to {steps} steps")
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            # Short: where the line is full, an echoed ^C wraps, and the bar is no longer erased.
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} {task.fields[loss]}"),
            TimeRemainingColumn(compact=True),
        )
        self._cudnn = cudnn
        with _Bar(*columns, console=self._console, transient=True) as bar:
            self._bar, self._task = bar, bar.add_task(name, total=steps, loss="")
            try:
                yield
            finally:
                self._bar = None

    def print(self, line: str) -> None:
        """Print a line."""
        self._console.print(line)

    def step(self, step: int, loss: float, speed: Speed) -> None:
        """Show the progress of training.

        Args:
            step: Steps so far.
            loss: Mean loss of the last call.
            speed: Throughput so far.
        """
        self._speed = f"  {speed.windows_per_second:,.0f} windows/s" if speed.steps else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=f"loss {loss:.4f}")
            if speed.steps:
                wait = speed.input_wait_share
                waited = "" if wait is None else f"  input wait {wait:.0%}"
                self._bar.below = (
                    f"{self._speed}  {speed.steps_per_second:,.1f} steps/s{waited}  "
                    f"{'' if self._cudnn else 'no '}cuDNN  {peak_memory() / 2**30:.1f} GiB"
                )

    def epoch(self, record: EpochRecord) -> None:
        """Print the numbers of an epoch where there is no bar."""
        if not self._console.is_terminal:
            is_number = record.validation_loss == record.validation_loss
            validation = f"  validation {record.validation_loss:.4f}" if is_number else ""
            self._console.print(f"  step {record.step}  loss {record.loss:.4f}{validation}{self._speed}")

    def close(self, history: Sequence[EpochRecord]) -> None:
        """Write `history.csv` and the TensorBoard files.

        Args:
            history: All epochs.
        """
        names = [field.name for field in fields(EpochRecord)]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(record) for record in history)
        write_text(RunLayout(self._folder).history, text.getvalue())
        self._write_tensorboard(history)

    def _write_tensorboard(self, history: Sequence[EpochRecord]) -> None:
        from tensorboardX import SummaryWriter

        # What an earlier attempt left would be drawn beside it.
        for file in self.tensorboard.glob("events.*"):
            file.unlink()
        with SummaryWriter(str(self.tensorboard)) as writer:
            for record in history:
                for name in ("loss", "validation_loss", "smoothed_loss", "learning_rate"):
                    value = getattr(record, name)
                    if value == value:
                        writer.add_scalar(f"{record.phase}/{name}", value, record.step)
        send(self.tensorboard)
