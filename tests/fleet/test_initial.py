"""What the models that a fleet starts from have seen, against what is held out now."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from dist_lstm.config.defaults import resolve
from dist_lstm.config.load import dump_config, parse_config
from dist_lstm.data.shards import Shards
from dist_lstm.errors import UserError
from dist_lstm.fleet.initial import find_overlap, initial_settings, saw_everything
from dist_lstm.fleet.run import run_fleet
from dist_lstm.layout import FleetLayout, RunLayout
from tests.preparing import prepare

NAMES = ("a", "b", "c")


def table(freq: str | int = "D", start: int = 0, end: int | dict[str, int] = 60, zone: str | None = None) -> dict:
    """First and last step of each series on a calendar of that frequency, and the frequency."""
    ends = end if isinstance(end, dict) else dict.fromkeys(NAMES, end)
    return {"freq": freq, "zone": zone, "series": {name: (start, last) for name, last in ends.items()}}


def calendar(freq: str | int, zone: str | None) -> Any:
    return np.arange(200) if freq == 1 else pd.date_range("2024-01-01", periods=200, freq=freq, tz=zone)


def make_shards(folder: Path, described: dict, validation: int, test: int, refit: bool = True) -> Shards:
    """Shards and `config.yaml` of a run on a table."""
    steps = calendar(described["freq"], described["zone"])
    frame = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": steps[first:last], "y": np.arange(first, last, dtype=np.float64)})
        for name, (first, last) in described["series"].items()
    )
    config = parse_config(
        {
            "task": {"horizon": 2, "context_length": 4, "season_length": 2, "freq": described["freq"]},
            "data": {"path": "nowhere.csv"},
            "split": {"validation": validation, "test": test},
            "backtest": {"windows": 1},
            "train": {"refit": refit},
        }
    )
    manifest = prepare(config, RunLayout(folder).shards, frame)
    RunLayout(folder).config.write_text(dump_config(resolve(config, manifest.statistics)))
    return Shards(RunLayout(folder).shards, manifest)


def seen_and_held_out(described: dict, validation: int, test: int) -> dict[str, list[set]]:
    """Slow and obvious: per series, the dates trained on, validated on, and tested on."""
    steps = list(calendar(described["freq"], described["zone"]))
    latest = max(last for _, last in described["series"].values())
    result = {}
    for name, (first, last) in described["series"].items():
        end = last if described["freq"] == 1 else latest
        ranges = range(end - test - validation), range(end - test - validation, end - test), range(end - test, end)
        result[name] = [{steps[step] for step in range(first, last) if step in one} for one in ranges]
    return result


FREQUENCIES = [
    pytest.param({"freq": freq, "zone": zone}, id=f"{freq} {zone}")
    for freq, zone in ((1, None), ("D", None), ("MS", None), ("W-MON", None), ("B", None), ("h", "Europe/Berlin"),
                       ("D", "Europe/Berlin"))
]  # fmt: skip
CASES = {
    "the same": (table(), (6, 4), table(), (6, 4)),
    "grown": (table(), (6, 4), table(end=63), (6, 4)),
    "grown by one step": (table(), (6, 4), table(end=61), (6, 4)),
    "grown and shortened at its start": (table(), (6, 4), table(start=20, end=63), (6, 4)),
    "grown by less than the split": (table(), (6, 4), table(end=63), (8, 8)),
    "grown by as much as the split": (table(), (6, 4), table(end=66), (8, 8)),
    "a longer test range": (table(), (6, 4), table(), (6, 6)),
    "a longer validation range": (table(), (6, 4), table(), (8, 4)),
    "validated on what is tested on now": (table(), (6, 4), table(), (4, 6)),
    "nothing was held out": (table(), (0, 0), table(end=63), (6, 4)),
    "nothing was held out, and many steps are new": (table(), (0, 0), table(end=70), (6, 4)),
    "nothing is held out": (table(), (6, 4), table(end=50), (0, 0)),
    "nothing is tested on": (table(), (6, 4), table(), (10, 0)),
    "one series lost steps": (table(), (6, 4), table(end={"a": 60, "b": 57, "c": 61}), (6, 4)),
    "a series is new": (table(end={"a": 60, "b": 60}), (6, 4), table(end={"a": 60, "new": 30}), (6, 4)),
    "no series is the same": (table(end={"x": 60}), (0, 0), table(end={"a": 60}), (6, 4)),
    "a series was too short to be trained on": (table(end={"a": 60, "b": 9}), (6, 4), table(), (6, 4)),
    "a series is too short to be trained on": (table(), (6, 4), table(end={"a": 60, "b": 9}), (6, 4)),
}


#: The answers for the series of a case, if not that none overlaps: so that the oracle is known to find some.
ANSWERS = {
    "grown by less than the split": {True},
    "a longer test range": {True},
    "a longer validation range": {True},
    "validated on what is tested on now": {True},
    "nothing was held out": {True},
    "one series lost steps": {False, True},
    "a series is too short to be trained on": {False, True},
}
#: By calendar, series that end early have nothing held out, and what one model saw in any series counts.
BY_CALENDAR = {
    "one series lost steps": {False},
    "a series is too short to be trained on": {False},
    "no series is the same": {True},
}


@pytest.mark.parametrize("kind", FREQUENCIES)
@pytest.mark.parametrize("case", CASES)
def test_series_overlap_where_a_date_that_was_used_is_held_out_now(tmp_path, case, kind):
    before, old_split, after, new_split = CASES[case]
    before, after = before | kind, after | kind
    make_shards(tmp_path / "old", before, *old_split)
    RunLayout(tmp_path / "old").backtest_model.touch()
    shards = make_shards(tmp_path / "new", after, *new_split)
    old, new = seen_and_held_out(before, *old_split), seen_and_held_out(after, *new_split)
    if kind["freq"] != 1:
        of_all = [set().union(*parts) for parts in zip(*old.values(), strict=True)]
        old = dict.fromkeys(new, of_all)
    nothing = [set(), set(), set()]
    expected = {
        name: bool(
            # The last steps of a table that lost some are held out as well.
            {date for date in old.get(name, nothing)[0] if (later := validated | tested) and date >= min(later)}
            or {date for part in old.get(name, nothing)[:2] for date in part if tested and date >= min(tested)}
        )
        for name, (_, validated, tested) in new.items()
    }
    overlap = find_overlap(tmp_path / "old", shards, parse_split(*new_split))
    assert dict(zip(sorted(new), overlap.series.tolist(), strict=True)) == expected
    assert bool(overlap.example) == any(expected.values())
    answers = ANSWERS if kind["freq"] == 1 else ANSWERS | BY_CALENDAR
    assert set(expected.values()) == answers.get(case, {False})


def parse_split(validation: int, test: int) -> Any:
    values = {"task": {"horizon": 1}, "data": {"path": "x"}, "split": {"validation": validation, "test": test}}
    return parse_config(values).split


@pytest.mark.parametrize(
    ("refit", "file", "members", "overlaps"),
    [
        (True, True, False, False),
        (True, False, False, True),  # the only model is the one that was trained on whole series
        (False, False, False, False),  # the only model never saw the test range
        (True, False, True, False),  # the table of a fleet's models has both
    ],
)
def test_a_run_without_the_model_from_before_the_refit_saw_everything(tmp_path, refit, file, members, overlaps):
    make_shards(tmp_path / "old", table(), 6, 4, refit=refit)
    if file:
        RunLayout(tmp_path / "old").backtest_model.touch()
    if members:
        FleetLayout(tmp_path / "old").models.mkdir()
        (FleetLayout(tmp_path / "old").models / "part-00000.parquet").touch()
    assert saw_everything(tmp_path / "old") == (refit and not file)
    shards = make_shards(tmp_path / "new", table(end=61), 6, 4)
    assert find_overlap(tmp_path / "old", shards, parse_split(6, 4)).series.tolist() == [overlaps] * 3


@pytest.mark.parametrize(
    ("described", "example"),
    [
        (table(), "'a': seen until 2024-02-19, held out from 2024-02-14"),
        (table(freq=1), "'a': seen until 49, held out from 44"),
        (
            table(freq="h", zone="Europe/Berlin"),
            "'a': seen until 2024-01-03 UTC, held out from 2024-01-02 19:00:00 UTC",
        ),
    ],
)
def test_the_example_names_series_and_dates(tmp_path, described, example):
    make_shards(tmp_path / "old", described, 6, 4)
    RunLayout(tmp_path / "old").backtest_model.touch()
    shards = make_shards(tmp_path / "new", described, 10, 6)
    assert find_overlap(tmp_path / "old", shards, parse_split(10, 6)).example == example


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (table(freq=1), table(), "are whole numbers, those here dates, so"),
        (table(zone="Europe/Berlin"), table(), "are dates in the time zone Europe/Berlin, those here dates, so"),
        (
            table(zone="Asia/Tokyo"),
            table(zone="Europe/Berlin"),
            "zone Asia/Tokyo, those here dates in the time zone",
        ),
    ],
)
def test_time_stamps_that_cannot_be_compared_are_refused(tmp_path, old, new, message):
    make_shards(tmp_path / "old", old, 6, 4)
    shards = make_shards(tmp_path / "new", new, 6, 4)
    with pytest.raises(UserError, match=f"^fleet.init_from: .*{message}.*; give a run"):
        find_overlap(tmp_path / "old", shards, parse_split(6, 4))


def test_a_directory_without_shards_is_refused(tmp_path):
    shards = make_shards(tmp_path / "new", table(), 6, 4)
    with pytest.raises(UserError, match=r"^fleet\.init_from: .*has no shards/, .*; give the whole directory"):
        find_overlap(tmp_path, shards, parse_split(6, 4))


def test_a_fleet_that_is_to_combine_is_refused_before_anything_is_written(tmp_path):
    values = {"task": {"horizon": 2}, "data": {"path": "nowhere.csv"}, "combine": ["Theta"]}
    with pytest.raises(UserError, match="combine: a fleet selects one model per series"):
        run_fleet(parse_config(values), tmp_path / "out", Console())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["run", "fleet"])
def test_no_setting_that_version_0_1_0_did_not_have_is_derived_anew_for_the_models_that_start_from_its(kind):
    folder = Path(__file__).parent.parent / "compatibility" / "0.1.0" / kind
    actual = initial_settings(folder)
    assert [key for key, value in actual.items() if value is None] == []
    assert (actual["model.statistics"], actual["model.loss_unit"]) == (False, "scale")
