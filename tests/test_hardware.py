"""Facts of machines that are written down as files."""

from types import SimpleNamespace

import pynvml
import pytest

from dist_lstm import hardware
from dist_lstm.hardware import GIB, MIB, Driver, cpus, memory, nvidia_driver

MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1 kB\nMemAvailable:   8388608 kB\nHugePages_Total:   0\n"


@pytest.fixture
def make_root(tmp_path):
    """A root folder with these files in it."""

    def make(files: dict[str, str]):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_without_a_limit_the_memory_of_the_machine_counts(make_root):
    assert memory(make_root({"proc/meminfo": MEMINFO})) == (16 * GIB, 8 * GIB)


def test_a_limit_of_cgroup_2_counts_and_idle_file_cache_is_available(make_root):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/user/job\n",
        "sys/fs/cgroup/user/job/memory.max": f"{3 * GIB}\n",
        "sys/fs/cgroup/user/job/memory.current": f"{2 * GIB}\n",
        "sys/fs/cgroup/user/job/memory.stat": f"anon 5\ninactive_file {512 * MIB}\n",
        "sys/fs/cgroup/user/memory.max": "max\n",
    }
    assert memory(make_root(files)) == (3 * GIB, GIB + 512 * MIB)


def test_a_limit_of_an_enclosing_cgroup_counts(make_root):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/user/job\n",
        "sys/fs/cgroup/user/job/memory.max": "max\n",
        "sys/fs/cgroup/user/memory.max": f"{2 * GIB}\n",
        "sys/fs/cgroup/user/memory.current": f"{GIB}\n",
    }
    assert memory(make_root(files)) == (2 * GIB, GIB)


def test_a_limit_of_cgroup_1_counts_where_a_container_does_not_show_the_path(make_root):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {100 * MIB}\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    root = make_root(files)
    assert memory(root) == (GIB, 100 * MIB)
    assert cpus(root)[0] == 0.5


@pytest.mark.parametrize(("text", "share"), [("50000 100000", 0.5), ("max 100000", None)])
def test_a_quota_of_cgroup_2_counts(make_root, monkeypatch, text, share):
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    root = make_root({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": text})
    assert cpus(root) == (share or 3, 8)


def test_a_quota_of_minus_1_is_no_limit(make_root, monkeypatch):
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    files = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}
    root = make_root({"proc/self/cgroup": "5:cpu:/\n"} | {f"sys/fs/cgroup/cpu/{k}": v for k, v in files.items()})
    assert cpus(root)[0] == 2


class TestDriver:
    @pytest.fixture
    def nvml(self, monkeypatch):
        """An NVML that knows one GPU, or fails at one of its functions."""

        def install(failing: str | None = None, code: int = pynvml.NVML_ERROR_UNKNOWN) -> None:
            def answer(name: str, value: object):
                def function(*_: object) -> object:
                    if name == failing:
                        raise pynvml.NVMLError(code)
                    return value

                return function

            answers = {
                "nvmlInit": None,
                "nvmlShutdown": None,
                "nvmlDeviceGetCount": 1,
                "nvmlDeviceGetHandleByIndex": object(),
                "nvmlDeviceGetName": "NVIDIA H200",
                "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=143771 * MIB),
                "nvmlSystemGetDriverVersion": "570.10",
            }
            for name, value in answers.items():
                monkeypatch.setattr(pynvml, name, answer(name, value))

        return install

    def test_without_nvml_and_the_kernel_module_there_is_no_driver(self, nvml, tmp_path):
        nvml("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        assert nvidia_driver(tmp_path) == Driver(None, {})

    def test_the_kernel_modules_version_is_used_where_nvml_is_missing(self, nvml, make_root):
        nvml("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar\nGCC version: 12\n"
        driver = nvidia_driver(make_root({"proc/driver/nvidia/version": text}))
        assert driver == Driver("550.54.15", {}, "its library libnvidia-ml.so.1 is missing")

    def test_nvml_gives_version_and_memory(self, nvml, tmp_path):
        nvml()
        assert nvidia_driver(tmp_path) == Driver("570.10", {"NVIDIA H200": 143771})

    @pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetMemoryInfo"])
    def test_an_error_of_nvml_is_quoted(self, nvml, tmp_path, failing):
        nvml(failing)
        assert nvidia_driver(tmp_path) == Driver(None, {}, "NVML: Unknown Error")
