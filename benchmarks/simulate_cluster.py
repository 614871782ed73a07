"""How long a fleet of millions of series would take on up to a thousand nodes: a simulation, not a measurement.

    uv run python benchmarks/simulate_cluster.py     # reads results/fleet.json, writes results/simulation.json

Measured, on the machine of `results/fleet.json`: what a model takes (M3 monthly, the default small models on one
CPU), what a worker takes to start, what the command takes a series to prepare, pack and score, what Ray Tune's
driver takes a trial, and the bytes of a series' tables. Assumed, and changed by options: CPUs of a node, how much
packs of one size differ, how many nodes are slow, how often a node dies, and what the storage takes.

Events, in order of time: the driver starts one trial after the other, each taking its own time; a free worker
takes the next pack; a pack whose node dies is done again from its beginning. Before and after, the command
prepares and scores on one node. Two packings: 200 packs, as is the default, and the best that can be set.
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
#: What `fleet.max_packs` is by default, and what else it may be.
PACKS = (200, 400, 800, 1500, 3000, 5000, 7000, 10_000)


@dataclass(frozen=True)
class Costs:
    """Seconds.

    Attributes:
        model: Of a worker, for a model.
        start: Of a worker, before its first model.
        trial: Of the driver, for a trial.
        series: Of the command, for a series: prepared, packed, scored.
        size: Bytes, not seconds: of a series' tables, its model's weights among them.
    """

    model: float
    start: float
    trial: float
    series: float
    size: float


@dataclass(frozen=True)
class World:
    """What is assumed.

    Attributes:
        workers: Of a node; one CPU each.
        spread: Standard deviation of the logarithm of a pack's seconds.
        slow: Share of nodes that take twice as long.
        lifetime: Mean hours until a node dies; it is replaced while others work.
        replaced: Seconds until it is.
        bandwidth: Bytes a second that the storage takes of all nodes together.
    """

    workers: int = 16
    spread: float = 0.15
    slow: float = 0.02
    lifetime: float = 720.0
    replaced: float = 300.0
    bandwidth: float = 1e9


def read_costs(measured: dict[str, Any]) -> Costs:
    """The costs in a results file of `bench_fleet.py`."""
    monthly = measured["accuracy"]["found"]["monthly"]
    models, seconds = np.array(monthly["packs"], float).T
    # The first pack of each of the two workers imports and compiles.
    model = float(np.median((seconds / models)[2:]))
    fleets = [*measured["accuracy"]["found"].values(), *measured["size"]["found"].values()]
    took = [[pack[1] for pack in one["packs"]] for one in fleets if len(one["packs"]) > 4]
    start = statistics.median(max(one[:2]) - statistics.median(one[2:]) for one in took)
    (few, one), (many, two) = sorted((int(series), found) for series, found in measured["size"]["found"].items())

    def outside(found: dict[str, Any]) -> float:
        return found["seconds"] - found["stages"]["work"]

    series = (outside(two) - outside(one)) / (many - few)
    return Costs(model, start, measured["tune"]["found"]["trial"], series, monthly["bytes"] / monthly["series"])


def simulate_packs(models: int, packs: int, nodes: int, costs: Costs, world: World, seed: int = 0) -> float:
    """Seconds until all packs are done.

    Args:
        models: Number of models.
        packs: Packs of equal size that they are in.
        nodes: Number of nodes.
        costs: What is measured.
        world: What is assumed.
        seed: Of stragglers and deaths.

    Returns:
        The seconds.
    """
    generator = np.random.default_rng(seed)
    speed = np.where(generator.random(nodes) < world.slow, 2.0, 1.0)
    dies = generator.exponential(world.lifetime * 3600, nodes)
    workers = [(0.0, number) for number in range(min(nodes * world.workers, packs))]
    # Packs are spread over nodes before a node takes a second one.
    fresh, driver, end, waiting = set(range(len(workers))), 0.0, 0.0, packs
    seconds = models / packs * costs.model
    while waiting:
        free, worker = heapq.heappop(workers)
        node = worker % nodes
        driver = max(driver, free) + costs.trial
        took = seconds * speed[node] * math.exp(generator.normal(-(world.spread**2) / 2, world.spread))
        took += costs.start * (worker in fresh)
        fresh.discard(worker)
        done = driver + took
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
    """The number of packs with which a fleet ends first, and its seconds, the median of three simulations.

    Few packs leave workers idle; many are more than the driver can start.

    Args:
        models: Number of models.
        nodes: Number of nodes.
        costs: What is measured.
        world: What is assumed.

    Returns:
        The number, among those that `fleet.max_packs` may be, and the seconds.
    """
    return min(
        ((packs, median_of(models, packs, nodes, costs, world)) for packs in PACKS if packs <= models),
        key=lambda found: found[1],
    )


def median_of(models: int, packs: int, nodes: int, costs: Costs, world: World) -> float:
    """The median seconds of three simulations."""
    return statistics.median(simulate_packs(models, packs, nodes, costs, world, seed) for seed in range(3))


def simulate(costs: Costs, world: World) -> list[dict[str, Any]]:
    """All numbers of series and nodes."""
    found = []
    for series in SERIES:
        for nodes in NODES:
            packs, seconds = best_packs(series, nodes, costs, world)
            row: dict[str, Any] = {"series": series, "nodes": nodes, "alone": series * costs.series}
            row["default"] = median_of(series, PACKS[0], nodes, costs, world)
            row |= {"packs": packs, "best": seconds}
            ideal = series * costs.model / (nodes * world.workers)
            row["busy"] = ideal / seconds
            found.append(row)
    return found


def duration(seconds: float) -> str:
    """In words."""
    for limit, name in ((2 * 86400, "days"), (2 * 3600, "h"), (120, "min")):
        if seconds >= limit:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[name]:,.1f} {name}"
    return f"{seconds:.0f} s"


def main() -> None:
    """Simulate, print a table and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(World()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"assumed; default {value:g}")
    world, console = World(**vars(parser.parse_args())), Console()
    costs = read_costs(json.loads(MEASURED.read_text(encoding="utf-8")))
    found = simulate(costs, world)
    columns = ("series", "nodes", "in 200 packs", "best packs", "in these", "workers busy", "beside, on one node")
    table = Table(*columns, title=f"Simulated: a fleet of a model a series, nodes of {world.workers} CPUs")
    for row in found:
        numbers = (f"{row['packs']:,}", duration(row["best"]), f"{row['busy']:.0%}", duration(row["alone"]))
        table.add_row(f"{row['series']:,}", f"{row['nodes']:,}", duration(row["default"]), *numbers)
    console.print(table)
    most = costs.model / costs.trial
    console.print(
        f"Tune's driver starts {1 / costs.trial:.1f} trials a second: with W workers a pack needs at least "
        f"W / {most:.1f} models, {NODES[-1] * world.workers / most:,.0f} on {NODES[-1]:,} nodes"
    )
    results = {"machine": describe_machine(), "simulated": True, "costs": asdict(costs), "world": asdict(world)}
    RESULTS.write_text(json.dumps(results | {"found": found}, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
