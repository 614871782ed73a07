"""What a training run shows and keeps: progress, `history.csv`, TensorBoard files, input wait."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dist_lstm.storage import write_text


@dataclass(frozen=True)
class EpochRecord:
    """One row of `history.csv`; every column is the same in every run with the same seed.

    Attributes:
        phase: `train` (up to the validation range) or `refit` (whole series).
        epoch: Number, from 1.
        step: Steps so far in this phase.
        learning_rate: At the end of the epoch.
        loss: Mean training loss of the epoch, in units of scale.
        validation_loss: On the validation windows, in units of scale; NaN where there are none.
    """

    phase: str
    epoch: int
    step: int
    learning_rate: float
    loss: float
    validation_loss: float


@dataclass
class Speed:
    """How fast a phase is; the first call, which traces the graph, is left out.

    Attributes:
        batch_size: Windows a step.
        seconds: Time in training steps.
        steps: Steps in that time.
        waited: Seconds of that time in which the next batch was waited for.
    """

    batch_size: int
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
        """Windows trained on in a second; 0 where nothing was counted."""
        return self.steps * self.batch_size / self.seconds if self.seconds else 0.0

    @property
    def input_wait_share(self) -> float:
        """Share of the time in which input was waited for; 0 where nothing was counted."""
        return self.waited / self.seconds if self.seconds else 0.0


class Monitor:
    """Follows one training run.

    Args:
        folder: The run directory.
        console: Where progress is shown.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        self.history: list[EpochRecord] = []
        self._progress: Progress | None = None
        self._task: Any = None
        self._speed = ""

    @contextmanager
    def phase(self, name: str, steps: int) -> Iterator[None]:
        """Show the progress of a phase: a bar on a terminal, else a line an epoch.

        Args:
            name: What is being done.
            steps: Steps at most.

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
            BarColumn(bar_width=16),
            TextColumn("{task.completed}/{task.total} {task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            self._progress, self._task = progress, progress.add_task(name, total=steps, numbers="")
            try:
                yield
            finally:
                self._progress = None

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line)

    def step(self, step: int, loss: float, windows_per_second: float) -> None:
        """Show where training is.

        Args:
            step: Steps so far.
            loss: Mean loss of the last call.
            windows_per_second: Speed so far; 0 where it is not known yet.
        """
        self._speed = f"  {windows_per_second:,.0f} windows/s" if windows_per_second else ""
        if self._progress is not None:
            self._progress.update(self._task, completed=step, numbers=f"loss {loss:.4f}{self._speed}")

    def epoch(self, record: EpochRecord) -> None:
        """Keep the numbers of an epoch; print them where there is no bar."""
        self.history.append(record)
        if not self._console.is_terminal:
            known = record.validation_loss == record.validation_loss
            validation = f"  validation {record.validation_loss:.4f}" if known else ""
            self._console.print(f"  step {record.step}  loss {record.loss:.4f}{validation}{self._speed}")

    def close(self) -> None:
        """Write `history.csv` and the TensorBoard files."""
        names = [field.name for field in fields(EpochRecord)]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(record) for record in self.history)
        write_text(self._folder / "history.csv", text.getvalue())
        self._write_tensorboard()

    def _write_tensorboard(self) -> None:
        from tensorboardX import SummaryWriter

        with SummaryWriter(str(self._folder / "tensorboard")) as writer:
            for record in self.history:
                for name in ("loss", "validation_loss", "learning_rate"):
                    value = getattr(record, name)
                    if value == value:
                        writer.add_scalar(f"{record.phase}/{name}", value, record.step)
