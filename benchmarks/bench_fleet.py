"""Many small models: training speed, accuracy of their forecasts, and time and memory of a fleet.

    uv run python benchmarks/bench_fleet.py --data DIR --peer PYTHON     # prints tables, writes results/fleet.json

DIR holds `m3/{yearly,quarterly,monthly,other}_{train,test}.parquet`. `--parts` selects some of these parts:

* speed: M3 monthly, one model per series (batch 32, context 24, 32 units, `segment_length` 1): `fused`, many
  models trained as one graph, for several numbers of models at once; `fit`, one new model per series, compiled and
  trained by `Model.fit` in one process; `reset`, one compiled model whose weights and optimizer are reset for each
  series; `trials`, one trial of Ray Tune per series, one per CPU at a time; `peer`, neuralforecast's LSTM fitted
  once per series. The first round of each compiles and is not timed, but building and tracing a new model is.
  Wall time is compared; CPU time is that of all threads of the process.
* accuracy: `dist-lstm fleet --set fleet.by=series` for the four frequencies, scored against the competition's own
  test part and compared with its global model and Theta.
* size: peak memory of a fleet of 10,000 and of 20,000 generated series of 60 steps, over all processes.
* packs: packs of nothing per second, handed out by the fleet (`run_packs`), by Ray Tune with a grid of trials, and
  by Ray's actors without Tune, in turns; and a profile of the fleet's driver. `simulate_cluster.py` uses the time
  per pack and the times of the other parts.

The peer needs an environment of its own (see `bench_step.py --help`) and is left out without one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.fleet_packs import time_packs
from benchmarks.fleet_runs import FREQUENCIES, THETA, run_generated, score_frequency
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "fleet.json"
PARTS = ("speed", "accuracy", "size", "packs")
#: Goals at 100 updates: how many times faster `fused` is than the other ways.
GOALS = {"fit": 15.0, "reset": 6.0}


def measure_speed(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure all ways for all numbers of updates."""
    from benchmarks.fleet_ways import Fleet, read_panel

    path = arguments.data / "m3" / "monthly_train.parquet"
    panel, results = read_panel(path), {}
    columns = ("updates", "way", "series", "series/s", "ms/update", "CPU ms/update", "fused / way")
    table = Table(*columns, title="M3 monthly, one model per series: batch 32, context 24, 32 units")
    for updates in arguments.updates:
        fleet = Fleet(panel, updates)
        ways: dict[str, Any] = {
            "fit": fleet.fit(arguments.sample),
            "reset": fleet.reset(arguments.sample),
        }
        for slots in arguments.slots:
            ways[f"fused {slots}"] = fleet.fused(slots, max(slots, min(arguments.series, 32 * slots)))
        ways["trials"] = fleet.trials(arguments.sample)
        if arguments.peer:
            ways["peer"] = measure_peer(arguments.peer, path, arguments.sample, updates)
        best_fused = max(speed["series/s"] for way, speed in ways.items() if way.startswith("fused"))
        for way, speed in ways.items():
            speed["ratio"] = best_fused / speed["series/s"]
            numbers = [f"{speed[key]:.3g}" for key in ("series/s", "ms an update", "cpu ms an update")]
            table.add_row(str(updates), way, f"{speed['series']:.0f}", *numbers, f"{speed['ratio']:.1f} x")
        results[str(updates)] = ways
    console.print(table)
    return results


def measure_peer(python: Path, path: Path, series: int, updates: int) -> dict[str, Any]:
    """Measure neuralforecast's LSTM in its own environment."""
    script = ROOT / "benchmarks" / "peer_series.py"
    command = [str(python), str(script), str(path), str(series), str(updates)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(text.splitlines()[-1])
    wall, cpu, steps = result["seconds"], result["cpu_seconds"], series * updates
    each = {"ms an update": 1000 * wall / steps, "cpu ms an update": 1000 * cpu / steps}
    return {"series": series, "series/s": series / wall} | each | {"versions": result["versions"]}


def measure_accuracy(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Score fleets on the four frequencies of M3."""
    results = {}
    columns = ("M3", "series", "own", "group", "global", "naive", "fleet", "global model", "Theta", "seconds")
    table = Table(*columns, title="sMAPE in percent over the competition's test part, and seconds of the fleet")
    for name in FREQUENCIES:
        with tempfile.TemporaryDirectory() as scratch:
            result = results[name] = score_frequency(name, arguments.data / "m3", Path(scratch))
        levels = [str(result["levels"].get(level, 0)) for level in ("own", "group", "global", "naive")]
        smape = [f"{result[key]['smape']:.2f}" for key in ("fleet", "global")]
        table.add_row(
            name, str(result["series"]), *levels, *smape, f"{THETA[name]:.2f}", f"{result['seconds']:.0f}"
        )
    console.print(table)
    return results


def measure_sizes(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure peak memory; twice as many series must not need more than 10 % more."""
    results = {}
    table = Table("series", "peak MiB", "of the command MiB", "seconds", title="a fleet of generated series")
    for series in arguments.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            result = results[str(series)] = run_generated(series, Path(scratch))
        numbers = (f"{result[key]:,.0f}" for key in ("peak_mib", "command_mib", "seconds"))
        table.add_row(f"{series:,}", *numbers)
    console.print(table)
    return results


def measure_packs(_: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure how fast packs are handed out, and profile the driver."""
    results = time_packs()
    table = Table("way", "packs/s", "lowest", "highest", title=f"{results['packs']:,} packs of nothing")
    for way, rates in results["packs/s"].items():
        table.add_row(way, *(f"{rate:.0f}" for rate in (median(rates), min(rates), max(rates))))
    console.print(table)
    profile = results["profile"]
    table = Table("profiled", "calls per pack", "ms per pack", title="the driver of the fleet")
    for name, part in profile["parts"].items():
        table.add_row(name, f"{part['calls']:.1f}", f"{part['ms']:.1f}")
    console.print(table)
    console.print(f"{results['start']:.1f} s for two packs, {1000 * results['trial']:.1f} ms for each further one")
    return results


def main() -> None:
    """Measure the selected parts, print their tables and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="a Python that has neuralforecast")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to measure; default: all")
    parser.add_argument("--updates", type=int, nargs="+", default=[30, 100, 300], help="training steps per series")
    parser.add_argument(
        "--slots", type=int, nargs="+", default=[1, 4, 16, 64, 256], help="numbers of models trained at once"
    )
    parser.add_argument("--sample", type=int, default=12, help="number of series for the slow ways")
    parser.add_argument("--series", type=int, default=256, help="number of series for the fused way")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 20_000], help="numbers of generated series"
    )
    arguments, console = parser.parse_args(), Console()
    ways: dict[str, Callable[[argparse.Namespace, Console], dict[str, Any]]] = {
        "speed": measure_speed,
        "accuracy": measure_accuracy,
        "size": measure_sizes,
        "packs": measure_packs,
    }
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for part in arguments.parts:
        results[part] = {"machine": describe_machine(), "results": ways[part](arguments, console)}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if "speed" in arguments.parts and "100" in results["speed"]["results"]:
        for way, goal in GOALS.items():
            ratio = results["speed"]["results"]["100"][way]["ratio"]
            console.print(f"fused / {way} at 100 updates: {ratio:.1f}, goal {goal:g}")
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
