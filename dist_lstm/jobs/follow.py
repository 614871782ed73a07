"""Jobs on a cluster: their list, their logs, and how they end.

Ray's own command waits forever for a job that is never started, and exits with 0 for a stopped one.
"""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from dist_lstm.errors import UserError
from dist_lstm.jobs.client import Dashboard
from dist_lstm.jobs.ray_private import job_actor

#: Exit status for each state of a job that has ended.
STATUS = {"succeeded": 0, "failed": 1, "stopped": 130}
_POLL = 1.0
#: Pause between two reads of a log, as a multiple of the duration of the last one.
_PAUSE = 10.0
#: Seconds for which a cluster may be unreachable (a laptop that sleeps, a port that is forwarded again).
_OUT_OF_REACH = 120.0


@dataclass(frozen=True)
class Job:
    """A job that this package submitted.

    Attributes:
        name: Its name, which may be reused when the job has ended.
        job_id: The name and a number, such as `load-2`; unique on the cluster.
        state: `pending`, `running`, `succeeded`, `failed` or `stopped`.
        verb: The command of `dist-lstm` that it runs.
        begin: Time of its submission, in seconds since 1970; None if unknown.
        end: Time of its end, in seconds since 1970; None if unknown.
        message: Ray's message about its state.
    """

    name: str
    job_id: str
    state: str
    verb: str
    begin: float | None = None
    end: float | None = None
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or been stopped."""
        return self.state in STATUS

    @property
    def number(self) -> int:
        """Its number among the jobs of its name, from 1."""
        return int(self.job_id.rpartition("-")[2])


def _job(details: Mapping[str, Any]) -> Job:
    words = shlex.split(details["entrypoint"])
    begin, end = (details.get(key) for key in ("start_time", "end_time"))
    return Job(
        name=details["metadata"]["job_name"],
        job_id=details["submission_id"],
        state=details["status"].lower(),
        verb=words[words.index("dist_lstm") + 1],
        begin=begin and begin / 1000,
        end=end and end / 1000,
        message=details.get("message") or "",
    )


def list_jobs(dashboard: Dashboard) -> list[Job]:
    """The jobs that this package submitted to a cluster, the latest last."""
    jobs = [_job(details) for details in dashboard.jobs() if "dist_lstm" in (details.get("metadata") or {})]
    return sorted(jobs, key=lambda job: job.begin or 0.0)


def jobs_called(dashboard: Dashboard, name: str) -> list[Job]:
    """Jobs with a name, the latest last."""
    return [job for job in list_jobs(dashboard) if job.name == name]


def find_job(dashboard: Dashboard, name: str) -> Job:
    """The latest job with a name.

    Args:
        dashboard: Dashboard of the cluster.
        name: The name.

    Returns:
        The job.

    Raises:
        UserError: If no job has that name; it lists the names of all jobs.
    """
    matching = jobs_called(dashboard, name)
    if not matching:
        names = ", ".join(dict.fromkeys(job.name for job in list_jobs(dashboard))) or "none"
        raise UserError(name, f"{dashboard.url} has no job of that name", f"its jobs are: {names}")
    return matching[-1]


def show_jobs(jobs: list[Job], console: Console) -> None:
    """Print jobs as a table."""
    table = Table("job", "verb", "state", "submitted", "minutes")
    for job in jobs:
        since = datetime.fromtimestamp(job.begin).astimezone().isoformat(" ", "minutes") if job.begin else ""
        took = f"{((job.end or time.time()) - job.begin) / 60:,.1f}" if job.begin else ""
        table.add_row(job.name, job.verb, job.state, since, took)
    console.print(table)


def follow(dashboard: Dashboard, job: Job, console: Console, pending_seconds: float = float("inf")) -> int:
    """Print a job's output until it ends.

    A lost connection is retried for 2 minutes; the job continues in any case.

    Args:
        dashboard: Dashboard of the cluster.
        job: The job.
        console: Where its output is printed.
        pending_seconds: Seconds after which a job that still has no resources is withdrawn.

    Returns:
        Exit status: 0 succeeded, 1 failed or never started, 130 stopped.

    Raises:
        UserError: If the cluster can't be reached for longer than that.
    """

    def show(text: str) -> None:
        console.print(clean(text), end="")

    ended = _until_end(dashboard, job, show, pending_seconds)
    if not ended.ended:
        console.print(f"{job.name} got no resources in {pending_seconds:,.0f} s: {first_line(ended.message)}")
        stop(dashboard, job, console)
        return STATUS["failed"]
    minutes = f" after {(ended.end - ended.begin) / 60:,.1f} minutes" if ended.begin and ended.end else ""
    # For a command that failed, Ray's message goes on with the end of the log, which has been printed already.
    why = f": {first_line(ended.message)}" if ended.state == "failed" else ""
    console.print(f"{job.name} {ended.state}{minutes}{why}")
    if ended.state == "stopped":
        console.print("the same command submitted again goes on where it stopped")
    return STATUS[ended.state]


def clean(text: str) -> str:
    """Text without characters that control a terminal."""
    return "".join(char for char in text.replace("\r", "\n") if char.isprintable() or char in "\n\t")


def first_line(text: str) -> str:
    """The first line of a message of Ray's, without the words that introduce the log after it."""
    return clean(text).strip().split("\n")[0].partition(", last available logs")[0]


def _until_end(dashboard: Dashboard, job: Job, show: Callable[[str], None], pending_seconds: float) -> Job:
    """Wait until the job has ended, or has waited for resources for too long; returns its last state."""
    shown, deadline, lost = 0, time.monotonic() + pending_seconds, None
    while True:
        began, text = time.monotonic(), ""
        try:
            now = _current(dashboard, job)
            if now.state == "pending" and began > deadline:
                return now
            if now.state != "pending":
                # Read after the state, so that the log of a job that has ended is complete.
                text = dashboard.logs(job.job_id)
            lost = None
        except UserError as error:
            lost = lost or began
            if began > lost + _OUT_OF_REACH:
                advice = f"{job.name} goes on: `dist-lstm jobs logs {job.name} --follow`"
                raise UserError("", error, advice) from error
            time.sleep(_POLL)
            continue
        # Not with the time to print it, which may wait for a reader.
        seconds = time.monotonic() - began
        show(text[shown:])
        shown = max(shown, len(text))
        if now.ended:
            return now
        # Each answer holds the whole log from its start, so a long one is requested less often.
        time.sleep(max(_POLL, _PAUSE * seconds))


def _current(dashboard: Dashboard, job: Job) -> Job:
    return _job(dashboard.job(job.job_id))


def stop(dashboard: Dashboard, job: Job, console: Console, seconds: float = 90.0) -> bool:
    """Stop a job: a running one is terminated and saves its work, a pending one is withdrawn.

    Args:
        dashboard: Dashboard of the cluster.
        job: The job.
        console: Where progress is printed.
        seconds: Seconds to wait for its end.

    Returns:
        Whether it has ended.

    Raises:
        UserError: If the cluster does not answer.
    """
    end, asked = time.monotonic() + seconds, ""
    while not (now := _current(dashboard, job)).ended:
        if time.monotonic() > end:
            console.print(
                f"{job.name} has not ended in {seconds:g} s: it is {now.state}; ask again, or end its node"
            )
            return False
        if now.state != asked:
            asked = now.state
            dashboard.stop(job.job_id)
            if asked == "pending":
                _withdraw(dashboard, job)
        time.sleep(_POLL / 4)
    outcome = "withdrawn before it began" if asked == "pending" else f"{now.state}"
    console.print(f"{job.name} {outcome}" if asked else f"{job.name} had ended already: {now.state}")
    return True


def _withdraw(dashboard: Dashboard, job: Job) -> None:
    """Kill the actor that waits for resources: until it has them it does not read Ray's request to stop."""
    actor, namespace = job_actor(job.job_id)
    code = (
        f"import ray; ray.init(logging_level='ERROR'); ray.kill(ray.get_actor({actor!r}, namespace={namespace!r}))"
    )
    dashboard.submit(entrypoint=shlex.join(["exec", "python", "-c", code]))
