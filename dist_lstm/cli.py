"""The command line: one thin verb a stage. Nothing heavy is imported before a verb needs it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dist_lstm import __version__
from dist_lstm.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from dist_lstm.config.schema import Config

app = typer.Typer(
    name="dist-lstm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train LSTMs to forecast time series, from a laptop's CPU to a cluster of GPUs.",
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file that describes the job.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Run directory; default runs/NAME-OF-CONFIG.")]


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _job(config: Path, settings: list[str] | None, out: Path | None) -> tuple["Config", Path]:
    from dist_lstm.config.load import load_config

    return load_config(config, settings or ()), out or Path("runs") / config.stem


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dist-lstm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command("run")
def run_command(config: ConfigFile, out: Out = None, set_: Settings = None) -> None:
    """Prepare, train, backtest and forecast, from a table to scored forecasts."""
    from dist_lstm.run import run_all, start_run

    job, folder = _job(config, set_, out)
    console = _console()
    with start_run(job, folder, console) as run:
        run_all(run)
        _show_results(run, console)


@app.command()
def prepare(config: ConfigFile, out: Out = None, set_: Settings = None) -> None:
    """Check a table and write it as shards."""
    from dist_lstm.run import start_run

    job, folder = _job(config, set_, out)
    console = _console()
    with start_run(job, folder, console) as run:
        console.print(f"shards    {run.shards[0]}")


@app.command()
def train(config: ConfigFile, out: Out = None, set_: Settings = None) -> None:
    """Train a model; prepares the data first where that is not done."""
    from dist_lstm.run import MODEL, start_run
    from dist_lstm.run import train as train_stage

    job, folder = _job(config, set_, out)
    console = _console()
    with start_run(job, folder, console) as run:
        train_stage(run)
        console.print(f"model     {run.folder / MODEL}")


@app.command()
def backtest(run: RunFolder) -> None:
    """Score a trained run on its test range, beside the seasonal naive forecast."""
    from dist_lstm.run import backtest as backtest_stage
    from dist_lstm.run import open_run

    console = _console()
    with open_run(run, console) as opened:
        backtest_stage(opened)
        _show_results(opened, console)


@app.command()
def forecast(
    run: RunFolder,
    data: Annotated[str | None, typer.Option(metavar="TABLE", help="Forecast the series of this table.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where part-*.parquet are written.")] = None,
) -> None:
    """Forecast with a trained run: its own series, or those of another table."""
    from dist_lstm.run import forecast as forecast_stage
    from dist_lstm.run import open_run

    console = _console()
    with open_run(run, console) as opened:
        console.print(f"forecasts {forecast_stage(opened, data, out)}")


@app.command()
def evaluate(
    run: RunFolder,
    data: Annotated[str, typer.Option(metavar="ACTUALS", help="Table of what happened.")],
    forecasts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Forecasts to score; default those of the run.")
    ] = None,
) -> None:
    """Score forecasts against what happened."""
    from dist_lstm.evaluate.actuals import evaluate_forecasts
    from dist_lstm.run import FORECASTS, open_run

    console = _console()
    with open_run(run, console) as opened:
        folder = forecasts or opened.folder / FORECASTS
        found = evaluate_forecasts(opened.shards, opened.config, opened.task, data, folder)
        _show_scores(found, f"{folder} against {data}", console)


@app.command()
def plan(
    config: ConfigFile,
    set_: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a config would do; trains nothing and leaves nothing behind."""
    from dist_lstm.plan import make_plan, show_plan

    found = make_plan(_job(config, set_, None)[0])
    if as_json:
        import json

        typer.echo(json.dumps(found, indent=2))
    else:
        show_plan(found, _console())


def _show_results(run: Any, console: "Console") -> None:
    from dist_lstm.run import BACKTEST, FORECASTS, METRICS, MODEL

    scores = run.metrics.get("backtest")
    if scores:
        _show_scores(scores, f"backtest of {run.folder}", console)
    for name in (MODEL, FORECASTS, BACKTEST, METRICS):
        if (run.folder / name).exists():
            console.print(f"{name:<14}{run.folder / name}")


def _show_scores(scores: dict[str, Any], title: str, console: "Console") -> None:
    from rich.table import Table

    models = {name: values for name, values in scores.items() if isinstance(values, dict)}
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for name in models:
        table.add_column(name, justify="right")
    for metric in dict.fromkeys(metric for values in models.values() for metric in values):
        cells = [values.get(metric) for values in models.values()]
        table.add_row(metric, *("-" if cell is None or cell != cell else f"{cell:.4g}" for cell in cells))
    console.print(table)
    value = scores.get("skill")
    known = "unknown" if value is None or value != value else f"{value:+.1%}"
    console.print(
        f"skill {known} against SeasonalNaive (1 - MASE ratio), over {scores.get('skill_series', 0):,} series; "
        f"{scores.get('skill_left_out', 0):,} left out (no scale, or not the same points)"
    )


def main() -> None:
    """Run the command line; the exit status is 0, 1 (our fault), 2 (the user's) or 130 (interrupted)."""
    try:
        app()
    except UserError as error:
        line = " ".join(str(error).split())
        # What a damaged file holds may be a terminal's control codes.
        typer.echo("error: " + "".join(char if char.isprintable() else "?" for char in line), err=True)
        sys.exit(error.exit_status)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of a KeyboardInterrupt
            typer.echo("interrupted; the same command goes on with what is finished", err=True)
        raise
