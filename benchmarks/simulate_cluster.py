"""Simulated time of fleets of millions of series on up to a thousand nodes: not a measurement.

    uv run python benchmarks/simulate_cluster.py     # reads results/fleet.json, writes results/simulation.json

Measured, on the machine of `results/fleet.json`: time per model (M3 monthly, the default small models on one
CPU), start-up time per worker, time per series of the command to prepare, pack and score, time per trial of Ray
Tune's driver, and bytes per series of the tables. Assumed, with one option each: CPUs per node, variation between
packs of one size, share of slow nodes, rate of node failures, and bandwidth of the storage.

Discrete events: the driver starts trials one after the other; a free worker takes the next pack; a pack whose
node fails is repeated from its beginning. Before and after, the command prepares and scores on one node. Two
packings: the default of 200 packs, and the best number of packs that can be set.
"""

import argparse
import heapq
import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "benchmarks" / "results" / "fleet.json"
RESULTS = ROOT / "benchmarks" / "results" / "simulation.json"
SERIES = (1_000_000, 10_000_000, 100_000_000)
NODES = (1, 10, 100, 1000)
#: The default of `fleet.max_packs`, and other values it may have.
PACKS = (200, 400, 800, 1500, 3000, 5000, 7000, 10_000)


@dataclass(frozen=True)
class Costs:
    """Measured costs, in seconds unless stated otherwise.

    Attributes:
        model: Time of a worker per model.
        start: Time of a worker before its first model.
        trial: Time of the driver per trial.
        series: Time of the command per series: preparing, packing and scoring.
        size: Bytes per series of the tables, including the weights of its model.
    """

    model: float
    start: float
    trial: float
    series: float
    size: float


@dataclass(frozen=True)
class World:
    """Assumptions about the cluster.

    Attributes:
        workers: Workers per node, one per CPU.
        spread: Standard deviation of the logarithm of a pack's time.
        slow: Share of nodes that take twice as long.
        lifetime: Mean hours until a node fails; it is replaced while others work.
        replaced: Seconds until a failed node is replaced.
        bandwidth: Bytes per second that the storage accepts from all nodes together.
    """

    workers: int = 16
    spread: float = 0.15
    slow: float = 0.02
    lifetime: float = 720.0
    replaced: float = 300.0
    bandwidth: float = 1e9


def read_costs(measured: dict[str, Any]) -> Costs:
    """Derive the costs from a results file of `bench_fleet.py`."""
    monthly = measured["accuracy"]["results"]["monthly"]
    models, seconds = np.array(monthly["packs"], float).T
    # The first pack of each of the two workers includes imports and compilation.
    model = float(np.median((seconds / models)[2:]))
    fleets = [*measured["accuracy"]["results"].values(), *measured["size"]["results"].values()]
    times = [[pack[1] for pack in fleet["packs"]] for fleet in fleets if len(fleet["packs"]) > 4]
    start = statistics.median(max(seconds[:2]) - statistics.median(seconds[2:]) for seconds in times)
    (few, small), (many, large) = sorted(
        (int(series), result) for series, result in measured["size"]["results"].items()
    )

    def outside(result: dict[str, Any]) -> float:
        return result["seconds"] - result["stages"]["work"]

    series = (outside(large) - outside(small)) / (many - few)
    return Costs(model, start, measured["packs"]["results"]["trial"], series, monthly["bytes"] / monthly["series"])


def simulate_packs(models: int, packs: int, nodes: int, costs: Costs, world: World, seed: int = 0) -> float:
    """Simulate the time until all packs are done.

    Args:
        models: Number of models.
        packs: Number of packs of equal size.
        nodes: Number of nodes.
        costs: Measured costs.
        world: Assumptions.
        seed: Seed of slow nodes and failures.

    Returns:
        Seconds until the last pack is done.
    """
    generator = np.random.default_rng(seed)
    speed = np.where(generator.random(nodes) < world.slow, 2.0, 1.0)
    dies = generator.exponential(world.lifetime * 3600, nodes)
    workers = [(0.0, number) for number in range(min(nodes * world.workers, packs))]
    # Every node gets a first pack before any node gets a second one.
    fresh, driver, end, waiting = set(range(len(workers))), 0.0, 0.0, packs
    seconds = models / packs * costs.model
    while waiting:
        free, worker = heapq.heappop(workers)
        node = worker % nodes
        driver = max(driver, free) + costs.trial
        elapsed = seconds * speed[node] * math.exp(generator.normal(-(world.spread**2) / 2, world.spread))
        elapsed += costs.start * (worker in fresh)
        fresh.discard(worker)
        done = driver + elapsed
        if done > dies[node] > driver:
            back = dies[node] + world.replaced
            fresh.add(worker)
            heapq.heappush(workers, (back, worker))
            continue
        if dies[node] <= driver:
            dies[node] = driver + generator.exponential(world.lifetime * 3600)
        waiting, end = waiting - 1, max(end, done)
        heapq.heappush(workers, (done, worker))
    return max(end, models * costs.size / world.bandwidth)


def best_packs(models: int, nodes: int, costs: Costs, world: World) -> tuple[int, float]:
    """Find the number of packs with the shortest time, the median of three simulations.

    Too few packs leave workers idle; too many are limited by the driver.

    Args:
        models: Number of models.
        nodes: Number of nodes.
        costs: Measured costs.
        world: Assumptions.

    Returns:
        The number of packs, one of `PACKS`, and its seconds.
    """
    return min(
        ((packs, median_of(models, packs, nodes, costs, world)) for packs in PACKS if packs <= models),
        key=lambda result: result[1],
    )


def median_of(models: int, packs: int, nodes: int, costs: Costs, world: World) -> float:
    """The median seconds of three simulations."""
    return statistics.median(simulate_packs(models, packs, nodes, costs, world, seed) for seed in range(3))


def simulate(costs: Costs, world: World) -> list[dict[str, Any]]:
    """Simulate all numbers of series and nodes."""
    rows = []
    for series in SERIES:
        for nodes in NODES:
            packs, seconds = best_packs(series, nodes, costs, world)
            row: dict[str, Any] = {"series": series, "nodes": nodes, "alone": series * costs.series}
            row["default"] = median_of(series, PACKS[0], nodes, costs, world)
            row |= {"packs": packs, "best": seconds}
            ideal = series * costs.model / (nodes * world.workers)
            row["busy"] = ideal / seconds
            rows.append(row)
    return rows


def duration(seconds: float) -> str:
    """Format seconds in a suitable unit."""
    for limit, name in ((2 * 86400, "days"), (2 * 3600, "h"), (120, "min")):
        if seconds >= limit:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[name]:,.1f} {name}"
    return f"{seconds:.0f} s"


def main() -> None:
    """Simulate, print a table and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(World()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"assumption; default {value:g}")
    world, console = World(**vars(parser.parse_args())), Console()
    costs = read_costs(json.loads(MEASURED.read_text(encoding="utf-8")))
    rows = simulate(costs, world)
    columns = ("series", "nodes", "200 packs", "best packs", "time", "workers busy", "plus on one node")
    table = Table(*columns, title=f"Simulated: fleets of one model per series, nodes of {world.workers} CPUs")
    for row in rows:
        numbers = (f"{row['packs']:,}", duration(row["best"]), f"{row['busy']:.0%}", duration(row["alone"]))
        table.add_row(f"{row['series']:,}", f"{row['nodes']:,}", duration(row["default"]), *numbers)
    console.print(table)
    most = costs.model / costs.trial
    console.print(
        f"Tune's driver starts {1 / costs.trial:.1f} trials per second: with W workers a pack needs at least "
        f"W / {most:.1f} models, {NODES[-1] * world.workers / most:,.0f} on {NODES[-1]:,} nodes"
    )
    results = {"machine": describe_machine(), "simulated": True, "costs": asdict(costs), "world": asdict(world)}
    RESULTS.write_text(json.dumps(results | {"results": rows}, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
