"""From a table to a folder of shards: read, regroup by series, check, write, in this order.

Axes: N series.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dist_lstm.config.defaults import DatasetStatistics
from dist_lstm.config.frequency import Frequency, parse_frequency
from dist_lstm.config.load import fingerprint
from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.schema import Config
from dist_lstm.config.table import CsvSettings
from dist_lstm.config.task import TRANSFORMS, Task
from dist_lstm.data.calendar import zone_of
from dist_lstm.data.covariates import StaticValues, encode_statics
from dist_lstm.data.manifest import Manifest, save_manifest
from dist_lstm.data.panel import LAG, STATIC, Panel, make_panel, typed_names
from dist_lstm.data.partition import partition
from dist_lstm.data.ranges import check_ranges, lags, last_stamp
from dist_lstm.data.sample_frequency import sample_frequency
from dist_lstm.data.shards import Shards, ShardWriter, open_shards, statistics
from dist_lstm.data.source import read, signature, source_files, used_columns
from dist_lstm.data.stationarity import decide, examine_panel, pool, summarise, transform_panel
from dist_lstm.data.trained_series import trained_series
from dist_lstm.data.windows import Rolling, split_ranges
from dist_lstm.errors import UserError
from dist_lstm.layout import ShardLayout
from dist_lstm.storage import is_marked, mark, publish, remove
from dist_lstm.timing import timed

_log = logging.getLogger("dist_lstm")
#: Settings of `data` that were added after version 0.1.0, and their defaults.
_ADDED = {
    "ds_format": None,
    "trailing": "drop",
    "shared_steps": False,
    "csv": CsvSettings().model_dump(),
    "decimal": "point",
    "thousands": None,
    "missing_values": (),
}


@dataclass(frozen=True)
class Dataset:
    """A table that was read and checked, before transforms and statistics are decided.

    Attributes:
        folder: The folder its shards are written to.
        destination: Their folder when they are finished.
        source: `signature` of the table; another one means that the table changed.
        shards: Its series without transforms; or the finished shards of an earlier command.
        rejected: One entry per series that can't be used, with the reason.
    """

    folder: Path
    destination: Path
    source: list[list[str | int]]
    shards: Shards
    rejected: list[dict[str, Any]]

    @property
    def finished(self) -> bool:
        """Whether an earlier command finished the shards."""
        return self.shards.folder == self.destination

    @property
    def statistics(self) -> DatasetStatistics:
        """The statistics that defaults of a config depend on."""
        return self.shards.manifest.statistics


@contextmanager
def ingest(
    config: Config, folder: Path, frame: pd.DataFrame | None = None, check_freq: bool = True
) -> Iterator[Dataset]:
    """Read and check a table, or open its finished shards.

    Every command does the same:

        with ingest(config, folder) as dataset:
            resolved = resolve(config, dataset.statistics)
            shards = describe(dataset, resolved)

    Args:
        config: What to read and how; settings may be left out.
        folder: The folder of the shards, which appears when the block ends without an exception.
        frame: A table in memory, read instead of `data.path`.
        check_freq: Whether the table may contradict `task.freq`. One that a trained model forecasts may not; it
            may have few of the steps.

    Yields:
        The dataset.

    Raises:
        UserError: If the table can't be used, or the folder holds other files.
    """
    source = source_files(config.data.path) if frame is None else used_columns(frame, config.data)
    if is_marked(folder):
        yield Dataset(folder, folder, signature(source), open_shards(folder), [])
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(folder, "holds other files, no shards", "choose another --out")
    with timed("prepare"), publish(folder) as temporary:
        scratch = temporary / "scratch"
        rounded: Counter[str] = Counter()
        tables = partition(read(config.data, source, rounded), config.data.memory_budget, scratch / "rows")
        manifest, rejected = _write_panels(tables, config, scratch / "panels", check_freq)
        manifest = manifest.model_copy(update={"rounded": dict(rounded)})
        raw = Shards(scratch / "panels", manifest)
        yield Dataset(temporary, folder, signature(source), raw, rejected)
        remove(scratch)


def describe(dataset: Dataset, config: ResolvedConfig, trained: Shards | None = None) -> Shards:
    """Write the shards of a dataset, with transforms, statistics and static covariates.

    Args:
        dataset: The table that was read.
        config: The resolved config.
        trained: The shards a model was trained on, for a table that it forecasts: they define the indices of
            series and categories, the transforms and statistics of the series in them, and the transform of new
            ones. None for a table to train on, in which at least one series must be long enough.

    Returns:
        The shards.

    Raises:
        UserError: If no series is long enough, the time zone is not that of the training, or the finished shards
            are those of another table or split.
    """
    fingerprint = _fingerprint(config, dataset.source)
    raw = dataset.shards
    if dataset.finished:
        if raw.manifest.fingerprint != fingerprint:
            raise UserError(
                dataset.folder,
                "holds shards of another table or split, or the table changed since",
                "choose another --out",
            )
        return raw
    if trained is None:
        changes = {"ended": check_ranges(raw, raw.make_task(config), Rolling.of(config.backtest))}
    else:
        _check_zone(raw.manifest, trained.manifest)
        # Such a table has no ranges.
        changes = {"categories": trained.manifest.categories, "numbers": trained.manifest.numbers, "last": None}
    raw = Shards(raw.folder, raw.manifest.model_copy(update=changes))
    changes = _write_shards(raw, config, trained, dataset.folder)
    files = ShardLayout(dataset.folder)
    pq.write_table(_rejected_table(dataset.rejected, raw.manifest.id_type), files.rejected)
    manifest = raw.manifest.model_copy(update=changes | {"fingerprint": fingerprint})
    save_manifest(manifest, dataset.folder)
    mark(dataset.folder)
    return Shards(dataset.destination, manifest)


def _rejected_table(rejected: list[dict[str, Any]], id_type: str) -> pa.Table:
    names = typed_names(np.array([one["unique_id"] for one in rejected], object), id_type)
    steps, reasons = ([one[key] for one in rejected] for key in ("steps", "reason"))
    return pa.table(
        {"unique_id": names, "steps": pa.array(steps, pa.int64()), "reason": pa.array(reasons, pa.string())}
    )


def _fingerprint(config: ResolvedConfig, source: list[Any]) -> str:
    """Hash of everything that the shards depend on: neither the context nor the model."""
    data = config.data.model_dump(exclude={"memory_budget", "path"})
    # Settings that version 0.1.0 did not have count only where they are set.
    data = {key: value for key, value in data.items() if not (key in _ADDED and value == _ADDED[key])}
    task = config.task.model_dump(include={"freq", "season_length"})
    split = config.split.model_dump(include={"validation", "test"})
    return fingerprint({"data": data, "task": task, "split": split, "source": source})


def _write_panels(
    tables: Iterable[pa.Table], config: Config, folder: Path, check_freq: bool
) -> tuple[Manifest, list[dict[str, Any]]]:
    """Check all series and write those that can be used, without statistics."""
    given = parse_frequency(config.task.freq) if config.task.freq is not None else None
    freq = None
    rejected: list[dict[str, Any]] = []
    lengths, ends = list[np.ndarray](), list[Any]()
    observed, trailing, zone, id_type, statics, fits = 0, 0, None, "string", StaticValues(), True
    with ShardWriter(folder) as writer:
        for table in tables:
            if table.num_rows == 0:
                continue
            zone = zone_of(table.schema.field("ds").type)
            id_type = str(table.schema.field("unique_id").type)
            if freq is None:
                if given is not None and not check_freq:
                    freq = given
                else:
                    freq = sample_frequency(table, given, config.data.ds_format)
            panel = make_panel(table, freq, config.data.duplicates)
            panel = _reject_unobserved(panel, rejected)
            if config.data.trailing == "drop":
                steps_before = len(panel.y)
                panel = panel.until_last_value()
                trailing += steps_before - len(panel.y)
            ends += [last_stamp(panel, freq)] if len(panel.unique_id) else []
            lengths.append(panel.length)
            observed += int((~np.isnan(panel.y)).sum())
            fits = fits and np.array_equal(panel.y.astype(np.float32), panel.y, equal_nan=True)
            statics.add(panel)
            writer.write(panel)
    steps = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    if freq is None:
        raise UserError("data.path", f"{config.data.path} has no rows", "give a table with at least one series")
    if not len(steps):
        raise UserError(
            "data.path", f"{config.data.path}: none of its {len(rejected)} series has an observed value"
        )
    categories, numbers = statics.vocabulary()
    manifest = Manifest(
        fingerprint="",
        last=_shared_end(max(ends), freq, config.data.shared_steps),
        timezone=zone,
        id_type=id_type,
        value_type="float32" if fits else "float64",
        trailing=trailing,
        categories=categories,
        numbers=numbers,
        freq=freq.name,
        series=len(steps),
        rejected=len(rejected),
        steps=int(steps.sum()),
        observed=observed,
        shortest=int(steps.min()),
        median=int(np.median(steps)),
        longest=int(steps.max()),
        shards=tuple(writer.shards),
    )
    return manifest, rejected


def _shared_end(last: Any, freq: Frequency, shared_steps: bool) -> str | int | None:
    """The last time stamp of all series as the manifest holds it; None where they share no calendar."""
    return str(last) if not freq.integer else int(last) if shared_steps else None


def _reject_unobserved(panel: Panel, rejected: list[dict[str, Any]]) -> Panel:
    observed = np.bincount(panel.series_of_step[~np.isnan(panel.y)], minlength=len(panel.unique_id)) > 0
    rejected += [
        {"unique_id": str(name), "steps": int(steps), "reason": "no observed value"}
        for name, steps in zip(panel.unique_id[~observed], panel.length[~observed], strict=True)
    ]
    return panel.take(observed)


def _check_zone(manifest: Manifest, trained: Manifest) -> None:
    """Forecasts get the time zone of training: a table must not be on the grid of another one."""
    mine, theirs = manifest.timezone, trained.timezone
    instants = mine is not None and theirs is not None and parse_frequency(trained.freq).within_day
    if mine != theirs and not instants:
        raise UserError(
            "data.path",
            f"the time stamps have the time zone {mine}, those the model was trained on {theirs}",
            "convert them to that",
        )


def _write_shards(raw: Shards, config: ResolvedConfig, trained: Shards | None, folder: Path) -> dict[str, Any]:
    """Write the final shards, with transforms, statistics and covariates; returns changes of the manifest."""
    manifest, is_auto = raw.manifest, config.data.transform == "auto"
    earlier = None if trained is None else trained_series(trained)
    task = raw.make_task(config)
    # A table that a trained model forecasts has no validation or test range.
    task = task if earlier is None else replace(task, validation=0, test=0)
    evidence = _examine(raw, task, is_auto and earlier is None)
    shared = earlier.transform if earlier else decide(pool(evidence), task.season_length, manifest.median)
    shared = shared if is_auto else config.data.transform
    chosen: list[np.ndarray] = []
    before, unknown = 0, Counter[str]()
    with ShardWriter(folder) as writer:
        for panel, result in zip(_panels(raw), evidence, strict=True):
            number = np.arange(before, before + len(panel.unique_id)) + 1
            before += len(panel.unique_id)
            transform = transform_panel(panel, task.season_length, shared, strict=not is_auto)
            logged = np.array([TRANSFORMS[name][0] for name in transform], bool)
            end = split_ranges(panel, task).train_end
            facts = {
                "series": number,
                "transform": transform,
                **result,
                **statistics(panel, end, task.season_length, logged),
                **encode_statics(panel, manifest.categories, manifest.numbers),
            }
            if LAG in panel.facts:
                facts[LAG] = panel.lag
            facts = facts if earlier is None else earlier.carry_over(panel.unique_id, facts)
            for name in manifest.categories if earlier is not None else ():
                given = np.array([value is not None for value in panel.facts[STATIC + name]])
                unknown[name] += int((given & (facts[STATIC + name] == 0)).sum())
            writer.write(replace(panel, facts=facts))
            chosen.append(facts["transform"])
    for name, count in unknown.items():
        if count:
            _log.warning("the model was not trained on %s values of the static category %r", f"{count:,}", name)
    names = np.concatenate(chosen)
    counts = {str(name): int(count) for name, count in zip(*np.unique(names, return_counts=True), strict=True)}
    return {"shards": tuple(writer.shards), "transforms": counts} | summarise(names, evidence)


def _panels(raw: Shards) -> Iterator[Panel]:
    """The series as they were read, float64, in the type in which they are kept, with their lags."""
    for panel in raw.panels():
        lag = {LAG: lags(panel.start, panel.length, raw.manifest)} if raw.manifest.last_stamp is not None else {}
        yield replace(panel, y=panel.y.astype(raw.manifest.value_type), facts={**panel.facts, **lag})


def _examine(raw: Shards, task: Task, needed: bool) -> list[dict[str, np.ndarray]]:
    """Evidence for a transform of each series, panel by panel; NaN where none is needed."""
    result = []
    for panel in _panels(raw):
        end = split_ranges(panel, task).train_end
        end = end if needed else np.zeros_like(end)
        result.append(examine_panel(panel, end, task.season_length, raw.manifest.series))
    return result
