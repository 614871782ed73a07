"""Which columns of a table have which role, by the settings and the names in the table."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa

from dist_lstm.config.schema import DataSettings
from dist_lstm.errors import UserError

#: Names of these columns in other libraries.
_OTHER_NAMES = {"unique_id": "item_id", "ds": "timestamp", "y": "target"}
_DATE = r"(?:19|20)\d\d[-/.]\d\d?(?:[-/.]\d\d?)?(?:[T ]\d.*)?|\d\d?[-/.]\d\d?[-/.](?:19|20)?\d\d(?: \d.*)?"
_YEAR = r"(?:19|20)\d\d(?: ?-?Q[1-4])?"
TRANSPOSE = "transpose it to one row per time stamp and one column per series, and set data.layout to wide"


@dataclass(frozen=True)
class Columns:
    """The columns of a table by their role.

    Attributes:
        unique_id: Names of the series; None if the table has one series or each target is one.
        ds: Time stamps or steps.
        targets: Values.
        melted: Whether each target is a series of its own.
        categories: Static covariates that are read as text.
        numbers: Static covariates that are read as numbers.
    """

    unique_id: str | None
    ds: str
    targets: tuple[str, ...]
    melted: bool
    categories: tuple[str, ...]
    numbers: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """All of them."""
        series = [] if self.unique_id is None else [self.unique_id]
        return [*series, self.ds, *self.targets, *self.categories, *self.numbers]

    def inside(self, present: Collection[str]) -> list[str]:
        """The columns that are in the file itself, and not in the names of its folders."""
        available = {*present}
        return [name for name in self.names if name in available]


Choose = Callable[[list[str]], Columns]
Piece = tuple[Columns, pa.Table]


def choose_columns(settings: DataSettings, present: list[str], folders: Collection[str], where: str) -> Columns:
    """Find the columns that the settings name in a table.

    Args:
        settings: Layout and names.
        present: Names of the table's columns.
        folders: Column names in its folders (`key=value`), used only if the settings name them.
        where: The table, for errors.

    Returns:
        The columns.

    Raises:
        UserError: If one is missing or occurs twice.

    Example:
        >>> settings = DataSettings(path="sales.csv", static_categories=("store",))
        >>> choose_columns(settings, ["item_id", "timestamp", "target", "store"], (), "sales.csv").names
        ['item_id', 'timestamp', 'target', 'store']
    """
    columns = settings.columns
    available = {*present, *folders}
    named = {*settings.named_columns}

    def alias(key: str, name: str) -> str:
        other = _OTHER_NAMES[key]
        return other if name == key and name not in available and other in available - named else name

    unique_id = None
    if settings.layout == "long" and columns.unique_id is not None:
        unique_id = alias("unique_id", columns.unique_id)
    ds = alias("ds", columns.ds)
    if settings.every_column:
        # pandas keeps its index under such a name.
        targets = tuple(name for name in present if name != ds and not name.startswith("__index_level_"))
    else:
        targets = (alias("y", columns.y),) if isinstance(columns.y, str) else columns.y
    melted = settings.layout == "wide" or not isinstance(columns.y, str)
    chosen = Columns(unique_id, ds, targets, melted, settings.static_categories, settings.static_numbers)
    _check_present(chosen, present, available, settings.every_column, where)
    return chosen


def all_columns(present: list[str], folders: Collection[str], where: str) -> Columns:
    """Every column of a table, for a look at it before it is known which are which.

    Args:
        present: Names of the table's columns.
        folders: Names that its folders give (`key=value`).
        where: The table, named in errors.

    Returns:
        The columns; which of them stands where says nothing.

    Raises:
        UserError: If there is none, or two have the same name.
    """
    names = [*dict.fromkeys([*present, *folders])]
    if not names:
        raise UserError(where, "has no columns")
    _check_given_once(names, present, where)
    return Columns(None, names[0], tuple(names[1:]), True, (), ())


def dates_among(names: Iterable[str], years: bool = False) -> list[str]:
    """The names that are dates, or also years and quarters, as the columns of a transposed table have.

    Args:
        names: Names of columns.
        years: Whether years and quarters count too.

    Returns:
        Those of them.

    Example:
        >>> dates_among(["store", "2024-01-31", "29/02/2024", "2024"])
        ['2024-01-31', '29/02/2024']
    """
    pattern = re.compile(f"{_DATE}|{_YEAR}" if years else _DATE)
    return [name for name in names if pattern.fullmatch(name)]


def _check_present(
    chosen: Columns, present: list[str], available: set[str], every_column: bool, where: str
) -> None:
    keys = {"data.columns.unique_id": [chosen.unique_id], "data.columns.ds": [chosen.ds]}
    keys |= {"data.columns.y": list(chosen.targets)}
    keys |= {"data.static_categories": list(chosen.categories), "data.static_numbers": list(chosen.numbers)}
    for key, names in keys.items():
        for name in names:
            if name is not None and name not in available:
                _refuse_missing(key, name, [*present, *sorted(available - {*present})], where)
    if not chosen.targets:
        raise UserError(where, f"has no column beside {chosen.ds!r}", "a wide table has one column per series")
    if "" in chosen.targets:
        raise UserError(where, "a column has no name", "give it one, or list the others in data.columns.y")
    dates = dates_among(chosen.targets) if every_column else []
    if 2 * len(dates) > max(2, len(chosen.targets)):
        advice = f"{TRANSPOSE}; or list the series in data.columns.y if they are named by dates"
        raise UserError(where, f"has a column for each date, such as {dates[0]} and {dates[1]}", advice)
    _check_given_once(chosen.names, present, where)


def _refuse_missing(key: str, name: str, available: list[str], where: str) -> NoReturn:
    problem = f"has no column {name!r}"
    names = (name.lower(), _OTHER_NAMES.get(name))
    near = next((one for one in available if one.strip().lower() in names), None)
    dates = dates_among(available, years=True)
    if near is not None:
        raise UserError(where, f"{problem}, but {near!r}", f"set {key} to {near}")
    if len(dates) > 1:
        raise UserError(
            where, f"{problem}, and a column for each date, such as {dates[0]} and {dates[1]}", TRANSPOSE
        )
    alone = " (null if the table is one series)" if key.endswith("unique_id") else ""
    some = ", ".join(available[:20]) or "its columns"
    raise UserError(where, problem, f"set {key} to one of {some}{alone}")


def _check_given_once(names: list[str], present: list[str], where: str) -> None:
    count = Counter(present)
    twice = next((name for name in names if count[name] > 1), None)
    if twice is not None:
        raise UserError(where, f"has {count[twice]} columns called {twice!r}", "rename or drop all but one")
