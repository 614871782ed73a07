"""Windows of groups of series: each draws as if it were alone."""

import numpy as np
import pytest

from dist_lstm.data import fused_windows as groups
from dist_lstm.data.fused_windows import GroupWindows, group_seed
from dist_lstm.data.sampling import TrainingWindows
from dist_lstm.data.shards import Shards
from dist_lstm.data.windows import training_cutoffs, validation_cutoffs
from tests.data.test_stream import LENGTHS, make_sampling


def make(panel, task, **changes) -> GroupWindows:
    return GroupWindows(panel, task, make_sampling(**changes))


def places(chosen) -> tuple:
    return tuple(zip(chosen.series.tolist(), chosen.cutoff.tolist(), strict=True))


@pytest.mark.parametrize("sampling", ["series", "windows", "recent"])
def test_a_group_draws_the_windows_that_training_on_it_alone_draws(
    numbered_panel, write_panel, make_task, sampling
):
    panel, task, group = numbered_panel(*LENGTHS), make_task(), np.array([1, 4, 5])
    windows = make(panel, task, window_sampling=sampling)
    keep = np.isin(np.arange(len(LENGTHS)), group)
    folder, manifest = write_panel(panel.take(keep), task)
    alone = TrainingWindows(Shards(folder, manifest), task, make_sampling(window_sampling=sampling, seed=9))
    for epoch in (0, 3):
        _, target = windows.cut(*windows.training(group, 9, epoch))
        expected = np.concatenate([block["window"] for block in alone.blocks(epoch)])[:, task.context_length :]
        np.testing.assert_array_equal(target, expected)


def test_groups_draw_from_their_own_series_only(numbered_panel, make_task):
    panel, task = numbered_panel(*LENGTHS), make_task()
    windows = make(panel, task)
    cutoffs = training_cutoffs(panel, task, 1, False)
    for group in (np.array([4]), np.array([0, 3])):
        series, cutoff = windows.training(group, 1, 0)
        assert len(series) == 8 * 5
        assert set(series) <= set(group)
        assert (cutoffs.first[series] <= cutoff).all()
        assert (cutoff < cutoffs.first[series] + cutoffs.count[series]).all()
        assert windows.available(group) == cutoffs.count[group].sum()


def test_epochs_and_seeds_draw_differently(numbered_panel, make_task):
    windows, group = make(numbered_panel(*LENGTHS), make_task()), np.array([4])
    first = windows.training(group, 1, 0)[1]
    assert (windows.training(group, 1, 1)[1] != first).any()
    assert (windows.training(group, 2, 0)[1] != first).any()
    np.testing.assert_array_equal(windows.training(group, 1, 0)[1], first)


def test_validation_windows_are_those_of_the_groups_series(numbered_panel, make_task, monkeypatch):
    panel, task, group = numbered_panel(*LENGTHS), make_task(), np.array([1, 4])
    expected = validation_cutoffs(panel.take(np.isin(np.arange(len(LENGTHS)), group)), task)
    chosen = make(panel, task).validation(group, 1)
    series, cutoff = chosen.series, chosen.cutoff
    assert expected.total > 2
    np.testing.assert_array_equal(series, group[expected.enumerate()[0]])
    np.testing.assert_array_equal(cutoff, expected.enumerate()[1])
    assert len(make(panel, task, whole=True).validation(group, 1).series) == 0
    monkeypatch.setattr(groups, "_VALIDATION_WINDOWS", 2)
    some = set(places(make(panel, task).validation(group, 1)))
    assert len(some) == 2
    assert some < set(zip(series, cutoff, strict=True))


def test_a_sample_of_the_training_windows_is_bounded_and_drawn_by_the_seed(numbered_panel, make_task, monkeypatch):
    panel, task, group = numbered_panel(*LENGTHS), make_task(), np.array([3, 4])
    cutoffs = training_cutoffs(panel.take(np.isin(np.arange(len(LENGTHS)), group)), task, 1, False)
    chosen = make(panel, task).training_sample(group, 1)
    series, cutoff = chosen.series, chosen.cutoff
    np.testing.assert_array_equal(series, group[cutoffs.enumerate()[0]])
    np.testing.assert_array_equal(cutoff, cutoffs.enumerate()[1])
    monkeypatch.setattr(groups, "_TRAINING_WINDOWS", 3)
    some = [places(make(panel, task).training_sample(group, seed)) for seed in (*range(9), 0)]
    assert {len(one) for one in some} == {3}
    assert set().union(*some) < set(zip(series, cutoff, strict=True))
    assert some[0] == some[-1]
    assert len(set(some)) > 3


def test_a_seed_is_a_hash_of_the_name_and_the_seed():
    seeds = {group_seed(name, seed) for name in ("", "a", "b", "1/a") for seed in (1, 11)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    # The same in every process and on every machine.
    assert group_seed("T1", 1) == 248769153
