"""By which rule series are cut into ranges, on which dates these begin, and which series have a part of them.

Where time stamps are dates, or whole numbers that all series share, the split is by calendar: ranges begin on the
same date in all series, counted back from the last date of all. Otherwise they are counted from the end of each.

Axes: N series.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dist_lstm.config.frequency import Frequency, parse_frequency
from dist_lstm.config.task import Task
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.panel import Panel
from dist_lstm.data.shards import Shards
from dist_lstm.data.windows import Rolling, backtest_cutoffs, training_cutoffs, validation_cutoffs
from dist_lstm.errors import UserError

_log = logging.getLogger("dist_lstm")


def last_stamp(panel: Panel, freq: Frequency) -> Any:
    """The last time stamp or step of all series of a panel, which has at least one."""
    return freq.advance(panel.start, panel.length - 1).max()


def lags(start: np.ndarray, length: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Steps from the ends of series to the end of the panel.

    Args:
        start: First time stamp or step of each series, `[N]`.
        length: Steps of each series, `[N]`.
        manifest: The manifest of all series.

    Returns:
        Steps, `[N]`, int64; 0 where series share no calendar.
    """
    if manifest.last_stamp is None:
        return np.zeros(len(start), np.int64)
    freq = parse_frequency(manifest.freq)
    return freq.steps_until(freq.advance(start, length - 1), manifest.last_stamp)


def stamp_text(stamp: Any, freq: Frequency, timezone: str | None) -> str:
    """A time stamp of the grid, or a step, as a user reads it."""
    if freq.integer:
        return str(stamp)
    zone = " UTC" if timezone and freq.within_day else ""
    return str(pd.Timestamp(stamp)).removesuffix(" 00:00:00") + zone


def describe_split(manifest: Manifest, task: Task) -> dict[str, Any]:
    """The split, for `metrics.json` and `plan`.

    Args:
        manifest: The manifest of the series.
        task: The task.

    Returns:
        `rule` (`calendar` or `own ends`), the steps `validation` and `test`; by calendar also the dates
        `validation_start`, `test_start` (None without such a range) and `last`, and `series_ended`, the number of
        series that end before the test range.
    """
    steps = {"validation": task.validation, "test": task.test}
    last = manifest.last_stamp
    if last is None:
        return {"rule": "own ends", **steps}

    def start(steps: int) -> str:
        return stamp_text(task.freq.back(last, steps - 1), task.freq, task.timezone)

    return {
        "rule": "calendar",
        **steps,
        "validation_start": start(task.validation + task.test) if task.validation else None,
        "test_start": start(task.test) if task.test else None,
        "last": stamp_text(last, task.freq, task.timezone),
        "series_ended": manifest.ended,
    }


def split_sentence(manifest: Manifest, task: Task) -> str:
    """The split in a few words.

    Args:
        manifest: The manifest of the series.
        task: The task.

    Returns:
        The rule, and where the ranges begin.
    """
    if not task.validation + task.test:
        return "none: no step is held out"
    split = describe_split(manifest, task)
    names = ("validation", "test")
    if manifest.last_stamp is None:
        steps = ", then ".join(f"{split[name]:,} steps of {name}" for name in names if split[name])
        return f"at the end of each series: {steps}"
    starts = ", ".join(f"{name} from {split[f'{name}_start']}" for name in names if split[name])
    ended = (
        f"; {manifest.ended:,} of {manifest.series:,} series end before the test range, and are not scored"
        if manifest.ended
        else ""
    )
    return f"by calendar: {starts}, to {split['last']}{ended}"


@dataclass(frozen=True)
class _Ends:
    """Names, lengths and lags of all series, each `[N]`."""

    name: np.ndarray
    length: np.ndarray
    lag: np.ndarray


def check_ranges(raw: Shards, task: Task, rolling: Rolling) -> int:
    """Refuse series without any window for a range; warn where few reach into the test range.

    Args:
        raw: The series.
        task: The task.
        rolling: Number of cutoffs of the backtest and their stride.

    Returns:
        Number of series that end before the test range.

    Raises:
        UserError: If all series are too short, or end before a range.
    """
    manifest = raw.manifest
    needed = task.min_context + task.horizon + task.validation + task.test
    parts = (
        f"task.min_context {task.min_context} + task.horizon {task.horizon} + "
        f"split.validation {task.validation} + split.test {task.test}"
    )
    if manifest.longest < needed:
        raise UserError(
            "data.path",
            f"all {manifest.series} series are too short: the longest has {manifest.longest} steps, {needed} are "
            f"needed ({parts})",
            "lower one of these",
        )
    if manifest.last_stamp is None:
        return 0
    name, start, length = raw.read_columns(["unique_id", "start", "length"]).values()
    ends = _Ends(name, length, lags(start, length, manifest))
    windows = {
        "training": (training_cutoffs(ends, task, 1, whole=False), True),
        "validation": (validation_cutoffs(ends, task), task.validation > 0),
        "test": (backtest_cutoffs(ends, task, rolling), task.test > 0),
    }
    ended = int((ends.lag >= task.test).sum()) if task.test else 0
    split = describe_split(manifest, task)
    whose = f"{split['last']}, the last of all series, is that of unique_id {str(name[np.argmin(ends.lag)])!r}"
    for kind, (cutoffs, is_needed) in windows.items():
        if is_needed and not cutoffs.total:
            raise UserError(
                "data.path",
                f"no series has {kind} windows: the split is {split_sentence(manifest, task)} ({parts})",
                f"lower one of these; or correct or drop a series: {whose}",
            )
    if 2 * ended > manifest.series:
        _log.warning(
            "only %s of %s series reach into the test range, which begins at %s: %s",
            f"{manifest.series - ended:,}", f"{manifest.series:,}", split["test_start"], whose,
        )  # fmt: skip
    return ended
