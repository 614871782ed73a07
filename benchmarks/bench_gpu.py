"""GPU benchmarks by priority, within eight minutes.

    python benchmarks/bench_gpu.py               # on a machine with a GPU; benchmarks/results/gpu.json
    python benchmarks/bench_gpu.py --rehearse    # the whole list in tiny sizes on a CPU

| item | limit | asks |
|---|--:|---|
| start | 30 s | does TensorFlow start on the GPU, with which libraries; what does the doctor say? |
| cudnn | 45 s | is cuDNN's op in the training graph and no loop; does the GPU agree with the CPU? |
| quickstart | 75 s | how long does the quickstart take, stage by stage? |
| steps | 150 s | windows per second of training, compared with preloaded tensors, PyTorch, cuDNN's ops alone |
| fused | 60 s | models per second of many small models trained as one, compared with one CPU core |
| precision | 60 s | speed and loss in float32, TF32, float16 and bfloat16 |
| mirrored | 30 s | what would a MirroredStrategy of one GPU cost? |
| forecasting | 30 s | series per second, Parquet to Parquet |
| causes | what is left | where a goal of `steps` is missed: the worst cell with one thing changed at a time |

The results file is written after every line. An item that exceeds its limit is cut, and the line it was at is
marked; a line that fails is marked with its reason, and a new process measures the next. What the file holds is
not measured again: the same command resumes with what is missing, then with what was cut or failed. Time that
items leave over goes to `steps`, where it was cut, and then to `causes`.

For a machine that has only Python, TensorFlow and what dist_lstm imports, PyTorch for its column (`--torch` names
another Python), and no Ray. Exit status 0 where every item asked for is done and the GPU's results agree with the
CPU's.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
from dist_lstm.hardware import nvidia_driver

RESULTS = Path(__file__).parent / "results" / "gpu.json"
#: Seconds of each item, in the order in which they are measured.
LIMITS = {
    "start": 30, "cudnn": 45, "quickstart": 75, "steps": 150, "fused": 60, "precision": 60, "mirrored": 30,
    "forecasting": 30,
}  # fmt: skip
CAUSES = "causes"
TOTAL = 480
#: A rehearsal on a busy laptop takes longer than a GPU machine may.
REHEARSAL_FACTOR = 10


def parse_arguments() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rehearse", action="store_true", help="tiny sizes, on the CPU; writes no file unless told"
    )
    parser.add_argument("--items", nargs="+", choices=[*LIMITS, CAUSES], default=[*LIMITS, CAUSES])
    parser.add_argument("--limit", type=float, default=TOTAL, help="seconds in all")
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
            log = worker.log
        if stop and stop.line:
            add(stop.line, {stop.kind: stop.reason, "log": log})
        if stop is None or stop.kind == "cut" or not stop.line:
            break
    state = "done" if stop is None else f"{stop.kind}: {stop.line or 'between lines'}: {stop.reason}"
    results.end(job.item, state, time.monotonic() - begin, "" if stop is None and job.item != "start" else log)
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


def is_sound(results: Results, items: Sequence[str], gpu: bool) -> bool:
    """Whether items are done; and, where `cudnn` is one, training uses cuDNN and the GPU agrees with the CPU.

    Args:
        results: What was measured.
        items: The items.
        gpu: Whether a GPU was to be used.

    Returns:
        Whether all of it is so.
    """
    lines = results.lines("cudnn") if "cudnn" in items else {}
    graph = lines.get("training graph", {})
    differences = [(one["difference"], one["limit"]) for one in lines.values() if "difference" in one]
    agree = all(difference is not None and difference <= limit for difference, limit in differences)
    uses_cudnn = not (gpu and lines) or bool(graph.get("holds_cudnn") and not graph.get("holds_loop"))
    done = all(results.state(item) == "done" and not results.undone(item) for item in items)
    return agree and uses_cudnn and done


def order(items: Sequence[str]) -> list[str]:
    """Items by priority; what was cut of `steps` is taken up again before the causes of what it found."""
    ordered = [item for item in LIMITS if item in items]
    return ordered + [item for item in ("steps", CAUSES) if item in items]


def sees_gpu(results: Results) -> bool:
    """Whether TensorFlow found a GPU, or that was not measured."""
    devices = results.lines("start").get("tensorflow", {}).get("devices")
    return devices is None or any(device["type"] == "GPU" for device in devices)


def main() -> None:
    """Measure what is not yet measured, by priority, and print tables."""
    arguments, console = parse_arguments(), Console(width=160)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the worker too
    driver = nvidia_driver()
    if not arguments.rehearse and not driver.memory_mib:
        reason = f": {driver.complaint}" if driver.complaint else ""
        sys.exit(f"no NVIDIA GPU answers{reason}; --rehearse needs none")
    if arguments.torch is None:
        console.print("PyTorch is not installed: its columns are left out; --torch PYTHON names another Python")
    factor = REHEARSAL_FACTOR if arguments.rehearse else 1
    begin = time.monotonic()
    gpu = {} if arguments.rehearse else {"gpu": driver.memory_mib, "driver": driver.version}
    commit = {"commit": arguments.commit} if arguments.commit else {}
    results = Results(arguments.out, describe_machine() | gpu | commit)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        write_table(Path(scratch))
        for item in order(arguments.items):
            if item != CAUSES and results.state(item) == "done" and not results.undone(item):
                continue
            left = factor * arguments.limit - (time.monotonic() - begin)
            if left <= 0:
                console.print(f"{item}: the {arguments.limit:.0f} s are over; the same command resumes with it")
                continue
            limit = min(factor * LIMITS.get(item, TOTAL), left)
            console.print(f"{item}, {limit:.0f} s at most")
            job = Job(item, scratch, arguments.rehearse, arguments.torch, steps=results.lines("steps"))
            measure_item(job, results, limit, console)
            if not arguments.rehearse and not sees_gpu(results):
                sys.exit(f"TensorFlow sees no GPU; its log:\n{results.log('start')}")
    show(results, console)
    console.print(f"limits: {sum(LIMITS.values())} s in all; this took {time.monotonic() - begin:.0f} s")
    if results.path:
        console.print(f"written to {results.path}")
    measured = [item for item in arguments.items if item != CAUSES]
    sys.exit(0 if is_sound(results, measured, gpu=not arguments.rehearse) else 1)


if __name__ == "__main__":
    main()
