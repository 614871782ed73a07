"""Many small models: how fast they are trained, how good their forecasts are, and what a fleet takes.

    uv run python benchmarks/bench_fleet.py --data DIR --peer PYTHON     # prints tables, writes results/fleet.json

DIR holds `m3/{yearly,quarterly,monthly,other}_{train,test}.parquet`. The parts, each of which may be asked for
alone (`--parts`):

* speed: M3 monthly, a model a series (batch 32, context 24, 32 units, one step of the series at a time):
  `fused`, many models as one graph, for several numbers of models at once; `fit`, a new model a series, compiled
  and trained by `Model.fit` in one process; `reset`, one compiled model whose weights and optimizer are put back
  for each series; `trials`, a trial of Ray Tune a series, two at a time; `peer`, neuralforecast's LSTM fitted a
  series. A first round of each compiles and is left out, but for the building and tracing that a new model costs.
  Wall seconds are compared; cpu seconds are those of all threads of the process.
* accuracy: `dist-lstm fleet --set fleet.by=series` for the four frequencies, scored against the competition's own
  test part, beside its global model and Theta.
* size: the peak of memory of a fleet of 10,000 and of 20,000 generated series of 60 steps, over all processes.
* tune: what Tune itself takes a trial. `simulate_cluster.py` reckons with this and with the others' seconds.

The peer needs an environment of its own, as `bench_step.py --help` says, and is left out without one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.fleet_runs import FREQUENCIES, THETA, run_generated, score_frequency, time_trials
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "fleet.json"
PARTS = ("speed", "accuracy", "size", "tune")
#: What the fused way is to be times as fast as, at 100 updates.
REACH = {"fit": 15.0, "reset": 6.0}


def measure_speed(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All ways, for all numbers of updates."""
    from benchmarks.fleet_ways import Fleet, read_panel

    path = arguments.data / "m3" / "monthly_train.parquet"
    panel, found = read_panel(path), {}
    columns = ("updates", "way", "series", "series/s", "ms an update", "cpu ms an update", "fused is faster")
    table = Table(*columns, title="M3 monthly, a model a series: batch 32, context 24, 32 units")
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
        best = max(one["series/s"] for way, one in ways.items() if way.startswith("fused"))
        for way, one in ways.items():
            one["ratio"] = best / one["series/s"]
            numbers = [f"{one[key]:.3g}" for key in columns[3:6]]
            table.add_row(str(updates), way, f"{one['series']:.0f}", *numbers, f"{one['ratio']:.1f} x")
        found[str(updates)] = ways
    console.print(table)
    return found


def measure_peer(python: Path, path: Path, series: int, updates: int) -> dict[str, Any]:
    """The LSTM of neuralforecast, in its own environment."""
    script = ROOT / "benchmarks" / "peer_series.py"
    command = [str(python), str(script), str(path), str(series), str(updates)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(text.splitlines()[-1])
    wall, cpu, steps = found["seconds"], found["cpu_seconds"], series * updates
    each = {"ms an update": 1000 * wall / steps, "cpu ms an update": 1000 * cpu / steps}
    return {"series": series, "series/s": series / wall} | each | {"versions": found["versions"]}


def measure_accuracy(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The four frequencies of M3."""
    found = {}
    columns = ("M3", "series", "own", "group", "global", "naive", "fleet", "global model", "Theta", "seconds")
    table = Table(*columns, title="sMAPE in percent over the competition's test part, and seconds of the fleet")
    for name in FREQUENCIES:
        with tempfile.TemporaryDirectory() as scratch:
            one = found[name] = score_frequency(name, arguments.data / "m3", Path(scratch))
        levels = [str(one["levels"].get(level, 0)) for level in ("own", "group", "global", "naive")]
        smape = [f"{one[key]['smape']:.2f}" for key in ("fleet", "global")]
        table.add_row(name, str(one["series"]), *levels, *smape, f"{THETA[name]:.2f}", f"{one['seconds']:.0f}")
    console.print(table)
    return found


def measure_sizes(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The peak of memory, of which twice as many series must not take more than a tenth more."""
    found = {}
    table = Table("series", "peak MiB", "of the command MiB", "seconds", title="a fleet of generated series")
    for series in arguments.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            one = found[str(series)] = run_generated(series, Path(scratch))
        numbers = (f"{one[key]:,.0f}" for key in ("peak_mib", "command_mib", "seconds"))
        table.add_row(f"{series:,}", *numbers)
    console.print(table)
    return found


def measure_tune(_: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Tune's own time."""
    found = time_trials()
    console.print(
        f"Tune: {found['start']:.2f} s for two trials that do nothing, {found['trial']:.3f} s for one more"
    )
    return found


def main() -> None:
    """Measure the parts asked for, print their tables and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="a Python that has neuralforecast")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; default all")
    parser.add_argument("--updates", type=int, nargs="+", default=[30, 100, 300], help="steps a series")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 16, 64, 256], help="models at once")
    parser.add_argument("--sample", type=int, default=12, help="series of the ways that take long")
    parser.add_argument("--series", type=int, default=256, help="series of the fused way")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 20_000], help="generated series")
    arguments, console = parser.parse_args(), Console()
    ways: dict[str, Callable[[argparse.Namespace, Console], dict[str, Any]]] = {
        "speed": measure_speed,
        "accuracy": measure_accuracy,
        "size": measure_sizes,
        "tune": measure_tune,
    }
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for part in arguments.parts:
        results[part] = {"machine": describe_machine(), "found": ways[part](arguments, console)}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if "speed" in arguments.parts and "100" in results["speed"]["found"]:
        for way, reach in REACH.items():
            ratio = results["speed"]["found"]["100"][way]["ratio"]
            console.print(f"fused / {way} at 100 updates: {ratio:.1f}, to be reached: {reach:g}")
    console.print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
