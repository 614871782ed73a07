"""Results of single runs, stored when each is done, so that a benchmark goes on where it was stopped."""

import json
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy.runs import Job, run_job
from benchmarks.machine import describe_machine

#: Files of runs, one per label.
RUNS = Path(__file__).parent.parent / "results" / "runs"


class Cells:
    """Results by table, settings and seed, a line of JSON each.

    Args:
        path: The file; it is created with the first result.
        data: Folder of the public tables.
    """

    def __init__(self, path: Path, data: Path) -> None:
        self._path = path
        self._data = data
        self._lock = threading.Lock()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._results = {_key(one): one for one in map(json.loads, lines)}

    def get(self, job: Job) -> dict[str, Any] | None:
        """The result of a job that was run before; None where there is none, or it failed."""
        return self._results.get(_key(_describe(job)))

    def run(self, job: Job, threads: int | str = "auto") -> dict[str, Any]:
        """Run a job, or take its stored result; one that failed is not stored, so it is tried again.

        Args:
            job: The job.
            threads: Threads per operation of TensorFlow.

        Returns:
            The result of `run_job`, and what it belongs to.
        """
        stored = self.get(job)
        if stored is not None:
            return stored
        with tempfile.TemporaryDirectory() as scratch:
            result = run_job(job, self._data, Path(scratch), threads)
        machine = {key: value for key, value in describe_machine().items() if key in ("date", "commit", "cores")}
        result = _describe(job) | machine | {"threads": threads} | result
        if "failed" not in result:
            with self._lock:
                self._results[_key(result)] = result
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
        return result

    def run_all(self, jobs: Sequence[Job], hours: float, at_once: int, console: Console) -> None:
        """Run jobs in order until all are done or the time is over.

        Args:
            jobs: The jobs, the most important first.
            hours: Hours after which no further job is started.
            at_once: Jobs that run at the same time, each with one thread where there are several.
            console: Where each result is shown in a line.
        """
        end = time.monotonic() + hours * 3600

        def work(job: Job) -> bool:
            if self.get(job) is None and time.monotonic() > end:
                return False
            result = self.run(job, 1 if at_once > 1 else "auto")
            scores = result.get("scores", {}).get("LSTM", {})
            shown = ", ".join(
                f"{key} {scores[key]:.3f}" for key in ("mase", "smape", "owa", "mse") if key in scores
            )
            changed = " ".join(f"{key}={value}" for key, value in job.settings.items())
            console.print(
                f"{job.table} {changed} seed {job.seed}: {result.get('failed') or shown}", highlight=False
            )
            return True

        with ThreadPoolExecutor(at_once) as pool:
            left = sum(not done for done in pool.map(work, jobs))
        if left:
            console.print(f"{left} runs are left for the next time")


def _describe(job: Job) -> dict[str, Any]:
    own = {"table": job.table, "inside": job.inside, "settings": dict(job.settings), "seed": job.seed}
    return own | {"scored_on": job.scored_on}


def _key(described: dict[str, Any]) -> str:
    table, inside = described["table"], described["inside"]
    # Results that do not say so are of a time when all inside of the training range were scored on the backtest.
    scored_on = described.get("scored_on") or ("backtest" if inside else Job(table, {}, 0).scored_on)
    return json.dumps([table, inside, scored_on, described["settings"], described["seed"]], sort_keys=True)
