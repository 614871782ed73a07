"""float32, TF32 and float16: speed of a step, and loss after 200 steps on ETTh1."""

import json
from functools import partial
from pathlib import Path

import pandas as pd
import tensorflow as tf
from rich.console import Console

from benchmarks.gpu import ROOT, Job, Lines, Values
from benchmarks.gpu.comparison import Turn, summarise, take_turns
from benchmarks.training import make_bare_step, one_device, open_work, ready_batches, time_bare
from benchmarks.work import Size
from dist_lstm.config.load import load_config, override
from dist_lstm.run import train
from dist_lstm.run_directory import start_run

PRECISIONS = ("float32", "tf32", "float16")
_STEPS = 200


def lines(job: Job) -> Lines:
    """Lines of the item."""
    small, large = Size((64, 64), 256, 96), Size((256, 256), 4096, 96)
    steps = 4 if job.rehearse else _STEPS
    yield "speed", partial(speed, job, Size((4,), 8, 24) if job.rehearse else small)
    # A rehearsal trains in one full and one half precision; `speed` traces all.
    for precision in ("tf32", "float16") if job.rehearse else PRECISIONS:
        yield f"{steps} steps on ETTh1, {precision}", partial(loss, Path(job.folder), precision, steps)
    if not job.rehearse:
        yield "speed, large", partial(speed, job, large)


def loss(folder: Path, precision: str, steps: int) -> Values:
    """Losses of the quickstart's model after some steps, and the framework's speed."""
    changes = {"train.max_steps": steps, "train.steps_per_epoch": steps // 4, "train.patience": 4}
    changes |= {"train.refit": False, "train.precision": precision}
    config = override(load_config(ROOT / "configs" / "quickstart.yaml"), changes)
    out = folder / f"etth1-{precision}"
    with start_run(config, out, Console(quiet=True)) as run:
        train(run)
    last = pd.read_csv(out / "history.csv").iloc[-1]
    environment = json.loads((out / "environment.json").read_text())
    return {
        "precision": environment["precision"],
        "loss": float(last["loss"]),
        "validation_loss": float(last["validation_loss"]),
        "windows_per_second": environment["windows_per_second"],
        "peak_memory_mib": environment["peak_memory_mib"],
    }


def speed(job: Job, size: Size) -> Values:
    """Time bare steps on preloaded tensors in all precisions, in turns."""
    turns = {name: turn_of(Path(job.folder), size, name) for name in PRECISIONS}
    pairs = [(name, "float32") for name in PRECISIONS[1:]]
    return {"size": size.describe()} | summarise(take_turns(turns, size.batch, job), pairs)


def turn_of(folder: Path, size: Size, precision: str) -> Turn:
    """Turns of a bare step; TF32 is switched per process, hence before every turn."""
    one_device(precision)
    work = open_work(folder, size, precision)
    step, batches = make_bare_step(work), ready_batches(work)

    def turn(steps: int) -> dict[str, float]:
        tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
        return time_bare(work, step, batches, steps)

    return turn
