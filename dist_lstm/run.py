"""One run from start to end: read this first.

    prepare    a table -> shards                          dist_lstm.data.prepare
    train      shards -> windows -> a model               dist_lstm.data.stream, dist_lstm.train.phases
    backtest   the test range -> scores                   dist_lstm.evaluate.backtest
    forecast   last windows -> the forecast table         dist_lstm.forecast
    report     all results -> one page                    dist_lstm.report.page

Each stage writes its result into the run directory and is skipped where the result exists, so the same command
continues an interrupted run. Nothing here depends on whether the command line or a worker of a cluster calls it.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from dist_lstm.config.load import dump_config, override
from dist_lstm.config.resolved import ResolvedBacktestSettings
from dist_lstm.data.prepare import describe, ingest
from dist_lstm.data.ranges import describe_split
from dist_lstm.data.windows import Rolling
from dist_lstm.errors import UserError
from dist_lstm.forecast.table import refuse_other_files
from dist_lstm.layout import ForecastLayout
from dist_lstm.run_directory import Run
from dist_lstm.startup import start_tensorflow
from dist_lstm.storage import mark, publish, remove, shown, write_json, write_text
from dist_lstm.timing import timed


def run_all(run: Run, train_stage: Callable[[Run], Run] | None = None) -> None:
    """Run every stage after `prepare`, with `train_stage` in place of `train`; `_SUCCESS` is written last."""
    run = (train_stage or train)(run)
    for stage in (backtest, forecast, report):
        stage(run)
    if not run.is_done("run"):
        mark(run.folder)


@timed("train")
def train(run: Run, stop_signal: Callable[[], int | None] = lambda: None) -> Run:
    """Choose the number of steps on the validation range, then train on whole series for that many steps.

    Writes `model-backtest.keras`, which never saw the test range, `model.keras`, `history.csv`, `tensorboard/`,
    `environment.json` and the section `training` of `metrics.json`; `checkpoints/` until it is done.

    Args:
        run: The run; nothing is done where it is trained already.
        stop_signal: Polled for the number of a signal that another process received; None for no signal.

    Returns:
        The run, with measured values in place of `auto` in its config.

    Raises:
        UserError: If the first training diverges; a second one that does is refused, and the first model kept.
    """
    if run.is_done("train"):
        run.console.print("train     already done")
        return run
    start_tensorflow()
    from dist_lstm.evaluate.combination import choose_combination
    from dist_lstm.train.checkpoint import save_model
    from dist_lstm.train.devices import describe_environment, make_strategy
    from dist_lstm.train.measure import Workload, measure
    from dist_lstm.train.members import MemberTrainings
    from dist_lstm.train.monitor import Monitor
    from dist_lstm.train.phases import Training

    resources, monitor = run.config.resources, Monitor(run.folder, run.console)
    strategy = make_strategy(resources, run.config.train.precision, resources.nodes)
    config = measure(run.config, Workload(run.shards, run.task, strategy), monitor.print)
    if dump_config(config) != dump_config(run.config):
        run = replace(run, config=config)
        write_text(run.files.config, dump_config(config))
    training = Training(run.folder, run.shards, config, run.task, strategy, monitor, stop_signal=stop_signal)
    trainings = MemberTrainings(training)
    trained = trainings.train()
    model = trainings.combine(trained)
    if config.combine:
        chosen = choose_combination(run.shards, run.task, model, config.combine, config.train.seed)
        run.add_metrics("combination", chosen.describe())
        run.console.print(f"combined  {chosen.summary}")
    if trainings.refits:
        save_model(model, run.files.backtest_model)
        trained = trainings.refit(trained)
        model = trainings.combine(trained)
    save_model(model, run.files.model)
    monitor.close(trained.history)
    environment = describe_environment(strategy, trained.models[0], config.train) | trained.speed.describe()
    write_json(run.files.environment, environment)
    run.add_metrics("split", describe_split(run.manifest, run.task))
    run.add_metrics("training", trained.describe())
    remove(run.files.checkpoints)
    run.console.print(f"train     {trained.summarise(bool(environment['cudnn']))}")
    return run


def _predictor(run: Run, model: Path) -> Any:
    start_tensorflow()
    from dist_lstm.forecast.predict import make_predictor
    from dist_lstm.train.checkpoint import load_model
    from dist_lstm.train.devices import make_strategy

    make_strategy(run.config.resources.alone, run.config.train.precision)
    return make_predictor(load_model(model), run.task)


@timed("backtest")
def backtest(run: Run) -> None:
    """Forecast from rolling cutoffs in the test range and score the forecasts beside baselines.

    Writes `backtest/part-*.parquet`, `scores.parquet` and the section `backtest` of `metrics.json`.

    Args:
        run: A trained run; nothing is done where it is scored already or has no test range.

    Raises:
        UserError: If the run is not trained.
    """
    if not run.task.test:
        run.console.print("backtest  none: split.test is 0")
        return
    if run.is_done("backtest"):
        run.console.print("backtest  already done")
        return
    from dist_lstm.evaluate.backtest import summarise

    result = roll(run, run.config.backtest, run.files.backtest)
    with publish(run.files.scores) as temporary:
        result.scores.to_parquet(temporary, index=False)
    run.add_metrics("backtest", summarise(result.scores, result.seconds) | result.counts)
    run.console.print(f"backtest  {result.summary}")


def roll(run: Run, settings: ResolvedBacktestSettings, folder: Path) -> Any:
    """Forecast from rolling cutoffs with the model that never saw the test range.

    Args:
        run: A trained run.
        settings: Number of cutoffs per series, their stride, and baselines.
        folder: The folder into which `part-*.parquet` are written.

    Returns:
        The `dist_lstm.evaluate.backtest.Backtest`.

    Raises:
        UserError: If it is missing.
    """
    model = run.files.scored_model
    if model == run.files.model and run.metrics.get("training", {}).get("refit"):
        raise UserError(run.files.backtest_model, "is missing, and its refit saw the test range", "train again")
    from dist_lstm.evaluate.backtest import ComparedMethods
    from dist_lstm.evaluate.backtest import backtest as score

    methods = ComparedMethods(settings.baselines, run.combination_weights)
    return score(run.shards, run.task, Rolling.of(settings), _predictor(run, model), folder, methods)


@timed("forecast")
def forecast(run: Run, data: str | pd.DataFrame | None = None, out: Path | None = None) -> Path:
    """Forecast the steps after the end of every series.

    Args:
        run: A trained run.
        data: Another table to forecast, read with the run's settings; None forecasts the run's series.
        out: The folder of the part files; None for `forecasts/` in the run directory. The shards of another table
            are written to the temporary directory.

    Returns:
        The folder of `part-*.parquet`; `_rejected.parquet` beside them lists the series of another table
        that can't be used, and why.

    Raises:
        UserError: If the run is not trained, the table can't be used, or `out` holds something other than
            forecasts.
    """
    folder = out or run.files.forecasts
    if data is not None and out is None:
        raise UserError("--data", "forecasts of another table need their own folder", "give --out DIR")
    if out is None and run.is_done("forecast"):
        run.console.print("forecast  already done")
        return folder
    refuse_other_files(folder)
    predict = _predictor(run, run.files.model)
    from dist_lstm.forecast.predict import write_forecasts

    with tempfile.TemporaryDirectory(prefix="dist-lstm-") as scratch:
        shards = run.shards
        if data is not None:
            frame = None if isinstance(data, str) else data
            config = override(run.config, {"data.path": data}) if isinstance(data, str) else run.config
            with ingest(config, Path(scratch) / "shards", frame, check_freq=False) as dataset:
                shards = describe(dataset, config, trained=run.shards)
        task = replace(run.task, id_type=shards.manifest.id_type)
        with publish(folder) as temporary:
            unknown = write_forecasts(shards, task, predict, temporary, run.combination_weights)
            if data is not None and shards.manifest.rejected:
                shutil.copy(shards.files.rejected, ForecastLayout(temporary).rejected)
            mark(temporary)
    nan = f"; {unknown:,} are NaN: no value in their last {run.task.context_length} steps" if unknown else ""
    listed = run.shards.files.rejected if data is None else ForecastLayout(folder).rejected
    left_out = "".join(f"; {one}" for one in shards.manifest.left_out(shown(listed)))
    run.console.print(f"forecast  {shards.manifest.series:,} series, {run.task.horizon} steps each{nan}{left_out}")
    return folder


def report(run: Run) -> Path:
    """Write `report.html`, one page on all finished stages of the run.

    Args:
        run: A trained run.

    Returns:
        The path of the page.

    Raises:
        UserError: If the run is not trained.
    """
    if not run.is_done("train"):
        raise UserError(run.folder, "there is nothing to report: there is no model", "train one first")
    from dist_lstm.report.page import Source, render_report

    name, scored = run.folder.absolute().name, run.is_done("backtest")
    source = Source(name, run.config, run.task, run.shards, run.metrics, run.files, scored)
    write_text(run.files.report, render_report(source))
    return run.files.report
