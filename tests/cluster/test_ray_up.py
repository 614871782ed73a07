"""The definitions for `ray up` pass Ray's own checks and, for fields that Ray ignores, the providers' schemas."""

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.conftest import read

PROVIDERS = ("aws", "gcp", "onprem")
# Resources of these machine types in the providers' own tables.
MACHINES = {
    "g6.12xlarge": {"CPU": 48, "GPU": 4},
    "g2-standard-48": {"CPU": 48, "GPU": 4},
    "m7i.4xlarge": {"CPU": 16, "GPU": 0},
    "n2-standard-16": {"CPU": 16, "GPU": 0},
}


def prepared(provider: str) -> dict:
    """The definition with Ray's defaults, as `ray up` reads it."""
    return prepare_config(copy.deepcopy(read(f"ray-{provider}.yaml")))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_ray_accepts_the_definition(provider):
    validate_config(prepared(provider))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_ray_refuses_the_definition_with_a_misspelt_setting(provider):
    config = prepared(provider) | {"idle_timeout_minute": 5}
    with pytest.raises(Exception, match="idle_timeout_minute"):
        validate_config(config)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_none_of_rays_defaults_installs_another_ray_or_opens_the_dashboard(provider):
    text = json.dumps(prepared(provider))
    assert "pip install" not in text
    assert "0.0.0.0" not in text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_run_can_outlive_its_node(provider):
    config = read(f"ray-{provider}.yaml")
    assert "--volume=/shared:/shared" in config["docker"]["run_options"]
    assert any("mountpoint -q /shared" in command for command in config["initialization_commands"])


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_a_node_offers_all_that_its_machine_has(provider):
    for name, node in read(f"ray-{provider}.yaml")["available_node_types"].items():
        machine = node["node_config"].get("InstanceType") or node["node_config"]["machineType"]
        assert node["resources"] == ({"CPU": 0, "GPU": 0} if name == "head" else MACHINES[machine])


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_no_gpu_is_paid_for_while_there_is_no_job(provider):
    config = prepared(provider)
    assert config["idle_timeout_minutes"] <= 5
    workers = {name: node for name, node in config["available_node_types"].items() if name != "head"}
    assert all(node["min_workers"] == 0 for node in workers.values())
    assert sum(node["max_workers"] for node in workers.values()) == config["max_workers"]


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_gpus_are_shown_to_workers_that_have_them_and_hidden_from_all_others(provider):
    config = read(f"ray-{provider}.yaml")
    options = {"head": config["docker"]["head_run_options"]}
    for name in ("gpu", "cpu"):
        options[name] = config["available_node_types"][name]["docker"]["worker_run_options"]
    assert "--gpus=all" in options["gpu"]
    assert not any("CUDA_VISIBLE_DEVICES" in option for option in options["gpu"])
    for name in ("head", "cpu"):
        assert "--env=CUDA_VISIBLE_DEVICES=" in options[name]
        assert not any(option.startswith("--gpus") for option in options[name])


def test_workers_on_premises_show_all_gpus_and_the_head_none():
    docker = read("ray-onprem.yaml")["docker"]
    assert docker["worker_run_options"] == ["--gpus=all"]
    assert docker["head_run_options"] == ["--env=CUDA_VISIBLE_DEVICES="]


def test_every_field_is_and_machine_type_is_in_the_schema_of_ec2():
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for node in read("ray-aws.yaml")["available_node_types"].values():
        request = {"MinCount": 1, "MaxCount": 1, **node["node_config"]}
        assert not ParamValidator().validate(request, shape).has_errors()
        assert set(request) <= set(shape.members), "botocore drops what it does not know"
        assert node["node_config"]["InstanceType"] in shape.members["InstanceType"].enum


def json_schema(discovery: object) -> object:
    """A schema of Google's discovery documents as JSON schema, unknown fields refused."""
    if isinstance(discovery, list):
        return [json_schema(one) for one in discovery]
    if not isinstance(discovery, dict):
        return discovery
    schema = {key: json_schema(value) for key, value in discovery.items() if key != "id"}
    if isinstance(schema.get("$ref"), str):
        schema["$ref"] = f"#/definitions/{schema['$ref']}"
    if isinstance(schema.get("properties"), dict):
        schema["additionalProperties"] = False
    if schema.get("format") == "int64":
        # Sent as a string; a number is accepted as well.
        schema["type"] = ["string", "integer"]
    return schema


def test_every_field_is_in_the_schema_of_compute_engine():
    import googleapiclient

    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    schemas = json_schema(json.loads((folder / "compute.v1.json").read_text())["schemas"])
    check = Draft7Validator({"$ref": "#/definitions/Instance", "definitions": schemas})
    for node in read("ray-gcp.yaml")["available_node_types"].values():
        assert [error.message for error in check.iter_errors(node["node_config"])] == []
    assert list(check.iter_errors({"machinetype": "n2-standard-4"}))


def test_compute_engine_never_moves_a_running_node_with_gpus():
    node = read("ray-gcp.yaml")["available_node_types"]["gpu"]
    assert node["node_config"]["scheduling"] == {"onHostMaintenance": "TERMINATE"}


def test_the_definitions_of_the_clouds_differ_in_nothing_but_the_cloud():
    aws, gcp = read("ray-aws.yaml"), read("ray-gcp.yaml")
    for section in set(aws) - {"provider", "available_node_types", "initialization_commands"}:
        assert aws[section] == gcp[section], section
