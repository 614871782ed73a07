"""The script for a short stay on a GPU machine: what it does about time, failures and what was measured before."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import bench_gpu
from benchmarks.bench_gpu import LIMITS, TOTAL, is_sound, measure_item, order, sees_gpu, show
from benchmarks.gpu import Job
from benchmarks.gpu.comparison import spread, summarise, take_turns
from benchmarks.gpu.goals import goals
from benchmarks.gpu.process import Worker, environment
from benchmarks.gpu.results import Results
from benchmarks.gpu.worker import ordered
from benchmarks.turns import Contender
from dist_lstm.hardware import Driver
from tests.conftest import ROOT

MACHINE = {"date": "2026-01-01", "commit": "a", "gpu": {"NVIDIA H200": 144_384}}
JOB = Job("steps", "folder", True, None)
#: Lines `first`, `second`, `third`; what happens at a line is said in the job's `torch`.
PROGRAM = """
import json, os, subprocess, sys, time
job = json.loads(sys.stdin.readline())
plan = json.loads(job["torch"])
def answer(**values):
    print(json.dumps(values), flush=True)
if plan.get("start") == "crash":
    sys.exit("no such library")
names = [name for name in ("first", "second", "third") if name not in job["skip"]]
for name in sorted(names, key=lambda name: name in job["last"]):
    answer(begin=name)
    if plan.get(name) == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(child.pid, file=open(plan["pid"], "w"), flush=True)
        os.rename(plan["pid"], plan["pid"] + ".told")
        time.sleep(600)
    if plan.get(name) == "crash":
        sys.exit("Traceback ...\\nRuntimeError: broken")
    answer(line=name, seconds=0.1, values={"order": job["skip"]})
answer(end=True)
"""


@pytest.fixture
def measure(tmp_path):
    """Measure the item `steps` by the program above, as a plan says; what was shown."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run(results: Results, plan: dict[str, str], limit: float = 60.0) -> str:
        text = io.StringIO()
        job = Job("steps", "folder", True, json.dumps(plan | {"pid": str(tmp_path / "pid")}))
        measure_item(job, results, limit, Console(file=text, width=120), lambda job: Worker(job, program))
        return text.getvalue()

    return run


def stored(path: Path) -> dict:
    return json.loads(path.read_text())["items"]["steps"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_limits_fit_a_short_stay_in_the_order_of_priority():
    assert sum(LIMITS.values()) <= TOTAL == 585
    assert list(LIMITS) == [
        "start", "cudnn", "quickstart", "steps", "fused", "precision", "mirrored", "forecasting",
    ]  # fmt: skip
    for item in (*LIMITS, bench_gpu.CAUSES):
        assert (ROOT / "benchmarks" / "gpu" / f"{item}.py").exists()
        assert f"| {item} |" in (bench_gpu.__doc__ or "")


def test_an_item_that_exceeds_its_limit_is_cut_and_marked_and_earlier_lines_are_in_the_file(measure, tmp_path):
    path = tmp_path / "gpu.json"
    begin = time.monotonic()
    shown = measure(Results(path, MACHINE), {"second": "hang"}, limit=5.0)
    assert time.monotonic() - begin < 30
    item = stored(path)
    assert item["state"] == "cut: second: time limit exceeded"
    assert item["lines"]["first"] == {"order": [], "seconds": 0.1}
    assert item["lines"]["second"]["cut"] == "time limit exceeded"
    assert "third" not in item["lines"]
    assert "second: cut time limit exceeded" in shown
    child = int((tmp_path / "pid.told").read_text())
    until = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < until, "what a worker started is ended with it"
        time.sleep(0.05)


def test_a_line_is_in_the_file_before_the_next_one_is_done(tmp_path, measure, monkeypatch):
    path, seen = tmp_path / "gpu.json", []
    monkeypatch.setattr(bench_gpu, "brief", lambda values: str(seen.append(list(stored(path)["lines"]))))
    measure(Results(path, MACHINE), {})
    assert seen == [["first"], ["first", "second"], ["first", "second", "third"]]


def test_a_line_that_fails_is_marked_with_its_reason_and_the_next_ones_are_measured(measure, tmp_path):
    path = tmp_path / "gpu.json"
    measure(Results(path, MACHINE), {"second": "crash"})
    item = stored(path)
    assert item["lines"]["second"]["failed"] == "RuntimeError: broken"
    assert item["lines"]["second"]["log"].endswith("RuntimeError: broken")
    assert item["lines"]["third"]["order"] == ["first", "second"]
    assert item["state"] == "done"
    assert Results(path, MACHINE).undone("steps") == ["second"]


def test_an_item_whose_process_does_not_start_has_the_error_as_its_state(measure, tmp_path):
    path = tmp_path / "gpu.json"
    measure(Results(path, MACHINE), {"start": "crash"})
    assert stored(path)["state"] == "failed: between lines: no such library"
    assert stored(path)["lines"] == {}


def test_the_same_command_resumes_with_missing_lines_and_then_with_those_that_were_cut(measure, tmp_path):
    path = tmp_path / "gpu.json"
    measure(Results(path, MACHINE), {"second": "hang"}, limit=5.0)
    measure(Results(path, MACHINE | {"date": "2026-01-02", "commit": "b"}), {})
    item = stored(path)
    assert list(item["lines"]) == ["first", "third", "second"]
    assert item["lines"]["third"]["order"] == ["first"]
    assert item["state"] == "done"
    assert Results(path, MACHINE).undone("steps") == []


def test_lines_that_were_cut_are_last_and_measured_ones_are_skipped():
    lines = [(name, dict) for name in "abcd"]
    job = Job("steps", "folder", True, None, skip=["b"], last=["a"])
    assert [name for name, _ in ordered(lines, job)] == ["c", "d", "a"]


def test_results_of_another_machine_are_kept_in_a_second_file(tmp_path):
    path, other = tmp_path / "gpu.json", MACHINE | {"gpu": {"NVIDIA A100": 81_920}}
    Results(path, MACHINE).add("start", "doctor", {"state": "ok"})
    assert Results(path, MACHINE | {"commit": "b", "driver": "580.159.04"}).lines("start")
    results = Results(path, other)
    assert results.lines("start") == {}
    results.add("start", "doctor", {"state": "problem", "loss": float("nan")})
    assert results.path == tmp_path / "gpu-other.json"
    assert json.loads(path.read_text())["items"]["start"]["lines"]["doctor"]["state"] == "ok"
    assert Results(path, other).lines("start")["doctor"] == {"state": "problem", "loss": None}


def cell(ready: float, torch: float | None, wait: float) -> dict:
    ratios = {"framework / ready": ready} | ({} if torch is None else {"framework / torch": torch})
    return {
        "windows_per_second": {"framework": 1000.0, "ready": 1000.0 / ready},
        "ratios": {name: {"median": value, "min": value, "max": value} for name, value in ratios.items()},
        "input_wait_share": wait,
    }


def test_goals_name_the_cell_that_is_farthest_from_them():
    cells = {"a": cell(0.95, 2.0, 0.01), "b": cell(0.89, 0.6, 0.06), "c": {"failed": "out of memory"}}
    ready, torch, wait = goals(cells)
    assert (ready.value, ready.reached, ready.worst) == (0.89, False, "b")
    assert (round(torch.value**2, 3), torch.reached, torch.worst) == (1.2, True, "b")
    assert (wait.value, wait.reached, wait.worst) == (0.06, False, "b")
    assert [goal.reached for goal in goals({"a": cells["a"]})] == [True, True, True]
    assert len(goals({"a": cell(1.0, None, 0.0)})) == 2
    assert goals({}) == []


def test_contenders_take_turns_of_a_given_time_in_both_orders():
    calls = []

    def contender(name: str, rate: float):
        def turn(steps: int) -> dict[str, float]:
            calls.append((name, steps))
            return {"windows_per_second": rate}

        return turn

    turns = take_turns({"one": contender("one", 4000.0), "two": contender("two", 2000.0)}, 8, JOB)
    # 0.05 s: 25 steps of 8 windows, and 12 or 13.
    assert calls[-4:] == [("one", 25), ("two", 12), ("two", 12), ("one", 25)]
    values = summarise(turns, [("one", "two")])
    assert values["windows_per_second"] == {"one": 4000, "two": 2000}
    assert values["ratios"]["one / two"] == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert "left_out" not in values
    assert spread([1.0, 4.0, 3.0], [1.0, 2.0, 1.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
    take_turns({"slow": contender("slow", 1.0)}, 8, JOB)
    assert calls[-1] == ("slow", 2), "a turn has two steps at least"


def test_a_contender_that_fails_is_left_out_and_the_others_take_their_turns():
    def broken(steps: int) -> dict[str, float]:
        raise RuntimeError("Graph execution error:\n\nno algorithm worked")

    contenders = {"one": lambda steps: {"windows_per_second": 10.0}, "broken": broken}
    values = summarise(take_turns(contenders, 8, JOB), [("one", "broken"), ("one", "one")])
    assert list(values["ratios"]) == ["one / one"]
    assert values["left_out"] == {"broken": "RuntimeError: Graph execution error: no algorithm worked"}


def test_a_contender_that_ended_before_its_job_raises_with_its_last_line():
    with Contender([sys.executable, "-c", "import sys; sys.exit('no torch')"]) as contender:
        contender._process.wait()
        contender.ask(steps=1)
        with pytest.raises(RuntimeError, match="ended: no torch"):
            contender.answer()


TINY_ITEM = """
import runpy, sys, types
sys.path.insert(0, {root!r})
def fail():
    raise RuntimeError("Graph execution error:\\n\\nno kernel")
item = types.ModuleType("benchmarks.gpu.tiny")
item.lines = lambda job: [("one", lambda: print("noise") or {{"value": 1}}), ("two", fail), ("three", dict)]
sys.modules["benchmarks.gpu.tiny"] = item
runpy.run_path({worker!r}, run_name="__main__")
"""


def test_a_worker_separates_its_answers_from_other_output_and_keeps_a_long_traceback(tmp_path):
    program, path = tmp_path / "program.py", tmp_path / "gpu.json"
    program.write_text(TINY_ITEM.format(root=str(ROOT), worker=str(ROOT / "benchmarks" / "gpu" / "worker.py")))
    job, results = replace(JOB, item="tiny"), Results(path, MACHINE)
    measure_item(job, results, 60.0, Console(file=io.StringIO()), lambda job: Worker(job, program))
    lines = results.lines("tiny")
    assert list(lines) == ["one", "two", "three"]
    assert lines["one"]["value"] == 1
    assert lines["two"]["failed"] == "RuntimeError: Graph execution error: no kernel"
    assert "in fail" in lines["two"]["log"], "its traceback is kept"
    assert results.state("tiny") == "done"


def test_ops_that_need_a_gpu_are_timed_and_compared_in_turns(monkeypatch):
    import tensorflow as tf

    from benchmarks.gpu import kernels
    from benchmarks.work import Size

    def run_op(version, steps, weights, shape):
        """Stands for cuDNN's ops; V2's gradients are twice V3's."""
        states = tf.reduce_sum(steps, axis=-1, keepdims=True) * tf.reduce_sum(weights)
        return tf.repeat(states, shape[1], axis=-1) * (2.0 if version == "V2" else 1.0)

    monkeypatch.setattr(kernels, "one_device", lambda: None)
    monkeypatch.setattr(kernels, "run_op", run_op)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: ["GPU:0"])
    values = kernels.measure_kernels(JOB, Size((4, 4), 8, 6), None)
    assert list(values["ratios"]) == [
        "V2, 1 layer / V3, 1 layer",
        "V2, 2 layers in an op / V3, 2 layers in an op",
        "V2, 2 layers in an op / V3, an op per layer",
    ]
    assert values["difference"] == {"1 layer": pytest.approx(1.0), "2 layers in an op": pytest.approx(1.0)}
    assert len(values["windows_per_second"]) == 5
    # Four gates, each with a kernel, a recurrent kernel and two biases.
    assert kernels.parameters(2, 4, 1) == 4 * (2 * 4 + 4 * 4 + 2 * 4)
    assert kernels.parameters(2, 4, 2) == kernels.parameters(2, 4, 1) + kernels.parameters(4, 4, 1)


def graph(**changes: bool) -> dict:
    return {"gpu_seen": True, "holds_cudnn": True, "holds_loop": False} | changes


@pytest.mark.parametrize(
    ("lines", "sound"),
    [
        ({"training graph": graph(), "network": {"difference": 1e-6, "limit": 2e-4}}, True),
        ({"training graph": graph(gpu_seen=False, holds_cudnn=False, holds_loop=True)}, False),
        ({"training graph": graph(holds_cudnn=False)}, False),
        ({"training graph": graph(holds_loop=True)}, False),
        ({"training graph": graph(), "network": {"difference": 1e-3, "limit": 2e-4}}, False),
        ({"training graph": graph(), "network": {"difference": float("nan"), "limit": 2e-4}}, False),
        ({"training graph": graph(), "network": {"failed": "ValueError"}}, False),
        ({"training graph": {"cut": "time limit exceeded"}}, False),
    ],
)
def test_the_exit_status_requires_cudnn_and_agreement_with_the_cpu(lines, sound):
    results = Results(None, MACHINE)
    for item in LIMITS:
        results.end(item, "done", 1.0)
    for name, values in lines.items():
        results.add("cudnn", name, values)
    assert is_sound(results, list(LIMITS), gpu=True) == sound
    assert is_sound(results, ["start"], gpu=True), "only what was asked for counts"
    results.end("forecasting", "cut: 200,000 windows: time limit exceeded", 30.0)
    assert not is_sound(results, list(LIMITS), gpu=True)


def test_a_rehearsal_does_not_require_cudnn():
    results = Results(None, MACHINE)
    results.add("cudnn", "training graph", graph(gpu_seen=False, holds_cudnn=False, holds_loop=True))
    results.end("cudnn", "done", 1.0)
    assert is_sound(results, ["cudnn"], gpu=False)


def test_the_summary_says_which_goals_are_reached():
    results, text = Results(None, MACHINE), io.StringIO()
    results.add("steps", "a", cell(0.95, 0.5, 0.01))
    show(results, Console(file=text, width=160))
    assert "reached  framework / ready" in text.getvalue()
    assert "MISSED   framework / torch" in text.getvalue()


@pytest.mark.parametrize(("kind", "seen"), [("GPU", True), ("CPU", False), (None, True)])
def test_a_gpu_that_tensorflow_does_not_see_ends_the_run(kind, seen):
    results = Results(None, MACHINE)
    if kind:
        results.add("start", "tensorflow", {"devices": [{"name": "CPU:0", "type": "CPU"}, {"type": kind}]})
    assert sees_gpu(results) == seen


def test_remaining_time_is_used_for_cut_steps_and_then_for_causes():
    assert order(["causes", "forecasting", "steps"]) == ["steps", "forecasting", "steps", "causes"]
    assert order(["start"]) == ["start"]


def test_xla_gets_the_folder_of_ptxas_unless_the_user_sets_one(monkeypatch, tmp_path):
    job, on_gpu = JOB, replace(JOB, item="start", rehearse=False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ptxas").touch()
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert environment(on_gpu)["XLA_FLAGS"] == f"--xla_gpu_cuda_data_dir={tmp_path}"
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/x")
    assert environment(on_gpu)["XLA_FLAGS"] == f"--xla_dump_to=/x --xla_gpu_cuda_data_dir={tmp_path}"
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/y")
    assert environment(on_gpu)["XLA_FLAGS"] == "--xla_gpu_cuda_data_dir=/y"
    assert environment(on_gpu)["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert environment(job)["CUDA_VISIBLE_DEVICES"] == ""


def test_without_a_gpu_the_benchmark_says_so_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--out", str(tmp_path / "gpu.json")])
    monkeypatch.setattr(bench_gpu, "nvidia_driver", lambda: Driver(None, {}))
    with pytest.raises(SystemExit, match=r"no NVIDIA GPU answers.*--rehearse"):
        bench_gpu.main()
    assert list(tmp_path.iterdir()) == []


#: What a GPU machine without a network has: brought there without what it depends on, and there with it.
BROUGHT = (
    "tensorflow", "keras", "astunparse", "gast", "google-pasta", "namex", "optree", "protobuf", "termcolor",
    "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "tensorboardX",
    "tzdata",
)  # fmt: skip
THERE = (
    "numpy", "h5py", "ml-dtypes", "absl-py", "flatbuffers", "grpcio", "opt-einsum", "packaging", "requests",
    "rich", "setuptools", "six", "wrapt", "pandas", "pyarrow", "scipy", "statsmodels", "typer", "jinja2",
    "matplotlib",
)  # fmt: skip
#: Needed there as well and not in its description yet: to be added to a copy of its pack script.
TO_BRING = ("ruamel.yaml",)


def test_the_packages_of_a_gpu_machine_are_in_its_description():
    description = ROOT.parent / "shared" / "gpu" / "README.md"
    if not description.exists():
        pytest.skip(f"no description of a GPU machine at {description}")
    text = description.read_text()
    listed = [name for name in BROUGHT + THERE + TO_BRING if re.search(rf"\b{re.escape(name)}\b", text)]
    assert listed == [*BROUGHT, *THERE], "what is in the description now leaves TO_BRING"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_rehearsal_passes_where_only_the_packages_of_a_gpu_machine_are_installed(tmp_path):
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    for names, options in ((THERE, []), (BROUGHT + TO_BRING, ["--no-deps"])):
        pins = [f"{name}=={version(name)}" if name != "setuptools" else name for name in names]
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", python, *options, *pins],
            check=True,
            # Compiled where it is imported; all of TensorFlow would take longer.
            env=os.environ | {"UV_COMPILE_BYTECODE": "0"},
        )
    for name in ("ray", "optuna", "tensorboard", "torch"):
        assert subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False).returncode == 1
    out = tmp_path / "gpu.json"
    command = [python, ROOT / "benchmarks" / "bench_gpu.py", "--rehearse", "--out", out]
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"limits: {sum(LIMITS.values())} s in total" in done.stdout
    items = json.loads(out.read_text())["items"]
    assert {name: item["state"] for name, item in items.items()} == dict.fromkeys(
        [*LIMITS, bench_gpu.CAUSES], "done"
    )
    lines = [line for item in items.values() for line in item["lines"].values()]
    assert [line for line in lines if "left_out" in line] == []
    doctor = items["start"]["lines"]["doctor"]
    assert doctor["state"] == "warning", doctor
    checks = {check["name"]: check["state"] for check in doctor["checks"]}
    assert checks["ray"] == checks["optuna"] == checks["nvidia-ml-py"] == "warning"
