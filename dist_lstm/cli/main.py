"""The command line: one thin verb per stage. Heavy packages are imported only by the verbs that need them."""

import errno
import logging
import os
import shlex
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dist_lstm.cli import cluster as cli_cluster
from dist_lstm.cli import process
from dist_lstm.cli import runs as cli_runs
from dist_lstm.errors import UserError
from dist_lstm.terminal import make_console as _console
from dist_lstm.version import __version__


class _Verbs(TyperGroup):
    """The verbs; -v and -q may be given before or after a verb."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        shared = [option for option in self.params if option.name in ("verbose", "quiet")]
        for verb in self.commands.values():
            for one in (verb, *getattr(verb, "commands", {}).values()):
                one.params.extend(shared)


app = typer.Typer(
    name="dist-lstm",
    cls=_Verbs,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train LSTMs to forecast time series, from a laptop's CPU to a cluster of GPUs.",
)

_log = logging.getLogger("dist_lstm")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file that describes the job.")]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="Directory of a run, or its URI.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
]
Out = Annotated[
    str | None, typer.Option(metavar="DIR", help="Run directory or its URI; default runs/NAME-OF-CONFIG.")
]


def _show_version(given: bool) -> None:
    if given:
        typer.echo(f"dist-lstm {__version__}")
        raise typer.Exit


def _choose(ctx: typer.Context, option: typer.CallbackParam, given: bool) -> None:
    """Apply -v or -q: set the level of the log, and for TensorFlow the environment."""
    chosen = ctx.meta.setdefault("dist_lstm.chosen", set())  # shared by the options before and after the verb
    if given:
        chosen.add(option.name)
    if len(chosen) > 1:
        raise UserError("", "-v and -q contradict each other", "leave one out")
    verbose = "verbose" in chosen
    _log.setLevel(logging.INFO if verbose else logging.ERROR if chosen else logging.WARNING)
    _log.handlers[:] = [logging.StreamHandler()] if verbose else []
    if verbose:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"


def _flag(*names: str, help: str) -> Any:  # noqa: A002 (typer's name)
    return typer.Option(*names, callback=_choose, expose_value=False, help=help)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[
        bool, _flag("-v", "--verbose", help="Show seconds per stage, and TensorFlow's messages.")
    ] = False,
    quiet: Annotated[bool, _flag("-q", "--quiet", help="Show errors only.")] = False,
) -> None:
    pass


@app.command()
def init(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A file, a folder, a glob or a URI.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Config to write; default NAME-OF-TABLE.yaml.")
    ] = None,
    horizon: Annotated[int | None, typer.Option(metavar="N", min=1, help="Steps to forecast.")] = None,
    set_: Settings = None,
) -> None:
    """Inspect a table and write a commented config for it."""
    from dist_lstm.starter.write import config_path, write_config

    settings = [*(set_ or ()), *(() if horizon is None else (f"task.horizon={horizon}",))]
    write_config(table, config_path(table) if out is None else out, settings, _console())


@app.command("run")
def run_command(config: ConfigFile, out: Out = None, set_: Settings = None) -> None:
    """Prepare, train, backtest, forecast and report, in one go."""
    job, location, console = cli_runs.load(config, set_), cli_runs.output_location(config, out), _console()
    with cli_cluster.trainer(job, location) as train_stage, cli_runs.started(job, location, console) as run:
        from dist_lstm.run import run_all

        run_all(run, train_stage)
        cli_runs.show_results(run, console)


@app.command()
def prepare(config: ConfigFile, out: Out = None, set_: Settings = None) -> None:
    """Check a table and write it as shards."""
    console = _console()
    with cli_runs.started(cli_runs.load(config, set_), cli_runs.output_location(config, out), console) as run:
        cli_runs.show("shards", run.shards.folder, console)


@app.command()
def train(config: ConfigFile, out: Out = None, set_: Settings = None) -> None:
    """Train a model; prepare the data first if necessary."""
    job, location, console = cli_runs.load(config, set_), cli_runs.output_location(config, out), _console()
    with cli_cluster.trainer(job, location) as train_stage, cli_runs.started(job, location, console) as run:
        train_stage(run)
        cli_runs.show("model", run.files.model, console)


@app.command()
def fleet(config: ConfigFile, out: Out = None, set_: Settings = None) -> None:
    """Train one model per series or group, and forecast every series."""
    from dist_lstm.fleet.run import run_fleet
    from dist_lstm.layout import FleetLayout
    from dist_lstm.storage import mirrored, shown

    job, console = cli_runs.load(config, set_), _console()
    with mirrored(cli_runs.output_location(config, out), fetch=FleetLayout.read()) as folder:
        result = run_fleet(job, folder, console)
        if result.get("backtest"):
            cli_runs.show_scores(result["backtest"], f"backtest of {shown(folder)}", console)
        files = FleetLayout(folder)
        for path in (files.forecasts, files.series_scores, files.models, files.backtest):
            cli_runs.show(path.name, path, console, width=14)


@app.command()
def export(
    fleet: Annotated[str, typer.Argument(metavar="FLEET", help="Directory of a fleet, or its URI.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="Name of the model: its series or group.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A file that ends in .keras.")],
) -> None:
    """Write one model of a fleet as a Keras file."""
    from dist_lstm.fleet.export import export_model
    from dist_lstm.storage import mirrored

    with mirrored(fleet, own=False) as folder:
        export_model(folder, model, out)
    cli_runs.show("model", out, _console())


@app.command()
def backtest(run: RunFolder) -> None:
    """Score a trained run on its test range, beside a baseline."""
    from dist_lstm.run import backtest as backtest_stage

    console = _console()
    with cli_runs.opened(run, console) as opened:
        backtest_stage(opened)
        cli_runs.show_results(opened, console)


@app.command()
def forecast(
    run: RunFolder,
    data: Annotated[str | None, typer.Option(metavar="TABLE", help="Forecast the series of this table.")] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where part-*.parquet are written.")] = None,
) -> None:
    """Forecast the series of a run, or of another table."""
    from dist_lstm.run import forecast as forecast_stage
    from dist_lstm.storage import mirrored

    console = _console()
    with ExitStack() as stack:
        opened = stack.enter_context(cli_runs.opened(run, console, read_only=out is not None))
        folder = None if out is None else stack.enter_context(mirrored(out, fetch=()))
        cli_runs.show("forecasts", forecast_stage(opened, data, folder), console)


@app.command()
def evaluate(
    run: RunFolder,
    data: Annotated[str, typer.Option(metavar="ACTUALS", help="Table of actual values.")],
    forecasts: Annotated[
        str | None, typer.Option(metavar="DIR", help="Forecasts to score; default those of the run.")
    ] = None,
) -> None:
    """Score forecasts against actual values."""
    from dist_lstm.evaluate.actuals import evaluate_forecasts
    from dist_lstm.storage import mirrored, shown

    console = _console()
    with (
        cli_runs.opened(run, console, read_only=True) as opened,
        mirrored(forecasts or opened.files.forecasts, own=False) as folder,
    ):
        result = evaluate_forecasts(opened.shards, opened.config, opened.task, data, folder)
        cli_runs.show_scores(result, f"{shown(folder)} against {data}", console)


@app.command()
def report(run: RunFolder) -> None:
    """Write the report of a run, report.html."""
    from dist_lstm.run import report as report_stage

    console = _console()
    with cli_runs.opened(run, console) as opened:
        cli_runs.show("report", report_stage(opened), console)


@app.command()
def plan(
    config: ConfigFile,
    set_: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a config would do; trains and writes nothing."""
    from dist_lstm.plan import make_plan, show_plan

    result = make_plan(cli_runs.load(config, set_))
    if as_json:
        import json

        typer.echo(json.dumps(result, indent=2))
    else:
        show_plan(result, _console())


@app.command()
def tune(config: ConfigFile, out: Out = None, set_: Settings = None) -> None:
    """Search for better settings in `search.space` of the config.

    The default DIR is runs/NAME-OF-CONFIG-tune.
    """
    from dist_lstm.jobs.session import require_shared_folder
    from dist_lstm.layout import SearchLayout
    from dist_lstm.search.run import search
    from dist_lstm.storage import mirrored

    job, where = cli_runs.load(config, set_), Path("runs") / f"{config.stem}-tune" if out is None else out
    require_shared_folder(where, on_cluster=bool(os.environ.get("RAY_ADDRESS")))
    with mirrored(where, fetch=SearchLayout.read(), keep=SearchLayout.kept()) as folder:
        search(job, folder, _console())


@app.command()
def doctor(
    address: Annotated[str | None, typer.Option(metavar="URL", help="Check this cluster as well.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URI", help="With --address: a path that every node must write to."),
    ] = None,
    insecure: cli_cluster.Insecure = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine, and a cluster; say what to do."""
    from dist_lstm.doctor.check import as_json as as_plain
    from dist_lstm.doctor.check import has_problem, show_checks
    from dist_lstm.doctor.machine import examine

    console = _console()
    with console.status("Checking this machine (about 15 s)"):
        checks = examine(cluster=address is not None)
        if address:
            from dist_lstm.doctor.cluster import examine_cluster

            checks += examine_cluster(address, insecure, storage)
    if as_json:
        import json

        typer.echo(json.dumps(as_plain(checks), indent=2))
    else:
        show_checks(checks, console)
    if has_problem(checks):
        raise typer.Exit(1)


app.command(context_settings={"allow_interspersed_args": False})(cli_cluster.submit)
app.add_typer(cli_cluster.jobs, name="jobs")


#: Verbs whose work continues without this process, or that print themselves how to continue.
_ELSEWHERE = ("submit", "jobs")


def main() -> None:
    """Run the command line.

    The exit status is 0 (done), 1 (internal error), 2 (the user's mistake), 130 (interrupted), 141 (nobody reads
    the output any more) or 143 (terminated by SIGTERM, as in a pre-emption, with the work saved).
    """
    arguments = sys.argv[1:]
    process.open_closed_streams()
    signal.signal(signal.SIGTERM, process.pre_empted)
    try:
        process.check_arguments(arguments)
        status = app(arguments or ["--help"], prog_name=app.info.name, standalone_mode=False)
    except UserError as error:
        process.print_error(str(error))
        status = error.exit_status
    except typer.TyperException as error:  # an unknown or missing argument
        context = getattr(error, "ctx", None)
        verb = context.command_path if context else app.info.name
        process.print_error(f"{error.format_message().rstrip('.')} (see {verb} --help)")
        status = error.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Of a result, the error would be a UserError that names it.
        where = error.filename or "the output or a temporary file"
        process.print_error(f"{where}: can't be written: {error.strerror}; free the disk")
        process.discard_output()
        status = UserError.exit_status
    except SystemExit as end:
        status = process.BROKEN_PIPE if process.ended_by_a_closed_pipe(end) else end.code
    if status == process.BROKEN_PIPE:
        process.discard_output()
    verb = next((word for word in arguments if not word.startswith("-")), "")
    if status in (process.INTERRUPTED, process.PRE_EMPTED) and verb not in _ELSEWHERE:
        # Overwrites the ^C that a terminal echoes.
        start = "\r" if sys.stderr.isatty() else ""
        reason = "interrupted" if status == process.INTERRUPTED else "terminated, work saved"
        process.say(f"{start}{reason}; continue with: {shlex.join(['dist-lstm', *arguments])}")
    sys.exit(status)
