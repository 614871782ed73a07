"""Submission of a command of this package to a Ray cluster: checks, the files that are shipped, resources.

The installed package and the config file are shipped, so that the cluster runs the code of the laptop. Tables
and results are not: they must be where all nodes see them.
"""

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

import dist_lstm
from dist_lstm.config.load import flatten, load_config
from dist_lstm.config.schema import Config
from dist_lstm.credentials import refuse_keys
from dist_lstm.errors import UserError
from dist_lstm.hardware import KIB
from dist_lstm.jobs.client import Dashboard
from dist_lstm.jobs.follow import Job, jobs_called
from dist_lstm.jobs.nodes import node_share
from dist_lstm.jobs.preflight import ask_cluster, versions
from dist_lstm.jobs.session import RAY_ENVIRONMENT, require_shared_folder

#: Verbs that train or predict; with `auto` they use the whole node they run on.
_WHOLE_NODE = ("run", "train", "backtest", "forecast")
#: Verbs that train on `resources.nodes` nodes; the job itself then runs on the head and holds no resources.
_TOGETHER = ("run", "train")
#: Verbs that distribute trials over the cluster, and the config section with the resources per trial; the job
#: itself runs on the head and holds no resources.
_SPREAD = {"tune": "search", "fleet": "fleet"}
#: Seconds between SIGTERM and SIGKILL when a job is stopped, enough to save a checkpoint. Ray's default is 3.
STOP_SECONDS = 60
_SURVEY_SECONDS = 120.0
#: Ray sets OMP_NUM_THREADS to the CPUs of a job, to 1 for a job with GPUs, and Arrow would use that many threads.
_COMMAND = ("exec", "env", "-u", "OMP_NUM_THREADS", "python", "-P", "-m", "dist_lstm")

_BREAKS = {
    "Python": "Ray's own state of a search or a fleet may not be read back here",
    "ray": "submitting, following and stopping may fail, and Ray's own state may not be read back here",
    "tensorflow": "a model saved there may not load here, and results may differ",
    "keras": "a model saved there may not load here",
}


@dataclass(frozen=True)
class Command:
    """A command to run on a cluster, as the user wrote it.

    Attributes:
        verb: The verb.
        words: The arguments after it.
        config: The config file among them; None for a verb that takes a run.
        settings: Values of `--set` among them.
        tables: Tables among them that are read, by purpose.
        reads: Folders among them that are read, by purpose.
        out: Value of `--out` among them.
    """

    verb: str
    words: tuple[str, ...]
    config: str | None = None
    settings: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    out: str | None = None


def submit(
    dashboard: Dashboard, command: Command, name: str | None, shared: tuple[str, ...], console: Console
) -> Job:
    """Check a command, ship its files and submit it to a cluster.

    Args:
        dashboard: Dashboard of the cluster.
        command: The command.
        name: Name of the job; None for that of the config or the run.
        shared: Folders that every node of the cluster sees, as the user states.
        console: Where progress is printed.

    Returns:
        The job, which may still wait for resources.

    Raises:
        UserError: If it can't run there, or a job of that name has not ended.
    """
    name = name or re.sub(r"[^\w.-]+", "-", Path(command.config or next(iter(command.reads.values()))).stem)
    if not re.fullmatch(r"\w[\w.-]{0,59}", name, re.ASCII):
        raise UserError(f"--name {name}", "expected up to 60 letters, digits, '.', '_' or '-'")
    config = load_config(command.config, command.settings) if command.config else None
    questions = _locations(command, config, shared)
    former = jobs_called(dashboard, name)
    for job in former:
        if not job.ended:
            raise UserError(
                f"--name {name}",
                f"a job of that name is {job.state}",
                (
                    f"follow it with `dist-lstm jobs logs {name} --follow`, end it with `dist-lstm jobs stop "
                    f"{name}`, or give another --name"
                ),
            )
    resources = choose_resources(command.verb, config, read_cluster(dashboard), console)
    with make_runtime_env(command.config) as (runtime_env, shipped):
        console.print(f"shipping  {shipped}")
        answer = ask_cluster(dashboard, runtime_env, questions, _SURVEY_SECONDS)
        for problem in compare_versions(versions(), answer["versions"]):
            console.print(f"warning   {problem}")
        if answer["refused"]:
            listing = "; ".join(f"{purpose}: {why}" for purpose, why in answer["refused"].items())
            raise UserError("", f"{listing} (as seen from the head of {dashboard.url})")
        job_id = f"{name}-{1 + max((job.number for job in former), default=0)}"
        dashboard.submit(
            entrypoint=shlex.join([*_COMMAND, *_words(command, config)]),
            submission_id=job_id,
            runtime_env=runtime_env,
            metadata={"job_name": name, "dist_lstm": dist_lstm.__version__},
            **resources,
        )
    console.print(f"job       {name}: {_summary(resources)}, on {dashboard.url}")
    return Job(name, job_id, "pending", command.verb)


def _locations(command: Command, config: Config | None, shared: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Paths and URIs of a command as questions of the survey; one that the cluster can't see is refused."""
    tables = dict(command.tables) | ({"data.path": config.data.path} if config else {})
    if config and command.out is None and command.verb != "plan":
        raise UserError(
            "--out is missing",
            "what a job writes to its node's disk goes with it",
            "give a URI or a shared folder",
        )
    if command.verb == "tune":
        require_shared_folder(command.out or "", on_cluster=True)
    writes = {} if command.out is None else {"--out": command.out}
    for purpose, location in (tables | dict(command.reads) | writes).items():
        _check_location(purpose, location, shared)
    return {"tables": tables, "reads": dict(command.reads), "writes": writes}


def _check_location(purpose: str, location: str, shared: tuple[str, ...]) -> None:
    refuse_keys(purpose, location)
    if "://" in location and not location.startswith("file:"):
        return
    path = Path(location.removeprefix("file://"))
    # Not resolved, since symbolic links of this machine need not exist on the cluster.
    if path.is_absolute() and ".." not in path.parts and any(path.is_relative_to(one) for one in shared):
        return
    folders = " or ".join(shared) or "none is named"
    raise UserError(
        purpose,
        f"{location}: the cluster does not see this machine's disk",
        (
            "give a URI such as s3://BUCKET/DIR, or a path in a folder that every node sees and name that "
            f"folder with --shared DIR ({folders})"
        ),
    )


def _words(command: Command, config: Config | None) -> list[str]:
    """The command as it runs there: the config by its shipped name, the table by the path that was checked."""
    if config is None or command.config is None:
        return [command.verb, *command.words]
    words = [Path(word).name if word == command.config else word for word in command.words]
    path = config.data.path
    located = [] if f"data.path={path}" in command.settings else ["--set", f"data.path={json.dumps(path)}"]
    return [command.verb, *words, *located]


@contextmanager
def make_runtime_env(config: str | None = None) -> Iterator[tuple[dict[str, Any], str]]:
    """Copy the installed package and a config into a temporary folder, to be shipped.

    Args:
        config: The config file; None for none.

    Yields:
        Ray's runtime environment, and a short description of it. The files exist until the block ends.
    """
    with tempfile.TemporaryDirectory(prefix="dist-lstm-") as temporary:
        package, folder = Path(temporary) / "package" / "dist_lstm", Path(temporary) / "config"
        shutil.copytree(Path(dist_lstm.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        environment = RAY_ENVIRONMENT | {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        runtime_env: dict[str, Any] = {"py_modules": [str(package)], "env_vars": environment}
        if config:
            folder.mkdir()
            shutil.copy(config, folder)
            runtime_env["working_dir"] = str(folder)
        sizes = [path.stat().st_size for path in Path(temporary).rglob("*") if path.is_file()]
        and_config = f" and {Path(config).name}" if config else ""
        yield (
            runtime_env,
            f"dist_lstm {dist_lstm.__version__}{and_config}: {len(sizes)} files, {sum(sizes) / KIB:,.0f} KiB",
        )


@dataclass(frozen=True)
class Nodes:
    """Nodes of a cluster.

    Attributes:
        resources: `CPU`, `GPU` and other resources of each node that is up.
        grows: Whether an autoscaler may start more nodes.
    """

    resources: tuple[Mapping[str, float], ...]
    grows: bool

    def most(self, resource: str) -> float:
        """The largest amount of a resource that one node has; 0 without nodes."""
        return max((node.get(resource, 0.0) for node in self.resources), default=0.0)


def read_cluster(dashboard: Dashboard) -> Nodes:
    """Read the nodes of a cluster from its dashboard."""
    nodes = dashboard.state("/api/v0/nodes?detail=1&limit=10000")["result"]["result"]
    status = dashboard.state("/api/cluster_status")["clusterStatus"]
    # Without an autoscaler each node is its own type, with a name made from its id.
    types = (status or {}).get("autoscalerReport", {}).get("nodeTypeMapping") or {"": ""}
    alive = tuple(node["resources_total"] for node in nodes if node["state"] == "ALIVE")
    return Nodes(alive, any(not name.startswith("node_") for name in types.values()))


def choose_resources(verb: str, config: Config | None, nodes: Nodes, console: Console) -> dict[str, Any]:
    """Resources that a job holds while it runs: GPUs or CPUs of one node.

    Args:
        verb: The verb that it runs.
        config: Its config; None for a verb that takes a run, which gets the resources of `auto`.
        nodes: Nodes of the cluster.
        console: Where a warning about `auto` without any GPU is printed.

    Returns:
        Arguments of Ray's `submit_job`; none for a job that distributes work and runs on the head.

    Raises:
        UserError: If no node has these resources and no node will be added, or too few nodes are up for
            `resources.nodes`.
    """
    if config and config.resources.nodes > 1 and verb in _TOGETHER:
        # An autoscaler does not help: resources per worker depend on the nodes that are up.
        node_share(nodes.resources, config.resources)
        return {}
    settings = dict(flatten(config)) if config else {}
    gpus_asked, threads = settings.get("resources.gpus", "auto"), settings.get("resources.threads", "auto")
    gpus = int(nodes.most("GPU")) if gpus_asked == "auto" else gpus_asked
    _refuse_more("resources.gpus", gpus, nodes, "GPU")
    if config and verb in _SPREAD:
        section = getattr(config, _SPREAD[verb])
        _refuse_more(f"{_SPREAD[verb]}.cpus", section.cpus, nodes, "CPU")
        _refuse_more(f"{_SPREAD[verb]}.gpus", section.gpus, nodes, "GPU")
        return {}
    if verb in _WHOLE_NODE and gpus:
        return {"entrypoint_num_gpus": gpus}
    if verb in _WHOLE_NODE and gpus_asked == "auto" and nodes.grows:
        console.print(
            "warning   no GPU is up and none was asked for: runs on a CPU; --set resources.gpus=N asks for N"
        )
    whole = max(1, int(nodes.most("CPU"))) if verb in _WHOLE_NODE else 1
    cpus = whole if threads == "auto" else threads
    _refuse_more("resources.threads", cpus, nodes, "CPU")
    return {"entrypoint_num_cpus": cpus}


def _refuse_more(setting: str, asked: float, nodes: Nodes, kind: str) -> None:
    """Refuse more of a resource than any node has, unless an autoscaler may start larger nodes."""
    most = nodes.most(kind)
    if asked > most and not nodes.grows:
        raise UserError(
            setting,
            (f"{asked:g}: no node of the cluster has more than {most:g} {kind}s (nodes: {len(nodes.resources)})"),
            "ask for fewer",
        )


def _summary(resources: Mapping[str, Any]) -> str:
    units = {"entrypoint_num_gpus": "GPU", "entrypoint_num_cpus": "CPU"}
    parts = [f"{value:g} {units[key]}{'s' * (value != 1)} of one node" for key, value in resources.items()]
    return ", ".join(parts) or "from the head"


def compare_versions(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Warn about what may break because versions differ.

    Args:
        here: Versions on this machine, as `dist_lstm.jobs.preflight.versions` returns them.
        there: Versions on the cluster.

    Returns:
        One line per package whose major or minor version differs.
    """
    warnings = []
    for name, breaks in _BREAKS.items():
        mine, other = here.get(name, "none"), there.get(name, "none")
        if mine.split(".")[:2] != other.split(".")[:2]:
            warnings.append(f"{name} is {other} on the cluster, {mine} here: {breaks}")
    return warnings
