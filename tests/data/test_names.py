"""Names of series: they keep the type that they have in the table."""

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dist_lstm.data.columns import choose_columns
from dist_lstm.data.manifest import load_manifest
from dist_lstm.data.panel import typed_names
from dist_lstm.data.rows import check_rows
from dist_lstm.data.shards import open_shards
from dist_lstm.errors import UserError
from tests.preparing import prepare

WHOLE = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()]
TEXT = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
STEPS = 20


def table_of(ids: pa.Array, y=None) -> pa.Table:
    """A row per id and step."""
    rows = np.repeat(np.arange(len(ids)), STEPS)
    ds = pa.array(np.tile(np.arange(STEPS), len(ids)))
    values = np.arange(len(rows), dtype=float) if y is None else np.repeat(y, STEPS)
    return pa.table({"unique_id": ids.take(pa.array(rows)), "ds": ds, "y": pa.array(values, from_pandas=True)})


@pytest.fixture
def names_of(make_config, tmp_path):
    """The type of the names of a table, the names in their order, and its rejected series."""

    def prepare_table(*tables: pa.Table, **settings):
        (tmp_path / "table").mkdir()
        for number, one in enumerate(tables):
            pq.write_table(one, tmp_path / "table" / f"{number}.parquet")
        prepare(make_config(tmp_path / "table", **settings), tmp_path / "shards")
        manifest = load_manifest(tmp_path / "shards")
        names = [name for panel in open_shards(tmp_path / "shards").panels() for name in panel.unique_id]
        return manifest.id_type, names, pq.read_table(tmp_path / "shards" / "rejected.parquet")

    return prepare_table


@pytest.mark.parametrize("kind", WHOLE, ids=str)
def test_whole_numbers_are_64_bits_and_in_the_order_of_numbers(kind, names_of):
    id_type, names, _ = names_of(table_of(pa.array([10, 9, 100, 2], kind)))
    assert (id_type, names) == ("int64", ["2", "9", "10", "100"])
    assert typed_names(np.array(names, object), id_type).to_pylist() == [2, 9, 10, 100]


@pytest.mark.parametrize("numbers", [[7, 2**64 - 1], [7, 8]])
def test_unsigned_64_bits_such_as_hashes_stay_whole(numbers, names_of):
    id_type, names, _ = names_of(table_of(pa.array(numbers, pa.uint64())))
    assert (id_type, names) == ("uint64", [str(one) for one in numbers])
    assert typed_names(np.array(names, object), id_type).to_pylist() == numbers


@pytest.mark.parametrize("kind", TEXT, ids=str)
def test_text_stays_text_and_in_the_order_of_text_even_where_it_holds_digits(kind, names_of):
    id_type, names, _ = names_of(table_of(pa.array(["10", "9", "007", "a"]).cast(kind)))
    assert (id_type, names) == ("string", ["007", "10", "9", "a"])


def test_text_of_polars_categories_is_read(make_config, tmp_path):
    categories = pa.DictionaryArray.from_arrays(
        pa.array([1, 0], pa.uint32()), pa.array(["a", "b"], pa.string_view())
    )
    table = pa.table({"unique_id": categories, "ds": [1, 1], "y": [1.0, 2.0]})
    assert check_rows(
        table,
        choose_columns(make_config().data, table.column_names, (), "t"),
        make_config().data,
        "t",
        0,
        Counter(),
    )["unique_id"].to_pylist() == ["b", "a"]


def test_rejected_series_are_listed_in_the_same_type(names_of):
    _, names, rejected = names_of(table_of(pa.array([12, 3]), y=[np.nan, 1.0]))
    assert names == ["3"]
    assert rejected.schema.field("unique_id").type == pa.int64()
    assert rejected["unique_id"].to_pylist() == [12]


def test_a_table_larger_than_the_memory_budget_has_the_same_names(make_config, tmp_path):
    ids = pa.array(np.arange(5_000))
    pq.write_table(table_of(ids), tmp_path / "t.parquet")
    prepare(make_config(tmp_path / "t.parquet", data__memory_budget=1), tmp_path / "shards")
    manifest = load_manifest(tmp_path / "shards")
    names = [int(name) for panel in open_shards(tmp_path / "shards").panels() for name in panel.unique_id]
    assert manifest.id_type == "int64"
    assert sorted(names) == ids.to_pylist()


def test_files_whose_names_are_of_different_types_are_refused(names_of):
    with pytest.raises(
        UserError, match=r"1\.parquet, near row 1: column 'unique_id' names the series and holds string, .* int64"
    ):
        names_of(table_of(pa.array([7])), table_of(pa.array(["007"])))


def test_numbers_of_any_width_may_be_mixed(names_of):
    assert names_of(table_of(pa.array([7], pa.int8())), table_of(pa.array([2**40])))[:2] == (
        "int64",
        ["7", str(2**40)],
    )


def test_files_without_rows_do_not_decide_the_type(names_of):
    empty = table_of(pa.array([], pa.string()))
    assert names_of(empty, table_of(pa.array([7])))[:2] == ("int64", ["7"])


def test_columns_of_a_list_are_named_after_whole_numbers_too(make_config, tmp_path):
    frame = pd.DataFrame({"unique_id": 7, "ds": np.arange(STEPS), "a": 1.0, "b": 2.0})
    prepare(make_config(data__columns={"y": ["a", "b"]}), tmp_path / "shards", frame)
    (panel,) = open_shards(tmp_path / "shards").panels()
    assert list(panel.unique_id) == ["7/a", "7/b"]
    assert load_manifest(tmp_path / "shards").id_type == "string"
