"""The verbs of a Ray cluster: `submit`, `jobs` for submitted jobs, and training on several nodes."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dist_lstm.errors import UserError
from dist_lstm.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Callable

    from dist_lstm.config.schema import Config
    from dist_lstm.jobs.submit import Command
    from dist_lstm.run_directory import Run

Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="RAY_API_SERVER_ADDRESS",
        help="URL of the cluster's dashboard; default http://127.0.0.1:8265, a forwarded port.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure", help="Allow plain http to another machine, although it exposes the token to the network."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the job.")]

jobs = typer.Typer(help="List, follow and stop submitted jobs.", no_args_is_help=True)


def trainer(job: "Config", where: str | Path) -> AbstractContextManager["Callable[[Run], Run]"]:
    """Return the stage that trains a job: in this process, or on several nodes of its cluster.

    Args:
        job: The job.
        where: Its directory or URI.

    Returns:
        A context manager of the stage, which may be called while it is open.
    """
    if job.resources.nodes == 1:
        from dist_lstm.run import train

        return nullcontext(train)
    from dist_lstm.jobs.nodes import nodes_trainer

    return nodes_trainer(job.resources, where)


def submit(
    ctx: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="VERB CONFIG ...", help="The command to run on the cluster, as it would be run here."
        ),
    ],
    address: Address = None,
    shared: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR", envvar="DIST_LSTM_SHARED", help="A folder that every node can access; may be repeated."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the job; default the name of the config.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Show what the job prints until it ends.")] = True,
    pending_timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Cancel a job that is still pending after so many seconds."),
    ] = 3600.0,
    insecure: Insecure = False,
) -> None:
    """Run a command on a Ray cluster."""
    command = _read_command(ctx, words)
    from dist_lstm.jobs.client import connect
    from dist_lstm.jobs.follow import follow as follow_job
    from dist_lstm.jobs.submit import submit as submit_command

    console = make_console()
    dashboard = connect(address, insecure)
    job = submit_command(dashboard, command, name, tuple(shared or ()), console)
    hint = f"`dist-lstm jobs logs {job.name} --follow` follows it, `dist-lstm jobs stop {job.name}` stops it"
    if not follow:
        console.print(hint)
        return
    try:
        status = follow_job(dashboard, job, console, pending_timeout)
    except KeyboardInterrupt:
        console.print(f"\n{job.name} goes on; {hint}")
        raise
    raise typer.Exit(status)


def _read_command(ctx: typer.Context, words: list[str]) -> "Command":
    """Read a command with the verb's own parser, so that mistakes are reported before it is submitted."""
    verb, *rest = words
    root: Any = ctx.find_root().command
    command = root.commands.get(verb)
    arguments = {
        one.metavar: one.name for one in getattr(command, "params", ()) if one.param_type_name == "argument"
    }
    subject = next((metavar for metavar in ("CONFIG", "RUN") if metavar in arguments), None)
    if command is None or subject is None:
        available = [name for name, one in root.commands.items() if _takes_work(one)]
        raise UserError("submit", f"{verb} can't be run on a cluster", f"expected one of {', '.join(available)}")
    inner = command.context_class(command, info_name=verb, parent=ctx.find_root())
    given, left, _ = command.make_parser(inner).parse_args(list(rest))  # parse_args empties the list
    if left or not given.get(arguments[subject]):
        problem = f"unexpected {left[0]}" if left else f"{subject} is missing"
        raise UserError("submit", f"{verb}: {problem} (see dist-lstm {verb} --help)")

    def options(*metavars: str) -> dict[str, str]:
        result = {one.opts[0]: given.get(one.name) for one in command.params if one.metavar in metavars}
        return {option: value for option, value in result.items() if value and option != "--out"}

    from dist_lstm.jobs.submit import Command

    run = {"RUN": given[arguments["RUN"]]} if subject == "RUN" else {}
    return Command(
        verb=verb,
        words=tuple(rest),
        config=given[arguments["CONFIG"]] if subject == "CONFIG" else None,
        settings=tuple(given.get("set_") or ()),
        tables=options("TABLE", "ACTUALS"),
        reads=run | options("DIR"),
        out=given.get("out"),
    )


def _takes_work(command: Any) -> bool:
    return any(one.metavar in ("CONFIG", "RUN") for one in command.params)


@jobs.command("list")
def list_command(address: Address = None, insecure: Insecure = False) -> None:
    """List the jobs of a cluster."""
    from dist_lstm.jobs.client import connect
    from dist_lstm.jobs.follow import list_jobs, show_jobs

    show_jobs(list_jobs(connect(address, insecure)), make_console())


@jobs.command()
def logs(
    name: Name,
    address: Address = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Follow the output until the job ends, and exit with its status.")
    ] = False,
    insecure: Insecure = False,
) -> None:
    """Show what a job printed."""
    from dist_lstm.jobs.client import connect
    from dist_lstm.jobs.follow import clean, find_job
    from dist_lstm.jobs.follow import follow as follow_job

    dashboard, console = connect(address, insecure), make_console()
    job = find_job(dashboard, name)
    if follow:
        raise typer.Exit(follow_job(dashboard, job, console))
    console.print(clean(dashboard.logs(job.job_id)), end="")


@jobs.command()
def stop(
    name: Name,
    address: Address = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Seconds to wait for the job to end.")
    ] = 90.0,
    insecure: Insecure = False,
) -> None:
    """Stop a job, which saves its work first."""
    from dist_lstm.jobs.client import connect
    from dist_lstm.jobs.follow import find_job
    from dist_lstm.jobs.follow import stop as stop_job

    dashboard = connect(address, insecure)
    if not stop_job(dashboard, find_job(dashboard, name), make_console(), timeout):
        raise typer.Exit(1)
