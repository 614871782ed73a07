"""Nodes of a Ray cluster on this machine; an environment variable marks the processes of each."""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.fleet.fleets import without_ray

BIN = Path(sys.executable).parent
_MARK = "DIST_LSTM_TEST_NODE"
#: A node that does not answer is declared dead within seconds, and ends itself when the head is unreachable.
SHORT_TIMEOUTS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_grpc_client_keepalive_time_ms": "2000",
    "RAY_grpc_client_keepalive_timeout_ms": "2000",
}


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Node:
    """The processes of `ray start` and their descendants.

    Args:
        folder: Folder for Ray's own files and the token; short, as the path of a socket has a limit.
        before: Words put before each command, such as those that enter a network namespace.
    """

    def __init__(self, folder: Path, *before: str) -> None:
        self._mark, self._before, self._folder = secrets.token_hex(8), before, folder
        self._started: list[subprocess.Popen] = []
        folder.mkdir(exist_ok=True)
        token = folder / "token"
        if not token.exists():
            token.touch(0o600)
            token.write_text(secrets.token_hex(32))
        self.token = token.read_text()
        self.ray_environment = {
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_AUTH_MODE": "token",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }
        self.user = without_ray() | self.ray_environment | {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def start(self, *words: str) -> subprocess.Popen:
        """Start a command of the node."""
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*self._before, *words],
                env=self.user | SHORT_TIMEOUTS | {_MARK: self._mark},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def processes(self, name: str = "") -> list[int]:
        """Ids of the node's processes whose command line begins with a pattern."""
        mark, pids = f"{_MARK}={self._mark}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes() and re.match(name, (folder / "cmdline").read_text()):
                    pids.append(int(folder.name))
        return pids

    def works(self) -> bool:
        """Whether it is training."""
        return bool(self.processes(r"ray::ResourceTrainable.train"))

    def kill(self) -> None:
        """Kill all processes at once, as a power failure does."""
        end = time.monotonic() + 30
        while left := self.processes():
            assert time.monotonic() < end, left
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        for one in self._started:
            one.wait()


#: Options of `ray start` for all nodes.
SMALL = (
    "--num-cpus=1", "--num-gpus=0", f"--object-store-memory={100 * 2**20}", "--disable-usage-stats",
    "--min-worker-port=0", "--max-worker-port=0",
)  # fmt: skip
