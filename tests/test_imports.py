"""What a command imports, seen in `sys.modules` of a fresh process: TensorFlow costs 7 s."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Typer brings pydantic along.
HEAVY = {"tensorflow", "keras", "ray", "pandas", "pyarrow", "numpy", "ruamel", "rich"}
COMMANDS = """
import sys
from dist_lstm.cli.main import main
for arguments in COMMANDS:
    sys.argv = ["dist-lstm", *arguments]
    try:
        main()
    except SystemExit as end:
        assert end.code == STATUS, (arguments, end.code)
"""


def modules_after(code: str) -> set[str]:
    """Modules a fresh interpreter holds after some code."""
    code += "\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(process.stdout.splitlines()[-1]))


def modules_of(commands: list[list[str]], status: int) -> set[str]:
    """Modules a fresh interpreter holds after commands that all end with a status."""
    return modules_after(COMMANDS.replace("COMMANDS", repr(commands)).replace("STATUS", str(status)))


def test_importing_the_package_imports_no_submodule_and_no_installed_package():
    modules = {
        name for name in modules_after("import dist_lstm") if name.split(".")[0] not in sys.stdlib_module_names
    }
    ours = {name for name in modules if not name.startswith(("_", "sitecustomize"))}
    assert ours == {"dist_lstm", "dist_lstm.version"}


def test_the_forecaster_is_imported_from_the_package_only_when_it_is_used():
    modules = modules_after("import dist_lstm; assert 'Forecaster' in dist_lstm.__all__; dist_lstm.Forecaster")
    assert "dist_lstm.forecaster" in modules
    assert modules & {"tensorflow", "keras", "ray"} == set()


def test_help_imports_neither_the_settings_nor_anything_heavy():
    modules = modules_of([["--help"], ["run", "--help"], ["plan", "--help"], ["--version"]], 0)
    assert modules & HEAVY == set()
    ours = {name.removeprefix("dist_lstm") for name in modules if name.split(".")[0] == "dist_lstm"}
    verbs = {".cli", ".cli.cluster", ".cli.main", ".cli.process", ".cli.runs"}
    assert ours == verbs | {"", ".credentials", ".errors", ".terminal", ".version"}


def test_a_config_error_does_not_import_tensorflow(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("task: {horizon: 0}\ndata: {path: a.csv}\n")
    modules = modules_of([[verb, str(job)] for verb in ("run", "prepare", "train", "plan")], 2)
    assert modules & {"tensorflow", "keras", "ray"} == set()
    assert "dist_lstm.config.load" in modules


@pytest.mark.parametrize("verb", ["prepare", "run"])
def test_an_error_in_the_data_does_not_import_tensorflow(tmp_path, verb):
    job = tmp_path / "job.yaml"
    job.write_text("task: {horizon: 1}\ndata: {path: no-such-file.csv}\n")
    modules = modules_of([[verb, str(job), "--out", str(tmp_path / "out")]], 2)
    assert modules & {"tensorflow", "keras", "ray"} == set()
    assert "dist_lstm.data.source" in modules


def test_importing_the_model_package_registers_every_layer_that_a_saved_model_may_have():
    with_layers = {
        f"dist_lstm.model.{path.stem}"
        for path in (ROOT / "dist_lstm" / "model").glob("*.py")
        if "register_keras_serializable" in path.read_text(encoding="utf-8")
    }
    assert with_layers <= modules_after("import dist_lstm.model")
    assert len(with_layers) > 5
