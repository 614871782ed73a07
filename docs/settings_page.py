"""The settings reference, written from the schema each time the site is built.

Every setting becomes a heading, so that the search finds it and a link can lead to it
(`settings.md#train.learning_rate`).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from dist_lstm.config.defaults import DatasetStatistics, derive
from dist_lstm.config.schema import Config

PAGE = "settings.md"
MARKER = "<!-- settings -->"
#: Panels whose derived defaults the page shows: their title, horizon, and statistics.
PANELS = (
    ("7 hourly series of 17,420 steps, horizon 24", 24, DatasetStatistics("h", 7 * 17_420, 17_420)),
    ("1,000 monthly series of 120 steps, horizon 18", 18, DatasetStatistics("MS", 120_000, 120)),
    ("50 series of 100 whole-number steps, horizon 10", 10, DatasetStatistics(1, 5_000, 100)),
)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs for every page: put the settings into the page that has a place for them.

    Args:
        markdown: Text of the page.
        page: The page.

    Returns:
        The text with the settings.
    """
    return markdown.replace(MARKER, settings_markdown()) if page.file.src_uri == PAGE else markdown


def settings_markdown() -> str:
    """Every section with its settings, and what the derived defaults are for some panels."""
    schema = Config.model_json_schema()
    derived = [_derived(horizon, statistics) for _, horizon, statistics in PANELS]
    keys = [key for key, _ in _settings(Config, schema)]
    lines: list[str] = []
    for name, field in Config.model_fields.items():
        if name in keys:  # a setting beside the sections
            lines += [*_entry(name, schema["properties"][name] | {"required": False}, False, keys, "##"), ""]
            continue
        lines += [f"## {name}", "", _text(field.description or "", keys), ""]
        for key, setting in _settings(Config, schema):
            if key.startswith(f"{name}."):
                lines += [*_entry(key, setting, key in derived[0], keys), ""]
    lines += ["## Derived defaults", ""]
    lines += [
        "What settings become that are left out, and why. `dist-lstm plan CONFIG` shows it for your table.",
        "",
    ]
    lines += ["| setting | " + " | ".join(title for title, *_ in PANELS) + " |", "|---" * (1 + len(PANELS)) + "|"]
    for key in derived[0]:
        cells = [f"`{_yaml(panel[key].value)}`: {_text(panel[key].why, keys)}" for panel in derived]
        lines.append(f"| {_link(key)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _derived(horizon: int, statistics: DatasetStatistics) -> Mapping[str, Any]:
    return derive(Config.model_validate({"task": {"horizon": horizon}, "data": {"path": "table.csv"}}), statistics)


def _settings(section: type[BaseModel], schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and JSON schema of every setting, in the order of the schema."""
    node = schema if section is Config else schema["$defs"][section.__name__]
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(field.annotation, schema, f"{prefix}{name}.")
        else:
            yield prefix + name, node["properties"][name] | {"required": field.is_required()}


def _entry(
    key: str, setting: Mapping[str, Any], derived: bool, keys: list[str], heading: str = "###"
) -> list[str]:
    """Heading, type and default, meaning."""
    types = [_type(node) for node in _alternatives(setting) if not (derived and node.get("type") == "null")]
    if derived:
        default = "[derived from the data](#derived-defaults)"
    else:
        default = "required" if setting["required"] else f"default `{_yaml(setting.get('default', {}))}`"
    return [
        f"{heading} `{key}` {{ #{key} }}",
        "",
        f"{', or '.join(types)} · {default}",
        "{ .setting }",
        "",
        _text(setting["description"], keys),
    ]


def _alternatives(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return node.get("anyOf") or node.get("oneOf") or [node]


def _type(node: Mapping[str, Any]) -> str:
    """What a value must be, in words."""
    if "const" in node or "enum" in node:
        *others, last = [f"`{value}`" for value in node.get("enum", [node.get("const")])]
        return f"{', '.join(others)} or {last}" if others else last
    if node["type"] == "array":
        return "list of " + re.sub(r"^\w+", lambda match: match[0] + "s", _type(node["items"]))
    names = {
        "boolean": "`true` or `false`",
        "integer": "integer",
        "null": "`null`",
        "number": "number",
        "object": "mapping of settings",
        "string": "string",
    }
    return names[node["type"]] + _bounds(node)


def _bounds(node: Mapping[str, Any]) -> str:
    """Bounds of a number; empty for none."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " and".join(f" {sign} {node[name]:,}" for name, sign in signs.items() if name in node)


def _yaml(value: Any) -> str:
    """A default as a config file says it."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml(one) for one in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(text: str, keys: list[str]) -> str:
    """A description as Markdown: settings become links, and nothing else means more than itself."""
    escaped = re.sub(r"([\\`*_{}\[\]<|])", r"\\\1", text)
    for key in sorted(keys, key=len, reverse=True):
        name = key.replace("_", r"\_")
        escaped = re.sub(rf"(?<![\w.`#]){re.escape(name)}(?![\w`)]|\.\w)", lambda _, key=key: _link(key), escaped)
    return escaped


def _link(key: str) -> str:
    return f"[`{key}`](#{key})"
