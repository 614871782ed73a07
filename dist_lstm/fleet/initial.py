"""The models that a fleet's training starts from, those of an earlier run or fleet: `fleet.init_from`.

Axes: N series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dist_lstm.config.frequency import Frequency, parse_frequency
from dist_lstm.config.load import load_config
from dist_lstm.config.resolved import ResolvedConfig, load_resolved
from dist_lstm.config.schema import SplitSettings
from dist_lstm.data.ranges import stamp_text
from dist_lstm.data.shards import Shards, open_shards
from dist_lstm.errors import UserError
from dist_lstm.fleet.models import read_models
from dist_lstm.layout import FleetLayout, RunLayout, ShardLayout, part_files


class Initial:
    """Weights that training starts from.

    Args:
        folder: A run, whose model all models start from; or a fleet, where each starts from that of its name.
        ordinary: A Keras model of the architecture that is trained.

    Raises:
        UserError: If the run's model has another architecture.
    """

    def __init__(self, folder: Path, ordinary: Any) -> None:
        self._ordinary = ordinary
        self._files = part_files(FleetLayout(folder).models)
        self._same: tuple[list[np.ndarray], list[np.ndarray]] | None = None
        if not self._files:
            from dist_lstm.train.checkpoint import load_model

            paths = RunLayout(folder).scored_model, RunLayout(folder).model
            before, after = (load_model(path).get_weights() for path in paths)
            if [one.shape for one in before] != [one.shape for one in ordinary.get_weights()]:
                raise UserError(
                    "fleet.init_from",
                    f"{folder}: its model has another architecture",
                    (
                        "leave model.* and task.context_length out of fleet.settings, and static covariates "
                        "and model.series_embedding out of the run"
                    ),
                )
            self._same = before, after

    def of(self, names: Sequence[str]) -> Mapping[str, tuple[list[np.ndarray], list[np.ndarray]]]:
        """Weights by name: for the model trained without the test range, and for the one trained on all steps."""
        if self._same is not None:
            return dict.fromkeys(names, self._same)
        models = [one for one in read_models(self._files, names) if one.failure is None]
        return {one.name: (one.before(self._ordinary), one.after(self._ordinary)) for one in models}


def initial_settings(folder: Path) -> dict[str, Any]:
    """The settings by which a fleet's models get the architecture of the models that they start from.

    Args:
        folder: Directory of a run or a fleet.

    Returns:
        Settings of the model and the context by dotted key, as `override` takes them.

    Raises:
        UserError: If the directory is neither a run nor a fleet.
    """
    config = _config_of(folder)
    if config.model.members > 1:
        raise UserError(
            "fleet.init_from",
            f"{folder}: is an ensemble of {config.model.members} members",
            "give a run with model.members: 1",
        )
    own = {"head", "members", "variants", "combination"}
    model = {f"model.{key}": value for key, value in config.model.model_dump(exclude=own).items()}
    return model | {"task.context_length": config.task.context_length, "task.min_context": config.task.min_context}


def _config_of(folder: Path) -> ResolvedConfig:
    files = FleetLayout(folder)
    path = files.small_config if files.small_config.exists() else files.config
    if not path.exists():
        raise UserError("fleet.init_from", f"{folder}: is neither a run nor a fleet", "give the --out of one")
    # A setting that an earlier version did not have is not derived from the data anew.
    return load_resolved(path)


def saw_everything(folder: Path) -> bool:
    """Whether the only model of a run was trained on whole series: the one from before that is missing."""
    files = RunLayout(folder)
    return load_config(files.config).train.refit and not files.backtest_model.exists()


@dataclass(frozen=True)
class Overlap:
    """Series of which earlier models saw steps that are held out now.

    Attributes:
        series: True for those, `[N]`, in the order of the shards.
        example: One of them, with what was seen and what is held out; empty if there are none.
    """

    series: np.ndarray
    example: str = ""


def find_overlap(folder: Path, shards: Shards, split: SplitSettings) -> Overlap:
    """Compare what earlier models saw of each series with what is held out of the series of that name.

    Time stamps are compared, so a table may grow at its end and lose its first rows. What is validated or tested
    on now must not have been trained on, and what is tested on must not have been validated on. A series that the
    earlier models do not know has no overlap, unless a single model was trained on all series and series share a
    calendar: then no date that it saw in any series may be held out.

    Args:
        folder: Directory of a run or a fleet.
        shards: The series of the new fleet.
        split: What is held out of them, resolved.

    Returns:
        The series that overlap.

    Raises:
        UserError: If the directory has no shards, or its time stamps can't be compared with those of the fleet.
    """
    if not ShardLayout(RunLayout(folder).shards).manifest.exists():
        raise UserError(
            "fleet.init_from",
            f"{folder}: has no {RunLayout.shards}/, so it is not known which steps its models saw",
            "give the whole directory of a run or a fleet",
        )
    earlier = open_shards(RunLayout(folder).shards)
    before, after = _read_spans(earlier), _read_spans(shards)
    if before.calendar != after.calendar:
        raise UserError(
            "fleet.init_from",
            f"{folder}: its time stamps are {before.calendar}, those here {after.calendar}, so it is not known "
            "which of these steps its models saw",
            "give a run or a fleet of the same kind of time stamps",
        )
    one_model = not part_files(FleetLayout(folder).models)
    seen = before.ends(_config_of(folder).split, whole=one_model and saw_everything(folder))
    same = pd.Index(before.name).get_indexer(pd.Index(after.name))
    result = Overlap(np.zeros(len(same), bool))
    for seen_end, held_out, is_held_out in zip(
        seen, after.ends(split), (split.validation or split.test, split.test), strict=True
    ):
        if not is_held_out:
            continue
        trained = seen_end > 0
        last, first = before.time_stamp(np.maximum(seen_end - 1, 0)), after.time_stamp(held_out)
        if one_model and after.by_calendar and trained.any():
            # A date that was trained on in any series must not be held out in another.
            last, is_seen = np.repeat(last[trained].max(), len(same)), np.ones(len(same), bool)
        else:
            last, is_seen = last[same], (same >= 0) & trained[same]
        overlaps = is_seen & (held_out < after.length) & (last >= first)
        result.series[:] |= overlaps
        if overlaps.any() and not result.example:
            row = int(np.argmax(overlaps))
            until, begin = (stamp_text(one[row], after.freq, after.timezone) for one in (last, first))
            example = f"{after.name[row]!r}: seen until {until}, held out from {begin}"
            result = Overlap(result.series, example)
    return result


@dataclass(frozen=True)
class _Spans:
    """Names, first time stamps, lengths and lags of series, each `[N]`."""

    name: np.ndarray
    start: np.ndarray
    length: np.ndarray
    lag: np.ndarray
    freq: Frequency
    timezone: str | None
    by_calendar: bool

    @property
    def calendar(self) -> str:
        """The kind of its time stamps."""
        if self.freq.integer:
            return "whole numbers"
        return f"dates in the time zone {self.timezone}" if self.timezone else "dates"

    def time_stamp(self, step: np.ndarray) -> np.ndarray:
        """Time stamps of steps, counted from 0, each `[N]`."""
        return self.freq.advance(self.start, step)

    def ends(self, split: SplitSettings, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Steps before the validation range, and before the test range, each `[N]`; all steps if `whole`."""
        if whole:
            return self.length, self.length
        test = self.length + self.lag - (split.test or 0)
        return np.clip(test - (split.validation or 0), 0, self.length), np.clip(test, 0, self.length)


def _read_spans(shards: Shards) -> _Spans:
    name, start, length = shards.read_columns(["unique_id", "start", "length"]).values()
    lag = np.concatenate([group.lag for group in shards.row_groups()])
    manifest = shards.manifest
    by_calendar = manifest.last is not None
    return _Spans(name, start, length, lag, parse_frequency(manifest.freq), manifest.timezone, by_calendar)
