"""One pack of a fleet: train its models as one graph, forecast each of its series with its first usable model.

Axes: N series, B windows, H horizon, P head parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dist_lstm.config.resolved import MeasuredConfig, ResolvedConfig
from dist_lstm.config.task import Task, Vocabulary
from dist_lstm.data.panel import Panel
from dist_lstm.data.shards import Shards, open_shards
from dist_lstm.data.windows import Rolling
from dist_lstm.fleet.fallback import Candidate, FallbackSelector, Predict
from dist_lstm.fleet.initial import Initial
from dist_lstm.fleet.models import read_models, write_models
from dist_lstm.fleet.packing import read_pack
from dist_lstm.fleet.training import GroupTrainer, TrainedGroup
from dist_lstm.layout import FleetLayout, RunLayout, part_files, part_name
from dist_lstm.startup import start_tensorflow
from dist_lstm.storage import publish

#: The stages of a fleet; each has its own packs.
GROUPS, OWN = "groups", "own"
_SLOTS = {"CPU": 16, "GPU": 256}
#: Windows per prediction; small, as most series have only a few windows to forecast.
_BATCH = 32


@dataclass(frozen=True)
class FleetJob:
    """What all packs of a fleet share; plain values, which are pickled for the workers.

    Attributes:
        folder: The fleet's directory, on this node.
        where: Path or URI of the fleet's directory, valid on every node.
        config: The resolved config of the fleet and its global model.
        local: The resolved config of the small models.
        global_folder: Run directory of the global model; None if there is no global model.
        init_from: Run or fleet directory whose weights training starts from; None for random weights.
    """

    folder: Path
    where: str
    config: ResolvedConfig
    local: MeasuredConfig
    global_folder: Path | None
    init_from: Path | None

    def packs(self, stage: str) -> Path:
        """The file that lists a stage's packs."""
        return self.files.packs / f"{stage}.parquet"

    def models(self, stage: str, number: int) -> Path:
        """The table of a pack's models; it is published last, so a pack is done if it exists."""
        return self.files.models / part_name(number, "group" if stage == GROUPS else "part")

    @property
    def files(self) -> FleetLayout:
        """The files of the fleet's directory."""
        return FleetLayout(self.folder)


def small_task(shards: Shards, config: ResolvedConfig) -> Task:
    """The task of a small model: without inputs that identify a series, as the models differ in their weights.

    Each model would hold the embeddings of all series and categories of the panel, almost all of them unused.
    """
    return replace(shards.make_task(config), vocabulary=Vocabulary(), series=0)


def slots_of(config: ResolvedConfig) -> int:
    """Number of models trained at once; the same on every worker, as the last bits of results depend on it."""
    members = config.fleet.slots
    return _SLOTS["GPU" if config.fleet.gpus else "CPU"] if members == "auto" else members


class PackWorker:
    """Works through packs, one after the other, with one compiled graph.

    Args:
        job: The fleet.

    Raises:
        UserError: If the models can't start from the weights of `init_from`.
    """

    def __init__(self, job: FleetJob) -> None:
        start_tensorflow()
        from dist_lstm.forecast.predict import make_predictor
        from dist_lstm.train.devices import make_strategy, seeded
        from dist_lstm.train.fused.fit import make_fused_models

        fleet = job.config.fleet
        gpus = {"gpus": 1} if fleet.gpus else {"gpus": 0, "threads": max(1, int(fleet.cpus))}
        make_strategy(job.local.resources.model_copy(update=gpus), job.local.train.precision)
        self._job = job
        self._shards = open_shards(job.files.shards)
        self._task = small_task(self._shards, job.local)
        with seeded(job.local.train.seed, job.local.train.deterministic):
            models = make_fused_models(self._task, job.local.model, job.local.train)
        self._trainer = GroupTrainer(models, self._task, job.local, slots_of(job.config))
        self._model = models.ordinary
        self._predict = make_predictor(self._model, self._task, _BATCH)
        self._initial = Initial(job.init_from, self._model) if job.init_from else None

    def work(self, stage: str, number: int) -> dict[str, int]:
        """Train the models of a pack and publish its tables.

        Args:
            stage: `GROUPS` or `OWN`.
            number: Number of the pack.

        Returns:
            The number of `models`, and of `refits refused` if there are any; for `OWN`, also the number of series
            per level that forecasts them.
        """
        groups = read_pack(self._job.packs(stage), number)
        indices = np.sort(np.concatenate([group.indices for group in groups]))
        panel = self._shards.read_series(indices)
        here = [replace(group, indices=np.searchsorted(indices, group.indices)) for group in groups]
        starting = [group.name for group in here if group.may_start]
        initial = self._initial.of(starting) if self._initial else {}
        trained = self._trainer.train(panel, here, initial)
        counts = {"models": len(trained)}
        if stage == OWN:
            counts |= self._forecast(panel, trained, number)
        if refused := sum(one.refused is not None for one in trained):
            counts["refits refused"] = refused
        rows = [one.row("own" if stage == OWN else "group") for one in trained]
        write_models(self._job.models(stage, number), rows, self._model)
        return counts

    def _with(self, weights: Sequence[np.ndarray]) -> Predict:
        def predict(panel: Panel, cutoffs: Any) -> tuple[np.ndarray, np.ndarray]:
            self._model.set_weights(weights)
            return self._predict(panel, cutoffs)

        return predict

    def _forecast(self, panel: Panel, trained: Sequence[TrainedGroup], number: int) -> dict[str, int]:
        fleet, rolling = self._job.config.fleet, Rolling.of(self._job.config.backtest)
        selector = FallbackSelector(
            panel, self._task, rolling, fleet.skill_gate if self._task.validation else None
        )
        for one in trained:
            failure = one.failure
            if failure is None and self._task.validation and np.isnan(one.before.validation_loss):
                failure = "it has no validation window"
            before, after = self._with(one.before.weights), self._with(one.after.weights)
            selector.consider(Candidate("own", before, after, failure, one.refused), one.group.indices)
        self._offer_groups(selector, trained)
        if selector.waiting.any() and self._job.global_folder is not None:
            seen = [one.group.indices for one in trained if self._initial and not one.group.may_start]
            overlaps = np.isin(np.arange(len(selector.waiting)), np.concatenate([[], *seen]))
            for failure, chosen in ((None, ~overlaps), ("it saw steps that are held out now", overlaps)):
                selector.consider(
                    Candidate("global", *self._global, failure), np.flatnonzero(selector.waiting & chosen)
                )
        self._write(selector, number)
        levels, counts = np.unique(selector.level.astype(str), return_counts=True)
        return dict(zip(levels.tolist(), counts.tolist(), strict=True))

    def _offer_groups(self, selector: FallbackSelector, trained: Sequence[TrainedGroup]) -> None:
        members: dict[str, list[int]] = {}
        for one in trained:
            waiting = [int(index) for index in one.group.indices if selector.waiting[index]]
            if one.group.fallback is not None and waiting:
                members.setdefault(one.group.fallback, []).extend(waiting)
        if not members:
            return
        files = part_files(self._job.files.models, "group")
        for model in read_models(files, list(members)):
            before, after = (self._with(one(self._model)) for one in (model.before, model.after))
            candidate = Candidate("group", before, after, model.failure, model.refit_refused)
            selector.consider(candidate, np.sort(members[model.name]))

    @cached_property
    def _global(self) -> tuple[Predict, Predict]:
        """Forecasts by the global model, trained without and with the test range."""
        from dist_lstm.forecast.predict import make_predictor
        from dist_lstm.train.checkpoint import load_model

        folder = self._job.global_folder
        if folder is None:
            raise ValueError("there is no global model")
        task = self._shards.make_task(self._job.config)
        paths = RunLayout(folder).scored_model, RunLayout(folder).model
        before, after = (make_predictor(load_model(path), task, _BATCH) for path in paths)
        return before, after

    def _write(self, selector: FallbackSelector, number: int) -> None:
        files = self._job.files
        tables = {
            files.forecasts: pa.table(selector.forecasts()),
            files.backtest: pa.table(selector.backtest()),
            files.series_scores: selector.scores(),
        }
        for folder, table in tables.items():
            with publish(folder / part_name(number)) as temporary:
                pq.write_table(table, temporary, compression="zstd")
