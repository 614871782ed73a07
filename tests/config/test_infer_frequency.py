"""The frequency that time stamps show, and what contradicts it."""

import numpy as np
import pandas as pd
import pytest

from dist_lstm.config.frequency import Frequency, parse_frequency
from dist_lstm.config.infer_frequency import check_frequency, infer_frequency
from dist_lstm.errors import UserError
from tests.config.test_frequency import ALIASES, STEPS, grid


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


@pytest.mark.parametrize(
    ("offset", "alias"),
    [
        (pd.offsets.LastWeekOfMonth(weekday=4), "LWOM-FRI"),
        (pd.offsets.LastWeekOfMonth(weekday=0), "LWOM-MON"),
        (pd.offsets.WeekOfMonth(week=3, weekday=4), "WOM-4FRI"),
        (pd.offsets.WeekOfMonth(week=0, weekday=0), "WOM-1MON"),
    ],
)
@pytest.mark.parametrize("steps", [8, 40, 200])
def test_the_last_friday_of_a_month_is_not_the_fourth(offset, alias, steps):
    stamps = grid(offset, "2015-01-01", steps)
    assert infer_frequency([stamps, stamps[3:] + np.timedelta64(16, "h")]).name == alias


@pytest.mark.parametrize(("alias", "first"), [("QS-OCT", "JAN"), ("BQS-AUG", "FEB"), ("2QS-JUN", "MAR")])
def test_quarters_are_named_by_the_first_month_of_a_year_that_begins_one(alias, first):
    """As pandas 3 does it; with pandas 2 the same table must have the same manifest."""
    stamps = grid(alias, "2015-01-01", 40)
    assert infer_frequency([stamps]).name == f"{alias.partition('-')[0]}-{first}"


def test_whole_days_between_most_neighbours_are_days_and_not_hours():
    pairs = np.datetime64("2024-01-01", "us") + np.cumsum([1, 1, 2] * 20).astype("timedelta64[D]")
    freq = infer_frequency([pairs])
    assert (freq.name, freq.season_length) == ("D", 7)


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
