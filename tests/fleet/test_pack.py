"""Packs without a cluster: models that start from others, on data that grew, and the export of one model."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from dist_lstm.config.load import override, parse_config
from dist_lstm.data.windows import forecast_cutoffs
from dist_lstm.errors import UserError
from dist_lstm.fleet.export import export_model
from dist_lstm.fleet.models import read_models, write_models
from dist_lstm.fleet.pack import OWN, FleetJob, PackWorker
from dist_lstm.fleet.run import _make_job, _pack, _without_overlap
from dist_lstm.forecast.predict import make_predictor
from dist_lstm.run import train
from dist_lstm.run_directory import open_run, start_run
from dist_lstm.train.checkpoint import load_model
from dist_lstm.train.fused import fit

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c", "d")
SMALL = {"model.units": [4], "train.batch_size": 8, "train.max_steps": 20}
QUIET = Console(quiet=True)
#: Such a low learning rate that the weights do not change.
STILL = {"train.learning_rate": 1e-12, "train.weight_decay": 0.0}


@pytest.fixture(scope="module", autouse=True)
def any_threads():
    """A worker limits its threads before TensorFlow starts; in the tests TensorFlow has already started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dist_lstm.train.devices._limit_threads", lambda _: None)
        yield


def write_table(folder: Path, steps: int) -> Path:
    generator, step = np.random.default_rng(2), np.arange(60)
    y = [10 + number + 3 * np.sin(step * np.pi / 2 + number) + generator.normal(size=60) for number in range(4)]
    frames = [pd.DataFrame({"unique_id": name, "ds": step, "y": one}) for name, one in zip(NAMES, y, strict=True)]
    path = folder / f"{steps}.parquet"
    pd.concat([frame.head(steps) for frame in frames]).to_parquet(path)
    return path


def make_config(folder: Path, steps: int = 50, settings: dict | None = None, **fleet):
    return parse_config(
        {
            "task": {"horizon": 3, "freq": 1, "season_length": 4, "context_length": 8, "min_context": 8},
            "data": {"path": str(write_table(folder, steps))},
            "split": {"validation": 6, "test": 6},
            "model": {"units": [4], "dropout": 0.0},
            "train": {"max_steps": 20, "steps_per_epoch": 10, "batch_size": 8, "warmup_steps": 0},
            "fleet": {"group": None, "global_model": False, "settings": SMALL | (settings or {})} | fleet,
        }
    )


def work(config, out: Path) -> FleetJob:
    """Train the single pack of a fleet of four series."""
    with start_run(config, out, QUIET) as run:
        job = _make_job(run)
        _pack(run, job)
    PackWorker(job).work(OWN, 0)
    return job


def models(job: FleetJob) -> pd.DataFrame:
    return pd.read_parquet(job.models(OWN, 0)).set_index("name")


def table_of(job: FleetJob, name: str) -> Path:
    return job.folder / name / "part-00000.parquet"


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> FleetJob:
    folder = tmp_path_factory.mktemp("first")
    return work(make_config(folder), folder / "fleet")


@pytest.mark.same_bytes
def test_a_pack_repeated_by_another_worker_writes_the_same_bytes(first):
    tables = [table_of(first, name) for name in ("models", "forecasts", "backtest", "scores")]
    before = [path.read_bytes() for path in tables]
    for path in tables:
        path.unlink()
    worker = PackWorker(first)
    for _ in range(2):  # also by a worker that has done other packs
        worker.work(OWN, 0)
        assert [path.read_bytes() for path in tables] == before


def test_the_weights_of_a_table_go_to_the_variables_of_their_names(tmp_path):
    # Two variables of the same shape, stored in the other order.
    kernel = keras.layers.Dense(3, name="kernel", use_bias=False)
    inputs = keras.Input([3])
    model = keras.Model(inputs, keras.layers.Dense(3, name="head", use_bias=False)(kernel(inputs)))
    weights = [np.full([3, 3], value, np.float32) for value in (1, 2)]
    row = {"name": "a", "level": "own", "series": 1, "weights": weights, "weights_backtest": weights}
    write_models(tmp_path / "models.parquet", [row], model)
    table = pq.read_table(tmp_path / "models.parquet")
    key, stored = next(iter(table.schema.metadata.items()))
    swapped = dict(reversed(json.loads(stored).items()))
    pq.write_table(table.replace_schema_metadata({key: json.dumps(swapped)}), tmp_path / "swapped.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "0.1.0.parquet")
    for name, order in (("models", (1, 2)), ("swapped", (2, 1)), ("0.1.0", (1, 2))):
        (read,) = read_models([tmp_path / f"{name}.parquet"], ["a"])
        for arrays in (read.before(model), read.after(model)):
            assert [value.flat[0] for value in arrays] == list(order)


def test_each_model_of_a_fleet_starts_from_that_of_the_same_name_in_another(first, tmp_path):
    again = work(make_config(tmp_path, settings=STILL, init_from=str(first.folder)), tmp_path / "again")
    before, after = models(first), models(again)
    assert list(after.index) == list(NAMES)
    for name in NAMES:
        for column in ("weights", "weights_backtest"):
            np.testing.assert_allclose(after.loc[name, column], before.loc[name, column], atol=1e-6)
    assert not np.allclose(before.loc["a", "weights"], before.loc["b", "weights"], atol=1e-3)


def test_a_fleet_is_refitted_on_data_that_grew_and_forecasts_from_its_new_end(first, tmp_path):
    grown = work(make_config(tmp_path, steps=56, init_from=str(first.folder)), tmp_path / "grown")
    table = pd.read_parquet(table_of(grown, "forecasts"))
    assert sorted(set(table["ds"])) == [56, 57, 58]
    assert sorted(set(pd.read_parquet(table_of(first, "forecasts"))["ds"])) == [50, 51, 52]
    moved = np.abs(np.stack(models(grown)["weights"]) - np.stack(models(first)["weights"])).max(axis=1)
    assert (moved > 1e-4).all()


def test_a_model_whose_refit_diverges_is_kept_as_it_was_before_it(first, tmp_path, monkeypatch):
    honest = fit.fused_fit

    def spoilt(models, windows, members, slots):
        for one in honest(models, windows, members, slots):
            if windows.sampling.whole and one.name == "b":
                yield replace(one, weights=[100 * weights for weights in one.weights])
            elif windows.sampling.whole and one.name == "c":
                yield replace(one, failure="training diverged: the loss is nan at step 10")
            else:
                yield one

    monkeypatch.setattr(fit, "fused_fit", spoilt)
    with start_run(make_config(tmp_path), tmp_path / "fleet", QUIET) as run:
        job = _make_job(run)
        _pack(run, job)
    counts = PackWorker(job).work(OWN, 0)
    assert counts["refits refused"] == 2
    table, expected = models(job), models(first)
    assert table["failure"].isna().all()
    assert table["refit_refused"].isna().tolist() == [True, False, False, True]
    assert table.loc["b", "refit_refused"].startswith("its loss on the training range is ")
    assert table.loc["c", "refit_refused"] == "training diverged: the loss is nan at step 10"
    for name in NAMES:
        column = "weights_backtest" if name in "bc" else "weights"
        np.testing.assert_array_equal(table.loc[name, "weights"], expected.loc[name, column])
        np.testing.assert_array_equal(table.loc[name, "weights_backtest"], expected.loc[name, "weights_backtest"])
    scores = pd.read_parquet(table_of(job, "scores")).query("model == 'LSTM'").set_index("unique_id")
    own = scores["level"] == "own"
    assert own.any(), "the test needs a usable model"
    assert scores.loc[own, "refit_refused"].to_dict() == {
        name: table.loc[name, "refit_refused"] for name in scores.index[own]
    }


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with start_run(make_config(folder), folder / "run", QUIET) as run:
        train(run)
    return folder / "run"


def test_all_models_of_a_fleet_start_from_the_model_of_a_run(run_folder, tmp_path):
    job = work(make_config(tmp_path, settings=STILL, init_from=str(run_folder)), tmp_path / "fleet")
    for file, column in (("model.keras", "weights"), ("model-backtest.keras", "weights_backtest")):
        expected = np.concatenate([one.ravel() for one in load_model(run_folder / file).get_weights()])
        for weights in models(job)[column]:
            np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_the_run_that_a_fleet_starts_from_is_its_global_model(run_folder, tmp_path):
    config = make_config(tmp_path, init_from=str(run_folder), global_model=True)
    with start_run(config, tmp_path / "fleet", QUIET) as run:
        assert _make_job(run).global_folder == run_folder


@pytest.fixture
def shortened(tmp_path) -> Path:
    """The table of 56 steps, in which series b lost its last 15."""
    table = pd.read_parquet(write_table(tmp_path, 56))
    table[(table["unique_id"] != "b") | (table["ds"] <= 40)].to_parquet(tmp_path / "shortened.parquet")
    return tmp_path / "shortened.parquet"


@pytest.mark.parametrize("kind", ["fleet", "run"])
def test_a_series_whose_held_out_steps_were_seen_is_trained_and_scored_as_without_a_start(
    first, run_folder, shortened, tmp_path, capsys, kind
):
    earlier = first.folder if kind == "fleet" else run_folder
    jobs = {}
    for name, init_from in (("with", str(earlier)), ("without", None)):
        # A gate that no model passes: each series asks for the global model too.
        config = make_config(tmp_path, init_from=init_from, global_model=True, skill_gate=0.99)
        config = override(config, {"data.path": str(shortened), "fleet.global_model": init_from is not None})
        with start_run(config, tmp_path / name, Console()) as run:
            jobs[name] = _make_job(run)
            _pack(run, jobs[name])
            assert _without_overlap(run, jobs[name]) == jobs[name]
        PackWorker(jobs[name]).work(OWN, 0)
    said = " ".join(capsys.readouterr().out.split())
    assert f"init_from 1 of 4 models start from random weights: {earlier} saw steps" in said
    assert "('b': seen until 37, held out from 29)" in said
    started, anew = models(jobs["with"]), models(jobs["without"])
    for column in ("weights", "weights_backtest"):
        same = {name: np.array_equal(started.loc[name, column], anew.loc[name, column]) for name in NAMES}
        assert same == {"a": False, "b": True, "c": False, "d": False}
    if kind == "run":
        scores = pd.read_parquet(table_of(jobs["with"], "scores")).set_index("unique_id")
        assert scores.loc["b", "reason"].str.contains("global: it saw steps that are held out now").all()
        assert not scores.loc["a", "reason"].str.contains("held out").any()


def test_a_fleet_whose_held_out_steps_were_all_seen_is_trained_as_without_a_start(run_folder, tmp_path, capsys):
    config = make_config(tmp_path, init_from=str(run_folder), global_model=True)
    config = override(config, {"split.test": 12})
    with start_run(config, tmp_path / "fleet", Console()) as run:
        _pack(run, job := _make_job(run))
        for _ in range(2):  # also where the packs are known already
            actual = _without_overlap(run, job)
            assert (actual.init_from, actual.global_folder) == (None, run.folder)
    said = " ".join(capsys.readouterr().out.split())
    assert "init_from 4 of 4 models start from random weights" in said
    assert "hold out fewer steps (split.validation 6, split.test 12) to start from there" in said


@pytest.mark.parametrize(("settings", "message"), [({"model.units": [5]}, "another architecture|weights")])
def test_models_of_another_size_are_refused_as_a_start(first, run_folder, tmp_path, settings, message):
    for number, folder in enumerate((run_folder, first.folder)):
        config = make_config(tmp_path, settings=settings, init_from=str(folder))
        with pytest.raises(UserError, match=rf"^fleet\.init_from: .*({message})"):
            work(config, tmp_path / str(number))


def test_a_folder_that_is_neither_a_run_nor_a_fleet_is_refused_as_a_start(tmp_path):
    config = make_config(tmp_path, init_from=str(tmp_path))
    with pytest.raises(UserError, match=r"^fleet\.init_from: .*neither a run nor a fleet"):
        work(config, tmp_path / "fleet")


def test_an_exported_model_gives_the_forecasts_of_the_fleet(call, first, tmp_path):
    status, output, _ = call("export", first.folder, "--model", "b", "--out", tmp_path / "b.keras")
    assert (status, output.split()) == (0, ["model", str(tmp_path / "b.keras")])
    model = keras.models.load_model(tmp_path / "b.keras")
    with open_run(first.folder, QUIET) as run:
        panel = run.shards.read_series(np.array([1]))
        task = run.task
    values, _ = make_predictor(model, task, 32)(panel, forecast_cutoffs(panel.length))
    scores = pd.read_parquet(table_of(first, "scores")).query("model == 'LSTM'").set_index("unique_id")
    assert scores.loc["b", "level"] == "own", "the test needs a usable model"
    table = pd.read_parquet(table_of(first, "forecasts")).query("unique_id == 'b'")
    median = values[0, :, task.quantiles.index(0.5)]
    np.testing.assert_allclose(median, table["LSTM"], rtol=1e-5)


def test_a_fleet_may_have_any_architecture_and_the_calendar(tmp_path):
    model = {"decoder": "segment", "calendar": True, "bidirectional": True, "residual": True, "segment_length": 2}
    changes = {"task.freq": "D"} | {f"model.{name}": value for name, value in model.items()}
    config = override(make_config(tmp_path), changes)
    table = pd.read_parquet(tmp_path / "50.parquet")
    table["ds"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(table["ds"], "D")
    table.to_parquet(tmp_path / "50.parquet")
    job = work(config, tmp_path / "fleet")
    assert models(job)["failure"].isna().all()
    scores = pd.read_parquet(table_of(job, "scores")).query("model == 'LSTM'").set_index("unique_id")
    usable = scores.index[scores["level"] == "own"]
    assert len(usable), "the test needs a usable model"
    export_model(job.folder, usable[0], tmp_path / "one.keras")
    exported = load_model(tmp_path / "one.keras")
    assert {"y", "calendar"} <= {one.name for one in exported.inputs}
    with open_run(job.folder, QUIET) as run:
        panel, task = run.shards.read_series(np.array([NAMES.index(usable[0])])), run.task
    values, _ = make_predictor(exported, task, 32)(panel, forecast_cutoffs(panel.length))
    forecast = pd.read_parquet(table_of(job, "forecasts")).query("unique_id == @usable[0]")
    np.testing.assert_allclose(values[0, :, task.quantiles.index(0.5)], forecast["LSTM"], rtol=1e-5)
    again = work(override(config, {"fleet.init_from": str(job.folder), "fleet.settings": SMALL | STILL}),
                 tmp_path / "again")  # fmt: skip
    np.testing.assert_allclose(models(again)["weights"]["a"], models(job)["weights"]["a"], atol=1e-6)


@pytest.mark.parametrize(
    ("fleet", "name", "path", "message"),
    [
        ("first", "z", "z.keras", r"has no model 'z'; models/ lists"),
        ("first", "a", "a.h5", r"--out .*a\.h5: expected a file that ends in \.keras"),
        ("none", "a", "a.keras", r"is not a fleet: it has no local\.yaml"),
    ],
)
def test_an_export_that_is_not_possible_is_refused_with_the_reason(first, tmp_path, fleet, name, path, message):
    folder = first.folder if fleet == "first" else tmp_path
    with pytest.raises(UserError, match=message):
        export_model(folder, name, tmp_path / path)
