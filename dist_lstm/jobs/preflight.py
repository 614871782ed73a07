"""Survey of a cluster: a program that is submitted there as a job and prints one line of JSON.

    python -m dist_lstm.jobs.preflight QUESTIONS

`ask_cluster` submits it and reads the line. On the head it reports versions and which paths and URIs can be used;
with `nodes` it inspects every node as well.
"""

import json
import logging
import os
import platform
import secrets
import shlex
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from dist_lstm.errors import UserError
from dist_lstm.jobs.client import Dashboard
from dist_lstm.startup import start_tensorflow

PACKAGES = ("ray", "tensorflow", "keras")
_MARK = "dist-lstm survey: "
_POLL = 0.2
_ENDED = ("succeeded", "failed", "stopped")
#: Seconds to wait for nodes whose GPUs other work holds.
_BUSY_SECONDS = 60.0


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a job depends on; those that are not installed are left out."""
    result = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            result[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return result


def ask_cluster(
    dashboard: Dashboard, runtime_env: Mapping[str, Any], questions: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Run the survey on a cluster's head.

    Args:
        dashboard: Dashboard of the cluster.
        runtime_env: Ray's runtime environment, which contains this package.
        questions: Argument of `answer`.
        seconds: Seconds to wait for the result.

    Returns:
        The result of `answer` there.

    Raises:
        UserError: If the head runs no job in that time, or a job there can't use this package.
    """
    name = f"dist-lstm-survey-{secrets.token_hex(8)}"
    dashboard.submit(
        entrypoint=f"exec python -P -m dist_lstm.jobs.preflight {shlex.quote(json.dumps(questions))}",
        submission_id=name,
        runtime_env=dict(runtime_env),
    )
    end = time.monotonic() + seconds
    while (info := dashboard.job(name))["status"].lower() not in _ENDED:
        if time.monotonic() > end:
            dashboard.stop(name)
            raise UserError(dashboard.url, f"its head runs no job within {seconds:g} s", "see `ray status` there")
        time.sleep(_POLL)
    lines = dashboard.logs(name).splitlines()
    dashboard.delete(name)
    for line in lines:
        if line.startswith(_MARK):
            return json.loads(line.removeprefix(_MARK))
    reason = (lines or [info.get("message") or ""])[-1]
    raise UserError(
        dashboard.url,
        f"a job there can't use this package: {reason}",
        (
            f"a node's `python` must be {metadata.metadata('dist-lstm')['Requires-Python']} with the packages "
            "of cluster/requirements.lock"
        ),
    )


def answer(questions: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the questions, on the cluster.

    Args:
        questions: `tables`, `reads` and `writes`, each a mapping of purpose to path or URI; `nodes`, whether to
            inspect each node; `storage`, a path or URI that each node should be able to write to, or None.

    Returns:
        `versions`; `refused`, why a path or URI can't be used, by its purpose; `nodes`, the result of
        `_inspect_nodes`, empty unless asked for.
    """
    checks = {"tables": _find_table, "reads": _find, "writes": _find_parent}
    refused = {}
    for kind, check in checks.items():
        for purpose, location in questions.get(kind, {}).items():
            try:
                check(location)
            except UserError as error:
                # The purpose names the setting already.
                where = "" if error.where == "data.path" else error.where
                refused[purpose] = _one_line(str(UserError(where, error.problem, error.advice)))
            except (OSError, ValueError) as error:
                refused[purpose] = _one_line(str(error))
    nodes = _inspect_nodes(questions.get("storage")) if questions.get("nodes") else []
    return {"versions": versions(), "refused": refused, "nodes": nodes}


def _one_line(text: str) -> str:
    """A text in one line."""
    return " ".join(text.split())


def _find_table(location: str) -> None:
    from dist_lstm.data.source import source_files

    source_files(location)


def _find(location: str) -> None:
    from dist_lstm.storage import exists

    if not exists(location):
        raise UserError("", f"{location} does not exist")


def _find_parent(location: str) -> None:
    """Require that a folder could be created there; on a store, which has no folders, that it accepts a file."""
    from dist_lstm.storage import local_path, try_to_write

    path = local_path(location)
    if path is None:
        try_to_write(location)
        return
    folder = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise UserError(location, f"{folder} can't be written")


def try_storage(location: str) -> str:
    """Why this process can't write to a path or URI; empty if it can."""
    from dist_lstm.storage import try_to_write

    try:
        try_to_write(location)
    except (UserError, OSError) as error:
        return _one_line(str(error))
    return ""


def _inspect_nodes(storage: str | None) -> list[dict[str, Any]]:
    """Per node `name`, `head`, `resources`, `versions`, `nccl`, and `storage`: why it can't write, else empty."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(logging_level=logging.ERROR, log_to_driver=False)
    alive = [node for node in ray.nodes() if node["Alive"]]
    refs = {}
    for node in alive:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        gpus = node["Resources"].get("GPU", 0)
        location = {"scheduling_strategy": here, "num_cpus": 0, "max_retries": 0}
        refs[node["NodeID"], "versions"] = ray.remote(versions).options(**location).remote()
        if storage:
            refs[node["NodeID"], "storage"] = ray.remote(try_storage).options(**location).remote(storage)
        if gpus:
            refs[node["NodeID"], "nccl"] = ray.remote(sum_through_nccl).options(**location, num_gpus=gpus).remote()
    ray.wait(list(refs.values()), num_returns=len(refs), timeout=_BUSY_SECONDS)
    answers = {key: _answer_of(ref) for key, ref in refs.items()}
    return [
        {
            "name": node["NodeManagerAddress"],
            "head": "node:__internal_head__" in node["Resources"],
            "resources": {name: node["Resources"].get(name, 0) for name in ("CPU", "GPU", "memory")},
            **{key: answers.get((node["NodeID"], key)) for key in ("versions", "storage", "nccl")},
        }
        for node in alive
    ]


def sum_through_nccl() -> dict[str, Any]:
    """Sum a vector over all GPUs with the op that `MirroredStrategy` trains with.

    Returns:
        `gpus`, the number that TensorFlow sees; `nccl`, the version of NCCL that pip installed, empty if pip
        installed none; `error`, empty if the sum was right.
    """
    start_tensorflow()
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    result = {"gpus": gpus, "nccl": _nccl_version(), "error": ""}
    if not gpus:
        return result | {"error": "TensorFlow sees no GPU"}

    @tf.function
    def add() -> list[Any]:
        sums = []
        for number in range(gpus):
            with tf.device(f"GPU:{number}"):
                ones = tf.ones([1024])
                sums.append(
                    tf.raw_ops.NcclAllReduce(input=ones, reduction="sum", num_devices=gpus, shared_name="doctor")
                )
        return sums

    try:
        wrong = [one for one in add() if not (one.numpy() == gpus).all()]
    except tf.errors.OpError as error:
        return result | {"error": error.message.splitlines()[0]}
    return result | {"error": "the sum is wrong"} if wrong else result


def _nccl_version() -> str:
    for name in ("nvidia-nccl-cu13", "nvidia-nccl-cu12"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _answer_of(ref: Any) -> Any:
    """Result of a task; `{"error": reason}` if it has none."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    try:
        return ray.get(ref, timeout=0)
    except GetTimeoutError:
        return {"error": f"no answer in {_BUSY_SECONDS:g} s; other work may hold the node"}
    except RayError as error:
        return {"error": str(error).strip().splitlines()[-1]}


if __name__ == "__main__":
    sys.stdout.write(f"\n{_MARK}{json.dumps(answer(json.loads(sys.argv[1])))}\n")
