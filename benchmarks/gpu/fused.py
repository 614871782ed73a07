"""Many small models trained as one graph, compared with one CPU core of the same machine.

Models of 32 units, batch 32, context 24, one series per model, compiled by XLA, which calls `ptxas` of the CUDA
folder that `bench_gpu.py` sets in XLA_FLAGS.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from benchmarks.fleet_ways import BATCH, MODEL, TASK, Fleet, make_panel
from benchmarks.fleet_ways import measure as timed
from benchmarks.gpu import Job, Lines, Values
from benchmarks.gpu.comparison import spread
from benchmarks.training import one_device
from benchmarks.turns import Contender

#: Models trained at once on the GPU, and on the CPU core, where more models gain at most 25 %.
ON_GPU, ON_CORE = (256, 2048), 16
#: Small, so that 2,048 models fit the time limit.
UPDATES = 30
#: Turns of both, and seconds after which no further turn starts.
_TURNS, _SECONDS = 3, 12.0


def lines(job: Job) -> Lines:
    """Lines of the item."""
    updates, at_once = (4, 4) if job.rehearse else (UPDATES, ON_CORE)
    hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    core = Contender([sys.executable, str(Path(__file__).parents[1] / "fleet_worker.py")], hidden)
    core.ask(models=at_once, updates=updates)
    compiled = cache(core.answer)  # the first turn waits for it

    def core_turn() -> float:
        compiled()
        core.ask(go=True)
        return core.answer()["series/s"]

    one_device()
    for models in (4,) if job.rehearse else ON_GPU:
        yield f"{models} models", partial(measure, models, updates, core_turn)


def measure(models: int, updates: int, core_turn: Callable[[], float]) -> Values:
    """Models per second of the GPU and of one CPU core, timed in turns."""
    fleet = Fleet(make_panel(models), updates)
    work = partial(fleet.train, models, models)
    first = models / timed(models, updates, work)["series/s"]
    gpu: list[float] = []
    core: list[float] = []
    begin = time.perf_counter()
    while len(gpu) < 2 or (len(gpu) < _TURNS and time.perf_counter() - begin < _SECONDS):
        core.append(core_turn())
        gpu.append(timed(models, updates, work)["series/s"])
    return {
        "models": models,
        "updates": updates,
        "network": {"units": list(MODEL.units or ()), "batch": BATCH, "context": TASK.context_length},
        "first_s": round(first, 1),
        "models_per_second": {
            "GPU": round(statistics.median(gpu), 1),
            "one CPU core": round(statistics.median(core), 2),
        },
        "ratios": {"GPU / one CPU core": spread(gpu, core)},
    }
