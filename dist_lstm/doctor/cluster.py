"""Is this cluster fit to work on? The doctor's checks of what lies beyond this machine."""

from collections.abc import Iterator, Mapping
from typing import Any

from dist_lstm.doctor.machine import Check
from dist_lstm.errors import UserError
from dist_lstm.hardware import GIB
from dist_lstm.jobs.client import ask, connect
from dist_lstm.jobs.preflight import ask_cluster, versions
from dist_lstm.jobs.submit import compare_versions, make_runtime_env

#: The survey waits a minute for nodes that are busy; TensorFlow may be imported over a network.
_SECONDS = 180.0


def examine_cluster(address: str | None, insecure: bool, storage: str | None) -> list[Check]:
    """Look at a cluster; takes some 10 seconds, where there are GPUs some more.

    Args:
        address: URL of its dashboard; None for this machine's.
        insecure: Whether plain http to another machine is meant.
        storage: A place that every node should be able to write to; None for none.

    Returns:
        The checks, in the order to be read.
    """
    try:
        client = connect(address, insecure)
        mode = ask(client, "/api/authentication_mode")["authentication_mode"]
        found = [check_reach(client.get_address(), mode)]
        with make_runtime_env() as (runtime_env, _):
            answer = ask_cluster(client, runtime_env, {"nodes": True, "storage": storage}, _SECONDS)
    except UserError as error:
        return [Check("cluster", error.what, "problem", error.advice or "mend what it says and ask again")]
    here = versions()
    for node in answer["nodes"]:
        found += check_node(node, here)
    return found


def check_reach(address: str, mode: str) -> Check:
    """Whether a cluster that answers asks who comes in.

    Args:
        address: Where it is.
        mode: Its authentication mode, `token` or another.

    Returns:
        A warning for one that runs programs for anybody.
    """
    if mode == "token":
        return Check("cluster", f"{address} takes the token")
    advice = (
        "whoever reaches it can run programs; start it with RAY_AUTH_MODE=token (cluster/README.md, 'The token')"
    )
    return Check("cluster", f"{address} asks for no token", "warning", advice)


def check_node(node: Mapping[str, Any], here: Mapping[str, str]) -> Iterator[Check]:
    """A node: its resources, its versions, whether it writes to the storage, whether its GPUs work together.

    Args:
        node: As the survey tells it.
        here: Versions at this machine.

    Yields:
        The checks.
    """
    name = f"node {node['name']}"
    has = node["resources"]
    what = f"{has['CPU']:g} CPUs, {has['GPU']:g} GPUs, {has['memory'] / GIB:.1f} GiB"
    there = node["versions"]
    if "error" in there:
        advice = "see the node's log, or ask again when it is idle"
        yield Check(name, f"{what}; {there['error']}", "problem", advice)
    else:
        differ = compare_versions(here, there)
        listing = ", ".join(f"{package} {version}" for package, version in there.items())
        advice = f"{'; '.join(differ)}; install the same versions on both"
        yield Check(
            f"{name}{' (head)' if node['head'] else ''}",
            f"{what}; {listing}",
            "warning" if differ else "ok",
            advice if differ else "",
        )
    if node["storage"] is not None:
        yield check_storage(f"storage on {node['name']}", node["storage"])
    if node["nccl"] is not None:
        yield check_nccl(f"NCCL on {node['name']}", int(has["GPU"]), node["nccl"])


def check_storage(name: str, refused: str | Mapping[str, str]) -> Check:
    """Whether a node writes to the storage.

    Args:
        name: What is checked.
        refused: Why not; empty where it does.

    Returns:
        A problem where it does not.
    """
    why = refused if isinstance(refused, str) else refused["error"]
    if not why:
        return Check(name, "can be written")
    advice = "mount it on every node, or give the nodes the right to write to it"
    return Check(name, f"can't be written: {why}", "problem", advice)


def check_nccl(name: str, gpus: int, found: Mapping[str, Any]) -> Check:
    """Whether the GPUs of a node add up through NCCL.

    Args:
        name: What is checked.
        gpus: GPUs that Ray gives out there.
        found: As `dist_lstm.jobs.nccl.sum_through_nccl` tells it; `error` alone where it could not be tried.

    Returns:
        A problem where they don't, or TensorFlow sees fewer than Ray; a warning where it could not be tried.
    """
    if "gpus" not in found:
        return Check(name, f"not tried: {found['error']}", "warning", "ask again when its GPUs are idle")
    if found["error"]:
        advice = "install TensorFlow's CUDA libraries on the node (cluster/Dockerfile); NCCL_DEBUG=INFO says more"
        return Check(name, found["error"], "problem", advice)
    version = f" {found['nccl']}" if found["nccl"] else ""
    what = f"TensorFlow adds up over {found['gpus']} GPUs through NCCL{version}"
    if found["gpus"] < gpus:
        return Check(
            name, what, "problem", f"Ray gives out {gpus}; start the node's Ray with --num-gpus={found['gpus']}"
        )
    return Check(name, what)
