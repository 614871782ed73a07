"""Session on a Ray cluster: the one that `RAY_ADDRESS` names, or a new one on this machine."""

import atexit
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_lstm.credentials import without_keys
from dist_lstm.errors import UserError
from dist_lstm.hardware import MIB, cpus, hide_gpus
from dist_lstm.jobs.ray_private import start_local
from dist_lstm.storage import local_path

if TYPE_CHECKING:
    from rich.console import Console

#: Read by Ray when it is imported and by every process it starts: no usage statistics, no log files per trial, and
#: no uv hook, which can hang. A trial is lost if the actor that it reuses is slow to end the last one: allow 60 s.
#: A submitted job has the same variables already, which Ray refuses unless it may override them.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
#: Processes exchange references to shards, not their content, so little shared memory is needed.
_STORE_BYTES = 256 * MIB
#: The path of a socket has at most 103 bytes on every system; Ray's end in
#: /dist-lstm-12345678/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.
_LONGEST_FOLDER = 103 - 83


@dataclass(frozen=True)
class Cluster:
    """Resources of a Ray cluster.

    Attributes:
        address: Address of its head; None for a cluster on this machine that ends with the session.
        cpus: Number of CPUs of all nodes.
        gpus: Number of GPUs of all nodes.
        nodes: Number of nodes that are alive.
        most_cpus: CPUs of the node that has most of them.
        most_gpus: GPUs of the node that has most of them.
    """

    address: str | None
    cpus: float
    gpus: float
    nodes: int
    most_cpus: float
    most_gpus: float

    @property
    def summary(self) -> str:
        """Nodes, address, CPUs and GPUs in a few words."""
        where = f"{self.nodes:,} nodes at {self.address}" if self.address else "this machine"
        return f"{where}, {self.cpus:g} CPUs, {self.gpus:g} GPUs"

    def check_fits(self, purpose: str, needed: Mapping[str, float], console: "Console") -> None:
        """Refuse work that needs more than this machine has; say so where it waits for a node of a cluster.

        Args:
            purpose: The piece of work, such as `trial`.
            needed: CPUs and GPUs per piece of work, by the settings that say so, which end in `cpus` or `gpus`.
            console: Where a note is printed: a cluster may grow.

        Raises:
            UserError: If it would wait forever.
        """
        for key, number in needed.items():
            most = self.most_gpus if key.endswith("gpus") else self.most_cpus
            if number <= most:
                continue
            if self.address is None:
                raise UserError(key, f"is {number:g} per {purpose}, but this machine has {most:g}", "lower it")
            console.print(
                f"note      {key} is {number:g} per {purpose}, and no node has more than {most:g}: "
                "waits until one joins the cluster"
            )


@contextmanager
def join_cluster() -> Iterator[Cluster]:
    """Join the cluster that `RAY_ADDRESS` names (a submitted job has it set), or start Ray on this machine.

    A cluster that is started here requires a token that only this user can read, and ends with the block.

    Yields:
        The cluster.

    Raises:
        UserError: If there is no cluster at `RAY_ADDRESS`.
    """
    os.environ.update(RAY_ENVIRONMENT)
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": logging.getLogger("dist_lstm").isEnabledFor(logging.INFO),
        "runtime_env": {"env_vars": RAY_ENVIRONMENT | {"TF_CPP_MIN_LOG_LEVEL": "2"}},
    }
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with _joined(address, options) if address else _own(options):
        import ray

        if threading.current_thread() is threading.main_thread():
            # Ray replaces the handler by one that ends the process with status 15.
            signal.signal(signal.SIGTERM, on_sigterm)
        try:
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            cpus_of, gpus_of = ([node.get(name, 0.0) for node in alive] for name in ("CPU", "GPU"))
            yield Cluster(
                address,
                sum(cpus_of),
                sum(gpus_of),
                len(alive),
                max(cpus_of, default=0.0),
                max(gpus_of, default=0.0),
            )
        finally:
            ray.shutdown()


@contextmanager
def _joined(address: str, options: dict[str, Any]) -> Iterator[None]:
    import ray

    try:
        ray.init(address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            "RAY_ADDRESS",
            f"{address}: no Ray cluster answers: {reason}",
            "start it, or unset RAY_ADDRESS to work on this machine",
        ) from error
    yield


def socket_folder() -> Path:
    """Choose a folder with a path so short that Ray can make its sockets below it.

    Returns:
        The folder of `TMPDIR` where its path is short enough, else /tmp, /var/tmp or the home folder.

    Raises:
        UserError: If there is no such folder.
    """
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path.home()]  # noqa: S108
    for folder in candidates:
        if len(os.fsencode(folder)) <= _LONGEST_FOLDER and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UserError(
        "TMPDIR",
        f"{candidates[0]}: its path is too long for Ray's sockets, and neither /tmp nor /var/tmp can be written",
        f"set it to a folder with a path of at most {_LONGEST_FOLDER} characters",
    )


@contextmanager
def _own(options: dict[str, Any]) -> Iterator[None]:
    folder = Path(tempfile.mkdtemp(prefix="dist-lstm-", dir=socket_folder()))
    mine = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(_token())}
    saved = {key: os.environ.get(key) for key in mine}
    try:
        os.environ.update(mine)
        limits = {"num_cpus": max(1, int(cpus()[0])), "object_store_memory": _STORE_BYTES}
        start_local(folder, options | limits | {"include_dashboard": False})
        yield
    finally:
        for key, value in saved.items():
            os.environ.pop(key)
            os.environ.update({} if value is None else {key: value})
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _token() -> Path:
    """File of a token that only this user can read; one per process, as Ray keeps the first that it reads."""
    folder = tempfile.TemporaryDirectory(prefix="dist-lstm-token-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "token"
    path.write_text(secrets.token_hex(32), encoding="ascii")
    path.chmod(0o600)
    return path


def require_shared_folder(where: str | Path, on_cluster: bool) -> None:
    """Refuse a search on a cluster without a shared folder, in which trials keep their checkpoints.

    Args:
        where: A path, or the URI of an object store.
        on_cluster: Whether trials may run on other nodes.

    Raises:
        UserError: If it is a URI and they may.
    """
    if on_cluster and local_path(where) is None:
        raise UserError(
            f"--out {without_keys(str(where))}",
            "a search on a cluster keeps its state in a folder that all nodes share, not at a store",
            "give such a folder, or search on one machine (without RAY_ADDRESS)",
        )


def hide_gpus_not_given() -> None:
    """Hide all GPUs from a worker to which Ray assigned none; call it before TensorFlow is imported.

    Ray leaves all GPUs visible to a worker that requests none.
    """
    import ray

    if not ray.get_gpu_ids():
        hide_gpus()
