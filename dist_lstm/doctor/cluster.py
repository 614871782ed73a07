"""Checks of a Ray cluster: its address, its nodes, their storage and GPUs."""

from collections.abc import Iterator, Mapping
from typing import Any

from dist_lstm.doctor.check import Check
from dist_lstm.errors import UserError
from dist_lstm.hardware import GIB
from dist_lstm.jobs.client import connect
from dist_lstm.jobs.preflight import ask_cluster, versions
from dist_lstm.jobs.submit import compare_versions, make_runtime_env

#: Seconds for the survey of all nodes: it waits a minute for busy ones, and TensorFlow may be imported from a
#: network file system.
_SECONDS = 180.0


def examine_cluster(address: str | None, insecure: bool, storage: str | None) -> list[Check]:
    """Check a cluster; takes about 10 seconds, longer with GPUs.

    Args:
        address: URL of its dashboard; None for the one on this machine.
        insecure: Whether plain http to another machine is allowed.
        storage: Path or URI that every node should be able to write to; None to check none.

    Returns:
        The checks, in the order in which they are shown.
    """
    try:
        dashboard = connect(address, insecure)
        mode = dashboard.state("/api/authentication_mode")["authentication_mode"]
        checks = [check_reach(dashboard.url, mode)]
        with make_runtime_env() as (runtime_env, _):
            answer = ask_cluster(dashboard, runtime_env, {"nodes": True, "storage": storage}, _SECONDS)
    except UserError as error:
        return [Check("cluster", error.what, "problem", error.advice or "correct this and run the doctor again")]
    here = versions()
    for node in answer["nodes"]:
        checks += check_node(node, here)
    return checks


def check_reach(address: str, mode: str) -> Check:
    """Whether a cluster asks for a token.

    Args:
        address: URL of its dashboard.
        mode: Its authentication mode, `token` or another.

    Returns:
        A warning where it does not: anyone who reaches it can run programs.
    """
    if mode == "token":
        return Check("cluster", f"{address} accepts the token")
    advice = "anyone who reaches it can run programs; set RAY_AUTH_MODE=token (cluster/README.md, 'The token')"
    return Check("cluster", f"{address} asks for no token", "warning", advice)


def check_node(node: Mapping[str, Any], here: Mapping[str, str]) -> Iterator[Check]:
    """Checks of one node: resources, versions, storage, and NCCL over its GPUs.

    Args:
        node: Its entry in the answer of `dist_lstm.jobs.preflight.ask_cluster`.
        here: Versions on this machine.

    Yields:
        The checks.
    """
    name = f"node {node['name']}"
    has = node["resources"]
    resources = f"{has['CPU']:g} CPUs, {has['GPU']:g} GPUs, {has['memory'] / GIB:.1f} GiB"
    there = node["versions"]
    if "error" in there:
        advice = "see the node's log, or run the doctor again when it is idle"
        yield Check(name, f"{resources}; {there['error']}", "problem", advice)
    else:
        differ = compare_versions(here, there)
        listing = ", ".join(f"{package} {version}" for package, version in there.items())
        advice = f"{'; '.join(differ)}; install the same versions on both"
        yield Check(
            f"{name}{' (head)' if node['head'] else ''}",
            f"{resources}; {listing}",
            "warning" if differ else "ok",
            advice if differ else "",
        )
    if node["storage"] is not None:
        yield check_storage(f"storage on {node['name']}", node["storage"])
    if node["nccl"] is not None:
        yield check_nccl(f"NCCL on {node['name']}", int(has["GPU"]), node["nccl"])


def check_storage(name: str, failure: str | Mapping[str, str]) -> Check:
    """Whether a node can write to the storage.

    Args:
        name: What is checked.
        failure: Why it can't, or an answer whose `error` says so; empty where it can.

    Returns:
        A problem where it can't.
    """
    reason = failure if isinstance(failure, str) else failure["error"]
    if not reason:
        return Check(name, "can be written")
    advice = "mount it on every node, or give the nodes permission to write to it"
    return Check(name, f"can't be written: {reason}", "problem", advice)


def check_nccl(name: str, gpus: int, answer: Mapping[str, Any]) -> Check:
    """Whether a sum over the GPUs of a node through NCCL is right.

    Args:
        name: What is checked.
        gpus: GPUs that Ray offers on the node.
        answer: Of `dist_lstm.jobs.preflight.sum_through_nccl`; only `error` where it could not be tried.

    Returns:
        A problem where it is wrong, or TensorFlow sees fewer GPUs than Ray; a warning where it could not be tried.
    """
    if "gpus" not in answer:
        return Check(
            name, f"not tried: {answer['error']}", "warning", "run the doctor again when its GPUs are idle"
        )
    if answer["error"]:
        advice = "install TensorFlow's CUDA libraries on the node (cluster/Dockerfile); NCCL_DEBUG=INFO says more"
        return Check(name, answer["error"], "problem", advice)
    version = f" {answer['nccl']}" if answer["nccl"] else ""
    summary = f"TensorFlow sums over {answer['gpus']} GPUs through NCCL{version}"
    if answer["gpus"] < gpus:
        return Check(
            name, summary, "problem", f"Ray offers {gpus}; start the node's Ray with --num-gpus={answer['gpus']}"
        )
    return Check(name, summary)
