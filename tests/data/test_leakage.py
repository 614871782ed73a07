"""No statistic, no transform and no window of a range sees a value after its cutoff.

Every value after the cutoff is changed and everything is compared byte for byte. So that this can fail,
one value before the cutoff is changed too, and must show. One thing may be learnt from later values: whether
any is negative, for a log of it has to exist.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dist_lstm.config.defaults import resolve
from dist_lstm.config.task import input_spec
from dist_lstm.data import stationarity
from dist_lstm.data.sampling import SamplingConfig, TrainingWindows
from dist_lstm.data.shards import Shards
from dist_lstm.data.stream import validation_windows
from dist_lstm.data.windows import WindowCutter
from tests.preparing import prepare

#: Too short for a training range; just long enough; longer. Validation and test have 6 steps each. The last
#: four are long enough to be tested for a transform; most of them grow and need a log.
LENGTHS = {"a": 9, "b": 17, "c": 18, "d": 31, "e": 50, "f": 70, "g": 90}
EVIDENCE = ["adf", "kpss", "seasonal_strength", "spread"]
STATISTICS = ["mean", "std", "min", "max", "median", "iqr", "mean_abs", "seasonal_difference"]

#: No value becomes negative.
CHANGES = {
    "other values": lambda y: np.where(np.isnan(y), 5.0, -7 * y + 1e6),
    "huge values": lambda y: np.full_like(y, 3e38),
    "no values": lambda y: np.full_like(y, np.nan),
    "slightly other values": lambda y: y + 0.001,
}
#: What of `a` is in the shards whatever else: its one value after the cutoff.
KEPT = 1.0


@pytest.fixture
def series() -> dict[str, np.ndarray]:
    """Series with gaps, in the training range and after it, none of them negative."""
    generator = np.random.default_rng(7)
    values = {name: generator.normal(10, 3, length).clip(0.1) for name, length in LENGTHS.items()}
    values["d"][[4, 12, 20, 27]] = np.nan
    for name in "efg":
        values[name] = np.exp(np.arange(LENGTHS[name]) / 10 + 0.05 * values[name])
    return values


@pytest.fixture
def prepared(tmp_path, make_frame, make_config):
    """Prepare series; gives facts, training windows and validation windows, all as bytes."""
    number = iter(range(1000))

    def run(series: dict[str, np.ndarray], transform: str = "auto", dated: bool = False) -> dict[str, bytes]:
        # Missing values at the end stay in the test range; dropped, they would move it.
        data = {"data__transform": transform, "data__trailing": "missing"}
        config = make_config(**data, model__scaling_by="series", model__series_embedding=1)
        folder = tmp_path / str(next(number))
        frame = make_frame(**series)
        if dated:
            frame["ds"] = np.concatenate([dates(name) for name in series])
        manifest = prepare(config, folder, frame)
        task = manifest.make_task(resolve(config, manifest.statistics))
        rows = pa.concat_tables([pq.read_table(folder / shard.file) for shard in manifest.shards]).to_pandas()
        assert rows["unique_id"].tolist() == sorted(series)
        everything = {
            "statistics": rows[STATISTICS].to_numpy(np.float64).tobytes(),
            "evidence": rows[EVIDENCE].to_numpy(np.float64).tobytes(),
            "transforms": " ".join(rows["transform"]).encode(),
            "manifest": str((manifest.transforms, manifest.tested)).encode(),
        }
        # Nothing was left out of the comparison.
        own = ["unique_id", "start", "length", "y", "series", "transform", *(["lag"] if dated else [])]
        assert sorted(rows.columns) == sorted([*own, *STATISTICS, *EVIDENCE])
        for order in ("series", "windows", "recent"):
            for whole in (False, True):
                sampling = SamplingConfig(1, 1500, order, stride=1, seed=1, whole=whole, memory_budget=64)
                windows = TrainingWindows(Shards(folder, manifest), task, sampling)
                assert windows.windows < 1500  # so that `windows` draws each of them
                blocks = [block for epoch in range(2) for block in windows.blocks(epoch)]
                assert {*blocks[0]} == {"window", *input_spec(task)} - {"y"}
                drawn = b"".join(values.tobytes() for block in blocks for values in block.values())
                everything[f"{order} {'whole' if whole else 'train'}"] = drawn
        actual = validation_windows(Shards(folder, manifest), task, batch_size=4, seed=1, steps_per_epoch=1)
        assert actual.used == (DATED_WINDOWS if dated else 4 * 6)
        inputs = b"".join(values.tobytes() for values in actual.inputs.values())
        everything["validation"] = inputs + actual.target.tobytes()
        return everything

    return run


#: Days from the end of a series to the last date of all: some end in the test range, some before.
LAGS = {"a": 0, "b": 1, "c": 5, "d": 6, "e": 8, "f": 20, "g": 0}
LAST = np.datetime64("2024-06-30", "us")
#: The cutoffs of the validation range are 9 to 12 days before the last date: `a` has no context there, `f` ended.
DATED_WINDOWS = 0 + 4 + 4 + 4 + 4 + 0 + 4


def dates(name: str) -> np.ndarray:
    """The dates of a series."""
    return LAST - (np.arange(LENGTHS[name])[::-1] + LAGS[name]) * np.timedelta64(1, "D")


FACTS = ["statistics", "evidence", "transforms", "manifest"]
TRAIN = ["series train", "windows train", "recent train"]
REFIT = ["series whole", "windows whole", "recent whole"]


def changed_after(series: dict[str, np.ndarray], kept: int, change) -> dict[str, np.ndarray]:
    """Change every value but those before the last `kept` steps of each series."""
    result = {}
    for name, values in series.items():
        end = max(len(values) - kept, 0)
        result[name] = np.concatenate([values[:end], change(values[end:])])
    # A series needs one value to be in the shards at all.
    result["a"][-1] = KEPT
    return result


def changed_at(series: dict[str, np.ndarray], name: str, step: int) -> dict[str, np.ndarray]:
    """Change one value."""
    values = series[name].copy()
    values[step] += 1000
    assert not np.isnan(values[step])
    return series | {name: values}


def differing(left: dict[str, bytes], right: dict[str, bytes]) -> list[str]:
    return sorted(key for key in left if left[key] != right[key])


def test_the_transform_is_one_that_tests_decided_for(series, prepared):
    """It must not change; so it is not the one that series get where nothing is tested."""
    chosen = prepared(series)["transforms"].decode().split()
    assert set(chosen) == {chosen[0]}
    assert chosen[0].startswith("log1p")


@pytest.mark.parametrize("transform", ["auto", "none", "log1p", "seasonal_difference"])
@pytest.mark.parametrize("change", list(CHANGES))
def test_no_fact_and_no_training_window_sees_a_value_after_the_train_cutoff(change, transform, series, prepared):
    changed = prepared(changed_after(series, 12, CHANGES[change]), transform)
    assert differing(prepared(series, transform), changed) == sorted([*REFIT, "validation"])


@pytest.mark.parametrize("change", list(CHANGES))
def test_no_transform_of_untested_series_sees_a_value_after_the_train_cutoff(
    change, series, prepared, monkeypatch
):
    """A sample decides for all."""
    monkeypatch.setattr(stationarity, "LIMIT", 3)
    before = prepared(series)
    tested = ~np.isnan(np.frombuffer(before["evidence"])).reshape(-1, 4)[:, 1]
    assert 0 < tested.sum() < 4
    changed = prepared(changed_after(series, 12, CHANGES[change]))
    assert differing(before, changed) == sorted([*REFIT, "validation"])


@pytest.mark.parametrize("change", list(CHANGES))
def test_no_validation_window_sees_a_value_after_the_validation_cutoff(change, series, prepared):
    changed = prepared(changed_after(series, 6, CHANGES[change]))
    assert differing(prepared(series), changed) == sorted(REFIT)


@pytest.mark.parametrize("name", list(LENGTHS))
def test_no_window_of_any_single_series_sees_its_later_values(name, series, prepared):
    before = prepared(series)
    end = max(LENGTHS[name] - 12, 0)
    alone = series | {name: np.concatenate([series[name][:end], np.arange(LENGTHS[name] - end) * 100.0])}
    actual = differing(before, prepared(alone))
    assert not set(actual) & {*FACTS, *TRAIN}
    assert set(actual) >= set(REFIT)


@pytest.mark.parametrize("name", list(LENGTHS))
@pytest.mark.parametrize("back", [12, 7, 6, 1])
def test_a_negative_value_after_the_train_cutoff_costs_a_series_its_log_and_nothing_else(
    name, back, series, prepared
):
    values = series[name].copy()
    values[-min(back, len(values))] = -5.0
    before, after = prepared(series), prepared(series | {name: values})
    expected = before["transforms"].decode().split()
    position = list(LENGTHS).index(name)
    expected[position] = expected[position].removeprefix("log1p").removeprefix("_") or "none"
    assert after["transforms"].decode().split() == expected
    assert before["evidence"] == after["evidence"]


LONG = [name for name, length in LENGTHS.items() if length >= 17]


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("step", ["first", "last"])
def test_one_value_before_the_train_cutoff_changes_statistics_and_training_windows(name, step, series, prepared):
    """The positive control: without it, the tests above could pass by looking at nothing."""
    at = 0 if step == "first" else LENGTHS[name] - 12 - 1
    actual = set(differing(prepared(series), prepared(changed_at(series, name, at))))
    assert actual >= {"statistics", *TRAIN, *REFIT}
    assert ("evidence" in actual) == (LENGTHS[name] - 12 >= 10)


def test_values_before_the_train_cutoff_change_transforms(series, prepared):
    """The positive control of transforms."""
    others = {name: np.r_[np.arange(len(y) - 12.0), y[-12:]] for name, y in series.items() if name in "efg"}
    assert {"transforms", "manifest"} <= {*differing(prepared(series), prepared(series | others))}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("back", [12, 7])
def test_one_value_of_the_validation_range_changes_validation_windows_alone(name, back, series, prepared):
    actual = differing(prepared(series), prepared(changed_at(series, name, LENGTHS[name] - back)))
    assert actual == sorted([*REFIT, "validation"])


@pytest.mark.parametrize("name", list(LENGTHS))
@pytest.mark.parametrize("back", [6, 1])
def test_one_value_of_the_test_range_changes_only_what_is_trained_on_whole_series(name, back, series, prepared):
    actual = differing(prepared(series), prepared(changed_at(series, name, LENGTHS[name] - back)))
    assert actual == sorted(REFIT)


def test_a_context_holds_no_value_at_or_after_its_cutoff_and_a_target_none_beyond_its_horizon(
    series, make_panel_of, make_task
):
    """Whatever the cutoff: training, validation, backtest and forecast cut with the same cutter."""
    values = [one for one in series.values() if len(one) <= 50]
    before = WindowCutter(make_panel_of(*values), make_task())
    for number, one in enumerate(values):
        for cutoff in range(len(one) + 1):
            position = np.array([number]), np.array([cutoff])
            for kept, part in ((cutoff, 0), (cutoff + 3, 1)):
                later = [
                    np.concatenate([other[:kept], np.arange(len(other[kept:])) - 1e6]) if other is one else -other
                    for other in values
                ]
                after = WindowCutter(make_panel_of(*later), make_task())
                old, actual = before.cut(*position), after.cut(*position)
                if part:
                    assert old[1].tobytes() == actual[1].tobytes()
                else:
                    assert old[0].keys() == actual[0].keys() == {"y"}
                    assert old[0]["y"].tobytes() == actual[0]["y"].tobytes()


@pytest.mark.parametrize("kind", list(CHANGES))
@pytest.mark.parametrize(("held_out", "changed"), [(6, REFIT), (12, [*REFIT, "validation"])])
def test_no_date_that_is_held_out_for_one_series_is_seen_in_another(held_out, changed, kind, series, prepared):
    """Series end on different dates; every value on or after a date is changed, in whatever series it is."""
    start = LAST - np.timedelta64(held_out - 1, "D")
    after = {
        name: np.concatenate([values[dates(name) < start], CHANGES[kind](values[dates(name) >= start])])
        for name, values in series.items()
    }
    after["a"][-1] = KEPT
    assert differing(prepared(series, dated=True), prepared(after, dated=True)) == sorted(changed)


@pytest.mark.parametrize("name", ["b", "c", "d", "e", "f"])
def test_the_last_training_date_of_a_series_that_ends_early_is_that_of_the_others(name, series, prepared):
    """The positive control: the value on the last date before the validation range is trained on."""
    step = min(len(series[name]) - 12 + LAGS[name], len(series[name])) - 1
    assert dates(name)[step] == LAST - np.timedelta64(max(12, LAGS[name]), "D")
    actual = set(differing(prepared(series, dated=True), prepared(changed_at(series, name, step), dated=True)))
    assert actual >= {"statistics", *TRAIN, *REFIT}
