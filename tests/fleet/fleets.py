"""A small fleet, started from the command line, and functions that read its results."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

SERIES, STEPS, HORIZON = 24, 64, 4
SETTINGS = {
    "task.horizon": HORIZON, "task.freq": 1, "task.season_length": 4, "task.context_length": 8,
    "train.max_steps": 20, "fleet.slots": 1, "fleet.clusters": 2, "fleet.global_model": False,
    "model.dropout": 0,
    "fleet.settings": {"train.max_steps": 400, "model.units": [8], "train.batch_size": 8, "train.patience": 100},
}  # fmt: skip

#: The command line, which finally prints whether TensorFlow was imported.
TELLING = (
    "import sys; from dist_lstm.cli import main as cli\n"
    "try: cli.main()\n"
    "finally: print('IMPORTED', sorted({'tensorflow', 'keras'} & set(sys.modules)))"
)


def make_series() -> list[pd.DataFrame]:
    generator, step = np.random.default_rng(5), np.arange(STEPS)
    return [
        pd.DataFrame(
            {
                "unique_id": f"s{number:02d}",
                "ds": step + 1,
                "y": 20 + 5 * np.sin(step * np.pi / 2 + number) + generator.normal(size=STEPS),
            }
        )
        for number in range(SERIES)
    ]


def write_fleet(folder: Path, frames: list[pd.DataFrame], **settings: object) -> Path:
    """Write table and config into a folder; `settings` belong to the section `fleet`."""
    pd.concat(frames).to_parquet(folder / "table.parquet")
    values: dict = {"data": {"path": str(folder / "table.parquet")}}
    for key, value in (SETTINGS | {f"fleet.{name}": value for name, value in settings.items()}).items():
        section, name = key.split(".")
        values.setdefault(section, {})[name] = value
    (folder / "config.yaml").write_text(json.dumps(values))
    return folder / "config.yaml"


def without_ray() -> dict[str, str]:
    """The environment without the variables of Ray and of this package."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "DIST_LSTM_"))}


def start(config: Path, out: Path, **environment: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "dist_lstm", "fleet", str(config), "--out", out.name]
    return subprocess.Popen(
        words,
        cwd=out.parent,
        env=without_ray() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Kill a process at the end of the block, also after an exception."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def finished(process: subprocess.Popen) -> str:
    text, _ = process.communicate(timeout=500)
    assert process.returncode == 0, text
    return text


def wait_until(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 400) -> None:
    """Wait until a condition is true while a process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.05)


def forecasts(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "forecasts").sort_values(["unique_id", "ds"]).reset_index(drop=True)
