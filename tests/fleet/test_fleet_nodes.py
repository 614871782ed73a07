"""A fleet on a cluster of two nodes, one of which dies."""

import re
import shutil
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from tests.fleet.fleets import ended, finished, forecasts, start, wait_until
from tests.jobs.ray_nodes import SMALL, Node, free_ports

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def nodes():
    """A head and a second node, and the head's address."""
    folder = Path(tempfile.mkdtemp(prefix="dl-"))
    head, second = Node(folder), Node(folder)
    port, *agents = free_ports(5)
    try:
        for node, words in (
            (head, ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder / 'ray'}")),
            (second, (f"--address=127.0.0.1:{port}", f"--temp-dir={folder / 'ray2'}")),
        ):
            ports = (f"--metrics-export-port={agents.pop()}", f"--dashboard-agent-listen-port={agents.pop()}")
            assert node.start("ray", "start", *words, *ports, *SMALL).wait(120) == 0
        yield head, second, f"127.0.0.1:{port}"
    finally:
        for node in (second, head):
            node.kill()
        shutil.rmtree(folder)


def test_a_fleet_with_a_dead_node_gives_the_same_forecasts(quick_fleet, nodes, tmp_path):
    (config, undisturbed), (head, second, address) = quick_fleet, nodes
    out = tmp_path / "out"
    with ended(start(config, out, **head.ray_environment, RAY_ADDRESS=address)) as process:
        wait_until(lambda: list((out / "models").glob("part-*")) and second.works(), process)
        second.kill()
        text = finished(process)
    assert f"2 nodes at {address}, 2 CPUs" in text
    assert len(re.findall(r"pack \d was interrupted", text)) == 1
    assert (out / "_SUCCESS").exists()
    pd.testing.assert_frame_equal(forecasts(out), forecasts(undisturbed))
