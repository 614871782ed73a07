"""YAML text to plain values and back: YAML 1.2 without what YAML 1.1 reads differently."""

import io
import re
import sys
import textwrap
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError, MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from dist_lstm.errors import UserError

MAX_ALIASES = 100
MAX_DEPTH = 50
_TEXT = "tag:yaml.org,2002:str"
#: Dates, `<<` and `=` have a meaning in YAML 1.1 and are text in YAML 1.2.
_TAGS_OF_1_1 = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")
_BOOLEANS_OF_1_1 = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_NUMBERS_OF_ONE_VERSION = re.compile(
    r"""[-+]?(?: 0[0-9]+ | 0o[0-7]+ | 0b[01]+            # octal, or decimal with a leading zero, or binary
        | [1-9][0-9_]*(?::[0-5]?[0-9])+ | [0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*    # base 60, such as 1:30
        | \.[0-9]+[eE][0-9]+ )                           # no digit before the point
        | (?=[-+.0-9])[-+]?(?:0[bo]?)?[0-9.]*_[0-9._]*(?:[eE][-+]?[0-9]+)?   # digits in groups
        | [-+]?0x(?=[^_]*_)[0-9a-fA-F_]+
    """,
    re.VERBOSE,
)


#: A directive, such as `%YAML 1.1`, at the start of a line.
_DIRECTIVE = re.compile(r"(?:\A|[\n\r\x85\u2028\u2029])\ufeff?%")


class _Composer(Composer):
    """Composer without tags and with a bound on aliases: ten lines of them may describe 10^10 values."""

    aliases = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node:
        event = self.parser.peek_event()
        if isinstance(event, AliasEvent):
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise ComposerError(None, None, f"more than {MAX_ALIASES} aliases", event.start_mark)
        elif event.ctag is not None:
            raise ComposerError(None, None, f"the tag {event.ctag} is not supported", event.start_mark)
        return super().compose_node(parent, index)


class _Representer(SafeRepresenter):
    """Writes text in quotes where a plain form is refused when it is read."""

    def represent_str(self, data: str) -> ScalarNode:
        is_plain = not (_BOOLEANS_OF_1_1.fullmatch(data) or _NUMBERS_OF_ONE_VERSION.fullmatch(data))
        return super().represent_str(data) if is_plain else self.represent_scalar(_TEXT, data, style="'")


_Representer.add_representer(str, _Representer.represent_str)


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML of one document.

    Args:
        text: The document. Tags, duplicate keys, keys that are not text, more than `MAX_ALIASES` aliases and
            more than `MAX_DEPTH` levels are refused, and so is a plain scalar that has another meaning in
            YAML 1.1, such as `yes`, `017`, `1:30`, `1_000` or `2024-01-01`.
        where: The source of the text, named in errors.

    Returns:
        None, bool, int, float, str, and lists and dicts of them; an alias is the object that it names.

    Raises:
        UserError: If the text is not such a document; with line and column.

    Example:
        >>> parse_yaml("{rate: 1e-3, units: [64, 64], name: 'no'}", "here")
        {'rate': 0.001, 'units': [64, 64], 'name': 'no'}
    """
    if _DIRECTIVE.search(text):
        raise UserError(where, "a line starts with %: directives of YAML are not supported", "leave the line out")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.max_depth = MAX_DEPTH
    yaml.composer.warn_double_anchors = False
    try:
        root = yaml.compose(text)
        if root is None:
            return None
        _check(root, where, set())
        return yaml.constructor.construct_document(root)
    except MaxDepthExceededError as error:
        raise _refusal(where, error.problem_mark, f"more than {MAX_DEPTH} levels are nested") from error
    except MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark
        begun = mark.buffer[mark.pointer : mark.pointer + 1] if mark.buffer else ""
        advice = "put text that begins so in quotes" if begun in ("%", "@", "`") else ""
        raise _refusal(where, mark, f"not valid YAML: {_short(problem)}", advice) from error
    except (YAMLError, ValueError) as error:  # a character that YAML excludes, or an integer of too many digits
        raise UserError(where, f"not valid YAML: {_short(error)}") from error


def _short(text: object) -> str:
    return textwrap.shorten(str(text), 200, placeholder=" ...")


def _refusal(where: str, mark: Any, problem: str, advice: str = "") -> UserError:
    return UserError(where, f"line {mark.line + 1}, column {mark.column + 1}: {problem}", advice)


def _check(node: Node, where: str, seen: set[int]) -> None:
    """Refuse ambiguous scalars and keys, in the order of the text."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, MappingNode):
        keys = set()
        for key, value in node.value:
            _check(key, where, seen)
            if key.tag != _TEXT:
                raise _refusal(where, key.start_mark, "a key must be text", "quote it")
            if key.value in keys:
                raise _refusal(where, key.start_mark, f"key {_short(key.value)!r} is given twice")
            keys.add(key.value)
            _check(value, where, seen)
    elif not isinstance(node, ScalarNode):
        for value in node.value:
            _check(value, where, seen)
    elif node.style is None:
        _check_plain(node, where)


def _check_plain(node: ScalarNode, where: str) -> None:
    advice = None
    if _BOOLEANS_OF_1_1.fullmatch(node.value):
        advice = "write true or false, or quote it if it is text"
    elif _NUMBERS_OF_ONE_VERSION.fullmatch(node.value):
        advice = "write a plain decimal number, or quote it if it is text"
    elif node.tag in _TAGS_OF_1_1:
        advice = "quote it if it is text"
    if advice:
        problem = f"{_short(node.value)} has different meanings in YAML 1.1 and 1.2"
        raise _refusal(where, node.start_mark, problem, advice)


def dump_yaml(values: Any) -> str:
    """Plain values as YAML in block style, keys in their order, with what is not ASCII escaped.

    Args:
        values: None, bool, int, float, str, and lists and dicts of them.

    Returns:
        The text, which `parse_yaml` reads back the same.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.representer.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = False
    yaml.width = sys.maxsize  # a fold beside an escaped character would add a space to the text
    text = io.StringIO()
    yaml.dump(values, text)
    return text.getvalue()
