"""The simulation of a large cluster, where its result can be reckoned by hand."""

from dataclasses import replace

import pytest

from benchmarks.simulate_cluster import Costs, World, best_packs, read_costs, simulate_packs

EVEN = World(workers=4, spread=0.0, slow=0.0, lifetime=1e9, bandwidth=1e12)
COSTS = Costs(model=0.5, start=10.0, trial=0.0, series=0.001, size=1000.0)


def test_equal_packs_take_the_start_and_their_share_of_the_models():
    # 8 workers, 16 packs of 100 models: each starts once and works through two packs.
    assert simulate_packs(1600, 16, 2, COSTS, EVEN) == pytest.approx(10 + 2 * 100 * 0.5)


def test_one_pack_more_than_workers_takes_a_second_round():
    assert simulate_packs(900, 9, 2, COSTS, EVEN) == pytest.approx(10 + 2 * 100 * 0.5)


def test_the_driver_starts_one_trial_after_the_other():
    slow_driver = replace(COSTS, trial=100.0, start=0.0)
    assert simulate_packs(1000, 10, 100, slow_driver, EVEN) == pytest.approx(10 * 100 + 100 * 0.5)


def test_a_fleet_is_not_faster_than_its_storage():
    assert simulate_packs(1600, 16, 2, COSTS, replace(EVEN, bandwidth=1.0)) == 1600 * 1000


def test_slow_and_failing_nodes_take_more_time():
    fast = simulate_packs(100_000, 200, 10, COSTS, EVEN)
    assert simulate_packs(100_000, 200, 10, COSTS, replace(EVEN, slow=0.5)) > fast
    assert simulate_packs(100_000, 200, 10, COSTS, replace(EVEN, lifetime=0.2)) > fast


def test_more_workers_than_packs_need_more_packs():
    packs, seconds = best_packs(1_000_000, 100, COSTS, EVEN)
    assert packs > 200
    assert seconds < simulate_packs(1_000_000, 200, 100, COSTS, EVEN)


def test_costs_are_read_from_the_measured_values():
    def fleet(seconds: float, work: float, *packs: tuple[int, int]) -> dict:
        return {"seconds": seconds, "stages": {"work": work}, "packs": packs, "bytes": 3000, "series": 30}

    # Two workers' first packs take 12 s more than those after them, of which a model takes half a second.
    even = fleet(60, 50, (10, 17), (10, 16), (10, 5), (10, 5), (10, 5))
    few = fleet(9, 8, (10, 99), (10, 5))  # tells nothing of packs after the first
    size = {"1000": fleet(20, 10, *even["packs"]), "3000": fleet(34, 20, *even["packs"])}
    measured = {
        "accuracy": {"results": {"monthly": even, "other": few}},
        "size": {"results": size},
        "packs": {"results": {"trial": 0.25}},
    }
    assert read_costs(measured) == Costs(model=0.5, start=12.0, trial=0.25, series=4 / 2000, size=100.0)
