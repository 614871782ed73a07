"""A fleet: thousands of small models in some hundred Tune trials, and one forecast for every series.

    prepare      a table -> shards                                    dist_lstm.run
    global       one model of all series, for those that need it      dist_lstm.run.train, on a worker
    groups       models of groups, for series whose own is of no use  dist_lstm.fleet.pack, a trial a pack
    own          each series' own model, its scores and forecasts     the same

A pack's tables appear when it is done, so a fleet that was stopped goes on with the same command and repeats none.
Tune's own state is not read again.
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
from dist_lstm.data.manifest import Manifest
from dist_lstm.errors import UserError
from dist_lstm.fleet.pack import (
    GROUPS,
    OWN,
    FleetJob,
    PackWorker,
    initial_settings,
    slots_of,
    small_task,
)
from dist_lstm.fleet.packing import count_packs, make_groups, model_steps, pack_groups, write_packs
from dist_lstm.fleet.tune import run_packs
from dist_lstm.jobs.nodes import refuse_nodes
from dist_lstm.jobs.session import Cluster, hide_gpus_not_given, join_cluster
from dist_lstm.layout import FleetLayout, RunLayout
from dist_lstm.run import Run, start_run
from dist_lstm.run import train as train_stage
from dist_lstm.storage import (
    is_marked,
    listing,
    local_path,
    mark,
    mirrored,
    origin,
    refresh,
    remove,
    without_keys,
    write_text,
)
from dist_lstm.timing import timed


def run_fleet(config: Config, folder: Path, console: Console) -> dict[str, Any]:
    """Train the models of a fleet and forecast every series, or go on where an earlier command was stopped.

    Args:
        config: The job; settings may be left out.
        folder: The fleet's directory.
        console: Where progress is shown.

    Returns:
        What `metrics.json` says.

    Raises:
        UserError: If the directory holds other work, or data or settings can't be used.
    """
    refuse_nodes(config.resources)
    folder = folder.absolute()  # workers have another current directory, and Tune refuses a relative one
    with start_run(config, folder, console) as run:
        if is_marked(folder):
            console.print("fleet     already done")
            return run.metrics
        job = _make_job(run)
        _pack(run, job)
        with join_cluster() as cluster:
            console.print(f"cluster   {cluster.summary}")
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
    # What is derived of the context is derived again, for another context.
    context = {"task.context_length": None, "task.min_context": None, "model.segment_length": None}
    asked = override(unresolved(run.config), (context if "task.context_length" in settings else {}) | settings)
    local = _check_small(resolve(asked, run.manifest.statistics))
    write_text(FleetLayout(run.folder).small_config, dump_config(local))
    folder = initial if initial else run.folder
    has_global = fleet.global_model and (initial is None or RunLayout(initial).model.exists())
    return FleetJob(run.folder, origin(run.folder), run.config, local, folder if has_global else None, initial)


def _check_small(local: ResolvedConfig) -> MeasuredConfig:
    train = local.train
    wrong = {
        "batch_size": train.batch_size == "auto",
        "learning_rate": train.learning_rate == "auto",
        "accumulate": train.accumulate > 1,
        "ema": train.ema > 0,
        "precision": train.precision in ("float16", "bfloat16"),
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            value = getattr(train, key)
            raise UserError(
                f"train.{key}",
                f"{value} is not for models that are trained as one",
                "set another in fleet.settings",
            )
    return as_measured(local)


@timed("pack")
def _pack(run: Run, job: FleetJob) -> None:
    """Decide once which models are trained together."""
    if job.packs(OWN).exists():
        return
    own, groups = make_groups(run.shards, small_task(run.shards, job.local), run.config)
    shape = (model_steps(job.local), slots_of(run.config), run.config.fleet.max_packs)
    write_packs(pack_groups(groups, *shape) if groups else [], job.packs(GROUPS))
    packs = pack_groups(own, *shape)
    write_packs(packs, job.packs(OWN))
    kind = {"series": "one a series", "cluster": "one a cluster"}.get(str(run.config.fleet.by), "one a group")
    also = f", and {len(groups)} of groups" if groups else ""
    run.console.print(
        f"packs     {len(own):,} models, {kind}{also}, in {len(packs)} pack{'s' * (len(packs) != 1)}"
    )


def _train_global(run: Run, cluster: Cluster) -> None:
    import ray

    needed = run.config.resources.gpus
    gpus = min(1.0, cluster.gpus) if needed == "auto" else needed
    options = {"num_cpus": run.config.fleet.cpus, "num_gpus": gpus, "max_retries": run.config.fleet.max_failures}
    work = ray.remote(_train_quietly).options(**options)
    problem = ray.get(work.remote(origin(run.folder), run.config, run.manifest))
    if problem:
        raise UserError(f"the global model: {problem.where}", problem.problem, problem.advice)
    refresh(run.folder, [FleetLayout.metrics])
    steps = run.metrics["training"]["steps"]
    run.console.print(f"global    one model of all series, {steps} steps")


def _train_quietly(where: str, config: ResolvedConfig, manifest: Manifest) -> UserError | None:
    """Train a run that another process prepared and keeps locked; returns what the user has to mend."""
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
    """Do the packs of a stage that are not done yet, and again those whose process or node died."""
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
        errors = _try(job, stage, waiting, _Lines(stage, total - len(waiting), total, console))
        waiting = undone(waiting) if errors else []
    if waiting:
        raise errors[0]


def _try(job: FleetJob, stage: str, packs: list[int], lines: "_Lines") -> list[Exception]:
    """Do packs once; returns what ended those that were interrupted.

    Tune itself tries none again: it gives up a pack that it hands to an actor which dies just then.
    """
    state = job.files.ray
    remove(state)
    state.mkdir(mode=0o700)
    resources = {"cpu": job.config.fleet.cpus, "gpu": job.config.fleet.gpus}
    return run_packs(
        packs, partial(_open_worker, job, stage), resources, state / stage, lines.on_end, lines.on_death
    )


@contextmanager
def _open_worker(job: FleetJob, stage: str) -> Iterator[Callable[[int], dict[str, int]]]:
    """Compile once in a worker's process, and then do packs of a stage there."""
    with _here(job, stage) as here:
        yield partial(PackWorker(here).work, stage)


@contextmanager
def _here(job: FleetJob, stage: str) -> Iterator[FleetJob]:
    """A fleet on the node of a worker, with what the packs of a stage need."""
    layout = FleetLayout
    before = (layout.models, layout.model, layout.backtest_model) if stage == OWN else ()
    with mirrored(job.where, own=False, fetch=(layout.shards, layout.packs, *before)) as folder:
        own_model = job.global_folder == job.folder
        yield replace(job, folder=folder, global_folder=folder if own_model else job.global_folder)


class _Lines:
    """Prints a line per pack.

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
        self._console.print(f"{self._stage:<10}pack {pack} was cut short")


def _finish(run: Run) -> None:
    """Count, score and mark."""
    from dist_lstm.evaluate.backtest import summarise

    files = FleetLayout(run.folder)
    refresh(run.folder, [FleetLayout.series_scores])
    scores = pd.read_parquet(files.series_scores)
    first = scores[scores["model"] == "LSTM"]
    levels = Counter(first["level"])
    reasons = Counter(reason for reason in first["reason"].dropna())
    scored = scores[scores["points"] > 0]
    run.add_metrics("fleet", {"series": len(first), "levels": dict(levels), "moved_down": sum(reasons.values())})
    counts = {"series": int(scored["unique_id"].nunique())}
    run.add_metrics("backtest", summarise(scored) | counts)
    for folder in (files.models, files.series_scores, files.backtest, files.forecasts):
        mark(folder)
    mark(run.folder)
    shown = ", ".join(
        f"{levels[level]:,} {level}" for level in ("own", "group", "global", "naive") if levels[level]
    )
    run.console.print(f"forecast  {len(first):,} series, each by the first model of use: {shown}")
