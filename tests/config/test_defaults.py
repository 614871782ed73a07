"""Defaults of settings that were left out, derived from dataset statistics."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_lstm.config.defaults import DatasetStatistics, derive, resolve
from dist_lstm.config.load import flatten, override, parse_config
from dist_lstm.config.schema import Config
from dist_lstm.errors import UserError

HOURLY = DatasetStatistics(freq="h", steps=7 * 17420, median=17420)
FREE = ("task.", "split.", "model.", "train.", "backtest.")


def config(horizon: int = 24, **changes) -> Config:
    base = parse_config({"task": {"horizon": horizon}, "data": {"path": "a.csv"}})
    return override(base, {key.replace("__", "."): value for key, value in changes.items()})


def resolved(facts: DatasetStatistics = HOURLY, horizon: int = 24, **changes) -> dict:
    return dict(flatten(resolve(config(horizon, **changes), facts)))


@pytest.mark.parametrize(
    ("freq", "median", "horizon", "expected"),  # season, segment, context, minimum context
    [
        ("h", 17420, 24, (24, 24, 336, 24)),
        ("h", 959, 24, (24, 24, 168, 24)),
        ("h", 960, 24, (24, 24, 336, 24)),
        ("h", 479, 24, (24, 24, 96, 24)),
        ("h", 480, 24, (24, 24, 168, 24)),
        ("h", 17420, 200, (24, 24, 408, 24)),
        ("15min", 17420, 24, (96, 48, 384, 96)),
        ("5min", 17420, 12, (288, 48, 1152, 288)),
        ("30min", 17420, 24, (48, 48, 192, 48)),
        ("D", 1000, 14, (7, 7, 98, 7)),
        ("MS", 60, 18, (12, 12, 48, 12)),
        ("QS", 40, 8, (4, 4, 16, 4)),
        ("YE", 30, 6, (1, 1, 9, 2)),
        ("YE", 100, 6, (1, 6, 30, 2)),
        (1, 30, 1, (1, 1, 7, 2)),
        (1, 1000, 13, (1, 13, 104, 2)),
        (1, 1000, 1, (1, 1, 48, 2)),
        (1, 10**6, 120, (1, 60, 960, 2)),
    ],
)
def test_shapes_follow_from_frequency_horizon_and_length(freq, median, horizon, expected):
    actual = resolved(DatasetStatistics(freq, 5 * median, median), horizon)
    keys = ("task.season_length", "model.segment_length", "task.context_length", "task.min_context")
    assert tuple(actual[key] for key in keys) == expected


@pytest.mark.parametrize(
    ("median", "windows"), [(1, 1), (239, 1), (479, 1), (480, 2), (1199, 4), (2399, 9), (2400, 10), (10**6, 10)]
)
def test_the_test_range_is_a_tenth_of_the_median_series_from_one_to_ten_horizons(median, windows):
    actual = resolved(DatasetStatistics("h", 5 * median, median))
    assert actual["backtest.windows"] == windows
    assert actual["split.test"] == windows * 24
    assert actual["backtest.stride"] == 24


@pytest.mark.parametrize(
    ("median", "horizons"), [(1, 1), (143, 1), (144, 2), (479, 2), (480, 2), (1199, 4), (2400, 10), (10**6, 10)]
)
def test_the_validation_range_is_two_horizons_or_more_if_half_of_the_median_series_remains(median, horizons):
    assert resolved(DatasetStatistics("h", 5 * median, median))["split.validation"] == horizons * 24


LAST = np.datetime64("2024-06-30T00:00", "us")


@pytest.mark.parametrize(
    ("starts", "facts", "validation", "test"),
    [
        ({"test_start": "2024-06-17"}, ("D", LAST), 7, 14),
        ({"test_start": "2024-06-17", "validation_start": "2024-06-07"}, ("D", LAST), 10, 14),
        ({"test": 14, "validation_start": "2024-06-07 00:00"}, ("D", LAST), 10, 14),
        # From one business day of this week to the last of the next.
        ({"test_start": "2024-06-15"}, ("B", LAST - np.timedelta64(2, "D")), 7, 10),
        ({"test_start": "2023-11-15", "validation_start": "2023-04-30"}, ("ME", LAST), 7, 8),
        ({"test_start": 90, "validation_start": 80}, (1, 99), 10, 10),
        ({"test_start": 90}, (2, 110), 7, 11),
    ],
)
def test_ranges_that_begin_on_a_date_get_the_steps_up_to_the_last_date(starts, facts, validation, test):
    facts = DatasetStatistics(facts[0], 100, 20, facts[1])
    actual = resolved(facts, 7, **{f"split__{key}": value for key, value in starts.items()})
    assert (actual["split.validation"], actual["split.test"]) == (validation, test)
    assert actual["split.validation_start"] is actual["split.test_start"] is None
    assert actual["backtest.windows"] == (test - 7) // 7 + 1


@pytest.mark.parametrize(
    ("starts", "last", "message"),
    [
        (
            {"test_start": "2024-07-01"},
            LAST,
            "test_start: 2024-07-01 is after the last time stamp, 2024-06-30",
        ),
        (
            {"test_start": "2024-06-27"},
            LAST,
            "from 2024-06-27 to the last one there are 4 steps",
        ),
        (
            {"test": 14, "validation_start": "2024-06-17"},
            LAST,
            "split.validation_start: from 2024-06-17 to the test range there are 0 steps",
        ),
        ({"test_start": 10}, LAST, "split.test_start: 10 is a whole number, ds holds dates"),
        ({"test_start": "2024-06-01"}, 99, "split.test_start: 2024-06-01 is a date, ds holds whole numbers"),
        ({"test_start": 10}, None, "split.test_start: series share no calendar"),
    ],
)
def test_a_range_that_cannot_begin_there_is_refused_in_one_line(starts, last, message):
    facts = DatasetStatistics(1 if isinstance(last, int | None) else "D", 100, 20, last)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        resolved(facts, 7, **{f"split__{key}": value for key, value in starts.items()})
    assert "\n" not in str(caught.value)


def test_a_date_is_in_the_time_zone_of_the_table():
    last = np.datetime64("2024-06-30T21:00", "us")  # 23:00 in Berlin
    facts = DatasetStatistics("h", 1000, 200, last, "Europe/Berlin")
    assert resolved(facts, 24, split__test_start="2024-06-29")["split.test"] == 48


@pytest.mark.parametrize(
    ("test", "stride", "windows"), [(24, 24, 1), (47, 24, 1), (48, 24, 2), (48, 1, 25), (0, 5, 1)]
)
def test_a_given_test_range_gets_as_many_windows_as_fit(test, stride, windows):
    actual = resolved(split__test=test, backtest__stride=stride)
    assert actual["backtest.windows"] == windows
    assert actual["split.test"] == test


def test_the_test_range_has_the_length_that_given_windows_need():
    actual = resolved(backtest__windows=3, backtest__stride=10)
    assert actual["split.test"] == 24 + 10 + 10


@pytest.mark.parametrize(("test", "fits"), [(44, True), (43, False)])
def test_windows_that_do_not_fit_into_the_test_range_are_refused_with_the_steps_needed(test, fits):
    def job() -> dict:
        return resolved(backtest__windows=3, backtest__stride=10, split__test=test)

    if fits:
        assert job()["split.test"] == 44
    else:
        with pytest.raises(UserError, match=r"3 with backtest\.stride 10 need 44 steps, split\.test has 43"):
            job()


def test_a_test_range_of_zero_steps_needs_no_windows():
    assert resolved(split__test=0, backtest__windows=3)["split.test"] == 0


@pytest.mark.parametrize(("steps", "epoch"), [(1500, 50), (30, 1), (1, 1), (59, 1), (60, 2)])
def test_an_epoch_is_a_thirtieth_of_all_steps(steps, epoch):
    assert resolved(train__max_steps=steps)["train.steps_per_epoch"] == epoch


@pytest.mark.parametrize(
    ("steps", "median", "units", "batch", "most"),
    [
        (100, 100, 64, 32, 500), (1023, 499, 64, 32, 500), (1024, 500, 64, 64, 1000), (9999, 500, 64, 512, 1000),
        (10_000, 499, 128, 512, 500), (10_000, 500, 128, 512, 1500), (10**9, 10**6, 128, 512, 1500),
    ],
)  # fmt: skip
def test_units_batch_size_and_steps_depend_on_the_amount_of_data(steps, median, units, batch, most):
    actual = resolved(DatasetStatistics("h", steps, median))
    keys = ("model.units", "train.batch_size", "train.max_steps")
    assert tuple(actual[key] for key in keys) == ((units,), batch, most)


def test_every_default_has_a_reason_and_given_settings_have_no_default():
    job = config(task__context_length=96, train__max_steps=5, model__units=[3])
    derived = derive(job, HOURLY)
    assert all(default.why for default in derived.values())
    given_ = {key for key, value in flatten(job) if value is not None}
    assert not given_ & set(derived)
    assert derived["train.steps_per_epoch"].value == 1
    assert "7,420" not in derived["task.season_length"].why
    assert "121,940 steps" in derived["train.batch_size"].why


def test_a_given_context_that_is_not_a_multiple_of_the_season_has_segments_of_one_step():
    assert resolved(task__context_length=100)["model.segment_length"] == 1
    assert resolved(task__context_length=96)["model.segment_length"] == 24


def test_a_given_minimum_context_lengthens_the_context():
    actual = resolved(task__min_context=400)
    assert actual["task.context_length"] == 408
    assert actual["task.min_context"] == 400


@pytest.mark.parametrize(("series", "expected"), [(1, False), (199, False), (200, True), (10**6, True)])
def test_statistics_of_contexts_are_an_input_where_there_are_many_series(series, expected):
    facts = DatasetStatistics(freq="D", steps=series * 300, median=300, series=series)
    assert resolve(config(7), facts).model.statistics is expected
    assert resolve(config(7, model__statistics=not expected), facts).model.statistics is not expected


@pytest.mark.parametrize(
    ("median", "expected"), [(20, "seasonal_change"), (499, "seasonal_change"), (500, "scale")]
)
def test_errors_count_as_in_mase_where_contexts_are_a_large_part_of_their_series(median, expected):
    facts = DatasetStatistics(freq="D", steps=100 * median, median=median)
    assert resolve(config(1), facts).model.loss_unit == expected


def test_a_given_frequency_takes_precedence_over_that_of_the_data():
    actual = resolved(task__freq="2h")
    assert actual["task.freq"] == "2h"
    assert actual["task.season_length"] == 12


FACTS = st.builds(
    DatasetStatistics,
    freq=st.sampled_from(
        ["h", "15min", "min", "s", "D", "2D", "B", "W-SUN", "MS", "2MS", "QS-JAN", "YE-DEC", 1, 5]
    ),
    steps=st.integers(1, 10**10),
    median=st.integers(1, 10**6),
)


@settings(deadline=None)
@given(
    facts=FACTS,
    horizon=st.integers(1, 500),
    season=st.none() | st.integers(1, 400),
    segment=st.none() | st.integers(1, 100),
    least=st.none() | st.integers(1, 500),
)
def test_settings_left_out_get_a_value_and_given_settings_are_not_changed(facts, horizon, season, segment, least):
    given_ = {"task__season_length": season, "model__segment_length": segment, "task__min_context": least}
    job = config(horizon, **given_)
    actual = resolve(job, facts)
    values = dict(flatten(actual))
    # The only settings that may remain None: limits, and dates that steps stand for.
    free = ["split.validation_start", "split.test_start", "train.budget", "train.span"]
    assert [key for key, value in values.items() if value is None and key.startswith(FREE)] == free
    assert {key: values[key] for key, value in flatten(job) if value is not None} == {
        key: value for key, value in flatten(job) if value is not None
    }
    assert resolve(actual, facts) == actual
    assert values["task.context_length"] % values["model.segment_length"] == 0
    seasons = 4 * values["task.season_length"] if values["task.season_length"] > 1 else 0
    horizons = 2 if seasons else 1.5
    assert values["task.context_length"] >= max(horizons * horizon, seasons, least or 0)
    shorter = values["task.context_length"] - values["model.segment_length"]
    longest = (14 if values["task.season_length"] <= 24 else 4) * values["task.season_length"]
    assert shorter < max(8 * horizon if longest < 24 else 2 * horizon, longest, least or 0, 48)
