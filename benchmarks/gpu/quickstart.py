"""The quickstart end to end, through the command line."""

import json
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.gpu import ROOT, Job, Lines, Values

#: The line that `-v` prints per stage.
_STAGE = re.compile(r"^(\w+) +([\d.]+) s$", re.MULTILINE)
_TINY = ("train.max_steps=4", "train.steps_per_epoch=2", "train.refit=false", "backtest.windows=2")


def lines(job: Job) -> Lines:
    """Lines of the item."""
    yield "quickstart", partial(quickstart, Path(job.folder) / "quickstart", _TINY if job.rehearse else ())


def quickstart(out: Path, settings: tuple[str, ...]) -> Values:
    """Run the quickstart: seconds per stage, speed and scores."""
    command = [sys.executable, "-m", "dist_lstm", "run", "configs/quickstart.yaml", "--out", str(out), "-v"]
    begin = time.perf_counter()
    words = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stderr.strip()}")
    environment, metrics = (json.loads((out / f"{name}.json").read_text()) for name in ("environment", "metrics"))
    names = ("windows_per_second", "steps_per_second", "input_wait_share", "precision", "cudnn", "peak_memory_mib")
    return {
        "seconds": round(seconds, 1),
        "seconds_by_stage": {name: float(value) for name, value in _STAGE.findall(done.stdout + done.stderr)},
        **{name: environment[name] for name in names},
        "training": metrics["training"],
        "backtest": metrics["backtest"],
    }
