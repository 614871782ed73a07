"""The image passes its linter, is built from the lock file, and is the one that every definition names."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from dist_lstm.version import __version__
from tests.cluster.conftest import CLUSTER
from tests.conftest import ROOT

DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
PYTHON = re.search(r"^FROM python:(3\.\d+)-slim-\w+$", DOCKERFILE, re.MULTILINE)
LOCK = CLUSTER / "requirements.lock"
NAMES = ("ray-aws.yaml", "ray-gcp.yaml", "ray-onprem.yaml", "kubernetes/raycluster.yaml", "kubernetes/rayjob.yaml")


def test_hadolint_reports_nothing():
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if not (hadolint := shutil.which("hadolint", path=path)):
        pytest.skip("no hadolint for this machine")
    done = subprocess.run([hadolint, "--format", "json", CLUSTER / "Dockerfile"], capture_output=True, check=False)
    assert json.loads(done.stdout) == []


def test_the_image_has_a_python_that_the_package_supports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert PYTHON
    assert f"{PYTHON[1]}.0" in SpecifierSet(project["requires-python"])


def test_the_lock_file_names_each_package_once_for_the_python_of_the_image():
    assert PYTHON
    version = {"python_version": PYTHON[1], "python_full_version": f"{PYTHON[1]}.0"}
    image = version | {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    image |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    lines = [Requirement(line) for line in LOCK.read_text().splitlines()]
    chosen = [one.name.lower() for one in lines if one.marker is None or one.marker.evaluate(image)]
    assert len(chosen) == len(set(chosen))
    assert {"ray", "tensorflow", "boto3", "google-api-python-client", "nvidia-cudnn-cu12"} <= set(chosen)


def test_the_lock_file_has_no_package_that_is_not_required():
    if os.environ.get("UV_RESOLUTION") == "lowest-direct":
        pytest.skip("the oldest versions need other packages than those of the lock file")
    locked = {canonicalize_name(Requirement(line).name) for line in LOCK.read_text().splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [text for texts in project["optional-dependencies"].values() for text in texts]
    left, needed = [Requirement(text) for text in project["dependencies"] + optional], set()
    while left:
        one = left.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key not in needed:
            needed.add(key)
            left += requirements_of(one)
    assert locked - {name for name, _ in needed} == set(), "renew the lock file as cluster/README.md says"


def requirements_of(requirement: Requirement) -> list[Requirement]:
    """Requirements of a package on any platform, with its extras; none if it is not installed."""
    try:
        texts = importlib.metadata.requires(requirement.name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    extras = "|".join(map(re.escape, requirement.extras))
    some = [Requirement(text) for text in texts]
    return [
        one
        for one in some
        if "extra ==" not in str(one.marker) or (extras and re.search(f'extra == "({extras})"', str(one.marker)))
    ]


def test_packages_come_from_the_lock_file_alone():
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 2
    assert all("--no-deps" in install for install in installs)
    assert "--requirement /tmp/requirements.lock" in installs[0]


def test_the_build_context_has_the_copied_files_and_no_others():
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    included = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    assert included == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_does_not_run_as_root():
    user = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert user == ["1000"]
    assert "--uid 1000" in DOCKERFILE


@pytest.mark.parametrize("name", [*NAMES, "Dockerfile", "README.md"])
def test_every_image_is_that_of_this_version(name):
    images = re.findall(r"[\w./$]*/dist-lstm:\S+", (CLUSTER / name).read_text())
    assert images
    assert set(images) <= {f"{host}/dist-lstm:{__version__}" for host in ("registry.example", "$REGISTRY")}
