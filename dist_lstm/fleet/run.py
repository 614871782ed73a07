"""A fleet: thousands of small models in a few hundred Tune trials, and one forecast for every series.

    prepare      a table -> shards                                    dist_lstm.run
    global       one model of all series, for those that need it      dist_lstm.run.train, on a worker
    groups       models of groups, for series whose own is unusable   dist_lstm.fleet.pack, one trial per pack
    own          one model per series, its scores and forecasts       the same

A pack's tables are published when it is done, so the same command continues an interrupted fleet and repeats no
finished pack. Tune's own state is not read again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from dist_lstm.config.defaults import resolve
from dist_lstm.config.fleet import SMALL
from dist_lstm.config.load import dump_config, override
from dist_lstm.config.resolved import MeasuredConfig, ResolvedConfig, as_measured, unresolved
from dist_lstm.config.schema import Config
from dist_lstm.credentials import without_keys
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.ranges import describe_split
from dist_lstm.errors import UserError
from dist_lstm.fleet.initial import find_overlap, initial_settings, saw_everything
from dist_lstm.fleet.pack import GROUPS, OWN, FleetJob, PackWorker, slots_of, small_task
from dist_lstm.fleet.packing import count_packs, count_starting, make_groups, model_steps, pack_groups, write_packs
from dist_lstm.fleet.tune import run_packs
from dist_lstm.jobs.nodes import refuse_nodes
from dist_lstm.jobs.session import Cluster, hide_gpus_not_given, join_cluster
from dist_lstm.layout import FleetLayout, RunLayout
from dist_lstm.run import train as train_stage
from dist_lstm.run_directory import Run, start_run
from dist_lstm.storage import (
    is_marked,
    listing,
    local_path,
    mark,
    mirrored,
    origin,
    refresh,
    remove,
    write_text,
)
from dist_lstm.timing import timed


def run_fleet(config: Config, folder: Path, console: Console) -> dict[str, Any]:
    """Train the models of a fleet and forecast every series, or continue an interrupted fleet.

    Args:
        config: The config; settings may be left out.
        folder: The fleet's directory.
        console: Where progress is shown.

    Returns:
        The contents of `metrics.json`.

    Raises:
        UserError: If the directory holds other work, or if the data or settings can't be used.
    """
    refuse_nodes(config.resources)
    if config.combine:
        raise UserError("combine", "a fleet selects one model per series and combines none", "leave it out")
    folder = folder.absolute()  # workers have another current directory, and Tune refuses a relative path
    with start_run(config, folder, console) as run:
        if is_marked(folder):
            console.print("fleet     already done")
            return run.metrics
        job = _make_job(run)
        _pack(run, job)
        job = _without_overlap(run, job)
        with join_cluster() as cluster:
            console.print(f"cluster   {cluster.summary}")
            fleet = run.config.fleet
            cluster.check_fits("pack", {"fleet.cpus": fleet.cpus, "fleet.gpus": fleet.gpus}, console)
            if job.global_folder == folder:
                _train_global(run, cluster)
            for stage in (GROUPS, OWN):
                _work(job, stage, console)
        _finish(run)
        return run.metrics


def _make_job(run: Run) -> FleetJob:
    fleet = run.config.fleet
    if fleet.init_from and local_path(fleet.init_from) is None:
        raise UserError(
            "fleet.init_from", f"{without_keys(fleet.init_from)}: expected a directory", "copy the run to one"
        )
    initial = Path(fleet.init_from).expanduser().absolute() if fleet.init_from else None
    settings = SMALL | (initial_settings(initial) if initial else {}) | fleet.settings
    # Another context length needs other values of the settings that are derived from it.
    context = {"task.context_length": None, "task.min_context": None, "model.segment_length": None}
    asked = override(unresolved(run.config), (context if "task.context_length" in settings else {}) | settings)
    local = _check_small(resolve(asked, run.manifest.statistics))
    write_text(FleetLayout(run.folder).small_config, dump_config(local))
    folder = initial if initial else run.folder
    has_global = fleet.global_model and (initial is None or _has_scored_model(initial))
    return FleetJob(run.folder, origin(run.folder), run.config, local, folder if has_global else None, initial)


def _has_scored_model(folder: Path) -> bool:
    """Whether there is a model that did not see everything."""
    return RunLayout(folder).model.exists() and not saw_everything(folder)


def _check_small(local: ResolvedConfig) -> MeasuredConfig:
    train = local.train
    wrong = {
        "batch_size": train.batch_size == "auto",
        "learning_rate": train.learning_rate == "auto",
        "accumulate": train.accumulate > 1,
        "ema": train.ema > 0,
        "noise": train.noise > 0,
        "mix": train.mix > 0,
        "stretch": train.stretch > 0,
        "precision": train.precision in ("float16", "bfloat16"),
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            value = getattr(train, key)
            raise UserError(
                f"train.{key}",
                f"{value} is not supported for models that are trained as one graph",
                "set another value in fleet.settings",
            )
    return as_measured(local)


@timed("pack")
def _pack(run: Run, job: FleetJob) -> None:
    """Decide which models are trained together; done once per fleet."""
    if job.packs(OWN).exists():
        return
    own, groups = make_groups(run.shards, small_task(run.shards, job.local), run.config)
    if job.init_from is not None:
        overlap = find_overlap(job.init_from, run.shards, run.config.split)
        own, groups = (
            [replace(one, may_start=not overlap.series[one.indices].any()) for one in models]
            for models in (own, groups)
        )
        if left_out := sum(not one.may_start for one in own):
            run.console.print(
                f"init_from {left_out:,} of {len(own):,} models start from random weights: {job.init_from} saw "
                f"steps of their series that are held out now ({overlap.example})"
            )
    shape = (model_steps(job.local), slots_of(run.config), run.config.fleet.max_packs)
    write_packs(pack_groups(groups, *shape) if groups else [], job.packs(GROUPS))
    packs = pack_groups(own, *shape)
    write_packs(packs, job.packs(OWN))
    unit = {"series": "series", "cluster": "cluster"}.get(str(run.config.fleet.by), "group")
    also = f", and {len(groups)} of groups" if groups else ""
    run.console.print(
        f"packs     {len(own):,} models, one per {unit}{also}, in {len(packs)} pack{'s' * (len(packs) != 1)}"
    )


def _without_overlap(run: Run, job: FleetJob) -> FleetJob:
    """The job without `init_from` if no model may start from there: then a global model is trained as well."""
    if job.init_from is None or count_starting(job.packs(OWN))[0]:
        return job
    run.console.print(
        f"init_from no model starts from {job.init_from}: hold out fewer steps (split.validation "
        f"{run.config.split.validation}, split.test {run.config.split.test}) to start from there"
    )
    return replace(job, init_from=None, global_folder=run.folder if run.config.fleet.global_model else None)


def _train_global(run: Run, cluster: Cluster) -> None:
    import ray

    needed = run.config.resources.gpus
    gpus = min(1.0, cluster.gpus) if needed == "auto" else needed
    cluster.check_fits("global model", {"resources.gpus": gpus}, run.console)
    options = {"num_cpus": run.config.fleet.cpus, "num_gpus": gpus, "max_retries": run.config.fleet.max_failures}
    work = ray.remote(_train_quietly).options(**options)
    problem = ray.get(work.remote(origin(run.folder), run.config, run.manifest))
    if problem:
        raise UserError(f"the global model: {problem.where}", problem.problem, problem.advice)
    refresh(run.folder, [FleetLayout.metrics])
    training = run.metrics["training"]
    refused = training.get("refit_refused")
    note = f"; trained on whole series it diverged, so it was kept as it was before: {refused}" if refused else ""
    run.console.print(f"global    one model of all series, {training['steps']} steps{note}")


def _train_quietly(where: str, config: ResolvedConfig, manifest: Manifest) -> UserError | None:
    """Train a run that another process prepared and keeps locked; returns a user's error instead of raising it."""
    hide_gpus_not_given()
    try:
        needed = set(RunLayout.read()) - {RunLayout.backtest, RunLayout.forecasts}
        with mirrored(where, own=False, fetch=needed) as folder:
            train_stage(Run(folder, config, manifest, manifest.make_task(config), Console(quiet=True)))
    except UserError as error:
        return error
    return None


@timed("work")
def _work(job: FleetJob, stage: str, console: Console) -> None:
    """Train the packs of a stage that are not done; repeat those whose process or node died."""
    total = count_packs(job.packs(stage))

    def undone(packs: Iterable[int]) -> list[int]:
        done = listing(job.files.models)
        return [number for number in packs if job.models(stage, number).name not in done]

    waiting, errors = undone(range(total)), []
    if len(waiting) < total:
        console.print(f"{stage:<10}{total - len(waiting)} of {total} packs already done")
    for attempt in range(1 + job.config.fleet.max_failures):
        if not waiting:
            return
        if attempt:
            console.print(f"{stage:<10}tried again: {len(waiting)} of {total} packs")
        errors = _run_once(job, stage, waiting, _PackLog(stage, total - len(waiting), total, console))
        waiting = undone(waiting) if errors else []
    if waiting:
        raise errors[0]


def _run_once(job: FleetJob, stage: str, packs: list[int], log: "_PackLog") -> list[Exception]:
    """Run each pack once; returns the exceptions that ended packs.

    Retries are not left to Tune: it gives up a pack whose reused actor dies while the pack is handed over.
    """
    state = job.files.ray
    remove(state)
    state.mkdir(mode=0o700)
    resources = {"cpu": job.config.fleet.cpus, "gpu": job.config.fleet.gpus}
    return run_packs(packs, partial(_open_worker, job, stage), resources, state / stage, log.on_end, log.on_death)


@contextmanager
def _open_worker(job: FleetJob, stage: str) -> Iterator[Callable[[int], dict[str, int]]]:
    """Compile once in a worker's process, then run packs of a stage there."""
    with _local_job(job, stage) as local_job:
        yield partial(PackWorker(local_job).work, stage)


@contextmanager
def _local_job(job: FleetJob, stage: str) -> Iterator[FleetJob]:
    """The job on the node of a worker, with a local copy of the files that the packs of a stage need."""
    layout = FleetLayout
    before = (layout.models, layout.model, layout.backtest_model) if stage == OWN else ()
    with mirrored(job.where, own=False, fetch=(layout.shards, layout.packs, *before)) as folder:
        own_model = job.global_folder == job.folder
        yield replace(job, folder=folder, global_folder=folder if own_model else job.global_folder)


class _PackLog:
    """Prints one line per pack.

    Args:
        stage: Stage of the packs.
        done: Packs that were done before.
        total: All packs of the stage.
        console: Where the lines are printed.
    """

    def __init__(self, stage: str, done: int, total: int, console: Console) -> None:
        self._stage = stage
        self._done = done
        self._total = total
        self._console = console

    def on_end(self, _pack: int, counts: dict[str, int], seconds: float) -> None:
        """Print the counts and seconds of a pack that is done."""
        self._done += 1
        models = counts.pop("models")
        by = "".join(f", {level} {number}" for level, number in counts.items())
        self._console.print(
            f"{self._stage:<10}{self._done} of {self._total}: {models} models in {seconds:.0f} s{by}"
        )

    def on_death(self, pack: int) -> None:
        """Print that a pack was interrupted."""
        self._console.print(f"{self._stage:<10}pack {pack} was interrupted")


def _finish(run: Run) -> None:
    """Write the metrics and mark the fleet as done."""
    from dist_lstm.evaluate.backtest import summarise

    files = FleetLayout(run.folder)
    refresh(run.folder, [FleetLayout.series_scores])
    scores = pd.read_parquet(files.series_scores)
    first = scores[scores["model"] == "LSTM"]
    levels = Counter(first["level"])
    reasons = Counter(reason for reason in first["reason"].dropna())
    scored = scores[scores["points"] > 0]
    values = {"series": len(first), "levels": dict(levels), "moved_down": sum(reasons.values())}
    # Packs that version 0.1.0 has finished have no such column.
    if refused := int(first["refit_refused"].notna().sum()) if "refit_refused" in first else 0:
        values["refits_refused"] = refused
    starting, models = count_starting(files.packs / f"{OWN}.parquet")
    if starting < models:
        values["not_started_from_init_from"] = models - starting
    run.add_metrics("split", describe_split(run.manifest, run.task))
    run.add_metrics("fleet", values)
    counts = {"series": int(scored["unique_id"].nunique())}
    run.add_metrics("backtest", summarise(scored) | counts)
    for folder in (files.models, files.series_scores, files.backtest, files.forecasts):
        mark(folder)
    mark(run.folder)
    shown = ", ".join(
        f"{levels[level]:,} {level}" for level in ("own", "group", "global", "naive") if levels[level]
    )
    run.console.print(f"forecast  {len(first):,} series, each by its first usable model: {shown}")
