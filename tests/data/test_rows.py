"""Values as they are checked: time zones, static covariates, numbers, and what errors say about a row."""

import datetime as dt
import decimal
import zoneinfo
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.feather import write_feather

from tests.data.conftest import message, pieces, rows

BERLIN = "Europe/Berlin"
#: Milliseconds of whole days, more than 64 bits can hold as microseconds.
DAYS = 10**11 * 86_400_000 // 10
#: The hour before and the hour after clocks go forward in Berlin.
INSTANTS = [dt.datetime(2024, 3, 31, 0, tzinfo=dt.UTC), dt.datetime(2024, 3, 31, 1, tzinfo=dt.UTC)]


def table_of(ds, y=None, **more) -> pa.Table:
    return pa.table({"unique_id": ["a"] * len(ds), "ds": ds, "y": [1.0] * len(ds) if y is None else y, **more})


@pytest.fixture
def write(tmp_path):
    """Write a table, as text where it is to be CSV; its path."""

    def write_table(table: pa.Table, csv: bool = False):
        path = tmp_path / ("t.csv" if csv else "t.feather")
        table.to_pandas().to_csv(path, index=False) if csv else write_feather(table, path)
        return path

    return write_table


def times(path="unused", frame=None, **settings) -> tuple[pa.DataType, list[dt.datetime]]:
    """The type of `ds`, the same for all pieces, and the instants in UTC."""
    actual = pieces(path, frame, **settings)
    (kind,) = {piece.schema.field("ds").type for piece in actual}
    stamps = [stamp for piece in actual for stamp in piece["ds"].to_pylist()]
    return kind, [stamp if stamp.tzinfo is None else stamp.astimezone(dt.UTC) for stamp in stamps]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", BERLIN, "+05:30"])
def test_a_zone_of_arrow_stays_in_the_type(unit, zone, write):
    path = write(table_of(pa.array(INSTANTS, pa.timestamp(unit, zone))))
    assert times(path) == (pa.timestamp("us", zone), INSTANTS)
    assert times(path, timezone="Asia/Tokyo") == (pa.timestamp("us", "Asia/Tokyo"), INSTANTS)


@pytest.mark.parametrize(
    "zone", ["UTC", BERLIN, dt.timezone(dt.timedelta(hours=-3)), zoneinfo.ZoneInfo("Asia/Tokyo")]
)
def test_a_zone_of_pandas_stays_in_the_type(zone):
    frame = table_of(INSTANTS).to_pandas()
    frame["ds"] = frame["ds"].dt.tz_convert(zone)
    kind, actual = times(frame=frame)
    assert actual == INSTANTS
    assert INSTANTS[0].astimezone(pd.Timestamp(0, tz=kind.tz).tz).utcoffset() == frame["ds"][0].utcoffset()


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("2024-03-31T{hour:02d}:00:00Z", "UTC"),
        ("2024-03-31 {hour:02d}:00:00 Z", "UTC"),
        ("2024-03-31T{hour:02d}:00+00:00", "UTC"),
        ("2024-03-31T{hour:02d}:00-0000", "UTC"),
        ("2024-03-31T{later:02d}:00:00.000+02:00", "+02:00"),
        ("2024-03-31 {later:02d}:00+0200", "+02:00"),
        ("2024-03-31 {later:02d}+02", "+02:00"),
        ("2024-03-31 {later:02d}:00:00 +02:00", "+02:00"),
    ],
)
def test_one_offset_of_text_is_the_zone(text, zone, write):
    stamps = [text.format(hour=hour, later=hour + 2) for hour in (0, 1)]
    for csv in (True, False):
        path = write(table_of(stamps), csv)
        assert times(path) == (pa.timestamp("us", zone), INSTANTS)
        assert times(path, timezone=BERLIN) == (pa.timestamp("us", BERLIN), INSTANTS)


@pytest.mark.parametrize("suffix", [" UTC", "UTC", " GMT", "GMT", "Z", "+00:00"])
@pytest.mark.parametrize("form", [None, "%Y-%m-%d %H:%M{}"])
def test_utc_by_any_name_is_the_zone(suffix, form, write):
    settings = {} if form is None else {"ds_format": form.format("%z" if suffix in ("Z", "+00:00") else suffix)}
    path = write(table_of([f"2024-03-31 {hour:02d}:00{suffix}" for hour in (0, 1)]), csv=True)
    assert times(path, **settings) == (pa.timestamp("us", "UTC"), INSTANTS)
    assert times(path, timezone=BERLIN, **settings) == (pa.timestamp("us", BERLIN), INSTANTS)


def test_several_names_of_utc_are_one_zone(write):
    path = write(table_of(["2024-03-31 00:00 UTC", "2024-03-31 01:00 GMT", "2024-03-31 02:00Z"]), csv=True)
    assert times(path)[0] == pa.timestamp("us", "UTC")


@pytest.mark.parametrize("suffix", ["UTC", "Europe/Berlin", "CET", "Z+1", "(UTC)", "BST"])
def test_a_date_alone_has_no_zone_and_other_names_of_zones_are_refused(suffix, write):
    stamp = "2024-03-31" if suffix == "UTC" else "2024-03-31 10:00"
    assert f"got '{stamp} {suffix}'" in message(write(table_of([f"{stamp} {suffix}"]), csv=True))


MIDNIGHTS = [
    ("2024-02-28 24:00", None, "2024-02-29T00:00+00:00"),
    ("2023-12-31T24:00", None, "2024-01-01T00:00+00:00"),
    ("2024-02-29 24:00:00", None, "2024-03-01T00:00+00:00"),
    ("2024-02-29T24:00:00.000", None, "2024-03-01T00:00+00:00"),
    ("2024-02-29T24:00Z", None, "2024-03-01T00:00+00:00"),
    ("2024-02-29 24:00 UTC", None, "2024-03-01T00:00+00:00"),
    ("2024-03-30T24:00+01:00", None, "2024-03-30T23:00+00:00"),
    ("2024-03-31 24:00 +02:00", None, "2024-03-31T22:00+00:00"),
    ("31.12.2024 24:00", "%d.%m.%Y %H:%M", "2025-01-01T00:00+00:00"),
    ("31.12.2024 24:00:00", "%d.%m.%Y %H:%M:%S", "2025-01-01T00:00+00:00"),
    ("24:00 31/12/2024", "%H:%M %d/%m/%Y", "2025-01-01T00:00+00:00"),
    ("31.12.2024 24:00 +0100", "%d.%m.%Y %H:%M %z", "2024-12-31T23:00+00:00"),
    ("31.12.2024 10:24:00", "%d.%m.%Y %H:%M:%S", "2024-12-31T10:24:00+00:00"),
    ("2024-02-29 10:24:00", None, "2024-02-29T10:24:00+00:00"),
]


@pytest.mark.parametrize(("text", "form", "expected"), MIDNIGHTS)
@pytest.mark.parametrize("zone", [None, BERLIN])
def test_24_00_is_midnight_at_the_end_of_the_day_in_any_zone(text, form, expected, zone, write):
    aware = text.endswith(("Z", "UTC", "0100", "01:00", "02:00"))
    path = write(table_of([text]), csv=True)
    kind, (stamp,) = times(path, ds_format=form, timezone=zone if aware else None)
    assert stamp.replace(tzinfo=dt.UTC) == dt.datetime.fromisoformat(expected)
    assert aware == (kind.tz is not None)


@pytest.mark.parametrize(
    "text", ["2024-02-29 24:01", "2024-02-29 24:00:01", "2024-02-29 24:30", "2024-02-29 25:00"]
)
@pytest.mark.parametrize("form", [None, "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"])
def test_times_after_24_00_are_refused(text, form, write):
    assert f"got {text!r}" in message(write(table_of([text]), csv=True), ds_format=form)


def test_several_offsets_need_a_zone(write):
    path = write(table_of(["2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"]), csv=True)
    assert times(path, timezone=BERLIN) == (pa.timestamp("us", BERLIN), INSTANTS)
    got = message(path)
    assert "column 'ds', row 2 (unique_id 'a'): expected the offset +01:00 of the rows before" in got
    assert "set data.timezone" in got


@pytest.mark.parametrize("stamps", [["2024-03-01", "2024-03-02T00:00Z"], ["2024-03-01T00:00Z", "2024-03-02"]])
@pytest.mark.parametrize("timezone", [None, BERLIN])
def test_time_stamps_with_and_without_a_zone_are_refused(stamps, timezone, write):
    got = message(write(table_of(stamps), csv=True), timezone=timezone)
    kind = "with" if stamps[0].endswith("Z") else "without"
    assert f"row 2 (unique_id 'a'): expected a time stamp {kind} a time zone, as in the rows before" in got


@pytest.mark.parametrize(
    ("others", "remedy"),
    [
        (pa.array([dt.datetime(2024, 4, 1)]), "give all time stamps a time zone, or none"),
        (pa.array(INSTANTS, pa.timestamp("us", "UTC")), "set data.timezone to the zone of all"),
        (pa.array([1, 2]), "write all of them with one type"),
    ],
    ids=["naive", "other zone", "steps"],
)
def test_files_of_different_zones_are_refused(others, remedy, tmp_path):
    pq.write_table(table_of(pa.array(INSTANTS, pa.timestamp("us", BERLIN))), tmp_path / "1.parquet")
    pq.write_table(table_of(others), tmp_path / "2.parquet")
    got = message(tmp_path)
    assert got.startswith(f"{tmp_path}/2.parquet, near row 1: column 'ds' holds ")
    assert got.endswith(remedy) or f"{remedy}, such as" in got


def test_files_of_different_zones_get_the_zone_of_the_settings(tmp_path):
    for number, zone in enumerate(("UTC", BERLIN, "+05:30")):
        pq.write_table(table_of(pa.array(INSTANTS, pa.timestamp("us", zone))), tmp_path / f"{number}.parquet")
    assert times(tmp_path, timezone=BERLIN) == (pa.timestamp("us", BERLIN), INSTANTS * 3)


@pytest.mark.parametrize(
    ("ds", "says"),
    [
        (["2024-03-01"], "holds time stamps without a time zone; leave data.timezone out"),
        (pa.array([dt.datetime(2024, 3, 1)]), "holds time stamps without a time zone; leave data.timezone out"),
        ([1], "holds whole numbers, which have no time zone; leave data.timezone out"),
        (["1"], "holds whole numbers, which have no time zone; leave data.timezone out"),
    ],
    ids=str,
)
def test_what_has_no_zone_gets_none(ds, says, write):
    assert says in message(write(table_of(ds)), timezone=BERLIN)


def test_an_unknown_zone_of_a_file_is_refused_and_may_be_set(write):
    path = write(table_of(pa.array([0], pa.timestamp("us", "Mars/Olympus"))))
    assert "the unknown time zone 'Mars/Olympus'; set data.timezone" in message(path)
    assert times(path, timezone="UTC")[1] == [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]


def test_objects_of_several_zones_are_not_taken_for_those_of_the_first():
    ahead = dt.timezone(dt.timedelta(hours=1))
    stamps = [dt.datetime(2024, 3, 1, tzinfo=dt.UTC), dt.datetime(2024, 3, 2, tzinfo=ahead)]
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.Series(stamps, dtype=object), "y": 1.0})
    assert "expected the offset UTC of the rows before" in message(frame=frame)
    assert times(frame=frame, timezone=BERLIN) == (
        pa.timestamp("us", BERLIN),
        [dt.datetime(2024, 3, 1, tzinfo=dt.UTC), dt.datetime(2024, 3, 1, 23, tzinfo=dt.UTC)],
    )
    frame["ds"] = pd.Series([stamps[0], dt.datetime(2024, 3, 2)], dtype=object)
    assert "expected a time stamp with a time zone" in message(frame=frame)
    frame["ds"] = pd.Series([dt.date(2024, 3, 1), None], dtype=object)
    assert "row 2 (unique_id 'a'): expected a time stamp" in message(frame=frame)


@pytest.mark.parametrize(
    "bad", ["01/02/2024", "1.2.2024", "now", "today", "yesterday", "2024-13-01", "2024-03-01Q"]
)
def test_a_time_in_another_form_is_refused_with_the_expected_one(bad, write):
    got = message(write(table_of(["2024-03-01", bad]), csv=True))
    assert "expected a time stamp in ISO 8601, such as 2024-03-01 or 2024-03-01 12:00, or a whole" in got
    assert got.endswith(f"got {bad!r}")


@pytest.mark.parametrize(
    "ds",
    [
        pa.array([1 << 60], pa.timestamp("s")),
        pa.array([1 << 60], pa.timestamp("us")),
        pa.array([-(1 << 60)], pa.timestamp("us", "UTC")),
        pa.array([2**31 - 1], pa.int32()).cast(pa.date32()),
        pa.array([DAYS], pa.int64()).cast(pa.date64()),
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([-(2**63)], pa.int64()),
        pa.array([2**63 - 1], pa.int64()),
    ],
    ids=lambda ds: str(ds.type),
)
def test_times_that_no_calendar_reaches_are_refused(ds, write):
    assert "column 'ds'" in message(write(table_of(ds)))


def test_static_categories_are_text_and_may_be_missing(write):
    more = {
        "text": ["x", None, ""],
        "whole": pa.array([7, None, 8], pa.int16()),
        "flag": [True, None, False],
        "coded": pa.array(["p", None, "q"]).dictionary_encode(),
        "numbers": pa.array([7, None, 8]).dictionary_encode(),
        "nothing": pa.nulls(3),
    }
    names = list(more)
    expected = [
        {"text": "x", "whole": "7", "flag": "true", "coded": "p", "numbers": "7", "nothing": None},
        dict.fromkeys(names),
        {"text": "", "whole": "8", "flag": "false", "coded": "q", "numbers": "8", "nothing": None},
    ]
    table = table_of([1, 2, 3], **more)
    actual = pieces(write(table), static_categories=names)
    assert [{name: row[name] for name in names} for row in actual[0].to_pylist()] == expected
    assert actual[0].schema.names == ["unique_id", "ds", "y", *names]
    assert {actual[0].schema.field(name).type for name in names} == {pa.string()}


def test_static_categories_of_a_csv_file_are_its_texts(write, tmp_path):
    (tmp_path / "t.csv").write_text("unique_id,ds,y,state,code\na,1,1,NA,007\nb,1,1,,\n")
    actual = rows(tmp_path / "t.csv", static_categories=["code", "state"])
    assert [(row["state"], row["code"]) for row in actual] == [("NA", "007"), (None, None)]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array(["True", "FALSE", None]), ["true", "false", None]),
        (pa.array([1, 0, None]), ["1", "0", None]),
        (pa.array([1.0, 0.0, None]), ["1", "0", None]),
        (pa.array([1.0, 0.0, float("nan")]), ["1", "0", None]),
        (pa.array(["1.0", "0", None]), ["1", "0", None]),
        (pa.array(["1.5", "v1.0", "True story"]), ["1.5", "v1.0", "True story"]),
    ],
    ids=str,
)
def test_static_categories_have_one_spelling(state, expected, write):
    actual = rows(write(table_of([1, 2, 3], state=state)), static_categories=["state"])
    assert [row["state"] for row in actual] == expected


@pytest.mark.parametrize("kind", ["category", "string", "str", "object"])
def test_static_categories_of_a_dataframe_may_be_of_any_usual_type(kind):
    frame = table_of([1, 2]).to_pandas().assign(state=pd.Series(["x", None], dtype=kind))
    assert [row["state"] for row in rows(frame=frame, static_categories=["state"])] == ["x", None]


@pytest.mark.parametrize("kind", ["Int64", "boolean", "Float64", "int64[pyarrow]"])
def test_columns_of_a_dataframe_may_be_nullable(kind):
    frame = table_of([1, 2]).to_pandas().assign(y=pd.array([1, None], kind), x=pd.array([None, 1], kind))
    actual = rows(frame=frame.astype({"ds": "Int64", "unique_id": "string"}), static_numbers=["x"])
    assert actual == [
        {"unique_id": "a", "ds": 1, "y": 1.0, "x": None},
        {"unique_id": "a", "ds": 2, "y": None, "x": 1.0},
    ]


@pytest.mark.parametrize("bad", [[1.5], [dt.date(2024, 1, 1)], [b"x"], [[1]], [{"a": 1}]], ids=str)
def test_static_categories_of_other_kinds_are_refused(bad, write):
    got = message(write(table_of([1], state=bad)), static_categories=["state"])
    assert "column 'state' is in data.static_categories and must hold text, whole numbers or booleans, got" in got


def test_static_numbers_are_numbers_and_may_be_missing(write):
    for csv in (True, False):
        path = write(table_of([1, 2, 3], size=[1.5, None, np.nan], rank=["1", "NA", "-2e3"]), csv)
        actual = pieces(path, static_numbers=["size", "rank"])[0]
        assert actual.schema.names == ["unique_id", "ds", "y", "size", "rank"]
        assert actual["size"].to_pylist() == [1.5, None, None]
        assert actual["rank"].to_pylist() == [1.0, None, -2000.0]
        assert actual["size"].type == actual["rank"].type == pa.float64()


@pytest.mark.parametrize("bad", ["big", "inf", "1e300"])
def test_static_numbers_that_are_not_numbers_are_refused(bad, write):
    got = message(write(table_of([1, 2], size=["1", bad]), csv=True), static_numbers=["size"])
    assert "column 'size', row 2 (unique_id 'a'): expected a" in got
    assert "number" in got
    assert "data.columns.y" not in got


#: Numbers as they are written in some countries, by what the settings must say; several where it is not clear.
WRITTEN = {
    "1,5": [{"decimal": "comma"}],
    "-,5": [],
    "1,234": [{"decimal": "comma"}, {"thousands": "comma"}],
    "1.234.567": [{"thousands": "point", "decimal": "comma"}],
    "1 234": [{"thousands": "space"}],
    "1\u00a0234": [{"thousands": "space"}],
    "1\u202f234\u202f567": [{"thousands": "space"}],
    "1'234": [{"thousands": "apostrophe"}],
    "1'234,5": [{"decimal": "comma", "thousands": "apostrophe"}],
    "-1.234,56": [{"decimal": "comma", "thousands": "point"}],
    "+1,234,567.5": [{"thousands": "comma"}],
    "1,23,456": [],
    "12%": [],
    "$5": [],
    "5 kg": [],
}
NUMBERS = {
    "1,5": [1.5],
    "1,234": [1.234, 1234],
    "1.234.567": [1234567],
    "1 234": [1234],
    "1\u00a0234": [1234],
    "1\u202f234\u202f567": [1234567],
    "1'234": [1234],
    "1'234,5": [1234.5],
    "-1.234,56": [-1234.56],
    "+1,234,567.5": [1234567.5],
}


@pytest.mark.parametrize("text", WRITTEN)
@pytest.mark.parametrize("csv", [True, False])
def test_numbers_written_otherwise_are_refused_with_the_settings_that_read_them(text, csv, write):
    path = write(table_of([1, 2], ["1", text]), csv)
    got = message(path)
    assert f"row 2 (unique_id 'a'): expected a number, got {text!r}; " in got
    for settings, value in zip(WRITTEN[text], NUMBERS.get(text, ()), strict=True):
        assert " and ".join(f"data.{key} to {settings[key]}" for key in sorted(settings)) in got
        assert [row["y"] for row in rows(path, **settings)] == [1, value]
    if not WRITTEN[text]:
        assert "plain number" in got


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("1.5", {"decimal": "comma"}),
        ("1,234,5", {"decimal": "comma"}),
        ("1,5", {"thousands": "comma"}),
        ("1,2345", {"thousands": "comma"}),
        ("12,34,567", {"thousands": "comma"}),
        ("1234,567", {"thousands": "comma"}),
        ("1.234", {"decimal": "comma", "thousands": "space"}),
        ("1,234.5", {"decimal": "comma", "thousands": "point"}),
        ("1.23,5", {"decimal": "comma", "thousands": "point"}),
    ],
)
def test_a_number_that_is_not_written_as_the_settings_say_is_refused(text, settings, write):
    path = write(table_of([1, 2], ["1", text]), csv=True)
    assert f"expected a number, got {text!r}" in message(path, **settings)


def test_long_numbers_in_groups_are_read_to_the_last_digit_and_counted_if_rounded(write):
    counts = Counter()
    path = write(table_of([1, 2], ["9.007.199.254.740.992", "9.007.199.254.740.993"]), csv=True)
    (piece,) = pieces(path, rounded=counts, thousands="point", decimal="comma")
    assert piece["y"].to_pylist() == [2.0**53, 2.0**53]
    assert counts["numbers"] == 1


MISSING = ["None", "-", "--", ".", "?", "missing", "(null)", "\\N", "n.a.", "#DIV/0!", "ø"]


@pytest.mark.parametrize("text", MISSING)
@pytest.mark.parametrize("csv", [True, False])
def test_a_text_means_a_missing_value_only_where_the_settings_say_so(text, csv, write):
    path = write(table_of([1, 2], ["1", text]), csv)
    got = message(path)
    assert f"got {text!r}; " in got
    assert "add it to data.missing_values" in got
    for missing in (text, text.lower()):
        assert [row["y"] for row in rows(path, missing_values=[missing])] == [1, None]


@pytest.mark.parametrize("missing", [-999, -999.0, "-999"])
def test_a_number_means_a_missing_value_where_the_settings_say_so(missing, write):
    settings = {"missing_values": [missing], "static_numbers": ["size"]}
    for values in (["1", "-999"], ["1", "-999.0"], [1, -999], [1.0, -999.0]):
        for csv in (True, False):
            path = write(table_of([1, 2], values, size=values), csv)
            assert [(row["y"], row["size"]) for row in rows(path, **settings)] == [(1, 1), (None, None)]


@pytest.mark.parametrize("name", ["NA", "None", "-", "null", "nan", "N/A", "-999", "1,5", "1.234", "24:00", "UTC"])
@pytest.mark.parametrize("csv", [True, False])
def test_names_of_series_and_categories_are_never_missing_values_nor_numbers(name, csv, write):
    settings = {"missing_values": ["None", "-", -999], "decimal": "comma", "thousands": "point"}
    table = table_of([1], ["1,5"], kind=[name]).set_column(0, "unique_id", pa.array([name]))
    (row,) = rows(write(table, csv), static_categories=["kind"], **settings)
    assert (row["unique_id"], row["kind"], row["y"]) == (name, name, 1.5)


def test_values_in_errors_are_shortened(write):
    path = write(table_of([1], ["x" * 100_000]), csv=True)
    assert len(message(path)) < 400
    long = table_of([1], ["x"]).set_column(0, "unique_id", pa.array(["n" * 100_000]))
    assert len(message(write(long))) < 400


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("us", "UTC"), pa.date64()], ids=str)
def test_a_value_that_python_does_not_have_is_refused_all_the_same(kind, write):
    y = pa.array([DAYS], pa.int64()).cast(kind)
    assert "column 'y', row 1 (unique_id 'a'): expected a number" in message(write(table_of([1], y)))


@pytest.mark.parametrize("y", [pa.array([b"1"]), pa.array([[1.0]]), pa.array([{"a": 1}])], ids=str)
def test_values_that_are_neither_numbers_nor_text_are_refused(y, write):
    assert "expected a number" in message(write(table_of([1], y)))


@pytest.mark.parametrize(
    "y",
    [pa.array([1.5]).dictionary_encode(), pa.array(["1.5"]).dictionary_encode(), pa.array([1.5], pa.float16())],
)
def test_values_may_be_categories_or_of_any_width(y, write):
    assert [row["y"] for row in rows(write(table_of([1], y)))] == [1.5]


@pytest.mark.parametrize(
    ("y", "count"),
    [
        (pa.array([2**53, 2**53 + 1, 2**53 + 2, None, -(2**53) - 1]), 2),
        (pa.array([2**63 - 1, -(2**63), 1], pa.int64()), 1),
        (pa.array([2**64 - 1, 2**63, 2**53 + 1], pa.uint64()), 2),
        (pa.array(["9007199254740993", " 9007199254740992", "12345678901234567890123", "1.5", "NA", None]), 2),
        (pa.array([decimal.Decimal("9007199254740993"), decimal.Decimal(5)], pa.decimal128(20, 0)), 1),
        (pa.array([0.1, 1e300 / 1e270]), 0),
        (pa.array([2**31 - 1], pa.int32()), 0),
    ],
    ids=str,
)
def test_numbers_that_float64_does_not_hold_are_counted(y, count, write):
    rounded = Counter()
    pieces(write(table_of(list(range(len(y))), y)), rounded=rounded)
    assert rounded["numbers"] == count


def test_parts_of_a_microsecond_are_counted(write):
    ds = pa.array([0, 1_000, 1_001, 1_999, -1], pa.timestamp("ns"))
    rounded = Counter()
    pieces(write(table_of(ds)), rounded=rounded)
    assert rounded == {"time stamps": 3, "numbers": 0}
