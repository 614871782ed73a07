"""Rules of the code: sizes, packages, where heavy imports stand, what the package declares."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from dist_lstm.config.schema import Config
from tests.conftest import ROOT

MODULES = sorted((ROOT / "dist_lstm").rglob("*.py"))
MAY_IMPORT_TENSORFLOW = re.compile(r"data/stream|model/|train/|forecast/predict|forecast/export")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "dist_lstm"))


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_longer_than_350_lines(path):
    assert len(path.read_text().splitlines()) <= 350


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_function_is_longer_than_60_lines_or_takes_more_than_6_arguments(path):
    for function in functions(path):
        assert (function.end_lineno or 0) - function.lineno < 60, function.name
        arguments = function.args
        number = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
        own = arguments.args[:1] and arguments.args[0].arg in ("self", "cls")
        assert number - bool(own) <= 6 or name_of(path).startswith("cli/"), function.name


def test_no_module_has_a_catch_all_name():
    assert not [path for path in MODULES if path.stem in ("utils", "util", "common", "helpers", "misc")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_tensorflow_is_imported_at_the_top_only_where_it_is_allowed(path):
    imported = set()
    for node in ast.parse(path.read_text()).body:
        inner = node.body if isinstance(node, ast.With) else [node]
        for one in inner:
            if isinstance(one, ast.Import):
                imported |= {name.name.split(".")[0] for name in one.names}
            elif isinstance(one, ast.ImportFrom):
                imported.add((one.module or "").split(".")[0])
    allowed = MAY_IMPORT_TENSORFLOW.match(name_of(path))
    assert allowed or not imported & {"tensorflow", "keras"}


def test_every_setting_has_a_description():
    def undocumented(section: type) -> list[str]:
        names = []
        for name, field in section.model_fields.items():
            names += [name] if not field.description else []
            if hasattr(field.annotation, "model_fields"):
                names += undocumented(field.annotation)
        return names

    assert undocumented(Config) == []


def test_the_lock_file_pins_every_dependency_inside_its_bounds_and_names_no_index():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "cluster" / "requirements.lock").read_text()
    assert "://" not in lock
    assert " @ " not in lock
    pinned = dict(line.split(" ;")[0].strip().split("==") for line in lock.splitlines() if line)
    pinned = {re.sub(r"\[.*]", "", name).lower(): Version(version) for name, version in pinned.items()}
    optional = [text for texts in project["optional-dependencies"].values() for text in texts]
    for text in project["dependencies"] + optional:
        requirement = Requirement(text)
        assert len(list(requirement.specifier)) == 2, f"{text} needs a lower and an upper bound"
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_the_version_is_defined_once():
    from dist_lstm.version import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert Version(__version__)
