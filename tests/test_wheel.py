"""The wheel, installed into an empty environment: what a user without the clone has."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints; it sees neither the clone nor this environment."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_RESOLUTION")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    """The installer; a clone that was installed otherwise may not have it."""
    return shutil.which("uv") or pytest.skip("no uv on this machine")


@pytest.fixture(scope="module")
def wheel(uv, tmp_path_factory) -> Path:
    """The wheel of this clone."""
    folder = tmp_path_factory.mktemp("dist")
    run(uv, "build", "--wheel", "--quiet", "--out-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def commands(uv, wheel, tmp_path_factory) -> Path:
    """The folder of commands of an environment that holds the wheel and what it declares, nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "env")
    # The versions of this environment, so that what lies in the cache serves.
    pins = folder / "pins.txt"
    versions = {one.name: one.version for one in importlib.metadata.distributions() if one.name != "dist-lstm"}
    pins.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items())))
    python = folder / "env" / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--python", python, "--constraint", pins, wheel)
    return folder / "env" / "bin"


def test_the_wheel_holds_every_file_of_the_package(wheel):
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "dist_lstm").splitlines()
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert {*tracked} <= packed
    assert "dist_lstm/report/report.css" in packed
    assert {name.partition("/")[0] for name in packed - {*tracked}} <= {
        f"{wheel.name.rsplit('-', 3)[0]}.dist-info"
    }


def test_a_table_becomes_forecasts_without_the_clone(commands, tmp_path):
    ds = pd.date_range("2024-01-01", periods=150, freq="D")
    parts = [
        pd.DataFrame({"date": ds, "shop": name, "sold": np.arange(150) % 7 + level})
        for name, level in zip("ab", (1, 9), strict=True)
    ]
    pd.concat(parts).to_csv(tmp_path / "shops.csv", index=False)
    program = commands / "dist-lstm"
    assert "init" in run(program, "--help", cwd=tmp_path)
    assert "dist-lstm run shops.yaml" in run(program, "init", "shops.csv", cwd=tmp_path)
    run(program, "run", "shops.yaml", "--set", "train.max_steps=20", "--set", "resources.gpus=0", cwd=tmp_path)
    folder = tmp_path / "runs" / "shops"
    forecasts = pd.read_parquet(folder / "forecasts")
    assert forecasts.groupby("unique_id").size().to_dict() == {"a": 14, "b": 14}
    assert forecasts.notna().all(axis=None)
    assert "<style>" in (folder / "report.html").read_text()
    used = run(commands / "python", "-c", "import dist_lstm; print(dist_lstm.__file__)", cwd=tmp_path)
    assert Path(used.strip()).is_relative_to(commands.parent)
