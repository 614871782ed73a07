"""GPU benchmarks by priority, within ten minutes.

    python benchmarks/bench_gpu.py               # on a machine with a GPU; benchmarks/results/gpu.json
    python benchmarks/bench_gpu.py --rehearse    # the whole list in tiny sizes on a CPU

| item | limit | asks |
|---|--:|---|
| start | 30 s | does TensorFlow start on the GPU, with which libraries; what does `dist-lstm doctor` report? |
| cudnn | 120 s | is cuDNN's op in the training graph and no loop; do GPU and CPU agree, gradients too? |
| quickstart | 75 s | how long does the quickstart take, stage by stage? |
| steps | 150 s | windows per second of training, compared with preloaded tensors, PyTorch, cuDNN's ops alone |
| fused | 90 s | models per second of many small models trained as one, compared with one CPU core |
| precision | 60 s | speed and loss in float32, TF32 and float16 |
| mirrored | 30 s | what would a MirroredStrategy of one GPU cost? |
| forecasting | 30 s | series per second, Parquet to Parquet |
| causes | remaining time | where a goal of `steps` is missed: the worst cell with one setting changed at a time |

The results file is written after every line. An item that exceeds its limit is stopped, and its current line is
marked as cut; a line that fails is marked with its error, and a new process measures the next one. Lines in the
file are not measured again: the same command resumes with missing lines, then with those that were cut or failed.
Remaining time is given to `steps`, where it was cut, and then to `causes`.

Needs only Python, TensorFlow and the packages that dist_lstm imports, and PyTorch for its column (`--torch` names
another Python); Ray is not needed. Exit status 0 where every requested item is done and the GPU's results agree
with the CPU's.
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
    "start": 30, "cudnn": 120, "quickstart": 75, "steps": 150, "fused": 90, "precision": 60, "mirrored": 30,
    "forecasting": 30,
}  # fmt: skip
CAUSES = "causes"
TOTAL = 585
#: A rehearsal on a busy laptop takes longer than a GPU machine may.
REHEARSAL_FACTOR = 10


def parse_arguments() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rehearse", action="store_true", help="tiny sizes, on the CPU; writes no file without --out"
    )
    parser.add_argument("--items", nargs="+", choices=[*LIMITS, CAUSES], default=[*LIMITS, CAUSES])
    parser.add_argument("--limit", type=float, default=TOTAL, help="seconds for all items")
    parser.add_argument(
        "--torch", metavar="PYTHON", help="a Python that has PyTorch; default: this one where it has it"
    )
    parser.add_argument("--commit", help="commit of the source, for a copy without git")
    parser.add_argument("--out", type=Path, help="results file; default results/gpu.json, or none for a rehearsal")
    arguments = parser.parse_args()
    arguments.torch = arguments.torch or (sys.executable if find_spec("torch") else None)
    arguments.out = arguments.out or (None if arguments.rehearse else RESULTS)
    return arguments


def measure_item(
    job: Job, results: Results, limit: float, console: Console, start: Callable[[Job], Worker] = Worker
) -> None:
    """Measure the missing lines of an item; a line that fails is followed by a new process for the next.

    Args:
        job: The item.
        results: Earlier results; every line is added to them.
        limit: Time limit of the item in seconds.
        console: Where lines are printed.
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
    """Names and values of a line on one line of text, without lists."""
    parts = []
    for name, value in values.items():
        if isinstance(value, dict):
            parts.append(f"{name}: {brief(value)}")
        elif not isinstance(value, list):
            parts.append(f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts)


def show(results: Results, console: Console) -> None:
    """Print the cells of a training step, the goals and the state of each item."""
    columns = "framework", "ready", "torch", "loop"
    table = Table("windows per second", *columns, "/ ready", "/ torch", "input wait", title_justify="left")
    cells = {name: values for name, values in results.lines("steps").items() if "input_wait_share" in values}
    for name, values in cells.items():
        speeds = [values["windows_per_second"].get(column) for column in columns]
        ratios = [values["ratios"].get(f"framework / {other}") for other in ("ready", "torch")]
        columns_of_speeds = ["" if speed is None else f"{speed:,.0f}" for speed in speeds]
        columns_of_ratios = ["" if ratio is None else f"{ratio['median']:.2f}" for ratio in ratios]
        table.add_row(name, *columns_of_speeds, *columns_of_ratios, f"{values['input_wait_share']:.1%}")
    console.print(table)
    for goal in goals(cells):
        console.print(f"{'reached' if goal.reached else 'MISSED '}  {goal.name}: {goal.value:.3f} ({goal.worst})")
    for item in (*LIMITS, CAUSES):
        undone = results.undone(item)
        console.print(f"{item}: {results.state(item)}{f'; cut or failed: {undone}' if undone else ''}")


def is_sound(results: Results, items: Sequence[str], gpu: bool) -> bool:
    """Check that items are done and, where `cudnn` is one, that training uses cuDNN and GPU and CPU agree.

    Args:
        results: The results.
        items: Names of the items that were requested.
        gpu: Whether a GPU is expected; without one, cuDNN is not.

    Returns:
        Whether all of this holds.
    """
    lines = results.lines("cudnn") if "cudnn" in items else {}
    graph = lines.get("training graph", {})
    differences = [(values["difference"], values["limit"]) for values in lines.values() if "difference" in values]
    agree = all(difference is not None and difference <= limit for difference, limit in differences)
    uses_cudnn = not (gpu and lines) or bool(graph.get("holds_cudnn") and not graph.get("holds_loop"))
    done = all(results.state(item) == "done" and not results.undone(item) for item in items)
    return agree and uses_cudnn and done


def order(items: Sequence[str]) -> list[str]:
    """Items by priority; cut lines of `steps` are measured again before `causes`, which depends on them."""
    ordered = [item for item in LIMITS if item in items]
    return ordered + [item for item in ("steps", CAUSES) if item in items]


def sees_gpu(results: Results) -> bool:
    """Whether TensorFlow sees a GPU; also true where that was not measured."""
    devices = results.lines("start").get("tensorflow", {}).get("devices")
    return devices is None or any(device["type"] == "GPU" for device in devices)


def main() -> None:
    """Measure the missing lines by priority, print tables and write the results file."""
    arguments, console = parse_arguments(), Console(width=160)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the worker is ended too
    driver = nvidia_driver()
    if not arguments.rehearse and not driver.memory_mib:
        reason = f": {driver.complaint}" if driver.complaint else ""
        sys.exit(f"no NVIDIA GPU answers{reason}; --rehearse needs none")
    if arguments.torch is None:
        console.print(
            "PyTorch is not installed and left out of the comparison; --torch PYTHON names another Python"
        )
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
                console.print(
                    f"{item}: the limit of {arguments.limit:.0f} s is reached; the same command resumes here"
                )
                continue
            limit = min(factor * LIMITS.get(item, TOTAL), left)
            console.print(f"{item}, limit {limit:.0f} s")
            job = Job(item, scratch, arguments.rehearse, arguments.torch, steps=results.lines("steps"))
            measure_item(job, results, limit, console)
            if not arguments.rehearse and not sees_gpu(results):
                sys.exit(f"TensorFlow sees no GPU; its log:\n{results.log('start')}")
    show(results, console)
    console.print(f"limits: {sum(LIMITS.values())} s in total; elapsed: {time.monotonic() - begin:.0f} s")
    if results.path:
        console.print(f"written to {results.path}")
    measured = [item for item in arguments.items if item != CAUSES]
    sys.exit(0 if is_sound(results, measured, gpu=not arguments.rehearse) else 1)


if __name__ == "__main__":
    main()
