"""What `auto` leaves to be measured: a batch that fills the machine, a learning rate that trains."""

import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.errors import UserError
from dist_lstm.train import measure as measuring
from dist_lstm.train.measure import Workload
from dist_lstm.train.phases import Training


def measure(training: Training) -> dict[str, float]:
    """What is measured for a training, by dotted key."""
    before = training.config.train
    workload = Workload(training.shards, training.task, training.strategy)
    after = measuring.measure(training.config, workload, training.monitor.print).train
    assert {type(after.batch_size), type(after.learning_rate)} == {int, float}
    names = [name for name in ("batch_size", "learning_rate") if getattr(before, name) == "auto"]
    return {f"train.{name}": getattr(after, name) for name in names}


def speeds(monkeypatch: pytest.MonkeyPatch, windows_per_second: dict[int, float]) -> list[int]:
    """The sizes tried, on a machine that trains so many windows per second at each; memory ends after the last."""
    tried: list[int] = []

    def steps_per_second(_: object, batches: object, __: object) -> float:
        size = len(next(batches)[1])
        tried.append(size)
        if size not in windows_per_second:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return windows_per_second[size] / size

    monkeypatch.setattr(measuring, "_steps_per_second", steps_per_second)
    return tried


def test_what_is_given_is_not_measured(work):
    assert measure(work()) == {}


@pytest.mark.parametrize(
    ("machine", "chosen"),
    [
        ({64: 100, 128: 190, 256: 350, 512: 360, 1024: 1000}, 256),  # twice as many are not worth it
        ({64: 100, 128: 190, 256: 350}, 256),  # memory ends
        ({64: 100, 128: 100}, 64),
    ],
)
def test_the_batch_is_doubled_as_long_as_that_trains_more_windows_a_second(work, monkeypatch, machine, chosen):
    tried = speeds(monkeypatch, machine)
    training = work(batch_size="auto")
    assert measure(training) == {"train.batch_size": chosen}
    assert tried == [64 * 2**n for n in range(len(tried))]
    assert f"measured  train.batch_size {chosen}\n" in training.monitor._console.file.getvalue()


def test_a_batch_can_be_divided_into_its_parts(work, monkeypatch):
    tried = speeds(monkeypatch, {66: 100, 132: 150, 264: 150})
    assert measure(work(batch_size="auto", accumulate=3)) == {"train.batch_size": 132}
    assert tried == [66, 132, 264]


def test_a_machine_that_no_batch_fits_is_the_users_error(work, monkeypatch):
    speeds(monkeypatch, {})
    with pytest.raises(UserError, match=r"train\.batch_size: not even 64 windows fit into memory"):
        measure(work(batch_size="auto"))


def test_the_learning_rate_is_a_tenth_of_the_one_with_the_least_loss_in_a_rising_sweep(work, monkeypatch):
    """The loss falls until the rate is 0.02, then rises to many times its least."""
    rates: list[float] = []

    class TrainState:
        def set_rate(self, rate: float) -> None:
            rates.append(rate)

    def train_steps(*_: object) -> tuple:
        loss = 3.0 - 2.9 * min(rates[-1] / 0.02, 1) if rates[-1] <= 0.02 else 50.0
        return tf.constant(1), tf.constant([loss * 8, 8.0, 0, 0, 0], tf.float64)

    monkeypatch.setattr(measuring, "_start", lambda *_: (TrainState(), train_steps))
    result = measure(work(learning_rate="auto"))["train.learning_rate"]
    assert 0.0015 < result < 0.0025
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e5) / 99, rtol=1e-6)
    assert rates[0] == pytest.approx(1e-5)
    assert 0.02 < rates[-1] < 0.05


def test_a_loss_that_is_no_number_from_the_start_is_the_users_error(work, monkeypatch):
    class TrainState:
        def set_rate(self, rate: float) -> None:
            pass

    none = tf.constant([0.0, 0.0, 0.0, 1.0, 1.0], tf.float64)
    monkeypatch.setattr(measuring, "_start", lambda *_: (TrainState(), lambda *_: (tf.constant(1), none)))
    with pytest.raises(UserError, match=r"train\.learning_rate: no rate trains"):
        measure(work(learning_rate="auto"))


@pytest.mark.slow
def test_both_are_measured_on_real_steps(work):
    training = work(batch_size="auto", learning_rate="auto", max_steps=2, steps_per_epoch=1)
    result = measure(training)
    assert result.keys() == {"train.batch_size", "train.learning_rate"}
    assert result["train.batch_size"] % 64 == 0
    assert 1e-6 <= result["train.learning_rate"] <= 0.1
