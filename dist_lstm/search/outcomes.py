"""Outcomes of trials: read from Tune's records, collected in a table, and printed."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from dist_lstm.config.search import Domain
from dist_lstm.jobs.ray_private import last_result, trial_error
from dist_lstm.search.samples import Sample, changes_of
from dist_lstm.search.trial import DONE, FAILED

STOPPED = "stopped"
#: Number of trials in the table that is printed at the end.
_SHOWN = 10


@dataclass(frozen=True)
class Outcome:
    """The state of a trial.

    Attributes:
        number: Its number, from 0.
        sample: The values that it tries.
        last_result: Its last report to Tune; empty if there is none.
        reason: Why it failed; empty if it did not.
        over: Whether it has ended.
        checkpoint: Its last checkpoint, an object of Tune.
    """

    number: int
    sample: Sample
    last_result: Mapping[str, Any]
    reason: str
    over: bool
    checkpoint: Any

    @property
    def score(self) -> float:
        """Score of the weights that would be kept; NaN if the trial failed or has no finite score."""
        score = self.last_result.get("score")
        return float(score) if score is not None and math.isfinite(score) and not self.reason else math.nan

    @property
    def status(self) -> str:
        """`done`, `failed`, or `stopped` before its end."""
        return FAILED if self.reason else DONE if self.last_result.get("status") == DONE else STOPPED

    @property
    def seconds(self) -> float:
        """Duration of the trial, in seconds."""
        return float(self.last_result.get("time_total_s", 0.0))


def outcome_of(trial: Any) -> Outcome:
    """Read the outcome of a trial.

    Args:
        trial: Tune's record of it.

    Returns:
        The outcome.
    """
    result = last_result(trial)
    reason = ""
    if result.get("status") == FAILED:
        reason = str(result["reason"])
    elif trial.status == trial.ERROR:
        reason = reason_of(trial_error(trial))
    elif trial.status == trial.TERMINATED and "score" not in result:
        reason = "ended before its first epoch"
    number = int(Path(trial.path).name.split("-")[0])
    return Outcome(number, trial.config["sample"], result, reason, trial.is_finished(), trial.checkpoint)


def reason_of(error: Exception | None) -> str:
    """Describe in one line why the process of a trial failed.

    Args:
        error: The exception that Tune recorded; None if there is none.

    Returns:
        The reason.
    """
    from ray.exceptions import OutOfMemoryError, RayActorError

    if isinstance(error, OutOfMemoryError):
        return "out of memory: Ray ended its process; lower train.batch_size or search.max_concurrent"
    if isinstance(error, RayActorError):
        return "its process died, more often than search.max_failures"
    lines = [line.strip() for line in str(error or "unknown").splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The trial with the lowest score, the first of several; None if no trial has a score."""
    scored = [one for one in outcomes if one.score == one.score]
    return min(scored, key=lambda one: (one.score, one.number), default=None)


def table_of(outcomes: Sequence[Outcome], own: Sample, domains: Mapping[str, Domain]) -> pd.DataFrame:
    """Collect trials in a table.

    Args:
        outcomes: All trials.
        own: The config's own settings.
        domains: The domain of each setting.

    Returns:
        One row per trial: `trial`, `own` (whether it has the config's own settings), `score` (NaN if it has none),
        `status`, `reason`, `epochs`, `seconds`, one column per setting, and the steps and scores of its epochs as
        lists, `curve_step` and `curve_score`.
    """
    rows = []
    for one in sorted(outcomes, key=lambda one: one.number):
        settings, curve = changes_of(one.sample, domains), one.last_result.get("curve", [])
        row = {
            "trial": one.number,
            "own": one.sample == own,
            "score": one.score,
            "status": one.status,
            "reason": one.reason,
        }
        row |= {"epochs": int(one.last_result.get("epoch", 0)), "seconds": one.seconds}
        row |= {key: _column_value(settings[key], domain) for key, domain in domains.items()}
        row |= {
            "curve_step": [int(step) for step, _ in curve],
            "curve_score": [float(score) for _, score in curve],
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _column_value(value: Any, domain: Domain) -> Any:
    """Columns of numbers or of text hold the values; other columns hold them as JSON."""
    same = domain[0] != "choice" or len({type(one) for one in domain[1]}) == 1
    return value if same and isinstance(value, str | int | float) else json.dumps(value)


class Watch:
    """Prints one line per trial that has ended.

    Args:
        domains: The domain of each setting.
        total: Number of trials of the search.
        console: Where the lines are printed.
    """

    def __init__(self, domains: Mapping[str, Domain], total: int, console: Console) -> None:
        self._domains = domains
        self._total = total
        self._console = console

    def __call__(self, outcomes: Sequence[Outcome], last: Outcome) -> None:
        """Print the trial that ended last.

        Args:
            outcomes: All trials that have ended.
            last: The one that ended last.
        """
        width, best = len(str(self._total)), best_of(outcomes)
        settings = settings_text(changes_of(last.sample, self._domains))
        if last.reason:
            outcome = f"failed: {last.reason}"
        else:
            gap = "best so far" if best is None or best is last else f"best {best.score:.4f}, trial {best.number}"
            how = "" if last.status == DONE else ", stopped"
            outcome = (
                f"score {last.score:.4f} ({gap}), {last.last_result['epoch']} epochs{how}, {last.seconds:.0f} s"
            )
        self._console.print(
            f"{len(outcomes):>{width}}/{self._total}  trial {last.number:<{width}}  {outcome}; {settings}"
        )


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as text in one line, without the names of their sections.

    Args:
        settings: Settings by dotted key.

    Returns:
        The text.

    Example:
        >>> settings_text({"model.units": [8, 8], "train.learning_rate": 0.00123456})
        'units [8, 8], learning_rate 0.001235'
    """
    return ", ".join(f"{key.split('.')[-1]} {_value_text(value)}" for key, value in settings.items())


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value.item() if hasattr(value, "item") else value)


def show_trials(table: pd.DataFrame, domains: Mapping[str, Domain], console: Console) -> None:
    """Print the best trials, and the best score relative to that of the config's own settings.

    Args:
        table: The table of trials, as `table_of` returns it; at least one trial has a score.
        domains: The domain of each setting.
        console: Where the table is printed.
    """
    columns = [Column(name, justify="right") for name in ("trial", "score", "epochs")]
    shown = Table(*columns, Column("settings", overflow="fold"))
    ranked = table[table["score"].notna()].sort_values(["score", "trial"])
    for _, row in ranked.head(_SHOWN).iterrows():
        settings = settings_text({key: row[key] for key in domains})
        shown.add_row(f"{row['trial']}", f"{row['score']:.4f}", f"{row['epochs']}", settings)
    best = ranked.iloc[0]
    own = ranked.loc[ranked["own"], "score"]
    comparison = ""
    if len(own):
        comparison = f"; the config's own settings: {own.iloc[0]:.4f} ({best['score'] / own.iloc[0] - 1:+.1%})"
    counts = table["status"].value_counts()
    console.print("trials    " + ", ".join(f"{count:,} {status}" for status, count in counts.items()))
    console.print(shown)
    console.print(f"best      trial {best['trial']}: score {best['score']:.4f}{comparison}")
