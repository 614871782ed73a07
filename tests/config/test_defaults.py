"""Defaults of settings that were left out, derived from dataset statistics."""

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
        ("h", 17420, 24, (24, 24, 168, 24)),
        ("h", 479, 24, (24, 24, 96, 24)),
        ("h", 480, 24, (24, 24, 168, 24)),
        ("h", 17420, 100, (24, 24, 216, 24)),
        ("15min", 17420, 24, (96, 48, 384, 96)),
        ("5min", 17420, 12, (288, 48, 1152, 288)),
        ("30min", 17420, 24, (48, 48, 192, 48)),
        ("D", 1000, 14, (7, 7, 49, 7)),
        ("MS", 60, 18, (12, 12, 48, 12)),
        ("QS", 40, 8, (4, 4, 16, 4)),
        ("YE", 30, 6, (1, 1, 12, 2)),
        ("YE", 100, 6, (1, 1, 25, 2)),
        (1, 30, 1, (1, 1, 7, 2)),
        (1, 1000, 13, (1, 1, 48, 2)),
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
    assert actual["split.test"] == actual["split.validation"] == windows * 24
    assert actual["backtest.stride"] == 24


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
    ("steps", "units", "batch", "most"),
    [
        (100, 64, 32, 1000), (1023, 64, 32, 1000), (1024, 64, 64, 1000), (9999, 64, 512, 1000),
        (10_000, 128, 512, 1500), (10**9, 128, 512, 1500),
    ],
)  # fmt: skip
def test_units_batch_size_and_steps_depend_on_the_amount_of_data(steps, units, batch, most):
    actual = resolved(DatasetStatistics("h", steps, 100))
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
    actual = resolved(task__min_context=200)
    assert actual["task.context_length"] == 216
    assert actual["task.min_context"] == 200


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
    # The time limit is the only setting that may remain None.
    assert [key for key, value in values.items() if value is None and key.startswith(FREE)] == [
        "train.max_seconds"
    ]
    assert {key: values[key] for key, value in flatten(job) if value is not None} == {
        key: value for key, value in flatten(job) if value is not None
    }
    assert resolve(actual, facts) == actual
    assert values["task.context_length"] % values["model.segment_length"] == 0
    seasons = 4 * values["task.season_length"] if values["task.season_length"] > 1 else 0
    assert values["task.context_length"] >= max(2 * horizon, seasons, least or 0)
    shorter = values["task.context_length"] - values["model.segment_length"]
    assert shorter < max(2 * horizon, 7 * values["task.season_length"], least or 0, 48)
