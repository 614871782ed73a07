"""Show that a change of the code changes no result: `python tests/compatibility/compare.py COMMIT [--out DIR]`.

Runs the same jobs with the code of a commit and with that of the working tree, on this machine, each in its own
process, and compares their results byte for byte: losses of seeded trainings, forecasts, backtests, scores, the
tables of a fleet and of a search. Durations and facts about the machine are not compared. The exit status is 1 if
anything differs.

A finished job is not repeated: give `--out` to keep the results of COMMIT for the next comparison. M3 monthly is
skipped without its table (`DIST_LSTM_DATA`).
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("DIST_LSTM_DATA", ROOT.parent / "shared" / "data"))
SMALL = ROOT / "tests" / "compatibility" / "0.1.0"
#: Command of each job, by name.
JOBS = {
    "quickstart": ["run", "configs/quickstart.yaml", "--set", "train.max_steps=90"],
    "m3_monthly": ["run", "configs/m3_monthly.yaml", "--set", "train.max_steps=60",
                   "--set", f"data.path={DATA / 'm3' / 'monthly_train.parquet'}"],
    "recursive": ["run", "run.yaml", "--set", "model.decoder=recursive", "--set", "model.bidirectional=true",
                  "--set", "train.ema=0.9", "--set", "train.accumulate=2"],
    "linear": ["run", "run.yaml", "--set", "model.units=[6, 6]", "--set", "model.linear=true",
               "--set", "model.head=huber", "--set", "model.scaling_by=series"],
    "fleet": ["fleet", "fleet.yaml"],
    "search": ["tune", "search.yaml"],
}  # fmt: skip
#: Columns and keys with durations.
TIMES = ("seconds",)


def do_jobs(tree: Path, out: Path, names: list[str]) -> None:
    """Run the jobs that are not done yet with the code of a tree."""
    for name in names:
        # Checked here, since to the command a table of another tree is another table.
        if (out / name / "_SUCCESS").exists():
            continue
        verb, config, *words = JOBS[name]
        folder = tree if config.startswith("configs/") else SMALL
        command = [sys.executable, "-m", "dist_lstm", "-q", verb, config, "--out", str(out / name), *words]
        environment = os.environ | {"PYTHONPATH": str(tree), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        print(f"{tree.name}  {name}", flush=True)
        subprocess.run(command, cwd=folder, env=environment, check=True)


def results(folder: Path) -> dict[str, object]:
    """Results of a job that must not change, by file name: bytes, or the part that is compared."""
    contents: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".parquet" and path.parent.name == "models":
            contents[name] = _without_metadata(path)
        elif path.name == "history.csv" or (path.suffix == ".parquet" and path.name != "trials.parquet"):
            contents[name] = path.read_bytes()
        elif path.name == "trials.parquet":
            table = pd.read_parquet(path)
            contents[name] = table.drop(columns=[one for one in TIMES if one in table]).to_json(
                double_precision=15
            )
        elif path.name == "metrics.json":
            contents[name] = without_times(json.loads(path.read_text()))
    return {name: value for name, value in contents.items() if not name.startswith("ray/")}


def without_times(metrics: dict[str, object]) -> dict[str, object]:
    """The contents of `metrics.json` without durations."""
    return {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in metrics.items()
        if key not in TIMES
    }


def _without_metadata(path: Path) -> bytes:
    """A table's content: version 0.1.0 wrote no names of variables into the schema of a fleet's models."""
    table = pq.read_table(path).replace_schema_metadata(None)
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def main() -> int:
    """Compare a commit with the working tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--out", type=Path, help="Folder for the results of the commit.")
    parser.add_argument("--jobs", nargs="*", choices=JOBS, default=list(JOBS))
    given = parser.parse_args()
    names = [name for name in given.jobs if name != "m3_monthly" or DATA.is_dir()]
    with tempfile.TemporaryDirectory() as scratch:
        before, tree = given.out or Path(scratch) / "before", Path(scratch) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, given.commit], cwd=ROOT, check=True)
        try:
            do_jobs(tree, before.absolute(), names)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
        after = Path(scratch) / "after"
        do_jobs(ROOT, after, names)
        different = 0
        for name in names:
            old, new = results(before / name), results(after / name)
            changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            outcome = f"DIFFERENT: {', '.join(changed)}" if changed else "all the same"
            print(f"{name:<12} {len(old)} files, {outcome}")
            different += bool(changed)
        shutil.rmtree(after)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
