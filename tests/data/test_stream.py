"""Training, ordered and validation windows as `tf.data` gives them.

Every value tells its place (1000 x series + step), so that a window shows where it was cut.
"""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.task import input_spec
from dist_lstm.data import sampling, stream
from dist_lstm.data.augmentation import Augmentation
from dist_lstm.data.panel import Panel
from dist_lstm.data.sampling import SamplingConfig, TrainingWindows
from dist_lstm.data.shards import Shards
from dist_lstm.data.stream import distribute, ordered_windows, training_dataset, validation_windows
from dist_lstm.data.windows import forecast_cutoffs, training_cutoffs, validation_cutoffs
from dist_lstm.errors import UserError
from tests.data.conftest import ends

#: The last but one is too short to be trained on, the last for everything but a forecast.
LENGTHS = [17, 40, 18, 29, 60, 23, 16, 2]
AUGMENTATION = Augmentation(stretch=0.5, mix=0.5, noise=0.1, seed=1)


def make_sampling(**changes) -> SamplingConfig:
    values = {
        "batch_size": 8,
        "steps_per_epoch": 5,
        "window_sampling": "series",
        "stride": 1,
        "seed": 1,
        "whole": False,
        "memory_budget": 64,
    }
    return SamplingConfig(**values | changes)


@pytest.fixture
def panel(numbered_panel):
    return numbered_panel(*LENGTHS)


@pytest.fixture
def make_windows(panel, write_panel, make_task, monkeypatch):
    """Training windows of the panel, in one pool or in several."""

    def make(pools: bool = False, **changes) -> TrainingWindows:
        if pools:  # each pool holds one or two of the row groups
            monkeypatch.setattr(sampling, "MIB", 1 << 10)
            changes.setdefault("memory_budget", 1)
        folder, manifest = write_panel(panel, make_task(), group_steps=30, shard_steps=80)
        return TrainingWindows(Shards(folder, manifest), make_task(), make_sampling(**changes))

    return make


def batches(windows: TrainingWindows, number: int, *position: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first batches of the stream."""
    actual = islice(training_dataset(windows, *position).as_numpy_iterator(), number)
    return [(inputs["y"], target) for inputs, target in actual]


def epoch(windows: TrainingWindows, number: int = 0) -> list[tuple[int, int]]:
    """Series and cutoff of every window of an epoch."""
    return [position for block in windows.blocks(number) for position in positions(block["window"][:, 6:])]


def positions(target: np.ndarray) -> list[tuple[int, int]]:
    """Series and cutoff of windows: what the first target says."""
    return [(int(one) // 1000, int(one) % 1000) for one in target[:, 0]]


def allowed(make_task, stride: int = 1, whole: bool = False) -> list[tuple[int, int]]:
    """Every training window."""
    cutoffs = training_cutoffs(ends(LENGTHS), make_task(), stride, whole)
    return [(int(series), int(cutoff)) for series, cutoff in zip(*cutoffs.enumerate(), strict=True)]


def same(left: list[tuple[np.ndarray, np.ndarray]], right: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    return [one.tobytes() for pair in left for one in pair] == [one.tobytes() for pair in right for one in pair]


def test_batches_have_the_shapes_and_types_of_the_input_spec(make_windows, make_task):
    dataset = training_dataset(make_windows())
    inputs, target = next(iter(dataset))
    spec = input_spec(make_task())
    assert inputs.keys() == spec.keys() == dataset.element_spec[0].keys()
    for name, (shape, dtype) in spec.items():
        assert inputs[name].shape == (8, *shape)
        assert inputs[name].dtype == dtype
        assert dataset.element_spec[0][name].shape[1:] == shape
    assert target.shape == (8, make_task().horizon)
    assert target.dtype == "float32"


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("window_sampling", ["series", "windows", "recent"])
@pytest.mark.parametrize(("stride", "whole"), [(1, False), (3, False), (1, True)])
def test_every_window_is_a_training_window_at_its_cutoff(
    stride, whole, window_sampling, pools, make_windows, make_task
):
    permitted = set(allowed(make_task, stride, whole))
    for context, target in batches(
        make_windows(pools, window_sampling=window_sampling, stride=stride, whole=whole), 20
    ):
        for row, (series, cutoff) in enumerate(positions(target)):
            assert (series, cutoff) in permitted
            steps = np.arange(cutoff - 6, cutoff)
            np.testing.assert_array_equal(context[row], np.where(steps < 0, np.nan, 1000 * series + steps))
            np.testing.assert_array_equal(target[row], 1000 * series + np.arange(cutoff, cutoff + 3))


@pytest.mark.parametrize(("stride", "whole"), [(1, False), (3, False), (1, True)])
def test_windows_and_series_to_draw_from_are_counted(stride, whole, make_windows, make_task):
    permitted = allowed(make_task, stride, whole)
    windows = make_windows(stride=stride, whole=whole)
    assert windows.windows == len(permitted)
    assert windows.series == len({series for series, _ in permitted})


@pytest.mark.parametrize("steps", [1, 3, 5, 12])
@pytest.mark.parametrize("window_sampling", ["series", "recent"])
def test_series_sampling_draws_each_series_equally_often_plus_or_minus_one(window_sampling, steps, make_windows):
    windows = make_windows(window_sampling=window_sampling, steps_per_epoch=steps)
    drawn = Counter(series for series, _ in epoch(windows))
    counts = [drawn[series] for series in range(windows.series)]
    assert sum(counts) == 8 * steps == drawn.total()
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize(("window_sampling", "stride"), [("series", 1), ("recent", 1), ("recent", 3)])
def test_cutoffs_of_a_series_are_drawn_about_equally_often_or_linearly_more_often_the_later_they_are(
    window_sampling, stride, pools, make_windows, make_task
):
    drawn = Counter(
        epoch(make_windows(pools, window_sampling=window_sampling, steps_per_epoch=6000, stride=stride))
    )
    assert set(drawn) == set(allowed(make_task, stride))
    for series, last in ((3, 17 - 3), (4, 48 - 3)):
        counts = np.array([drawn[series, cutoff] for cutoff in range(2, last + 1, stride)])
        # Of a triangle cut into slices of equal width, the second has 3 times the area of the first.
        weight = 2.0 * np.arange(len(counts)) + 1 if window_sampling == "recent" else np.ones(len(counts))
        expected = counts.sum() * weight / weight.sum()
        assert counts.sum() == 8 * 6000 // 6
        chi_square = ((counts - expected) ** 2 / expected).sum()
        freedom = len(counts) - 1
        assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("pools", [False, True])
def test_windows_sampling_covers_every_window_once_per_pass(pools, make_windows, make_task):
    permitted = allowed(make_task)
    windows = make_windows(pools, window_sampling="windows", batch_size=1, steps_per_epoch=2 * len(permitted))
    drawn = Counter(epoch(windows))
    assert set(drawn) == set(permitted)
    assert set(drawn.values()) == {2}


def test_windows_sampling_repeats_nothing_before_all_was_drawn(make_windows):
    windows = make_windows(window_sampling="windows", batch_size=1, steps_per_epoch=40)
    for number in range(3):
        assert max(Counter(epoch(windows, number)).values()) == 1


@pytest.mark.parametrize("window_sampling", ["series", "windows", "recent"])
@pytest.mark.parametrize("pools", [False, True])
def test_the_same_seed_gives_the_same_stream_and_another_seed_another(pools, window_sampling, make_windows):
    first = batches(make_windows(pools, window_sampling=window_sampling), 12)
    assert same(first, batches(make_windows(pools, window_sampling=window_sampling), 12))
    assert not same(first, batches(make_windows(pools, window_sampling=window_sampling, seed=2), 12))


def test_one_dataset_can_be_read_again_from_its_start(make_windows):
    windows = make_windows()
    assert same(batches(windows, 12), batches(windows, 12))


def test_every_epoch_is_drawn_anew_and_in_another_order(make_windows):
    windows = make_windows()
    epochs = [epoch(windows, number) for number in range(4)]
    assert len({tuple(one) for one in epochs}) == 4
    assert len({tuple(series for series, _ in one) for one in epochs}) == 4


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize(("number", "batch"), [(1, 0), (0, 3), (2, 4), (5, 1)])
@pytest.mark.parametrize("changes", [{}, {"window_sampling": "recent"}, {"augmentation": AUGMENTATION}], ids=str)
def test_an_epoch_can_be_entered_at_any_batch_and_goes_on_as_if_it_had_been_reached(
    changes, number, batch, pools, make_windows
):
    before = 5 * number + batch
    whole = batches(make_windows(pools, **changes), before + 7)
    assert same(batches(make_windows(pools, **changes), 7, number, batch), whole[before:])


@pytest.mark.parametrize("augmentation", [None, AUGMENTATION], ids=str)
@pytest.mark.parametrize("block", [1, 3, 16])
def test_how_many_batches_are_cut_at_once_does_not_change_the_stream(
    block, augmentation, make_windows, monkeypatch
):
    expected = batches(make_windows(augmentation=augmentation), 12)
    monkeypatch.setattr(sampling, "BLOCK", block)
    assert same(batches(make_windows(augmentation=augmentation), 12), expected)


def test_augmentation_changes_windows_by_its_seed_and_only_their_values(make_windows):
    plain = batches(make_windows(), 12)
    changed, other = (batches(make_windows(augmentation=replace(AUGMENTATION, seed=seed)), 12) for seed in (1, 2))
    assert not same(changed, plain)
    assert not same(changed, other)
    for (before, _), (after, _) in zip(plain, changed, strict=True):
        assert (after != before).any()
        assert after.dtype == before.dtype


def test_cutoffs_of_a_span_are_the_last_ones(make_windows, make_task):
    recent = {
        (series, cutoff) for series, cutoff in allowed(make_task) if (series, cutoff + 6) not in allowed(make_task)
    }
    drawn = {position for number in range(8) for position in epoch(make_windows(span=5), number)}
    assert drawn == recent


@pytest.mark.parametrize("pools", [False, True])
def test_an_epoch_has_exactly_its_number_of_windows(pools, make_windows):
    for steps in (1, 2, 7):
        windows = make_windows(pools, steps_per_epoch=steps, batch_size=5)
        assert [len(epoch(windows, number)) for number in range(4)] == [5 * steps] * 4


@pytest.fixture
def reads(monkeypatch):
    """The row groups that are read, in order."""
    actual: list[tuple[str, int]] = []
    read_panel = sampling.read_panel

    def spy(group):
        actual.append((group.path.name, group.number))
        return read_panel(group)

    monkeypatch.setattr(sampling, "read_panel", spy)
    return actual


def test_what_fits_into_memory_is_read_once(make_windows, reads):
    batches(make_windows(), 20)
    assert len(reads) > 2
    assert len(reads) == len(set(reads))


def test_what_does_not_fit_is_read_again_every_epoch_in_another_order(make_windows, reads):
    windows = make_windows(pools=True)
    orders = []
    for number in range(4):
        epoch(windows, number)
        orders.append(tuple(reads))
        reads.clear()
    assert {frozenset(order) for order in orders} == {frozenset(orders[0])}
    assert len(set(orders)) > 1


def test_a_pool_never_takes_more_than_its_share_of_the_memory_budget(make_windows, monkeypatch):
    sizes = []
    cutter = sampling.WindowCutter

    def spy(panel, task):
        sizes.append((4 * (len(panel.y) + 9 * len(panel.length)), len(panel.length)))
        return cutter(panel, task)

    monkeypatch.setattr(sampling, "WindowCutter", spy)
    windows = make_windows(pools=True)
    for number in range(4):
        epoch(windows, number)
    assert len(sizes) > 4
    assert all(size <= 1024 // 3 or series == 1 for size, series in sizes)
    assert any(series > 1 for _, series in sizes)


def test_pools_of_equal_series_draw_different_cutoffs(numbered_panel, write_panel, make_task, monkeypatch):
    monkeypatch.setattr(sampling, "MIB", 1)
    folder, manifest = write_panel(numbered_panel(40, 40, 40), make_task(), group_steps=1)
    drawn = epoch(TrainingWindows(Shards(folder, manifest), make_task(), make_sampling(steps_per_epoch=30)))
    cutoffs = [tuple(cutoff for series, cutoff in drawn if series == one) for one in range(3)]
    assert [len(one) for one in cutoffs] == [80, 80, 80]
    assert len(set(cutoffs)) == 3


def test_several_pools_draw_every_series_equally_often(make_windows):
    windows = make_windows(pools=True, steps_per_epoch=3 * 6)
    for number in range(5):  # 8 x 18 windows of 6 series
        assert Counter(series for series, _ in epoch(windows, number)) == dict.fromkeys(range(6), 24)


def test_a_pass_longer_than_an_epoch_reads_every_pool_once_and_draws_every_series_once(make_windows, reads):
    windows = make_windows(pools=True, steps_per_epoch=1, batch_size=2)
    drawn = Counter(series for number in range(3) for series, _ in epoch(windows, number))
    assert drawn == dict.fromkeys(range(6), 1)
    assert len(reads) == len(set(reads)) > 2


def test_a_pass_entered_near_its_end_reads_only_the_pool_at_that_position(make_windows, reads):
    windows = make_windows(pools=True, steps_per_epoch=6, batch_size=2)
    list(windows.blocks(0))
    whole, reads[:] = list(reads), []
    list(make_windows(pools=True, steps_per_epoch=6, batch_size=2).blocks(0, batch=5))
    assert len(whole) > 2
    assert reads == whole[-len(reads) :]
    assert 0 < len(reads) < len(whole)


def test_several_pools_draw_uniformly_over_series_even_in_short_epochs(make_windows):
    windows = make_windows(pools=True, steps_per_epoch=1, batch_size=4)
    drawn = Counter(series for number in range(300) for series, _ in epoch(windows, number))
    counts = np.array([drawn[series] for series in range(6)])
    assert counts.sum() == 1200 == drawn.total()
    assert (abs(counts - 200) < 5 * 14).all()


def test_short_series_give_windows_padded_with_nan_at_their_start(make_windows, make_task):
    actual = {
        position: context
        for contexts, target in batches(make_windows(steps_per_epoch=50), 50)
        for position, context in zip(positions(target), contexts, strict=True)
    }
    assert np.isnan(actual[0, 2]).tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("size", [1, 3, 4, 8, 100])
def test_ordered_windows_come_in_order_and_the_last_batch_is_padded(size, panel, make_task):
    cutoffs = training_cutoffs(panel, make_task(), 2, whole=False)
    actual = list(ordered_windows(panel, make_task(), cutoffs, size))
    assert all(inputs["y"].shape == (size, 6) for inputs, _ in actual)
    assert all(inputs["y"].dtype == np.float32 for inputs, _ in actual)
    assert [len(target) for _, target in actual[:-1]] == [size] * (len(actual) - 1)
    assert [position for _, target in actual for position in positions(target)] == allowed(make_task, stride=2)
    inputs, target = actual[-1]
    rest = len(allowed(make_task, stride=2)) % size or size
    assert len(target) == rest
    assert np.isnan(inputs["y"][rest:]).all()
    assert not np.isnan(inputs["y"][:rest]).all(axis=1).any()


def test_windows_at_the_end_hold_the_last_steps_and_no_target(panel, make_task):
    ((inputs, target),) = ordered_windows(panel, make_task(), forecast_cutoffs(panel.length), 8)
    for series, length in enumerate(LENGTHS):
        steps = np.arange(length - 6, length)
        np.testing.assert_array_equal(inputs["y"][series], np.where(steps < 0, np.nan, 1000 * series + steps))
    assert np.isnan(target).all()


def test_no_cutoffs_give_no_batches(panel, make_task):
    none = training_cutoffs(ends([0] * len(LENGTHS)), make_task(), 1, whole=True)
    assert list(ordered_windows(panel, make_task(), none, 4)) == []


@pytest.fixture
def make_validation(panel, write_panel, make_task):
    def make(batch_size: int = 4, seed: int = 1):
        folder, manifest = write_panel(panel, make_task(), group_steps=30, shard_steps=80)
        return validation_windows(Shards(folder, manifest), make_task(), batch_size, seed, 1)

    return make


def validation_places(make_task) -> list[tuple[int, int]]:
    cutoffs = validation_cutoffs(ends(LENGTHS), make_task())
    return [(int(series), int(cutoff)) for series, cutoff in zip(*cutoffs.enumerate(), strict=True)]


def test_validation_windows_are_all_of_them_in_the_order_of_the_shards(make_validation, make_task):
    actual = make_validation()
    assert positions(actual.target) == validation_places(make_task)
    assert actual.used == actual.available == len(validation_places(make_task))
    for context, (series, cutoff) in zip(actual.inputs["y"], positions(actual.target), strict=True):
        steps = np.arange(cutoff - 6, cutoff)
        np.testing.assert_array_equal(context, np.where(steps < 0, np.nan, 1000 * series + steps))


@pytest.mark.parametrize("size", [1, 4, 5, 100])
def test_validation_batches_are_those_of_ordered_windows(size, panel, make_validation, make_task):
    cutoffs = validation_cutoffs(panel, make_task())
    expected = list(ordered_windows(panel, make_task(), cutoffs, size))
    actual = list(make_validation(size).batches())
    pairs = [[(one["y"], target) for one, target, *_ in batches] for batches in (actual, expected)]
    assert same(*pairs)


def test_very_many_validation_windows_are_sampled_by_seed(make_validation, make_task, monkeypatch):
    everything = validation_places(make_task)
    monkeypatch.setattr(stream, "_VALIDATION_WINDOWS", 7)
    actual = make_validation(seed=1)
    assert actual.used == 7
    assert actual.available == len(everything) > 7
    assert positions(actual.target) == [
        position for position in everything if position in set(positions(actual.target))
    ]
    assert positions(make_validation(seed=1).target) == positions(actual.target)
    samples = {tuple(positions(make_validation(seed=seed).target)) for seed in range(20)}
    assert len(samples) > 10
    assert {position for sample in samples for position in sample} == set(everything)


class TestTrainingSample:
    def make(self, panel, write_panel, make_task, seed: int = 1, stride: int = 1):
        shards = Shards(*write_panel(panel, make_task(), group_steps=30, shard_steps=80))
        return stream.training_sample(shards, make_task(), stride, 4, seed)

    def everything(self, make_task, stride: int = 1) -> list[tuple[int, int]]:
        cutoffs = training_cutoffs(ends(LENGTHS), make_task(), stride, whole=False)
        return [(int(series), int(cutoff)) for series, cutoff in zip(*cutoffs.enumerate(), strict=True)]

    @pytest.mark.parametrize("stride", [1, 3])
    def test_it_is_the_whole_training_range_where_that_is_small(self, panel, write_panel, make_task, stride):
        actual = self.make(panel, write_panel, make_task, stride=stride)
        assert positions(actual.target) == self.everything(make_task, stride)
        assert actual.used == actual.available

    def test_it_is_bounded_and_drawn_by_the_seed(self, panel, write_panel, make_task, monkeypatch):
        monkeypatch.setattr(stream, "_TRAINING_WINDOWS", 7)
        monkeypatch.setattr(stream, "_TRAINING_GROUPS", 2)
        read, read_panel = [], stream.read_panel
        monkeypatch.setattr(stream, "read_panel", lambda group: read.append(group) or read_panel(group))
        samples = {}
        for seed in range(10):
            read.clear()
            actual = self.make(panel, write_panel, make_task, seed=seed)
            assert actual.used == 7
            assert 1 <= len(read) <= 2
            samples[seed] = positions(actual.target)
            assert set(samples[seed]) < set(self.everything(make_task))
        assert len({tuple(one) for one in samples.values()}) > 3
        assert positions(self.make(panel, write_panel, make_task, seed=3).target) == samples[3]


def test_without_a_validation_range_there_are_no_validation_windows(panel, write_panel, make_task):
    task = make_task(validation=0)
    actual = validation_windows(Shards(*write_panel(panel, task)), task, batch_size=4, seed=1, steps_per_epoch=1)
    assert actual.used == actual.available == 0
    assert list(actual.batches()) == []
    assert actual.inputs["y"].shape == (0, 6)


@pytest.mark.parametrize("augmentation", [None, AUGMENTATION], ids=str)
def test_two_replicas_get_consecutive_parts_that_make_up_the_global_batch(augmentation, make_windows, two_cpus):
    windows = make_windows(augmentation=augmentation)
    iterator = distribute(lambda part: training_dataset(windows, part=part), two_cpus, 8)
    for context, target in batches(windows, 12):
        parts, targets = (two_cpus.experimental_local_results(one) for one in next(iterator))
        assert [part["y"].shape[0] for part in parts] == [4, 4]
        np.testing.assert_array_equal(np.concatenate([part["y"] for part in parts]), context)
        np.testing.assert_array_equal(np.concatenate(targets), target)


def test_one_replica_gets_the_global_batches(make_windows):
    windows = make_windows()
    iterator = distribute(lambda _: training_dataset(windows), tf.distribute.get_strategy(), 8)
    for context, target in batches(windows, 12):
        inputs, got = next(iterator)
        np.testing.assert_array_equal(inputs["y"], context)
        np.testing.assert_array_equal(got, target)


def test_a_batch_that_cannot_be_divided_over_the_replicas_is_refused(make_windows, two_cpus):
    windows = make_windows(batch_size=7)
    with pytest.raises(UserError, match=r"7 windows can't be divided over 2 replicas; set it to 8"):
        distribute(lambda part: training_dataset(windows, part=part), two_cpus, 7)


def test_windows_that_only_fill_a_batch_hold_no_value_and_nothing_else_that_is_not_a_number(make_task):
    start, offset = np.array(["2024-01-01T05"], "datetime64[us]"), np.array([0, 20])
    panel = Panel(np.array(["a"], object), start, np.ones(20, np.float32), offset)
    task = make_task(freq=Frequency("h"), calendar=True)
    ((inputs, target),) = ordered_windows(panel, task, forecast_cutoffs(panel.length), 4)
    assert len(target) == 1
    assert np.isnan(inputs["y"][1:]).all()
    assert np.isfinite(inputs["calendar"]).all()
