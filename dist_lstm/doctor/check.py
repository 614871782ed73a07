"""A check and its result, and how results are shown."""

from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Column, Table

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One check and its result.

    Attributes:
        name: What was checked.
        value: What the check saw, such as a version or a size.
        state: `ok`; `warning`: works, but slowly or not for long; `problem`: does not work as it should.
        advice: What to do about it; empty where the state is ok.
    """

    name: str
    value: str
    state: State = "ok"
    advice: str = ""


def has_problem(checks: list[Check]) -> bool:
    """Whether any check is a problem; warnings don't count."""
    return any(check.state == "problem" for check in checks)


def as_json(checks: list[Check]) -> dict[str, Any]:
    """Checks for `--json`: the worst `state` of all, and `checks` in their order."""
    states = {check.state for check in checks}
    worst = next((state for state in ("problem", "warning") if state in states), "ok")
    return {"state": worst, "checks": [_entry(check) for check in checks]}


def _entry(check: Check) -> dict[str, str]:
    return {"name": check.name, "found": check.value, "state": check.state, "advice": check.advice}


def show_checks(checks: list[Check], console: Console) -> None:
    """Print checks as a table, and below it what to do.

    Args:
        checks: What `examine` returned.
        console: Where they are printed.
    """
    table = Table("check", Column("found", overflow="fold"), Column("state", no_wrap=True))
    for check in checks:
        table.add_row(check.name, check.value, check.state)
    console.print(table)
    for check in checks:
        if check.state != "ok":
            console.print(f"{check.state}: {check.name}: {check.advice}")
