"""Names and texts are in the field's standard English, and each mechanism stands once."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: Names that say nothing to a reader from the field, and what to say instead.
AVOIDED_NAMES = {
    "Draw": "SamplingConfig",
    "Learner": "TrainState",
    "Team": "ProcessGroup",
    "of_chief": "broadcast",
    "Chain": "FallbackSelector",
    "Offer": "Candidate",
    "Places": "SegmentEmbedding",
    "off_fast_path": "cudnn_blockers",
    "parcel": "runtime_env",
    "place": "index or path",
    "told": "received or expected",
    "found": "what it is: value, match, files",
    "known": "what it is: names, settings, resolved",
    "wanted": "expected or requested",
}
#: Phrases that are not the field's English, and what to say instead.
AVOIDED_PHRASES = {
    r"quarter of a minute": "about 15 s",
    r"\bis no number\b|\bno numbers?\b(?= at step|;|,? and the step)|\bwas no number\b": "non-finite",
    r"\b(?:a|our) fault of ours\b|\bfaults? of ours\b": "internal error",
    r"\btold to end\b": "interrupted",
    r"\b(?:windows|steps|series|trials|packs|models|updates|rows|batches) a (?:second|minute|hour)\b": "per",
    r"\b(?:rows?|column|file|part|model|forecast|trial|worker|seed|pair|line) a "
    r"(?:series|step|window|row|panel|model|pack|trial|node|shard|group|member|variable|setting)\b": "per",
}
PYTHON = sorted(
    path for name in ("dist_lstm", "tests", "benchmarks", "docs") for path in (ROOT / name).rglob("*.py")
)
PACKAGE = sorted((ROOT / "dist_lstm").rglob("*.py"))


def texts() -> list[Path]:
    """Files that people read, without what is generated."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    others = [path for name in ("benchmarks", "cluster", "configs") for path in (ROOT / name).rglob("*")]
    shown = [path for path in others if path.suffix in (".md", ".yaml", ".yml", ".sh")]
    return sorted({*PYTHON, *pages, *shown, *(ROOT / "dist_lstm").rglob("*.j2")} - {Path(__file__).resolve()})


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module gives or uses, with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield name, line
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, line
            case ast.keyword(arg=str(name)):
                yield name, line
            case ast.alias(asname=str(name)):
                yield name, line
            case _:
                pass


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_no_identifier_is_a_word_to_avoid(path):
    used = identifiers(ast.parse(path.read_text(encoding="utf-8")))
    assert [f"line {line}: {name}: {AVOIDED_NAMES[name]}" for name, line in used if name in AVOIDED_NAMES] == []


@pytest.mark.parametrize("path", texts(), ids=name_of)
def test_no_text_holds_a_phrase_to_avoid(path):
    text = re.sub(r"\s+(?:#:? )?", " ", path.read_text(encoding="utf-8"))
    hits = [
        f"...{text[max(match.start() - 30, 0) : match.end() + 20]}...: {instead}"
        for phrase, instead in AVOIDED_PHRASES.items()
        for match in re.finditer(phrase, text)
    ]
    assert hits == []


def test_shards_are_a_record_and_not_a_tuple():
    assert [name_of(path) for path in PACKAGE if "tuple[Path, Manifest]" in path.read_text(encoding="utf-8")] == []


def test_no_import_depends_on_its_order():
    assert [name_of(path) for path in PACKAGE if "isort: skip" in path.read_text(encoding="utf-8")] == []


def test_a_resolved_setting_is_not_checked_for_being_known():
    assert [name_of(path) for path in PACKAGE if re.search(r"\bknown\(", path.read_text(encoding="utf-8"))] == []


def test_no_text_of_an_error_is_taken_apart():
    def is_of_an_error(call: ast.Call) -> bool:
        names = {name for name, _ in identifiers(call.func)}
        return bool(names & {"removeprefix", "removesuffix"}) and bool(
            names & {"error", "what", "problem", "message"}
        )

    hits = [
        f"{name_of(path)}:{node.lineno}"
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and is_of_an_error(node)
    ]
    assert hits == []


def test_each_name_of_a_file_stands_once():
    layout = ast.parse((ROOT / "dist_lstm" / "layout.py").read_text(encoding="utf-8"))
    names = {
        text for text in strings(layout) if re.fullmatch(r"[\w-]+\.(?:keras|json|csv|yaml|parquet|html)", text)
    }
    assert {"model.keras", "metrics.json", "config.yaml"} <= names
    uses = Counter(text for path in PACKAGE for text in strings(ast.parse(path.read_text(encoding="utf-8"))))
    assert {name: uses[name] for name in names if uses[name] != 1} == {}


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_jobs_has_fewer_than_10_files():
    assert len(list((ROOT / "dist_lstm" / "jobs").glob("*.py"))) < 10
