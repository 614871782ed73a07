"""Is the GPU used as it should be, and how fast is it?

    python benchmarks/bench_gpu.py            # prints tables, adds to benchmarks/results/gpu.json

For a machine that has only Python, TensorFlow and what dist_lstm imports. It checks: is a GPU seen; does the
training graph hold cuDNN's op and no loop; do GPU and CPU agree in float32 without TF32; what would a
MirroredStrategy of one GPU cost. Then it measures cells, units x batch x context x precision, each in windows
a second of training in up to four ways, each cell in a fresh process that has the card for itself:

* framework: what `dist-lstm train` does, from Parquet, with the share of time input was waited for; reach:
  at least 0.9 of ready in every cell;
* ready: a bare `tf.function` step on tensors ready on the card;
* loop: that step with cuDNN off;
* torch: a bare step of `torch.nn.LSTM` of the same size and precision on ready tensors, where torch is
  installed; reach: framework / torch at least 1 as a geometric mean, and at least 0.8 in every cell.

`of bound` is the framework's share of what the card's arithmetic allows: windows a second x operations of a
window (`operations` in `work.py` shows the formula) / the card's peak in that precision, from a table of
known cards or `--tflops`. What a file of results holds already is not measured again, so that a long table can
be made in several calls. Without a GPU it measures tiny cells on the CPU, says so, and writes no file unless
told where.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.work import HORIZON, OUT_OF_MEMORY, QUANTILES, Size, make_config, operations, write_table
from dist_lstm.config.schema import Config

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "gpu.json"
WAYS = ("ready", "framework", "loop", "torch")
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
#: Cells with a GPU and without.
USUAL = {"units": [64, 256, 1024], "batch": [256, 4096], "context": [96, 720], "precision": list(PRECISIONS[:3])}
TINY = {"units": [16], "batch": [32], "context": [24], "precision": ["float32"]}
#: Dense peaks in TFLOP/s, in the order of PRECISIONS, of cards by a part of their name. Source: NVIDIA's data
#: sheets, without sparsity.
PEAKS = {
    "H200": (66.9, 494.7, 989.4, 989.4),
    "H100 80GB HBM3": (66.9, 494.7, 989.4, 989.4),
    "A100": (19.5, 156.0, 312.0, 312.0),
    "L4": (30.3, 60.0, 121.0, 121.0),
}
#: Seconds that a cell may need.
ROOM = 90.0
TARGETS = {"ready": "least 0.9", "torch": "mean 1, least 0.8"}


def parse_arguments() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", help="units of every layer")
    parser.add_argument("--batch", type=int, nargs="+", help="windows a step")
    parser.add_argument("--context", type=int, nargs="+", help="steps of a context")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--segment", type=int, default=1, help="steps read at once")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds a measurement")
    parser.add_argument("--limit", type=float, default=570.0, help="seconds it may take in all")
    parser.add_argument("--tflops", type=float, help="the card's peak in these cells' precision, in TFLOP/s")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has torch; this one where it has")
    parser.add_argument("--again", action="store_true", help="measure what the results file holds as well")
    parser.add_argument("--out", type=Path, help=f"results file; with a GPU {RESULTS.name} beside the others")
    arguments = parser.parse_args()
    arguments.torch = arguments.torch or (sys.executable if find_spec("torch") else None)
    arguments.deadline = time.monotonic() + arguments.limit
    return arguments


def ask(python: str, script: str, job: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Have a process do a job.

    Args:
        python: The Python that runs it.
        script: File beside this one; the last line it prints is the answer.
        job: What to do.
        deadline: When it is ended, on the monotonic clock.

    Returns:
        The answer; `failed` and why, where there is none.
    """
    command, timeout = [python, str(HERE / script), json.dumps(job)], max(deadline - time.monotonic(), 1.0)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {timeout:.0f} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {"failed": said[-1] if said else f"ended with {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def measure_cell(
    job: dict[str, Any], ways: list[str], config: Config, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Measure one cell: one process for the ways through TensorFlow, one for torch; numbers by way."""
    found: dict[str, Any] = {}
    mine = [way for way in ways if way != "torch"]
    if mine:
        answer = ask(sys.executable, "gpu_cell.py", job | {"ways": mine}, arguments.deadline)
        found |= dict.fromkeys(mine, answer) if "failed" in answer else answer
    if "torch" in ways:
        same = {"dropout": config.model.dropout, "clip_norm": config.train.clip_norm}
        same |= {"horizon": HORIZON, "quantiles": QUANTILES}
        found["torch"] = ask(arguments.torch, "torch_lstm.py", job | same, arguments.deadline)
    return found


def missing_ways(cell: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """The ways a cell is still to be measured in; where memory was short, it is so again."""
    done = [way for way, found in cell.get("ways", {}).items() if found.get("failed") in (None, OUT_OF_MEMORY)]
    return [way for way in arguments.ways if arguments.again or way not in done]


def read_results(path: Path | None, machine: dict[str, Any]) -> dict[str, Any]:
    """What a file of results holds; ends the program where it is of another machine or other versions."""
    empty = {"machine": machine, "checks": {}, "cells": {}}
    found = json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else empty
    change = {"date": machine["date"], "commit": machine["commit"]}
    if found["machine"] | change != machine:
        sys.exit(f"{path}: is of another machine or other versions; give another --out, or delete it")
    return found | {"machine": machine}


def peak(devices: list[dict[str, Any]], precision: str, given: float | None) -> float | None:
    """The card's peak in TFLOP/s; None where it is not known."""
    names = [device["model"] for device in devices if device["type"] == "GPU"]
    known = [peaks for part, peaks in PEAKS.items() if names and part in names[0]]
    return given or (known[0][PRECISIONS.index(precision)] if known else None)


def check(folder: Path, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run the checks on a small cell, and choose cells where none are given."""
    units, batch, context = ((getattr(arguments, name) or TINY[name])[0] for name in ("units", "batch", "context"))
    size = Size((units,) * arguments.layers, batch, context, arguments.segment)
    job = {"folder": str(folder), "size": size.plain(), "precision": "float32", "ways": [], "seconds": 2.0}
    checks = ask(sys.executable, "gpu_cell.py", job, arguments.deadline)
    if "failed" in checks:
        sys.exit(f"the checks failed: {checks['failed']}")
    if not checks["gpu_seen"]:
        console.print("no GPU is visible: these are numbers of the CPU, and cuDNN can't be checked here")
    for name, values in (USUAL if checks["gpu_seen"] else TINY).items():
        setattr(arguments, name, getattr(arguments, name) or values)
    arguments.out = arguments.out or (RESULTS if checks["gpu_seen"] else None)
    return checks


def add_cells(results: dict[str, Any], folder: Path, arguments: argparse.Namespace, console: Console) -> None:
    """Measure what is not yet measured; write the results after every cell."""
    machine = results["machine"]
    for place in itertools.product(arguments.precision, arguments.units, arguments.batch, arguments.context):
        precision, units, batch, context = place
        size = Size((units,) * arguments.layers, batch, context, arguments.segment)
        name = f"{size.units} units, batch {batch}, context {context}, segment {size.segment}, {precision}"
        cell = results["cells"].get(name, {"ways": {}})
        ways = missing_ways(cell, arguments)
        if not ways:
            continue
        left = arguments.deadline - time.monotonic()
        if left < ROOM:
            console.print(f"--limit is over; the same command goes on with {name}")
            return
        job = {"folder": str(folder), "size": size.plain(), "precision": precision, "seconds": arguments.seconds}
        found = measure_cell(job, ways, make_config(folder, size), arguments)
        results["cells"][name] = {
            "cell": [units, batch, context, precision],
            "commit": machine["commit"],
            "operations": operations(size.units, context, size.segment),
            "tflops": peak(machine["devices"], precision, arguments.tflops),
            "ways": cell["ways"] | found,
        }
        console.print(f"{left - (arguments.deadline - time.monotonic()):4.0f} s  {name}")
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def speed(cell: dict[str, Any], way: str) -> float | None:
    """Windows a second of a way; None where there is no number."""
    return cell["ways"].get(way, {}).get("windows_per_second")


def ratio(cell: dict[str, Any], other: str) -> float | None:
    """The framework's speed beside that of another way; None where one of them has no number."""
    mine, theirs = speed(cell, "framework"), speed(cell, other)
    return mine / theirs if mine and theirs else None


def show(results: dict[str, Any], console: Console) -> None:
    """Print checks, cells, and what is reached."""
    table = Table("check", "", title_justify="left")
    for name, found in results["checks"].items():
        table.add_row(name, str(found))
    console.print(table)
    columns = "units", "batch", "context", "precision", *WAYS, "wait", "of bound", "/ ready", "/ torch"
    table = Table(*columns, title="windows a second of training", title_justify="left")
    cells = results["cells"].values()
    for cell in cells:
        rates = [speed(cell, way) for way in WAYS]
        failed = [cell["ways"].get(way, {}).get("failed", "")[:24] for way in WAYS]
        said = [f"{rate:,.0f}" if rate else why for rate, why in zip(rates, failed, strict=True)]
        wait, mine = cell["ways"].get("framework", {}).get("input_wait_share"), speed(cell, "framework")
        bound = mine * cell["operations"] / cell["tflops"] / 1e12 if mine and cell["tflops"] else None
        shares = ["" if share is None else f"{share:.1%}" for share in (wait, bound)]
        beside = ["" if one is None else f"{one:.2f}" for one in (ratio(cell, "ready"), ratio(cell, "torch"))]
        table.add_row(*map(str, cell["cell"]), *said, *shares, *beside)
    console.print(table)
    if any(cell["tflops"] is None for cell in cells):
        console.print("of bound is left out where the card's peak is not known; give --tflops")
    for other, target in TARGETS.items():
        found = [one for one in (ratio(cell, other) for cell in cells) if one is not None]
        if found:
            numbers = f"geometric mean {statistics.geometric_mean(found):.3f}, least {min(found):.3f}"
            console.print(f"framework / {other}: {numbers}, cells {len(found)}; to reach: {target}")


def main() -> None:
    """Check, measure what is not yet measured, and print tables."""
    arguments, console = parse_arguments(), Console(width=120)
    if arguments.torch is None and "torch" in arguments.ways:
        console.print("torch is not installed here: its column is left out; --torch PYTHON names another Python")
        arguments.ways.remove("torch")
    with tempfile.TemporaryDirectory() as scratch:
        write_table(Path(scratch))
        checks = check(Path(scratch), arguments, console)
        machine = describe_machine() | {"devices": checks.pop("devices")}
        results = read_results(arguments.out, machine) | {"checks": checks}
        add_cells(results, Path(scratch), arguments, console)
    show(results, console)
    wrong = checks["gpu_seen"] and not (
        checks["graph_holds_cudnn"] and checks["gpu_cpu_difference"] <= checks["gpu_cpu_limit"]
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
