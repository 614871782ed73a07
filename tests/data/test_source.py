"""Any table to the same rows, and errors that name file, column and row."""

import contextlib
import datetime as dt
import shutil
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from dist_lstm.config.schema import DataSettings
from dist_lstm.data import source
from dist_lstm.data.source import signature, source_files
from dist_lstm.errors import UserError
from tests.data.conftest import message, pieces, rows


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two hourly series, rows mixed, a value and a row missing."""
    ds = pd.date_range("2024-03-01", periods=6, freq="h", unit="us")
    rows = [("b", ds[0], 1.5), ("a", ds[1], -2.0), ("a", ds[0], np.nan), ("b", ds[3], 1e-3), ("a", ds[5], 7.0)]
    return pd.DataFrame(rows, columns=["unique_id", "ds", "y"])


EXPECTED = [
    {"unique_id": "b", "ds": dt.datetime(2024, 3, 1, 0), "y": 1.5},
    {"unique_id": "a", "ds": dt.datetime(2024, 3, 1, 1), "y": -2.0},
    {"unique_id": "a", "ds": dt.datetime(2024, 3, 1, 0), "y": None},
    {"unique_id": "b", "ds": dt.datetime(2024, 3, 1, 3), "y": 0.001},
    {"unique_id": "a", "ds": dt.datetime(2024, 3, 1, 5), "y": 7.0},
]
SCHEMA = pa.schema([("unique_id", pa.string()), ("ds", pa.timestamp("us")), ("y", pa.float64())])


def write_csv(frame: pd.DataFrame, folder) -> str:
    frame.to_csv(folder / "t.csv", index=False)
    return str(folder / "t.csv")


def write_gzip(frame: pd.DataFrame, folder) -> str:
    frame.to_csv(folder / "t.csv.gz", index=False)
    return str(folder / "t.csv.gz")


def write_parquet(frame: pd.DataFrame, folder) -> str:
    frame.to_parquet(folder / "t.parquet", index=False)
    return str(folder / "t.parquet")


def write_feather(frame: pd.DataFrame, folder) -> str:
    frame.to_feather(folder / "t.feather")
    return str(folder / "t.feather")


def write_semicolons(frame: pd.DataFrame, folder) -> str:
    frame.to_csv(folder / "t.csv", index=False, sep=";")
    return str(folder / "t.csv")


def write_tabs(frame: pd.DataFrame, folder) -> str:
    frame.to_csv(folder / "t.tsv", index=False, sep="\t")
    return str(folder / "t.tsv")


def write_uri(frame: pd.DataFrame, folder) -> str:
    return (folder / write_parquet(frame, folder)).as_uri()


def write_folder(frame: pd.DataFrame, folder) -> str:
    (folder / "nested" / "deeper").mkdir(parents=True)
    frame[:2].to_parquet(folder / "nested" / "a.parquet", index=False)
    frame[2:].to_parquet(folder / "nested" / "deeper" / "b.parquet", index=False)
    (folder / "nested" / "_SUCCESS").touch()
    (folder / "nested" / ".hidden").touch()
    return str(folder / "nested")


def write_glob(frame: pd.DataFrame, folder) -> str:
    frame[3:].to_csv(folder / "part-2.csv", index=False)
    frame[:3].to_csv(folder / "part-1.csv", index=False)
    frame.to_csv(folder / "other.csv", index=False)
    return str(folder / "part-*.csv")


WRITERS = [
    write_csv, write_gzip, write_semicolons, write_tabs, write_parquet, write_feather, write_uri, write_folder,
    write_glob,
]  # fmt: skip


def read_files(settings: DataSettings) -> Iterator[pa.Table]:
    return source.read(settings, source_files(settings.path))


@pytest.mark.parametrize("write", WRITERS)
def test_every_kind_of_file_gives_the_same_rows_in_their_order(write, frame, tmp_path):
    assert rows(write(frame, tmp_path)) == EXPECTED


def test_a_dataframe_gives_the_same_rows_as_files(frame):
    assert rows(frame=frame) == EXPECTED
    assert rows(frame=frame.set_index(np.arange(5) * 7)) == EXPECTED


@pytest.mark.parametrize("write", WRITERS)
def test_every_piece_has_the_same_three_typed_columns(write, frame, tmp_path):
    pieces = list(read_files(DataSettings(path=write(frame, tmp_path))))
    assert pieces
    assert all(piece.schema.equals(SCHEMA) for piece in pieces)


@pytest.mark.parametrize("write", WRITERS)
def test_columns_under_other_names_give_the_same_rows(write, frame, tmp_path):
    named = frame.rename(columns={"unique_id": "store", "ds": "when", "y": "sold"})
    named.insert(1, "y", "not a number")
    assert rows(write(named, tmp_path), unique_id="store", ds="when", y="sold") == EXPECTED
    assert rows(frame=named, unique_id="store", ds="when", y="sold") == EXPECTED


@pytest.mark.parametrize("write", WRITERS)
def test_a_table_without_names_is_one_series_called_y(write, frame, tmp_path):
    expected = [row | {"unique_id": "y"} for row in EXPECTED]
    alone = frame.drop(columns="unique_id")
    assert rows(write(alone, tmp_path), unique_id=None) == expected
    assert rows(frame=alone, unique_id=None) == expected


def test_small_batches_give_the_same_rows_as_one(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_ROWS", 2)
    settings = DataSettings(path=write_parquet(frame, tmp_path))
    assert [len(piece) for piece in read_files(settings)] == [2, 2, 1]
    assert rows(settings.path) == EXPECTED
    assert rows(frame=frame) == EXPECTED


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([7, 12], pa.int64()), ["7", "12"]),
        (pa.array([7, 12], pa.uint8()), ["7", "12"]),
        (pa.array(["b", "a"], pa.large_string()), ["b", "a"]),
        (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
        (pa.array(["b", "a"], pa.string_view()), ["b", "a"]),
        (pa.array([7, 12]).dictionary_encode(), ["7", "12"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_names_may_be_text_whole_numbers_or_categories(ids, expected, tmp_path):
    table = pa.table({"unique_id": ids, "ds": [1, 2], "y": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert [str(row["unique_id"]) for row in rows(tmp_path / "t.parquet")] == expected


@pytest.mark.parametrize("kind", ["int64", "category", "str", "object", "string"])
def test_names_in_a_dataframe_may_be_of_any_usual_type(kind):
    frame = pd.DataFrame({"unique_id": [7, 12], "ds": [1, 2], "y": [1.0, 2.0]})
    frame["unique_id"] = frame["unique_id"].astype("str").astype(kind)
    assert [str(row["unique_id"]) for row in rows(frame=frame)] == ["7", "12"]


def test_whole_numbers_as_categories_name_series_too():
    frame = pd.DataFrame({"unique_id": pd.Categorical([7, 12]), "ds": [1, 2], "y": [1.0, 2.0]})
    assert [str(row["unique_id"]) for row in rows(frame=frame)] == ["7", "12"]


NOON = [dt.datetime(2024, 3, 1), dt.datetime(2024, 3, 2)]


@pytest.mark.parametrize(
    ("ds", "expected"),
    [
        (pa.array([one.date() for one in NOON], pa.date32()), NOON),
        (pa.array([one.date() for one in NOON], pa.date64()), NOON),
        (pa.array(NOON, pa.timestamp("ns")), NOON),
        (pa.array(NOON, pa.timestamp("s")), NOON),
        (pa.array(["2024-03-01", "2024-03-02"]), NOON),
        (pa.array(["2024-03-01 00:00:00", "2024-03-02T00:00:00.000"]), NOON),
        (pa.array(["1", "2"]), [1, 2]),
        (pa.array([1, 2], pa.int8()), [1, 2]),
        (pa.array([-1, 2], pa.int64()), [-1, 2]),
        (pa.array([1, 2], pa.uint64()), [1, 2]),
    ],
    ids=lambda value: f"{value.type} {value[0]}" if isinstance(value, pa.Array) else "",
)
def test_time_may_be_dates_time_stamps_text_or_whole_numbers(ds, expected, tmp_path):
    pq.write_table(pa.table({"unique_id": ["a", "a"], "ds": ds, "y": [1.0, 2.0]}), tmp_path / "t.parquet")
    pieces = list(read_files(DataSettings(path=str(tmp_path / "t.parquet"))))
    assert pieces[0]["ds"].to_pylist() == expected
    assert pieces[0]["ds"].type == (pa.int64() if isinstance(expected[0], int) else pa.timestamp("us"))


@pytest.mark.parametrize(
    "y",
    [
        pa.array([1, None], pa.int32()),
        pa.array([1.0, float("nan")], pa.float32()),
        pa.array([1.0, None], pa.float64()),
        pa.array([1, None], pa.decimal128(10, 2)),
        pa.array([True, None]),
        pa.array(["1", ""]),
        pa.array(["1.0", "NaN"]),
        pa.array([" 1 ", None], pa.large_string()),
    ],
    ids=lambda value: f"{value.type} {value[1]}",
)
def test_values_may_be_any_kind_of_number_and_missing_ones_become_null(y, tmp_path):
    pq.write_table(pa.table({"unique_id": ["a", "a"], "ds": [1, 2], "y": y}), tmp_path / "t.parquet")
    assert [row["y"] for row in rows(tmp_path / "t.parquet")] == [1.0, None]


def test_a_column_of_nothing_but_nulls_is_all_missing(tmp_path):
    table = pa.table({"unique_id": ["a"], "ds": [1], "y": pa.nulls(1)})
    pq.write_table(table, tmp_path / "t.parquet")
    assert rows(tmp_path / "t.parquet") == [{"unique_id": "a", "ds": 1, "y": None}]
    (tmp_path / "t.csv").write_text("unique_id,ds,y\na,1,\n")
    assert rows(tmp_path / "t.csv") == [{"unique_id": "a", "ds": 1, "y": None}]


@pytest.mark.parametrize("name", ["NA", "null", "nan", "None", "N/A"])
def test_a_series_may_be_called_like_a_missing_value(name, tmp_path):
    frame = pd.DataFrame({"unique_id": [name, name], "ds": [1, 2], "y": [1.0, 2.0]})
    for write in (write_csv, write_parquet):
        assert [row["unique_id"] for row in rows(write(frame, tmp_path))] == [name, name]


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "nan", "null", "NULL", "N/A", "#N/A"])
@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_the_usual_texts_for_a_missing_value_are_missing(write, missing, tmp_path):
    frame = pd.DataFrame({"unique_id": ["a", "a"], "ds": [1, 2], "y": ["1", missing]})
    assert [row["y"] for row in rows(write(frame, tmp_path))] == [1.0, None]


def test_csv_values_are_read_to_the_last_digit(tmp_path):
    values = np.random.default_rng(0).normal(size=100) * 10.0 ** np.arange(-20, 20).repeat(3)[:100]
    frame = pd.DataFrame({"unique_id": "007", "ds": np.arange(100), "y": values})
    actual = rows(write_csv(frame, tmp_path))
    assert [row["y"] for row in actual] == values.tolist()
    assert {row["unique_id"] for row in actual} == {"007"}


@pytest.mark.parametrize("bad", ["none", "1;5", "12 kg", "0x10", "1_000"])
@pytest.mark.parametrize("write", [write_csv, write_gzip, write_parquet])
def test_text_among_the_values_is_refused_with_file_column_series_and_row(write, bad, frame, tmp_path):
    path = write(frame.assign(y=["1", "2", bad, "4", "5"]), tmp_path)
    expected = f"{path}: column 'y', row 3 (unique_id 'a'): expected a number, got {bad!r}"
    assert message(path).startswith(f"{expected}; ")


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("write", [write_csv, write_parquet, None])
def test_infinite_and_too_large_values_are_refused_with_column_series_and_row(write, bad, frame, tmp_path):
    frame = frame.assign(y=[1.0, 2.0, 3.0, bad, np.inf])
    got = message(write(frame, tmp_path)) if write else message(frame=frame)
    assert "column 'y', row 4 (unique_id 'b'): expected a finite number" in got
    assert got.startswith(str(tmp_path) if write else "the DataFrame")
    assert repr(bad) in got or str(bad) in got


@pytest.mark.parametrize("bad", ["hello", [1, 2], {"a": 1}, dt.date(2024, 1, 1)])
def test_unexpected_objects_among_the_values_of_a_dataframe_are_refused(bad, frame):
    mixed = frame.astype({"y": object})
    mixed.at[2, "y"] = bad
    got = message(frame=mixed)
    assert got.startswith("the DataFrame: can't be read")
    assert "column y" in got


@pytest.mark.parametrize("y", [pd.Timestamp("2024-01-01"), pd.Timedelta("1h"), dt.date(2024, 1, 1), dt.time(12)])
def test_times_are_not_values(y, tmp_path):
    frame = pd.DataFrame({"unique_id": ["a", "a"], "ds": [1, 2], "y": [None, y]})
    assert "column 'y', row 2 (unique_id 'a'): expected a number" in message(frame=frame)
    assert "column 'y', row 2 (unique_id 'a'): expected a number" in message(write_parquet(frame, tmp_path))


def test_a_dataframe_with_a_column_twice_or_mixed_names_is_refused():
    twice = pd.DataFrame([["a", 1, 1.0, 2.0]], columns=["unique_id", "ds", "y", "y"])
    assert message(frame=twice).startswith("the DataFrame: has 2 columns called 'y'")
    mixed = pd.DataFrame({"unique_id": ["a", 1], "ds": [1, 2], "y": [1.0, 2.0]})
    assert "column unique_id" in message(frame=mixed)


def test_a_list_column_as_values_is_refused(tmp_path):
    pq.write_table(pa.table({"unique_id": ["a"], "ds": [1], "y": [[1.0, 2.0]]}), tmp_path / "t.parquet")
    assert "column 'y', row 1" in message(tmp_path / "t.parquet")


def test_a_bad_row_late_in_a_long_csv_file_is_counted_from_its_start(tmp_path):
    lines = ["unique_id,ds,y", *(f"a_rather_long_name_of_a_series,{step},1.0" for step in range(60_000))]
    lines[50_001] = "a_rather_long_name_of_a_series,50000,oops"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert (tmp_path / "t.csv").stat().st_size > 2 * pa_csv.ReadOptions().block_size
    assert "row 50001 (unique_id 'a_rather_long_name_of_a_series'): expected a number" in message(
        tmp_path / "t.csv"
    )


def test_a_bad_row_in_the_second_file_is_named_in_that_file(frame, tmp_path):
    frame.to_csv(tmp_path / "1.csv", index=False)
    frame.assign(y=["1", "oops", "3", "4", "5"]).to_csv(tmp_path / "2.csv", index=False)
    assert message(tmp_path).startswith(f"{tmp_path / '2.csv'}: column 'y', row 2 ")


@pytest.mark.parametrize("bad", ["yesterday", "2024-13-01", ""])
def test_text_that_is_not_a_time_is_refused_with_its_row(bad, frame, tmp_path):
    frame = frame.assign(ds=["2024-03-01", "2024-03-02", bad, "2024-03-03", "2024-03-04"])
    got = message(write_csv(frame, tmp_path))
    assert "column 'ds', row 3 (unique_id 'a'): expected a time stamp" in got


def test_time_stamps_and_steps_in_one_table_are_refused(frame, tmp_path):
    frame.to_csv(tmp_path / "1.csv", index=False)
    frame.assign(ds=range(5)).to_csv(tmp_path / "2.csv", index=False)
    got = message(tmp_path)
    assert "2.csv, near row 1: column 'ds'" in got
    assert "int64" in got
    assert "write all of them with one type" in got


@pytest.mark.parametrize("kind", [pa.float64(), pa.bool_()])
def test_fractions_are_not_times(kind, tmp_path):
    table = pa.table({"unique_id": ["a"], "ds": pa.array([1]).cast(kind), "y": [1.0]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert "'ds' must hold time stamps or whole numbers" in message(tmp_path / "t.parquet")


def test_a_series_without_a_name_is_refused_with_its_row(frame, tmp_path):
    frame = frame.assign(unique_id=["a", None, "a", "b", "b"])
    for got in (
        message(write_csv(frame, tmp_path)),
        message(write_parquet(frame, tmp_path)),
        message(frame=frame),
    ):
        assert "column 'unique_id', row 2: expected the name of a series" in got


def test_names_that_are_fractions_are_refused():
    frame = pd.DataFrame({"unique_id": [0.5, 1.5], "ds": [1, 2], "y": [1.0, 2.0]})
    assert "'unique_id' names the series and must hold text or whole numbers" in message(frame=frame)


@pytest.mark.parametrize("key", ["unique_id", "ds", "y"])
@pytest.mark.parametrize("write", [write_csv, write_parquet, None])
def test_a_missing_column_is_refused_naming_the_setting_and_the_columns_there_are(write, key, frame, tmp_path):
    frame = frame.rename(columns={key: "other"})
    got = message(write(frame, tmp_path)) if write else message(frame=frame)
    assert f"has no column '{key}'; set data.columns.{key} to one of" in got
    assert "other" in got
    assert ("null if the table is one series" in got) == (key == "unique_id")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], "holds no files"),
        (["_SUCCESS", ".gitkeep"], "holds no files"),
        (["a.csv", "notes.txt"], "notes.txt is neither CSV, Parquet nor Feather"),
        (["a.csv", "b.parquet"], "mixes csv and parquet"),
    ],
)
def test_a_folder_without_tables_or_with_other_files_is_refused(files, expected, tmp_path):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=expected):
        source_files(str(tmp_path))


@pytest.mark.parametrize("path", ["nowhere.csv", "nowhere", "nowhere/*.csv"])
def test_a_path_that_does_not_exist_is_refused(path, tmp_path):
    with pytest.raises(UserError, match=r"data\.path: .*nowhere"):
        source_files(str(tmp_path / path))


def test_files_in_hidden_folders_are_left_out(frame, tmp_path):
    frame.to_csv(tmp_path / "t.csv", index=False)
    for name in (".ipynb_checkpoints", "_temporary"):
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / "t.csv", tmp_path / name / "t-checkpoint.csv")
    assert [file.path for file in source_files(str(tmp_path))] == [str(tmp_path / "t.csv")]


def test_a_table_inside_a_hidden_folder_is_found_when_asked_for(frame, tmp_path):
    folder = tmp_path / "_work" / ".cache"
    folder.mkdir(parents=True)
    assert rows(write_csv(frame, folder)) == EXPECTED
    assert rows(folder) == EXPECTED


def test_a_file_whose_name_looks_like_a_glob_is_found(frame, tmp_path):
    frame.to_csv(tmp_path / "sales[1].csv", index=False)
    assert rows(tmp_path / "sales[1].csv") == EXPECTED


@pytest.mark.parametrize("name", ["t.parquet", "t.csv.gz", "t.csv"])
def test_a_file_with_another_content_than_its_suffix_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"\xff\xfe\x00\x01 not a table \x00" * 10)
    assert message(tmp_path / name).startswith(str(tmp_path / name))


def test_a_csv_row_with_too_many_fields_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("unique_id,ds,y\na,1,2\na,2,3,4\n")
    assert "can't be read as csv" in message(tmp_path / "t.csv")


def test_a_csv_row_with_too_few_fields_is_refused_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_text("unique_id,ds,y\n" + "a,1,2\n" * 200_000 + "a,2\n")
    assert "t.csv: can't be read as csv: line 200002: expected 3 columns, got 2: a,2" in message(
        tmp_path / "t.csv"
    )


def test_a_byte_order_mark_is_not_part_of_a_name(frame, tmp_path):
    frame.to_csv(tmp_path / "t.csv", index=False, encoding="utf-8-sig", sep=";")
    assert rows(tmp_path / "t.csv") == EXPECTED


def test_separators_in_quotes_do_not_count(tmp_path):
    (tmp_path / "t.csv").write_text('unique_id;ds;"y, in , , kg"\n"a;b";1;2\n')
    assert rows(tmp_path / "t.csv", y="y, in , , kg") == [{"unique_id": "a;b", "ds": 1, "y": 2.0}]


def test_a_csv_file_of_one_column_has_commas(tmp_path):
    (tmp_path / "t.csv").write_text("ds\n1\n")
    assert "has no column 'y'" in message(tmp_path / "t.csv", unique_id=None)


def test_a_wide_csv_file_whose_rows_are_longer_than_a_block_is_read(tmp_path):
    names = [f"{number:01000d}" for number in range(2000)]
    lines = [",".join(["ds", *names]), *(",".join([str(step), *["1.5"] * 2000]) for step in range(2))]
    assert len(lines[0]) > pa_csv.ReadOptions().block_size
    (tmp_path / "t.csv").write_text("\n".join(lines))
    pieces = list(read_files(DataSettings(path=str(tmp_path / "t.csv"), layout="wide")))
    assert sum(len(piece) for piece in pieces) == 4000


@pytest.mark.parametrize("name", ["a\nb", "a\tb\x07", 'a"b', "Zürich", "Zu\u0308rich", "数", "a,b", " a "])
def test_names_of_series_stay_as_they_are_but_for_blanks_around_fields_of_csv(name, tmp_path):
    frame = pd.DataFrame({"unique_id": [name], "ds": [1], "y": [1.0]})
    for write in (write_csv, write_parquet, write_feather, write_semicolons):
        expected = name.strip() if write in (write_csv, write_semicolons) else name
        assert [row["unique_id"] for row in rows(write(frame, tmp_path))] == [expected]
    assert [row["unique_id"] for row in rows(frame=frame)] == [name]


def test_a_line_break_in_a_name_does_no_harm_between_two_blocks(tmp_path):
    names = [f"a\n{'b' * (200 + step % 9)}" for step in range(20_000)]
    lines = [f'"{name}",{step},1' for step, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["unique_id,ds,y", *lines]))
    actual = rows(tmp_path / "t.csv")
    assert [row["ds"] for row in actual] == list(range(20_000))
    assert [row["unique_id"] for row in actual] == names


def test_files_without_rows_do_not_determine_the_kind_of_time_stamps(tmp_path):
    whole = pa.record_batch({"unique_id": ["a"], "ds": [1], "y": [2.0]})
    empty = pa.record_batch({name: pa.array([], pa.string()) for name in ("unique_id", "ds", "y")})
    for number, batch in enumerate([empty, whole, empty]):
        with pa.ipc.new_file(tmp_path / f"{number}.arrow", batch.schema) as file:
            file.write_batch(batch)
    assert rows(tmp_path) == [{"unique_id": "a", "ds": 1, "y": 2.0}]


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_pieces_of_a_wide_table_are_no_larger_than_others(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_ROWS", 6)
    frame = pd.DataFrame({"ds": range(5), "a": 1.0, "b": 2.0, "c": 3.0})
    getattr(frame, f"to_{kind}")(tmp_path / f"t.{kind}")
    assert [len(piece) for piece in pieces(tmp_path / f"t.{kind}", layout="wide")] == [6, 6, 3]
    assert [len(piece) for piece in pieces(frame=frame, layout="wide")] == [6, 6, 3]


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_feather_files_of_every_compression_are_read_batch_by_batch(compression, frame, tmp_path):
    frame.to_feather(tmp_path / "t.arrow", compression=compression, chunksize=2)
    assert [len(piece) for piece in read_files(DataSettings(path=str(tmp_path / "t.arrow")))] == [2, 2, 1]
    assert rows(tmp_path / "t.arrow") == EXPECTED


def test_a_large_feather_batch_is_cut(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_ROWS", 2)
    assert [len(piece) for piece in read_files(DataSettings(path=write_feather(frame, tmp_path)))] == [2, 2, 1]
    assert rows(tmp_path / "t.feather") == EXPECTED


def test_an_arrow_stream_is_read_too(frame, tmp_path):
    whole = pa.Table.from_pandas(frame.assign(more="x")[["more", "y", "ds", "unique_id"]])
    with pa.ipc.new_stream(tmp_path / "t.ipc", whole.schema) as stream:
        stream.write_table(whole, 2)
    assert rows(tmp_path / "t.ipc") == EXPECTED
    content = (tmp_path / "t.ipc").read_bytes()
    (tmp_path / "t.ipc").write_bytes(content[: len(content) // 2])
    assert "t.ipc: can't be read as feather: " in message(tmp_path / "t.ipc")


def test_text_of_a_feather_file_that_is_none_is_refused(tmp_path):
    offsets, letters = pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")
    broken = pa.StringArray.from_buffers(1, offsets, letters)
    whole = pa.table({"unique_id": broken, "ds": [1], "y": [1.0]})
    with pa.ipc.new_file(tmp_path / "t.arrow", whole.schema) as file:
        file.write_table(whole)
    assert "t.arrow: can't be read as feather: " in message(tmp_path / "t.arrow")


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_feather_file_is_refused_or_read_but_never_the_end_of_the_process(seed, frame, tmp_path):
    write_feather(frame, tmp_path)
    content = bytearray((tmp_path / "t.feather").read_bytes())
    generator = np.random.default_rng(seed)
    for position in generator.integers(8, len(content), size=20):
        content[position] = generator.integers(256)
    (tmp_path / "t.feather").write_bytes(content)
    with contextlib.suppress(UserError):
        rows(tmp_path / "t.feather")


@pytest.mark.parametrize("name", ["unique_id=A%20%C3%BC/t", "year=2024/unique_id=A ü/t", "x/unique_id=A%20ü/y/t"])
@pytest.mark.parametrize("write", ["csv", "parquet", "feather"])
def test_folders_name_columns_that_the_files_lack(name, write, tmp_path):
    path = tmp_path / "table" / f"{name}.{write}"
    path.parent.mkdir(parents=True)
    getattr(pd.DataFrame({"ds": [1, 2], "y": [1.0, 2.0]}), f"to_{write}")(path)
    expected = [{"unique_id": "A ü", "ds": step, "y": float(step)} for step in (1, 2)]
    assert rows(tmp_path / "table") == expected
    assert rows(path) == expected
    assert rows(tmp_path / "table" / "**" / f"t.{write}") == expected


def test_a_column_of_a_file_goes_before_that_of_its_folder(frame, tmp_path):
    folder = tmp_path / "unique_id=other" / "y=7"
    folder.mkdir(parents=True)
    assert rows(write_csv(frame, folder)) == EXPECTED


def test_folders_describe_series_and_the_default_folder_means_missing(tmp_path):
    for state in ("CA", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / f"state={state}"
        folder.mkdir()
        pd.DataFrame({"unique_id": [state], "ds": [1], "y": [1.0]}).to_parquet(folder / "t.parquet")
    actual = rows(tmp_path, static_categories=["state"])
    assert [row["state"] for row in actual] == ["CA", None]


def test_folders_are_not_series_of_a_wide_table(tmp_path):
    (tmp_path / "year=2024").mkdir()
    pd.DataFrame({"ds": [1], "a": [1.0]}).to_parquet(tmp_path / "year=2024" / "t.parquet")
    assert rows(tmp_path, layout="wide") == [{"unique_id": "a", "ds": 1, "y": 1.0}]


def test_hive_folders_that_begin_with_an_underscore_are_read(frame, tmp_path):
    (tmp_path / "_part=1").mkdir()
    write_csv(frame, tmp_path / "_part=1")
    assert rows(tmp_path) == EXPECTED


def test_a_table_may_be_on_any_file_system_of_pyarrow(frame, tmp_path, monkeypatch):
    mock = fs._MockFileSystem()
    mock.create_dir("bucket/t")
    for number, part in enumerate((frame[:2], frame[2:])):
        with mock.open_output_stream(f"bucket/t/{number}.parquet") as stream:
            stream.write(part.to_parquet(index=False))
    monkeypatch.setattr(source, "filesystem", lambda uri: (mock, uri.removeprefix("mock://")))
    assert rows("mock://bucket/t") == EXPECTED
    assert [file.path for file in source_files("mock://bucket/t")] == ["bucket/t/0.parquet", "bucket/t/1.parquet"]


def test_a_uri_that_does_not_exist_is_refused():
    assert message("mock:///a/t.csv") == "data.path: mock:///a/t.csv does not exist"


def test_a_folder_with_the_name_of_a_file_is_a_folder(frame, tmp_path):
    (tmp_path / "x.csv").mkdir()
    assert "x.csv holds no files" in message(tmp_path / "x.csv")
    write_csv(frame, tmp_path / "x.csv")
    assert rows(tmp_path / "x.csv") == EXPECTED
    assert rows(tmp_path) == EXPECTED


def test_an_empty_csv_file_is_refused(tmp_path):
    (tmp_path / "t.csv").touch()
    assert "can't be read as csv" in message(tmp_path / "t.csv")


def test_a_table_of_headings_alone_has_no_rows(frame, tmp_path):
    for write in (write_csv, write_parquet):
        assert rows(write(frame[:0], tmp_path)) == []
    assert rows(frame=frame[:0]) == []


def test_a_signature_changes_with_the_table_and_only_then(frame, tmp_path):
    path = write_csv(frame, tmp_path)
    before = signature(source_files(path))
    assert signature(source_files(path)) == before
    write_csv(frame.assign(y=1.0), tmp_path)
    assert signature(source_files(path)) != before
    assert signature(frame) == signature(frame.copy())
    assert signature(frame) != signature(frame.assign(y=1.0))
    assert signature(frame) != signature(frame.rename(columns={"y": "x"}))
    assert signature(frame) != signature(frame.set_index(np.arange(5) * 7))


def test_a_dataframe_of_lists_has_no_signature():
    with pytest.raises(UserError, match=r"the DataFrame: can't be read: .*list"):
        signature(pd.DataFrame({"y": [[1], [2]]}))
