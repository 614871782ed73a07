"""The batch script for Slurm, with substitutes for `srun` and, except in one test, for Ray."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import CLUSTER

SCRIPT = CLUSTER / "slurm.sbatch"
TOKEN = "0123456789abcdef-a-token-for-tests"
# Substitute for a Ray that works: runs the command after the first `--`.
RAY = """
printf '%s\\n' "$@" > ray.arguments
env > ray.environment
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def submit(tmp_path):
    """Run the script as on the first of two nodes; `ray` and `dist_lstm` are texts of shell scripts."""
    secret = tmp_path / "home" / ".ray" / "auth_token"
    secret.parent.mkdir(parents=True)
    secret.write_text(TOKEN)
    secret.chmod(0o644)
    work = tmp_path / "work"
    program(tmp_path / "bin" / "srun", 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"')

    def run(*arguments: str, ray: str = RAY, dist_lstm: str = 'printf "%s\\n" "$@" > arguments'):
        program(work / ".venv" / "bin" / "ray", ray)
        program(work / ".venv" / "bin" / "dist-lstm", dist_lstm)
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.defpath}", "HOME": str(tmp_path / "home")}
        environment |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": str(run.nodes)}
        command = [*run.before, "bash", str(SCRIPT), *arguments]
        return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)

    run.work, run.secret, run.nodes, run.before = work, secret, 2, []
    yield run
    shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)


def test_shellcheck_reports_nothing():
    if not (shellcheck := shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")):
        pytest.skip("no shellcheck for this machine")
    subprocess.run([shellcheck, SCRIPT], check=True)


def test_the_command_reaches_dist_lstm_word_by_word(submit):
    done = submit("run", "my config.yaml", "--set", "a=b")
    assert done.returncode == 0, done.stderr
    assert (submit.work / "arguments").read_text().splitlines() == ["run", "my config.yaml", "--set", "a=b"]


def test_dist_lstm_uses_the_ray_cluster_that_was_joined(submit):
    submit("tune", "x.yaml", dist_lstm='printf "%s" "$RAY_ADDRESS" > arguments')
    arguments = (submit.work / "ray.arguments").read_text().splitlines()
    assert f"--address={(submit.work / 'arguments').read_text()}" in arguments


def test_ray_joins_all_nodes_of_the_job_with_a_token_and_a_dashboard_on_loopback(submit):
    submit("run", "x.yaml")
    arguments = (submit.work / "ray.arguments").read_text().splitlines()
    assert arguments[0] == "symmetric-run"
    assert "--min-nodes=2" in arguments
    assert "--dashboard-host=127.0.0.1" in arguments
    environment = (submit.work / "ray.environment").read_text().splitlines()
    assert "RAY_AUTH_MODE=token" in environment
    assert "RAY_USAGE_STATS_ENABLED=0" in environment


def test_only_its_owner_can_read_the_token_and_no_output_shows_it(submit):
    done = submit("run", "x.yaml")
    assert stat.S_IMODE(submit.secret.stat().st_mode) == 0o600
    assert TOKEN not in done.stdout + done.stderr
    left = [path for path in submit.work.rglob("*") if path.is_file()]
    assert left
    assert not [path for path in left if TOKEN in path.read_text()]


def test_without_a_token_nothing_starts(submit):
    submit.secret.unlink()
    done = submit("run", "x.yaml")
    assert done.returncode == 2
    assert "cluster/README.md" in done.stderr
    assert not (submit.work / "ray.arguments").exists()


def test_the_exit_status_of_the_job_is_that_of_dist_lstm(submit):
    assert submit("run", "x.yaml", dist_lstm="exit 2").returncode == 2


def test_a_job_whose_ray_never_started_fails_although_ray_exits_with_0(submit):
    done = submit("run", "x.yaml", ray="exit 0")
    assert done.returncode == 1
    assert "did not start" in done.stderr


def test_nothing_but_the_run_is_left_behind(submit):
    submit("run", "x.yaml")
    submit("run", "x.yaml", ray="exit 0")
    left = {path.name for path in submit.work.iterdir()}
    assert left == {".venv", "arguments", "ray.arguments", "ray.environment"}


def test_the_job_takes_whole_nodes():
    asked = [
        line.removeprefix("#SBATCH ") for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")
    ]
    assert {"--exclusive", "--mem=0", "--ntasks-per-node=1"} <= set(asked)
    assert any(line.startswith("--gpus-per-node=") for line in asked)


@pytest.mark.slow
@pytest.mark.parametrize("status", [0, 2])
def test_rays_own_symmetric_run_runs_the_job_and_returns_its_status(submit, status):
    # In separate namespaces, since `ray stop` ends every Ray that it sees.
    isolated = ["unshare", "--pid", "--net", "--fork", "--mount-proc"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs root and unshare, to keep `ray stop` from other processes")
    ray = f'exec {Path(sys.executable).parent / "ray"} "$@"'
    submit.nodes = 1
    submit.before = [*isolated, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    program(submit.work.parent / "bin" / "hostname", "echo 127.0.0.1")
    done = submit("run", "x.yaml", ray=ray, dist_lstm=f'printf "%s\\n" "$@" > arguments; exit {status}')
    assert done.returncode == status, done.stdout + done.stderr
    assert (submit.work / "arguments").read_text().splitlines() == ["run", "x.yaml"]
    assert TOKEN not in done.stdout + done.stderr
