"""Shared by the verbs: runs in directories and at URIs, and their printed results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from dist_lstm.config.schema import Config
    from dist_lstm.run_directory import Run


def load(config: Path, settings: list[str] | None) -> "Config":
    """Read a config, with the settings of `--set`."""
    from dist_lstm.config.load import load_config

    return load_config(config, settings or ())


def output_location(config: Path, out: str | None) -> str | Path:
    """The directory or URI of the run of a config file."""
    return Path("runs") / config.stem if out is None else out


@contextmanager
def started(job: "Config", location: str | Path, console: "Console") -> Iterator["Run"]:
    """The run that a config describes, in its directory or at its URI, prepared."""
    from dist_lstm.layout import RunLayout
    from dist_lstm.run_directory import start_run
    from dist_lstm.storage import mirrored

    with mirrored(location, fetch=RunLayout.read()) as folder, start_run(job, folder, console) as run:
        yield run


@contextmanager
def opened(location: str, console: "Console", read_only: bool = False) -> Iterator["Run"]:
    """A run that was started before, in its directory or at its URI."""
    from dist_lstm.layout import RunLayout
    from dist_lstm.run_directory import open_run
    from dist_lstm.storage import mirrored

    with (
        mirrored(location, fetch=RunLayout.read(), own=not read_only) as folder,
        open_run(folder, console, read_only) as run,
    ):
        yield run


def show(label: str, path: Path, console: "Console", width: int = 10) -> None:
    """Print a path or URI after its label."""
    from dist_lstm.storage import shown

    console.print(f"{label:<{width}}{shown(path)}")


def show_results(run: "Run", console: "Console") -> None:
    """Print the scores of a run, and the paths of its results."""
    from dist_lstm.storage import shown

    scores = run.metrics.get("backtest")
    if scores:
        show_scores(scores, f"backtest of {shown(run.folder)}", console)
    files = run.files
    for path in (files.model, files.forecasts, files.backtest, files.metrics, files.report):
        if path.exists():
            show(path.name, path, console, width=14)


def show_scores(scores: dict[str, Any], title: str, console: "Console") -> None:
    """Print the leaderboard, one column per model, and the skill."""
    from rich.table import Table

    from dist_lstm.metrics import leaderboard

    board = leaderboard(scores)
    table = Table()
    table.add_column("metric")
    for name in board.models:
        table.add_column(name, justify="right", overflow="fold")
    for metric, values in board.rows.items():
        table.add_row(metric, *("-" if one is None or one != one else f"{one:.4g}" for one in values))
    console.print(title)  # not the table's title, which would wrap a path
    console.print(table)
    value = scores.get("skill")
    skill = "unknown" if value is None or value != value else f"{value:+.1%}"
    console.print(
        f"skill {skill} against SeasonalNaive (1 - MASE ratio), over {scores.get('skill_series', 0):,} series; "
        f"{scores.get('skill_left_out', 0):,} left out (no scale, or not the same points)"
    )
