"""Windows and cutoffs, against loops over every step."""

import tracemalloc

import numpy as np
import pytest

from dist_lstm.data.windows import (
    Cutoffs,
    Rolling,
    WindowCutter,
    backtest_cutoffs,
    forecast_cutoffs,
    split_ranges,
    training_cutoffs,
    validation_cutoffs,
    weights_by_series,
)
from tests.data.conftest import ends

LENGTHS = [1, 2, 4, 5, 11, 12, 13, 16, 17, 18, 20, 23, 40]


def listed(cutoffs: Cutoffs) -> list[tuple[int, int]]:
    series, cutoff = cutoffs.enumerate()
    return list(zip(series.tolist(), cutoff.tolist(), strict=True))


def slow_cut(values: np.ndarray, cutoff: int, context: int, horizon: int) -> tuple[list, list]:
    """One window, value by value."""

    def at(step: int) -> float:
        return float(values[step]) if 0 <= step < len(values) else np.nan

    return [at(step) for step in range(cutoff - context, cutoff)], [at(cutoff + step) for step in range(horizon)]


@pytest.mark.parametrize(("context", "horizon"), [(6, 3), (1, 1), (30, 2), (2, 30)])
def test_a_window_at_any_cutoff_equals_a_loop_with_nan_outside_the_series(
    context, horizon, make_panel_of, make_task
):
    generator = np.random.default_rng(0)
    values = [generator.normal(size=length).astype(np.float32) for length in (1, 9, 4, 25)]
    values[1][3] = np.nan
    cutter = WindowCutter(make_panel_of(*values), make_task(context_length=context, horizon=horizon))
    positions = [(series, cutoff) for series, one in enumerate(values) for cutoff in range(len(one) + 1)]
    positions = [positions[at] for at in generator.permutation(len(positions))]
    inputs, found_target = cutter.cut(*(np.array(axis) for axis in zip(*positions, strict=True)))
    assert list(inputs) == ["y"]
    found_context = inputs["y"]
    assert found_context.shape == (len(positions), context)
    assert found_target.shape == (len(positions), horizon)
    assert found_context.dtype == found_target.dtype == np.float32
    for row, (series, cutoff) in enumerate(positions):
        expected = slow_cut(values[series], cutoff, context, horizon)
        np.testing.assert_array_equal(found_context[row], expected[0])
        np.testing.assert_array_equal(found_target[row], expected[1])


def test_a_cutter_takes_little_more_memory_than_its_padded_series(numbered_panel, make_task):
    panel = numbered_panel(*[3000] * 100)
    padded = panel.y.nbytes + 100 * 4 * 9
    tracemalloc.start()
    try:
        WindowCutter(panel, make_task())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert padded < peak < 1.2 * padded


def test_changing_a_window_does_not_change_the_next_one(numbered_panel, make_task):
    cutter = WindowCutter(numbered_panel(10), make_task())
    inputs, target = cutter.cut(np.array([0]), np.array([6]))
    inputs["y"][:], target[:] = -1, -1
    again, _ = cutter.cut(np.array([0]), np.array([6]))
    assert again["y"].tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(("validation", "test"), [(6, 6), (0, 6), (6, 0), (0, 0), (7, 5)])
def test_train_validation_and_test_follow_each_other_from_the_end(validation, test, make_task):
    ranges = split_ranges(ends(LENGTHS), make_task(validation=validation, test=test))
    for number, length in enumerate(LENGTHS):
        steps = list(range(length))
        before_test = steps[:-test] if test else steps
        before_validation = before_test[:-validation] if validation else before_test
        assert ranges.validation_end[number] == len(before_test)
        assert ranges.train_end[number] == len(before_validation)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 5, 100])
@pytest.mark.parametrize(("least", "horizon"), [(2, 3), (1, 1), (6, 4)])
def test_training_windows_are_all_whose_targets_end_inside_the_training_range(
    whole, stride, least, horizon, make_task
):
    task = make_task(min_context=least, horizon=horizon)
    expected = [
        (series, cutoff)
        for series, length in enumerate(LENGTHS)
        for cutoff in range(length)
        if cutoff >= least
        and (cutoff - least) % stride == 0
        and cutoff + horizon <= (length if whole else length - task.validation - task.test)
    ]
    actual = training_cutoffs(ends(LENGTHS), task, stride, whole)
    assert listed(actual) == expected
    assert actual.total == len(expected)
    assert actual.count.tolist() == [sum(series == one for one, _ in expected) for series in range(len(LENGTHS))]


@pytest.mark.parametrize(
    ("horizon", "validation", "strides_back"),
    [
        (3, 0, []),
        (3, 3, [0]),
        (3, 5, [0, 1, 2]),
        (3, 6, [0, 1, 2, 3]),
        (12, 24, [0, 4, 8, 12]),
        (12, 36, [0, 8, 16, 24]),
        (3, 30, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]),
        (3, 60, [0, 7, 14, 21, 28, 35, 42, 49, 56]),
        (1, 9, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (1, 20, [0, 3, 6, 9, 12, 15, 18]),
    ],
)
@pytest.mark.parametrize("test", [0, 4])
def test_validation_cutoffs_are_several_in_a_range_of_two_horizons_and_ten_at_most(
    horizon, validation, strides_back, test, make_task
):
    task = make_task(horizon=horizon, validation=validation, test=test)
    expected = []
    for series, length in enumerate(LENGTHS):
        cutoffs = sorted(length - test - horizon - back for back in strides_back)
        expected += [(series, cutoff) for cutoff in cutoffs if cutoff >= task.min_context]
    actual = validation_cutoffs(ends(LENGTHS), task)
    assert listed(actual) == expected
    assert actual.total == len(expected)


@pytest.mark.parametrize(("windows", "stride", "test"), [(1, 3, 3), (2, 3, 6), (4, 1, 6), (3, 2, 9), (2, 5, 8)])
def test_backtest_targets_lie_inside_the_test_range_the_last_at_its_end(windows, stride, test, make_task):
    task = make_task(test=test)
    actual = listed(backtest_cutoffs(ends(LENGTHS), task, Rolling(windows, stride)))
    expected = []
    for series, length in enumerate(LENGTHS):
        cutoffs = [length - task.horizon - stride * back for back in range(windows)][::-1]
        expected += [(series, cutoff) for cutoff in cutoffs if cutoff >= task.min_context]
    assert actual == expected
    assert all(length - test <= cutoff <= length - task.horizon for s, cutoff in actual for length in [LENGTHS[s]])


@pytest.mark.parametrize("lag", [0, 1, 2, 4, 5, 6, 7, 11, 12, 13, 40])
def test_a_series_that_ends_early_has_its_ranges_on_the_dates_of_the_others(lag, make_task):
    """Step t of a series of 30 is on date t; the panel ends `lag` steps after it."""
    task, length = make_task(), 30
    last = length + lag
    series = ends([length], lag)
    ranges = split_ranges(series, task)
    held_out, validated = range(last - 6, last), range(last - 12, last - 6)
    assert ranges.validation_end[0] == sum(date not in held_out for date in range(length))
    assert ranges.train_end[0] == sum(date not in held_out and date not in validated for date in range(length))

    def common(cutoffs: list[int]) -> list[tuple[int, int]]:
        # A cutoff of the panel counts where at least one step of the series is forecast from it.
        return [(0, cutoff) for cutoff in cutoffs if cutoff < length]

    assert listed(validation_cutoffs(series, task)) == common([last - 6 - 3 - back for back in (3, 2, 1, 0)])
    assert listed(backtest_cutoffs(series, task, Rolling(2, 3))) == common([last - 6, last - 3])
    training = listed(training_cutoffs(series, task, 1, whole=False))
    trained = [cutoff + step for _, cutoff in training for step in range(task.horizon)]
    assert set(trained) == {date for date in range(2, length) if date < last - 12}
    whole = training_cutoffs(series, task, 1, whole=True)
    assert whole.first[0] + whole.count[0] - 1 == length - task.horizon


def test_every_series_has_the_same_weight_however_many_windows_and_values_it_has():
    series = np.array([4, 4, 4, 7, 9, 9])
    target = np.arange(12.0).reshape(6, 2)
    target[1, 0] = target[4] = target[5] = np.nan
    weight = weights_by_series(series, target)
    observed = (~np.isnan(target)).sum(axis=1)
    for one in (4, 7):
        assert (weight * observed)[series == one].sum() == pytest.approx(1)
    assert (weight[series == 9] == 0).all()
    assert weights_by_series(series[:0], target[:0]).tolist() == []


def test_without_a_test_range_there_is_no_backtest(make_task):
    assert backtest_cutoffs(ends(LENGTHS), make_task(test=0), Rolling(3, 1)).total == 0


def test_every_series_is_forecast_once_from_its_end():
    assert listed(forecast_cutoffs(np.array(LENGTHS))) == list(enumerate(LENGTHS))


def test_no_target_belongs_to_two_ranges(make_task):
    """The steps that train, validation and backtest windows forecast never meet."""
    task, lengths = make_task(), LENGTHS

    def targets(cutoffs: Cutoffs) -> set[tuple[int, int]]:
        return {(series, cutoff + step) for series, cutoff in listed(cutoffs) for step in range(task.horizon)}

    train = targets(training_cutoffs(ends(lengths), task, 1, whole=False))
    validation = targets(validation_cutoffs(ends(lengths), task))
    test = targets(backtest_cutoffs(ends(lengths), task, Rolling(2, 3)))
    assert train
    assert validation
    assert test
    assert not train & validation
    assert not validation & test
    assert not train & test


def test_no_series_give_no_windows(make_panel_of, make_task):
    none = np.zeros(0, np.int64)
    for cutoffs in (
        training_cutoffs(ends(none), make_task(), 1, whole=False),
        validation_cutoffs(ends(none), make_task()),
        backtest_cutoffs(ends(none), make_task(), Rolling(2, 3)),
        forecast_cutoffs(none),
    ):
        assert cutoffs.total == 0
        assert listed(cutoffs) == []
    inputs, target = WindowCutter(make_panel_of([1.0]), make_task()).cut(none, none)
    assert inputs["y"].shape == (0, 6)
    assert target.shape == (0, 3)
