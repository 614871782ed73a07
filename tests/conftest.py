"""Fixtures of all tests. Two logical CPUs stand for two GPUs; that must be said before TensorFlow starts."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def two_cpus():
    """A MirroredStrategy over two logical CPUs."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real series, which a user's clone does not have."""
    folder = Path(os.environ.get("DIST_LSTM_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real series at {folder}; set DIST_LSTM_DATA")
    return folder


def pytest_configure() -> None:
    """Split the CPU in two before any test starts TensorFlow's runtime."""
    import dist_lstm.train  # noqa: F401 (imports TensorFlow quietly)
    import tensorflow as tf  # isort: skip

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
