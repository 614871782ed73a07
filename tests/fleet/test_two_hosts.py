"""A fleet on two hosts whose network link is cut and restored: two network namespaces with a shared folder."""

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from tests.fleet.fleets import ended, finished, forecasts, wait_until
from tests.jobs.ray_nodes import SMALL, Node

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(600)]

HEAD, WORKER = "192.0.2.1", "192.0.2.2"
REJOIN = (
    f"until false; do ray start --address={HEAD}:6379 --node-ip-address={WORKER} --block {' '.join(SMALL)}; done"
)
ASK = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + sys.stdin.read()})
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Names of two network namespaces with a link between them; each end has the name of its namespace."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    names = head, worker = [f"dl-{secrets.token_hex(3)}-{which}" for which in "hw"]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", head, "netns", head, "type", "veth", "peer", "name", worker, "netns", worker)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be made here: {error.stderr.strip()}")
        for name, address in ((head, HEAD), (worker, WORKER)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", name)
            for device in (name, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class Cluster:
    """A head on one host, and a worker node on the other, which is restarted when it ends."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self._inside = ["ip", "netns", "exec", names[0]]
        self.head, self.worker = (Node(folder, "ip", "netns", "exec", name) for name in names)
        self._folder = folder

    def start(self) -> None:
        self._ray = self.head.start(
            "ray", "start", "--head", "--block", "--port=6379", f"--node-ip-address={HEAD}",
            "--dashboard-host=127.0.0.1", f"--temp-dir={self._folder / 'ray'}", *SMALL,
        )  # fmt: skip
        self.wait_for_nodes(HEAD)
        join = (
            "ray", "start", "--block", f"--address={HEAD}:6379", f"--node-ip-address={WORKER}",
            f"--temp-dir={self._folder / 'ray2'}", *SMALL,
        )  # fmt: skip
        self.worker.start("bash", "-c", f"while true; do {shlex.join(join)}; done")
        self.wait_for_nodes(HEAD, WORKER)
        # `submit` reads the cluster's status, which is the last to become available.
        wait_until(lambda: "autoscalerReport" in self._ask("/api/cluster_status"), self._ray, 60)

    def wait_for_nodes(self, *addresses: str) -> None:
        """Wait until exactly these nodes are alive."""
        wait_until(lambda: sorted(self.alive()) == sorted(addresses), self._ray, 120)

    def _ask(self, endpoint: str) -> str:
        words = [*self._inside, sys.executable, "-IS", "-c", ASK, f"http://127.0.0.1:8265{endpoint}"]
        return subprocess.run(
            words, input=self.head.token, capture_output=True, text=True, check=False
        ).stdout  # fmt: skip

    def alive(self) -> list[str]:
        """Addresses of the nodes that are alive according to the head."""
        answer = self._ask("/api/v0/nodes?detail=1")
        nodes = json.loads(answer)["data"]["result"]["result"] if answer else []
        return [node["node_ip"] for node in nodes if node["state"] == "ALIVE"]

    def submit(self, config: Path, out: Path) -> subprocess.Popen:
        """The user's command, on the head's host."""
        words = ["dist-lstm", "submit", f"--shared={out.parent}", f"--shared={config.parent}"]
        return subprocess.Popen(
            [*self._inside, *words, "--", "fleet", str(config), "--out", str(out)],
            env=self.head.user,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def cluster(hosts):
    folder = Path(tempfile.mkdtemp(prefix="dl-"))
    made = Cluster(folder, hosts)
    try:
        made.start()
        yield made
    finally:
        made.worker.kill()
        made.head.kill()
        shutil.rmtree(folder)


def test_a_fleet_continues_without_a_disconnected_host_which_joins_again_when_the_link_is_restored(
    quick_fleet, hosts, cluster, tmp_path
):
    config, undisturbed = quick_fleet
    out, link = tmp_path / "out", ("-n", hosts[1], "link", "set", hosts[1])
    with ended(cluster.submit(config, out)) as process:
        wait_until(lambda: list((out / "models").glob("part-*")) and cluster.worker.works(), process)
        ip(*link, "down")
        cluster.wait_for_nodes(HEAD)
        text = finished(process)
    # The pack may still finish: the folder stays shared, and the disconnected worker runs for some more seconds.
    assert len(re.findall(r"pack \d was interrupted", text)) == 1
    pd.testing.assert_frame_equal(forecasts(out), forecasts(undisturbed))
    ip(*link, "up")
    cluster.wait_for_nodes(HEAD, WORKER)
