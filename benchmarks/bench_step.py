"""Speed of the framework's training, compared with a bare training step and with a peer.

    uv run python benchmarks/bench_step.py --peer PYTHON     # prints tables, writes results/step.json

On the CPU, at batch 256, context 96, horizon 24, two layers of 64 units, the quantile head (5 levels):

* framework: the training of `dist-lstm train`, from Parquet shards through stream, loop and monitor, without a
  progress bar; everything between two steps is timed;
* bare: a hand-written `tf.function` step on preloaded tensors in the same process, with the same layers, loss,
  clipping and optimizer (`training.py`); goal: framework / bare at least 0.95;
* mirrored: the framework under a MirroredStrategy of one device, which `make_strategy` never uses;
* peer: neuralforecast's LSTM with the same layers, context, horizon, quantiles, scaling, dropout between layers,
  windows per step and table, with its leanest training step (`peer_neuralforecast.py` lists what is off); goal:
  framework / peer at least 1.25.

All are timed in turns of a number of steps, in alternating order, in processes that are idle between their turns;
the first steps of a training are not timed. Each has one process with 1 thread and one with 2 (TensorFlow: threads
per op and parallel ops; PyTorch: threads per op); the faster of the two counts. A ratio compares two turns of the
same round; median, minimum and maximum over the rounds are shown. Where the range of the ratios includes 1, the
two are about equal.

The peer needs an environment of its own, and is left out without one:

    uv venv --python 3.11 PEER && VIRTUAL_ENV=PEER uv pip install neuralforecast     # PYTHON is PEER/bin/python
"""

import argparse
import itertools
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.turns import Contender
from benchmarks.work import HORIZON, LEVELS, Size, make_config, write_table

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "step.json"
THREADS = (1, 2)
#: Numerator, denominator, and the goal for the median ratio.
RATIOS = (("framework", "bare", 0.95), ("framework", "peer", 1.25), ("mirrored", "framework", None))

#: Answers of the rounds, by contender and number of threads.
Turns = dict[str, dict[int, list[dict[str, float]]]]


def parse_arguments() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="a Python that has neuralforecast")
    parser.add_argument("--units", type=int, nargs="+", default=[64, 64], help="units of each layer")
    parser.add_argument("--batch", type=int, default=256, help="windows per step")
    parser.add_argument("--context", type=int, default=96, help="steps of a context")
    parser.add_argument(
        "--series", type=int, default=32, help="series from which the peer samples the windows of a step"
    )
    parser.add_argument("--steps", type=int, default=8, help="steps per turn")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contender")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    return parser.parse_args()


def start(job: dict[str, Any], peer: Path | None, stack: ExitStack) -> tuple[dict[Any, Contender], dict[str, Any]]:
    """Start one process per contender and number of threads, and wait until all are ready.

    Args:
        job: Folder and size, and settings that only the peer reads.
        peer: A Python interpreter that has neuralforecast, or None.
        stack: Ends the processes on exit.

    Returns:
        Processes by contender and number of threads, and their first answers by contender.
    """
    programs = {"framework": [sys.executable, str(HERE / "step_worker.py")]}
    programs["mirrored"] = programs["framework"]
    if peer:
        programs["peer"] = [str(peer), str(HERE / "peer_neuralforecast.py")]
    processes: dict[Any, Contender] = {}
    for name, threads in itertools.product(programs, THREADS):
        environment = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
        processes[name, threads] = stack.enter_context(Contender(programs[name], environment))
        processes[name, threads].ask(gpus=0, threads=threads, mirrored=name == "mirrored", **job)
    descriptions = {name: process.answer() for (name, _), process in processes.items()}
    processes |= {("bare", threads): processes["framework", threads] for threads in THREADS}
    # Contenders that are compared are timed one after the other.
    order = itertools.product(THREADS, ("bare", "framework", "peer", "mirrored"))
    return {
        (name, threads): processes[name, threads] for threads, name in order if (name, threads) in processes
    }, descriptions


def measure(contenders: dict[Any, Contender], rounds: int, steps: int, console: Console) -> Turns:
    """Time all contenders in turns, in reverse order in every second round."""
    turns: Turns = {}
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds}")
        for name, threads in list(contenders)[:: -1 if number % 2 else 1]:
            contenders[name, threads].ask(contender=name, steps=steps)
            turns.setdefault(name, {}).setdefault(threads, []).append(contenders[name, threads].answer())
    return turns


def speeds(turns: Turns, name: str, threads: int) -> list[float]:
    """Windows per second of a contender, one value per round."""
    return [answer["windows_per_second"] for answer in turns[name][threads]]


def best_threads(turns: Turns, name: str) -> int:
    """The number of threads with which a contender is faster."""
    return max(turns[name], key=lambda threads: median(speeds(turns, name, threads)))


def compare(turns: Turns) -> dict[str, dict[str, Any]]:
    """Ratios, each with the faster number of threads; only the peer may differ from the framework in it."""
    ratios = {}
    for name, other, target in RATIOS:
        if name not in turns or other not in turns:
            continue
        threads = best_threads(turns, "framework")
        other_threads = best_threads(turns, other) if other == "peer" else threads
        pairs = zip(speeds(turns, name, threads), speeds(turns, other, other_threads), strict=True)
        values = [round(speed / other_speed, 4) for speed, other_speed in pairs]
        ratios[f"{name} / {other}"] = {
            "threads": [threads, other_threads],
            "median": median(values),
            "least": min(values),
            "greatest": max(values),
            "target": target,
        }
    return ratios


def verdict(ratio: dict[str, Any]) -> str:
    """In words: whether one contender is faster in every round.

    Args:
        ratio: A value of `compare`.

    Returns:
        `about equal` where the range over the rounds includes 1, else `faster` or `slower`.
    """
    if ratio["least"] <= 1 <= ratio["greatest"]:
        return "about equal"
    return "faster" if ratio["least"] > 1 else "slower"


def show(results: dict[str, Any], turns: Turns, console: Console) -> None:
    """Print the speeds of all contenders and their ratios."""
    table = Table("contender", *(f"windows/s, {n} thread{'s' * (n > 1)}" for n in THREADS), "CPU ms per step")
    for name, values in turns.items():
        rates = (f"{median(speeds(turns, name, threads)):,.0f}" for threads in THREADS)
        cpu_seconds = median(answer["cpu_seconds"] for answer in values[best_threads(turns, name)])
        table.add_row(name, *rates, f"{1000 * cpu_seconds:,.1f}")
    console.print(table)
    table = Table("ratio", "threads", "median", "range over rounds", "verdict", "goal")
    for name, values in results["ratios"].items():
        target = values["target"]
        goal = "" if target is None else f"{target} {'reached' if values['median'] >= target else 'MISSED'}"
        numbers = f"{values['median']:.3f}", f"{values['least']:.3f} to {values['greatest']:.3f}"
        table.add_row(name, "{} : {}".format(*values["threads"]), *numbers, verdict(values), goal)
    console.print(table)


def main() -> None:
    """Time all contenders in turns, print tables and write the results file."""
    arguments, console = parse_arguments(), Console()
    size = Size(tuple(arguments.units), arguments.batch, arguments.context)
    if arguments.peer is None:
        console.print("the peer is left out; --peer PYTHON adds it, and --help shows how to make its environment")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        write_table(Path(scratch))
        job = {"folder": scratch, "size": size.plain(), "horizon": HORIZON, "levels": list(LEVELS)}
        job |= {"dropout": make_config(Path(scratch), size).model.dropout, "series": arguments.series}
        contenders, descriptions = start(job, arguments.peer, stack)
        turns = measure(contenders, arguments.rounds, arguments.steps, console)
    settings = {
        name: getattr(arguments, name) for name in ("units", "batch", "context", "series", "steps", "rounds")
    }
    results: dict[str, Any] = {"machine": describe_machine(), "settings": settings, "contenders": descriptions}
    results |= {"ratios": compare(turns), "turns": turns}
    show(results, turns, console)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
