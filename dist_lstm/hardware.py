"""The machine this process runs on: memory, CPUs, the NVIDIA driver.

A container may use less than the machine has: the limits of its cgroup (version 2 or 1) and of all parent
cgroups apply.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, and cgroup-v1/memory.html there.
"""

import os
from dataclasses import dataclass
from pathlib import Path

KIB, MIB, GIB = 2**10, 2**20, 2**30
_ROOT = Path("/")


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver, as NVML and the kernel describe it.

    Attributes:
        version: Version; None where there is no driver.
        memory_mib: Memory per GPU model, MiB; empty where the driver does not say.
        complaint: Why the driver does not answer; empty otherwise.
    """

    version: str | None
    memory_mib: dict[str, int]
    complaint: str = ""


def memory(root: Path = _ROOT) -> tuple[int, int | None]:
    """Memory this process may use.

    Args:
        root: Folder that holds `proc` and `sys`.

    Returns:
        Bytes in total and available; the second is None where the system does not say (macOS).
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    values = {name: int(value.split()[0]) * KIB for name, value in (line.split(":") for line in lines)}
    total, available = values["MemTotal"], values["MemAvailable"]
    for folder in _cgroups("memory", root):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if limit is not None:
            used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
            total, available = min(total, limit), min(available, limit - used + _idle_cache(folder))
    return total, max(available, 0)


def cpus(root: Path = _ROOT) -> tuple[float, int]:
    """CPUs this process may use.

    Args:
        root: Folder that holds `proc` and `sys`.

    Returns:
        CPUs it may use (a quota may be a fraction), and CPUs of the machine.
    """
    installed = os.cpu_count() or 1
    usable: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else installed
    for folder in _cgroups("cpu", root):
        period = _number(folder / "cpu.cfs_period_us")
        quota = _number(folder / "cpu.cfs_quota_us")  # -1: none
        if (folder / "cpu.max").exists():
            quota, period = _number(folder / "cpu.max"), _number(folder / "cpu.max", 1)
        if quota and period and quota > 0:
            usable = min(usable, quota / period)
    return usable, installed


def _cgroups(controller: str, root: Path) -> list[Path]:
    """Folders of this process' cgroup and of its parents; in a container some of them don't exist."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    result = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        inner = Path(path.strip("/"))
        result += [mount / one for one in dict.fromkeys((inner, *inner.parents, Path()))]
    return result


def _number(path: Path, index: int = 0) -> int | None:
    """A number in a file of the kernel; None for `max`, or where there is no such file."""
    try:
        word = path.read_text(encoding="utf-8").split()[index]
    except OSError:
        return None
    return None if word == "max" else int(word)


def _idle_cache(folder: Path) -> int:
    """Bytes of cached files that the kernel can free on demand; a cgroup counts them as used."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    values = dict(line.split() for line in lines)
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def nvidia_driver(root: Path = _ROOT) -> Driver:
    """The NVIDIA driver, queried through NVML, else from the kernel.

    Args:
        root: Folder that holds `proc`.

    Returns:
        The driver; its version is None where there is none.
    """
    loaded = None
    kernel = root / "proc/driver/nvidia/version"
    if kernel.exists():
        words = kernel.read_text(encoding="utf-8").splitlines()[0].split()
        loaded = next((word for word in words if word[0].isdigit()), "unknown")
    try:
        import pynvml
    except ImportError:
        return Driver(loaded, {}, complaint="nvidia-ml-py is not installed" if loaded else "")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return Driver(loaded, {}, complaint="its library libnvidia-ml.so.1 is missing" if loaded else "")
    except pynvml.NVMLError as error:
        return Driver(loaded, {}, complaint=f"NVML: {error}")
    try:
        devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        sizes = {pynvml.nvmlDeviceGetName(one): pynvml.nvmlDeviceGetMemoryInfo(one).total >> 20 for one in devices}
        return Driver(pynvml.nvmlSystemGetDriverVersion(), sizes)
    except pynvml.NVMLError as error:
        return Driver(loaded, {}, complaint=f"NVML: {error}")
    finally:
        pynvml.nvmlShutdown()


def gpus_are_hidden() -> bool:
    """Whether the environment hides every GPU from CUDA."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles")


def hide_gpus() -> None:
    """Hide every GPU from this process and the processes it starts; call it before TensorFlow is imported."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
