"""Runs that are killed, interrupted, or whose disk is full: nothing is lost, and nothing is done twice."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

CONFIG = """
task: {horizon: 6, context_length: 12, freq: h, season_length: 6}
data: {path: TABLE}
split: {validation: 12, test: 12}
model: {segment_length: 3, units: [4], dropout: 0.2}
train: {max_steps: 240, steps_per_epoch: 8, batch_size: 16, warmup_steps: 10, steps_per_call: 1, patience: 100,
        ema: 0.9, checkpoint_every: 3, deterministic: true, seed: 3}
"""
KILLS = 8

# Forks: a child starts at once, with TensorFlow imported but not begun.
NURSERY = """
import os, signal, sys
import tensorflow  # quiet: the environment says so
import dist_lstm.run, dist_lstm.cli.main, dist_lstm.train.phases, dist_lstm.train.measure

for line in sys.stdin:
    arguments, log = line.rstrip().split("\t")
    child = os.fork()
    if child == 0:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.argv = arguments.split(" ")
        dist_lstm.cli.main.main()
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    rows = [
        f"{name},{step},{level + (step % 6) * 1.5 + random.Random(step * level).random()}"
        for name, level in (("a", 10), ("b", 20), ("c", 30))
        for step in range(120)
    ]
    (folder / "t.csv").write_text("\n".join(["unique_id,ds,y", *rows]))
    text = CONFIG.replace("TABLE", str(folder / "t.csv")).replace("freq: h", "freq: 1")
    (folder / "job.yaml").write_text(text)
    return folder / "job.yaml"


class Nursery:
    """Starts commands one after the other in children of one process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        )

    def start(self, job: Path, out: Path, log: Path) -> int:
        self._process.stdin.write(f"dist-lstm train {job} --out {out}\t{log}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self) -> int:
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nursery():
    made = Nursery()
    yield made
    made.close()


def progress(out: Path, length: int) -> int:
    """Steps of the newest checkpoint, counted over both trainings."""
    checkpoints = [path.stem.split("-") for path in (out / "checkpoints").glob("*.npz")]
    return max((length * (phase == "refit") + int(step) for phase, step, _ in checkpoints), default=0)


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_a_run_killed_at_random_moments_ends_as_the_run_that_never_was(job, nursery, tmp_path):
    """The same weights and the same history, bit for bit; the kills are spread over both trainings."""
    whole, parts, log = tmp_path / "whole", tmp_path / "parts", tmp_path / "log"
    nursery.start(job, whole, log)
    assert nursery.wait() == 0
    last = 240 + json.loads((whole / "metrics.json").read_text())["training"]["steps"]
    generator = random.Random(5)
    for moment in sorted(generator.randrange(last - 5) for _ in range(KILLS)):
        child = nursery.start(job, parts, log)
        while progress(parts, 240) < moment:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.05))  # anywhere in a step, or in the middle of a checkpoint
        os.kill(child, signal.SIGKILL)
        assert nursery.wait() == -signal.SIGKILL
    nursery.start(job, parts, log)
    assert nursery.wait() == 0
    assert log.read_text().count("going on from step") >= KILLS // 2
    assert (parts / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    for name in ("model.keras", "model-backtest.keras"):
        for one, two in zip(weights_of(whole / name), weights_of(parts / name), strict=True):
            np.testing.assert_array_equal(one, two)
    assert not (parts / "checkpoints").exists()


def weights_of(path: Path) -> list[np.ndarray]:
    from dist_lstm.train.checkpoint import load_model

    return load_model(path).get_weights()


@pytest.mark.fault
def test_a_run_that_is_terminated_saves_ends_with_143_and_goes_on(job, nursery, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    child = nursery.start(job, out, log)
    while progress(out, 240) < 30:
        time.sleep(0.001)
    os.kill(child, signal.SIGTERM)
    assert nursery.wait() == 143
    assert f"terminated, work saved; continue with: dist-lstm train {job} --out {out}\n" in log.read_text()
    saved = progress(out, 240)
    nursery.start(job, out, log)
    assert nursery.wait() == 0
    assert f"train: going on from step {saved}\n" in log.read_text()


@pytest.mark.fault
def test_a_second_process_on_a_run_directory_is_refused_and_a_dead_one_holds_nothing(job, nursery, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    child = nursery.start(job, out, log)
    while progress(out, 240) < 3:
        time.sleep(0.001)
    command = [sys.executable, "-m", "dist_lstm", "train", str(job), "--out", str(out)]
    second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert second.returncode == 2
    assert second.stderr == (
        f"error: {out}: process {child} is working on it; wait for it or choose another --out\n"
    )
    os.kill(child, signal.SIGKILL)
    assert nursery.wait() == -signal.SIGKILL
    nursery.start(job, out, log)
    assert nursery.wait() == 0


@pytest.mark.fault
def test_a_full_disk_ends_a_run_with_one_line_and_the_same_command_goes_on_once_there_is_room(job, tmp_path):
    """A limit on the size of files stands for the disk: the kernel refuses the write."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dist_lstm", "train", str(job), "--out", str(out)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))

    full = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, preexec_fn=limit)
    assert full.returncode == 2, full.stderr
    assert full.stderr.count("\n") == 1
    assert full.stderr.startswith(f"error: {out}")
    assert "can't be written: File too large; free the disk or choose another --out" in full.stderr
    assert not (out / "model.keras").exists()
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert again.returncode == 0, again.stderr
    assert (out / "model.keras").exists()


@pytest.mark.fault
def test_a_run_directory_that_can_not_be_written_is_one_line_and_stays_as_it_was(job, tmp_path):
    """A file system that is mounted for reading alone: root may write wherever modes forbid it."""
    out, mount = tmp_path / "out", ["mount", "--bind"]
    out.mkdir()
    (out / "kept").write_text("")
    made = subprocess.run([*mount, str(out), str(out)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(out)], check=True)
        command = [sys.executable, "-m", "dist_lstm", "train", str(job), "--out", f"{out}/run"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    finally:
        subprocess.run(["umount", str(out)], check=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {out}/run: can't be written: Read-only file system; choose another --out\n"
    assert [path.name for path in out.iterdir()] == ["kept"]
