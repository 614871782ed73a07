"""The training loop: early stopping, best weights, checkpoints, divergence."""

import csv
import io
import itertools
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from dist_lstm.config.training import TrainSettings
from dist_lstm.errors import UserError
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train import fit as training_loop
from dist_lstm.train import trainer
from dist_lstm.train.checkpoint import Checkpoints
from dist_lstm.train.fit import Phase, fit
from dist_lstm.train.monitor import Monitor
from dist_lstm.train.progress import Fitted
from dist_lstm.train.step import make_mean_loss
from dist_lstm.train.trainer import make_trainer
from tests.conftest import ROOT
from tests.model.test_lstm import TASK, settings
from tests.train.test_step import BATCH, batches, fragile, windows

LOSS = head_loss("quantile", TASK)


def batches_from(epoch: int, batch: int) -> Iterator[Any]:
    """The same endless batches whatever the epoch; epochs have 5."""
    return iter(batches().repeat().skip(5 * epoch + batch))


def run(
    folder: Path, validation: Any, text: io.StringIO | None = None, after_epoch: Any = None, **changes: Any
) -> Fitted:
    """Train, from the checkpoints of the folder on."""
    values = {"batch_size": BATCH, "max_steps": 30, "steps_per_epoch": 5, "learning_rate": 0.02, "warmup_steps": 0}
    train = TrainSettings.model_validate(values | changes)
    keras.utils.set_random_seed(train.seed)
    monitor = Monitor(folder, Console(file=text or io.StringIO(), width=80))
    checkpoints = Checkpoints(folder, "train", train.keep_checkpoints, monitor.print)
    phase = Phase("train", train.max_steps, batches_from, validation, checkpoints, after_epoch)
    trainer = make_trainer(lambda: build_model(TASK, settings()), LOSS, train, tf.distribute.get_strategy())
    fitted = fit(trainer, phase, monitor)
    monitor.close(fitted.history)
    return fitted


def validation() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """Random targets, so that training longer makes the loss worse."""
    y, target = windows(2)
    for first in (0, BATCH):
        yield {"y": y[first : first + BATCH][:, ::-1]}, target[first : first + BATCH], np.ones(BATCH)


def smoothed(losses: list[float]) -> list[float]:
    """Of each epoch the mean of its loss and the two before."""
    return [float(np.mean(losses[max(end - 3, 0) : end])) for end in range(1, len(losses) + 1)]


def test_the_weights_kept_are_those_with_the_least_smoothed_validation_loss(tmp_path):
    fitted = run(tmp_path, validation)
    losses = [record.validation_loss for record in fitted.history]
    assert [record.smoothed_loss for record in fitted.history] == pytest.approx(smoothed(losses))
    best = int(np.argmin(smoothed(losses)))
    assert fitted.steps == fitted.history[best].step
    assert fitted.validation_loss == fitted.history[best].smoothed_loss
    assert make_mean_loss(fitted.model, LOSS)(validation()) == pytest.approx(losses[best], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_callback_is_called_after_every_epoch_once_its_checkpoint_is_written_and_changes_nothing(tmp_path, ema):
    calls = []

    def after_epoch(model: keras.Model, record: Any, best: bool) -> None:
        [newest, *_] = sorted((tmp_path / "callback" / "checkpoints").iterdir(), reverse=True)
        loss = make_mean_loss(model, LOSS)(validation())
        calls.append((record, best, loss, int(newest.stem.split("-")[1])))

    # A clock and a number of steps that never come: a checkpoint is written for the callback only.
    rarely = {"checkpoint_every": None, "checkpoint_seconds": None, "ema": ema, "deterministic": False}
    plain = run(tmp_path / "plain", validation, **rarely)
    fitted = run(tmp_path / "callback", validation, after_epoch=after_epoch, **rarely)
    assert [record for record, *_ in calls] == fitted.history
    assert [step for *_, step in calls] == [5, 10, 15, 20, 25, 30]
    losses = [record.validation_loss for record in fitted.history]
    assert [loss for _, _, loss, _ in calls] == pytest.approx(losses, rel=1e-6), "the weights that were validated"
    means = smoothed(losses)
    assert [best for _, best, *_ in calls] == [mean == min(means[: n + 1]) for n, mean in enumerate(means)]
    assert (tmp_path / "callback" / "history.csv").read_bytes() == (
        tmp_path / "plain" / "history.csv"
    ).read_bytes()
    for one, two in zip(plain.model.get_weights(), fitted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_epoch_with_a_low_loss_among_bad_ones_is_not_chosen(tmp_path, monkeypatch):
    losses = iter([5.0, 4.0, 3.0, 2.9, 0.5, 4.0, 6.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(trainer, "make_mean_loss", lambda *_: lambda _: next(losses))
    fitted = run(tmp_path, validation, max_steps=50)
    assert (fitted.steps, fitted.validation_loss) == (50, 2.0)


def test_patience_ends_a_training_that_does_not_get_better(tmp_path):
    fitted = run(tmp_path, validation, max_steps=400, patience=2, learning_rate=0.2)
    assert fitted.stopped_early
    assert fitted.history[-1].step == fitted.steps + 2 * 5 < 400


def test_without_validation_all_steps_are_taken(tmp_path):
    fitted = run(tmp_path, None)
    assert fitted.steps == 30
    assert not fitted.stopped_early
    assert np.isnan(fitted.validation_loss)
    assert [record.step for record in fitted.history] == [5, 10, 15, 20, 25, 30]


def test_an_epoch_that_does_not_divide_the_steps_ends_with_a_short_one(tmp_path):
    fitted = run(tmp_path, None, max_steps=12)
    assert [record.step for record in fitted.history] == [5, 10, 12]


def test_a_non_finite_loss_ends_the_training_with_advice(tmp_path):
    def broken() -> keras.Model:
        model = build_model(TASK, settings())
        model.set_weights([np.full_like(one, np.inf) for one in model.get_weights()])
        return model

    monitor = Monitor(tmp_path, Console(file=io.StringIO()))
    phase = Phase("train", 20, batches_from, None, Checkpoints(tmp_path, "train", 3, monitor.print))
    train = TrainSettings(batch_size=BATCH, max_steps=20, learning_rate=1.0)
    with pytest.raises(UserError, match=r"diverged.*lower train.learning_rate \(1.0\)"):
        fit(make_trainer(broken, LOSS, train, tf.distribute.get_strategy()), phase, monitor)


ENDLESS = """
import io, sys
from pathlib import Path
import numpy as np
from rich.console import Console
from dist_lstm.train.fit import Phase, fit  # first: imports TensorFlow quietly
from dist_lstm.train.trainer import make_trainer
import tensorflow as tf
from dist_lstm.config.training import TrainSettings
from dist_lstm.errors import UserError
from dist_lstm.train.checkpoint import Checkpoints
from dist_lstm.train.monitor import Monitor
from dist_lstm.train.progress import Fitted
from tests.train.test_fit import LOSS, build_model, settings, TASK
from tests.train.test_step import BATCH

def batches():
    while True:
        y = np.arange(BATCH * 12, dtype=np.float32).reshape(BATCH, 12)
        yield {"y": y}, np.ones((BATCH, 4), np.float32)

def broken():
    model = build_model(TASK, settings())
    model.set_weights([np.full_like(one, np.inf) for one in model.get_weights()])
    return model

spec = ({"y": tf.TensorSpec((BATCH, 12))}, tf.TensorSpec((BATCH, 4)))
endless = tf.data.Dataset.from_generator(batches, output_signature=spec)
endless = endless.prefetch(10**6)  # still fetching at the end
phase = Phase("train", 20, lambda *start: iter(endless), None, Checkpoints(Path(sys.argv[1]), "train", 3, print))
train = TrainSettings(batch_size=BATCH, max_steps=20, learning_rate=1e-3)
try:
    fit(make_trainer(broken, LOSS, train, tf.distribute.get_strategy()), phase,
        Monitor(Path(sys.argv[1]), Console(file=io.StringIO())))
except UserError as error:
    kept = error  # and with it every local variable of fit
    print(error)
"""


@pytest.mark.slow
def test_a_process_whose_training_fails_in_the_middle_of_endless_input_ends(tmp_path):
    command = [sys.executable, "-c", ENDLESS, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "training diverged" in done.stdout


class StoppedError(Exception):
    """Stands for the end of a process."""


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch, act: Any = None) -> None:
    """Stop every training that reaches a number of steps."""
    show = Monitor.step

    def stopping(self: Monitor, step: int, *numbers: Any) -> None:
        show(self, step, *numbers)
        if step == steps:
            if act is not None:
                act()
                return
            raise StoppedError

    monkeypatch.setattr(Monitor, "step", stopping)


@pytest.mark.parametrize(
    ("changes", "stops"),
    [
        pytest.param({}, (3, 8, 22), marks=pytest.mark.slow),
        pytest.param({"ema": 0.9, "checkpoint_every": 4}, (7, 15), marks=pytest.mark.same_bytes),
        pytest.param({"patience": 1, "learning_rate": 0.2}, (9,), marks=pytest.mark.slow),
        pytest.param({"precision": "float16", "accumulate": 2}, (11,), marks=pytest.mark.slow),
    ],
    ids=["several times", "with an average", "before it stops early", "in half precision"],
)
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, changes, stops):
    """Weights, history and choice are the same bit for bit; dropout is on."""
    settings_ = {"checkpoint_every": 2, "steps_per_call": 1} | changes
    whole = run(tmp_path / "whole", validation, **settings_)
    for stop in stops:
        with monkeypatch.context() as patch:
            stop_after(stop, patch)
            with pytest.raises(StoppedError):
                run(tmp_path / "parts", validation, **settings_)
    text = io.StringIO()
    parts = run(tmp_path / "parts", validation, text, **settings_)
    every = settings_["checkpoint_every"]
    assert f"train: going on from step {stops[-1] - (stops[-1] % every or every)}\n" in text.getvalue()
    assert (parts.steps, parts.validation_loss, parts.stopped_early) == (
        whole.steps,
        whole.validation_loss,
        whole.stopped_early,
    )
    for one, two in zip(whole.model.get_weights(), parts.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (tmp_path / "whole/history.csv").read_bytes() == (tmp_path / "parts/history.csv").read_bytes()


def test_a_training_that_is_done_is_not_trained_again(tmp_path):
    first = run(tmp_path, validation)
    text = io.StringIO()
    second = run(tmp_path, validation, text)
    assert (second.steps, second.validation_loss, second.history) == (
        first.steps,
        first.validation_loss,
        first.history,
    )
    assert second.speed == first.speed
    assert "  step" not in text.getvalue()
    for one, two in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def saved_steps(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_training_once_its_work_is_saved(tmp_path, monkeypatch, number):
    def handler(*_: Any) -> None:
        raise StoppedError

    before = signal.signal(number, handler)
    try:
        with monkeypatch.context() as patch:
            stop_after(13, patch, lambda: signal.raise_signal(number))
            with pytest.raises(StoppedError):
                run(tmp_path, validation, steps_per_call=1)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert saved_steps(tmp_path)[-1] == 13
    text = io.StringIO()
    assert run(tmp_path, validation, text).history[-1].step == 30
    assert "going on from step 13\n" in text.getvalue()


def test_checkpoints_are_written_by_the_clock_as_well(tmp_path):
    run(tmp_path, None, checkpoint_every=None, checkpoint_seconds=1e-9, steps_per_call=1, keep_checkpoints=4)
    assert saved_steps(tmp_path) == [27, 28, 29, 30]
    run(tmp_path / "rarely", None, checkpoint_every=20, checkpoint_seconds=None)
    assert saved_steps(tmp_path / "rarely") == [0, 20, 30]


def bad_from(epoch: int, batch: int, bad: set[int]) -> Iterator[Any]:
    """Batches, some of which have an enormous target."""
    for number in itertools.count(5 * epoch + batch):
        inputs, target = next(iter(batches().skip(number % 12)))
        yield inputs, tf.fill(target.shape, 1e30) if number in bad else target


def run_with_bad(folder: Path, bad: set[int], **changes: Any) -> tuple[Fitted, str]:
    """A training in which some batches have a non-finite loss."""
    values = {"batch_size": BATCH, "max_steps": 20, "steps_per_epoch": 5, "warmup_steps": 0, "max_bad_steps": 3}
    values |= {"learning_rate": 1e-3, "checkpoint_every": 4}
    train = TrainSettings.model_validate(values | changes)
    keras.utils.set_random_seed(train.seed)
    text = io.StringIO()
    monitor = Monitor(folder, Console(file=text, width=200))
    spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, next(iter(batches())))

    def sampling(*start: int) -> Iterator[Any]:
        return iter(tf.data.Dataset.from_generator(lambda: bad_from(*start, bad), output_signature=spec))

    phase = Phase("train", train.max_steps, sampling, None, Checkpoints(folder, "train", 3, monitor.print))
    trainer = make_trainer(lambda: build_model(TASK, settings()), fragile, train, tf.distribute.get_strategy())
    fitted = fit(trainer, phase, monitor)
    return fitted, text.getvalue()


def test_steps_whose_loss_is_no_number_are_not_taken_and_are_counted(tmp_path):
    fitted, _ = run_with_bad(tmp_path, {1, 2, 8, 17})
    assert fitted.skipped == 4
    assert fitted.describe()["skipped_steps"] == 4
    assert "4 not taken: non-finite loss" in fitted.summary
    assert np.isfinite([record.loss for record in fitted.history]).all()


def test_after_too_many_in_a_row_training_goes_back_to_its_checkpoint_at_half_the_learning_rate(
    tmp_path, monkeypatch
):
    """Here half the rate helps: the bad batches are gone the second time."""
    bad = {9, 10, 11}
    go_back = training_loop._Training.go_back_at_half_rate

    def mended(self: Any) -> None:
        bad.clear()
        go_back(self)

    monkeypatch.setattr(training_loop._Training, "go_back_at_half_rate", mended)
    fitted, text = run_with_bad(tmp_path, bad)
    assert "train: the loss is non-finite at step 12; back to step 8 at half the learning rate\n" in text
    assert [record.step for record in fitted.history] == [5, 10, 15, 20]
    rate = [record.learning_rate for record in fitted.history]
    schedule = [1e-3 * (1 + math.cos(math.pi * step / 20)) / 2 for step in (5, 10, 15, 20)]
    assert rate == pytest.approx([schedule[0], *(one / 2 for one in schedule[1:])], abs=1e-9)


def test_if_that_does_not_help_training_ends_with_advice(tmp_path):
    with pytest.raises(
        UserError, match="diverged: the loss is non-finite at step 12, at half the learning rate as"
    ):
        run_with_bad(tmp_path, {9, 10, 11})


@pytest.mark.slow
def test_the_same_seed_gives_the_same_history_byte_for_byte(tmp_path):
    for name, steps_per_call in (("one", "auto"), ("two", 3)):
        run(tmp_path / name, validation, steps_per_call=steps_per_call)
    assert (tmp_path / "one/history.csv").read_bytes() == (tmp_path / "two/history.csv").read_bytes()
    run(tmp_path / "three", validation, seed=2)
    assert (tmp_path / "one/history.csv").read_bytes() != (tmp_path / "three/history.csv").read_bytes()


def test_the_history_file_holds_every_epoch(tmp_path):
    fitted = run(tmp_path, validation)
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [record.step for record in fitted.history]
    assert [float(row["loss"]) for row in rows] == [record.loss for record in fitted.history]
    assert rows[0]["phase"] == "train"


def test_tensorboard_can_read_what_is_written(tmp_path):
    fitted = run(tmp_path, validation)
    (file,) = (tmp_path / "tensorboard").glob("events.*")
    values = {}
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        values |= {(one.tag, event.step): one.simple_value for one in event.summary.value}
    for record in fitted.history:
        assert values["train/validation_loss", record.step] == pytest.approx(record.validation_loss, rel=1e-6)


def test_without_a_terminal_progress_is_a_plain_line_an_epoch(tmp_path):
    text = io.StringIO()
    run(tmp_path, validation, text)
    lines = text.getvalue().splitlines()
    assert lines[0] == "train: up to 30 steps"
    assert [line.split("  ")[1] for line in lines[1:]] == [f"step {step}" for step in range(5, 31, 5)]
    assert "\x1b" not in text.getvalue()


def test_speed_counts_steps_after_the_first_call(tmp_path):
    fitted = run(tmp_path, None, steps_per_call=10)
    assert fitted.speed.steps == 25
    assert fitted.speed.windows_per_second == pytest.approx(25 * BATCH / fitted.speed.seconds)
    assert 0 <= fitted.speed.input_wait_share <= 1
