"""Propose a config for a table, from its first rows where it is large."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.defaults import DatasetStatistics, resolve
from dist_lstm.config.frequency import Frequency, parse_frequency
from dist_lstm.config.load import assign_settings, flatten, leaves, override, parse_config
from dist_lstm.config.schema import Config
from dist_lstm.data.panel import make_panel
from dist_lstm.data.ranges import last_stamp
from dist_lstm.data.sample_frequency import sample_frequency
from dist_lstm.data.source import SourceFile, read, read_sample, source_files
from dist_lstm.errors import UserError
from dist_lstm.starter.recognise import Recognised, recognise

#: Number of values in the first rows by which columns are recognised.
_CELLS = 1 << 20
#: Rows that are read to describe the series.
_ROWS = 1 << 20
#: Steps usually forecast where a frequency has no season: a quarter of the year in weeks, six years.
_WITHOUT_SEASON = {"W": 13, "YE": 6, "YS": 6}
#: Longer seasons, such as those of minutes, are too long for a first horizon.
_LONGEST_SEASON = 300


@dataclass(frozen=True)
class Facts:
    """Facts about the rows that were read.

    Attributes:
        rows: Number of rows; one per series and time stamp.
        complete: Whether these are all rows of the table.
        span: First and last time stamp or step.
        freq: The frequency.
        last: Last time stamp or step of all series; None where they share no calendar.
        length: Steps of each series with an observed value, `[N]`.
        missing: Share of the steps of all series without a value.
        unobserved: Number of series without any value.
    """

    rows: int
    complete: bool
    span: tuple[str, str]
    freq: Frequency
    last: Any
    length: np.ndarray
    missing: float
    unobserved: int

    @property
    def statistics(self) -> DatasetStatistics:
        """The statistics on which the defaults of a config depend."""
        steps, median = int(self.length.sum()), int(np.median(self.length))
        return DatasetStatistics(self.freq.name, steps, median, self.last, series=len(self.length))


@dataclass(frozen=True)
class Proposal:
    """A config for a table.

    Attributes:
        config: The proposed and the given settings; others are left out.
        given: Dotted keys of the settings that the user gave.
        recognised: The role of each column.
        facts: Facts about the table.
        why_horizon: The reason for the horizon.
        needed: Steps that a series needs to be trained on and scored.
    """

    config: Config
    given: frozenset[str]
    recognised: Recognised
    facts: Facts
    why_horizon: str
    needed: int

    @property
    def usable(self) -> int:
        """Number of series that are long enough to be trained on and scored."""
        return int((self.facts.length >= self.needed).sum())


def propose(table: str, settings: Sequence[str] = ()) -> Proposal:
    """Read a table and propose a config.

    Args:
        table: A file, a folder, a glob or a URI.
        settings: Texts of the form `section.key=value`, which override proposals.

    Returns:
        The proposal.

    Raises:
        UserError: If the table can't be used, or a setting can't be inferred and must be given.
    """
    only: dict[str, Any] = {}
    assign_settings(only, settings)
    given = dict(leaves(only))
    values: dict[str, Any] = {"task": {"horizon": 1}, "data": {"path": table}}
    assign_settings(values, settings)
    config = parse_config(values, "--set")
    if other := sorted({*given} - {key for key, _ in flatten(config)}):
        raise UserError(f"--set {other[0]}", "is not for init", "write it into the config afterwards")
    files = source_files(config.data.path)
    try:
        recognised = recognise(read_sample(files, config.data, _CELLS), config.data, values["data"], table)
        config = override(config, {one.key: one.value for one in recognised.settings if one.active})
        facts = _measure(config, files)
        config, why = _choose_horizon(config, given, facts)
    except UserError as error:
        if "--" in error.advice or not re.search(r"\b(task|data)\.\w", str(error)):
            raise
        raise UserError(error.where, error.problem, f"{error.advice} (as --set KEY=VALUE)".lstrip()) from error
    return Proposal(config, frozenset(given), recognised, facts, why, _steps_needed(config, facts))


def _measure(config: Config, files: Sequence[SourceFile]) -> Facts:
    """Read rows as `prepare` does, up to a limit."""
    pieces: list[pa.Table] = []
    rows, complete = 0, True
    for piece in read(config.data, files):
        if rows >= _ROWS:
            complete = False
            break
        pieces.append(piece)
        rows += piece.num_rows
    if not pieces:
        raise UserError("data.path", f"{config.data.path} has no rows", "give a table with at least one series")
    table = pa.concat_tables(pieces)
    given = None if config.task.freq is None else parse_frequency(config.task.freq)
    freq = sample_frequency(table, given, config.data.ds_format)
    panel = make_panel(table, freq, config.data.duplicates)
    observed = ~np.isnan(panel.y)
    with_values = np.bincount(panel.series_of_step[observed], minlength=len(panel.unique_id)) > 0
    if not with_values.any():
        raise UserError("data.path", f"none of the {len(with_values)} series has an observed value")
    unobserved = int((~with_values).sum())
    if not complete and with_values.sum() > 1:
        # The last series may continue after the rows that were read.
        with_values &= panel.unique_id != table["unique_id"][-1].as_py()
    return Facts(
        rows=rows,
        complete=complete,
        span=_span(table["ds"]),
        freq=freq,
        last=last_stamp(panel, freq) if config.data.shared_steps or not freq.integer else None,
        length=panel.length[with_values],
        missing=1 - float(observed.mean()),
        unobserved=unobserved,
    )


def _span(ds: pa.ChunkedArray) -> tuple[str, str]:
    ends = pc.min_max(ds)
    texts = [str(ends[key].as_py()) for key in ("min", "max")]
    midnight = all(" 00:00:00" in text for text in texts)
    first, last = (text.split(" ")[0] if midnight else text for text in texts)
    return first, last


def _steps_needed(config: Config, facts: Facts) -> int:
    """Steps that a series needs to be trained on and scored."""
    resolved = resolve(config, facts.statistics)
    split = resolved.split
    return resolved.task.min_context + resolved.task.horizon + split.validation + split.test


def _longest_horizon(config: Config, facts: Facts, most: int, length: int) -> int:
    """The longest horizon up to `most` for which series of a length can be used; 0 for none."""
    for horizon in range(min(most, length), 0, -1):
        if _steps_needed(override(config, {"task.horizon": horizon}), facts) <= length:
            return horizon
    return 0


def _choose_horizon(config: Config, given: Mapping[str, Any], facts: Facts) -> tuple[Config, str]:
    longest, shown = int(facts.length.max()), "" if facts.complete else f" in the first {facts.rows:,} rows"
    if "task.horizon" in given:
        needed = _steps_needed(config, facts)
        if facts.complete and longest < needed:
            most = _longest_horizon(config, facts, config.task.horizon, longest)
            raise UserError(
                "task.horizon",
                f"{config.task.horizon} needs series of {needed:,} steps, the longest has {longest:,}",
                f"use --horizon {most} or less" if most else "give longer series",
            )
        return config, "as given"
    seasons = [config] if "task.season_length" in given else [config, override(config, {"task.season_length": 1})]
    for one in seasons:
        most, why = _usual_horizon(one, facts)
        for length in (facts.statistics.median, longest):
            horizon = _longest_horizon(one, facts, most, length)
            if horizon:
                bound = "" if horizon == most else f", reduced to what series of {length:,} steps allow"
                return override(one, {"task.horizon": horizon}), f"{why}{bound}"
    least = _steps_needed(override(seasons[-1], {"task.horizon": 1}), facts)
    raise UserError(
        "data.path",
        f"its series are too short{shown}: the longest has {longest:,} steps",
        f"give series of at least {least} steps",
    )


def _usual_horizon(config: Config, facts: Facts) -> tuple[int, str]:
    season = resolve(config, facts.statistics).task.season_length
    base = str(facts.freq.name).lstrip("0123456789").split("-")[0]
    if season == 1:
        return _WITHOUT_SEASON.get(base, 12), "usual where steps have no season"
    if season > _LONGEST_SEASON:
        return 60, f"an hour of a season of {season:,}" if base == "min" else f"a part of a season of {season:,}"
    if season < 12:
        return 2 * season, f"two seasons of {season}"
    return season, f"one season of {season}"
