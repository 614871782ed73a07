"""Checks of this machine, each with what to do where it fails.

Each check is a function from plain facts to a `Check`; `examine` gathers the facts. A check that raises is
reported as a problem, without a traceback.
"""

import platform
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dist_lstm.doctor.check import Check
from dist_lstm.doctor.speed import Speed, measure_speed
from dist_lstm.errors import UserError
from dist_lstm.hardware import GIB, KIB, Driver, cpus, gpus_are_hidden, memory, nvidia_driver
from dist_lstm.jobs.session import socket_folder
from dist_lstm.startup import start_tensorflow
from dist_lstm.version import __version__

GPU_LIBRARIES = "uv sync --extra gpu"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (read, not written)
#: Packages that only some verbs or outputs need, and which.
_ONLY_FOR = {
    "ray": "tune, fleet, submit, jobs and training on several nodes",
    "optuna": "tune",
    "requests": "submit and jobs",
    "nvidia-ml-py": "the driver's version and the memory of GPUs",
}


def check_version(name: str, version: str | None, bounds: str, only_for: str = "") -> Check:
    """Whether a package lies inside the bounds that dist-lstm declares.

    Args:
        name: The package, or `Python`.
        version: Its version; None where it is not installed.
        bounds: Such as `>=2.21,<3`.
        only_for: What needs it, where the rest works without it; empty where everything needs it.

    Returns:
        A problem where it does not; a warning where it is not installed and not everything needs it.
    """
    if version is not None and SpecifierSet(bounds).contains(version, prereleases=True):
        return Check(name, version)
    if version is None and only_for:
        advice = f"needed for {only_for} only; `uv sync` installs {name} {bounds}"
        return Check(name, "not installed", "warning", advice)
    return Check(name, version or "not installed", "problem", f"{name} {bounds} is needed; `uv sync` installs it")


def check_device(device: dict[str, Any], memory_mib: dict[str, int]) -> Check:
    """A device as TensorFlow sees it.

    Args:
        device: An entry of `dist_lstm.train.devices.describe_devices`.
        memory_mib: Memory of a GPU by its model, MiB.

    Returns:
        Never a problem: `check_driver` reports GPUs that TensorFlow does not see.
    """
    facts = [str(device["model"])]
    if device["type"] == "GPU":
        facts.append(f"compute capability {device.get('compute_capability') or 'unknown'}")
        size = memory_mib.get(device["model"])
        facts.append(f"{size / KIB:.1f} GiB" if size else "memory unknown")
    return Check(device["name"], ", ".join(facts))


def check_driver(driver: Driver, gpus: int, hidden: bool) -> Check:
    """Whether TensorFlow sees the GPUs of the driver.

    Args:
        driver: The NVIDIA driver.
        gpus: GPUs that TensorFlow sees.
        hidden: Whether the environment hides them.

    Returns:
        A problem where there is a driver and no GPU is seen, a warning where GPUs are hidden on purpose or
        the driver does not answer.
    """
    name = "NVIDIA driver"
    version = driver.version or "no answer"
    if gpus:
        return Check(name, version)
    if driver.complaint:
        return Check(
            name,
            f"{version}; {driver.complaint}",
            "warning",
            "runs on the CPU; to use a GPU, load or reinstall the driver until nvidia-smi works",
        )
    if driver.version is None:
        return Check(name, "no NVIDIA driver; runs on the CPU")
    unseen = f"{version}, but TensorFlow sees no GPU"
    if hidden:
        advice = "CUDA_VISIBLE_DEVICES hides every GPU; unset it to use them"
        return Check(name, unseen, "warning", advice)
    return Check(name, unseen, "problem", f"install TensorFlow's CUDA libraries: `{GPU_LIBRARIES}`")


def check_build(info: dict[str, Any], driver: Driver) -> Check:
    """What TensorFlow was built with.

    Args:
        info: The answer of `tf.sysconfig.get_build_info`.
        driver: The NVIDIA driver.

    Returns:
        A problem where there is a driver and TensorFlow was built without CUDA.
    """
    name = "TensorFlow build"
    if info.get("is_cuda_build"):
        versions = [info.get(f"{one}_version") or "unknown" for one in ("cuda", "cudnn")]
        return Check(name, f"for CUDA {versions[0]}, cuDNN {versions[1]}")
    if driver.version is None:
        return Check(name, "without CUDA")
    advice = f"install a TensorFlow that was built with CUDA: `{GPU_LIBRARIES}`"
    return Check(name, "without CUDA", "problem", advice)


def check_memory(total: int, available: int | None) -> Check:
    """Whether there is enough memory.

    Args:
        total: Bytes this process may use.
        available: Bytes not in use; None where the system does not say.

    Returns:
        A warning with less than 4 GiB available.
    """
    free = total if available is None else available
    text = "available unknown" if available is None else f"{available / GIB:.1f} GiB available"
    value = f"{total / GIB:.1f} GiB, {text}"
    if free >= 4 * GIB:
        return Check("memory", value)
    advice = (
        "close other programs or raise the container's limit, or lower train.batch_size and data.memory_budget"
    )
    return Check("memory", value, "warning", advice)


def check_cpus(usable: float, installed: int) -> Check:
    """CPUs that this process may use, and CPUs installed."""
    return Check("CPUs", f"{usable:g} usable of {installed}")


def check_folder(name: str, folder: str, free: int, failure: str, advice: str) -> Check:
    """Whether a folder can be written and its disk has free space.

    Args:
        name: What the folder is for.
        folder: Its path.
        free: Bytes free on its disk.
        failure: Why it can't be written; empty where it can.
        advice: How to use another folder.

    Returns:
        A problem where it can't be written or less than 1 GiB is free, a warning below 10 GiB.
    """
    if failure:
        return Check(name, f"{folder}: can't be written: {failure}", "problem", advice)
    value = f"{folder}: {free / GIB:,.1f} GiB free"
    if free >= 10 * GIB:
        return Check(name, value)
    return Check(name, value, "problem" if free < GIB else "warning", f"free disk space, or {advice}")


def check_shared_memory(size: int | None) -> Check:
    """Whether `/dev/shm` has space for Ray's objects.

    Args:
        size: Its size, bytes; None where the system has none (macOS).

    Returns:
        A warning below 1 GiB.
    """
    if size is None:
        return Check(_SHARED_MEMORY, "none on this system")
    if size >= GIB:
        return Check(_SHARED_MEMORY, f"{size / GIB:.1f} GiB")
    advice = "Ray falls back to the slower /tmp; start the container with --shm-size=4g"
    return Check(_SHARED_MEMORY, f"{size / GIB:.2f} GiB", "warning", advice)


def check_speed(speed: Speed) -> Check:
    """Whether training runs through cuDNN, and how fast it is.

    Args:
        speed: The measurement.

    Returns:
        A problem where there is a GPU and the training graph does not hold cuDNN's op.
    """
    name = "training step"
    rate = f"{speed.windows_per_second:,.0f} windows/s"
    if not speed.on_gpu:
        return Check(name, f"{rate}; no cuDNN on a CPU")
    if speed.without_cudnn is not None:
        rate += f", {speed.without_cudnn:,.0f} with use_cudnn=False"
    if speed.cudnn:
        return Check(name, f"{rate}; through cuDNN")
    advice = f"Keras did not choose cuDNN, training is slow; reinstall the libraries: `{GPU_LIBRARIES}`"
    return Check(name, f"{rate}; no CudnnRNNV3 in the graph", "problem", advice)


def _attempt(name: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from checks()
    except UserError as error:
        yield Check(name, error.what, "problem", error.advice)
    except Exception as error:  # noqa: BLE001 (a check that fails is a result)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        yield Check(name, text, "problem", "this check failed to run; correct the error and run the doctor again")


def examine(cluster: bool = False) -> list[Check]:
    """Check this machine; takes about 15 seconds, mostly to start TensorFlow.

    Args:
        cluster: Whether it will work with a Ray cluster, so that missing Ray is a problem.

    Returns:
        The checks, in the order in which they are shown.
    """
    parts = {
        "versions": lambda: _versions({} if cluster else _ONLY_FOR),
        "devices": _devices,
        "memory": lambda: iter([check_memory(*memory())]),
        "CPUs": lambda: iter([check_cpus(*cpus())]),
        "working directory": lambda: _folder("working directory", Path.cwd(), "change to another directory"),
        "temporary directory": lambda: _folder(
            "temporary directory", Path(tempfile.gettempdir()), "set TMPDIR to another directory"
        ),
        "Ray's sockets": lambda: iter([Check("Ray's sockets", f"in {socket_folder()}")]),
        _SHARED_MEMORY: _shared_memory,
        "training step": lambda: iter([check_speed(measure_speed())]),
    }
    return [check for name, checks in parts.items() for check in _attempt(name, checks)]


def _versions(only_for: Mapping[str, str]) -> Iterator[Check]:
    yield Check("dist-lstm", __version__)
    python, packages = _declared()
    yield check_version("Python", platform.python_version(), python)
    for line in packages:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                installed = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                installed = None
            yield check_version(
                requirement.name, installed, str(requirement.specifier), only_for.get(requirement.name, "")
            )


def _declared() -> tuple[str, list[str]]:
    """Bounds on Python, and required packages, of the installed package or else of the source tree."""
    try:
        return metadata.metadata("dist-lstm")["Requires-Python"], metadata.requires("dist-lstm") or []
    except metadata.PackageNotFoundError:
        source = Path(__file__).parents[2] / "pyproject.toml"
        project = tomllib.loads(source.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], project["dependencies"]


def _devices() -> Iterator[Check]:
    driver = nvidia_driver()
    start_tensorflow()
    import tensorflow as tf

    from dist_lstm.train.devices import describe_devices

    devices = describe_devices()
    for device in devices:
        yield check_device(device, driver.memory_mib)
    gpus = sum(device["type"] == "GPU" for device in devices)
    yield check_driver(driver, gpus, gpus_are_hidden())
    yield check_build(tf.sysconfig.get_build_info(), driver)


def _folder(name: str, folder: Path, advice: str) -> Iterator[Check]:
    failure = ""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        failure = error.strerror or str(error)
    yield check_folder(name, str(folder), shutil.disk_usage(folder).free, failure, advice)


def _shared_memory() -> Iterator[Check]:
    folder = Path(_SHARED_MEMORY)
    yield check_shared_memory(shutil.disk_usage(folder).total if folder.is_dir() else None)
