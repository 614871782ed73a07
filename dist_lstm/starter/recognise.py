"""Recognise the role of each column of a table by its name, its type and its repeated values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.schema import DataSettings
from dist_lstm.data.columns import TRANSPOSE, dates_among
from dist_lstm.data.csv_files import heading_advice
from dist_lstm.data.parse_numbers import number_advice, parse_numbers
from dist_lstm.data.raw_rows import without_dictionary
from dist_lstm.data.rows import column_kind
from dist_lstm.errors import UserError
from dist_lstm.starter.proposal import Proposed

#: Usual names of columns, the most certain first; a name matches as a whole or as a word of a longer name.
# fmt: off
_TIMES = (
    "ds", "timestamp", "datetime", "date", "time", "day", "week", "month", "quarter", "year", "period",
    "hour", "step", "index", "t",
)
_SERIES = (
    "unique_id", "item_id", "id", "series", "sku", "item", "product", "article", "store", "shop", "station",
    "sensor", "meter", "site", "region", "state", "country", "symbol", "ticker", "customer", "key", "code",
    "name", "nbr", "number",
)
_TARGETS = (
    "y", "target", "value", "values", "sales", "demand", "load", "consumption", "quantity", "qty", "units",
    "amount", "count", "revenue", "close", "price", "volume", "traffic", "power",
)
# fmt: on
#: Whole numbers from 1900-01-01 to 2100-12-31, written as 19000101 to 21001231.
_FIRST_DATE, _LAST_DATE = 19000101, 21001231
_SHOWN = 8
_MOST_PAIRED = 6
#: A column that names the series may repeat a time stamp in this share of the rows; `duplicates` reports them.
_FEW = 0.05


@dataclass(frozen=True)
class Recognised:
    """The roles of the columns of a table.

    Attributes:
        settings: The settings of `data` that define them.
        statics: Columns with one value per series, by setting: `data.static_categories` and
            `data.static_numbers`.
        unused: Columns that are not used.
    """

    settings: tuple[Proposed, ...]
    statics: Mapping[str, tuple[str, ...]]
    unused: tuple[str, ...]


class _Sample:
    """The first rows of a table, and questions about them."""

    def __init__(self, table: pa.Table, settings: DataSettings, where: str) -> None:
        columns = {name: without_dictionary(table[name]) for name in table.column_names}
        self.table = pa.table(columns)
        self.kinds = {name: column_kind(column, settings) for name, column in columns.items() if name}
        self.settings, self.where = settings, where
        self.unnamed_time = "" in columns and column_kind(columns[""], settings) == "time"

    def of(self, *kinds: str) -> list[str]:
        return [name for name, kind in self.kinds.items() if kind in kinds]

    @property
    def numbers(self) -> list[str]:
        """Columns that could be forecast, without the index that pandas stores."""
        return [name for name in self.of("whole", "number") if not name.startswith("__index_level_")]

    def distinct(self, name: str) -> int:
        return pc.count_distinct(self.table[name], mode="all").as_py()

    def repeats(self, *keys: str) -> int:
        """Number of rows with the same values in some columns as an earlier row."""
        return self.table.num_rows - self.table.group_by([*keys]).aggregate([]).num_rows

    def changing(self, names: Sequence[str], series: str) -> set[str]:
        """Columns that have several values within a series."""
        counts = self.table.group_by(series).aggregate([(name, "count_distinct") for name in names])
        return {name for name in names if pc.max(counts[f"{name}_count_distinct"]).as_py() > 1}

    def refuse(self, problem: str, advice: str) -> NoReturn:
        shown = [f"{name} ({kind})" for name, kind in self.kinds.items()][:_SHOWN]
        more = f" and {len(self.kinds) - _SHOWN} more" if len(self.kinds) > _SHOWN else ""
        raise UserError(self.where, f"{problem}; its columns are {', '.join(shown)}{more}", advice)


def recognise(table: pa.Table, settings: DataSettings, given: Mapping[str, Any], where: str) -> Recognised:
    """Recognise the role of each column of a table.

    Args:
        table: The first rows as they are stored, with all columns.
        settings: How values are written.
        given: Settings of `data` that the user gave.
        where: The table, named in errors.

    Returns:
        The settings, with given ones unchanged.

    Raises:
        UserError: If a role can't be decided and must be given.
    """
    if not table.num_rows:
        raise UserError(where, "has no rows", "give a table with at least one series")
    sample = _Sample(table, settings, where)
    columns: Mapping[str, Any] = given.get("columns") or {}
    for name in (columns.get(key) for key in ("unique_id", "ds", "y")):
        if isinstance(name, str) and name not in sample.kinds:
            sample.refuse(f"has no column {name!r}", "use one of these with --set data.columns.KEY=NAME")
    ds = _given("ds", columns) or _time(sample)
    layout = given.get("layout")
    if layout == "wide":
        return _wide(sample, ds, _given("y", columns), Proposed("data.layout", "wide", "as given"))
    unique_id = _given("unique_id", columns) or _series(sample, ds.value, merged="duplicates" in given)
    chosen = [ds.value, *([] if unique_id.value is None else [unique_id.value])]
    y = _given("y", columns)
    if y is None:
        candidates = [name for name in sample.numbers if name not in chosen]
        named = _named(candidates, _TARGETS)
        if unique_id.value is None and len(candidates) > 1 and len(named) != 1 and layout is None:
            why = "one column per series; long: one row per series and time stamp"
            return _wide(sample, ds, None, Proposed("data.layout", "wide", why))
        y = _target(sample, candidates, named, unique_id.value)
    targets = [y.value] if isinstance(y.value, str) else y.value
    others = [name for name in sample.kinds if name not in (*chosen, *targets)]
    statics = _statics(sample, others, unique_id.value)
    unused = [name for name in others if not any(name in names for names in statics.values())]
    return Recognised((unique_id, ds, y), statics, tuple(unused))


def _given(key: str, columns: Mapping[str, Any]) -> Proposed | None:
    return Proposed(f"data.columns.{key}", columns[key], "as given") if key in columns else None


def _named(names: Sequence[str], hints: tuple[str, ...]) -> list[str]:
    """The columns with the most certain name: one, several of the same rank, or none."""
    ranks = {}
    for name in names:
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
        # The whole name counts more than a word of it.
        words = [2 * hints.index(word) + 1 for word in re.findall(r"[a-z]+", spaced) if word in hints]
        ranks[name] = min([2 * hints.index(name.lower())] if name.lower() in hints else words, default=None)
    best = min((rank for rank in ranks.values() if rank is not None), default=None)
    return [name for name, rank in ranks.items() if rank == best and rank is not None]


def _time(sample: _Sample) -> Proposed:
    key, advice = "data.columns.ds", "choose one with --set data.columns.ds=NAME"
    stamps, integers = sample.of("time"), sample.of("whole")
    usual = next((name for name in ("ds", "timestamp") if name in stamps + integers), None)
    if usual is not None or len(stamps) == 1:
        name = usual or stamps[0]
        why = "time stamps" if name in stamps else "numbers of the steps"
    elif stamps:
        named = _named(stamps, _TIMES)
        if len(named) != 1:
            sample.refuse(f"several columns hold time stamps: {', '.join(stamps)}", advice)
        name, why = named[0], "time stamps, by its name"
    else:
        named = _named(integers, _TIMES)
        if len(named) != 1:
            _refuse_no_time(sample, advice)
        name, why = named[0], "numbers of the steps, by its name"
    if name in integers and sample.settings.ds_format is None:
        _refuse_dates(sample, name)
    if dates_among([name]):
        sample.refuse(f"the column of time stamps has the name {name!r}", heading_advice([*sample.kinds]))
    return Proposed(key, name, why, tuple((other, "time stamps too") for other in stamps if other != name))


def _refuse_no_time(sample: _Sample, advice: str) -> NoReturn:
    names = [*sample.kinds]
    dates = dates_among(names, years=True)
    if sample.unnamed_time:
        sample.refuse("the column of time stamps has no name", "give it one, such as ds")
    if len(dates) > 1:
        sample.refuse(f"has a column for each date, such as {dates[0]} and {dates[1]}", TRANSPOSE)
    example = f"write time stamps as 2024-03-01 or 2024-03-01 12:00, set data.ds_format, or {advice}"
    sample.refuse(f"no column holds time stamps{_text_example(sample)}", heading_advice(names) or example)


def _refuse_no_numbers(sample: _Sample) -> NoReturn:
    """Refuse a table without numbers, with what its most likely column of numbers holds instead."""
    texts = sample.of("text")
    named = _named(texts, _TARGETS)
    for name in [*named, *texts]:
        column = sample.table[name]
        bad = parse_numbers(column, sample.settings)[1]
        if bad.any() and (name in named or not bad.all()):
            value = column.filter(pa.array(bad))[0].as_py()
            sample.refuse(
                f"no column holds numbers to forecast ({name} holds {value!r})",
                number_advice(value, sample.settings),
            )
    sample.refuse("no column holds numbers to forecast", "write numbers with a decimal point")


def _text_example(sample: _Sample) -> str:
    """An example from a column whose name suggests time stamps, but whose text can't be read as such."""
    named = _named(sample.of("text"), _TIMES)
    return f" ({named[0]} holds {sample.table[named[0]].drop_null()[0].as_py()!r})" if named else ""


def _refuse_dates(sample: _Sample, name: str) -> None:
    numbers = sample.table[name].cast(pa.int64())
    ends = pc.min_max(numbers).as_py()
    if ends["min"] >= _FIRST_DATE and ends["max"] <= _LAST_DATE:
        sample.refuse(
            f"column {name!r} holds whole numbers such as {ends['min']}, which look like dates",
            "--set data.ds_format='%Y%m%d'; or --set data.ds_format=step if they do count steps",
        )


def _series(sample: _Sample, ds: str, merged: bool) -> Proposed:
    key = "data.columns.unique_id"
    texts = [name for name in sample.of("text") if not sample.table[name].null_count]
    integers = [name for name in sample.of("whole") if name != ds]
    usual = next((name for name in ("unique_id", "item_id") if name in texts + integers), None)
    if usual is not None:
        return Proposed(key, usual, f"names the series: {sample.distinct(usual):,} in the first rows")
    if not sample.repeats(ds):
        one = next((name for name in texts if sample.distinct(name) == 1), None)
        why = "no time stamp is repeated: one series" if one is None else "names the one series in the first rows"
        return Proposed(key, one, why)
    numbered = [name for name in integers if _named([name], _SERIES) and not _named([name], _TARGETS)]
    surest = _named(texts + numbered, _SERIES)
    candidates = surest + [name for name in texts + numbered if name not in surest]
    rows = sample.table.num_rows
    fits = [name for name in candidates if not sample.repeats(name, ds) and 2 * sample.distinct(name) <= rows]
    nearly = [name for name in candidates if 0 < sample.repeats(name, ds) <= _FEW * rows]
    if fits or nearly:
        name, *others = fits or nearly
        why = f"no repeated time stamp within any of its {sample.distinct(name):,} values"
        instead = tuple((other, f"or by this: {sample.distinct(other):,} values") for other in others)
        return Proposed(key, name, why if fits else "names the series", instead)
    if merged:
        return Proposed(key, None, "one series, whose rows of the same time stamp are merged")
    for one, two in combinations(candidates[:_MOST_PAIRED], 2):
        if not sample.repeats(one, two, ds):
            sample.refuse(
                f"no single column names the series, {one!r} and {two!r} together do",
                f"add a column of both, such as {sample.table[one][0]}/{sample.table[two][0]}",
            )
    return sample.refuse(
        f"column {ds!r} repeats its time stamps, and no column names the series",
        "choose it with --set data.columns.unique_id=NAME; if the rows are parts of one series, merge them with "
        "--set data.duplicates=sum",
    )


def _target(sample: _Sample, candidates: list[str], named: list[str], unique_id: str | None) -> Proposed:
    key = "data.columns.y"
    if unique_id is not None and len(candidates) > 1:
        changing = sample.changing(candidates, unique_id)
        candidates = [name for name in candidates if name in changing or name in named]
    if not candidates:
        _refuse_no_numbers(sample)
    if len(candidates) == 1:
        return Proposed(key, candidates[0], "the only numbers to forecast")
    if len(named) != 1:
        names = ", ".join(candidates)
        sample.refuse(
            f"several columns hold numbers to forecast: {names}",
            f"choose one with --set data.columns.y=NAME, or each as a separate series with --set "
            f"'data.columns.y=[{names}]'",
        )
    instead = tuple((name, "numbers too") for name in candidates if name != named[0])
    return Proposed(key, named[0], "numbers, by its name", instead)


def _wide(sample: _Sample, ds: Proposed, y: Proposed | None, layout: Proposed) -> Recognised:
    numbers = [name for name in sample.numbers if name != ds.value]
    if y is None and not numbers:
        _refuse_no_numbers(sample)
    targets = numbers if y is None else [y.value] if isinstance(y.value, str) else y.value
    others = [name for name in sample.kinds if name not in (ds.value, *targets)]
    if y is None and others:
        y = Proposed("data.columns.y", numbers, "the columns of numbers")
    elif y is None:
        y = Proposed("data.columns.y", numbers, "left out: every column but ds is a series", active=False)
    return Recognised((layout, ds, y), {}, tuple(others))


def _statics(sample: _Sample, others: list[str], unique_id: str | None) -> dict[str, tuple[str, ...]]:
    if unique_id is None or sample.distinct(unique_id) == 1:
        return {}
    # These three names belong to other columns.
    usable = [name for name in others if name not in ("unique_id", "ds", "y") and sample.kinds[name] != "time"]
    usable = [
        name for name in usable if sample.kinds[name] not in ("other", "empty") and sample.distinct(name) > 1
    ]
    changing = sample.changing(usable, unique_id)
    kinds = {"data.static_categories": ("text", "flag", "whole"), "data.static_numbers": ("number",)}
    result = {
        key: tuple(name for name in usable if name not in changing and sample.kinds[name] in kind)
        for key, kind in kinds.items()
    }
    return {key: names for key, names in result.items() if names}
