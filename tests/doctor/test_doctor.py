"""The doctor told the facts of sick machines, and let loose on this one."""

import json

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rich.console import Console

from dist_lstm.doctor import machine as doctor
from dist_lstm.doctor.check import Check, as_json, has_problem, show_checks
from dist_lstm.doctor.machine import (
    check_build,
    check_cpus,
    check_device,
    check_driver,
    check_folder,
    check_memory,
    check_shared_memory,
    check_speed,
    check_version,
)
from dist_lstm.doctor.speed import Speed
from dist_lstm.hardware import GIB, MIB, Driver

NO_DRIVER, DRIVER = Driver(None, {}), Driver("550.54.15", {"NVIDIA H200": 144_384})
CUDA = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}


@pytest.mark.parametrize(
    ("check", "state", "shown"),
    [
        (check_version("tensorflow", "2.21.0", ">=2.21,<3"), "ok", ["2.21.0"]),
        (check_version("tensorflow", "2.22.0rc1", ">=2.21,<3"), "ok", ["2.22.0rc1"]),
        (check_version("tensorflow", "2.15.1", ">=2.21,<3"), "problem", ["2.15.1", ">=2.21,<3", "uv sync"]),
        (check_version("pandas", "4.0", ">=3,<4"), "problem", ["4.0"]),
        (check_version("pandas", None, ">=3,<4"), "problem", ["not installed", "uv sync"]),
        (check_version("ray", None, ">=2.54,<3", "tune"), "warning", ["not installed", "tune only", "uv sync"]),
        (check_version("ray", "1.0", ">=2.54,<3", "tune"), "problem", ["1.0"]),
        (check_driver(NO_DRIVER, 0, False), "ok", ["no NVIDIA driver; runs on the CPU"]),
        (check_driver(DRIVER, 1, False), "ok", ["550.54.15"]),
        (check_driver(DRIVER, 0, False), "problem", ["550.54.15", "sees no GPU", "uv sync --extra gpu"]),
        (check_driver(DRIVER, 0, True), "warning", ["CUDA_VISIBLE_DEVICES hides every GPU"]),
        (check_driver(Driver(None, {}, "NVML: failed"), 0, False), "warning", ["NVML: failed"]),
        (check_build(CUDA, DRIVER), "ok", ["CUDA 12.5.1", "cuDNN 9"]),
        (check_build({"is_cuda_build": False}, NO_DRIVER), "ok", ["without CUDA"]),
        (check_build({"is_cuda_build": False}, DRIVER), "problem", ["without CUDA", "uv sync --extra gpu"]),
        (check_memory(16 * GIB, 8 * GIB), "ok", ["16.0 GiB, 8.0 GiB available"]),
        (check_memory(16 * GIB, 4 * GIB - 1), "warning", ["train.batch_size"]),
        (check_memory(GIB, 900 * MIB), "warning", ["1.0 GiB, 0.9 GiB available"]),
        (check_memory(16 * GIB, None), "ok", ["available unknown"]),
        (check_cpus(1.5, 8), "ok", ["1.5 usable of 8"]),
        (check_folder("disk", "/w", 10 * GIB, "", "move"), "ok", ["/w: 10.0 GiB free"]),
        (check_folder("disk", "/w", 10 * GIB - 1, "", "move"), "warning", ["free disk space, or move"]),
        (check_folder("disk", "/w", GIB - 1, "", "move"), "problem", ["free disk space, or move"]),
        (check_folder("disk", "/w", 99 * GIB, "Read-only", "move"), "problem", ["can't be written: Read-only"]),
        (check_shared_memory(None), "ok", ["none"]),
        (check_shared_memory(8 * GIB), "ok", ["8.0 GiB"]),
        (check_shared_memory(64 * MIB), "warning", ["0.06 GiB", "--shm-size"]),
        (check_speed(Speed(False, False, 2000.0, None)), "ok", ["2,000 windows/s", "no cuDNN on a CPU"]),
        (check_speed(Speed(True, True, 90000.0, 3000.0)), "ok", ["90,000", "3,000", "through cuDNN"]),
        (check_speed(Speed(True, False, 3000.0, 3000.0)), "problem", ["no CudnnRNNV3", "uv sync --extra gpu"]),
    ],
    ids=lambda value: f"{value.name}: {value.value}" if isinstance(value, Check) else "",
)
def test_the_facts_of_a_machine_give_a_state_and_what_to_do(check, state, shown):
    assert check.state == state
    assert [part for part in shown if part not in f"{check.value} {check.advice}"] == []
    assert bool(check.advice) == (state != "ok")


def test_a_gpu_is_shown_with_model_capability_and_memory():
    device = {"name": "GPU:0", "type": "GPU", "model": "NVIDIA H200", "compute_capability": "9.0"}
    shown = "NVIDIA H200, compute capability 9.0, 141.0 GiB"
    assert check_device(device, DRIVER.memory_mib) == Check("GPU:0", shown)
    assert check_device(device | {"compute_capability": ""}, {}).value.endswith("unknown, memory unknown")


def test_a_check_that_fails_is_a_problem_with_the_error_and_keeps_earlier_checks():
    def failing():
        yield Check("a", "fine")
        raise OSError("no such\ndevice")

    before, problem = doctor._attempt("devices", failing)
    assert before == Check("a", "fine")
    assert (problem.name, problem.value, problem.state) == ("devices", "OSError: no such device", "problem")
    assert problem.advice


def test_a_folder_that_can_not_be_written_is_refused(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    [check] = doctor._folder("working directory", tmp_path, "move")
    assert check.state == "problem"
    assert "Permission denied" in check.value


@pytest.mark.parametrize("state", ["ok", "warning", "problem"])
def test_the_overall_state_is_the_worst_state_of_a_check(state):
    checks = [Check("a", "1"), Check("b", "2", state, "do"), Check("c", "3")]
    assert has_problem(checks) == (state == "problem")
    assert as_json(checks)["state"] == state
    assert as_json([Check("w", "", "warning", "do"), Check("p", "", "problem", "do")])["state"] == "problem"


def test_the_table_fits_80_columns_cuts_nothing_and_says_what_to_do(capsys):
    long = "/a" * 60
    checks = [Check("disk", f"{long}: 5 GiB free", "warning", "free the disk"), Check("CPUs", "2")]
    show_checks(checks, Console(width=80, soft_wrap=True))
    table, _, advice = capsys.readouterr().out.partition("└")
    assert {len(line) for line in table.splitlines()} == {80}
    cells = [line.split("│")[2].strip() for line in table.splitlines() if line.startswith("│")]
    assert "".join(cells).startswith(long)
    assert advice.splitlines()[1:] == ["warning: disk: free the disk"]


@pytest.mark.parametrize(("state", "status"), [("ok", 0), ("warning", 0), ("problem", 1)])
def test_only_a_problem_gives_status_1(call, monkeypatch, state, status):
    monkeypatch.setattr(doctor, "examine", lambda cluster: [Check("a", "1"), Check("b", "2", state, "replace it")])
    actual, out, err = call("doctor")
    assert (actual, err) == (status, "")
    assert ("replace it" in out) == (state != "ok")
    assert call("doctor", "-q") == (status, "", "")


@pytest.fixture
def without_ray(monkeypatch):
    """A machine that lacks Ray, and a training step that takes no time to measure."""
    installed = doctor.metadata.version

    def version(name: str) -> str:
        if name == "ray":
            raise doctor.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor, "measure_speed", lambda: Speed(False, False, 2000.0, None))


@pytest.mark.parametrize(("cluster", "state"), [(False, "warning"), (True, "problem")])
def test_a_missing_ray_is_a_problem_only_where_a_cluster_is_checked(without_ray, cluster, state):
    checks = [check for check in doctor.examine(cluster) if check.name == "ray"]
    assert [(check.value, check.state) for check in checks] == [("not installed", state)]
    assert "uv sync" in checks[0].advice


def test_checking_a_cluster_needs_ray(call, without_ray):
    assert call("doctor")[0] == 0
    status, out, _ = call("doctor", "--address", "http://192.0.2.1:8265")
    assert status == 1
    assert "problem: ray: " in out


def test_a_source_tree_that_is_not_installed_is_checked_against_its_own_version_bounds(monkeypatch):
    installed = doctor._declared()

    def metadata(name: str):
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "metadata", metadata)
    python, packages = doctor._declared()
    assert SpecifierSet(python) == SpecifierSet(installed[0])
    assert bounds(packages) == bounds(installed[1])


def bounds(lines: list[str]) -> dict[str, SpecifierSet]:
    """By package, without those of extras."""
    requirements = [one for one in map(Requirement, lines) if one.marker is None]
    return {canonicalize_name(one.name): one.specifier for one in requirements}


def test_this_machine_is_checked_from_end_to_end(call):
    status, out, err = call("doctor", "--json")
    assert err == ""
    report = json.loads(out)
    names = [check["name"] for check in report["checks"]]
    for name in ("Python", "tensorflow", "ray", "CPU:0", "NVIDIA driver", "memory", "working directory"):
        assert name in names
    assert status == (report["state"] == "problem")
    training = report["checks"][-1]
    assert training["name"] == "training step"
    assert training["state"] == "ok", training
    assert "windows/s" in training["found"]
