"""Results of single runs, stored when each is done, so that a benchmark goes on where it was stopped."""

import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy.runs import Job, run_job
from benchmarks.machine import describe_machine


class Cells:
    """Results by label, table, settings and seed, one file each.

    Args:
        folder: Folder of the files.
        data: Folder of the public tables.
        label: Which state of the product is measured, such as `before`.
    """

    def __init__(self, folder: Path, data: Path, label: str) -> None:
        self._folder = folder / label
        self._data = data

    def _file(self, job: Job) -> Path:
        settings = json.dumps(dict(job.settings), sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        name = f"{job.table}{'-inside' if job.inside else ''}-{digest}-{job.seed}.json"
        return self._folder / name

    def get(self, job: Job) -> dict[str, Any] | None:
        """The result of a job that was run before; None where there is none."""
        path = self._file(job)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def run(self, job: Job) -> dict[str, Any]:
        """Run a job, or take its stored result; one that failed is tried again."""
        stored = self.get(job)
        if stored is not None and "failed" not in stored:
            return stored
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            result = run_job(job, self._data, Path(scratch))
        machine = describe_machine()
        result |= {"table": job.table, "settings": dict(job.settings), "seed": job.seed}
        result |= {"commit": machine["commit"], "date": machine["date"], "cores": machine["cores"]}
        self._file(job).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return result

    def run_all(self, jobs: Sequence[Job], hours: float, console: Console) -> None:
        """Run jobs in order until all are done or the time is over.

        Args:
            jobs: The jobs, the most important first.
            hours: Hours after which no further job is started.
            console: Where each result is shown in a line.
        """
        end = time.monotonic() + hours * 3600
        for number, job in enumerate(jobs):
            if self.get(job) is None and time.monotonic() > end:
                console.print(f"{len(jobs) - number} runs are left for the next time")
                return
            result = self.run(job)
            scores = result.get("scores", {}).get("LSTM", {})
            shown = ", ".join(
                f"{key} {scores[key]:.3f}" for key in ("mase", "smape", "owa", "mse") if key in scores
            )
            changed = " ".join(f"{key}={value}" for key, value in job.settings.items())
            console.print(
                f"{job.table} {changed} seed {job.seed}: {result.get('failed') or shown}", highlight=False
            )
