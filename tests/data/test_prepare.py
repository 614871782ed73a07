"""A table to a folder of shards: nothing lost, nothing half, nothing overwritten."""

import errno

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dist_lstm.config.defaults import resolve
from dist_lstm.config.schema import DataSettings
from dist_lstm.config.yaml import parse_yaml
from dist_lstm.data import partition, shards
from dist_lstm.data import prepare as module
from dist_lstm.data.manifest import load_manifest
from dist_lstm.data.panel import Panel
from dist_lstm.data.ranges import split_sentence
from dist_lstm.data.shards import Shards, open_shards
from dist_lstm.errors import UserError
from dist_lstm.storage import MARKER, is_marked
from tests.conftest import ROOT
from tests.preparing import prepare


def read_back(folder) -> dict[str, tuple[object, list[float | None]]]:
    """Start and values of every series in a folder of shards."""
    actual = {}
    for _, panels in open_shards(folder).panels_by_file():
        for panel in panels:
            actual |= one_by_one(panel)
    return actual


def one_by_one(panel: Panel) -> dict[str, tuple[object, list[float | None]]]:
    values = [None if np.isnan(one) else float(one) for one in panel.y]
    return {
        str(name): (panel.start[number], values[panel.offset[number] : panel.offset[number + 1]])
        for number, name in enumerate(panel.unique_id)
    }


def table(folder) -> pd.DataFrame:
    """All rows of the shards, by name."""
    files = [pq.read_table(folder / shard.file) for shard in load_manifest(folder).shards]
    return pa.concat_tables(files).to_pandas().set_index("unique_id")


def rejected(folder) -> list[dict]:
    return pq.read_table(folder / "rejected.parquet").to_pylist()


@pytest.fixture
def messy(make_frame) -> pd.DataFrame:
    """Usable, constant, gappy, short and unobserved series, rows mixed, some rows left out."""
    generator = np.random.default_rng(0)
    frame = make_frame(
        usual=generator.normal(size=30).round(3),
        constant=np.full(30, 5.0),
        gaps=np.where(np.arange(30) % 4 == 1, np.nan, np.arange(30)),
        one=[1.0],
        none=np.full(7, np.nan),
        alone=[np.nan],
        edges=[np.nan] * 20 + [3.0] + [np.nan] * 4,
    )
    missing = (frame["unique_id"] == "gaps") & frame["ds"].isin([8, 9, 10])
    return frame[~missing].sample(frac=1, random_state=1)


def test_shards_hold_every_series_that_has_a_value_and_the_rest_is_rejected(messy, make_config, tmp_path):
    manifest = prepare(make_config(), tmp_path / "shards", messy)
    actual = read_back(tmp_path / "shards")
    names = [row["unique_id"] for row in rejected(tmp_path / "shards")]
    assert sorted([*actual, *names]) == sorted(messy["unique_id"].unique())
    assert sorted(names) == ["alone", "none"]
    assert manifest.series == len(actual) == 5
    assert manifest.rejected == len(names) == 2
    for name, rows in messy.groupby("unique_id"):
        if name in actual:
            last = rows.loc[rows["y"].notna(), "ds"].max()
            values = rows.set_index("ds")["y"].reindex(range(rows["ds"].min(), last + 1))
            expected = [None if np.isnan(one) else float(one) for one in values]
            assert actual[name] == (rows["ds"].min(), expected)


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        ([1.0, 2.5, np.nan, -(2.0**24)], "float32"),
        ([1.0, 0.1, 2.0], "float64"),
        ([2.0**24, 2.0**24 + 1], "float64"),
        ([1e9, 1e9 + 1, 1e9 + 2], "float64"),
    ],
)
def test_shards_hold_the_values_of_the_table_as_they_are(y, kind, make_config, make_frame, tmp_path):
    frame = make_frame(exact=list(range(30)), other=[*range(30), *y])
    manifest = prepare(make_config(), tmp_path / "shards", frame)
    assert manifest.value_type == kind
    panels = list(open_shards(tmp_path / "shards").panels())
    assert {str(panel.y.dtype) for panel in panels} == {kind}
    expected = [None if np.isnan(one) else one for one in y]
    assert read_back(tmp_path / "shards")["other"][1][30:] == expected


def test_the_manifest_counts_values_that_are_rounded_and_its_summary_says_so(make_config, tmp_path):
    whole = 2**53 + np.arange(40)
    ds = pd.to_datetime(np.arange(40) * 1_000_000_001, unit="ns")
    frame = pd.DataFrame({"unique_id": "a", "ds": ds.floor("s") + pd.Timedelta("1ns"), "y": whole})
    manifest = prepare(make_config(), tmp_path / "shards", frame)
    assert manifest.rounded == {"numbers": 20, "time stamps": 40}
    assert manifest.summary.endswith(", 40 time stamps rounded, 20 numbers rounded")


def test_rejected_series_are_listed_with_their_length_and_the_reason(messy, make_config, tmp_path):
    prepare(make_config(), tmp_path / "shards", messy)
    assert sorted(rejected(tmp_path / "shards"), key=lambda row: row["unique_id"]) == [
        {"unique_id": "alone", "steps": 1, "reason": "no observed value"},
        {"unique_id": "none", "steps": 7, "reason": "no observed value"},
    ]


def test_the_list_of_rejected_series_exists_and_is_empty_when_all_can_be_used(make_frame, make_config, tmp_path):
    prepare(make_config(), tmp_path / "shards", make_frame(a=np.arange(30.0)))
    assert rejected(tmp_path / "shards") == []


def test_the_manifest_counts_what_the_shards_hold(messy, make_config, tmp_path):
    manifest = prepare(make_config(), tmp_path / "shards", messy)
    values = [values for _, values in read_back(tmp_path / "shards").values()]
    lengths = [len(one) for one in values]
    assert manifest == load_manifest(tmp_path / "shards")
    assert manifest.freq == 1
    assert manifest.steps == sum(lengths)
    assert manifest.observed == sum(value is not None for one in values for value in one)
    assert (manifest.shortest, manifest.longest) == (min(lengths), max(lengths)) == (1, 30)
    assert manifest.median == np.median(lengths)


def test_statistics_are_those_of_the_training_range_alone(messy, make_config, tmp_path):
    prepare(make_config(), tmp_path / "shards", messy)
    facts = table(tmp_path / "shards")
    for name, (_, values) in read_back(tmp_path / "shards").items():
        train = np.array(values[: max(len(values) - 12, 0)], float)
        seen = train[~np.isnan(train)]
        expected = (
            [seen.mean(), seen.std(), seen.min(), seen.max(), np.median(seen)] if len(seen) else [np.nan] * 5
        )
        np.testing.assert_allclose(
            facts.loc[name, ["mean", "std", "min", "max", "median"]].astype(float), expected
        )


def test_a_constant_series_is_kept_with_no_spread(messy, make_config, tmp_path):
    prepare(make_config(), tmp_path / "shards", messy)
    facts = table(tmp_path / "shards").loc["constant"]
    assert facts["mean"] == 5
    assert facts["std"] == facts["iqr"] == facts["seasonal_difference"] == 0


def test_series_shorter_than_the_ranges_kept_are_in_the_shards_without_statistics(messy, make_config, tmp_path):
    prepare(make_config(), tmp_path / "shards", messy)
    facts = table(tmp_path / "shards")
    assert facts.loc["one", "length"] == 1
    assert facts.loc["one", ["mean", "std", "min", "seasonal_difference"]].isna().all()


@pytest.mark.parametrize("budget", [8, 1024])
def test_any_memory_budget_and_size_of_files_give_the_same_series(
    budget, messy, make_config, tmp_path, monkeypatch
):
    prepare(make_config(), tmp_path / "usual", messy)
    monkeypatch.setattr(partition, "MIB", 1 << 10)
    monkeypatch.setattr(shards, "GROUP_STEPS", 40)
    monkeypatch.setattr(shards, "SHARD_STEPS", 50)
    repeated = pd.concat([messy.assign(unique_id=messy["unique_id"] + f"-{copy}") for copy in range(20)])
    manifest = prepare(make_config(data__memory_budget=budget), tmp_path / "cut", repeated)
    assert len(manifest.shards) > 5
    actual, usual = read_back(tmp_path / "cut"), read_back(tmp_path / "usual")
    assert actual == {f"{name}-{copy}": values for name, values in usual.items() for copy in range(20)}
    facts, before = table(tmp_path / "cut"), table(tmp_path / "usual")
    # The one thing that depends on the order of the series.
    assert facts.pop("series").tolist() == list(range(1, 101))
    assert before.pop("series").tolist() == list(range(1, 6))
    for name in usual:
        pd.testing.assert_series_equal(facts.loc[f"{name}-7"], before.loc[name], check_names=False)
    assert len(rejected(tmp_path / "cut")) == manifest.rejected == 40
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {
        MARKER, "manifest.json", "rejected.parquet", *(shard.file for shard in manifest.shards)
    }  # fmt: skip


@pytest.mark.parametrize("freq", ["h", None])
def test_time_stamps_and_their_frequency_reach_the_shards(freq, make_frame, make_config, tmp_path):
    frame = make_frame(a=np.arange(40.0), b=np.arange(30.0))
    frame["ds"] = pd.Timestamp("2024-02-28") + pd.to_timedelta(frame["ds"], "h")
    frame.drop(index=[5, 6, 50]).to_csv(tmp_path / "t.csv", index=False)
    manifest = prepare(make_config(tmp_path / "t.csv", task__freq=freq), tmp_path / "shards")
    assert manifest.freq == "h"
    actual = read_back(tmp_path / "shards")
    assert actual["a"] == (
        np.datetime64("2024-02-28T00", "us"),
        [None if n in (5, 6) else float(n) for n in range(40)],
    )
    assert actual["b"][1][10] is None


def test_duplicates_are_merged_as_the_config_says(make_frame, make_config, tmp_path):
    frame = pd.concat([make_frame(a=np.arange(30.0)), make_frame(a=[10.0])])
    with pytest.raises(UserError, match="rows that repeat a time stamp: 1"):
        prepare(make_config(), tmp_path / "shards", frame)
    for duplicates, expected in (("first", 0.0), ("last", 10.0), ("mean", 5.0), ("sum", 10.0)):
        prepare(make_config(data__duplicates=duplicates), tmp_path / duplicates, frame)
        assert read_back(tmp_path / duplicates)["a"][1][0] == expected


def snapshot(folder) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture
def csv(messy, tmp_path):
    messy.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_a_second_call_finds_the_shards_and_writes_nothing(csv, make_config, tmp_path):
    manifest = prepare(make_config(csv), tmp_path / "shards")
    before = snapshot(tmp_path / "shards")
    assert prepare(make_config(csv), tmp_path / "shards") == manifest
    assert snapshot(tmp_path / "shards") == before


def test_a_second_call_does_not_read_the_table(csv, make_config, tmp_path, monkeypatch):
    manifest = prepare(make_config(csv), tmp_path / "shards")
    monkeypatch.setattr(module, "read", None)
    assert prepare(make_config(csv), tmp_path / "shards") == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"task__context_length": 9},
        {"task__min_context": 3},
        {"model__units": [3]},
        {"model__series_embedding": 3},
        {"model__calendar": True},
        {"model__scaling_by": "series"},
        {"train__window_sampling": "recent"},
        {"train__seed": 7},
        {"data__memory_budget": 7},
        {"task__freq": 1},
        {"task__levels": []},
    ],
    ids=str,
)
def test_settings_that_shards_do_not_depend_on_find_them(change, csv, make_config, tmp_path):
    manifest = prepare(make_config(csv), tmp_path / "shards")
    assert prepare(make_config(csv, **change), tmp_path / "shards") == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"split__validation": 5},
        {"split__test": 7},
        {"task__season_length": 3},
        {"task__freq": 2},
        {"data__duplicates": "last"},
        {"data__columns": {"y": ["y"]}},
        {"data__static_numbers": ["x"]},
        {"data__transform": "none"},
        {"data__missing_values": ["-"]},
        {"data__thousands": "space"},
        {"data__csv": {"comment": "#"}},
    ],
    ids=str,
)
def test_settings_that_shards_depend_on_are_refused_and_leave_them_unchanged(change, csv, make_config, tmp_path):
    prepare(make_config(csv), tmp_path / "shards")
    before = snapshot(tmp_path / "shards")
    with pytest.raises(UserError, match=r"holds shards of another table or split.*choose another --out"):
        prepare(make_config(csv, **change), tmp_path / "shards")
    assert snapshot(tmp_path / "shards") == before


def test_settings_that_version_0_1_0_did_not_have_count_only_where_they_are_set():
    run = ROOT / "tests" / "compatibility" / "0.1.0" / "run" / "config.yaml"
    data = DataSettings(path="t.csv").model_dump()
    added = set(data) - set(parse_yaml(run.read_text(), "")["data"])
    assert {key: data[key] for key in added} == module._ADDED


def test_a_table_that_changed_is_refused(csv, messy, make_config, tmp_path):
    prepare(make_config(csv), tmp_path / "shards")
    before = snapshot(tmp_path / "shards")
    messy.assign(y=messy["y"] + 1).to_csv(csv, index=False)
    with pytest.raises(UserError, match="or the table changed since"):
        prepare(make_config(csv), tmp_path / "shards")
    assert snapshot(tmp_path / "shards") == before


def test_a_dataframe_that_changed_is_refused(messy, make_config, tmp_path):
    manifest = prepare(make_config(), tmp_path / "shards", messy)
    assert prepare(make_config(), tmp_path / "shards", messy.copy()) == manifest
    with pytest.raises(UserError, match="or the table changed since"):
        prepare(make_config(), tmp_path / "shards", messy.assign(y=messy["y"] + 1))


FULL = OSError(errno.ENOSPC, "broken disk")


@pytest.mark.parametrize(
    "fault", [RuntimeError("broken"), KeyboardInterrupt("broken"), FULL, MemoryError("broken")]
)
@pytest.mark.parametrize("position", ["_write_panels", "_write_shards", "save_manifest", "mark"])
def test_a_failure_in_the_middle_leaves_nothing(position, fault, messy, make_config, tmp_path, monkeypatch):
    work = getattr(module, position)

    def break_down(*args):
        work(*args)
        raise fault

    monkeypatch.setattr(module, position, break_down)
    with pytest.raises(UserError if fault is FULL else type(fault), match="broken"):
        prepare(make_config(), tmp_path / "shards", messy)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_row_late_in_the_table_leaves_nothing(messy, make_config, tmp_path):
    messy.astype({"y": str}).assign(y=[*["1"] * (len(messy) - 1), "x"]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=r"expected a number, got 'x'"):
        prepare(make_config(tmp_path / "t.csv"), tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_folder_with_other_files_is_refused_and_left_unchanged(messy, make_config, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds other files.*choose another --out"):
        prepare(make_config(), folder, messy)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_filled(messy, make_config, tmp_path):
    (tmp_path / "shards").mkdir()
    prepare(make_config(), tmp_path / "shards", messy)
    assert is_marked(tmp_path / "shards")


def test_all_series_too_short_is_refused_saying_how_many_steps_are_needed(make_frame, make_config, tmp_path):
    frame = make_frame(a=np.arange(16.0), b=np.arange(9.0))
    with pytest.raises(UserError, match=r"all 2 series are too short: the longest has 16 steps, 17 are needed"):
        prepare(make_config(), tmp_path / "shards", frame)
    assert not (tmp_path / "shards").exists()
    assert prepare(make_config(), tmp_path / "shards", make_frame(a=np.arange(17.0))).longest == 17


def test_series_too_short_to_train_on_are_prepared_when_they_are_only_forecast(make_frame, make_config, tmp_path):
    longer = make_frame(a=np.arange(17.0))
    trained = Shards(tmp_path / "trained", prepare(make_config(), tmp_path / "trained", longer))
    later = make_frame(a=[1.0], b=[2.0])
    assert prepare(make_config(), tmp_path / "later", later, trained).longest == 1


@pytest.mark.parametrize("content", ["unique_id,ds,y\n", "unique_id,ds,y\na,1,\nb,1,\n"])
def test_a_table_without_rows_or_without_values_is_refused(content, make_config, tmp_path):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=r"has no rows|none of its 2 series has an observed value"):
        prepare(make_config(tmp_path / "t.csv"), tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def dated(make_frame, ends: dict[str, str], **series) -> pd.DataFrame:
    """Daily series that end on the given dates."""
    frame = make_frame(**series)
    dates = [pd.date_range(end=ends[name], periods=len(values), unit="us") for name, values in series.items()]
    return frame.assign(ds=np.concatenate(dates))


def test_the_last_date_of_all_series_and_the_steps_to_it_are_kept(make_frame, make_config, tmp_path):
    ends = {"a": "2024-06-30", "b": "2024-06-28", "c": "2024-06-20"}
    frame = dated(make_frame, ends, a=np.arange(40.0), b=np.arange(30.0), c=np.arange(35.0))
    manifest = prepare(make_config(), tmp_path / "shards", frame)
    assert (manifest.last, manifest.ended) == ("2024-06-30T00:00:00.000000", 1)
    [group] = Shards(tmp_path / "shards", manifest).row_groups()
    assert (group.length.tolist(), group.lag.tolist()) == ([40, 30, 35], [0, 2, 10])
    task = manifest.make_task(resolve(make_config(), manifest.statistics))
    assert split_sentence(manifest, task) == (
        "by calendar: validation from 2024-06-19, test from 2024-06-25, to 2024-06-30; 1 of 3 series end before "
        "the test range, and are not scored"
    )


@pytest.mark.parametrize("shared", [False, True])
def test_series_share_whole_numbers_only_where_a_setting_says_so(make_frame, make_config, tmp_path, shared):
    frame = make_frame(a=np.arange(40.0), b=np.arange(30.0))
    config = make_config(data__shared_steps=shared)
    manifest = prepare(config, tmp_path / "shards", frame)
    assert manifest.last == (39 if shared else None)
    [group] = Shards(tmp_path / "shards", manifest).row_groups()
    assert group.lag.tolist() == [0, 10 if shared else 0]
    sentence = split_sentence(manifest, manifest.make_task(resolve(config, manifest.statistics)))
    expected = "by calendar: validation from 28, test from 34, to 39; 1 of 2 series end before the test range"
    own = "at the end of each series: 6 steps of validation, then 6 steps of test"
    assert sentence.startswith(expected if shared else own)


def test_a_series_that_ends_long_after_the_others_is_named(make_frame, make_config, tmp_path, caplog):
    ends = {"a": "2024-06-30", "b": "2024-06-30", "late": "2034-06-30"}
    values = {"a": np.arange(40.0), "b": np.arange(40.0)}
    with pytest.raises(UserError) as caught:
        prepare(make_config(), tmp_path / "few", dated(make_frame, ends, **values, late=np.arange(3.0)))
    assert str(caught.value) == (
        "data.path: no series has validation windows: the split is by calendar: validation from "
        "2034-06-19, test from 2034-06-25, to 2034-06-30 (task.min_context 2 + task.horizon 3 + "
        "split.validation 6 + split.test 6); lower one of these; or correct or drop a series: 2034-06-30, the "
        "last of all series, is that of unique_id 'late'"
    )
    prepare(make_config(), tmp_path / "many", dated(make_frame, ends, **values, late=np.arange(30.0)))
    assert caplog.messages == [
        "only 1 of 3 series reach into the test range, which begins at 2034-06-25: 2034-06-30, the last of all "
        "series, is that of unique_id 'late'"
    ]
