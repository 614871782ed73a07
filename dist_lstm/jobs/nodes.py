"""One model on several nodes: the training of `dist_lstm.run`, a process a node.

The command prepares the data, then Ray Train's `TensorflowTrainer` starts a worker on each node and tells all of
them of each other. A worker runs `dist_lstm.run.train`. The chief works in the run directory, which all nodes
must see; the others in a folder of their own that is thrown away: so only the chief ever writes. When a worker
dies, all are started anew and go on from the last checkpoint.

Importing `ray.train.tensorflow` imports TensorFlow, and `fit` there takes SIGINT for good. So the trainer itself
is started in a process of Ray's, and the command's process stays light and keeps its signals.
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
from dist_lstm.run import Run, train
from dist_lstm.signals import HeldSignals
from dist_lstm.storage import local_path, remove, write_text

#: Times in a row that all workers are started without coming to another checkpoint.
_ATTEMPTS = 3
#: Seconds between two looks at what the workers say.
_LOOK = 0.5
#: Seconds in which lost nodes may be replaced, as an autoscaler does it.
_REPLACED_WITHIN = 600
_SEEN = ".nodes"


@contextmanager
def nodes_trainer(resources: ResourceSettings, where: str | Path) -> Iterator[Callable[[Run], Run]]:
    """Join the cluster whose nodes are to train together.

    Args:
        resources: How many nodes, and what of each.
        where: The run directory.

    Yields:
        What trains a run on them, in place of `dist_lstm.run.train`.

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
    """What a worker may take of its node, so that enough nodes have it.

    Args:
        nodes: `CPU`, `GPU` and others of each node that is up.
        resources: How many nodes, and what of each; `auto` is as much as the least of the best nodes has.

    Returns:
        Whole CPUs and GPUs.

    Raises:
        UserError: If there are too few nodes.
    """
    gpus = 0 if resources.gpus == "auto" else resources.gpus
    able = [(int(one.get("GPU", 0)), int(one.get("CPU", 0))) for one in nodes]
    able = sorted((one for one in able if one[0] >= gpus and one[1] >= 1), reverse=True)[: resources.nodes]
    if len(able) < resources.nodes:
        needed = f"1 CPU and {gpus} GPUs" if gpus else "1 CPU"
        raise UserError(
            "resources.nodes",
            (
                f"{resources.nodes} nodes asked for, {len(able)} of the cluster's {len(nodes)} have {needed}: "
                f"start {resources.nodes - len(able)} more, or lower resources.nodes"
            ),
        )
    cpus = min(number for _, number in able)
    threads = cpus if resources.threads == "auto" else min(resources.threads, cpus)
    return {"CPU": threads, "GPU": able[-1][0] if resources.gpus == "auto" else gpus}


def _share(resources: ResourceSettings) -> dict[str, float]:
    import ray

    return node_share([node["Resources"] for node in ray.nodes() if node["Alive"]], resources)


def refuse_nodes(resources: ResourceSettings) -> None:
    """Refuse several nodes a model, where many models are spread over the nodes.

    Args:
        resources: Those of the job.

    Raises:
        UserError: If there are several.
    """
    if resources.nodes > 1:
        raise UserError(
            "resources.nodes",
            f"{resources.nodes} nodes train one model together in dist-lstm run and train",
            "tune and fleet use every node of a cluster, a model on one: set it to 1",
        )


@dataclass(frozen=True)
class Work:
    """What a worker has to know.

    Attributes:
        folder: The run directory.
        config: The job, as far as it is measured.
        manifest: What the shards hold.
        task: The task.
        token: What a file in the run directory says, seen from a node that shares it.
        coordinator: The actor.
    """

    folder: Path
    config: ResolvedConfig
    manifest: Manifest
    task: Task
    token: str
    coordinator: Any = field(repr=False)


def _train(run: Run, share: dict[str, float]) -> Run:
    """Train a run on the nodes, from its last checkpoint where there is one."""
    if run.is_done("train"):
        return train(run)
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    coordinator: Any = ray.remote(Coordinator).options(num_cpus=0, scheduling_strategy=beside).remote()  # type: ignore
    launch: Any = ray.remote(_launch).options(num_cpus=0, max_retries=0, scheduling_strategy=beside)
    token, failures = secrets.token_hex(8), 0
    write_text(run.folder / _SEEN, token)
    try:
        with HeldSignals() as held:
            while not run.is_done("train") and held.number is None:
                run = _as_measured(run)
                before = _checkpoints(run)
                work = Work(run.folder.absolute(), run.config, run.manifest, run.task, token, coordinator)
                failure = _follow(launch.remote(work, share), coordinator, run.console, held)
                mistake: UserError | None = ray.get(coordinator.get_error.remote())
                if mistake is not None:
                    raise mistake
                if not failure or held.number is not None:
                    continue
                failures = failures + 1 if _checkpoints(run) == before else 0
                if failures == _ATTEMPTS:
                    _share(run.config.resources)  # nodes that are gone are what there is to mend
                    raise RuntimeError(f"training on {run.config.resources.nodes} nodes failed: {failure}")
                run.console.print(f"nodes     {failure}; going on from the last checkpoint")
    finally:
        remove(run.folder / _SEEN)
    return _as_measured(run)


def _as_measured(run: Run) -> Run:
    """With what the workers have measured `auto` to be."""
    measured = measured_before(run.config, load_config(run.files.config))
    return replace(run, config=override(run.config, measured)) if measured else run


def _checkpoints(run: Run) -> set[str]:
    # `Checkpoints` would import TensorFlow.
    return {path.name for path in run.files.checkpoints.glob("*.npz")}


def _follow(attempt: Any, coordinator: Any, console: Console, held: HeldSignals) -> str:
    """Print what the workers say until they have ended, and pass on a signal; why they failed, if they did."""
    import ray

    started = signalled = False
    while True:
        ended, _ = ray.wait([attempt], timeout=_LOOK)
        said = ray.get(coordinator.take_output.remote())
        console.print(said, end="")
        started = started or bool(said)
        if ended:
            return ray.get(attempt)
        if held.number is not None and not signalled:
            if not started:  # there is nothing to save
                return ""
            signalled = True
            ray.get(coordinator.set_signal.remote(held.number))


def _reason(failure: Exception) -> str:
    """What failed, in a line a worker: of an exception its last line, less what Ray adds in further sentences."""
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
    """Start a worker on each node, and wait for them; why they failed, if they did.

    As text: an exception of TensorFlow's would bring TensorFlow to whoever unpickles it.
    """
    # Read by Ray Train: as long as a node may be waited for.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(_REPLACED_WITHIN)
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.tensorflow import TensorflowTrainer

    with tempfile.TemporaryDirectory(prefix="dist-lstm-") as scratch:
        # Checkpoints are the run directory's; what Ray Train notes down is of no use afterwards.
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
    """What each worker does."""
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
            # All of them leave training together, when the chief was told to.
            with contextlib.suppress(SystemExit):
                train(run, (lambda: None) if rank else lambda: ray.get(work.coordinator.get_signal.remote()))
    except UserError as error:
        ray.get(work.coordinator.set_error.remote(error))
        raise


def check_folder(work: Work) -> None:
    """Check that this node sees the run directory, and not another one of that name.

    Args:
        work: What the command wrote into it.

    Raises:
        UserError: If it does not.
    """
    try:
        seen = (work.folder / _SEEN).read_text(encoding="utf-8")
    except OSError:
        seen = ""
    if seen != work.token:
        raise UserError(
            work.folder,
            f"{socket.gethostname()} does not see this folder",
            f"with resources.nodes {work.config.resources.nodes} --out must be one that all nodes share",
        )
