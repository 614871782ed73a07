"""Frequencies, compared with the grids of `pandas.date_range`."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_lstm.config.frequency import Frequency, frequency_name, parse_frequency
from dist_lstm.errors import UserError

# Pandas does not infer the last one (half months).
ALIASES = ["h", "15min", "s", "D", "B", "W", "W-WED", "MS", "ME", "BMS", "QS", "QE", "QS-FEB", "YS", "YE", "SMS"]
SEVERAL = ["2h", "7D", "2B", "2W", "2MS", "5ME", "2QS", "3YE"]
STEPS = 40


def grid(alias: str | int, start: str = "2019-11-30", steps: int = STEPS) -> np.ndarray:
    if isinstance(alias, int):
        return np.arange(steps) * alias - 7
    return pd.date_range(start, periods=steps, freq=alias, unit="us").to_numpy()


@pytest.mark.parametrize("alias", [*ALIASES, *SEVERAL, 1, 2])
def test_position_counts_the_steps_of_the_grid_and_advance_is_its_inverse(alias):
    freq, stamps = parse_frequency(alias), grid(alias)
    first, later = np.divmod(np.arange(STEPS * STEPS), STEPS)
    steps = np.where(later >= first, later - first, -1)
    np.testing.assert_array_equal(freq.position(stamps[later], stamps[first]), steps)
    ahead = steps >= 0
    actual = freq.advance(stamps[first[ahead]], steps[ahead])
    np.testing.assert_array_equal(actual, stamps[later[ahead]])
    assert actual.dtype == stamps.dtype


@settings(deadline=None)
@given(
    alias=st.sampled_from(ALIASES + SEVERAL),
    start=st.datetimes(pd.Timestamp("1950-01-01").to_pydatetime(), pd.Timestamp("2100-01-01").to_pydatetime()),
    steps=st.lists(st.integers(0, 30), min_size=1, max_size=5),
)
def test_position_and_advance_are_inverse_wherever_the_grid_starts(alias, start, steps):
    freq, stamps = parse_frequency(alias), grid(alias, start.replace(microsecond=0).isoformat(), 31)
    origin = np.repeat(stamps[0], len(steps))
    actual = freq.advance(origin, np.array(steps))
    np.testing.assert_array_equal(actual, stamps[steps])
    np.testing.assert_array_equal(freq.position(actual, origin), steps)


@pytest.mark.parametrize(("alias", "month"), [("2MS", "MS"), ("2QS", "QS"), ("2B", "B"), ("3YE", "YE")])
def test_series_may_start_in_different_periods_where_a_step_has_several_periods(alias, month):
    freq, fine = parse_frequency(alias), grid(month, steps=61)
    several = int(alias[0])
    origin = fine[[0, 1, 1]]
    actual = freq.advance(origin, np.array([3, 3, 10]))
    np.testing.assert_array_equal(actual, fine[[3 * several, 1 + 3 * several, 1 + 10 * several]])
    np.testing.assert_array_equal(freq.position(actual, origin), [3, 3, 10])
    np.testing.assert_array_equal(freq.position(fine[[1, several - 1, several]], fine[[0, 0, 0]]), [-1, -1, 1])


@pytest.mark.parametrize("alias", ALIASES + SEVERAL)
def test_a_time_stamp_off_the_grid_or_before_its_origin_has_no_position(alias):
    freq, stamps = parse_frequency(alias), grid(alias)
    beside = stamps + np.timedelta64(1, "us")
    origin = np.repeat(stamps[:1], STEPS)
    np.testing.assert_array_equal(freq.position(beside, origin), np.full(STEPS, -1))
    np.testing.assert_array_equal(freq.position(origin, stamps), [0] + [-1] * (STEPS - 1))


@pytest.mark.parametrize("alias", ["ME", "B", "QE", "BMS", "SMS"])
def test_no_position_is_given_relative_to_an_origin_off_the_grid(alias):
    freq, sunday = parse_frequency(alias), np.datetime64("2024-06-16", "us")
    stamps = np.append(grid(alias, "2024-06-17", 3), sunday)
    np.testing.assert_array_equal(freq.position(stamps, np.repeat(sunday, 4)), [-1] * 4)


def test_an_integer_off_the_grid_or_before_its_origin_has_no_position():
    actual = Frequency(3).position(np.array([5, 6, 8, 11, 2]), np.full(5, 5))
    assert actual.tolist() == [0, -1, 1, 2, -1]


@pytest.mark.parametrize("alias", ["h", "MS", 1])
def test_empty_time_stamps_have_empty_positions(alias):
    freq, none = parse_frequency(alias), grid(alias)[:0]
    assert freq.position(none, none).tolist() == []
    assert freq.advance(none, np.zeros(0, np.int64)).dtype == none.dtype


@pytest.mark.parametrize(
    ("alias", "season"),
    [
        ("h", 24), ("2h", 12), ("7h", 1), ("15min", 96), ("min", 1440), ("90min", 16), ("7min", 1),
        ("s", 1), ("30s", 1),
        ("D", 7), ("2D", 1), ("7D", 1), ("B", 5), ("2B", 1), ("C", 5), ("bh", 8), ("2bh", 4), ("SMS", 24),
        ("SME", 24), ("WOM-4FRI", 12), ("CBMS", 12), ("W", 1), ("W-WED", 1),
        ("MS", 12), ("ME", 12), ("BMS", 12), ("2MS", 6), ("5MS", 1), ("12MS", 1),
        ("QS", 4), ("QE", 4), ("QS-FEB", 4), ("2QS", 2), ("YS", 1), ("YE", 1), (1, 1), (12, 1),
    ],
)  # fmt: skip
def test_the_season_is_a_day_of_hours_a_week_of_days_or_a_year_of_months(alias, season):
    assert parse_frequency(alias).season_length == season


@pytest.mark.parametrize(
    ("text", "name"), [("1", 1), ("12", 12), ("60min", "60min"), ("QS", "QS-JAN"), ("W", "W-SUN")]
)
def test_a_frequency_has_the_alias_that_pandas_uses(text, name):
    assert parse_frequency(text).name == name
    assert parse_frequency(text).integer == isinstance(name, int)


@pytest.mark.parametrize(
    ("text", "name"), [("d", "D"), ("2w", "2W-SUN"), ("15MIN", "15min"), ("2LWOM-MON", "2LWOM-MON")]
)
def test_spellings_that_versions_of_pandas_treat_differently_are_accepted(text, name):
    assert parse_frequency(text).name == name


@pytest.mark.parametrize("old", ["H", "T", "S", "M", "Q", "Y", "A", "BM", "2H", "15T"])
def test_a_removed_alias_is_refused_with_its_replacement(old):
    with pytest.raises(UserError, match=f"task.freq: '{old}' is not a frequency of pandas; write ") as error:
        parse_frequency(old)
    assert parse_frequency(str(error.value).split()[-1]).name


@pytest.mark.parametrize("freq", ["fortnight", "", "-1h", "0h", "-1", "1.5", 0, -2, "0"])
def test_an_invalid_frequency_is_refused_with_its_value(freq):
    with pytest.raises(UserError, match=f"^task.freq: .*{freq}.*"):
        parse_frequency(freq)


@pytest.mark.parametrize("old", ["Q-DEC", "AS-JAN", "m", "BH", "L"])
def test_any_alias_that_only_pandas_2_has_is_refused(old):
    with pytest.raises(UserError, match=f"task.freq: '{old}' is not a frequency of pandas; use an alias such as"):
        parse_frequency(old)


@pytest.mark.parametrize("freq", ["ns", "1500ns", "0.5us"])
def test_a_frequency_finer_than_a_microsecond_is_refused(freq):
    with pytest.raises(UserError, match="microsecond"):
        parse_frequency(freq)


@pytest.mark.parametrize(
    "freq", [pd.offsets.Hour(2), pd.Timedelta("2h"), np.timedelta64(2, "h"), dt.timedelta(hours=2)], ids=repr
)
def test_offsets_and_durations_are_frequencies(freq):
    assert parse_frequency(frequency_name(freq)).width == np.timedelta64(2, "h")
    assert [frequency_name(pd.Timedelta(f"{hours}h")) for hours in (24, 36, 168)] == ["D", "36h", "7D"]
    assert [frequency_name(one) for one in ("MS", 1, np.int64(3), None)] == ["MS", 1, 3, None]


def test_a_span_with_too_many_business_hours_is_refused():
    stamps = np.array(["1000-01-01T10:00", "8999-01-01T10:00"], "datetime64[us]")
    with pytest.raises(UserError, match=r"from 1000-01-01.* to 8999-01-01.* more than 500,000 steps of 'bh'"):
        parse_frequency("bh").position(stamps, stamps[:1].repeat(2))


#: Positions of one time stamp, computed by pandas.
PLACES = {
    "hour": lambda stamp: stamp.hour + stamp.minute / 60 + stamp.second / 3600 + stamp.microsecond / 3.6e9,
    "weekday": lambda stamp: stamp.weekday() + PLACES["hour"](stamp) / 24,
    "month": lambda stamp: stamp.month - 1 + (stamp.day - 1) / stamp.days_in_month,
}
CYCLES = {
    "us": ["hour", "weekday", "month"], "s": ["hour", "weekday", "month"], "15min": ["hour", "weekday", "month"],
    "h": ["hour", "weekday", "month"], "7h": ["hour", "weekday", "month"], "D": ["weekday", "month"],
    "24h": ["weekday", "month"], "6D": ["weekday", "month"], "B": ["weekday", "month"],
    "2B": ["weekday", "month"], "7D": ["month"], "W": ["month"], "W-WED": ["month"], "2W": ["month"],
    "MS": ["month"], "ME": ["month"], "BMS": ["month"], "5ME": ["month"], "12MS": [], "QS": ["month"],
    "QE": ["month"], "QS-FEB": ["month"], "2QS": ["month"], "4QS": [], "YS": [], "YE": [], "3YE": [], 1: [], 7: [],
}  # fmt: skip


@pytest.mark.parametrize(("alias", "names"), CYCLES.items(), ids=str)
def test_a_frequency_has_the_cycles_of_the_calendar_in_which_its_steps_move(alias, names):
    assert [cycle.name for cycle in parse_frequency(alias).cycles] == names


@pytest.mark.parametrize("alias", [alias for alias, names in CYCLES.items() if names], ids=str)
@settings(deadline=None, max_examples=20)
@given(start=st.datetimes(pd.Timestamp("1901-01-01").to_pydatetime(), pd.Timestamp("2150-01-01").to_pydatetime()))
def test_calendar_positions_equal_those_that_pandas_gives_for_each_time_stamp(alias, start):
    freq, ds = parse_frequency(alias), grid(alias, start.isoformat())
    actual = freq.calendar(ds)
    assert actual.shape == (STEPS, len(freq.cycles))
    assert actual.dtype == np.float32
    expected = [[PLACES[cycle.name](pd.Timestamp(stamp)) for cycle in freq.cycles] for stamp in ds]
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert (actual >= 0).all()


@pytest.mark.parametrize("alias", [alias for alias, names in CYCLES.items() if names], ids=str)
def test_the_advance_of_every_cycle_equals_the_average_on_the_grid(alias):
    freq = parse_frequency(alias)
    ds = grid(alias, "2019-06-01", 3000)
    for cycle, places in zip(freq.cycles, freq.calendar(ds).T.astype(np.float64), strict=True):
        assert places.max() < {"hour": 24, "weekday": 7, "month": 12}[cycle.name]
        if cycle.name == "weekday" and cycle.period == 5:
            assert places.max() == 4
        gone = np.diff(places) % cycle.period
        if cycle.name == "month":
            months = [(one.year - 2019) * 12 + PLACES["month"](one) for one in pd.DatetimeIndex(ds)]
            gone = np.diff(months)
        whole = cycle.advance % cycle.period if cycle.name != "month" else cycle.advance
        # The quarters of an hour are in June, which has 30 days.
        assert gone.mean() == pytest.approx(whole, rel=0.02, abs=1e-4)


def test_without_cycles_time_stamps_have_no_positions():
    assert parse_frequency("YS").calendar(grid("YS")).shape == (STEPS, 0)


@pytest.mark.parametrize(
    ("alias", "within"),
    [("us", True), ("15min", True), ("23h", True), ("24h", False), ("D", False), ("B", False), ("W", False),
     ("MS", False), ("YE", False), (1, False)],
)  # fmt: skip
def test_a_step_shorter_than_a_day_is_recognised(alias, within):
    assert parse_frequency(alias).within_day == within
