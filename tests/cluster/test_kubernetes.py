"""The manifests for KubeRay fit its custom resource definitions, and Ray's autoscaler reads what they mean."""

import copy
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from tests.cluster.conftest import locked, read

MANIFESTS = {"kubernetes/raycluster.yaml": "rayclusters", "kubernetes/rayjob.yaml": "rayjobs"}


def strict(schema: object) -> object:
    """The schema with unknown fields refused wherever the API server would not keep them."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    names_its_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if names_its_fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def errors_of(folder: Path, manifest: dict, plural: str) -> list[str]:
    definition = yaml.load((folder / f"ray.io_{plural}.yaml").read_text(), Loader=yaml.CSafeLoader)
    versions = {one["name"]: one["schema"]["openAPIV3Schema"] for one in definition["spec"]["versions"]}
    schema = strict(versions[manifest["apiVersion"].removeprefix("ray.io/")])
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(manifest)]


def cluster_of(name: str) -> dict:
    spec = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(name: str) -> dict[str, dict]:
    cluster = cluster_of(name)
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {key: group["template"]["spec"] for key, group in {"head": cluster["headGroupSpec"], **groups}.items()}


@pytest.mark.parametrize(("name", "plural"), MANIFESTS.items())
def test_every_field_is_in_the_schema_of_kuberay(kuberay, name, plural):
    assert errors_of(kuberay, read(name), plural) == []


def test_an_unknown_field_is_refused_at_any_depth(kuberay):
    manifest = read("kubernetes/raycluster.yaml")
    broken = copy.deepcopy(manifest)
    broken["spec"]["autoscaling"] = True
    broken["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["volumeMount"] = []
    messages = " ".join(errors_of(kuberay, broken, "rayclusters"))
    assert "'autoscaling' was unexpected" in messages
    assert "'volumeMount' was unexpected" in messages


@pytest.mark.parametrize("name", MANIFESTS)
def test_rays_autoscaler_reads_whole_gpu_nodes_and_none_while_idle(name):
    resource = {"metadata": {"name": "x", "namespace": "x"}, "spec": cluster_of(name)}
    assert resource["spec"]["enableInTreeAutoscaling"] is True
    config = _derive_autoscaling_config_from_ray_cr(resource)
    groups = config["available_node_types"]
    assert groups["headgroup"]["resources"].items() >= {"CPU": 0, "GPU": 0}.items()
    assert (groups["gpu"]["min_workers"], groups["gpu"]["max_workers"]) == (0, 2)
    assert groups["gpu"]["resources"]["GPU"] == 4
    assert groups["cpu"]["resources"]["GPU"] == 0
    assert config["idle_timeout_minutes"] == 5


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_pod_with_gpus_asks_for_all_that_its_node_has(name):
    pod = pods(name)["gpu"]
    resources = pod["containers"][0]["resources"]
    assert resources["limits"] == resources["requests"]
    assert resources["limits"]["nvidia.com/gpu"] == pod["nodeSelector"]["nvidia.com/gpu.count"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_gpus_are_hidden_from_pods_that_ask_for_none(name):
    for group, pod in pods(name).items():
        container = pod["containers"][0]
        hidden = {"name": "CUDA_VISIBLE_DEVICES", "value": ""} in container["env"]
        assert hidden == ("nvidia.com/gpu" not in container["resources"]["limits"]), group


@pytest.mark.parametrize("name", MANIFESTS)
def test_all_pods_share_a_folder_and_run_without_privileges(name):
    claim = read("kubernetes/volume.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(name).values():
        container = pod["containers"][0]
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/shared"]
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
        assert container["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert pod["restartPolicy"] == "Never"


def test_only_the_head_may_access_the_api_server():
    for group, pod in pods("kubernetes/raycluster.yaml").items():
        assert pod["automountServiceAccountToken"] is (group == "head")


def test_the_cluster_of_a_job_equals_the_permanent_cluster_except_for_the_dashboard():
    permanent, of_job = cluster_of("kubernetes/raycluster.yaml"), cluster_of("kubernetes/rayjob.yaml")
    hosts = [one["headGroupSpec"]["rayStartParams"].pop("dashboard-host") for one in (permanent, of_job)]
    assert hosts == ["127.0.0.1", "0.0.0.0"]
    assert permanent == of_job


def test_a_job_takes_a_whole_node_ends_in_bounded_time_and_leaves_no_cluster():
    job = read("kubernetes/rayjob.yaml")["spec"]
    limits = pods("kubernetes/rayjob.yaml")["gpu"]["containers"][0]["resources"]["limits"]
    assert job["entrypointNumGpus"] == int(limits["nvidia.com/gpu"])
    assert job["shutdownAfterJobFinishes"] is True
    assert job["activeDeadlineSeconds"] <= 86400


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_manifest_names_the_ray_of_the_lock_file(name):
    assert cluster_of(name)["rayVersion"] == locked()["ray"]
