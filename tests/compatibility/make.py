"""Make the folder of a released version: `python tests/compatibility/make.py tests/compatibility/VERSION`.

Run once, when a version is released; the files are never changed afterwards. Small jobs, through the command line:

    table.csv, other.csv   six series; the first four with eleven more steps, the last of them under a new name
    run/                   a finished run
    fleet/                 a finished fleet: one model per series and two of clusters
    search/                a finished search; best/ in it is a run
    interrupted/           a training that was interrupted between two checkpoints, of the table as a DataFrame
    models/                one model per decoder, with inputs and its forecasts
    expected/              forecasts of that version for other.csv, and a model exported from the fleet
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
#: Ray's state is pickled and belongs to one machine; no command reads the others, which are large.
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
    """Train until near the end of the fourth epoch, then end as on SIGTERM."""
    code = f"""
import pandas as pd
from pathlib import Path
from rich.console import Console
from dist_lstm.config.load import load_config
from dist_lstm.run import train
from dist_lstm.run_directory import start_run

calls = iter(range(1000))
settings = ["train.steps_per_call=1", "train.checkpoint_every=1", "train.deterministic=true"]
with start_run(load_config("run.yaml", settings), Path("interrupted"), Console(), pd.read_csv("table.csv")) as run:
    train(run, lambda: {signal.SIGTERM.value} if next(calls) >= 37 else None)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, check=False)
    assert ended.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), ended.returncode
    assert list((folder / "interrupted" / "checkpoints").iterdir())


MODELS = """
import keras
import numpy as np
from pathlib import Path
from dist_lstm.config.frequency import Frequency
from dist_lstm.config.resolved import ResolvedModelSettings
from dist_lstm.config.task import Task, Vocabulary, input_spec
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import save_model

shared = dict(horizon=4, context_length=8, min_context=4, freq=Frequency("D"), season_length=4)
shared |= dict(validation=4, test=4, transformed=True)
statics = Vocabulary(3, (("city", 2),), ("size",))
plain = Task(**shared, levels=(80.0,))
rich = Task(**shared, levels=(), series_scaling="standard", series=3, vocabulary=statics, calendar=True)
both = dict(series_embedding=2, calendar=True)
jobs = {
    "segment": (plain, dict(units=(4, 3), segment_length=4, decoder="segment", residual=True, scaling="standard")),
    "recursive": (rich, both | dict(units=(4,), segment_length=2, decoder="recursive", bidirectional=True,
                                    head="huber", scaling_by="series")),
    "direct": (rich, both | dict(units=(4,), segment_length=1, head="mse", scaling="minmax", linear=False)),
}
generator, folder = np.random.default_rng(5), Path("models")
folder.mkdir()
for name, (task, settings) in jobs.items():
    inputs = {}
    for key, (shape, kind) in input_spec(task).items():
        values = generator.normal(size=(6, *shape)) if kind == "float32" else generator.integers(0, 3, (6, *shape))
        inputs[key] = (abs(50 + 9 * values) if key in ("y", "series_scale") else values).astype(kind)
    inputs["y"][1, 2] = np.nan
    inputs["transform"] = np.array([[0, 0], [1, 0], [0, 1], [0, 2], [1, 1], [1, 2]], "int32")
    keras.utils.set_random_seed(3)
    model = build_model(task, ResolvedModelSettings(**settings))
    save_model(model, folder / f"{name}.keras")
    forecast = keras.ops.convert_to_numpy(model(inputs, training=False)["forecast"])
    np.savez(folder / f"{name}.npz", forecast=forecast, **inputs)
"""


def main(target: Path) -> None:
    """Make all files in a temporary folder, then copy those to keep."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_all(work)
        shutil.copytree(work, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for path in target.rglob("*.yaml"):
            # Relative paths instead of those of this machine.
            path.write_text(path.read_text().replace(f"{work}/", ""))


def make_all(work: Path) -> None:
    """Make all files."""
    write_tables(work)
    write_configs(work)
    call(work, "run", "run.yaml", "--out", "run")
    call(work, "fleet", "fleet.yaml", "--out", "fleet")
    call(work, "tune", "search.yaml", "--out", "search")
    interrupt(work)
    for name, run in (("run", "run"), ("search", "search/best")):
        call(work, "forecast", run, "--data", "other.csv", "--out", f"expected/{name}")
    call(work, "export", "fleet", "--model", "s0", "--out", "expected/s0.keras")
    subprocess.run([sys.executable, "-c", MODELS], cwd=work, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
