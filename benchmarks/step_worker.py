"""The framework and a bare step, timed in turns in one process: a worker of `bench_step.py` and `bench_gpu.py`."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import tensorflow as tf

from benchmarks.training import make_bare_step, open_work, ready_batches, time_bare, train_framework
from benchmarks.turns import Jobs
from benchmarks.work import Size
from dist_lstm.config.schema import ResourceSettings
from dist_lstm.train.devices import make_strategy


def main() -> None:
    """Prepare with the first job, which holds GPUs, threads and strategy; then take turns."""
    jobs = Jobs()
    job = jobs.take()
    assert job is not None
    strategy = make_strategy(ResourceSettings(gpus=job["gpus"], threads=job["threads"]))
    if job["mirrored"]:
        strategy = tf.distribute.MirroredStrategy(["GPU:0" if job["gpus"] else "CPU:0"])
    work = open_work(Path(job["folder"]), Size.parse(job["size"]))
    bare = partial(time_bare, work, make_bare_step(work), ready_batches(work))

    def rest(passed: dict[str, float] | None) -> int:
        """Take jobs while the framework's training is paused, until one is for the framework."""
        jobs.answer(passed or {"strategy": type(strategy).__name__})
        while turn := jobs.take():
            if turn["contender"] != "bare":
                return turn["steps"]
            jobs.answer(bare(turn["steps"]))
        sys.exit()

    train_framework(work, strategy, rest)


if __name__ == "__main__":
    main()
