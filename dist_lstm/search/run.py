"""A hyperparameter search: `dist-lstm tune`.

    shards/         the prepared data, for all trials
    ray/            Ray Tune's state and the trials' checkpoints
    trials.parquet  one row per trial
    best.yaml       the best trial's settings
    best/           the best model, an ordinary run directory
    search.html     the report

The process of the search does not import TensorFlow; trials and the best model's run do, in their own processes.
"""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
from rich.console import Console

from dist_lstm.config.defaults import resolve
from dist_lstm.config.load import differences, dump_config, flatten, load_config, measured_before, override
from dist_lstm.config.schema import Config
from dist_lstm.config.search import Domain, SearchSettings
from dist_lstm.config.yaml import dump_yaml
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.prepare import describe, ingest
from dist_lstm.errors import UserError
from dist_lstm.jobs.nodes import refuse_nodes
from dist_lstm.jobs.session import Cluster, join_cluster
from dist_lstm.layout import RunLayout, SearchLayout, TrialLayout
from dist_lstm.search import tuning
from dist_lstm.search.outcomes import Outcome, Watch, best_of, show_trials, table_of
from dist_lstm.search.samples import contradictions, own_sample, trial_config
from dist_lstm.search.trial import Job, finish_run
from dist_lstm.storage import is_marked, listing, lock, mark, origin, publish, shown, write_text


def search(config: Config, folder: Path, console: Console) -> None:
    """Search for better settings, or continue an interrupted search.

    Args:
        config: The config; its section `search` defines the search space.
        folder: The directory of the search; all nodes of the cluster must have access to it.
        console: Where progress is shown.

    Raises:
        UserError: If the search space is empty, if its settings contradict each other in every combination, if the
            folder holds other work, if the data can't be used, or if no trial has a score.
    """
    files = SearchLayout(folder)
    folder = folder.absolute()
    refuse_nodes(config.resources)
    if not config.search.space:
        raise UserError(
            "search.space",
            "is empty",
            "name settings to try, such as train.learning_rate: {loguniform: [1e-4, 1e-2]}",
        )
    _refuse_other_files(folder)
    with lock(folder):
        _refuse_other_work(config, folder)
        if not is_marked(folder):
            _work(config, folder, console)
            mark(folder)
        else:
            console.print("search    already done")
        show_trials(pd.read_parquet(files.trials), config.search.domains, console)
    for path in (files.trials, files.best_config, files.best, files.page):
        if path.exists():
            console.print(f"{path.name:<15} {shown(path)}")


def _refuse_other_files(folder: Path) -> None:
    files = SearchLayout(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(folder, "is a file", "choose another --out")
    if folder.exists() and not files.config.exists():
        unexpected = [name for name in listing(folder) if not name.startswith(".")]
        if unexpected:
            raise UserError(folder, f"holds no search (it holds {unexpected[0]})", "choose another --out")


def _refuse_other_work(config: Config, folder: Path) -> None:
    files = SearchLayout(folder)
    if not files.config.exists():
        write_text(files.config, dump_config(config))
        return
    stored = load_config(files.config)
    different = differences(stored, config)
    old, new = (dict(flatten(one.search)) | {"space": None} for one in (stored, config))
    different += [
        f"search.{key} is {value!r}, not {new[key]!r}" for key, value in old.items() if value != new[key]
    ]
    spaces = stored.search.domains, config.search.domains
    different += [
        f"search.space.{key} is {_domain_text(spaces[0].get(key))}, not {_domain_text(spaces[1].get(key))}"
        for key in dict.fromkeys([*spaces[0], *spaces[1]])
        if spaces[0].get(key) != spaces[1].get(key)
    ]
    if different:
        raise UserError(folder, f"holds another search: {'; '.join(different)}", "choose another --out")


def _domain_text(domain: Domain | None) -> str:
    return "not searched" if domain is None else f"{domain[0]} {json.dumps(domain[1])}"


def _work(config: Config, folder: Path, console: Console) -> None:
    files = SearchLayout(folder)
    with ingest(config, files.shards) as dataset:
        resolved = resolve(config, dataset.statistics)
        manifest = describe(dataset, resolved).manifest
    if not resolved.split.validation:
        raise UserError("split.validation", "is 0", "trials are compared on the validation range")
    console.print(f"data      {manifest.summary}")
    with join_cluster() as cluster:
        if not files.trials.exists():
            job = Job(config, files.shards, resolved.task.min_context)
            _search(job, manifest, folder, cluster, console)
        if files.best.exists():
            console.print("best      finishes its training, is backtested, and forecasts")
            _finish(config.search, folder)
    from dist_lstm.search.page import render_search

    page = render_search(folder.name, config, pd.read_parquet(files.trials), files.best.exists())
    write_text(files.page, page)


def _search(job: Job, manifest: Manifest, folder: Path, cluster: Cluster, console: Console) -> None:
    """Run the trials; write `best.yaml`, the files that the run in `best/` starts from, then `trials.parquet`."""
    files = SearchLayout(folder)
    config = job.config
    cluster.check_fits("trial", {"search.cpus": config.search.cpus, "search.gpus": config.search.gpus}, console)
    contradiction = contradictions(config, manifest.statistics)
    if contradiction:
        console.print(f"note      {contradiction}")
    own, outside = own_sample(config, manifest.statistics)
    if outside:
        console.print(f"note      outside of search.space; trial 0 uses {', '.join(outside)}")
    samples = tuning.samples_of(config, own)
    total = config.search.num_samples if samples is None else len(samples)
    going_on = "; going on" if files.ray.exists() else ""
    console.print(f"search    {total:,} trials, {config.search.algorithm}, on {cluster.summary}{going_on}")
    outcomes = tuning.run_trials(job, own, folder, Watch(config.search.domains, total, console))
    best = best_of(outcomes)
    if best is None:
        reason = next((one.reason for one in outcomes if one.reason), "ended before its first epoch")
        raise UserError("search", f"none of {len(outcomes)} trials has a score", f"the first failed: {reason}")
    _keep_best(best, job, manifest, folder)
    table = table_of(outcomes, own, config.search.domains)
    with publish(files.trials) as temporary:
        table.to_parquet(temporary, index=False)


def _keep_best(best: Outcome, job: Job, manifest: Manifest, folder: Path) -> None:
    """Write `best.yaml`, and prepare `best/` as a run that was interrupted where the trial ended."""
    files = SearchLayout(folder)
    config = trial_config(job.config, best.sample, manifest.statistics)
    config = override(config, {"resources.gpus": job.config.resources.gpus})
    with best.checkpoint.as_directory() as saved:
        config = override(config, measured_before(config, load_config(TrialLayout(Path(saved)).config)))
        values = config.model_dump(mode="json", exclude={"search"})
        title = f"# Trial {best.number} of the search in {folder.name}: score {best.score:.6g}"
        write_text(files.best_config, f"{title}\n{dump_yaml(values)}")
        if job.config.search.final == "none":
            return
        with publish(files.best) as temporary:
            shutil.copytree(files.shards, RunLayout(temporary).shards, copy_function=_link)
            if job.config.search.final == "take":
                shutil.copytree(TrialLayout(Path(saved)).checkpoints, RunLayout(temporary).checkpoints)


def _link(source: str, target: str) -> None:
    """Link a shard instead of copying it if the file system can: shards are only replaced, never changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _finish(settings: SearchSettings, folder: Path) -> None:
    """Finish the best model's run, in a process with the resources of a trial."""
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(max_calls=1, num_cpus=settings.cpus, num_gpus=settings.gpus)(finish_run)
    try:
        ray.get(task.remote(origin(folder)))
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        raise
