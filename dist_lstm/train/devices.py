"""From the machine to a strategy. Called before any layer is built, which starts TensorFlow's runtime."""

import logging
import os
import platform
import random
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.schema import ResourceSettings
from dist_lstm.config.training import TrainSettings
from dist_lstm.errors import UserError
from dist_lstm.hardware import gpus_are_hidden, nvidia_driver
from dist_lstm.model.cudnn import uses_cudnn
from dist_lstm.startup import start_tensorflow
from dist_lstm.train.process_group import process_rank
from dist_lstm.version import __version__

#: The part of a log line in which TensorFlow says why it sees no GPU, after the position in its sources.
_REASON = re.compile(r"\] (.*(?:dlopen|cuda drivers|cuInit|CUDA_ERROR).*)")
_log = logging.getLogger("dist_lstm")
_PACKAGES = ("tensorflow", "keras", "ray", "numpy", "pyarrow", "pandas")


def make_strategy(resources: ResourceSettings, precision: str = "auto", nodes: int = 1) -> tf.distribute.Strategy:
    """Make the strategy for the part of the machine that a job may use.

    Args:
        resources: GPUs and threads.
        precision: `train.precision`; TensorFloat-32 is switched for the whole process.
        nodes: Nodes that train together, this one among them; the environment's TF_CONFIG names them.

    Returns:
        A MultiWorkerMirroredStrategy over several nodes; a MirroredStrategy over two GPUs or more of one;
        TensorFlow's default strategy, which costs nothing, on one GPU or the CPU.

    Raises:
        UserError: If fewer GPUs are visible than asked for, TensorFlow has started with another choice, or
            this process is not a worker of several nodes.
    """
    if nodes > 1 and "TF_CONFIG" not in os.environ:
        raise UserError(
            "resources.nodes",
            f"{nodes} nodes are used by dist-lstm run and train",
            "everything else trains on one: set it to 1",
        )
    _limit_threads(resources.threads)
    tf.config.experimental.enable_tensor_float_32_execution(precision in ("auto", "tf32"))
    gpus = resources.gpus
    visible = tf.config.list_physical_devices("GPU")
    if gpus != 0 and not visible:
        _warn_of_unseen_gpus()
    count = len(visible) if gpus == "auto" else gpus
    if count > len(visible):
        raise UserError(
            "resources.gpus", f"{count} asked for, {len(visible)} visible", "lower it or set it to auto"
        )
    if count < len(visible):
        try:
            tf.config.set_visible_devices(visible[:count], "GPU")
        except RuntimeError as error:
            raise UserError(
                "resources.gpus", "can't be changed after TensorFlow started in this process"
            ) from error
    for device in visible[:count]:
        # A process that used TensorFlow before, such as a notebook, goes on taking memory as it began.
        with suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(device, True)
    if nodes > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if count > 1:
        return tf.distribute.MirroredStrategy([f"GPU:{number}" for number in range(count)])
    return tf.distribute.get_strategy()


@cache
def _warn_of_unseen_gpus() -> None:
    """Warn once per process that a machine with a GPU is used without it, and why."""
    driver = nvidia_driver()
    if driver.version is None or gpus_are_hidden():
        return
    reasons = _REASON.findall(start_tensorflow()) or ["it does not say why; -v shows all that it says"]
    _log.warning("a GPU driver is present, but TensorFlow sees no GPU: %s", reasons[-1])


def _limit_threads(threads: int | Literal["auto"]) -> None:
    count = 0 if threads == "auto" else threads  # 0 means all cores to TensorFlow
    if tf.config.threading.get_intra_op_parallelism_threads() == count:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise UserError(
            "resources.threads", "can't be changed after TensorFlow started in this process"
        ) from error


def peak_memory() -> int:
    """Peak bytes in use so far: on the GPU where one is used, of the process otherwise."""
    used = [
        tf.config.experimental.get_memory_info(f"GPU:{number}")["peak"]
        for number in range(len(tf.config.get_visible_devices("GPU")))
    ]
    return max(used) if used else _peak_of_process()


def _peak_of_process() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent had in use when it started this process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if platform.system() == "Darwin" else used * 1024


def resolve_precision(precision: str) -> str:
    """What `train.precision` is on this machine: `auto` is tf32 on a GPU, float32 on a CPU."""
    if precision == "auto":
        return "tf32" if tf.config.get_visible_devices("GPU") else "float32"
    return precision


@contextmanager
def generators_restored() -> Iterator[None]:
    """Restore the global generators of Python and NumPy, from which Keras draws seeds of layers, after the block.

    TensorFlow's global seed can't be read, and so can't be restored.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def seeded(seed: int, deterministic: bool) -> Iterator[None]:
    """Seed weights and dropout of a model that is built in the block, and choose deterministic ops if asked for.

    Args:
        seed: The seed.
        deterministic: Whether every op of this process must give the same result bit for bit.

    Yields:
        Nothing.
    """
    with generators_restored():
        keras.utils.set_random_seed(seed)
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        yield


def describe_devices() -> list[dict[str, Any]]:
    """The devices TensorFlow uses in this process.

    Returns:
        Name and type of each; for a GPU its model and compute capability as well.
    """
    described = []
    for device in tf.config.get_visible_devices():
        entry: dict[str, Any] = {"name": device.name.removeprefix("/physical_device:"), "type": device.device_type}
        if device.device_type == "GPU":
            details = tf.config.experimental.get_device_details(device)
            entry["model"] = details.get("device_name", "unknown")
            entry["compute_capability"] = ".".join(map(str, details.get("compute_capability", ())))
        else:
            entry["model"] = platform.processor() or platform.machine()
        described.append(entry)
    return described


def describe_environment(
    strategy: tf.distribute.Strategy, model: keras.Model, settings: TrainSettings
) -> dict[str, Any]:
    """The environment that a model is trained in.

    Args:
        strategy: The strategy it is trained under.
        model: The model.
        settings: Settings of the training.

    Returns:
        `versions` of the packages by name, `machine` (`system` and `processor`), `devices` of this node, the
        number of `nodes` and of `replicas`, the `precision`, whether the model takes the `cudnn` path, and
        `peak_memory_mib`.
    """
    versions = {"dist_lstm": __version__, "python": platform.python_version()}
    return {
        "versions": versions | {name: _version(name) for name in _PACKAGES},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "devices": describe_devices(),
        "nodes": process_rank(strategy)[1],
        "replicas": strategy.num_replicas_in_sync,
        "precision": resolve_precision(settings.precision),
        "cudnn": uses_cudnn(model),
        "peak_memory_mib": peak_memory() >> 20,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
