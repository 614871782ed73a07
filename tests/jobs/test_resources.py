"""What this machine and a cluster can give to trials and packs: CPUs, GPUs, and a folder for Ray's sockets."""

import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from dist_lstm.doctor import machine
from dist_lstm.errors import UserError
from dist_lstm.fleet import run as fleet
from dist_lstm.jobs import session
from dist_lstm.jobs.session import Cluster, socket_folder
from dist_lstm.search import run as search
from tests.fleet.fleets import make_series, write_fleet
from tests.search.test_search import make_job

HERE = Cluster(None, cpus=4.0, gpus=1.0, nodes=1, most_cpus=4.0, most_gpus=1.0)
#: Two nodes, of which none has all.
TWO_NODES = Cluster("127.0.0.1:6379", cpus=12.0, gpus=2.0, nodes=2, most_cpus=8.0, most_gpus=1.0)


@pytest.mark.parametrize(
    "needed",
    [{}, {"fleet.cpus": 4.0, "fleet.gpus": 1.0}, {"fleet.cpus": 0.5, "fleet.gpus": 0.25}, {"fleet.gpus": 0}],
)
def test_what_a_machine_has_fits(capsys, needed):
    HERE.check_fits("pack", needed, Console())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("needed", "says"),
    [
        ({"fleet.cpus": 5}, "fleet.cpus: is 5 per pack, but this machine has 4; lower it"),
        ({"fleet.cpus": 1, "fleet.gpus": 2}, "fleet.gpus: is 2 per pack, but this machine has 1; lower it"),
        ({"resources.gpus": 1.5}, "resources.gpus: is 1.5 per pack, but this machine has 1; lower it"),
    ],
)
def test_more_than_a_machine_has_is_refused(needed, says):
    with pytest.raises(UserError, match=says):
        HERE.check_fits("pack", needed, Console())


def test_more_than_any_node_of_a_cluster_has_is_said_since_it_may_grow(capsys):
    """Two nodes with one GPU each do not run work that needs two."""
    TWO_NODES.check_fits("trial", {"search.cpus": 9, "search.gpus": 2}, Console(width=200))
    assert capsys.readouterr().out == (
        "note      search.cpus is 9 per trial, and no node has more than 8: waits until one joins the cluster\n"
        "note      search.gpus is 2 per trial, and no node has more than 1: waits until one joins the cluster\n"
    )


@pytest.fixture
def small_machine(monkeypatch) -> None:
    """A cluster of this machine with 2 CPUs and no GPU, on which nothing may start."""
    joined = Cluster(None, cpus=2.0, gpus=0.0, nodes=1, most_cpus=2.0, most_gpus=0.0)

    def start(*_, **__):
        raise AssertionError("work was started")

    for module in (fleet, search):
        monkeypatch.setattr(module, "join_cluster", lambda: nullcontext(joined))
    for name in (
        "dist_lstm.fleet.run._run_once",
        "dist_lstm.fleet.run._train_quietly",
        "dist_lstm.search.tuning.run_trials",
    ):
        monkeypatch.setattr(name, start)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["fleet.gpus=1"], "fleet.gpus: is 1 per pack, but this machine has 0"),
        (["fleet.gpus=0.5"], "fleet.gpus: is 0.5 per pack, but this machine has 0"),
        (["fleet.cpus=3"], "fleet.cpus: is 3 per pack, but this machine has 2"),
        (
            ["fleet.global_model=true", "resources.gpus=1"],
            "resources.gpus: is 1 per global model, but this machine",
        ),
        (["fleet.global_model=true", "fleet.cpus=3"], "fleet.cpus: is 3 per pack, but this machine has 2"),
    ],
    ids=str,
)
def test_a_fleet_that_this_machine_can_not_run_is_refused_before_any_work(
    small_machine, call, tmp_path, settings, says
):
    changes = [word for setting in settings for word in ("--set", setting)]
    status, _, error = call("fleet", write_fleet(tmp_path, make_series()), "--out", tmp_path / "out", *changes)
    assert status == 2
    assert error.startswith(f"error: {says}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("setting", ["search.gpus=1", "search.cpus=3"])
def test_a_search_that_this_machine_can_not_run_is_refused_before_any_work(small_machine, call, tmp_path, setting):
    job = make_job(tmp_path / "job", {"space": {"model.units": {"choice": [[4], [8]]}}, "num_samples": 2})
    status, _, error = call("tune", job, "--out", tmp_path / "out", "--set", setting)
    assert status == 2
    assert error.startswith(f"error: {setting.split('=')[0]}: is {setting[-1]} per trial, but this machine has ")


@pytest.fixture
def temporary(monkeypatch):
    """Sets the temporary directory of this process."""
    return lambda path: monkeypatch.setattr(session.tempfile, "tempdir", str(path))


def test_a_short_temporary_directory_takes_rays_sockets(temporary, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: True)
    temporary("/scratch/user/12345")
    assert socket_folder() == Path("/scratch/user/12345")


@pytest.mark.parametrize("name", ["x" * 60, "ä" * 12, "var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T"])
def test_a_long_temporary_directory_gives_way_to_a_short_one(temporary, name):
    temporary(f"/{name}")
    folder = socket_folder()
    assert folder != Path(f"/{name}")
    assert len(os.fsencode(folder)) <= 20


def test_without_any_short_folder_the_variable_is_named_and_the_doctor_says_so(temporary, monkeypatch, tmp_path):
    temporary(tmp_path / ("x" * 60))
    monkeypatch.setattr(os, "access", lambda path, _: False)
    with pytest.raises(UserError, match=r"TMPDIR: .* too long for Ray's sockets.*at most 20 characters") as caught:
        socket_folder()
    for name in ("_versions", "_devices", "_shared_memory", "_folder", "measure_speed"):
        monkeypatch.setattr(machine, name, lambda *_: iter([]))
    check = next(one for one in machine.examine() if one.name == "Ray's sockets")
    assert (check.state, check.value, check.advice) == ("problem", caught.value.what, caught.value.advice)


JOINS = "from dist_lstm.jobs.session import join_cluster\nwith join_cluster() as joined: print(joined.nodes)"


@pytest.mark.slow
@pytest.mark.parametrize("length", [20, 60])
def test_ray_starts_whatever_the_length_of_the_temporary_directory(length):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    prefix = "x" * (length - len("/tmp/12345678"))
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp") as folder:
        assert len(folder) == length
        environment["TMPDIR"] = folder
        words = [sys.executable, "-c", JOINS]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
        assert list(Path(folder).iterdir()) == []
