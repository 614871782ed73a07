"""Rules for every definition, on any provider."""

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.conftest import CLUSTER, read

UP = ("ray-aws.yaml", "ray-gcp.yaml", "ray-onprem.yaml")
KUBERAY = ("kubernetes/raycluster.yaml", "kubernetes/rayjob.yaml")
FILES = sorted(str(path.relative_to(CLUSTER)) for path in CLUSTER.rglob("*") if path.is_file())
DEFINITIONS = [name for name in FILES if name.endswith((".yaml", ".sbatch", "Dockerfile"))]


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def test_these_rules_cover_every_definition():
    expected = {*UP, *KUBERAY, "kubernetes/volume.yaml", "slurm.sbatch", "Dockerfile"}
    assert set(DEFINITIONS) == expected


@pytest.mark.parametrize("name", UP)
def test_ray_up_starts_with_a_token_in_a_file_for_its_owner_alone(name):
    config = read(name)
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    assert not any("RAY_AUTH_TOKEN" in str(value) for _, value in leaves(config))


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_starts_with_a_token_from_a_secret(name):
    spec = read(name)["spec"]
    assert spec.get("rayClusterSpec", spec)["authOptions"] == {
        "mode": "token",
        "secretName": "dist-lstm-ray-token",
    }
    assert not any("RAY_AUTH" in str(value) for _, value in leaves(spec)), "the operator sets it"


@pytest.mark.parametrize("name", ["slurm.sbatch", "Dockerfile"])
def test_a_script_and_the_image_start_with_a_token(name):
    assert re.search(r"^(export|ENV) RAY_AUTH_MODE=token\b", (CLUSTER / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_only_the_operator_opens_a_dashboard_beyond_loopback(name):
    text = (CLUSTER / name).read_text()
    hosts = re.findall(r"dashboard-host[=: ]+\"?([\w.]+)", text)
    starts_a_head = "--head " in text or "symmetric-run --" in text or "headGroupSpec" in text
    # KubeRay's operator follows a RayJob through the dashboard; both hold the token.
    allowed = "0.0.0.0" if name == "kubernetes/rayjob.yaml" else "127.0.0.1"
    assert hosts == [allowed] * starts_a_head


@pytest.mark.parametrize("name", sorted(set(FILES) - {"requirements.lock"}))
def test_no_file_holds_a_secret_or_a_private_address(name):
    text = (CLUSTER / name).read_text()
    for secret in ("AKIA[0-9A-Z]{16}", "-----BEGIN", "RAY_AUTH_TOKEN=", "[0-9a-f]{32}", "stringData"):
        assert not re.search(secret, text, re.IGNORECASE), secret
    addresses = set(re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text))
    assert all(one.startswith(("192.0.2.", "127.0.0.1", "0.0.0.0")) for one in addresses), addresses
    assert not re.search(r"\bami-(?!0{17})[0-9a-f]{8,17}\b", text)
    assert not re.search(r"/(home|root|Users)/(?!ray\b)", text)


@pytest.mark.parametrize("name", UP)
def test_ray_up_reports_no_usage(name):
    assert "--env=RAY_USAGE_STATS_ENABLED=0" in read(name)["docker"]["run_options"]


@pytest.mark.parametrize("name", KUBERAY)
def test_no_pod_reports_usage(name):
    spec = read(name)["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]


@pytest.mark.parametrize("name", ["slurm.sbatch", "Dockerfile"])
def test_a_script_and_the_image_report_no_usage(name):
    assert re.search(r"\bRAY_USAGE_STATS_ENABLED=0$", (CLUSTER / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in DEFINITIONS if name.endswith(".yaml")])
def test_every_file_is_one_document_without_tags_of_its_own(name):
    assert len(list(yaml.safe_load_all((CLUSTER / name).read_text()))) == 1
