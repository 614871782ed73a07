"""One model on several nodes: the training of `dist_lstm.run` with one process per node.

The command prepares the data. Then Ray Train's `TensorflowTrainer` starts one worker per node and gives each the
addresses of all. A worker runs `dist_lstm.run.train`. The chief works in the run directory, which all nodes must
see; the others work in temporary folders, so that only the chief writes results. When a worker dies, all are
restarted and continue from the last checkpoint.

Importing `ray.train.tensorflow` imports TensorFlow, and its `fit` replaces the handler of SIGINT for good. So the
trainer runs in a Ray task, and the process of the command stays small and keeps its signal handlers.
"""

import contextlib
import io
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dist_lstm.config.load import load_config, measured_before, override
from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.schema import ResourceSettings
from dist_lstm.config.task import Task
from dist_lstm.data.manifest import Manifest
from dist_lstm.errors import UserError
from dist_lstm.jobs.coordinator import Coordinator, RemoteOutput
from dist_lstm.jobs.session import hide_gpus_not_given, join_cluster
from dist_lstm.layout import RunLayout
from dist_lstm.run import train
from dist_lstm.run_directory import Run
from dist_lstm.signals import HeldSignals
from dist_lstm.storage import local_path, remove, write_text

#: Consecutive starts of all workers without a new checkpoint, after which training fails.
_ATTEMPTS = 3
#: Seconds between two reads of the workers' output.
_POLL = 0.5
#: Seconds for lost nodes to be replaced, for instance by an autoscaler.
_REPLACED_WITHIN = 600
_MARKER = ".nodes"


@contextmanager
def nodes_trainer(resources: ResourceSettings, where: str | Path) -> Iterator[Callable[[Run], Run]]:
    """Join the cluster whose nodes train together.

    Args:
        resources: Number of nodes, and CPUs and GPUs of each.
        where: The run directory.

    Yields:
        A function that trains a run on them, in place of `dist_lstm.run.train`.

    Raises:
        UserError: If there is no cluster, it has too few nodes, or the run directory is on an object store.
    """
    if local_path(where) is None:
        raise UserError(
            "--out",
            (
                f"{where}: with resources.nodes {resources.nodes} it must be a folder that all nodes share, not "
                "a URI"
            ),
            "copy the run there when it is done, or set resources.nodes to 1",
        )
    if "RAY_ADDRESS" not in os.environ:
        raise UserError(
            "resources.nodes",
            f"{resources.nodes} nodes asked for, and this machine is one",
            "set RAY_ADDRESS to the address of a Ray cluster, or resources.nodes to 1",
        )
    with join_cluster():
        share = _share(resources)
        yield lambda run: _train(run, share)


def node_share(nodes: Sequence[Mapping[str, float]], resources: ResourceSettings) -> dict[str, float]:
    """Resources per worker, which enough nodes have.

    Args:
        nodes: `CPU`, `GPU` and other resources of each node that is up.
        resources: Number of nodes, and CPUs and GPUs of each; `auto` is what the smallest of the `nodes` largest
            nodes has.

    Returns:
        `CPU` and `GPU` per worker, whole numbers.

    Raises:
        UserError: If there are too few nodes.
    """
    gpus = 0 if resources.gpus == "auto" else resources.gpus
    sizes = [(int(node.get("GPU", 0)), int(node.get("CPU", 0))) for node in nodes]
    usable = sorted((size for size in sizes if size[0] >= gpus and size[1] >= 1), reverse=True)[: resources.nodes]
    if len(usable) < resources.nodes:
        needed = f"1 CPU and {gpus} GPUs" if gpus else "1 CPU"
        raise UserError(
            "resources.nodes",
            (
                f"{resources.nodes} nodes asked for, {len(usable)} of the cluster's {len(nodes)} have {needed}: "
                f"start {resources.nodes - len(usable)} more, or lower resources.nodes"
            ),
        )
    cpus = min(number for _, number in usable)
    threads = cpus if resources.threads == "auto" else min(resources.threads, cpus)
    return {"CPU": threads, "GPU": usable[-1][0] if resources.gpus == "auto" else gpus}


def _share(resources: ResourceSettings) -> dict[str, float]:
    import ray

    return node_share([node["Resources"] for node in ray.nodes() if node["Alive"]], resources)


def refuse_nodes(resources: ResourceSettings) -> None:
    """Refuse several nodes per model for commands that spread many models over the nodes.

    Args:
        resources: Resources of the job.

    Raises:
        UserError: If `resources.nodes` is above 1.
    """
    if resources.nodes > 1:
        raise UserError(
            "resources.nodes",
            f"{resources.nodes} nodes train one model together in dist-lstm run and train",
            "tune and fleet use every node of a cluster, a model on one: set it to 1",
        )


@dataclass(frozen=True)
class Work:
    """Arguments of a worker.

    Attributes:
        folder: The run directory.
        config: Settings of the job, with those that have been measured so far.
        manifest: Manifest of the shards.
        task: The task.
        token: Content of a file in the run directory, by which a node recognises that it shares the directory.
        coordinator: Handle of the `Coordinator` actor.
    """

    folder: Path
    config: ResolvedConfig
    manifest: Manifest
    task: Task
    token: str
    coordinator: Any = field(repr=False)


def _train(run: Run, share: dict[str, float]) -> Run:
    """Train a run on the nodes, from its last checkpoint if there is one."""
    if run.is_done("train"):
        return train(run)
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    coordinator: Any = ray.remote(Coordinator).options(num_cpus=0, scheduling_strategy=beside).remote()  # type: ignore
    launch: Any = ray.remote(_launch).options(num_cpus=0, max_retries=0, scheduling_strategy=beside)
    token, failures = secrets.token_hex(8), 0
    write_text(run.folder / _MARKER, token)
    try:
        with HeldSignals() as held:
            while not run.is_done("train") and held.number is None:
                run = _as_measured(run)
                before = _checkpoints(run)
                work = Work(run.folder.absolute(), run.config, run.manifest, run.task, token, coordinator)
                failure = _follow(launch.remote(work, share), coordinator, run.console, held)
                error: UserError | None = ray.get(coordinator.get_error.remote())
                if error is not None:
                    raise error
                if not failure or held.number is not None:
                    continue
                failures = failures + 1 if _checkpoints(run) == before else 0
                if failures == _ATTEMPTS:
                    _share(run.config.resources)  # if nodes are missing, that is the error to report
                    raise RuntimeError(f"training on {run.config.resources.nodes} nodes failed: {failure}")
                run.console.print(f"nodes     {failure}; going on from the last checkpoint")
    finally:
        remove(run.folder / _MARKER)
    return _as_measured(run)


def _as_measured(run: Run) -> Run:
    """The run with the values that the workers measured for settings that are `auto`."""
    measured = measured_before(run.config, load_config(run.files.config))
    return replace(run, config=override(run.config, measured)) if measured else run


def _checkpoints(run: Run) -> set[str]:
    # `Checkpoints` would import TensorFlow.
    return {path.name for path in run.files.checkpoints.glob("*.npz")}


def _follow(attempt: Any, coordinator: Any, console: Console, held: HeldSignals) -> str:
    """Print the workers' output until they end, and pass a signal on; returns why they failed, if they did."""
    import ray

    started = signalled = False
    while True:
        ended, _ = ray.wait([attempt], timeout=_POLL)
        output = ray.get(coordinator.take_output.remote())
        console.print(output, end="")
        started = started or bool(output)
        if ended:
            return ray.get(attempt)
        if held.number is not None and not signalled:
            if not started:  # there is nothing to save
                return ""
            signalled = True
            ray.get(coordinator.set_signal.remote(held.number))


def _reason(failure: Exception) -> str:
    """Why each worker failed: the last line of its exception, without the further sentences that Ray adds."""
    of_workers = getattr(failure, "worker_failures", {}).items()
    reasons = [(f"worker {rank}: ", one) for rank, one in of_workers] or [("", failure)]
    return "; ".join(who + _last_sentence(str(one)) for who, one in reasons)


def _last_sentence(text: str) -> str:
    # TensorFlow ends with advice, and a line that names a node of its graph.
    lines = [line.strip() for line in text.splitlines()]
    sentences = [
        line for line in lines if line and not line.startswith(("[[", "The error could be from a previous"))
    ]
    return sentences[-1].split(". ")[0] if sentences else "no reason given"


def _launch(work: Work, share: dict[str, float]) -> str:
    """Start one worker per node and wait for them; returns why they failed, empty if they did not.

    The reason is text, since whoever unpickles an exception of TensorFlow's would import TensorFlow.
    """
    # Read by Ray Train: seconds to wait for the nodes.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(_REPLACED_WITHIN)
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.tensorflow import TensorflowTrainer

    with tempfile.TemporaryDirectory(prefix="dist-lstm-") as scratch:
        # Checkpoints are in the run directory; Ray Train's own state is not needed afterwards.
        trainer = TensorflowTrainer(
            _work,
            train_loop_config={"work": work},
            scaling_config=ScalingConfig(
                num_workers=work.config.resources.nodes,
                use_gpu=share["GPU"] > 0,
                resources_per_worker={name: number for name, number in share.items() if number},
                placement_strategy="STRICT_SPREAD",
            ),
            run_config=RunConfig(
                name="nodes",
                storage_path=scratch,
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as failure:
            return _reason(failure)
    return ""


def _work(settings: dict[str, Work]) -> None:
    """Train as one of the workers; Ray Train calls it in each."""
    work = settings["work"]
    import ray
    from ray.train import get_context

    rank = get_context().get_world_rank()
    hide_gpus_not_given()
    line = RemoteOutput(work.coordinator)
    node = ray.util.get_node_ip_address()
    line.write(f"worker    {rank} on {node}, process {os.getpid()}\n")
    try:
        check_folder(work)
        with tempfile.TemporaryDirectory(prefix="dist-lstm-") as scratch:
            own = Path(scratch)
            RunLayout(own).shards.symlink_to(RunLayout(work.folder).shards)
            folder, file = (own, io.StringIO()) if rank else (work.folder, line)
            console = Console(file=file, highlight=False, soft_wrap=True, markup=False, emoji=False)  # type: ignore
            run = Run(folder, work.config, work.manifest, work.task, console)
            # All workers leave training together when the chief gets the signal.
            with contextlib.suppress(SystemExit):
                train(run, (lambda: None) if rank else lambda: ray.get(work.coordinator.get_signal.remote()))
    except UserError as error:
        ray.get(work.coordinator.set_error.remote(error))
        raise


def check_folder(work: Work) -> None:
    """Check that this node sees the run directory, and not another folder with the same path.

    Args:
        work: Arguments of the worker; `token` is what the command wrote into the directory.

    Raises:
        UserError: If it does not.
    """
    try:
        token = (work.folder / _MARKER).read_text(encoding="utf-8")
    except OSError:
        token = ""
    if token != work.token:
        raise UserError(
            work.folder,
            f"{socket.gethostname()} does not see this folder",
            f"with resources.nodes {work.config.resources.nodes} --out must be one that all nodes share",
        )
