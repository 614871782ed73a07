"""YAML text to plain values and back."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dist_lstm.config.yaml import MAX_ALIASES, MAX_DEPTH, dump_yaml, parse_yaml
from dist_lstm.errors import UserError
from tests.conftest import ROOT

CHECKED = {"deadline": None, "print_blob": True}
CONFIGS = [*(ROOT / "configs").glob("*.yaml"), *(ROOT / "tests" / "compatibility").glob("[0-9]*/**/*.yaml")]
#: Text that often looks like a number, a date or a boolean.
SCALARS = st.one_of(
    st.text("0179", min_size=1, max_size=6),
    st.text("0189._+-:eExob", min_size=1, max_size=7),
    st.text("019_abcdefxboxE.", min_size=1, max_size=5).map("0".__add__),
    st.text("yesnofYESNOF", min_size=1, max_size=4),
    st.from_regex(r"\d{4}-\d\d?-\d\d?([Tt ]\d\d?:\d\d(:\d\d)?(\.\d)?( ?Z|[+-]\d)?)?", fullmatch=True),
    st.from_regex(r"[-+]?\d{1,3}(:\d\d?){1,3}(\.\d)?", fullmatch=True),
    st.sampled_from(["<<", "=", "~", "null", "Null", "true", "TRUE", "tRUE", ".inf", "-.INF", "y", "n", "15min"]),
)
#: All values that a config may contain.
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text(), SCALARS), inner, max_size=3)
    ),
    max_leaves=8,
)
#: Parts from which any YAML text can be built.
PIECES = [
    *"abk01 \n\t-:?,[]{}#&*!|>'\"%@`=<~_\0\x85\ufeff", "a: ", "\n  ", "- ", "? ", "&a ", "*a ", "<<: ", "---\n",
    "...\n", "!!int ", "!!bool ", "!!binary ", "%YAML 1.1\n", "%YAML 1.3\n", "%TAG ! a\n",
]  # fmt: skip


class YAML11(yaml.SafeLoader):
    """An independent reader, of YAML 1.1, which needs a dot and a sign in a number with an exponent."""


YAML11.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def refusal(text: str) -> str:
    with pytest.raises(UserError) as error:
        parse_yaml(text, "job.yaml")
    message = str(error.value)
    assert message.startswith("job.yaml: ")
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_of_the_repository_and_of_earlier_versions_is_read_as_before(path):
    text = path.read_text()
    expected = yaml.load(text, YAML11)
    actual = parse_yaml(text, path.name)
    assert repr(actual) == repr(expected)  # 1, 1.0 and True are equal, but not the same
    assert dump_yaml(actual) == yaml.safe_dump(expected, sort_keys=False)


def reading(load: Callable[[str], Any], text: str) -> str:
    """The value and type that a reader returns for a text."""
    try:
        return repr(load(text))
    except (yaml.YAMLError, YAMLError, UserError, ValueError):
        return "refused"


def ours(text: str) -> str:
    return reading(lambda one: parse_yaml(one, "here"), text)


@settings(max_examples=300, **CHECKED)
@given(SCALARS)
def test_a_plain_scalar_has_the_same_meaning_as_in_yaml_1_1_or_is_refused(scalar):
    before = reading(lambda text: yaml.load(text, YAML11), scalar)
    if re.fullmatch(r"[-+]\.\d+", scalar):  # a number in YAML 1.1 too, but not to that reader
        before = repr(float(scalar))
    assert ours(scalar) in (before, "refused")


@settings(max_examples=200, **CHECKED)
@given(st.one_of(SCALARS, st.text(max_size=5)))
def test_a_plain_scalar_that_is_text_to_readers_of_both_versions_is_text(scalar):
    assume("_" not in scalar)  # what has the form of a number with underscores is refused
    library = YAML(typ="safe", pure=True)
    if reading(lambda text: yaml.load(text, YAML11), scalar) == reading(library.load, scalar) == repr(scalar):
        assert ours(scalar) == repr(scalar)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("yes", "true or false"),
        ("No", "true or false"),
        ("ON", "true or false"),
        ("off", "true or false"),
        ("017", "decimal"),
        ("0o17", "decimal"),
        ("-09", "decimal"),
        ("0b11", "decimal"),
        ("1_000", "decimal"),
        ("0x_F", "decimal"),
        ("1_0.5", "decimal"),
        ("-_", "decimal"),
        ("1:30", "decimal"),
        ("1:30:00.5", "decimal"),
        (".5e2", "decimal"),
        ("2024-01-01", "quote it"),
        ("2024-01-01 12:00:00", "quote it"),
        ("=", "quote it"),
    ],
)
def test_a_scalar_with_another_meaning_in_yaml_1_1_is_refused_with_its_line_and_accepted_in_quotes(text, advice):
    message = refusal(f"a: 1\nb: [{text}]\n")
    assert message.startswith(f"job.yaml: line 2, column 5: {text} has different meanings in YAML 1.1 and 1.2; ")
    assert advice in message
    assert parse_yaml(f"'{text}'", "here") == text
    assert parse_yaml(dump_yaml([text, {text: text}]), "here") == [text, {text: text}]


def test_a_merge_key_is_refused():
    assert "line 2, column 5: << has different meanings" in refusal("a: &a {x: 1}\nb: {<<: *a}\n")


@pytest.mark.parametrize(
    "text", ["y", "n", "tRUE", "15min", "1.2.3", "2024-01", "1:2:x", "0x", "e3", "1e", "_1", "a_1"]
)
def test_text_that_only_resembles_something_else_is_text(text):
    assert parse_yaml(text, "here") == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E5", 1e5), ("+2e3", 2e3), ("-1e-3", -1e-3), (".5e+2", 50.0), ("1.e3", 1e3),
     ("2.5e-1", 0.25), ("0x1F", 31), ("-0", 0), ("0", 0), ("-.5", -0.5), (".inf", float("inf"))],
)  # fmt: skip
def test_a_number_is_read_as_a_number(text, value):
    actual = parse_yaml(text, "here")
    assert isinstance(actual, type(value))
    assert actual == value


@settings(**CHECKED)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_writes_is_read_back_unchanged(number):
    actual = parse_yaml(repr(number), "here")
    assert isinstance(actual, float)
    assert actual == number


@settings(max_examples=150, **CHECKED)
@given(PLAIN)
def test_dumped_values_are_read_back_unchanged(values):
    assert repr(parse_yaml(dump_yaml(values), "here")) == repr(values)


@settings(max_examples=200, **CHECKED)
@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_read_or_refused(text):
    assert ours(text)


@pytest.mark.parametrize(
    ("text", "line", "column", "key"),
    [
        ("task: {horizon: 2, horizon: 3}\n", 1, 20, "horizon"),
        ("task: {horizon: 2}\ndata: 1\ntask: {horizon: 3}\n", 3, 1, "task"),
        ("x:\n  - {a: 1,\n     a: 1}\n", 3, 6, "a"),
        ("data: 1\n'data': 2\n", 2, 1, "data"),
        ("x: {&k a: 1, *k : 2}\n", 1, 5, "a"),
    ],
)
def test_a_key_given_twice_is_refused_with_its_line_and_column(text, line, column, key):
    assert refusal(text) == f"job.yaml: line {line}, column {column}: key {key!r} is given twice"


def aliased(count: int) -> str:
    return "[&a 80" + ", *a" * count + "]\n"


def test_aliases_are_accepted_up_to_their_maximum_and_refused_above_it():
    assert parse_yaml(aliased(MAX_ALIASES), "here") == [80] * (MAX_ALIASES + 1)
    assert f"line 1, column 409: not valid YAML: more than {MAX_ALIASES} aliases" in refusal(
        aliased(MAX_ALIASES + 1)
    )


def test_too_many_aliases_are_refused_before_the_rest_is_read():
    beyond = aliased(MAX_ALIASES + 1).rstrip("]\n") + ", *a" * 200_000 + ", !"
    assert "aliases" in refusal(beyond)  # and not the tag at its end


def test_nesting_is_accepted_up_to_its_maximum_and_refused_above_it():
    assert parse_yaml("[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1), "here")
    for text in ("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, "[" * 20_000, "- " * 20_000, "{a: " * 20_000):
        assert f"more than {MAX_DEPTH} levels are nested" in refusal(text)


def test_a_value_that_contains_itself_is_read():
    actual = parse_yaml("&a [*a]", "here")
    assert actual[0] is actual


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("task: {horizon: 2\n", "line 2, column 1: not valid YAML: while parsing a flow mapping, exp"),
        ("task:\n\thorizon: 2\n", "line 2, column 1: not valid YAML: "),
        ("task: !!python/object/apply:os.getcwd []\n", "line 1, column 7: not valid YAML: the tag tag:"),
        ("task: !!int x\n", "line 1, column 7: not valid YAML: the tag tag:yaml.org,2002:int is not supported"),
        ("ds_format: %Y%m%d\n", "found character '%' that cannot start any token; put text that begins so"),
        ("task: !own x\n", "line 1, column 7: not valid YAML: the tag !own is not supported"),
        ("task: *nothing\n", "line 1, column 7: not valid YAML: found undefined alias 'nothing'"),
        ("a: 1\n---\nb: 1\n", "line 2, column 1: not valid YAML: expected a single document"),
        ("? [1, 2]\n: 3\n", "line 1, column 3: a key must be text; quote it"),
        ("a: {1: 2}\n", "line 1, column 5: a key must be text; quote it"),
        ("~: 2\n", "line 1, column 1: a key must be text; quote it"),
        ("%YAML 1.1\n---\na: 1\n", "a line starts with %: directives of YAML are not supported; leave"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: \0\n", "special characters are not allowed"),
        ("a: {" + "k" * 500 + ": 1, " + "k" * 500 + ": 1}", "is given twice"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_invalid_yaml_is_refused_in_one_line_with_line_and_column(text, reason):
    assert reason in refusal(text)


def test_an_empty_document_is_none():
    assert parse_yaml("", "here") is None
    assert parse_yaml("# nothing\n", "here") is None
