"""Frequencies, compared with the grids of `pandas.date_range`."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_lstm.config.frequency import (
    Frequency,
    check_frequency,
    frequency_name,
    infer_frequency,
    parse_frequency,
)
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


@pytest.mark.parametrize("old", ["H", "T", "S", "M", "Q", "Y", "A", "BM", "2H", "15T"])
def test_a_removed_alias_is_refused_with_its_replacement(old):
    with pytest.raises(UserError, match=f"task.freq: '{old}' is not a frequency of pandas; write ") as error:
        parse_frequency(old)
    assert parse_frequency(str(error.value).split()[-1]).name


@pytest.mark.parametrize("freq", ["fortnight", "", "-1h", "0h", "-1", "1.5", 0, -2, "0"])
def test_an_invalid_frequency_is_refused_with_its_value(freq):
    with pytest.raises(UserError, match=f"^task.freq: .*{freq}.*"):
        parse_frequency(freq)


@pytest.mark.parametrize("freq", ["ns", "1500ns", "0.5us"])
def test_a_frequency_finer_than_a_microsecond_is_refused(freq):
    with pytest.raises(UserError, match="microsecond"):
        parse_frequency(freq)


@pytest.mark.parametrize("alias", [*ALIASES[:-1], "2h", "2MS"])
def test_the_frequency_of_a_series_with_gaps_is_that_of_its_grid(alias):
    whole = grid(alias, steps=120)
    kept = np.arange(120) % 17 != 5
    freq = infer_frequency([whole[kept]])
    np.testing.assert_array_equal(freq.position(whole, np.repeat(whole[0], 120)), np.arange(120))


def test_the_frequency_is_one_on_whose_grid_all_series_lie_whatever_their_order():
    days, hours, weeks = grid("D"), grid("h"), grid("W")
    for series in ([days, hours, hours], [hours, days, days], [hours, weeks, days]):
        assert infer_frequency(series).name == infer_frequency(series[::-1]).name == "h"
    assert infer_frequency([weeks, weeks, days]).name == "D"


def test_where_no_frequency_fits_all_series_the_most_frequent_is_inferred():
    days, months = grid("D", "2024-01-01 12:00"), grid("MS")
    assert infer_frequency([days, days + np.timedelta64(1, "h"), months]).name == "D"
    late = np.append(days, days[-1] + np.timedelta64(5, "h"))
    assert infer_frequency([late, days, days]).name == "D"


def test_duplicate_time_stamps_do_not_change_the_inferred_frequency():
    assert infer_frequency([np.repeat(grid("D"), 2)]).name == "D"


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_frequency_is_inferred_from_three_time_stamps_but_not_from_two(steps):
    if steps == 3:
        assert infer_frequency([grid("h")[:3]]).name == "h"
    else:
        with pytest.raises(UserError, match=r"task\.freq: .* no regular frequency; set it"):
            infer_frequency([grid("h")[:steps]])


@pytest.mark.parametrize("step", [1, 2, 5, 10, 60, 3600])
def test_the_frequency_of_whole_numbers_divides_all_distances(step):
    gaps = np.delete(np.arange(30), [4, 5, 17]) * step
    assert infer_frequency([gaps + 7, gaps[:1], gaps[5:]]) == Frequency(step)
    check_frequency(Frequency(step), [gaps])
    if step > 1:
        with pytest.raises(
            UserError, match=rf"^task\.freq: is 1, but all steps are multiples of {step}; set it to"
        ):
            check_frequency(Frequency(1), [gaps, gaps + 3])


def test_whole_numbers_that_leave_most_steps_without_a_row_are_refused_unless_the_frequency_is_given():
    sparse = np.cumsum(np.arange(40) % 7 + 1)
    with pytest.raises(UserError, match=r"^task\.freq: ds holds whole numbers, and at a step of 1 only 25\.\d%"):
        infer_frequency([sparse])
    check_frequency(Frequency(1), [sparse])


DAYS = pd.date_range("2023-12-20", periods=50)


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (DAYS.strftime("%Y%m%d"), "%Y%m%d"),
        (DAYS[12:20].strftime("%Y%m%d"), "%Y%m%d"),
        (pd.date_range("2019-11", periods=50, freq="MS").strftime("%Y%m"), "%Y%m"),
    ],
    ids=str,
)
def test_whole_numbers_that_look_like_dates_are_refused_also_beside_a_frequency(values, form):
    values = values.astype(np.int64).to_numpy()
    for work in (infer_frequency, lambda *rest: check_frequency(Frequency(1), *rest)):
        with pytest.raises(UserError, match=r"^data\.columns\.ds: .* look like dates") as caught:
            work([values, values[:3]])
        assert f"set data.ds_format to '{form}', or to 'step'" in str(caught.value)
    check_frequency(Frequency(1), [values], "step")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_whole_numbers_that_look_like_times_are_refused_unless_the_frequency_is_given(unit):
    values = pd.date_range("2024-01-01", periods=50, freq="min").as_unit(unit).astype(np.int64).to_numpy()
    step = int(values[1] - values[0])
    with pytest.raises(
        UserError, match=rf"look like times since 1970 in {unit}, .*; set data.ds_format to '{unit}'"
    ):
        infer_frequency([values])
    check_frequency(Frequency(step), [values])
    assert infer_frequency([values], "step") == Frequency(step)


def test_years_are_whole_numbers():
    assert infer_frequency([np.arange(1980, 2020)]) == Frequency(1)


def test_the_frequency_does_not_depend_on_how_many_short_series_there_are():
    days = pd.date_range("2024-01-01", periods=60, unit="us").to_numpy()
    assert infer_frequency([*[days[:1]] * 50, days]).name == "D"
    assert infer_frequency([*[days[:28:7]] * 49, days, days]).name == "D"


@pytest.mark.parametrize("hours", [range(8, 16), range(10, 18), range(8), range(9, 17), range(7, 19)], ids=str)
def test_hours_of_an_office_on_every_day_are_hours_with_gaps(hours):
    days = pd.date_range("2024-01-01", periods=30, unit="us").to_numpy()
    stamps = np.concatenate([days[:, None] + np.array(hours).astype("timedelta64[h]")]).ravel()
    freq = infer_frequency([stamps])
    assert freq.name == "h"
    assert freq.position(stamps[-1:], stamps[:1]) == 29 * 24 + len(hours) - 1


def test_hours_of_business_are_what_pandas_calls_them():
    stamps = pd.date_range("2024-01-01 09:00", periods=200, freq="bh", unit="us").to_numpy()
    freq = infer_frequency([stamps])
    assert (freq.name, freq.season_length) == ("bh", 8)
    np.testing.assert_array_equal(freq.position(stamps, stamps[:1].repeat(200)), np.arange(200))


@pytest.mark.parametrize("alias", ["B", "MS", "ME", "BMS", "QS", "QE", "YS", "SMS", "C"])
def test_series_keep_their_own_time_of_day(alias):
    freq, days = parse_frequency(alias), grid(alias, "2024-01-01")
    closes = [days + np.timedelta64(minutes, "m") for minutes in (0, 16 * 60, 16 * 60 + 30)]
    stamps, origin = np.concatenate(closes), np.repeat([one[0] for one in closes], STEPS)
    steps = np.tile(np.arange(STEPS), 3)
    np.testing.assert_array_equal(freq.position(stamps, origin), steps)
    np.testing.assert_array_equal(freq.advance(origin, steps), stamps)
    np.testing.assert_array_equal(freq.position(closes[1], closes[2][:1].repeat(STEPS)), np.full(STEPS, -1))
    if alias not in ("SMS", "C"):
        assert infer_frequency(closes).season_length == freq.season_length


@pytest.mark.parametrize(("months", "season"), [(1, 12), (2, 6), (3, 4), (12, 1)])
@pytest.mark.parametrize("day", ["2023-06-15", "2023-06-02T06:00", "2023-06-28"])
def test_months_may_begin_on_any_day_that_all_have(months, season, day):
    start = pd.Timestamp(day)
    stamps = np.array([start + pd.DateOffset(months=months * n) for n in range(40)], "datetime64[us]")
    freq = infer_frequency([stamps])
    assert freq.season_length == season
    np.testing.assert_array_equal(freq.position(stamps, stamps[:1].repeat(40)), np.arange(40))
    np.testing.assert_array_equal(freq.advance(stamps[:1].repeat(40), np.arange(40)), stamps)


@pytest.mark.parametrize(
    "freq", [pd.offsets.Hour(2), pd.Timedelta("2h"), np.timedelta64(2, "h"), dt.timedelta(hours=2)], ids=repr
)
def test_offsets_and_durations_are_frequencies(freq):
    assert parse_frequency(frequency_name(freq)).width == np.timedelta64(2, "h")
    assert [frequency_name(one) for one in ("MS", 1, np.int64(3), None)] == ["MS", 1, 3, None]


def test_irregular_time_stamps_have_no_frequency():
    stamps = np.datetime64("2024-01-01", "us") + np.cumsum(np.arange(40) ** 2 % 23).astype("timedelta64[h]")
    for series in ([stamps], []):
        with pytest.raises(UserError, match="no regular frequency"):
            infer_frequency(series)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("D", "h"),
        ("h", "15min"),
        ("MS", "D"),
        ("ME", "MS"),
        ("B", "D"),
        ("W-SUN", "W-MON"),
        ("2W-TUE", "2W-MON"),
    ],
)
def test_a_frequency_that_time_stamps_contradict_is_refused(given, shown):
    stamps = pd.date_range("2024-01-01", periods=40, freq=shown, unit="us").to_numpy()
    with pytest.raises(UserError, match=f"is '{given}', but the time stamps show '{shown}'"):
        check_frequency(parse_frequency(given), [stamps])


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("D", "B"),
        ("D", "MS"),
        ("h", "D"),
        ("15min", "h"),
        ("D", "W-MON"),
        ("7D", "W-MON"),
        ("24h", "D"),
        ("QS", "QS-OCT"),
        ("60min", "h"),
        ("MS", "MS"),
        ("YE", "YE-DEC"),
    ],
)
def test_another_alias_or_a_finer_grid_is_accepted(given, shown):
    stamps = pd.date_range("2024-01-01", periods=40, freq=shown, unit="us").to_numpy()
    check_frequency(parse_frequency(given), [stamps])


def test_irregular_time_stamps_contradict_no_frequency():
    sparse = np.array(["2024-01-01", "2024-01-05", "2024-01-06T05:00", "2024-02-01"], "datetime64[us]")
    check_frequency(parse_frequency("D"), [sparse, sparse[:1]])
    check_frequency(parse_frequency("D"), [np.arange(5)])
    gaps = np.delete(pd.date_range("2024-01-01", periods=60, freq="D", unit="us").to_numpy(), [5, 6, 20, 41])
    check_frequency(parse_frequency("D"), [gaps])
    weekly = pd.date_range("2024-01-01", periods=60, freq="7D", unit="us").to_numpy()
    check_frequency(parse_frequency("D"), [weekly, weekly, gaps])


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
