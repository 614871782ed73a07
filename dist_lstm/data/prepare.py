"""A table to a folder of shards: read, regroup by series, check, write, in this order."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dist_lstm.config.defaults import resolve
from dist_lstm.config.frequency import parse_frequency
from dist_lstm.config.load import fingerprint
from dist_lstm.config.schema import Config
from dist_lstm.config.task import Task, make_task
from dist_lstm.data.manifest import Manifest, Shard, load_manifest, save_manifest
from dist_lstm.data.panel import Panel, make_panel, sample_frequency
from dist_lstm.data.partition import partition
from dist_lstm.data.shards import ShardWriter, read_panels, statistics
from dist_lstm.data.source import read, signature
from dist_lstm.data.windows import split_ranges
from dist_lstm.errors import UserError
from dist_lstm.storage import is_marked, mark, publish, remove

REJECTED = "rejected.parquet"
_REJECTED_SCHEMA = pa.schema([("unique_id", pa.string()), ("steps", pa.int64()), ("reason", pa.string())])


def prepare(
    config: Config, folder: Path, frame: pd.DataFrame | None = None, for_training: bool = True
) -> Manifest:
    """Write the shards of a table, or find them already there.

    Args:
        config: What to read and how; settings may be left out.
        folder: Where the shards go.
        frame: A table in memory, read instead of `data.path`.
        for_training: Whether at least one series must be long enough to be trained on.

    Returns:
        The manifest of the shards.

    Raises:
        UserError: If the table can't be used, or the folder holds shards of something else or other files.
    """
    source = signature(config.data.path if frame is None else frame)
    if is_marked(folder):
        manifest = load_manifest(folder)
        if manifest.fingerprint != _fingerprint(resolve(config, manifest.facts), source):
            raise UserError(
                f"{folder}: holds shards of another table or split, or the table changed since; "
                "choose another --out"
            )
        return manifest
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds other files, no shards; choose another --out")
    with publish(folder) as temporary:
        scratch = temporary / "scratch"
        tables = partition(read(config.data, frame), config.data.memory_budget, scratch / "rows")
        unsplit, rejected = _write_panels(tables, config, scratch / "panels")
        resolved = resolve(config, unsplit.facts)
        task = make_task(resolved)
        if for_training:
            _check_length(task, unsplit)
        shards = _write_shards(unsplit, scratch / "panels", task, temporary)
        remove(scratch)
        pq.write_table(pa.Table.from_pylist(rejected, _REJECTED_SCHEMA), temporary / REJECTED)
        changes = {"fingerprint": _fingerprint(resolved, source), "shards": tuple(shards)}
        manifest = unsplit.model_copy(update=changes)
        save_manifest(manifest, temporary)
        mark(temporary)
    return manifest


def _fingerprint(config: Config, source: list[Any]) -> str:
    """Hash of what the shards depend on: not of the context, nor of the model."""
    data = config.data.model_dump(exclude={"memory_budget", "path"})
    task = config.task.model_dump(include={"freq", "season_length"})
    return fingerprint({"data": data, "task": task, "split": config.split.model_dump(), "source": source})


def _write_panels(
    tables: Iterable[pa.Table], config: Config, folder: Path
) -> tuple[Manifest, list[dict[str, Any]]]:
    """Check all series and write those that can be used, without statistics."""
    freq = parse_frequency(config.task.freq) if config.task.freq is not None else None
    rejected: list[dict[str, Any]] = []
    lengths: list[np.ndarray] = []
    observed = 0
    with ShardWriter(folder) as writer:
        for table in tables:
            if table.num_rows == 0:
                continue
            freq = freq or sample_frequency(table)
            panel = make_panel(table, freq, config.data.duplicates)
            panel = _reject_unobserved(panel, rejected)
            lengths.append(panel.length)
            observed += int((~np.isnan(panel.y)).sum())
            writer.write(panel, {})
    steps = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    if freq is None:
        raise UserError(f"data.path: {config.data.path} has no rows; give a table with at least one series")
    if not len(steps):
        raise UserError(f"data.path: {config.data.path}: none of its {len(rejected)} series has an observed value")
    manifest = Manifest(
        fingerprint="",
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


def _reject_unobserved(panel: Panel, rejected: list[dict[str, Any]]) -> Panel:
    seen = np.bincount(panel.series_of_step[~np.isnan(panel.y)], minlength=len(panel.unique_id)) > 0
    rejected += [
        {"unique_id": str(name), "steps": int(steps), "reason": "no observed value"}
        for name, steps in zip(panel.unique_id[~seen], panel.length[~seen], strict=True)
    ]
    return panel.take(seen)


def _check_length(task: Task, manifest: Manifest) -> None:
    needed = task.min_context + task.horizon + task.validation + task.test
    if manifest.longest < needed:
        raise UserError(
            f"data.path: all {manifest.series} series are too short: the longest has {manifest.longest} steps, "
            f"{needed} are needed (task.min_context {task.min_context} + task.horizon {task.horizon} + "
            f"split.validation {task.validation} + split.test {task.test}); lower one of these"
        )


def _write_shards(unsplit: Manifest, source: Path, task: Task, folder: Path) -> list[Shard]:
    """Write the final shards, with statistics of the training range."""
    with ShardWriter(folder) as writer:
        for _, panels in read_panels(source, unsplit):
            for panel in panels:
                train_end = split_ranges(panel.length, task).train_end
                writer.write(panel, statistics(panel, train_end, task.season_length))
    return writer.shards
