"""Any table under any config ends in shards, or in one line that says what the user has to correct."""

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.feather import write_feather
from pydantic import BaseModel

from dist_lstm.cli.process import one_line
from dist_lstm.config.load import load_config
from dist_lstm.config.schema import Config
from dist_lstm.config.yaml import dump_yaml
from dist_lstm.data.manifest import Manifest
from dist_lstm.errors import UserError
from tests.preparing import prepare

COLUMNS = ["unique_id", "ds", "y", "item_id", "timestamp", "target", "a", "b", "a/b"]
ZONES = ["UTC", "Europe/Berlin", "+05:30", "Mars/Olympus"]
DAYS = [dt.datetime(2024, 1, 1) + dt.timedelta(days=day) for day in range(60)]
TEXTS = st.one_of(
    st.sampled_from(
        ["a", "NA", "", "1", "1,5", "yes", "2024-01-01", "2024-01-02T00:00Z", "2024-01-02+01:00", "now"]
    ),
    st.sampled_from([" a ", "-", "None", "1.234,5", "2024-01-02 24:00", "2024-01-02 24:00 UTC", "# a", "#a,b"]),
    st.text(max_size=6).filter(lambda text: text.isprintable() or len(text) < 3),
)
FLOATS = st.floats(width=64)
#: Plain values of any kind, for settings.
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 100), st.integers(), FLOATS, TEXTS, st.sampled_from(COLUMNS),
    st.lists(st.one_of(st.sampled_from(COLUMNS), st.integers(0, 99), TEXTS), max_size=3),
    st.dictionaries(st.sampled_from(COLUMNS), st.integers(), max_size=2),
)  # fmt: skip


def arrays(rows: int) -> st.SearchStrategy[pa.Array]:
    """A column of any type; those of a valid table are the most frequent."""

    def of(values: st.SearchStrategy, kind: pa.DataType | None = None) -> st.SearchStrategy[pa.Array]:
        some = st.lists(st.one_of(values, values, values, st.none()), min_size=rows, max_size=rows)
        return some.map(lambda one: pa.array(one, kind))

    stamps = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
    whole = st.integers(-(2**63), 2**63 - 1)
    good = [
        st.sampled_from([1, 3, 7]).map(lambda step: pa.array(range(0, rows * step, step), pa.int64())),
        st.just(pa.array((DAYS * (1 + rows // 60))[:rows], pa.timestamp("us"))),
        st.just(pa.array([float(row) for row in range(rows)])),
        st.just(pa.array([f"{day:%Y-%m-%d}" for day in (DAYS * (1 + rows // 60))[:rows]])),
        st.sampled_from(["x", "ü", "1"]).map(lambda name: pa.array([name] * rows)),
    ]
    strange = [
        of(TEXTS), of(FLOATS), of(st.integers(0, 50)), of(whole), of(st.booleans()), of(st.binary(max_size=3)),
        of(stamps, pa.timestamp("us")), of(whole, pa.timestamp("us")), of(whole, pa.timestamp("s")),
        of(whole, pa.timestamp("ns")), of(whole, pa.duration("us")), of(st.integers(0, 2**64 - 1), pa.uint64()),
        of(st.integers(-(2**31), 2**31 - 1), pa.date32()), of(st.decimals(-1000, 1000, places=2)),
        of(st.lists(st.integers(0, 9), max_size=2), pa.list_(pa.int64())), of(st.none()),
        of(st.sampled_from(DAYS), pa.timestamp("us", "UTC")),
        st.sampled_from(ZONES).flatmap(lambda zone: of(st.sampled_from(DAYS), pa.timestamp("ms", zone))),
        of(TEXTS).map(lambda one: one.dictionary_encode()), of(TEXTS, pa.large_string()),
        of(FLOATS).map(lambda one: one.dictionary_encode()), of(st.times(), pa.time64("us")),
        of(st.fixed_dictionaries({"a": st.integers(0, 9)}), pa.struct([("a", pa.int64())])),
    ]  # fmt: skip
    return st.one_of(*good, *good, *good, *strange)


@st.composite
def regular_times(draw: st.DrawFn, steps: int) -> pa.Array:
    """Time stamps of a series, as tables of all kinds write them: with a type, as text, or as whole numbers."""
    freq = draw(st.sampled_from(["D", "D", "h", "min", "MS", "W-MON", "B", "office"]))
    if freq == "office":
        first = draw(st.sampled_from([0, 8, 9, 10]))
        hours = pd.date_range("2024-01-01", periods=3 * steps + 24, freq="h")
        stamps = hours[(hours.hour >= first) & (hours.hour < first + 8)][:steps]
    else:
        stamps = pd.date_range("2024-01-01", periods=steps, freq=freq)
    # Several closes: the time of day of a series.
    stamps += pd.Timedelta(minutes=draw(st.sampled_from([0, 0, 0, 960, 990])))
    kind = draw(st.sampled_from(["stamps", "stamps", "zone", "text", "date", "month", "unit", "steps"]))
    match kind:
        case "zone":
            return pa.array(stamps, pa.timestamp("us", draw(st.sampled_from(ZONES))))
        case "text":
            return pa.array(stamps.strftime("%Y-%m-%dT%H:%M"), pa.string())
        case "date" | "month":
            return pa.array(stamps.strftime("%Y%m%d" if kind == "date" else "%Y%m").astype(int), pa.int64())
        case "unit":
            return pa.array(stamps.as_unit(draw(st.sampled_from(["s", "ms", "us", "ns"]))).astype(int), pa.int64())
        case "steps":
            step = draw(st.sampled_from([1, 2, 5, 10, 3600]))
            return pa.array(range(0, steps * step, step), pa.int64())
    return pa.array(stamps, pa.timestamp("us"))


@st.composite
def names_of(draw: st.DrawFn, count: int) -> pa.Array:
    """Names of series, of any type that may name them."""
    numbers = draw(st.lists(st.integers(0, 120), min_size=count, max_size=count, unique=True))
    kind = draw(
        st.sampled_from([pa.string(), pa.large_string(), pa.int8(), pa.int64(), pa.uint64(), "categories"])
    )
    if kind == "categories":
        return pa.array([f"s{number}" for number in numbers]).dictionary_encode()
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return pa.array([f"{number:03d}" for number in numbers] if is_text else numbers, kind)


@st.composite
def panels(draw: st.DrawFn) -> pa.Table:
    """Regular series of several lengths and levels, with their rows in any order."""
    count = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.sampled_from([60, 60, 20, 3, 1]), min_size=count, max_size=count))
    names, level = draw(names_of(count)), draw(st.sampled_from([0.0, 1.0, 1e7, 1.7e9, 1e15]))
    times = draw(regular_times(max(lengths)))
    parts = []
    for number, length in enumerate(lengths):
        values = np.arange(length, dtype=float) % 7 + level
        # A series may begin late, and end in rows for the future.
        values[length - draw(st.sampled_from([0, 0, 1])) :] = np.nan
        name = names.take(pa.array([number] * length))
        y = pa.array(values, from_pandas=True)
        parts.append(pa.table({"unique_id": name, "ds": times[len(times) - length :], "y": y}))
    table = pa.concat_tables(parts).combine_chunks()
    order = draw(st.sampled_from(["by series", "by time", "shuffled"]))
    if order == "by time":
        return table.sort_by("ds")
    mixed = np.random.default_rng(count).permutation(table.num_rows)
    return table.take(pa.array(mixed)) if order == "shuffled" else table


@st.composite
def tables(draw: st.DrawFn, layout: str) -> pa.Table:
    """A valid table with up to two columns replaced, renamed or added, or a table of arbitrary columns."""
    if layout == "long" and draw(st.integers(0, 2)) == 2:
        return draw(panels())
    rows = draw(st.sampled_from([40, 60, 60, 5, 1, 0]))
    names = st.one_of(st.sampled_from(COLUMNS), st.sampled_from(COLUMNS), st.text(max_size=4))
    if draw(st.integers(0, 9)) == 9:
        return pa.table(draw(st.dictionaries(names, arrays(rows), max_size=5)))
    stamps = pa.array(DAYS[:rows], pa.timestamp("us"))
    texts = pa.array([f"{day:%Y-%m-%dT%H:%M}" for day in DAYS[:rows]], pa.string())
    aware = pa.array(DAYS[:rows], pa.timestamp("us", draw(st.sampled_from(ZONES))))
    columns = {"ds": draw(st.sampled_from([pa.array(range(rows), pa.int64()), stamps, texts, aware]))}
    columns["y" if layout == "long" else "a"] = pa.array([float(row % 7) for row in range(rows)])
    columns |= {"unique_id": pa.array(["x"] * rows, pa.string())} if layout == "long" else {}
    for name in draw(st.lists(names, max_size=draw(st.sampled_from([0, 0, 1, 2])))):
        if draw(st.booleans()):
            columns[name] = draw(arrays(rows))
        else:
            columns[name] = columns.pop(draw(st.sampled_from(sorted(columns))))
    return pa.table(columns)


def write(table: pa.Table, kind: str, folder: Path) -> Path | None:
    """Write the table to a file; None where the format does not support its types."""
    path = folder / f"t.{kind}"
    try:
        if kind == "parquet":
            pq.write_table(table, path)
        elif kind == "feather":
            write_feather(table, path)
        else:
            separator = {"csv": ",", "tsv": "\t"}[kind]
            table.to_pandas().to_csv(path, index=False, sep=separator, errors="surrogatepass")
    except (pa.ArrowException, ValueError, OverflowError):
        return None
    return path


def setting_of(annotation: Any) -> st.SearchStrategy:
    """Values that may fit a field, and some that do not."""
    literals = [one for one in get_args(annotation) if isinstance(one, str)]
    literals += [inner for one in get_args(annotation) for inner in get_args(one) if isinstance(inner, str)]
    return st.one_of(st.sampled_from(literals), VALUES) if literals else VALUES


@st.composite
def sections(draw: st.DrawFn, section: type[BaseModel] = Config) -> dict[str, Any]:
    """Some of the settings of a section, sometimes one that is unknown."""
    values: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(list(section.model_fields)), max_size=3, unique=True)):
        annotation: Any = section.model_fields[name].annotation
        inner = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        values[name] = draw(sections(annotation) if inner else setting_of(annotation))
    if draw(st.integers(0, 30)) == 30:
        values[draw(st.sampled_from([*COLUMNS, "horizon", "x"]))] = draw(VALUES)
    return values


NAMES = st.sampled_from(COLUMNS)
#: Values that a user could try, by dotted key.
LIKELY = {
    "task.freq": st.sampled_from([1, 7, "D", "h", "MS", "W", "B", "us", "YE"]),
    "task.horizon": st.integers(1, 20),
    "split.test": st.integers(0, 20),
    "data.columns.unique_id": st.one_of(st.none(), NAMES),
    "data.columns.ds": NAMES,
    "data.columns.y": st.one_of(NAMES, st.lists(NAMES, min_size=1, max_size=3)),
    "data.timezone": st.sampled_from(["UTC", "Europe/Berlin"]),
    "data.static_categories": st.lists(NAMES, max_size=2),
    "data.static_numbers": st.lists(NAMES, max_size=2),
    "data.ds_format": st.sampled_from(["%Y%m%d", "%Y%m", "s", "ms", "us", "ns", "step"]),
    "data.trailing": st.sampled_from(["drop", "missing"]),
    "data.duplicates": st.sampled_from(["first", "last", "mean", "sum"]),
    "data.decimal": st.sampled_from(["point", "comma"]),
    "data.thousands": st.sampled_from(["point", "comma", "space", "apostrophe"]),
    "data.missing_values": st.lists(st.sampled_from(["-", "None", 3, 0.0, "a"]), max_size=2),
    "data.csv.delimiter": st.sampled_from(["comma", "semicolon", "tab", "pipe", "space"]),
    "data.csv.comment": st.sampled_from(["#", "-", "a", "%"]),
    "data.csv.skip_lines": st.integers(0, 3),
    "data.csv.encoding": st.sampled_from(["utf-8", "utf-16", "utf-16-le", "cp1252", "ascii", "utf-9"]),
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], pa.Table, str]:
    """A config, a table, and the kind of file the table is to be in."""
    layout = draw(st.sampled_from(["long", "long", "wide"]))
    config: dict[str, Any] = {"task": {"horizon": 2}, "split": {"validation": 0, "test": 0}}
    config |= {"data": {"layout": layout, "columns": {}, "csv": {}}}
    changes = draw(st.sampled_from([0, 1, 2]))
    for key in draw(st.lists(st.sampled_from(sorted(LIKELY)), min_size=changes, max_size=changes, unique=True)):
        *path, last = key.split(".")
        section = config
        for name in path:
            section = section[name]
        section[last] = draw(LIKELY[key])
    if draw(st.integers(0, 5)) == 5:
        config |= draw(sections())
    kind = draw(st.sampled_from(["csv", "tsv", "parquet", "feather", "frame"]))
    return config, draw(tables(layout)), kind


def outcome(config: dict[str, Any], table: pa.Table, kind: str) -> str:
    """Prepare a table in a folder of its own: `shards`, or the line of the user's mistake."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = write(table, kind, folder) if kind != "frame" else folder / "nowhere.csv"
        if path is None:
            return "not written"
        if isinstance(config.get("data"), dict):
            config["data"]["path"] = str(path)
        job = folder / "job.yaml"
        try:
            job.write_text(dump_yaml(config), encoding="utf-8", errors="surrogatepass")
            frame = table.to_pandas() if kind == "frame" else None
        except (pa.ArrowException, ValueError, OverflowError):
            return "not written"
        try:
            result = prepare(load_config(job), folder / "shards", frame)
        except UserError as error:
            line = one_line(str(error))
            assert line.isprintable()
            assert line.strip()
            assert len(line) < 3000
            return line
        assert isinstance(result, Manifest)
        assert result.series > 0
        return "shards"


CHECKED = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


def test_a_table_becomes_shards_or_one_error_line_and_the_fuzzer_reaches_both():
    outcomes: list[str] = []

    @settings(max_examples=150, derandomize=True, database=None, **CHECKED)
    @given(cases())
    def collect(case):
        outcomes.append(outcome(*case))

    collect()
    assert outcomes.count("shards") >= 15
    assert pd.Series(outcomes).str.slice(-30).nunique() >= 25


@pytest.mark.slow
@settings(max_examples=600, **CHECKED)
@given(cases())
def test_many_tables_become_shards_or_one_error_line(case):
    outcome(*case)
