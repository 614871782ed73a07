"""One model on several nodes: resources per worker, what is refused, and training that loses a worker."""

import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from dist_lstm.config.load import load_config, override, parse_config
from dist_lstm.config.schema import ResourceSettings
from dist_lstm.errors import UserError
from dist_lstm.jobs.nodes import Work, _reason, check_folder, node_share
from dist_lstm.layout import RunLayout
from dist_lstm.run import train
from dist_lstm.run_directory import start_run

CONFIG = """
task: {horizon: 6, context_length: 12, freq: 1, season_length: 6}
data: {path: TABLE}
split: {validation: 12, test: 12}
model: {segment_length: 3, units: [4], dropout: 0.0}
train: {max_steps: 400, steps_per_epoch: 10, batch_size: 16, warmup_steps: 10, steps_per_call: 1, patience: 100,
        checkpoint_every: 5, seed: 3}
"""

MINIMAL = {"task": {"horizon": 1}, "data": {"path": "t.csv"}}

#: A cluster of two nodes on this machine that requires a token; it ends when its standard input is closed.
NODES = """
import sys
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def node(cpus: float, gpus: float = 0) -> dict[str, float]:
    return {"CPU": cpus, "memory": 1e9} | ({"GPU": gpus} if gpus else {})


@pytest.mark.parametrize(
    ("nodes", "settings", "share"),
    [
        ([node(4), node(2)], {}, {"CPU": 2, "GPU": 0}),
        ([node(4), node(2)], {"threads": 1}, {"CPU": 1, "GPU": 0}),
        ([node(16, 8), node(16, 4), node(64)], {}, {"CPU": 16, "GPU": 4}),
        ([node(16, 8), node(16, 4), node(64)], {"gpus": 2, "threads": 3}, {"CPU": 3, "GPU": 2}),
        ([node(16, 8), node(64)], {}, {"CPU": 16, "GPU": 0}),
        ([node(0), node(4, 1), node(4, 1)], {"gpus": 0}, {"CPU": 4, "GPU": 0}),
    ],
)
def test_a_worker_gets_the_resources_of_the_smallest_of_the_largest_nodes(nodes, settings, share):
    assert node_share(nodes, ResourceSettings(nodes=2, **settings)) == share


@pytest.mark.parametrize(
    ("nodes", "settings", "problem"),
    [
        ([node(4)], {}, "3 nodes asked for, 1 of the cluster's 1 have 1 CPU: start 2 more"),
        ([node(4), node(0), node(4)], {}, "2 of the cluster's 3 have 1 CPU: start 1 more"),
        ([node(4, 2)] * 2 + [node(4, 1)], {"gpus": 2}, "2 of the cluster's 3 have 1 CPU and 2 GPUs: start 1 more"),
    ],
)
def test_too_few_nodes_are_refused_with_what_is_missing(nodes, settings, problem):
    with pytest.raises(UserError, match=rf"^resources\.nodes: .*{problem}"):
        node_share(nodes, ResourceSettings(nodes=3, **settings))


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nodes")
    rows = [
        f"{name},{step},{level + (step % 6) * 1.5 + random.Random(step * level).random()}"
        for name, level in (("a", 10), ("b", 20), ("c", 30))
        for step in range(120)
    ]
    (folder / "t.csv").write_text("\n".join(["unique_id,ds,y", *rows]))
    (folder / "job.yaml").write_text(CONFIG.replace("TABLE", str(folder / "t.csv")))
    return folder / "job.yaml"


@pytest.mark.parametrize("verb", ["run", "train"])
def test_without_a_cluster_several_nodes_are_refused_before_anything_is_done(
    call, job, tmp_path, monkeypatch, verb
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    status, _, error = call(verb, job, "--out", tmp_path / "out", "--set", "resources.nodes=2")
    assert status == 2
    assert error.startswith("error: resources.nodes: 2 nodes asked for, and this machine is one; set RAY_ADDRESS")
    assert not (tmp_path / "out").exists()


def test_several_nodes_need_a_shared_folder_and_not_a_store(call, job):
    status, _, error = call("train", job, "--out", "s3://bucket/run", "--set", "resources.nodes=2")
    assert status == 2
    assert error.startswith(
        "error: --out: s3://bucket/run: with resources.nodes 2 it must be a folder that all nodes"
    )


def test_a_process_outside_a_training_of_several_nodes_refuses_to_train_on_them(monkeypatch):
    from dist_lstm.train.devices import make_strategy

    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match=r"resources\.nodes: 2 nodes are used by dist-lstm run and train"):
        make_strategy(ResourceSettings(nodes=2), nodes=2)
    make_strategy(ResourceSettings(nodes=2))  # forecasts are made on one node


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Environment of a process on a cluster of two nodes."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_worker_niceness": "0",  # else other tests on this machine get the CPU first
    }
    # The path of a socket is limited to about 100 characters.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="nodes-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", NODES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # The file with its address is there too: the default folder is missing before Ray has run once.
            env=environment | {"RAY_TMPDIR": folder},
        )
        yield environment | {"RAY_ADDRESS": process.stdout.readline().strip()}
        process.stdin.close()
        process.wait()
        process.stdout.close()


#: The command line, which prints at its end whether it has imported TensorFlow.
MAIN = """
import atexit, sys
from dist_lstm.cli.main import main

atexit.register(lambda: print("TensorFlow:", "tensorflow" in sys.modules))
main()
"""


class Command:
    """A training on several nodes, whose output is read line by line into `output`."""

    def __init__(self, job: Path, out: Path, environment: dict[str, str], *settings: str) -> None:
        chosen = [word for setting in ("resources.nodes=2", *settings) for word in ("--set", setting)]
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", MAIN, "train", str(job), "--out", str(out), *chosen],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.output = ""

    def until(self, pattern: str) -> re.Match[str]:
        for line in self.process.stdout:
            self.output += line
            if match := re.match(pattern, line):
                return match
        raise AssertionError(self.output)

    def end(self) -> int:
        self.output += self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait()


def train_alone(job: Path, out: Path, **settings: Any) -> None:
    config = override(load_config(job), settings)
    with start_run(config, out, Console(quiet=True)) as run:
        train(run)


def assert_same_models(one: Path, two: Path) -> None:
    from dist_lstm.train.checkpoint import load_model

    for name in (RunLayout.model, RunLayout.backtest_model):
        left, right = (load_model(out / name).get_weights() for out in (one, two))
        for mine, other in zip(left, right, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)
    left, right = (np.genfromtxt(out / RunLayout.history, delimiter=",")[1:, 1:] for out in (one, two))
    np.testing.assert_allclose(left, right, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_nodes_end_with_the_weights_of_one_process_and_three_are_refused(job, nodes, tmp_path):
    refused = Command(job, tmp_path / "three", nodes, "resources.nodes=3")
    assert refused.end() == 2
    first, last = refused.output.splitlines()
    assert first.startswith(
        "error: resources.nodes: 3 nodes asked for, 2 of the cluster's 2 have 1 CPU: start 1 more"
    )
    assert last == "TensorFlow: False"
    assert not (tmp_path / "three").exists()

    together = Command(job, tmp_path / "two", nodes, "train.max_steps=60")
    assert together.end() == 0, together.output
    assert together.output.endswith("TensorFlow: False\n")
    assert json.loads((tmp_path / "two" / RunLayout.environment).read_text())["nodes"] == 2
    train_alone(job, tmp_path / "one", **{"train.max_steps": 60})
    assert_same_models(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(400)
def test_a_training_continues_after_a_lost_worker_and_when_terminated_saves_for_any_number_of_nodes(
    job, nodes, tmp_path
):
    one, two = tmp_path / "one", tmp_path / "two"
    command = Command(job, two, nodes)
    worker = int(command.until(r"worker    1 on .*, process (\d+)")[1])
    # An epoch is printed before its checkpoint is written: with this line that of step 20 is there.
    command.until("  step 30 ")
    os.kill(worker, signal.SIGKILL)
    command.until(r"nodes     .*worker 1: .*; going on from the last checkpoint")
    begun = int(command.until(r"train: going on from step (\d+)")[1])
    assert begun >= 20
    command.until(rf"  step {begun // 10 * 10 + 20} ")
    command.process.send_signal(signal.SIGTERM)
    assert command.end() == 143, command.output
    assert "terminated, work saved; continue with: dist-lstm train" in command.output
    assert "TensorFlow: False" in command.output
    assert sorted(path.name for path in two.glob("[!.]*")) == ["checkpoints", "config.yaml", "shards"]
    assert max(int(path.name.split("-")[1]) for path in (two / "checkpoints").iterdir()) > begun

    train_alone(job, two)
    train_alone(job, one)
    assert_same_models(one, two)


def test_a_run_directory_that_a_node_does_not_see_is_refused(tmp_path):
    work = Work(tmp_path, parse_config(MINIMAL | {"resources": {"nodes": 2}}), None, None, "mine", None)
    with pytest.raises(
        UserError, match=r"does not see this folder; with resources.nodes 2 --out must be one that"
    ):
        check_folder(work)
    (tmp_path / ".nodes").write_text("another's")
    with pytest.raises(UserError, match="does not see this folder"):
        check_folder(work)
    (tmp_path / ".nodes").write_text("mine")
    check_folder(work)


@pytest.mark.parametrize(
    ("verb", "more"), [("tune", ["--set", "search.space={train.seed: {choice: [1]}}"]), ("fleet", [])]
)
def test_many_models_are_not_trained_on_several_nodes_each(call, job, tmp_path, verb, more):
    status, _, error = call(verb, job, "--out", tmp_path / "out", "--set", "resources.nodes=2", *more)
    assert status == 2
    assert error.startswith("error: resources.nodes: 2 nodes train one model together in dist-lstm run and train")
    assert not (tmp_path / "out").exists()


def test_stages_after_training_use_the_gpus_that_they_see():
    assert ResourceSettings(nodes=2, gpus=4).alone.gpus == "auto"
    assert ResourceSettings(nodes=2, gpus=0).alone.gpus == 0
    assert ResourceSettings(gpus=4).alone.gpus == 4


def test_the_reason_of_a_failure_is_one_line_without_nodes_of_a_graph():
    aborted = "Collective ops is aborted by: reset by peer\nThe error could be from a previous operation. Restart."
    failure = RuntimeError("failed")
    failure.worker_failures = {
        0: f"Traceback\n  line\n{aborted}\n\t [[{{{{node while}}}}]] [Op:a]\n",
        1: "RayActorError: The actor died.\nThe worker process has died. See the docs",
    }
    assert _reason(failure) == (
        "worker 0: Collective ops is aborted by: reset by peer; worker 1: The worker process has died"
    )
    assert _reason(RuntimeError("no resources")) == "no resources"
