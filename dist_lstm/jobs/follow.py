"""Jobs of a cluster: which there are, what they print, and how they end.

Ray's own client waits without end for a job that is never placed, and calls a stopped job a success.
"""

import asyncio
import shlex
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dist_lstm.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

#: Exit statuses of a job that ended.
STATUS = {"succeeded": 0, "failed": 1, "stopped": 130}
_POLL = 1.0
#: A log that is silent for so long is asked whether its job is still there.
_SILENCE = 30.0
#: A cluster may be out of reach for so long (a laptop that sleeps, a port that is forwarded anew).
_OUT_OF_REACH = 120.0


@dataclass(frozen=True)
class Job:
    """A job that this package submitted.

    Attributes:
        name: What it is called; a name may be used again when its job has ended.
        job_id: The name, and a number of its own.
        state: `pending`, `running`, `succeeded`, `failed` or `stopped`.
        verb: What it does.
        begin: When it was submitted, seconds since 1970; None for unknown.
        end: When it ended.
        message: What Ray says of it.
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
        """Whether it has ended, however."""
        return self.state in STATUS

    @property
    def number(self) -> int:
        """Which of the jobs of its name it is."""
        return int(self.job_id.rpartition("-")[2])


def _job(details: Any) -> Job:
    words = shlex.split(details.entrypoint)
    return Job(
        name=details.metadata["job_name"],
        job_id=details.submission_id,
        state=details.status.value.lower(),
        verb=words[words.index("dist_lstm") + 1],
        begin=details.start_time and details.start_time / 1000,
        end=details.end_time and details.end_time / 1000,
        message=details.message or "",
    )


def list_jobs(client: "JobSubmissionClient") -> list[Job]:
    """The jobs that this package submitted to a cluster, the latest last."""
    mine = [_job(one) for one in client.list_jobs() if "dist_lstm" in (one.metadata or {})]
    return sorted(mine, key=lambda job: job.begin or 0.0)


def jobs_called(client: "JobSubmissionClient", name: str) -> list[Job]:
    """Jobs of a name, the latest last."""
    return [job for job in list_jobs(client) if job.name == name]


def find_job(client: "JobSubmissionClient", name: str) -> Job:
    """The latest job of a name.

    Args:
        client: The cluster's.
        name: The name.

    Returns:
        The job.

    Raises:
        UserError: If there is none.
    """
    matching = jobs_called(client, name)
    if not matching:
        names = ", ".join(dict.fromkeys(job.name for job in list_jobs(client))) or "none"
        raise UserError(name, f"{client.get_address()} has no job of that name", f"known are: {names}")
    return matching[-1]


def show_jobs(jobs: list[Job], console: Console) -> None:
    """Print jobs as a table."""
    table = Table("job", "verb", "state", "submitted", "minutes")
    for job in jobs:
        since = datetime.fromtimestamp(job.begin).astimezone().isoformat(" ", "minutes") if job.begin else ""
        took = f"{((job.end or time.time()) - job.begin) / 60:,.1f}" if job.begin else ""
        table.add_row(job.name, job.verb, job.state, since, took)
    console.print(table)


def follow(
    client: "JobSubmissionClient", job: Job, console: Console, pending_seconds: float = float("inf")
) -> int:
    """Print what a job prints, until it ends.

    A connection that breaks is made anew; one that stays broken for 2 minutes is given up, not the job.

    Args:
        client: The cluster's.
        job: The job.
        console: Where to.
        pending_seconds: A job that has no place after so long is withdrawn.

    Returns:
        An exit status: 0 succeeded, 1 failed or never placed, 130 stopped.

    Raises:
        UserError: If the cluster is out of reach.
    """

    def show(text: str) -> None:
        console.print(clean(text), end="")

    ended = asyncio.run(_follow(client, job, show, pending_seconds))
    if not ended.ended:
        console.print(f"{job.name} found no place in {pending_seconds:,.0f} s: {first_line(ended.message)}")
        stop(client, job, console)
        return STATUS["failed"]
    minutes = f" after {(ended.end - ended.begin) / 60:,.1f} minutes" if ended.begin and ended.end else ""
    # Where the command itself failed, Ray's message is the end of the log that stands above.
    why = f": {first_line(ended.message)}" if ended.state == "failed" else ""
    console.print(f"{job.name} {ended.state}{minutes}{why}")
    if ended.state == "stopped":
        console.print("the same command submitted again goes on where it stopped")
    return STATUS[ended.state]


def clean(text: str) -> str:
    """Text of a job, less what would steer a terminal."""
    return "".join(char for char in text.replace("\r", "\n") if char.isprintable() or char in "\n\t")


def first_line(text: str) -> str:
    """The first line of a text, less what leads to the lines after it."""
    return clean(text).strip().split("\n")[0].partition(", last available logs")[0]


async def _follow(
    client: "JobSubmissionClient", job: Job, show: Callable[[str], None], pending_seconds: float
) -> Job:
    """The job as it is when it has ended, or when it has no place in time."""
    import aiohttp

    shown, placed_by, lost = 0, time.monotonic() + pending_seconds, None
    while True:
        try:
            now = await asyncio.to_thread(_look, client, job)
            if now.state == "pending":
                if time.monotonic() > placed_by:
                    return now
                await asyncio.sleep(_POLL)
                continue
            position = 0
            async for text in _tail(client, job):
                show(text[max(0, shown - position) :])
                position += len(text)
                shown = max(shown, position)
                lost = None
            if (now := await asyncio.to_thread(_look, client, job)).ended:
                return now
        except (UserError, RuntimeError, OSError, aiohttp.ClientError) as error:
            lost = lost or time.monotonic()
            if time.monotonic() > lost + _OUT_OF_REACH:
                advice = f"{job.name} goes on: `dist-lstm jobs logs {job.name} --follow`"
                raise UserError("", error, advice) from error
            await asyncio.sleep(_POLL)


def _look(client: "JobSubmissionClient", job: Job) -> Job:
    return _job(client.get_job_info(job.job_id))


async def _tail(client: "JobSubmissionClient", job: Job) -> AsyncIterator[str]:
    """A job's log from its beginning, until the job ends or the connection does, be it in silence."""
    lines = aiter(client.tail_job_logs(job.job_id))
    while True:
        waiting = asyncio.ensure_future(anext(lines, None))
        while not (await asyncio.wait({waiting}, timeout=_SILENCE))[0]:
            try:
                await asyncio.to_thread(_look, client, job)
            except UserError:
                waiting.cancel()
                raise
        text = waiting.result()
        if text is None:
            return
        yield text


def stop(client: "JobSubmissionClient", job: Job, console: Console, seconds: float = 90.0) -> bool:
    """End a job: one that runs is told to and saves its work, one that waits is withdrawn.

    Args:
        client: The cluster's.
        job: The job.
        console: Where it is told.
        seconds: How long to wait for its end.

    Returns:
        Whether it has ended.

    Raises:
        UserError: If the cluster does not answer.
    """
    end, asked = time.monotonic() + seconds, ""
    while not (now := _look(client, job)).ended:
        if time.monotonic() > end:
            console.print(
                f"{job.name} has not ended in {seconds:g} s: it is {now.state}; ask again, or end its node"
            )
            return False
        if now.state != asked:
            asked = now.state
            client.stop_job(job.job_id)
            if asked == "pending":
                _withdraw(client, job)
        time.sleep(_POLL / 4)
    outcome = "withdrawn before it began" if asked == "pending" else f"{now.state}"
    console.print(f"{job.name} {outcome}" if asked else f"{job.name} had ended already: {now.state}")
    return True


def _withdraw(client: "JobSubmissionClient", job: Job) -> None:
    """End the actor that waits for a place: until it has one it does not read Ray's stop."""
    from ray.dashboard.modules.job.common import JOB_ACTOR_NAME_TEMPLATE, SUPERVISOR_ACTOR_RAY_NAMESPACE

    actor = JOB_ACTOR_NAME_TEMPLATE.format(job_id=job.job_id)
    code = (
        "import ray; ray.init(logging_level='ERROR'); "
        f"ray.kill(ray.get_actor({actor!r}, namespace={SUPERVISOR_ACTOR_RAY_NAMESPACE!r}))"
    )
    client.submit_job(entrypoint=shlex.join(["exec", "python", "-c", code]))
