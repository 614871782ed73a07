"""What the stream says of a window beside its values is that of its series and its cutoff.

Every value tells its place (1000 x series + step), and every fact of a series tells the series.
"""

from dataclasses import replace
from itertools import islice, product

import numpy as np
import pandas as pd
import pytest

from dist_lstm.config.frequency import parse_frequency
from dist_lstm.config.task import TRANSFORMS, Task, Vocabulary, input_spec
from dist_lstm.data import sampling, stream
from dist_lstm.data.panel import STATIC, Panel
from dist_lstm.data.sampling import SamplingConfig, TrainingWindows
from dist_lstm.data.shards import Shards
from dist_lstm.data.stream import distribute, ordered_windows, training_dataset, validation_windows
from dist_lstm.data.windows import forecast_cutoffs, training_cutoffs, validation_cutoffs

LENGTHS = [17, 40, 18, 29, 60, 23, 16, 2]
ZONE = "Europe/Berlin"
#: What a task may have beside values: each is an input of the model.
PARTS = {
    "transform": {"transformed": True},
    "series_scale": {"series_scaling": "standard"},
    "calendar": {"calendar": True},
    "series": {"series": 1000},
    "categories": {"categories": (("city", 9), ("kind", 3))},
    "numbers": {"numbers": ("size",)},
}


def task_with(parts: tuple[str, ...], make_task, freq: str = "h") -> Task:
    settings = {key: value for part in parts for key, value in PARTS[part].items()}
    statics = {key: settings.pop(key) for key in ("categories", "numbers") if key in settings}
    return make_task(freq=parse_frequency(freq), timezone=ZONE, vocabulary=Vocabulary(1000, **statics), **settings)


@pytest.fixture(params=["h", "D", "MS"])
def freq(request) -> str:
    return request.param


@pytest.fixture
def panel(numbered_panel, freq) -> Panel:
    """Hours go through a change of Berlin's clock, and no two series are alike."""
    position = np.arange(len(LENGTHS))
    begin = {"h": "2024-03-30T12", "D": "2024-02-20", "MS": "2019-03"}[freq]
    unit = {"h": "h", "D": "D", "MS": "M"}[freq]
    start = np.datetime64(begin, unit) + position * np.timedelta64(5, unit)
    facts = {
        "transform": np.array([list(TRANSFORMS)[number % 6] for number in position], object),
        "mean": position + 0.5,
        "std": np.where(position == 2, np.nan, position + 0.25),
        "series": position[::-1] * 7,
        STATIC + "city": (position % 4).astype(np.int32),
        STATIC + "kind": (position % 3).astype(np.int32),
        STATIC + "size": np.where(position == 3, np.nan, position / 8).astype(np.float32),
    }
    return replace(numbered_panel(*LENGTHS), start=start.astype("datetime64[us]"), facts=facts)


def expected(panel: Panel, task: Task, series: int, cutoff: int) -> dict[str, list]:
    """The inputs of one window, value by value."""
    facts = {name: values[series] for name, values in panel.facts.items()}
    step = {"h": pd.Timedelta(hours=cutoff), "D": pd.Timedelta(days=cutoff), "MS": pd.DateOffset(months=cutoff)}
    stamp = pd.Timestamp(panel.start[series]) + step[str(task.freq.name)]
    if task.freq.name == "h":
        stamp = stamp.tz_localize("UTC").tz_convert(ZONE)
    month = stamp.month - 1 + (stamp.day - 1) / stamp.days_in_month
    weekday = stamp.weekday() + stamp.hour / 24
    observed = facts["std"] == facts["std"]
    steps = range(cutoff - task.context_length, cutoff)
    return {
        "y": [1000 * series + one if one >= 0 else np.nan for one in steps],
        "transform": list(TRANSFORMS[facts["transform"]]),
        "series_scale": [facts["mean"], facts["std"]] if observed else [np.nan, np.nan],
        "calendar": {"h": [stamp.hour, weekday, month], "D": [weekday, month], "MS": [month]}[str(task.freq.name)],
        "series": [facts["series"]],
        "categories": [facts[STATIC + "city"], facts[STATIC + "kind"]],
        "numbers": [facts[STATIC + "size"]],
    }


def check(inputs: dict[str, np.ndarray], target: np.ndarray, panel: Panel, task: Task) -> list[tuple[int, int]]:
    """All inputs of some windows are theirs; gives the windows."""
    assert inputs.keys() == input_spec(task).keys()
    actual = []
    for row, first in enumerate(target[:, 0]):
        position = divmod(int(first), 1000)
        for name, values in expected(panel, task, *position).items():
            if name in inputs:
                np.testing.assert_allclose(inputs[name][row], values, rtol=1e-6, err_msg=f"{name} of {position}")
        actual.append(position)
    return actual


def check_spec(inputs: dict[str, np.ndarray], task: Task, number: int) -> None:
    assert inputs.keys() == input_spec(task).keys()
    for name, (shape, kind) in input_spec(task).items():
        assert inputs[name].shape == (number, *shape)
        assert inputs[name].dtype == kind


@pytest.fixture
def make_windows(panel, write_panel, monkeypatch):
    """Training windows of the panel, in one pool or in several."""

    def make(task: Task, pools: bool = False, how: str = "series", **changes) -> TrainingWindows:
        if pools:  # each pool holds one or two of the row groups
            monkeypatch.setattr(sampling, "MIB", 1 << 10)
        folder, manifest = write_panel(panel, task, group_steps=30, shard_steps=80)
        values = {
            "batch_size": 8,
            "steps_per_epoch": 5,
            "window_sampling": how,
            "stride": 1,
            "seed": 1,
            "whole": False,
        }
        return TrainingWindows(Shards(folder, manifest), task, SamplingConfig(**values | changes, memory_budget=1))

    return make


COMBINATIONS = [tuple(part for part, there in zip(PARTS, one, strict=True) if there)
                for one in product([False, True], repeat=len(PARTS))]  # fmt: skip


@pytest.mark.parametrize("freq", ["h"], indirect=True)
@pytest.mark.parametrize("parts", COMBINATIONS, ids=lambda parts: "+".join(parts) or "values alone")
def test_the_stream_gives_exactly_what_the_input_spec_of_any_task_says(
    parts, panel, make_windows, write_panel, make_task
):
    task = task_with(parts, make_task)
    assert input_spec(task).keys() == {"y", *parts}
    dataset = training_dataset(make_windows(task))
    for name, (shape, kind) in input_spec(task).items():
        assert dataset.element_spec[0][name].shape[1:] == shape
        assert dataset.element_spec[0][name].dtype == kind
    inputs, target = next(dataset.as_numpy_iterator())
    assert inputs.keys() == dataset.element_spec[0].keys()
    check_spec(inputs, task, 8)
    assert (target.shape, target.dtype) == ((8, 3), np.float32)
    for batch, _ in ordered_windows(panel, task, forecast_cutoffs(panel.length), 5):
        check_spec(batch, task, 5)
    held = validation_windows(Shards(*write_panel(panel, task)), task, batch_size=4, seed=1, steps_per_epoch=1)
    check_spec(held.inputs, task, held.used)
    for batch, *_ in held.batches():
        check_spec(batch, task, 4)
    nothing = replace(task, validation=0)
    check_spec(validation_windows(Shards(*write_panel(panel, nothing)), nothing, 4, 1, 1).inputs, task, 0)


@pytest.mark.parametrize("how", ["series", "windows", "recent"])
@pytest.mark.parametrize("pools", [False, True])
def test_inputs_of_training_windows_are_those_of_their_series_and_cutoff(
    pools, how, freq, panel, make_windows, make_task
):
    task = task_with(tuple(PARTS), make_task, freq)
    windows, actual = make_windows(task, pools, how, steps_per_epoch=25), set()
    for inputs, target in islice(training_dataset(windows).as_numpy_iterator(), 25):
        actual |= {*check(inputs, target, panel, task)}
    assert {series for series, _ in actual} == set(range(6))
    if how == "windows":
        cutoffs = training_cutoffs(panel, task, 1, whole=False)
        assert actual == {(int(one), int(cutoff)) for one, cutoff in zip(*cutoffs.enumerate(), strict=True)}


@pytest.mark.parametrize("size", [3, 100])
def test_inputs_of_ordered_windows_are_theirs_and_the_rest_of_a_batch_is_empty(size, freq, panel, make_task):
    task = task_with(tuple(PARTS), make_task, freq)
    cutoffs = training_cutoffs(panel, task, 4, whole=True)
    actual = []
    for inputs, target in ordered_windows(panel, task, cutoffs, size):
        actual += check(inputs, target, panel, task)
        for name, values in inputs.items():
            rest = values[len(target) :]
            # No value, of an unknown series; a NaN elsewhere would reach the loss.
            assert np.isnan(rest).all() if name == "y" else (rest == 0).all(), name
    assert actual == [(int(one), int(cutoff)) for one, cutoff in zip(*cutoffs.enumerate(), strict=True)]


@pytest.mark.parametrize("freq", ["h"], indirect=True)
def test_inputs_of_windows_at_the_ends_are_theirs_without_any_target(panel, make_task):
    task = task_with(tuple(PARTS), make_task)
    ((inputs, target),) = ordered_windows(panel, task, forecast_cutoffs(panel.length), 8)
    assert np.isnan(target).all()
    for series, length in enumerate(LENGTHS):
        for name, values in expected(panel, task, series, length).items():
            np.testing.assert_allclose(inputs[name][series], values, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("most", [1 << 14, 7])
def test_inputs_of_validation_windows_are_theirs_also_of_a_sample(
    most, freq, panel, write_panel, make_task, monkeypatch
):
    monkeypatch.setattr(stream, "_VALIDATION_WINDOWS", most)
    task = task_with(tuple(PARTS), make_task, freq)
    shards = write_panel(panel, task, group_steps=30, shard_steps=80)
    cutoffs = validation_cutoffs(panel, task)
    everything = [(int(one), int(cutoff)) for one, cutoff in zip(*cutoffs.enumerate(), strict=True)]
    for seed in range(5):
        held = validation_windows(Shards(*shards), task, batch_size=4, seed=seed, steps_per_epoch=1)
        assert held.available == len(everything) > 7
        assert held.used == min(most, len(everything))
        actual = check(held.inputs, held.target, panel, task)
        assert actual == [position for position in everything if position in actual]
        assert [position for batch in held.batches() for position in check(*batch[:2], panel, task)] == actual


@pytest.mark.parametrize("freq", ["h"], indirect=True)
def test_replicas_get_the_covariates_of_their_part_of_a_batch(panel, make_windows, make_task, two_cpus):
    task = task_with(tuple(PARTS), make_task)
    windows = make_windows(task)
    iterator = distribute(lambda part: training_dataset(windows, part=part), two_cpus, 8)
    for whole, _ in islice(training_dataset(windows).as_numpy_iterator(), 3):
        inputs, target = next(iterator)
        parts = zip(*map(two_cpus.experimental_local_results, (inputs, target)), strict=True)
        for number, (part, targets) in enumerate(parts):
            values = {name: tensor.numpy() for name, tensor in part.items()}
            check(values, targets.numpy(), panel, task)
            for name, expected_values in whole.items():
                np.testing.assert_array_equal(values[name], expected_values[4 * number : 4 * number + 4])
