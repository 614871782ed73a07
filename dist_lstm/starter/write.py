"""Write a proposal as a commented YAML file, and summarise it on the terminal."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dist_lstm.config.defaults import Default, derive
from dist_lstm.config.load import flatten, load_config
from dist_lstm.config.schema import Config
from dist_lstm.errors import UserError
from dist_lstm.starter.proposal import Proposed
from dist_lstm.starter.propose import Facts, Proposal, propose

_ENDINGS = re.compile(r"\.(csv|tsv|parquet|parq|pq|feather|arrow|ipc)(\.gz)?$", re.IGNORECASE)
#: Text that YAML reads as text without quotes; y, n, on and the like are booleans in YAML 1.1.
_PLAIN = re.compile(r"(?!(?i:null|true|false|yes|no|on|off|n)$)(?:\.{0,2}/)*[A-Za-z_][\w./-]*", re.ASCII)
#: Longer lists of columns are shortened in the terminal, and left out of comments.
_SHOWN = 6
_MOST_LISTED = 20
_WIDTH = 100
_UNITS = {"min": "minutes", "h": "hours", "D": "days", "B": "business days", "W": "weeks"}
_UNITS |= dict.fromkeys(("MS", "ME"), "months") | dict.fromkeys(("QS", "QE"), "quarters")
_UNITS |= dict.fromkeys(("YS", "YE"), "years")
_MEANING = {
    "split.validation": "steps before the test range, to choose the number of training steps",
    "split.test": "last steps of each series, to score on",
    "backtest.windows": "scored forecasts per series",
    "backtest.stride": "steps between two cutoffs",
}
_INSTEAD = {"split.test": ((0, "train on more, without scores"),)}
#: Settings with derived defaults that are shown as comments because users change them first.
_LEFT_OUT = (
    "task.context_length",
    "model.units",
    "model.segment_length",
    "train.max_steps",
    "train.batch_size",
)


def config_path(table: str) -> Path:
    """Default path of a table's config: the table's name, in the working directory."""
    parts = [part for part in re.split(r"[/\\]", table.rpartition("://")[2]) if part]
    plain = [part for part in parts if not re.search(r"[*?\[\]$~]", part) and part not in (".", "..")]
    name = re.sub(r"[^\w.-]+", "-", _ENDINGS.sub("", plain[-1] if plain else "")).strip("-.")
    return Path(f"{name or 'table'}.yaml")


def write_config(table: str, path: Path, settings: Sequence[str], console: Console) -> None:
    """Read a table, write a config for it, and show a summary.

    Args:
        table: A file, a folder, a glob or a URI.
        path: The config to write; must not exist.
        settings: Texts of the form `section.key=value`, which override proposals.
        console: Console for the summary.

    Raises:
        UserError: If the file exists, the table can't be used, or a setting can't be inferred and must be given.
    """
    if path.exists():
        raise UserError(path, "exists already", "choose another --out or delete it")
    proposal = propose(table, settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(config_text(proposal, table, path))
    except OSError as error:
        raise UserError(path, f"can't be written: {error.strerror}", "choose another --out") from error
    load_config(path)
    show_proposal(proposal, path, console)


def config_text(proposal: Proposal, table: str, path: Path) -> str:
    """Render the proposal as YAML, with the reason of each setting as a comment.

    Args:
        proposal: The proposal.
        table: The table, as the user gave it.
        path: Path of the config, for the commands in its header.

    Returns:
        The text of the config.
    """
    lines, indent = _header(proposal, table, path), ""
    opened: list[str] = []
    for one in _settings(proposal, table):
        *sections, name = one.key.split(".")
        for depth, section in enumerate(sections):
            if opened[: depth + 1] != sections[: depth + 1]:
                lines += [""] if depth == 0 else []
                lines.append(f"{'  ' * depth}{section}:")
                opened = sections[: depth + 1]
        indent = "  " * len(sections)
        lines += _lines(f"{indent}{name}: ", one.value, one.why, one.active)
        for value, why in one.instead:
            lines += _lines(f"{indent}{name}: ", value, why, active=False)
    return "\n".join(lines) + "\n"


def _lines(start: str, value: Any, why: str, active: bool) -> list[str]:
    """A setting with its comment after it, or above it where the line would be too long."""
    indent = " " * (len(start) - len(start.lstrip()))
    setting = f"{indent}{'' if active else '# '}{start.lstrip()}{_yaml(value)}"
    line = f"{setting:<34}  # {why}"
    return [line] if len(line) <= _WIDTH else [f"{indent}# {why}:", setting]


def _yaml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=not value.isprintable())
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _header(proposal: Proposal, table: str, path: Path) -> list[str]:
    facts = proposal.facts
    rows = f"{facts.rows:,} rows" if facts.complete else f"its first {facts.rows:,} rows; the rest was not read"
    name = _one_line(str(path))
    return [
        f"# Forecast {_one_line(table.rstrip('/').rpartition('/')[2])}: {_count(facts)}, {_ahead(proposal)}.",
        "#",
        f"#   dist-lstm plan {name}    shows what a run would do, and every setting",
        f"#   dist-lstm run {name}     trains, scores, forecasts; see runs/{path.stem}/report.html",
        "#",
        f"# Written by dist-lstm init after reading {rows}.",
        "# The comment after each setting is its reason. Settings that are commented out are alternatives:",
        "# delete the '# ' before one and the line it replaces. Settings left out are derived from the data.",
    ]


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _count(facts: Facts) -> str:
    number = len(facts.length) + facts.unobserved
    return "one series" if number == 1 else f"{number:,} series"


def _ahead(proposal: Proposal) -> str:
    horizon, freq = proposal.config.task.horizon, str(proposal.facts.freq.name)
    unit = _UNITS.get(freq.partition("-")[0], "steps")
    return f"{horizon} {unit if horizon > 1 else unit.removesuffix('s')} ahead"


def _settings(proposal: Proposal, table: str) -> list[Proposed]:
    """All settings that are shown, in the order of the schema."""
    config, facts = proposal.config, proposal.facts
    derived = derive(config, facts.statistics)
    values = dict(flatten(config))
    recognised = proposal.recognised.settings
    shown = {one.key: one for one in recognised if one.active or len(one.value) <= _MOST_LISTED}
    shown |= {one.key: one for one in _task(proposal, derived)}
    shown["data.path"] = Proposed("data.path", table, "the table")
    for key, names in proposal.recognised.statics.items():
        why = "constant within each series; could be inputs of the model"
        shown[key] = Proposed(key, names, why, active=False)
    for key, meaning in _MEANING.items():
        if key in derived:
            shown[key] = Proposed(key, derived[key].value, meaning, _INSTEAD.get(key, ()))
    for key in _LEFT_OUT:
        if key in derived:
            shown[key] = Proposed(key, derived[key].value, derived[key].why, active=False)
    given = proposal.given - {"data.path", "task.horizon"}
    shown |= {key: Proposed(key, values[key], "as given") for key in given if key in values}
    sections = list(Config.model_fields)
    order = {key: (sections.index(key.split(".")[0]), number) for number, key in enumerate(values)}
    return sorted(shown.values(), key=lambda one: order[one.key])


def _task(proposal: Proposal, derived: Mapping[str, Default]) -> list[Proposed]:
    task, freq = proposal.config.task, proposal.facts.freq
    season = task.season_length or derived["task.season_length"].value
    horizon = Proposed(
        "task.horizon",
        task.horizon,
        f"steps to forecast; {proposal.why_horizon}",
        () if task.horizon == 1 or "task.horizon" in proposal.given else ((task.horizon // 2, "or half as far"),),
    )
    if freq.integer:
        instead: tuple[tuple[Any, str], ...] = ((12, "if a step is a month"), (24, "an hour"), (7, "a day"))
        why = "none: integer steps have no usual season"
    elif season == 1:
        instead, why = ((52, "a year"),) if str(freq.name).startswith("W") else (), "no season is usual"
    else:
        instead = ((7 * season, "a week"),) if freq.within_day else ((1, "no season"),)
        why = f"steps in a season, usual for {freq.name}"
    if task.season_length == 1 and not freq.integer:
        why = "none: the series are short"
    return [
        horizon,
        Proposed(
            "task.freq",
            freq.name,
            "whole numbers" if freq.integer else "the most frequent distance between time stamps",
        ),
        Proposed("task.season_length", season, why, instead),
        Proposed("task.levels", task.levels, "prediction intervals, percent"),
    ]


def show_proposal(proposal: Proposal, path: Path, console: Console) -> None:
    """Print a summary of the table and the proposal, and the next command.

    Args:
        proposal: The proposal.
        path: Path of the config that was written.
        console: Console to print to.
    """
    facts, length = proposal.facts, proposal.facts.length
    rows = f"{facts.rows:,}" if facts.complete else f"the first {facts.rows:,}; the rest was not read"
    steps = f"{length.min():,}" if length.min() == length.max() else f"{length.min():,} to {length.max():,}"
    unobserved = f", {facts.unobserved:,} without any value" if facts.unobserved else ""
    chosen = {one.key.rpartition(".")[2]: one.value for one in proposal.recognised.settings}
    settings = _task(proposal, derive(proposal.config, facts.statistics))
    shown = {
        "rows": rows,
        "columns": ", ".join(f"{key} = {_names(value)}" for key, value in chosen.items()),
        "series": f"{len(length) + facts.unobserved:,} of {steps} steps{unobserved}",
        "span": f"{facts.span[0]} to {facts.span[1]}, freq {facts.freq.name}",
        "missing": f"{facts.missing:.1%} of the steps" if facts.missing else "nothing",
        "season": next(f"{one.value}: {one.why}" for one in settings if one.key == "task.season_length"),
        "horizon": f"{proposal.config.task.horizon}: {proposal.why_horizon}",
        "usable": f"{proposal.usable:,} of {len(length):,} series, of {proposal.needed:,} steps or more",
    }
    statics = [name for names in proposal.recognised.statics.values() for name in names]
    if statics:
        shown["covariates"] = f"{_names(statics)} could be static ones; commented out in the config"
    if proposal.recognised.unused:
        shown["unused"] = _names(proposal.recognised.unused)
    shown |= {"written": str(path), "next": f"dist-lstm run {path}"}
    for key, text in shown.items():
        console.print(f"{key:<12}{text}")


def _names(value: Any) -> str:
    if value is None or isinstance(value, str):
        return "none" if value is None else value
    more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
    return ", ".join(value[:_SHOWN]) + more
