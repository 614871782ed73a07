"""A fleet: thousands of small models in some hundred Tune trials, and one forecast for every series.

    prepare      a table -> shards                                    dist_lstm.run
    global       one model of all series, for those that need it      dist_lstm.run.train, on a worker
    groups       models of groups, for series whose own is of no use  dist_lstm.fleet.pack, a trial a pack
    own          each series' own model, its scores and forecasts     the same

A pack's tables appear when it is done, so a fleet that was stopped goes on with the same command and repeats none.
Tune's own state is not read again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
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
        errors = _try(job, stage, waiting, _lines(stage, total - len(waiting), total, console))
        waiting = undone(waiting) if errors else []
    if waiting:
        raise errors[0]


def _try(job: FleetJob, stage: str, packs: list[int], lines: Any) -> list[Exception]:
    """Do packs, each as a trial, once; returns what ended those that were cut short.

    Tune itself tries none again: it gives up one that it hands to an actor which dies just then.
    """
    from ray import tune

    state = job.files.ray
    remove(state)
    state.mkdir(mode=0o700)
    fleet = job.config.fleet
    trial = tune.with_resources(
        tune.with_parameters(_trial(), job=job, stage=stage), {"cpu": fleet.cpus, "gpu": fleet.gpus}
    )
    results = tune.Tuner(
        trial,
        param_space={"pack": tune.grid_search(packs)},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name=stage, storage_path=str(state), verbose=0, callbacks=[lines]),
    ).fit()
    problems = [one.metrics["problem"] for one in results if one.metrics and one.metrics.get("problem")]
    if problems:
        raise min(problems, key=str)
    return results.errors


def _trial() -> type:
    """The trial of a pack; a class in a function, since Ray is imported where it is needed alone."""
    from ray.tune import Trainable

    class PackTrial(Trainable):
        """Works through one pack after the other, in a process that compiles once."""

        def setup(self, config: dict[str, Any], job: FleetJob, stage: str) -> None:  # pyright: ignore
            self._pack, self._stage, self._job = config["pack"], stage, job
            self._resources = ExitStack()
            self._worker: PackWorker | None = None
            self._problem: UserError | None = None
            hide_gpus_not_given()

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._pack = new_config["pack"]
            return True

        def step(self) -> dict[str, Any]:
            if self._problem is None:
                try:
                    # Not in `setup`: Tune ends an actor that is slow to start once another has time for its pack.
                    if self._worker is None:
                        here = self._resources.enter_context(_here(self._job, self._stage))
                        self._worker = PackWorker(here)
                    return {"done": True, "counts": self._worker.work(self._stage, self._pack)}
                except UserError as error:
                    self._problem = error
            return {"done": True, "problem": self._problem}

        def cleanup(self) -> None:
            self._resources.close()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing: a pack that was cut short is done again."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Nothing was saved."""

    return PackTrial


@contextmanager
def _here(job: FleetJob, stage: str) -> Iterator[FleetJob]:
    """A fleet on the node of a worker, with what the packs of a stage need."""
    layout = FleetLayout
    before = (layout.models, layout.model, layout.backtest_model) if stage == OWN else ()
    with mirrored(job.where, own=False, fetch=(layout.shards, layout.packs, *before)) as folder:
        own_model = job.global_folder == job.folder
        yield replace(job, folder=folder, global_folder=folder if own_model else job.global_folder)


def _lines(stage: str, done: int, total: int, console: Console) -> Any:
    """A callback of Tune that prints a line a pack."""
    from ray.tune import Callback

    class Lines(Callback):
        """Tells of packs as they end."""

        def __init__(self) -> None:
            self._done = done

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Tune writes its callbacks down; a console can't be."""
            return Callback, ()

        def on_trial_complete(self, *_: Any, trial: Any, **__: Any) -> None:
            counts = dict((trial.last_result or {}).get("counts") or {})
            if counts:
                self._done += 1
                models = counts.pop("models")
                seconds = trial.last_result["time_this_iter_s"]
                by = "".join(f", {level} {number}" for level, number in counts.items())
                console.print(f"{stage:<10}{self._done} of {total}: {models} models in {seconds:.0f} s{by}")

        def on_trial_error(self, *_: Any, trial: Any, **__: Any) -> None:
            console.print(f"{stage:<10}pack {trial.config['pack']} was cut short")

    return Lines()


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
