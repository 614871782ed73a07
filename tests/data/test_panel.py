"""Rows to regular series, against pandas' reindex and groupby."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_lstm.config.frequency import Frequency
from dist_lstm.data.panel import Panel, make_panel, seasonal_error, series_mean
from dist_lstm.data.sample_frequency import sample_frequency
from dist_lstm.errors import UserError
from tests.data.conftest import to_table

HOUR = pd.Timestamp("2024-02-28 22:00")
MONTH = pd.Timestamp("2023-11-01")
#: Frequency, and the first time stamp of the grid; a grid of whole numbers begins at -5.
GRIDS = [(1, None), (7, None), ("h", HOUR), ("15min", HOUR), ("D", MONTH), ("W-SUN", pd.Timestamp("2024-01-07")),
         ("B", pd.Timestamp("2024-02-26")), ("MS", MONTH), ("ME", pd.Timestamp("2023-11-30")),
         ("QS-OCT", pd.Timestamp("2023-10-01")), ("YE-DEC", pd.Timestamp("1999-12-31"))]  # fmt: skip


def grid(freq: str | int, first: pd.Timestamp | None, periods: int) -> np.ndarray:
    """Time stamps that pandas counts."""
    if isinstance(freq, int):
        return np.arange(periods) * freq - 5
    return pd.date_range(first, periods=periods, freq=freq, unit="us").to_numpy()


def as_series(panel: Panel) -> dict[str, tuple[object, list[float]]]:
    """Start and values of each series, NaN as None so that they compare."""
    return {
        name: (panel.start[number], plain(panel.y[panel.offset[number] : panel.offset[number + 1]]))
        for number, name in enumerate(panel.unique_id)
    }


def plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(one) else float(one) for one in values]


def regular(frame: pd.DataFrame, freq: str | int) -> dict[str, tuple[object, list[float | None]]]:
    """What `make_panel` must give, one series after the other with pandas."""
    expected = {}
    for name, rows in frame.groupby("unique_id"):
        values = rows.set_index("ds")["y"]
        first, last = values.index.min(), values.index.max()
        if isinstance(freq, int):
            steps = pd.Index(range(first, last + 1, freq))
        else:
            steps = pd.date_range(first, last, freq=freq, unit="us")
        expected[str(name)] = (steps.to_numpy()[0], plain(values.reindex(steps).to_numpy()))
    return expected


SERIES = st.lists(
    st.dictionaries(st.integers(0, 30), st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=20),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize(("freq", "first"), GRIDS, ids=str)
@settings(deadline=None, max_examples=20)
@given(series=SERIES, seed=st.integers(0, 2**16))
def test_rows_in_any_order_with_any_gaps_equal_pandas_reindex(freq, first, series, seed):
    steps = grid(freq, first, 31)
    rows = [(f"s{n}", steps[at], y) for n, values in enumerate(series) for at, y in values.items()]
    frame = pd.DataFrame(rows, columns=["unique_id", "ds", "y"])
    shuffled = frame.sample(frac=1, random_state=seed)
    assert as_series(make_panel(to_table(shuffled), Frequency(freq), "error")) == regular(frame, freq)


def test_series_are_sorted_by_name_and_laid_end_to_end():
    frame = pd.DataFrame({"unique_id": ["b", "a", "b", "10", "9"], "ds": [2, 5, 1, 0, 7], "y": [1.0, 2, 3, 4, 5]})
    panel = make_panel(to_table(frame), Frequency(1), "error")
    assert panel.unique_id.tolist() == ["10", "9", "a", "b"]
    assert panel.start.tolist() == [0, 7, 5, 1]
    assert panel.y.tolist() == [4, 5, 2, 3, 1]
    assert panel.offset.tolist() == [0, 1, 2, 3, 5]
    assert panel.length.tolist() == [1, 1, 1, 2]
    assert panel.series_of_step.tolist() == [0, 1, 2, 3, 3]
    assert panel.y.dtype == np.float64


def test_a_series_may_begin_and_end_with_missing_values():
    frame = pd.DataFrame({"unique_id": "a", "ds": [0, 1, 2], "y": [np.nan, 1.0, np.nan]})
    panel = make_panel(to_table(frame), Frequency(1), "error")
    assert plain(panel.y) == [None, 1.0, None]


def test_tables_of_several_chunks_with_categories_of_their_own_give_the_same_panel():
    frame = pd.DataFrame({"unique_id": list("abcabdbd"), "ds": [1, 1, 1, 2, 2, 1, 3, 2], "y": np.arange(8.0)})
    whole = to_table(frame)
    chunks = pa.concat_tables([whole.slice(0, 3), whole.slice(3, 2), whole.slice(5)])
    assert as_series(make_panel(chunks, Frequency(1), "error")) == regular(frame, 1)


#: What pandas makes of rows of the same time stamp.
ORACLES = {
    "first": lambda rows: rows.iloc[0],
    "last": lambda rows: rows.iloc[-1],
    "mean": lambda rows: rows.mean(),
    "sum": lambda rows: rows.sum(min_count=1),
}


@pytest.mark.parametrize("duplicates", list(ORACLES))
@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.integers(-100, 100) | st.none()),
        min_size=1,
        max_size=30,
    )
)
def test_rows_of_the_same_step_are_merged_as_pandas_groupby_does(duplicates, rows):
    frame = pd.DataFrame(rows, columns=["unique_id", "ds", "y"]).astype({"y": np.float64})
    merged = frame.groupby(["unique_id", "ds"])["y"].apply(ORACLES[duplicates]).reset_index()
    actual = as_series(make_panel(to_table(frame), Frequency(1), duplicates))
    assert actual == regular(merged, 1)


def test_duplicates_are_refused_with_their_number_and_the_first_position():
    frame = pd.DataFrame({"unique_id": list("baabb"), "ds": [1, 2, 2, 1, 1], "y": 1.0})
    with pytest.raises(
        UserError, match=r"rows that repeat a time stamp: 3, first unique_id 'a' at 2; set data\.duplicates"
    ):
        make_panel(to_table(frame), Frequency(1), "error")


def test_a_duplicate_without_a_value_is_a_duplicate_too():
    frame = pd.DataFrame({"unique_id": "a", "ds": [1, 1], "y": [1.0, np.nan]})
    with pytest.raises(UserError, match="rows that repeat a time stamp: 1"):
        make_panel(to_table(frame), Frequency(1), "error")


@pytest.mark.parametrize(
    ("freq", "good", "bad"),
    [
        (7, [0, 7, 21], 15),
        ("h", ["2024-03-01 00:30", "2024-03-01 01:30"], "2024-03-01 03:00"),
        ("D", ["2024-03-01", "2024-03-02"], "2024-03-04 12:00"),
        ("W-SUN", ["2024-01-07", "2024-01-14"], "2024-01-22"),
        ("B", ["2024-03-01", "2024-03-04"], "2024-03-09"),
        ("MS", ["2024-01-01", "2024-02-01"], "2024-03-02"),
        ("MS", ["2024-01-01", "2024-02-01"], "2024-03-01 00:00:00.000001"),
        ("ME", ["2024-01-31", "2024-02-29"], "2024-03-30"),
    ],
)
def test_a_time_stamp_off_the_grid_is_refused_naming_series_and_time(freq, good, bad):
    stamps = [*good, bad] if isinstance(freq, int) else pd.to_datetime(pd.Series([*good, bad]), format="ISO8601")
    frame = pd.DataFrame({"unique_id": "late", "ds": stamps, "y": 1.0})
    other = frame[:2].assign(unique_id="fine")
    table = to_table(pd.concat([other, frame[::-1]]))
    shown = str(np.asarray(stamps)[-1])
    with pytest.raises(UserError, match=r"'late' at .* is off the grid") as caught:
        make_panel(table, Frequency(freq), "error")
    assert f"at {shown[:19]}" in str(caught.value)
    assert make_panel(table.slice(0, 2), Frequency(freq), "error").length.tolist() == [2]


def test_a_first_time_stamp_off_the_grid_of_months_is_refused():
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.to_datetime(["2024-01-31", "2024-02-29"]), "y": 1.0})
    with pytest.raises(UserError, match=r"'a' at 2024-01-31.* is off the grid"):
        make_panel(to_table(frame), Frequency("MS"), "error")


@pytest.mark.parametrize(("freq", "got"), [("h", "whole numbers"), (1, "time stamps")])
def test_steps_with_an_alias_and_time_stamps_with_a_number_are_refused(freq, got):
    ds = [1, 2] if got == "whole numbers" else pd.to_datetime(["2024-01-01", "2024-01-02"])
    with pytest.raises(UserError, match=rf"task\.freq: .* does not fit column ds, which holds {got}"):
        make_panel(to_table(pd.DataFrame({"unique_id": "a", "ds": ds, "y": 1.0})), Frequency(freq), "error")


def test_a_stray_time_stamp_that_would_make_a_series_huge_is_refused():
    frame = pd.DataFrame({"unique_id": "a", "ds": [1, 2, 3, 2_000_000_000], "y": 1.0})
    with pytest.raises(UserError, match="'a' has 2,000,000,000 steps but only 4 rows"):
        make_panel(to_table(frame), Frequency(1), "error")


@pytest.mark.parametrize(("freq", "first"), [pair for pair in GRIDS if pair[0] != 7], ids=str)
def test_the_frequency_is_found_in_series_with_gaps_in_any_order(freq, first):
    steps = np.delete(grid(freq, first, 60), [20, 21, 37])
    frame = pd.concat([pd.DataFrame({"unique_id": name, "ds": steps[skip:], "y": 1.0}) for name, skip in
                       (("a", 0), ("b", 25), ("c", 58))])  # fmt: skip
    actual = sample_frequency(to_table(frame.sample(frac=1, random_state=0)))
    if isinstance(freq, int):
        assert actual == Frequency(1)
    else:  # QS-JAN and QS-OCT are the same grid
        np.testing.assert_array_equal(grid(actual.name, first, 60), grid(freq, first, 60))


def test_a_table_without_a_regular_stretch_shows_no_frequency():
    stamps = pd.to_datetime(["2024-01-01 00:00", "2024-01-01 01:07", "2024-01-03 05:00", "2024-02-01 00:00"])
    with pytest.raises(UserError, match=r"task\.freq: the time stamps show no regular frequency"):
        sample_frequency(to_table(pd.DataFrame({"unique_id": "a", "ds": stamps, "y": 1.0})))


def test_series_taken_from_a_panel_are_complete_and_copied(numbered_panel):
    panel = numbered_panel(3, 1, 4)
    some = panel.take(np.array([True, False, True]))
    assert some.unique_id.tolist() == ["s000", "s002"]
    assert some.start.tolist() == [0, 20]
    assert some.y.tolist() == [0, 1, 2, 2000, 2001, 2002, 2003]
    assert some.offset.tolist() == [0, 3, 7]
    assert not np.shares_memory(some.y, panel.y)
    assert len(panel.take(np.zeros(3, bool)).y) == 0


def test_means_are_those_of_each_series_and_nan_without_values(numbered_panel):
    panel = numbered_panel(3, 2, 2)
    counted = np.array([True, False, True, False, False, True, True])
    means = series_mean(panel, panel.y, counted)
    np.testing.assert_array_equal(means, [1.0, np.nan, 2000.5])


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("season", [1, 2, 5])
def test_the_seasonal_error_equals_a_loop_and_never_crosses_series(season, power, make_panel_of):
    generator = np.random.default_rng(0)
    values = [generator.normal(size=length) for length in (12, 4, 1, 9)]
    values[0][[3, 7]] = np.nan
    end = np.array([9, 4, 1, 0])
    expected = []
    for one, last in zip(values, end, strict=True):
        stored = one.astype(np.float32).astype(np.float64)
        errors = [abs(stored[t] - stored[t - season]) ** power for t in range(season, last)]
        errors = [error for error in errors if not np.isnan(error)]
        expected.append(sum(errors) / len(errors) if errors else np.nan)
    actual = seasonal_error(make_panel_of(*values), end, season, power)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
