"""Tables with time stamps of every kind: read as they are meant, or refused with the remedy."""

import itertools

import numpy as np
import pandas as pd
import pytest

from dist_lstm.data.manifest import load_manifest
from dist_lstm.data.shards import open_shards
from dist_lstm.errors import UserError
from tests.preparing import prepare

STEPS = 120


def table_of(stamps, name: str = "a", y=None) -> pd.DataFrame:
    y = np.arange(len(stamps)) % 7 if y is None else y
    return pd.DataFrame({"unique_id": name, "ds": stamps, "y": np.asarray(y, float)})


@pytest.fixture
def read(make_config, tmp_path):
    """The manifest of a table, and its series: start and values by name."""

    number = itertools.count()

    def prepare_table(frame, **settings):
        folder = tmp_path / f"shards-{next(number)}"
        prepare(make_config(**settings), folder, frame)
        (panel,) = open_shards(folder).panels()
        ends = zip(panel.offset[:-1], panel.offset[1:], strict=True)
        values = [panel.y[first:last].tolist() for first, last in ends]
        series = dict(zip(panel.unique_id, zip(panel.start, values, strict=True), strict=True))
        return load_manifest(folder), series

    return prepare_table


@pytest.mark.parametrize(
    ("form", "freq", "alias", "kind"),
    [
        *itertools.product(["%Y%m%d"], ["D"], ["D"], [int, str, float]),
        *itertools.product(["%Y%m"], ["MS"], ["MS"], [int, str, float]),
        ("%d/%m/%Y", "D", "D", str),
        ("%m.%d.%y %H:%M", "h", "h", str),
    ],
)
def test_dates_in_a_format_that_is_named_are_time_stamps(kind, form, freq, alias, read):
    stamps = pd.date_range("2023-12-01", periods=STEPS, freq=freq)
    manifest, series = read(table_of(stamps.strftime(form).astype(kind)), data__ds_format=form)
    assert manifest.freq == alias
    assert series["a"][0] == np.datetime64(stamps[0])
    assert manifest.steps == manifest.observed == STEPS


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_times_since_1970_are_time_stamps_in_utc(unit, zone, read):
    days = pd.date_range("2024-03-01", periods=STEPS, tz=zone or "UTC")
    numbers = days.as_unit(unit).astype(np.int64)
    for values in (numbers, numbers.astype(str)):
        manifest, series = read(table_of(values), data__ds_format=unit, data__timezone=zone)
        assert (manifest.freq, manifest.timezone) == ("D", zone or "UTC")
        assert (manifest.steps, series["a"][0]) == (STEPS, np.datetime64("2024-03-01"))


def test_seconds_with_fractions_are_rounded_to_microseconds_and_counted(read):
    seconds = 1.7e9 + np.arange(STEPS) * 60 + 0.25
    manifest, series = read(table_of(seconds), data__ds_format="s")
    assert (manifest.freq, manifest.rounded.get("time stamps", 0)) == ("min", 0)
    assert series["a"][0] == np.datetime64("2023-11-14T22:13:20.250")


@pytest.mark.parametrize(
    ("ds", "form", "message"),
    [
        (["01/13/2024", "01/14/2024"], "%d/%m/%Y", r"row 1 .*: expected a time stamp written as %d/%m/%Y"),
        ([1.5e9, None], "s", r"row 2 .*: expected a number of s since 1970"),
        (["soon", "1"], "ms", r"row 1 .*: expected a number of ms since 1970"),
        ([2**62, 1], "s", "a year from 1000 to 8999"),
        (["2024-01-01", "2024-01-02"], "step", "must hold whole numbers, as data.ds_format is 'step'"),
        ([1.5, 2.5], "step", "must hold whole numbers, as data.ds_format is 'step'"),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), "%Y", "must hold text or whole numbers written as %Y"),
    ],
)
def test_what_is_not_written_in_the_named_format_is_refused(ds, form, message, read):
    with pytest.raises(UserError, match=message):
        read(table_of(ds), data__ds_format=form)


def test_dates_as_whole_numbers_are_refused_also_beside_a_frequency(read):
    days = pd.date_range("2024-01-01", periods=STEPS).strftime("%Y%m%d").astype(int)
    for freq in (None, 1):
        with pytest.raises(
            UserError, match=r"look like dates, 20240101 to 20240429; set data\.ds_format to '%Y%m%d'"
        ):
            read(table_of(days), task__freq=freq)
    assert read(table_of(days), task__freq=1, data__ds_format="step")[0].steps == 329


def test_the_order_of_the_rows_does_not_change_the_frequency(read):
    days = pd.date_range("2024-01-01", periods=60)
    new = [table_of(days[-1:], f"new{number:02d}") for number in range(60)]
    weekly = [table_of(days[:28:7], f"weekly{number:02d}") for number in range(60)]
    daily = [table_of(days, f"old{number}") for number in range(2)]
    for parts in ([*new, *daily], [*daily, *new], [*weekly, *daily], [*daily, *weekly], [*new, *weekly, *daily]):
        manifest, series = read(pd.concat(parts))
        assert manifest.freq == "D"
        assert len(series) == len(parts)


@pytest.mark.parametrize("first", [8, 10, 0, 9])
def test_hours_of_an_office_on_every_day_have_gaps_at_night(first, read):
    stamps = [day + pd.Timedelta(hours=hour) for day in pd.date_range("2024-01-01", periods=30)
              for hour in range(first, first + 8)]  # fmt: skip
    manifest, series = read(table_of(stamps))
    assert (manifest.freq, manifest.observed, manifest.steps) == ("h", 240, 29 * 24 + 8)
    assert "34.1% of the steps have a value" in manifest.summary
    assert [hour for hour, one in enumerate(series["a"][1][:24]) if one == one] == list(range(8))


@pytest.mark.parametrize("freq", ["B", "MS", "ME", "QS", "D", "W-MON"])
def test_series_may_have_different_times_of_day(freq, read):
    stamps = pd.date_range("2014-01-01", periods=60, freq=freq)
    closes = {"NY": pd.Timedelta("16h"), "LSE": pd.Timedelta("16h30min")}
    manifest, series = read(pd.concat([table_of(stamps + time, name) for name, time in closes.items()]))
    assert manifest.steps == manifest.observed == 120
    assert {name: pd.Timestamp(start) for name, (start, _) in series.items()} == {
        name: stamps[0] + time for name, time in closes.items()
    }


def test_months_may_begin_on_the_15th(read):
    stamps = pd.date_range("2014-01-01", periods=60, freq="MS") + pd.Timedelta(days=14)
    manifest, series = read(table_of(stamps))
    assert (manifest.freq, manifest.steps, series["a"][0]) == ("MS", 60, np.datetime64("2014-01-15"))


def test_local_midnights_in_utc_get_the_advice_to_name_their_zone(read):
    midnights = pd.date_range("2024-03-01", periods=STEPS, tz="Europe/Berlin").tz_convert("UTC")
    with pytest.raises(
        UserError, match=r"off the grid.*; they move by an hour.*: set data\.timezone to their zone"
    ):
        read(table_of(midnights), task__freq="D")
    manifest, series = read(table_of(midnights), data__timezone="Europe/Berlin")
    assert (manifest.freq, series["a"][0]) == ("D", np.datetime64("2024-03-01"))


def test_a_day_that_a_zone_skipped_is_a_missing_value(read):
    days = pd.date_range("2011-12-01", "2012-03-30").delete(29).tz_localize("Pacific/Apia")
    manifest, series = read(table_of(days, y=np.ones(len(days))))
    assert (manifest.freq, manifest.timezone) == ("D", "Pacific/Apia")
    assert [number for number, one in enumerate(series["a"][1]) if one != one] == [29]


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Zulu", "+00:00"])
def test_names_of_utc_are_one_zone(zone, read):
    stamps = pd.date_range("2024-01-01", periods=STEPS)
    manifest, _ = read(table_of(stamps.tz_localize("UTC" if zone == "+00:00" else zone)))
    assert manifest.timezone == "UTC"


def test_a_series_ends_at_its_last_observed_value(read):
    days = pd.date_range("2024-01-01", periods=STEPS)
    y = np.arange(STEPS, dtype=float)
    y[5], y[100:] = np.nan, np.nan
    frame = pd.concat([table_of(days, "future", y), table_of(days, "whole"), table_of(days, "none", y * np.nan)])
    manifest, series = read(frame)
    assert {name: len(values) for name, (_, values) in series.items()} == {"future": 100, "whole": STEPS}
    assert manifest.trailing == 20
    assert "20 steps without a value at the ends of series dropped" in manifest.summary
    manifest, series = read(frame, data__trailing="missing")
    assert {name: len(values) for name, (_, values) in series.items()} == {"future": STEPS, "whole": STEPS}
    assert (manifest.trailing, "dropped" in manifest.summary) == (0, False)
