"""Which columns of a table have which role, by the settings and the names in the table."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from dist_lstm.config.schema import DataSettings
from dist_lstm.errors import UserError

#: Names of these columns in other libraries.
_OTHER_NAMES = {"unique_id": "item_id", "ds": "timestamp", "y": "target"}


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
    _check_present(chosen, present, available, where)
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


def _check_present(chosen: Columns, present: list[str], available: set[str], where: str) -> None:
    keys = {"data.columns.unique_id": [chosen.unique_id], "data.columns.ds": [chosen.ds]}
    keys |= {"data.columns.y": list(chosen.targets)}
    keys |= {"data.static_categories": list(chosen.categories), "data.static_numbers": list(chosen.numbers)}
    for key, names in keys.items():
        for name in names:
            if name is not None and name not in available:
                alone = " (null if the table is one series)" if key.endswith("unique_id") else ""
                some = ", ".join([*present[:20], *sorted(available - {*present})]) or "its columns"
                raise UserError(where, f"has no column {name!r}", f"set {key} to one of {some}{alone}")
    if not chosen.targets:
        raise UserError(where, f"has no column beside {chosen.ds!r}", "a wide table has one column per series")
    if "" in chosen.targets:
        raise UserError(where, "a column has no name", "give it one, or list the others in data.columns.y")
    _check_given_once(chosen.names, present, where)


def _check_given_once(names: list[str], present: list[str], where: str) -> None:
    count = Counter(present)
    twice = next((name for name in names if count[name] > 1), None)
    if twice is not None:
        raise UserError(where, f"has {count[twice]} columns called {twice!r}", "rename or drop all but one")
