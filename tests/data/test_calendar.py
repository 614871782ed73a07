"""Time stamps with a zone to a grid without gaps and back, against clocks read one stamp at a time."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_lstm.config.frequency import parse_frequency
from dist_lstm.data.calendar import cycle_positions, local_clock, stamps, to_grid, zone_of
from dist_lstm.data.panel import make_panel
from dist_lstm.data.sample_frequency import sample_frequency
from dist_lstm.errors import UserError
from tests.data.conftest import to_table

#: Zone, and a year in which its clock is changed, most at midnight.
ZONES = [("Europe/Berlin", 2024), ("America/Sao_Paulo", 2018), ("America/Havana", 2024), ("Asia/Beirut", 2022),
         ("America/Asuncion", 2022), ("Australia/Lord_Howe", 2024), ("Asia/Kathmandu", 2024),
         ("UTC", 2024)]  # fmt: skip
SKIPPED = {"America/Sao_Paulo": date(2018, 11, 4), "Asia/Beirut": date(2022, 3, 27),
           "America/Havana": date(2024, 3, 10), "America/Asuncion": date(2022, 10, 2)}  # fmt: skip


def first_times(zone: str, year: int) -> dict[date, datetime]:
    """The first time of each day of a year and a bit, found by a walk over its quarters of an hour."""
    clock, now = ZoneInfo(zone), datetime(year - 1, 12, 31, tzinfo=UTC)
    actual: dict[date, datetime] = {}
    while now < datetime(year + 1, 2, 2, tzinfo=UTC):
        actual.setdefault(now.astimezone(clock).date(), now)
        now += timedelta(minutes=15)
    return {day: first for day, first in actual.items() if day >= date(year, 1, 1)}


def aware(instants: list[datetime], zone: str) -> pd.Series:
    return pd.Series(pd.DatetimeIndex(instants).as_unit("us").tz_convert(zone))


def there_and_back(ds: pd.Series, alias: str, zone: str, make_task) -> pd.Series:
    """To a panel, whose steps must all be there, and its stamps."""
    frame = pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.arange(len(ds), dtype=float)})
    freq = parse_frequency(alias)
    panel = make_panel(to_table(frame.sample(frac=1, random_state=0)), freq, "error")
    assert panel.y.tolist() == list(range(len(ds)))
    assert panel.start.dtype == "datetime64[us]"
    steps = np.arange(len(ds))
    grid = freq.advance(np.repeat(panel.start, len(ds)), steps)
    return stamps(grid, make_task(freq=freq, timezone=zone)).to_pandas()


@pytest.mark.parametrize(("zone", "year"), ZONES)
@pytest.mark.parametrize("alias", ["h", "15min", "3h"])
def test_steps_within_a_day_have_no_gap_at_a_clock_change_and_come_back_as_they_were(alias, zone, year, make_task):
    begin = pd.Timestamp(f"{year}-01-01", tz="UTC")
    ds = pd.Series(pd.date_range(begin, periods=9000, freq=alias, unit="us").tz_convert(zone))
    pd.testing.assert_series_equal(there_and_back(ds, alias, zone, make_task), ds, check_names=False)


def test_hours_of_berlin_are_23_and_25_on_the_days_of_a_clock_change(make_task):
    for day, hours in (("2024-03-31", 23), ("2024-10-27", 25)):
        begin, end = (pd.Timestamp(day, tz="Europe/Berlin") + pd.DateOffset(days=more) for more in (0, 1))
        ds = pd.Series(pd.date_range(begin, end, freq="h", unit="us", inclusive="left"))
        assert len(ds) == hours
        pd.testing.assert_series_equal(there_and_back(ds, "h", "Europe/Berlin", make_task), ds, check_names=False)


@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_days_begin_at_local_midnight_or_at_the_first_time_after_a_skipped_one(zone, year, make_task):
    first = first_times(zone, year)
    if zone in SKIPPED:
        assert first[SKIPPED[zone]].astimezone(ZoneInfo(zone)).hour == 1
    ds = aware(list(first.values()), zone)
    pd.testing.assert_series_equal(there_and_back(ds, "D", zone, make_task), ds, check_names=False)


@pytest.mark.parametrize(("zone", "year"), ZONES)
@pytest.mark.parametrize("alias", ["B", "2D", "W-SUN", "MS", "ME", "QS"])
def test_longer_steps_begin_at_local_midnight_too(alias, zone, year, make_task):
    first = first_times(zone, year)
    grid = [day.date() for day in pd.date_range(f"{year}-01-01", f"{year + 1}-01-31", freq=alias)]
    ds = aware([first[day] for day in grid], zone)
    pd.testing.assert_series_equal(there_and_back(ds, alias, zone, make_task), ds, check_names=False)


def test_both_of_two_midnights_are_the_same_day():
    twice = np.array(["2024-11-03T04:00", "2024-11-03T05:00"], "datetime64[us]")
    shown = pd.DatetimeIndex(twice).tz_localize("UTC").tz_convert("America/Havana")
    assert [str(stamp.time()) for stamp in shown] == ["00:00:00", "00:00:00"]
    grid = to_grid(twice, parse_frequency("D"), "America/Havana")
    assert grid.tolist() == [datetime(2024, 11, 3), datetime(2024, 11, 3)]


def test_days_that_begin_at_another_hour_keep_it_where_midnight_is_skipped(make_task):
    ds = pd.Series(pd.date_range("2018-10-25 01:00", periods=30, freq="D", tz="America/Sao_Paulo", unit="us"))
    actual = there_and_back(ds, "D", "America/Sao_Paulo", make_task)
    pd.testing.assert_series_equal(actual, ds, check_names=False)


def test_a_day_that_is_off_the_grid_of_midnights_is_refused():
    ds = pd.Series(pd.date_range("2018-10-25", periods=9, freq="D", tz="America/Sao_Paulo", unit="us"))
    ds[5] += pd.Timedelta("1h")
    table = to_table(pd.DataFrame({"unique_id": "a", "ds": ds, "y": 1.0}))
    with pytest.raises(UserError, match=r"'a' at 2018-10-30T01:00:00.* is off the grid"):
        make_panel(table, parse_frequency("D"), "error")


@pytest.mark.parametrize("alias", ["h", "D", "MS", 1])
def test_stamps_without_a_zone_and_integer_steps_stay_as_they_are(alias, make_task):
    freq = parse_frequency(alias)
    ds = np.arange(5) if freq.integer else np.array(["2024-03-31T02:30", "1900-01-01"], "datetime64[us]")
    np.testing.assert_array_equal(to_grid(ds, freq, None), ds)
    actual = stamps(ds, make_task(freq=freq))
    assert actual.type == (pa.int64() if freq.integer else pa.timestamp("us"))
    np.testing.assert_array_equal(actual.to_numpy(), ds)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "+05:30", None])
def test_the_zone_of_a_column_is_that_of_its_type(zone):
    assert zone_of(pa.timestamp("us", zone)) == zone
    assert zone_of(pa.int64()) is None


@pytest.mark.parametrize("alias", ["h", "D"])
def test_a_fixed_offset_is_a_zone_too(alias, make_task):
    ds = pd.Series(pd.date_range("2024-03-30", periods=50, freq=alias, tz="+05:30", unit="us"))
    actual = there_and_back(ds, alias, "+05:30", make_task)
    assert actual.tolist() == ds.tolist()
    assert [one.utcoffset() for one in actual] == [timedelta(hours=5, minutes=30)] * 50


STAMPS = st.lists(
    st.datetimes(datetime(1950, 1, 1), datetime(2035, 1, 1)).map(lambda one: one.replace(microsecond=0)),
    min_size=1,
    max_size=20,
)


@pytest.mark.parametrize("zone", [zone for zone, _ in ZONES])
@settings(deadline=None, max_examples=40)
@given(actual=STAMPS)
def test_local_time_is_that_of_python(zone, actual):
    shown = local_clock(np.array(actual, "datetime64[us]"), zone)
    expected = [one.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for one in actual]
    assert shown.astype("datetime64[us]").tolist() == expected


@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_positions_of_hours_are_those_of_local_time(zone, year, make_task):
    task = make_task(freq=parse_frequency("h"), timezone=zone)
    utc = np.datetime64(f"{year}-01-01T00:00", "us") + np.arange(0, 24 * 366, 5) * np.timedelta64(1, "h")
    actual = cycle_positions(utc, task)
    for row, one in enumerate(utc.tolist()):
        local = pd.Timestamp(one, tz="UTC").tz_convert(zone)
        hour = local.hour + local.minute / 60
        month = local.month - 1 + (local.day - 1) / local.days_in_month
        np.testing.assert_allclose(actual[row], [hour, local.weekday() + hour / 24, month], rtol=1e-6)


def test_positions_of_days_do_not_depend_on_the_zone(make_task):
    grid = np.datetime64("2018-11-01", "us") + np.arange(60) * np.timedelta64(1, "D")
    daily = {zone: make_task(freq=parse_frequency("D"), timezone=zone) for zone in (None, "America/Sao_Paulo")}
    np.testing.assert_array_equal(
        cycle_positions(grid, daily[None]), cycle_positions(grid, daily["America/Sao_Paulo"])
    )
    assert cycle_positions(grid, daily[None])[:, 0].tolist() == [(3 + day) % 7 for day in range(60)]


@pytest.mark.parametrize("alias", ["15min", "h", "D", "W-SUN", "MS", "QS-JAN"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Sao_Paulo", "UTC", "+05:30"])
def test_the_frequency_of_a_table_with_a_zone_is_found(alias, zone):
    ds = pd.date_range("2018-08-01", periods=200, freq=alias, unit="us")
    ds = ds.tz_localize("UTC").tz_convert(zone) if alias in ("15min", "h") else ds.tz_localize(
        zone, nonexistent="shift_forward")  # fmt: skip
    table = to_table(pd.DataFrame({"unique_id": "a", "ds": ds, "y": 1.0}))
    assert sample_frequency(table).name == alias


#: What becomes of the hour that Berlin's clock showed twice, 3 and 4 in a table of local times.
DOUBLED = {"first": 3.0, "last": 4.0, "mean": 3.5, "sum": 7.0}


@pytest.mark.parametrize("duplicates", [*DOUBLED, "error"])
def test_a_doubled_hour_of_local_stamps_without_a_zone_is_a_duplicate_and_a_skipped_one_is_missing(duplicates):
    def table(day: str) -> pa.Table:
        hours = pd.date_range(day, periods=6, freq="h", tz="Europe/Berlin", unit="us").tz_localize(None)
        return to_table(pd.DataFrame({"unique_id": "a", "ds": hours, "y": np.arange(1.0, 7)}))

    spring = make_panel(table("2024-03-31"), parse_frequency("h"), duplicates)
    np.testing.assert_array_equal(spring.y, [1, 2, np.nan, 3, 4, 5, 6])
    autumn = table("2024-10-27")
    if duplicates == "error":
        with pytest.raises(
            UserError, match=r"rows that repeat a time stamp: 1, first unique_id 'a' at 2024-10-27T02:00"
        ):
            make_panel(autumn, parse_frequency("h"), duplicates)
    else:
        actual = make_panel(autumn, parse_frequency("h"), duplicates)
        assert actual.y.tolist() == [1, 2, DOUBLED[duplicates], 5, 6]
