"""No statistic and no window of a range sees a value after its cutoff.

Every value after the cutoff is changed and everything is compared byte for byte. So that this can fail,
one value before the cutoff is changed too, and must show.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dist_lstm.config.defaults import resolve
from dist_lstm.config.task import make_task as make_task_of
from dist_lstm.data.prepare import prepare
from dist_lstm.data.sampling import Draw, TrainingWindows
from dist_lstm.data.stream import validation_windows
from dist_lstm.data.windows import WindowCutter

#: Too short for a training range; just long enough; longer. Validation and test have 6 steps each.
LENGTHS = {"a": 9, "b": 17, "c": 18, "d": 31, "e": 50}
STATISTICS = ["mean", "std", "min", "max", "median", "iqr", "seasonal_difference"]

CHANGES = {
    "other values": lambda y: np.where(np.isnan(y), 5.0, -7 * y + 1000),
    "huge values": lambda y: np.full_like(y, 3e38),
    "no values": lambda y: np.full_like(y, np.nan),
    "slightly other values": lambda y: y + 0.001,
}


@pytest.fixture
def series() -> dict[str, np.ndarray]:
    """Series with gaps, in the training range and after it."""
    generator = np.random.default_rng(7)
    values = {name: generator.normal(10, 3, length) for name, length in LENGTHS.items()}
    values["d"][[4, 12, 20, 27]] = np.nan
    return values


@pytest.fixture
def prepared(tmp_path, make_frame, make_config):
    """Prepare series; gives statistics, training windows and validation windows, all as bytes."""
    number = iter(range(1000))

    def run(series: dict[str, np.ndarray]) -> dict[str, bytes]:
        config, folder = make_config(), tmp_path / str(next(number))
        manifest = prepare(config, folder, make_frame(**series))
        task = make_task_of(resolve(config, manifest.facts))
        rows = pa.concat_tables([pq.read_table(folder / shard.file) for shard in manifest.shards]).to_pandas()
        assert rows["unique_id"].tolist() == sorted(series)
        everything = {"statistics": rows[STATISTICS].to_numpy(np.float64).tobytes()}
        for sampling in ("series", "windows"):
            for whole in (False, True):
                draw = Draw(1, 400, sampling, stride=1, seed=1, whole=whole, memory_budget=64)
                windows = TrainingWindows(folder, manifest, task, draw)
                assert windows.windows < 400  # so that `windows` draws each of them
                blocks = [block for epoch in range(2) for block in windows.blocks(epoch)]
                drawn = b"".join(block.tobytes() for block in blocks)
                everything[f"{sampling} {'whole' if whole else 'train'}"] = drawn
        found = validation_windows(folder, manifest, task, batch_size=4, seed=1)
        assert found.used == 2 * 4
        everything["validation"] = found.inputs["y"].tobytes() + found.target.tobytes()
        return everything

    return run


TRAIN = ["statistics", "series train", "windows train"]
REFIT = ["series whole", "windows whole"]


def changed_after(series: dict[str, np.ndarray], kept: int, change) -> dict[str, np.ndarray]:
    """Change every value but those before the last `kept` steps of each series."""
    result = {}
    for name, values in series.items():
        end = max(len(values) - kept, 0)
        result[name] = np.concatenate([values[:end], change(values[end:])])
    # A series needs one value to be in the shards at all.
    result["a"][-1] = 1.0
    return result


def changed_at(series: dict[str, np.ndarray], name: str, step: int) -> dict[str, np.ndarray]:
    """Change one value."""
    values = series[name].copy()
    values[step] += 1000
    assert not np.isnan(values[step])
    return series | {name: values}


def differing(left: dict[str, bytes], right: dict[str, bytes]) -> list[str]:
    return sorted(key for key in left if left[key] != right[key])


@pytest.mark.parametrize("change", list(CHANGES))
def test_no_statistic_and_no_training_window_sees_a_value_after_the_train_cutoff(change, series, prepared):
    changed = prepared(changed_after(series, 12, CHANGES[change]))
    assert differing(prepared(series), changed) == sorted([*REFIT, "validation"])


@pytest.mark.parametrize("change", list(CHANGES))
def test_no_validation_window_sees_a_value_after_the_validation_cutoff(change, series, prepared):
    changed = prepared(changed_after(series, 6, CHANGES[change]))
    assert differing(prepared(series), changed) == sorted(REFIT)


@pytest.mark.parametrize("name", list(LENGTHS))
def test_no_window_of_any_single_series_sees_its_later_values(name, series, prepared):
    before = prepared(series)
    end = max(LENGTHS[name] - 12, 0)
    alone = series | {name: np.concatenate([series[name][:end], np.arange(LENGTHS[name] - end) * -100.0])}
    found = differing(before, prepared(alone))
    assert not set(found) & set(TRAIN)
    assert set(found) >= set(REFIT)


LONG = [name for name, length in LENGTHS.items() if length >= 17]


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("step", ["first", "last"])
def test_one_value_before_the_train_cutoff_changes_statistics_and_training_windows(name, step, series, prepared):
    """The positive control: without it, the tests above could pass by looking at nothing."""
    at = 0 if step == "first" else LENGTHS[name] - 12 - 1
    assert set(differing(prepared(series), prepared(changed_at(series, name, at)))) >= {*TRAIN, *REFIT}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("back", [12, 7])
def test_one_value_of_the_validation_range_changes_validation_windows_alone(name, back, series, prepared):
    found = differing(prepared(series), prepared(changed_at(series, name, LENGTHS[name] - back)))
    assert found == sorted([*REFIT, "validation"])


@pytest.mark.parametrize("name", list(LENGTHS))
@pytest.mark.parametrize("back", [6, 1])
def test_one_value_of_the_test_range_changes_only_what_is_trained_on_whole_series(name, back, series, prepared):
    found = differing(prepared(series), prepared(changed_at(series, name, LENGTHS[name] - back)))
    assert found == sorted(REFIT)


def test_a_context_holds_no_value_at_or_after_its_cutoff_and_a_target_none_beyond_its_horizon(
    series, make_panel_of, make_task
):
    """Whatever the cutoff: training, validation, backtest and forecast cut with the same cutter."""
    values = list(series.values())
    before = WindowCutter(make_panel_of(*values), make_task())
    for number, one in enumerate(values):
        for cutoff in range(len(one) + 1):
            place = np.array([number]), np.array([cutoff])
            for kept, part in ((cutoff, 0), (cutoff + 3, 1)):
                later = [
                    np.concatenate([other[:kept], np.arange(len(other[kept:])) - 1e6]) if other is one else -other
                    for other in values
                ]
                after = WindowCutter(make_panel_of(*later), make_task())
                assert before.cut(*place)[part].tobytes() == after.cut(*place)[part].tobytes()
