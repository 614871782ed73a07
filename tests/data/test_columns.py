"""Which columns are taken: names that are recognised, lists of targets, wide tables, what is missing or twice."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from dist_lstm.config.schema import DataSettings
from tests.data.conftest import message, rows

LONG = pd.DataFrame(
    {"unique_id": ["a", "a", "b"], "ds": [1, 2, 1], "sold": [1.0, np.nan, 3.0], "price": [10, 20, 30], "city": "X"}
)
WIDE = pd.DataFrame({"ds": [1, 2], "a": [1.0, 2.0], "b": [3, 4], "c": [np.nan, 5.0]})


def csv(frame: pd.DataFrame, folder) -> dict:
    frame.to_csv(folder / "t.csv", index=False)
    return {"path": folder / "t.csv"}


def parquet(frame: pd.DataFrame, folder) -> dict:
    frame.to_parquet(folder / "t.parquet", index=False)
    return {"path": folder / "t.parquet"}


def feather(frame: pd.DataFrame, folder) -> dict:
    frame.to_feather(folder / "t.feather")
    return {"path": folder / "t.feather"}


def in_memory(frame: pd.DataFrame, folder) -> dict:
    return {"frame": frame}


@pytest.fixture(params=[csv, parquet, feather, in_memory])
def give(request, tmp_path):
    """The arguments of `rows` and `message` for a table, in each kind of file and in memory."""
    return lambda frame: request.param(frame, tmp_path)


def series_of(actual: list[dict]) -> dict[str, list]:
    """Steps and values by series."""
    names = dict.fromkeys(row["unique_id"] for row in actual)
    return {name: [(row["ds"], row["y"]) for row in actual if row["unique_id"] == name] for name in names}


def refused(**settings) -> str:
    with pytest.raises(ValidationError) as caught:
        DataSettings(path="x", **settings)
    return str(caught.value)


@pytest.mark.parametrize(("key", "other"), [("unique_id", "item_id"), ("ds", "timestamp"), ("y", "target")])
def test_the_names_of_other_libraries_are_recognised_where_ours_are_absent(key, other, give):
    frame = LONG.rename(columns={"sold": "y"})
    expected = rows(frame=frame)
    assert rows(**give(frame.rename(columns={key: other}))) == expected
    assert rows(**give(frame.assign(**{other: "something else"}))) == expected


@pytest.mark.parametrize(("key", "other"), [("unique_id", "item_id"), ("ds", "timestamp"), ("y", "target")])
def test_other_names_are_not_taken_for_a_column_that_the_settings_name(key, other):
    frame = LONG.rename(columns={"sold": "y"}).rename(columns={key: other})
    assert f"has no column 'mine'; set data.columns.{key}" in message(frame=frame, **{key: "mine"})


def test_a_column_that_is_named_for_something_else_is_not_recognised():
    frame = LONG.rename(columns={"unique_id": "item_id", "sold": "y"})
    assert "has no column 'unique_id'" in message(frame=frame, static_categories=["item_id"])
    frame = LONG.rename(columns={"sold": "target"}).assign(ds2=0)
    assert "has no column 'y'" in message(frame=frame, static_numbers=["target"])


def test_each_target_of_a_list_is_a_series(give):
    actual = rows(**give(LONG), y=["sold", "price"])
    assert series_of(actual) == {
        "a/sold": [(1, 1.0), (2, None)],
        "b/sold": [(1, 3.0)],
        "a/price": [(1, 10.0), (2, 20.0)],
        "b/price": [(1, 30.0)],
    }


def test_a_list_of_one_target_names_it_too(give):
    assert set(series_of(rows(**give(LONG), y=["sold"]))) == {"a/sold", "b/sold"}
    assert set(series_of(rows(**give(LONG), y="sold"))) == {"a", "b"}


def test_targets_without_a_name_of_the_series_are_called_after_their_columns(give):
    alone = LONG[:2].drop(columns="unique_id")
    actual = series_of(rows(**give(alone), y=["sold", "price"], unique_id=None))
    assert actual == {"sold": [(1, 1.0), (2, None)], "price": [(1, 10.0), (2, 20.0)]}


def test_static_covariates_go_with_every_target(give):
    actual = rows(**give(LONG), y=["sold", "price"], static_categories=["city"])
    assert len(actual) == 6
    assert {row["city"] for row in actual} == {"X"}


def test_every_column_of_a_wide_table_is_a_series(give):
    actual = rows(**give(WIDE), layout="wide")
    assert series_of(actual) == {
        "a": [(1, 1.0), (2, 2.0)],
        "b": [(1, 3.0), (2, 4.0)],
        "c": [(1, None), (2, 5.0)],
    }
    assert series_of(rows(**give(WIDE.rename(columns={"ds": "when"})), layout="wide", ds="when")) == series_of(
        actual
    )
    assert series_of(rows(**give(WIDE.rename(columns={"ds": "timestamp"})), layout="wide")) == series_of(actual)


def test_a_wide_table_may_be_read_in_part(give):
    mixed = WIDE.assign(city="X")
    assert set(series_of(rows(**give(mixed), layout="wide", y=["a", "c"]))) == {"a", "c"}
    assert set(series_of(rows(**give(mixed), layout="wide", y="b"))) == {"b"}
    assert set(series_of(rows(**give(mixed.rename(columns={"a": "y"})), layout="wide", y=["y"]))) == {"y"}


def test_a_text_column_of_a_wide_table_is_named_with_what_to_do(give):
    got = message(**give(WIDE.assign(city="Berlin")), layout="wide")
    assert "column 'city', row 1: expected a number, got 'Berlin'" in got
    assert "list those that are in data.columns.y" in got


def test_a_wide_table_equals_the_long_one_with_the_same_series(give):
    long = WIDE.melt(id_vars="ds", var_name="unique_id", value_name="y")
    assert series_of(rows(**give(WIDE), layout="wide")) == series_of(rows(frame=long))


def test_a_wide_table_without_series_or_with_a_nameless_column_is_refused(tmp_path):
    assert "has no column beside 'ds'" in message(frame=WIDE[["ds"]], layout="wide")
    WIDE.to_csv(tmp_path / "t.csv")
    assert "a column has no name" in message(tmp_path / "t.csv", layout="wide")
    assert set(series_of(rows(tmp_path / "t.csv", layout="wide", y=["a", "b"]))) == {"a", "b"}


def test_the_index_that_pandas_writes_is_not_a_series(tmp_path):
    WIDE.iloc[[0, 1, 0]].set_index(pd.Index([5, 7, 4])).to_parquet(tmp_path / "t.parquet")
    assert set(series_of(rows(tmp_path / "t.parquet", layout="wide"))) == {"a", "b", "c"}


def test_columns_of_a_dataframe_may_be_numbers():
    frame = pd.DataFrame({"ds": [1, 2], 0: [1.0, 2.0], 1: [3.0, 4.0]})
    assert set(series_of(rows(frame=frame, layout="wide"))) == {"0", "1"}
    assert "has 2 columns called '0'" in message(frame=frame.rename(columns={1: "0"}), layout="wide")


@pytest.mark.parametrize("index", ["unique_id", "ds", ["unique_id", "ds"]])
def test_an_index_that_is_a_column_is_named_with_what_to_do(index):
    frame = LONG.rename(columns={"sold": "y"})
    assert "is its index, not a column; call reset_index() on it first" in message(frame=frame.set_index(index))
    assert rows(frame=frame.set_index(index).reset_index()) == rows(frame=frame)


@pytest.mark.parametrize("name", ["unique_id", "ds", "sold", "city"])
def test_a_column_that_occurs_twice_is_refused(name, tmp_path):
    settings = {"y": "sold", "static_categories": ["city"]}
    frame = pd.concat([LONG, LONG[[name]]], axis=1)
    for got in (message(**csv(frame, tmp_path), **settings), message(frame=frame, **settings)):
        assert f"has 2 columns called '{name}'; rename or drop all but one" in got
    extra = pd.concat([LONG, LONG[["price"]]], axis=1)
    assert len(rows(**csv(extra, tmp_path), **settings)) == 3, "nobody asked for the price"


@pytest.mark.parametrize("key", ["static_categories", "static_numbers"])
def test_a_missing_static_covariate_is_named_with_its_setting(key, give):
    got = message(**give(LONG), y="sold", **{key: ["state"]})
    assert f"has no column 'state'; set data.{key} to one of unique_id, ds, sold, price, city" in got


def test_names_that_clash_are_refused_before_any_row_is_read():
    # 'a' with 'b/c' and 'a/b' with 'c' would both be a/b/c.
    assert "'b/c' and 'c' can name the same series" in refused(columns={"y": ["c", "b/c"]})
    assert DataSettings(path="x", columns={"y": ["c", "b/c"], "unique_id": None}).columns.y == ("c", "b/c")
    assert DataSettings(path="x", columns={"y": ["c", "b/c"]}, layout="wide").columns.y == ("c", "b/c")
    assert DataSettings(path="x", columns={"y": ["c", "b-c", "c/b"]}).columns.y == ("c", "b-c", "c/b")


@pytest.mark.parametrize(
    "settings",
    [
        {"columns": {"y": ["a", "a"]}},
        {"columns": {"y": "ds"}},
        {"columns": {"y": "unique_id"}},
        {"columns": {"ds": "a", "unique_id": "a"}},
        {"columns": {"y": ["a", "ds"]}},
        {"static_numbers": ["a", "a"]},
        {"static_categories": ["a"], "static_numbers": ["a"]},
        {"columns": {"y": "a"}, "static_numbers": ["a"]},
        {"layout": "wide", "columns": {"y": ["ds", "a"]}},
    ],
    ids=str,
)
def test_a_column_named_twice_is_refused(settings):
    assert "is given twice" in refused(**settings)


def test_a_static_covariate_may_not_have_the_name_of_another_column():
    assert "'y' is the name of another column" in refused(columns={"y": "sold"}, static_numbers=["y"])
    assert "'ds' is the name of another column" in refused(columns={"ds": "when"}, static_categories=["ds"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"columns": {"unique_id": "store"}}, "data.columns.unique_id"),
        ({"static_numbers": ["a"]}, "data.static_categories and data.static_numbers"),
        ({"static_categories": ["a"]}, "data.static_categories and data.static_numbers"),
    ],
)
def test_what_has_no_meaning_in_a_wide_table_is_refused(settings, says):
    assert f"can't be combined with {says}; leave it out" in refused(layout="wide", **settings)
    assert DataSettings(path="x", layout="wide", columns={"unique_id": None}).layout == "wide"
