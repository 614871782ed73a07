"""The assignment of series to models, and of models to packs."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_lstm.config.load import override
from dist_lstm.fleet.packing import Group, count_packs, make_groups, pack_groups, read_pack, write_packs
from tests.evaluate.conftest import series

groups_of_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=80)


def groups(sizes) -> list[Group]:
    ends = np.cumsum([0, *sizes])
    return [
        Group(f"g{number}", np.arange(first, last), f"f{number % 3}")
        for number, (first, last) in enumerate(pairwise(ends))
    ]


def cost(group: Group, steps: int) -> int:
    return steps + 20 * len(group.indices)


@given(groups_of_sizes, st.integers(1, 20), st.integers(1, 8), st.integers(1, 1000))
def test_every_group_is_in_one_pack_and_there_are_no_more_packs_than_requested(sizes, most, slots, steps):
    packs = pack_groups(groups(sizes), steps, slots, most)
    assert sorted(one.name for pack in packs for one in pack) == sorted(one.name for one in groups(sizes))
    assert 1 <= len(packs) <= most
    assert all(packs)


@given(groups_of_sizes, st.integers(2, 8), st.integers(1, 1000))
def test_no_pack_costs_more_than_the_average_plus_the_most_expensive_group(sizes, most, steps):
    packs = pack_groups(groups(sizes), steps, 1, most)
    costs = [sum(cost(one, steps) for one in pack) for pack in packs]
    highest = max(cost(one, steps) for pack in packs for one in pack)
    assert max(costs) <= sum(costs) / len(costs) + highest


def test_groups_of_equal_cost_stay_in_the_order_of_the_shards():
    packs = pack_groups(groups([1] * 100), steps=10, slots=2, most=50)
    assert [one.name for pack in packs for one in pack] == [f"g{number}" for number in range(100)]
    assert {len(pack) for pack in packs} <= {7, 8}


def test_a_pack_is_read_back_as_it_was_written(tmp_path):
    packs = pack_groups(groups([3, 1, 7, 7, 2, 9, 1, 1, 1]), steps=5, slots=1, most=3)
    write_packs(packs, tmp_path / "packs" / "own.parquet")
    assert count_packs(tmp_path / "packs" / "own.parquet") == len(packs) == 3
    for number, pack in enumerate(packs):
        read = read_pack(tmp_path / "packs" / "own.parquet", number)
        assert [(one.name, one.indices.tolist(), one.fallback) for one in read] == [
            (one.name, one.indices.tolist(), one.fallback) for one in pack
        ]


@pytest.fixture(scope="module")
def shops(prepare_frame):
    import pandas as pd

    frames = [
        series(f"s{number}", np.random.default_rng(number).normal(size=60), start=1, freq=1).assign(
            shop="north" if number % 2 else "south"
        )
        for number in range(6)
    ]
    return prepare_frame(pd.concat(frames), task__horizon=3, task__freq=1, data__static_categories=["shop"])


def test_each_series_has_a_model_of_its_own_and_one_of_its_group(shops):
    config = override(shops.config, {"fleet.by": "series", "fleet.group": ["shop"]})
    own, fallbacks = make_groups(shops.shards, shops.task, config)
    assert [(one.name, one.indices.tolist()) for one in own] == [(f"s{number}", [number]) for number in range(6)]
    assert [one.fallback for one in own] == ["south", "north"] * 3
    assert [(one.name, one.indices.tolist()) for one in fallbacks] == [("south", [0, 2, 4]), ("north", [1, 3, 5])]


def test_by_columns_there_is_one_model_per_combination_and_no_fallback(shops):
    config = override(shops.config, {"fleet.by": ["shop"]})
    own, fallbacks = make_groups(shops.shards, shops.task, config)
    assert [(one.name, one.indices.tolist(), one.fallback) for one in own] == [
        ("south", [0, 2, 4], None),
        ("north", [1, 3, 5], None),
    ]
    assert fallbacks == []


def test_by_cluster_every_series_is_in_one_cluster(shops):
    config = override(shops.config, {"fleet.by": "cluster", "fleet.clusters": 2})
    own, _ = make_groups(shops.shards, shops.task, config)
    assert len(own) == 2
    assert sorted(np.concatenate([one.indices for one in own])) == list(range(6))
