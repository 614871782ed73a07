"""The machine to a strategy."""

import pytest
import tensorflow as tf

from dist_lstm.config.schema import ResourceSettings
from dist_lstm.errors import UserError
from dist_lstm.train.devices import describe_devices, make_strategy


def test_without_a_gpu_everything_runs_on_the_cpu():
    assert not tf.config.list_physical_devices("GPU")
    for gpus in ("auto", 0):
        strategy = make_strategy(ResourceSettings(gpus=gpus))
        assert strategy.num_replicas_in_sync == 1
        assert not isinstance(strategy, tf.distribute.MirroredStrategy)


def test_more_gpus_than_there_are_is_the_users_mistake():
    with pytest.raises(UserError, match=r"resources\.gpus: 3 asked for, 0 visible"):
        make_strategy(ResourceSettings(gpus=3))


def test_the_devices_are_named():
    assert {one["name"]: one["type"] for one in describe_devices()} == {"CPU:0": "CPU"}
