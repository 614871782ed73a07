"""Fixtures of all tests. Two logical CPUs stand for two GPUs; that must be said before TensorFlow starts."""

import os
import sys
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


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine alone, started by the command's own function; one for all tests of a module."""
    from dist_lstm.jobs.session import join_cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with join_cluster() as joined:
            yield joined


#: Folders of tests that start Rays; two Rays at a time would meet at the ports of their agents.
RAYS = ("tests/fleet/", "tests/jobs/", "tests/search/", "tests/storage/")


def pytest_xdist_make_scheduler(config, log):
    """With several workers, one runs the tests of `RAYS`; the others take those of one file at a time.

    The groups of xdist 3.8 itself have no effect with pytest 9.2.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "rays" if nodeid.startswith(RAYS) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(config, items) -> None:
    """With several workers, what takes longest is first: `RAYS`, which have one worker, and files that train."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (not item.nodeid.startswith(RAYS), not item.nodeid.startswith("tests/train/")))


@pytest.fixture
def call(capfd, monkeypatch):
    """Run the command line in this process: exit status, stdout, stderr."""
    from dist_lstm.cli import main as cli

    def run_main(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dist-lstm", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    return run_main


def pytest_configure(config) -> None:
    """Split the CPU in two before any test starts TensorFlow's runtime, where tests are run."""
    if config.getoption("numprocesses", None):
        return
    from dist_lstm.startup import start_tensorflow

    start_tensorflow()
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
