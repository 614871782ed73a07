"""Jobs on a real cluster that requires a token, submitted through the command line."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dist_lstm.errors import UserError
from dist_lstm.jobs import client as client_module
from dist_lstm.storage import is_marked
from tests.jobs.ray_nodes import BIN, free_ports

pytestmark = pytest.mark.slow

CONFIG = """
task: {horizon: 2, context_length: 4, freq: 1, season_length: 2}
data: {path: TABLE}
split: {validation: 4, test: 4}
model: {segment_length: 1, units: [4]}
train: {max_steps: 1000000, steps_per_epoch: 2, batch_size: 4, patience: 1000000, steps_per_call: 1}
"""


@dataclass(frozen=True)
class Head:
    """A cluster of one node.

    Attributes:
        url: URL of its dashboard.
        token: Its token.
        folder: Folder of Ray's own files.
        shared: Stands for a folder that all nodes see.
        environment: Environment of a user who has the token.
    """

    url: str
    token: str = field(repr=False)
    folder: Path
    shared: Path
    environment: dict[str, str]

    def command(self, *words: object) -> list[str]:
        return [str(BIN / "dist-lstm"), *map(str, words)]

    def run(self, *words: object) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a command."""
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def ask(self, endpoint: str, token: str | None) -> tuple[int, str]:
        """Status and text of the answer of an endpoint; status 0 if there is none."""
        request = urllib.request.Request(self.url + endpoint)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    folder = Path(tempfile.mkdtemp(prefix="dl-"))  # the path of a socket has a limit
    shared = tmp_path_factory.mktemp("shared")
    table = "\n".join(f"{name},{step},{step % 2}" for name in "ab" for step in range(40))
    (shared / "t.csv").write_text(f"unique_id,ds,y\n{table}\n")
    (shared / "broken.csv").write_text("unique_id,ds,y\na,1,no number\n")
    (shared / "job.yaml").write_text(CONFIG.replace("TABLE", str(shared / "t.csv")))
    token, (port, dashboard, client) = secrets.token_hex(32), free_ports(3)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    url = f"http://127.0.0.1:{dashboard}"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "DIST_LSTM_"))}
    environment = clean | {"RAY_AUTH_TOKEN_PATH": str(folder / "token"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    words = [
        "start", "--head", "--block", f"--port={port}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}", f"--temp-dir={folder / 'ray'}", f"--ray-client-server-port={client}",
        "--min-worker-port=0",
        "--max-worker-port=0", "--num-cpus=2", "--num-gpus=0", f"--object-store-memory={100 * 2**20}",
        "--disable-usage-stats",
    ]  # fmt: skip
    ray = subprocess.Popen(
        [str(BIN / "ray"), *words],
        env=environment | {"RAY_AUTH_MODE": "token", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    instance = Head(
        url, token, folder, shared, environment | {"RAY_API_SERVER_ADDRESS": url, "DIST_LSTM_SHARED": str(shared)}
    )
    try:
        for _ in range(120):
            # The last part to be ready: without it the cluster can't tell that no node will be started.
            if '"autoscalerReport"' in instance.ask("/api/cluster_status", token)[1]:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"Ray ended with status {ray.wait(0.5)}")
        yield instance
    finally:
        ray.send_signal(signal.SIGTERM)
        ray.wait(30)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def running(head):
    """A `submit` that follows an endless training; a test stops it, or the fixture does."""
    process = subprocess.Popen(
        head.command(
            "submit", "--name", "long", "--", "train", head.shared / "job.yaml", "--out", head.shared / "long"
        ),
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("  step 4"):
                break
        else:
            pytest.fail("".join(lines))
        yield process
    finally:
        process.kill()
        process.communicate()


def test_requests_without_the_token_are_refused(head):
    assert head.ask("/api/version", None)[0] == 401
    assert head.ask("/api/version", "0" * 64)[0] == 403
    assert head.ask("/api/version", head.token)[0] == 200
    assert head.ask("/api/jobs/", None)[0] == 401


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses the token of RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "disabled"}, "asks for a token"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "/nowhere: no token can be read"),
    ],
)
def test_a_user_without_the_token_gets_an_error_of_one_line(head, environment, message):
    environment = head.environment | environment
    done = subprocess.run(
        head.command("jobs", "list"), env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_address_without_a_dashboard_is_an_error_of_one_line(head, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "word")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    monkeypatch.setattr(client_module, "_SECONDS", 0.2)
    [port] = free_ports(1)
    with pytest.raises(UserError, match=r"no connection; start the cluster"):
        client_module.connect(f"http://127.0.0.1:{port}")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match="no answer in time"):
        client_module.connect(f"http://127.0.0.1:{silent.getsockname()[1]}")
    status, _, err = head.run("jobs", "list", "--address", f"http://127.0.0.1:{port}")
    assert (status, err.count("\n")) == (2, 1)


def test_a_job_is_submitted_and_followed_and_ends_with_0(head):
    out = head.shared / "data"
    status, output, err = head.run("submit", "prepare", head.shared / "job.yaml", "--out", out)
    assert (status, err) == (0, "")
    assert "shipping  dist_lstm" in output
    assert "job       job: 1 CPU of one node" in output
    assert "data      2 series, 80 steps, freq 1" in output
    assert "job succeeded after" in output
    assert is_marked(out / "shards")
    assert head.run("jobs", "logs", "job")[1].count("data      2 series") == 1


def test_a_job_that_fails_ends_with_1_and_shows_why(head):
    words = ("prepare", head.shared / "job.yaml", "--set", f"data.path={head.shared / 'broken.csv'}")
    status, output, err = head.run("submit", "--name", "bad", "--", *words, "--out", head.shared / "bad")
    assert (status, err) == (1, "")
    assert "no number" in output
    assert "bad failed after" in output
    assert "failed with exit code 2\n" in output


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (
            ("--set", "data.path=SHARED/none.csv", "--out", "SHARED/t.csv/x"),
            ["data.path: SHARED/none.csv does not exist", "--out: SHARED/t.csv/x: SHARED/t.csv can't be written"],
        ),
        (("--out", "runs/x"), ["--out: runs/x: the cluster does not see this machine's disk"]),
        ((), ["--out is missing"]),
        (("--out", "SHARED/x", "--set", "resources.gpus=1"), ["resources.gpus: 1: no node", "more than 0 GPUs"]),
    ],
    ids=["missing", "on the laptop", "no --out", "no GPU"],
)
def test_a_job_that_can_not_run_there_is_refused_and_not_submitted(head, words, messages):
    words = [word.replace("SHARED", str(head.shared)) for word in words]
    status, _, err = head.run("submit", "--name", "no", "run", head.shared / "job.yaml", *words)
    assert status == 2
    assert [part for part in messages if part.replace("SHARED", str(head.shared)) not in err] == []
    assert '"job_name": "no"' not in head.ask("/api/jobs/", head.token)[1]


def test_a_second_job_with_a_name_is_refused_while_the_first_runs(head, running):
    words = ("prepare", head.shared / "job.yaml", "--out", head.shared / "x")
    status, _, err = head.run("submit", "--name", "long", "--", *words)
    assert status == 2
    assert "--name long: a job of that name is running; follow it with `dist-lstm jobs logs long --follow`" in err


def test_a_job_that_gets_no_resources_is_withdrawn_and_ends_with_1(head, running):
    words = (
        "--name",
        "late",
        "--pending-timeout",
        1,
        "train",
        head.shared / "job.yaml",
        "--out",
        head.shared / "late",
    )
    status, output, err = head.run("submit", *words)
    assert (status, err) == (1, "")
    assert "late got no resources in 1 s: " in output
    assert "late withdrawn before it began" in output
    assert not (head.shared / "late").exists()
    assert head.run("jobs", "stop", "late")[1] == "late had ended already: failed\n"


def test_a_job_that_is_stopped_saves_its_work_and_ends_with_130(head, running):
    assert head.run("jobs", "stop", "long") == (0, "long stopped\n", "")
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 130
    assert "long stopped after" in output
    assert "terminated, work saved" in output
    assert "the same command submitted again goes on where it stopped" in output
    assert list((head.shared / "long" / "checkpoints").iterdir())
    [row] = [line.split() for line in head.run("jobs", "list")[1].splitlines() if "long" in line]
    assert row[1:7:2] == ["long", "train", "stopped"]


def test_a_name_that_no_job_has_is_an_error_with_the_names_of_all_jobs(head):
    for verb in ("logs", "stop"):
        status, _, err = head.run("jobs", verb, "nobody")
        assert status == 2
        assert "has no job of that name; its jobs are: job" in err


def test_the_doctor_checks_the_cluster(head, monkeypatch):
    from dist_lstm.doctor.cluster import examine_cluster

    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    reach, node, storage = examine_cluster(head.url, False, str(head.shared / "new"))
    assert reach.value == f"{head.url} accepts the token"
    assert {check.state for check in (reach, node, storage)} == {"ok"}
    assert node.value.startswith("2 CPUs, 0 GPUs, ")
    [problem] = examine_cluster("http://192.0.2.1:8265", False, None)
    assert (problem.state, "--insecure" in problem.advice) == ("problem", True)


def test_the_token_is_in_no_file_that_jobs_leave(head):
    """The last test of this module, when all jobs have run."""
    files = [path for folder in (head.folder / "ray", head.shared) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert [path for path in files if head.token.encode() in path.read_bytes()] == []
    for job in json.loads(head.ask("/api/jobs/", head.token)[1]):
        assert head.token not in json.dumps(job)
