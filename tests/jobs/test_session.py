"""Sessions on a Ray cluster."""

import os
import stat
from pathlib import Path

import pytest

from dist_lstm.errors import UserError
from dist_lstm.hardware import cpus
from dist_lstm.jobs.session import join_cluster

pytestmark = pytest.mark.slow


def test_without_an_address_the_cluster_is_this_machine(cluster):
    assert cluster.address is None
    assert (cluster.nodes, cluster.cpus) == (1, max(1, int(cpus()[0])))
    assert cluster.summary == f"this machine, {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs"


def test_it_requires_a_token_that_only_its_user_can_read(cluster):
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_its_processes_report_no_usage_and_have_no_token_in_their_environment(cluster):
    import ray

    environment = ray.get(ray.remote(lambda: dict(os.environ)).remote())
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    secret = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert secret not in environment.values()


def test_an_address_without_a_cluster_is_named(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "not an address")
    with (
        pytest.raises(UserError, match=r"RAY_ADDRESS: not an address: no Ray cluster answers: .*unset"),
        join_cluster(),
    ):
        pass
