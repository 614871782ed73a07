"""What does the framework cost beside a bare training step, and how fast is it beside a peer?

    uv run python benchmarks/bench_step.py --peer PYTHON     # prints tables, writes results/step.json

On the CPU, at batch 256, context 96, horizon 24, two layers of 64 units, the quantile head (5 levels):

* framework: what `dist-lstm train` does, from Parquet shards through stream, loop and monitor, as where there
  is no terminal for a bar; the clock runs through whatever happens between two calls;
* bare: a hand-written `tf.function` step on ready tensors in that same process, of the same layers, loss,
  clipping and optimizer (`training.py`); reach: framework / bare at least 0.95;
* mirrored: the framework under a MirroredStrategy of one device, which `make_strategy` never uses: what it
  would cost;
* peer: neuralforecast's LSTM of the same layers, context, horizon, quantiles, scaling, dropout between
  layers, number of windows a step and table, its training step at its leanest (`peer_neuralforecast.py` says
  what was left out); reach: framework / peer at least 1.25.

All take turns of some steps, in both orders, for some rounds, in processes that rest while others work; nothing
is counted before a training's first step is done. Each has a process with 1 thread and one with 2
(TensorFlow: threads of an op, and ops at once; PyTorch: threads of an op), and is judged by the better of the
two. A ratio is that of two turns of one round; shown are the median over the rounds, the least and the greatest.

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
#: The better first, what it is compared with, and what is to be reached.
RATIOS = (("framework", "bare", 0.95), ("framework", "peer", 1.25), ("mirrored", "framework", None))

#: Answers of the rounds, by contender and number of threads.
Turns = dict[str, dict[int, list[dict[str, float]]]]


def parse_arguments() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="a Python that has neuralforecast")
    parser.add_argument("--units", type=int, nargs="+", default=[64, 64], help="units of each layer")
    parser.add_argument("--batch", type=int, default=256, help="windows a step")
    parser.add_argument("--context", type=int, default=96, help="steps of a context")
    parser.add_argument("--series", type=int, default=32, help="series the peer draws a step's windows from")
    parser.add_argument("--steps", type=int, default=8, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    return parser.parse_args()


def start(job: dict[str, Any], peer: Path | None, stack: ExitStack) -> tuple[dict[Any, Contender], dict[str, Any]]:
    """Start the processes of every number of threads, and wait until all are ready.

    Args:
        job: Folder and size, and what only the peer asks for.
        peer: A Python that has neuralforecast, or None.
        stack: Ends them.

    Returns:
        Processes by contender and number of threads, and what is known of them.
    """
    programs = {"framework": [sys.executable, str(HERE / "step_worker.py")]}
    programs["mirrored"] = programs["framework"]
    if peer:
        programs["peer"] = [str(peer), str(HERE / "peer_neuralforecast.py")]
    found: dict[Any, Contender] = {}
    for name, threads in itertools.product(programs, THREADS):
        quiet = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
        found[name, threads] = stack.enter_context(Contender(programs[name], quiet))
        found[name, threads].ask(gpus=0, threads=threads, mirrored=name == "mirrored", **job)
    about = {name: process.answer() for (name, _), process in found.items()}
    found |= {("bare", threads): found["framework", threads] for threads in THREADS}
    # Those that are compared follow each other.
    order = itertools.product(THREADS, ("bare", "framework", "peer", "mirrored"))
    return {(name, threads): found[name, threads] for threads, name in order if (name, threads) in found}, about


def measure(contenders: dict[Any, Contender], rounds: int, steps: int, console: Console) -> Turns:
    """Let all contenders work in turns, every other round in reverse order."""
    turns: Turns = {}
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds}")
        for name, threads in list(contenders)[:: -1 if number % 2 else 1]:
            contenders[name, threads].ask(contender=name, steps=steps)
            turns.setdefault(name, {}).setdefault(threads, []).append(contenders[name, threads].answer())
    return turns


def speeds(turns: Turns, name: str, threads: int) -> list[float]:
    """Windows a second of a contender, round by round."""
    return [answer["windows_per_second"] for answer in turns[name][threads]]


def best_threads(turns: Turns, name: str) -> int:
    """The number of threads with which a contender is faster."""
    return max(turns[name], key=lambda threads: median(speeds(turns, name, threads)))


def compare(turns: Turns) -> dict[str, dict[str, Any]]:
    """The ratios, each of the better number of threads; what is not the peer's has the framework's."""
    found = {}
    for name, other, target in RATIOS:
        if name not in turns or other not in turns:
            continue
        mine = best_threads(turns, "framework")
        theirs = best_threads(turns, other) if other == "peer" else mine
        pairs = zip(speeds(turns, name, mine), speeds(turns, other, theirs), strict=True)
        ratios = [round(one / two, 4) for one, two in pairs]
        found[f"{name} / {other}"] = {
            "threads": [mine, theirs],
            "median": median(ratios),
            "least": min(ratios),
            "greatest": max(ratios),
            "target": target,
        }
    return found


def show(results: dict[str, Any], turns: Turns, console: Console) -> None:
    """Print speeds and ratios."""
    table = Table("contender", *(f"windows/s, {n} thread{'s' * (n > 1)}" for n in THREADS), "CPU ms a step")
    for name, found in turns.items():
        rates = (f"{median(speeds(turns, name, threads)):,.0f}" for threads in THREADS)
        used = median(answer["cpu_seconds"] for answer in found[best_threads(turns, name)])
        table.add_row(name, *rates, f"{1000 * used:,.1f}")
    console.print(table)
    table = Table("ratio", "threads", "median", "range over rounds", "reach")
    for name, found in results["ratios"].items():
        target = found["target"]
        said = "" if target is None else f"{target} {'reached' if found['median'] >= target else 'MISSED'}"
        numbers = f"{found['median']:.3f}", f"{found['least']:.3f} to {found['greatest']:.3f}"
        table.add_row(name, "{} : {}".format(*found["threads"]), *numbers, said)
    console.print(table)


def main() -> None:
    """Measure in turns, print tables and write the results file."""
    arguments, console = parse_arguments(), Console()
    size = Size(tuple(arguments.units), arguments.batch, arguments.context)
    if arguments.peer is None:
        console.print("the peer is left out: give --peer PYTHON; --help says how to make its environment")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        write_table(Path(scratch))
        job = {"folder": scratch, "size": size.plain(), "horizon": HORIZON, "levels": list(LEVELS)}
        job |= {"dropout": make_config(Path(scratch), size).model.dropout, "series": arguments.series}
        contenders, about = start(job, arguments.peer, stack)
        turns = measure(contenders, arguments.rounds, arguments.steps, console)
    settings = {
        name: getattr(arguments, name) for name in ("units", "batch", "context", "series", "steps", "rounds")
    }
    results: dict[str, Any] = {"machine": describe_machine(), "settings": settings, "contenders": about}
    results |= {"ratios": compare(turns), "turns": turns}
    show(results, turns, console)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
