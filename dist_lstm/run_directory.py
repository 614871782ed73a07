"""A run directory: its files, its prepared data, and the lock of those who write into it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.console import Console

from dist_lstm.config.defaults import resolve
from dist_lstm.config.load import differences, dump_config, measured_before, override
from dist_lstm.config.resolved import ResolvedConfig, load_resolved
from dist_lstm.config.schema import Config
from dist_lstm.config.task import Task
from dist_lstm.data.manifest import Manifest, load_manifest
from dist_lstm.data.prepare import describe, ingest
from dist_lstm.data.ranges import split_sentence
from dist_lstm.data.shards import Shards
from dist_lstm.errors import UserError
from dist_lstm.layout import RunLayout
from dist_lstm.storage import is_marked, listing, lock, write_json, write_text

#: The stages of a run after `prepare`, and the run itself.
Stage = Literal["train", "backtest", "forecast", "run"]


@dataclass(frozen=True)
class Run:
    """A run directory with its data prepared.

    Attributes:
        folder: The directory.
        config: The resolved config.
        manifest: The contents of the shards.
        task: The properties that stream, model and forecast table share.
        console: Where progress and results are shown.
    """

    folder: Path
    config: ResolvedConfig
    manifest: Manifest
    task: Task
    console: Console

    @property
    def files(self) -> RunLayout:
        """The files of the directory."""
        return RunLayout(self.folder)

    @property
    def shards(self) -> Shards:
        """The shards of the series."""
        return Shards(self.files.shards, self.manifest)

    def is_done(self, stage: Stage) -> bool:
        """Whether a stage, or the whole run, has left all its results; an interrupted one has not."""
        files = self.files
        match stage:
            case "train":
                return "training" in self.metrics and files.model.exists()
            case "backtest":
                return "backtest" in self.metrics and is_marked(files.backtest) and files.scores.exists()
            case "forecast":
                return is_marked(files.forecasts)
            case "run":
                return is_marked(self.folder)

    @property
    def metrics(self) -> dict[str, Any]:
        """The contents of `metrics.json`; empty where there is none yet."""
        path = self.files.metrics
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError as error:
            raise UserError(path, "is damaged", "delete it to run the stages that it describes again") from error

    @property
    def combination_weights(self) -> dict[str, float] | None:
        """Weights of the model and of baselines in the combined forecast; None where there is none."""
        return self.metrics.get("combination", {}).get("weights")

    def add_metrics(self, section: str, values: dict[str, Any]) -> None:
        """Publish `metrics.json` with a section added or replaced."""
        write_json(self.files.metrics, self.metrics | {section: values})


@contextmanager
def start_run(config: Config, folder: Path, console: Console, frame: pd.DataFrame | None = None) -> Iterator[Run]:
    """Lock a run directory and prepare its data, or reuse the data that an earlier command has prepared.

    Args:
        config: The config; settings may be left out.
        folder: The run directory.
        console: Console for progress messages.
        frame: A table in memory that is read instead of `data.path`.

    Yields:
        The run.

    Raises:
        UserError: If the directory holds other work, or the data can't be used.
    """
    files = RunLayout(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(folder, "is a file", "choose another --out")
    if folder.exists() and not files.config.exists() and not files.shards.exists():
        unexpected = [name for name in listing(folder) if not name.startswith(".")]
        if unexpected:
            raise UserError(folder, f"is not a run directory (it holds {unexpected[0]})", "choose another --out")
    with lock(folder):
        with ingest(config, files.shards, frame) as dataset:
            resolved = resolve(config, dataset.statistics)
            if files.config.exists():
                stored = load_resolved(files.config)
                if different := differences(stored, resolved):
                    raise UserError(folder, f"holds other work: {'; '.join(different)}", "choose another --out")
                resolved = override(resolved, measured_before(resolved, stored))
            manifest = describe(dataset, resolved).manifest
        if not files.config.exists():
            write_text(files.config, dump_config(resolved))
        task = manifest.make_task(resolved)
        console.print(f"data      {manifest.summary}\nsplit     {split_sentence(manifest, task)}")
        yield Run(folder, resolved, manifest, task, console)


@contextmanager
def open_run(folder: Path, console: Console, read_only: bool = False) -> Iterator[Run]:
    """Open a run directory whose data is prepared, and lock it if something will be written into it.

    Args:
        folder: The run directory.
        console: Console for progress messages.
        read_only: Whether it is only read; it may then be read by several processes, and need not be writable.

    Yields:
        The run.

    Raises:
        UserError: If it is not a run directory.
    """
    files = RunLayout(folder)
    if not files.config.is_file():
        raise UserError(folder, f"is not a run directory: it has no {RunLayout.config}", "give the --out of a run")
    with nullcontext() if read_only else lock(folder):
        config = load_resolved(files.config)
        manifest = load_manifest(files.shards)
        yield Run(folder, config, manifest, manifest.make_task(config), console)
