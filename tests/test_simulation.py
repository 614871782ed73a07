"""The simulation of a large cluster, where its result can be reckoned by hand."""

from dataclasses import replace

import pytest

from benchmarks.simulate_cluster import Costs, World, best_packs, simulate_packs

EVEN = World(workers=4, spread=0.0, slow=0.0, lifetime=1e9, bandwidth=1e12)
COSTS = Costs(model=0.5, start=10.0, trial=0.0, series=0.001, size=1000.0)


def test_even_packs_take_their_share_of_the_models_after_the_start():
    # 8 workers, 16 packs of 100 models: each starts once and works through two packs.
    assert simulate_packs(1600, 16, 2, COSTS, EVEN) == pytest.approx(10 + 2 * 100 * 0.5)


def test_a_pack_more_than_there_are_workers_takes_a_round_more():
    assert simulate_packs(900, 9, 2, COSTS, EVEN) == pytest.approx(10 + 2 * 100 * 0.5)


def test_the_driver_starts_one_trial_after_the_other():
    slow_driver = replace(COSTS, trial=100.0, start=0.0)
    assert simulate_packs(1000, 10, 100, slow_driver, EVEN) == pytest.approx(10 * 100 + 100 * 0.5)


def test_no_fleet_is_faster_than_its_storage():
    assert simulate_packs(1600, 16, 2, COSTS, replace(EVEN, bandwidth=1.0)) == 1600 * 1000


def test_slow_nodes_and_nodes_that_die_cost_time():
    fast = simulate_packs(100_000, 200, 10, COSTS, EVEN)
    assert simulate_packs(100_000, 200, 10, COSTS, replace(EVEN, slow=0.5)) > fast
    assert simulate_packs(100_000, 200, 10, COSTS, replace(EVEN, lifetime=0.2)) > fast


def test_more_workers_than_packs_ask_for_more_packs():
    packs, seconds = best_packs(1_000_000, 100, COSTS, EVEN)
    assert packs > 200
    assert seconds < simulate_packs(1_000_000, 200, 100, COSTS, EVEN)
