"""What a GPU must show, in eight minutes, by priority.

    python benchmarks/bench_gpu.py               # on a machine with a GPU; benchmarks/results/gpu.json
    python benchmarks/bench_gpu.py --rehearse    # the whole list in tiny sizes on a CPU

| item | limit | asks |
|---|--:|---|
| start | 30 s | does TensorFlow start on the card, with which libraries; what does the doctor say? |
| cudnn | 45 s | is cuDNN's op in the training graph and no loop; does the GPU agree with the CPU? |
| quickstart | 75 s | how long does the quickstart take, stage by stage? |
| steps | 150 s | windows per second of a training step, beside ready tensors, PyTorch, and cuDNN's ops alone |
| fused | 60 s | models per second of many small models trained as one, beside one CPU core |
| precision | 60 s | speed and loss in float32, TF32, float16 and bfloat16 |
| mirrored | 30 s | what would a MirroredStrategy of one GPU cost? |
| forecasting | 30 s | series per second, Parquet to Parquet |
| causes | what is left | where a goal of `steps` is missed: the worst cell with one thing changed at a time |

The results file is written after every line. An item that exceeds its limit is cut, and the line it was at is
marked; a line that fails is marked with its reason, and a new process goes on with the next. What the file holds
is not measured again: the same command goes on with what is missing, then with what was cut or failed.

For a machine that has only Python, TensorFlow and what dist_lstm imports, PyTorch for its column (`--torch` names
another Python), and no Ray.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.gpu import Job, Values
from benchmarks.gpu.goals import goals
from benchmarks.gpu.process import Worker
from benchmarks.gpu.results import Results
from benchmarks.machine import describe_machine
from benchmarks.work import write_table
from dist_lstm.jobs.machine import nvidia_driver

RESULTS = Path(__file__).parent / "results" / "gpu.json"
#: Seconds of each item, in the order in which they are measured.
LIMITS = {
    "start": 30, "cudnn": 45, "quickstart": 75, "steps": 150, "fused": 60, "precision": 60, "mirrored": 30,
    "forecasting": 30,
}  # fmt: skip
CAUSES = "causes"
#: All of it, in seconds.
MOST = 480
#: A rehearsal on a busy laptop is not cut where a GPU machine would be.
PATIENCE = 10


def parse_arguments() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rehearse", action="store_true", help="tiny sizes, on the CPU; writes no file unless told"
    )
    parser.add_argument("--items", nargs="+", choices=[*LIMITS, CAUSES], default=[*LIMITS, CAUSES])
    parser.add_argument("--limit", type=float, default=MOST, help="seconds in all")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has torch; this one where it has")
    parser.add_argument("--commit", help="commit of the source, where git does not tell")
    parser.add_argument("--out", type=Path, help="results file; results/gpu.json, or none for a rehearsal")
    arguments = parser.parse_args()
    arguments.torch = arguments.torch or (sys.executable if find_spec("torch") else None)
    arguments.out = arguments.out or (None if arguments.rehearse else RESULTS)
    return arguments


def measure_item(
    job: Job, results: Results, limit: float, console: Console, start: Callable[[Job], Worker] = Worker
) -> None:
    """Measure what is missing of an item, in as many processes as it takes.

    Args:
        job: The item.
        results: What is measured already; every line is added.
        limit: Seconds it may take.
        console: Where lines are shown.
        start: Starts a process for a job.
    """
    begin, undone = time.monotonic(), results.undone(job.item)
    measured = [line for line in results.lines(job.item) if line not in undone]
    tried: list[str] = []

    def add(line: str, values: Values) -> None:
        tried.append(line)
        results.add(job.item, line, values)
        console.print(
            f"  {line}: {brief(values)}", highlight=False, markup=False, no_wrap=True, overflow="ellipsis"
        )

    while True:
        with start(replace(job, skip=measured + tried, last=undone)) as worker:
            stop = worker.follow(begin + limit, add)
        if stop and stop.line:
            add(stop.line, {stop.kind: stop.reason})
        if stop is None or stop.kind == "cut" or not stop.line:
            break
    state = "done" if stop is None else f"{stop.kind}: {stop.line or 'at its start'}: {stop.reason}"
    results.end(job.item, state, time.monotonic() - begin)
    console.print(f"  {state}, {time.monotonic() - begin:.0f} s", highlight=False, markup=False)


def brief(values: Values) -> str:
    """Values in a line: numbers, words and what they are called."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found.append(f"{name}: {brief(value)}")
        elif not isinstance(value, list):
            found.append(f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(found)


def show(results: Results, console: Console) -> None:
    """Print the cells of a training step, the goals, and how far each item came."""
    columns = "framework", "ready", "torch", "loop"
    table = Table("windows per second", *columns, "/ ready", "/ torch", "input wait", title_justify="left")
    cells = {name: one for name, one in results.lines("steps").items() if "input_wait_share" in one}
    for name, values in cells.items():
        speeds = [values["windows_per_second"].get(column) for column in columns]
        ratios = [values["ratios"].get(f"framework / {other}") for other in ("ready", "torch")]
        said = ["" if one is None else f"{one:,.0f}" for one in speeds]
        said += ["" if one is None else f"{one['median']:.2f}" for one in ratios]
        table.add_row(name, *said, f"{values['input_wait_share']:.1%}")
    console.print(table)
    for goal in goals(cells):
        console.print(f"{'reached' if goal.reached else 'MISSED '}  {goal.name}: {goal.found:.3f} ({goal.worst})")
    for item in (*LIMITS, CAUSES):
        undone = results.undone(item)
        console.print(f"{item}: {results.state(item)}{f'; cut or failed: {undone}' if undone else ''}")


def is_sound(results: Results) -> bool:
    """Whether every item is done, and the card computes what it should, through cuDNN."""
    lines = results.lines("cudnn")
    graph = lines.get("training graph", {})
    agree = all(one["difference"] <= one["limit"] for one in lines.values() if "difference" in one)
    through = not graph.get("gpu_seen") or (graph["holds_cudnn"] and not graph["holds_loop"])
    return (
        agree
        and bool(through)
        and all(results.state(item) == "done" and not results.undone(item) for item in LIMITS)
    )


def main() -> None:
    """Measure what is not yet measured, by priority, and print tables."""
    arguments, console = parse_arguments(), Console(width=160)
    driver = nvidia_driver()
    if not arguments.rehearse and not driver.memory_mib:
        sys.exit(
            f"no NVIDIA GPU answers{f': {driver.complaint}' if driver.complaint else ''}; --rehearse needs none"
        )
    if arguments.torch is None:
        console.print(
            "PyTorch is not installed here: its columns are left out; --torch PYTHON names another Python"
        )
    patience = PATIENCE if arguments.rehearse else 1
    begin, limits = time.monotonic(), {name: patience * limit for name, limit in LIMITS.items()}
    gpu = {} if arguments.rehearse else {"gpu": driver.memory_mib, "driver": driver.version}
    commit = {"commit": arguments.commit} if arguments.commit else {}
    results = Results(arguments.out, describe_machine() | gpu | commit)
    with tempfile.TemporaryDirectory() as scratch:
        write_table(Path(scratch))
        for item in arguments.items:
            left = patience * arguments.limit - (time.monotonic() - begin)
            if results.state(item) == "done" and not results.undone(item):
                continue
            if left <= 0:
                console.print(f"{item}: the {arguments.limit:.0f} s are over; the same command goes on with it")
                continue
            limit = min(limits.get(item, left), left)
            console.print(f"{item}, {limit:.0f} s at most")
            job = Job(item, scratch, arguments.rehearse, arguments.torch, steps=results.lines("steps"))
            measure_item(job, results, limit, console)
    show(results, console)
    console.print(f"limits: {sum(LIMITS.values())} s in all; this took {time.monotonic() - begin:.0f} s")
    sys.exit(0 if is_sound(results) else 1)


if __name__ == "__main__":
    main()
