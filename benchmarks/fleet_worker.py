"""Many small models trained as one graph on one CPU core: a worker process of `bench_gpu.py`."""

import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.turns import Jobs


def main() -> None:
    """Prepare with the first job, which holds the numbers of models and updates; then train at every turn."""
    jobs = Jobs()
    job = jobs.take()
    assert job is not None
    models, updates = job["models"], job["updates"]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before TensorFlow counts the cores
    from benchmarks.fleet_ways import Fleet, make_panel, measure
    from dist_lstm.config.schema import ResourceSettings
    from dist_lstm.train.devices import make_strategy

    make_strategy(ResourceSettings(gpus=0, threads=1))
    fleet = Fleet(make_panel(models), updates)
    work = partial(fleet.train, models, models)
    work()  # compiles
    jobs.answer({})
    while jobs.take():
        jobs.answer(measure(models, updates, work))


if __name__ == "__main__":
    main()
