"""The machine to a strategy."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.schema import ResourceSettings
from dist_lstm.errors import UserError
from dist_lstm.hardware import Driver
from dist_lstm.train import devices
from dist_lstm.train.devices import describe_devices, make_strategy, peak_memory, resolve_precision


def test_without_a_gpu_everything_runs_on_the_cpu():
    assert not tf.config.list_physical_devices("GPU")
    for gpus in ("auto", 0):
        strategy = make_strategy(ResourceSettings(gpus=gpus))
        assert strategy.num_replicas_in_sync == 1
        assert not isinstance(strategy, tf.distribute.MirroredStrategy)


class TestAGpuThatIsNotSeen:
    """On a machine with a driver, the run does not fall back to the CPU without a word."""

    SAID = (
        "I0000 00:00:1.2   12 cudart_stub.cc:31] Could not find cuda drivers on your machine.\n"
        "W0000 00:00:1.3   12 gpu_device.cc:2345] Cannot dlopen some GPU libraries. Make sure they are there.\n"
        "Skipping registering GPU devices...\n"
    )

    @pytest.fixture
    def warnings(self, monkeypatch, caplog):
        """What is said by a process with a driver and without a GPU."""

        def warnings(said: str, gpus: int | str, driver: str | None = "570.10") -> list[str]:
            devices._warn_of_unseen_gpus.cache_clear()
            monkeypatch.setattr(devices, "start_tensorflow", lambda: said)
            monkeypatch.setattr(devices, "nvidia_driver", lambda: Driver(driver, {}))
            make_strategy(ResourceSettings(gpus=gpus))
            make_strategy(ResourceSettings(gpus=gpus))
            return [record.getMessage() for record in caplog.records]

        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return warnings

    def test_is_said_once_with_tensorflows_reason(self, warnings):
        reason = "Cannot dlopen some GPU libraries. Make sure they are there."
        expected = f"a GPU driver is present, but TensorFlow sees no GPU: {reason}"
        assert warnings(self.SAID, "auto") == [expected]

    def test_is_said_without_a_reason_too(self, warnings):
        assert "it does not say why" in warnings("", "auto")[0]

    def test_is_nothing_to_be_said_where_none_is_there_or_asked_for(self, warnings, monkeypatch):
        assert warnings(self.SAID, "auto", driver=None) == []
        assert warnings(self.SAID, 0) == []
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        assert warnings(self.SAID, "auto") == []


def test_more_gpus_than_there_are_is_the_users_mistake():
    with pytest.raises(UserError, match=r"resources\.gpus: 3 asked for, 0 visible"):
        make_strategy(ResourceSettings(gpus=3))


def test_a_process_that_has_started_tensorflow_on_a_gpu_can_train_on_it(monkeypatch):
    gpu, asked = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU"), []

    def refuse(device, enable):
        asked.append((device, enable))
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    assert make_strategy(ResourceSettings(gpus=1)).num_replicas_in_sync == 1
    assert asked == [(gpu, True)]


def test_the_devices_are_named():
    assert {one["name"]: one["type"] for one in describe_devices()} == {"CPU:0": "CPU"}


@pytest.mark.slow
def test_the_peak_of_memory_is_that_of_this_process_and_does_not_fall():
    before = peak_memory()
    held = np.ones(before // 8 + (1 << 25))  # more than ever was in use
    assert peak_memory() >= held.nbytes
    del held
    after = peak_memory()
    # What a parent had in use is none of its child's.
    text = "from dist_lstm.train.devices import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", text], capture_output=True, check=True).stdout)
    assert 1 << 26 < child < after


@pytest.mark.slow
def test_threads_are_limited_before_tensorflow_starts_and_can_not_be_afterwards():
    text = """
from dist_lstm.train.devices import make_strategy
from dist_lstm.config.schema import ResourceSettings
from dist_lstm.errors import UserError
from dist_lstm.hardware import Driver
from dist_lstm.train import devices
import tensorflow as tf
make_strategy(ResourceSettings(threads=1))
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
tf.zeros(1) + 1
make_strategy(ResourceSettings(threads=1))
try:
    make_strategy(ResourceSettings(threads=2))
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, text=True)
    assert done.stdout == "1 1\nresources.threads: can't be changed after TensorFlow started in this process\n"


@pytest.mark.parametrize(("precision", "rounded"), [("auto", True), ("tf32", True), ("float32", False)])
def test_tf32_is_switched_with_the_precision(precision, rounded):
    make_strategy(ResourceSettings(), precision)
    assert tf.config.experimental.tensor_float_32_execution_enabled() == rounded
    make_strategy(ResourceSettings())
    # There is no GPU to round on.
    assert resolve_precision(precision) == {"auto": "float32"}.get(precision, precision)
