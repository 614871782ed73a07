"""Makes the folder of a released version: `python tests/compatibility/make.py tests/compatibility/VERSION`.

Run once, when a version is released; what it made stays as it is. Small jobs, through the command line:

    table.csv, other.csv   six series, and eleven more steps of four of them beside one that was not trained on
    run/                   a finished run
    fleet/                 a finished fleet: a model per series and two of clusters
    search/                a finished search; best/ in it is a run
    interrupted/           a training that was told to end between two checkpoints, of the table as a DataFrame
    models/                a model of each decoder with its inputs and forecasts; made by hand, for its layers
    expected/              what that version forecast with the first three for other.csv
"""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

SHARED = {
    "task": {"horizon": 4, "freq": 1, "season_length": 4, "context_length": 8, "levels": [80]},
    "data": {"path": "table.csv"},
    "split": {"validation": 8, "test": 8},
    "model": {"units": [6], "segment_length": 4},
    "train": {"max_steps": 60, "steps_per_epoch": 10, "batch_size": 16, "warmup_steps": 3, "seed": 3},
}
FLEET = {
    "slots": 2,
    "clusters": 2,
    "settings": {"train.max_steps": 40, "train.steps_per_epoch": 10, "model.units": [4]},
}
SEARCH = {
    "space": {"train.learning_rate": {"loguniform": [1e-3, 1e-1]}, "model.units": {"choice": [[4], [6]]}},
    "algorithm": "random",
    "num_samples": 3,
    "max_concurrent": 1,
}
#: Ray's state is pickle and belongs to one machine; the rest is large and read by no command.
LEFT_OUT = ("ray", "tensorboard", "report.html", "search.html", ".lock")


def make_series(steps: int) -> pd.DataFrame:
    """Six series with a season of 4 steps; a value of the second is missing."""
    generator, step = np.random.default_rng(7), np.arange(steps)
    tables = [
        pd.DataFrame({"unique_id": f"s{number}", "ds": step + 1, "y": 50 + 9 * np.sin(step * np.pi / 2 + number)})
        for number in range(6)
    ]
    for table in tables:
        table["y"] = (table["y"] + generator.normal(size=steps)).round(3)
    tables[1].loc[20, "y"] = np.nan
    return pd.concat(tables, ignore_index=True)


def write_tables(folder: Path) -> None:
    """`table.csv` to train on and `other.csv` to forecast."""
    longer = make_series(71)
    longer[longer["ds"] <= 60].to_csv(folder / "table.csv", index=False)
    other = longer[longer["unique_id"] < "s4"].replace({"unique_id": {"s3": "unseen"}})
    other.to_csv(folder / "other.csv", index=False)


def write_configs(folder: Path) -> None:
    """`run.yaml`, `fleet.yaml` and `search.yaml`."""
    for name, sections in (("run", {}), ("fleet", {"fleet": FLEET}), ("search", {"search": SEARCH})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(SHARED | sections))


def call(folder: Path, *words: str) -> None:
    """Run the command line in a folder."""
    subprocess.run([sys.executable, "-m", "dist_lstm", *words], cwd=folder, check=True)


def interrupt(folder: Path) -> None:
    """Train until the fourth epoch is nearly over, then end as SIGTERM ends it."""
    code = f"""
import pandas as pd
from pathlib import Path
from rich.console import Console
from dist_lstm.config.load import load_config
from dist_lstm.run import start_run, train

calls = iter(range(1000))
settings = ["train.steps_per_call=1", "train.checkpoint_every=1", "train.deterministic=true"]
with start_run(load_config("run.yaml", settings), Path("interrupted"), Console(), pd.read_csv("table.csv")) as run:
    train(run, lambda: {signal.SIGTERM.value} if next(calls) >= 37 else None)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, check=False)
    assert ended.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), ended.returncode
    assert list((folder / "interrupted" / "checkpoints").iterdir())


def main(target: Path) -> None:
    """Make all of it in a temporary folder, then copy what stays."""
    # Absolute paths stand in what is written: one that says nothing of a machine.
    work = Path(tempfile.gettempdir()) / "compatibility"
    work.mkdir()
    write_tables(work)
    write_configs(work)
    call(work, "run", "run.yaml", "--out", "run")
    call(work, "fleet", "fleet.yaml", "--out", "fleet")
    call(work, "tune", "search.yaml", "--out", "search")
    interrupt(work)
    for name, run in (("run", "run"), ("search", "search/best")):
        call(work, "forecast", run, "--data", "other.csv", "--out", f"expected/{name}")
    call(work, "export", "fleet", "--model", "s0", "--out", "expected/s0.keras")
    copy_tree(work, target)


def copy_tree(source: Path, target: Path) -> None:
    """Copy what a later version reads."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.rmtree(source)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
