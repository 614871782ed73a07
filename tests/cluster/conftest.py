"""The folder of the definitions, and the schemas that they are validated with."""

import os
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

CLUSTER = ROOT / "cluster"


def read(name: str) -> dict:
    return yaml.safe_load((CLUSTER / name).read_text())


def locked() -> dict[str, str]:
    """Versions by package in the lock file, for the Python of this process."""
    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in (CLUSTER / "requirements.lock").read_text().splitlines()]
    requirements = [one for one in requirements if one.marker is None or one.marker.evaluate()]
    return {one.name.lower(): str(one.specifier).removeprefix("==") for one in requirements}


@pytest.fixture(scope="session")
def kuberay() -> Path:
    """The folder of KubeRay's custom resource definitions, which a user's clone does not have."""
    folder = Path(os.environ.get("DIST_LSTM_KUBERAY", ROOT.parent / "shared" / "kuberay"))
    if not folder.is_dir():
        pytest.skip(f"no KubeRay definitions at {folder}; set DIST_LSTM_KUBERAY")
    return folder
