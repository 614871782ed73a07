"""The forecast table: columns, time stamps, files."""

from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.task import Task
from dist_lstm.data.panel import Panel
from dist_lstm.data.windows import Cutoffs, forecast_cutoffs
from dist_lstm.forecast.table import MODEL, PartWriter, forecast_columns, level_name, value_columns

LEVELS = (50.0, 80.0, 95.0, 97.5, 99.9)
COMBINATIONS = [chosen for size in range(len(LEVELS) + 1) for chosen in combinations(LEVELS, size)]
NAMES = {50.0: "50", 80.0: "80", 95.0: "95", 97.5: "97.5", 99.9: "99.9"}


def make_task(
    levels: tuple[float, ...] = (80.0, 95.0), freq: str | int = 1, horizon: int = 3, timezone: str | None = None
) -> Task:
    return Task(
        horizon=horizon, context_length=4, min_context=1, freq=Frequency(freq), season_length=1, levels=levels,
        validation=0, test=0, timezone=timezone,
    )  # fmt: skip


def make_panel(lengths: list[int], start: np.ndarray) -> Panel:
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    names = np.array([f"series {number}" for number in range(len(lengths))], object)
    return Panel(names, start, np.arange(offset[-1], dtype=np.float32), offset)


def columns_of(levels: tuple[float, ...]) -> list[str]:
    names = ["LSTM"]
    for level in levels:
        names += [f"LSTM-lo-{NAMES[level]}", f"LSTM-hi-{NAMES[level]}"]
    return names


def every_quantile_is_its_level(task: Task, windows: int) -> np.ndarray:
    return np.tile(np.array(task.quantiles, np.float32), (windows, task.horizon, 1))


@pytest.mark.parametrize("levels", COMBINATIONS, ids=str)
def test_columns_are_the_median_then_low_and_high_of_each_level(levels):
    task, panel = make_task(levels), make_panel([5, 9], np.array([0, 3]))
    cutoffs = forecast_cutoffs(panel.length)
    table = pa.table(forecast_columns(panel, task, cutoffs, every_quantile_is_its_level(task, 2)))
    assert table.column_names == ["unique_id", "ds", *columns_of(levels)]


@pytest.mark.parametrize("levels", COMBINATIONS, ids=str)
def test_each_column_holds_the_quantile_of_its_name(levels):
    task, panel = make_task(levels), make_panel([5, 9], np.array([0, 3]))
    cutoffs = forecast_cutoffs(panel.length)
    table = pa.table(forecast_columns(panel, task, cutoffs, every_quantile_is_its_level(task, 2))).to_pandas()
    for level in levels:
        low, high = table[f"LSTM-lo-{NAMES[level]}"], table[f"LSTM-hi-{NAMES[level]}"]
        np.testing.assert_allclose(low, (1 - level / 100) / 2, rtol=1e-5)
        np.testing.assert_allclose(high - low, level / 100, rtol=1e-5)
    np.testing.assert_array_equal(table["LSTM"], np.float32(0.5))


@pytest.mark.parametrize("levels", COMBINATIONS, ids=str)
def test_the_columns_promised_are_the_columns_written(levels):
    task = make_task(levels)
    assert list(value_columns(task)) == columns_of(levels)
    assert set(value_columns(task).values()) == set(task.quantiles)


def test_a_point_head_gives_only_the_column_lstm():
    task, panel = make_task(levels=()), make_panel([5, 9], np.array([0, 3]))
    values = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    table = pa.table(forecast_columns(panel, task, forecast_cutoffs(panel.length), values)).to_pandas()
    assert list(table.columns) == ["unique_id", "ds", MODEL]
    assert table[MODEL].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("level", "name"), [(80, "80"), (80.0, "80"), (97.5, "97.5"), (99.9, "99.9"), (5, "5")])
def test_a_level_is_named_without_needless_zeros(level, name):
    assert level_name(level) == name


@pytest.mark.parametrize(
    ("freq", "starts"),
    [
        pytest.param("h", ["2024-02-28 20:00", "2023-12-31 23:00"], id="hours"),
        pytest.param("15min", ["2024-02-28 23:30", "2024-01-01 00:15"], id="quarters of an hour"),
        pytest.param("D", ["2024-02-20", "2023-12-25"], id="days"),
        pytest.param("B", ["2024-02-23", "2024-01-05"], id="working days"),
        pytest.param("W-SUN", ["2024-01-07", "2024-12-01"], id="weeks"),
        pytest.param("MS", ["2023-10-01", "2022-01-01"], id="month starts"),
        pytest.param("ME", ["2023-09-30", "2024-01-31"], id="month ends"),
        pytest.param("QS-JAN", ["2023-10-01", "2024-01-01"], id="quarters"),
        pytest.param("YE-DEC", ["2019-12-31", "1999-12-31"], id="years"),
    ],
)
def test_time_stamps_continue_after_the_last_step(freq, starts):
    lengths, horizon = [7, 12], 5
    panel = make_panel(lengths, np.array(starts, "datetime64[us]"))
    task = make_task(levels=(), freq=freq, horizon=horizon)
    values = np.zeros((2, horizon, 1), np.float32)
    table = pa.table(forecast_columns(panel, task, forecast_cutoffs(panel.length), values)).to_pandas()
    expected = [
        pd.date_range(start, periods=length + horizon, freq=freq)[length:]
        for start, length in zip(starts, lengths, strict=True)
    ]
    assert table["ds"].tolist() == [stamp for stamps in expected for stamp in stamps]
    assert table["unique_id"].tolist() == ["series 0"] * horizon + ["series 1"] * horizon


@pytest.mark.parametrize(
    ("freq", "zone", "start"),
    [
        pytest.param("h", "Europe/Berlin", "2024-03-30 18:00", id="hours, one skipped"),
        pytest.param("30min", "Europe/Berlin", "2024-10-26 22:00", id="half hours, two doubled"),
        pytest.param("h", "+05:30", "2024-01-01", id="hours of a fixed offset"),
        pytest.param("D", "Europe/Berlin", "2024-03-25", id="days, one of 23 hours"),
        pytest.param("D", "America/Sao_Paulo", "2018-10-30", id="days, a midnight skipped"),
        pytest.param("MS", "Europe/Berlin", "2023-11-01", id="months"),
        pytest.param("W-SUN", "America/Havana", "2024-10-06", id="weeks, a midnight doubled"),
    ],
)
def test_time_stamps_continue_in_their_time_zone(freq, zone, start, tmp_path):
    length, horizon = 5, 6
    if pd.Timestamp(start).floor("D") == pd.Timestamp(start) and not freq.endswith(("h", "min")):
        days = pd.date_range(start, periods=length + horizon, freq=freq, unit="us")
        first = np.ones(len(days), bool)
        expected = days.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
        grid = days[:1].to_numpy()
    else:
        expected = pd.date_range(start, periods=length + horizon, freq=freq, unit="us", tz=zone)
        grid = expected[:1].tz_convert("UTC").tz_localize(None).to_numpy()
    panel, task = make_panel([length], grid), make_task(levels=(), freq=freq, horizon=horizon, timezone=zone)
    values = np.zeros((1, horizon, 1), np.float32)
    with PartWriter(tmp_path / "part-00000.parquet") as part:
        part.write(forecast_columns(panel, task, forecast_cutoffs(panel.length), values))
    assert pq.read_schema(tmp_path / "part-00000.parquet").field("ds").type == pa.timestamp("us", zone)
    read = pd.read_parquet(tmp_path)["ds"]
    assert read.tolist() == expected[length:].tolist()
    assert [one.utcoffset() for one in read] == [one.utcoffset() for one in expected[length:]]


@pytest.mark.parametrize("width", [1, 5])
def test_integer_steps_continue_after_the_last_step(width):
    panel = make_panel([4, 2], np.array([100, -3]))
    task = make_task(levels=(), freq=width)
    values = np.zeros((2, 3, 1), np.float32)
    table = pa.table(forecast_columns(panel, task, forecast_cutoffs(panel.length), values)).to_pandas()
    assert table["ds"].dtype == np.int64
    first, second = 100 + 4 * width, -3 + 2 * width
    assert table["ds"].tolist() == [first + k * width for k in range(3)] + [second + k * width for k in range(3)]


def test_every_cutoff_of_a_series_has_its_own_rows_in_order():
    panel = make_panel([10, 2, 8], np.array([0, 0, 0]))
    cutoffs = Cutoffs(first=np.array([6, 0, 4]), count=np.array([2, 0, 1]), stride=2)
    values = np.arange(9, dtype=np.float32).reshape(3, 3, 1)
    table = pa.table(forecast_columns(panel, make_task(levels=()), cutoffs, values)).to_pandas()
    assert table["unique_id"].tolist() == ["series 0"] * 6 + ["series 2"] * 3
    assert table["ds"].tolist() == [6, 7, 8, 8, 9, 10, 4, 5, 6]
    assert table["LSTM"].tolist() == list(range(9))


def test_no_cutoffs_give_an_empty_table_with_all_columns():
    task, panel = make_task(), make_panel([3, 4], np.array(["2024-01-01"] * 2, "datetime64[us]"))
    none = Cutoffs(np.array([0, 0]), np.array([0, 0]), 1)
    table = pa.table(forecast_columns(panel, task, none, np.zeros((0, 3, 5), np.float32)))
    assert table.num_rows == 0
    assert table.column_names == ["unique_id", "ds", *columns_of((80.0, 95.0))]


def test_a_missing_forecast_is_null():
    panel = make_panel([5], np.array([0]))
    values = np.array([[[1.0], [np.nan], [3.0]]], np.float32)
    table = pa.table(forecast_columns(panel, make_task(levels=()), forecast_cutoffs(panel.length), values))
    assert table["LSTM"].to_pylist() == [1.0, None, 3.0]


def test_pandas_reads_the_files_as_one_table(tmp_path):
    task, panel = make_task(freq="D"), make_panel([5, 9], np.array(["2024-01-01", "2024-02-27"], "datetime64[us]"))
    columns = forecast_columns(panel, task, forecast_cutoffs(panel.length), every_quantile_is_its_level(task, 2))
    for number in range(2):
        with PartWriter(tmp_path / "forecasts" / f"part-{number:05d}.parquet") as part:
            part.write(columns)
            part.write(columns)
            assert part.rows == 12
    read = pd.read_parquet(tmp_path / "forecasts")
    once = pa.table(columns).to_pandas()
    pd.testing.assert_frame_equal(read, pd.concat([once] * 4, ignore_index=True))
    assert read["ds"].dtype == "datetime64[us]"
    assert read["LSTM-lo-80"].dtype == np.float32


def test_a_part_without_rows_is_not_written(tmp_path):
    with PartWriter(tmp_path / "forecasts" / "part-00000.parquet") as part:
        pass
    assert part.rows == 0
    assert list((tmp_path / "forecasts").iterdir()) == []


def test_a_part_is_closed_when_writing_it_fails(tmp_path):
    path = tmp_path / "part-00000.parquet"

    def fail() -> None:
        with PartWriter(path) as part:
            part.write({"LSTM": pa.array([1.0])})
            raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        fail()
    # Only a closed file has the footer that this reads.
    assert pq.read_metadata(path).num_rows == 1
