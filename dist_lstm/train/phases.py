"""The two trainings of a run: up to the validation range, and on whole series."""

from pathlib import Path
from typing import Any

from dist_lstm.config.schema import Config
from dist_lstm.config.section import known
from dist_lstm.config.task import Task
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.sampling import TrainingWindows, make_draw
from dist_lstm.data.stream import distribute, training_dataset, validation_windows
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.devices import set_seed
from dist_lstm.train.fit import Fitted, Phase, fit
from dist_lstm.train.monitor import Monitor


def train_phase(
    shards: tuple[Path, Manifest],
    config: Config,
    task: Task,
    strategy: Any,
    monitor: Monitor,
    refit_steps: int | None = None,
) -> Fitted:
    """Train a model from its first weights.

    Args:
        shards: Folder and manifest.
        config: Resolved.
        task: The task of both.
        strategy: The strategy to train under.
        monitor: Follows the training.
        refit_steps: Steps to train on whole series; None to train on the training range and choose the
            number of steps on the validation range.

    Returns:
        The trained model, and how training went.
    """
    settings, whole = config.train, refit_steps is not None
    batch_size = known(settings.batch_size)
    set_seed(settings.seed, settings.deterministic)
    windows = TrainingWindows(*shards, task, make_draw(config, whole))
    validation = None if whole else validation_windows(*shards, task, batch_size, settings.seed)
    if validation is not None:
        monitor.say(
            f"windows   {windows.windows:,} to train on, of {windows.series:,} series; "
            f"{validation.used:,} of {validation.available:,} to validate on"
        )
    phase = Phase(
        name="refit" if whole else "train",
        steps=refit_steps or known(settings.max_steps),
        batches=lambda: distribute(lambda: training_dataset(windows), strategy, batch_size),
        validation=validation.batches if validation and validation.used else None,
    )
    loss = head_loss(config.model.head, task)
    return fit(lambda: build_model(task, config.model), loss, settings, strategy, phase, monitor)
