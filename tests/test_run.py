"""The main job from a table to forecasts, small enough to be run again and again."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from dist_lstm import run as stages
from dist_lstm.cli import main as cli
from dist_lstm.config.load import dump_config, load_config, override, parse_config
from dist_lstm.config.schema import Config
from dist_lstm.errors import UserError
from dist_lstm.plan import make_plan
from dist_lstm.run import run_all
from dist_lstm.run_directory import open_run, start_run
from dist_lstm.storage import lock
from tests.compatibility.compare import without_times

HORIZON, SEASON, TEST = 7, 7, 14
USUAL = ("sine", "walk", "gaps", "constant")
SHORT = ("short", "two")  # shorter than the context, too short to be trained on
QUANTILES = ["LSTM", "LSTM-lo-80", "LSTM-hi-80", "LSTM-lo-95", "LSTM-hi-95"]
DOCUMENTED = [
    "_SUCCESS", "backtest", "config.yaml", "environment.json", "forecasts", "history.csv", "metrics.json",
    "model-backtest.keras", "model.keras", "report.html", "scores.parquet", "shards", "tensorboard",
]  # fmt: skip


def make_table() -> pd.DataFrame:
    generator = np.random.default_rng(8)
    step = np.arange(120)
    gaps = 30 + 5 * np.sin(2 * np.pi * step / SEASON) + generator.normal(0, 1, 120)
    gaps[[40, 41, 42, 90, 117, 119]] = np.nan
    values = {
        "sine": 10 + np.sin(2 * np.pi * step / SEASON) + generator.normal(0, 0.1, 120),
        "walk": 1000 + generator.normal(0, 5, 90).cumsum(),
        "gaps": gaps,
        "constant": np.full(80, 12.75),
        "short": generator.normal(5, 1, 9),
        "two": np.array([3.0, 4.0]),
        "nothing": np.full(60, np.nan),
    }
    parts = [
        pd.DataFrame({"unique_id": name, "ds": pd.date_range(end="2024-04-29", periods=len(y)), "y": y})
        for name, y in values.items()
    ]
    return pd.concat(parts, ignore_index=True)


def make_config(table: Path, **changes: Any) -> Config:
    values = {
        "task": {"horizon": HORIZON, "context_length": 14, "freq": "D", "season_length": SEASON},
        "data": {"path": str(table)},
        "split": {"validation": 7, "test": TEST},
        "model": {"units": [8]},
        "train": {"max_steps": 20, "steps_per_epoch": 5, "batch_size": 16, "warmup_steps": 5, "seed": 3},
    }
    return override(parse_config(values), changes)


def work(config: Config, folder: Path) -> str:
    """Run a job to its end; returns the output."""
    console = Console(file=io.StringIO(), width=200)
    with start_run(config, folder, console) as run:
        run_all(run)
    return console.file.getvalue()


def forecast(folder: Path, data: Path | None, out: Path | None) -> Path:
    with open_run(folder, Console(file=io.StringIO()), read_only=out is not None) as run:
        return stages.forecast(run, str(data) if data else None, out)


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every file, at least one of which changes when a file is rewritten."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    make_table().to_parquet(path)
    return path


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory) -> Path:
    """A finished run."""
    path = tmp_path_factory.mktemp("runs") / "run"
    work(make_config(table), path)
    return path


@pytest.fixture(scope="module")
def combined(table, tmp_path_factory) -> tuple[Path, str]:
    """A finished run that combines its model with two baselines, and its output."""
    path = tmp_path_factory.mktemp("combined") / "run"
    return path, work(make_config(table, combine=("Theta", "Naive")), path)


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """A copy of a finished run that a test may change."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def forecasts(folder) -> pd.DataFrame:
    return pd.read_parquet(folder / "forecasts")


class TestWhatARunLeaves:
    def test_the_directory_holds_exactly_the_documented_files(self, folder):
        assert visible(folder) == DOCUMENTED
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"]
        assert visible(folder / "backtest") == ["_SUCCESS", "part-00000.parquet"]
        assert visible(folder / "forecasts") == ["_SUCCESS", "part-00000.parquet"]
        assert visible(folder / "shards") == [
            "_SUCCESS",
            "manifest.json",
            "part-00000.parquet",
            "rejected.parquet",
        ]
        assert len(visible(folder / "tensorboard")) == 1

    def test_the_directory_holds_no_pickle(self, folder):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) > 12
        for path in files:
            assert path.suffix not in {".pkl", ".pickle", ".joblib"}
            # A pickle of any protocol in use begins with the opcode PROTO and its number.
            assert path.read_bytes()[:1] != b"\x80"
        for name in ("model.keras", "model-backtest.keras"):
            inside = zipfile.ZipFile(folder / name).namelist()
            assert set(inside) == {"metadata.json", "config.json", "model.weights.h5"}

    def test_config_yaml_has_every_setting_filled_in(self, folder, table):
        stored = load_config(folder / "config.yaml")
        assert stored.task.min_context == SEASON
        assert stored.model.segment_length == SEASON
        assert (stored.backtest.windows, stored.backtest.stride) == (2, HORIZON)
        assert stored.data.path == str(table)

    def test_history_has_one_row_per_epoch_of_both_trainings(self, folder):
        history = pd.read_csv(folder / "history.csv")
        assert history["step"][history["phase"] == "train"].tolist() == [5, 10, 15, 20]
        refit = history[history["phase"] == "refit"]
        training = json.loads((folder / "metrics.json").read_text())["training"]
        assert refit["step"].iloc[-1] == training["refit_steps"] > training["steps"]
        assert np.isfinite(history["loss"]).all()
        assert refit["validation_loss"].isna().all()

    def test_metrics_count_the_series_that_could_not_be_scored(self, folder):
        scores = json.loads((folder / "metrics.json").read_text())["backtest"]
        assert (scores["windows"], scores["series"], scores["series_too_short"]) == (2 * 4, 4, 2)
        assert (scores["skill_series"], scores["skill_left_out"]) == (3, 1)  # "constant" has scale 0

    def test_metrics_equal_those_of_the_backtest_table(self, folder):
        read = pd.read_parquet(folder / "backtest")
        scores = json.loads((folder / "metrics.json").read_text())["backtest"]
        for model in ("LSTM", "SeasonalNaive", "Theta", "DampedTrend"):
            error = (read["y"] - read[model]).abs().groupby(read["unique_id"]).mean()
            assert scores[model]["mae"] == pytest.approx(error.mean(), rel=1e-5)
        observed = read["y"].notna()
        inside = (read["y"] >= read["LSTM-lo-80"]) & (read["y"] <= read["LSTM-hi-80"])
        assert scores["LSTM"]["coverage-80"] == pytest.approx(inside[observed].mean())

    def test_scores_have_one_row_per_series_and_model(self, folder):
        scores = pd.read_parquet(folder / "scores.parquet")
        pairs = sorted(zip(scores["unique_id"], scores["model"], strict=True))
        models = ("LSTM", "SeasonalNaive", "Theta", "DampedTrend")
        assert pairs == sorted((name, model) for name in USUAL for model in models)

    def test_the_environment_names_versions_and_devices(self, folder):
        environment = json.loads((folder / "environment.json").read_text())
        assert {"dist_lstm", "python", "tensorflow", "keras", "ray", "numpy"} <= set(environment["versions"])
        assert environment["devices"][0]["type"] == "CPU"
        assert environment["cudnn"] is False
        assert 0 <= environment["input_wait_share"] <= 1

    def test_the_output_names_every_stage_and_every_count(self, table, folder, copy):
        shown = work(make_config(table), copy)
        assert "6 series" in shown
        assert "1 rejected (shards/rejected.parquet)" in shown
        assert shown.count("already done") == 3


class TestForecasts:
    def test_every_usable_series_has_a_horizon_of_rows_after_its_end(self, forecasts):
        assert list(forecasts.columns) == ["unique_id", "ds", *QUANTILES]
        ends = make_table().dropna(subset="y").groupby("unique_id")["ds"].max()
        for name, rows in forecasts.groupby("unique_id"):
            expected = pd.date_range(ends[name], periods=HORIZON + 1, freq="D")[1:]
            assert rows["ds"].tolist() == expected.tolist()
        assert sorted(forecasts["unique_id"].unique()) == sorted([*USUAL, *SHORT])

    def test_a_series_without_any_value_is_listed_as_rejected_with_the_reason(self, folder, forecasts):
        rejected = pd.read_parquet(folder / "shards" / "rejected.parquet")
        assert rejected.to_dict("records") == [
            {"unique_id": "nothing", "steps": 60, "reason": "no observed value"}
        ]
        assert "nothing" not in set(forecasts["unique_id"])

    def test_a_constant_series_is_forecast_as_the_constant(self, forecasts):
        assert forecasts[forecasts["unique_id"] == "constant"][QUANTILES].eq(12.75).all(axis=None)

    @pytest.mark.parametrize("name", ["gaps", *SHORT])
    def test_a_series_with_gaps_or_shorter_than_the_context_gets_a_forecast(self, forecasts, name):
        values = forecasts[forecasts["unique_id"] == name][QUANTILES]
        assert values.notna().all(axis=None)
        observed = make_table().query("unique_id == @name")["y"]
        far = 5 * (observed.max() - observed.min())
        assert values.min(axis=None) > observed.min() - far
        assert values.max(axis=None) < observed.max() + far

    def test_intervals_are_nested_around_the_median(self, forecasts):
        ordered = forecasts[["LSTM-lo-95", "LSTM-lo-80", "LSTM", "LSTM-hi-80", "LSTM-hi-95"]].to_numpy()
        assert (np.diff(ordered, axis=1) >= 0).all()

    @pytest.mark.parametrize("head", ["mae", "mse", "huber"])
    def test_a_point_head_gives_the_one_column_lstm_and_no_test_range_no_backtest(self, table, tmp_path, head):
        settings = {"model.head": head, "split.validation": 0, "split.test": 0, "train.max_steps": 5}
        shown = work(make_config(table, **settings), tmp_path / "run")
        read = pd.read_parquet(tmp_path / "run" / "forecasts")
        assert list(read.columns) == ["unique_id", "ds", "LSTM"]
        assert read["LSTM"].notna().all()
        assert "backtest  none: split.test is 0" in shown
        missing = {"backtest", "scores.parquet", "model-backtest.keras"}
        assert visible(tmp_path / "run") == [name for name in DOCUMENTED if name not in missing]


class TestCombined:
    """The model combined with baselines."""

    def test_its_columns_stand_beside_those_of_the_model(self, combined):
        folder, _ = combined
        columns = [name.replace("LSTM", "Combined") for name in QUANTILES]
        forecasts = pd.read_parquet(folder / "forecasts")
        assert list(forecasts.columns) == ["unique_id", "ds", *QUANTILES, *columns]
        assert forecasts[columns].notna().to_numpy().all()
        assert {*columns, "Theta", "Naive"} <= set(pd.read_parquet(folder / "backtest").columns)

    def test_weights_and_validation_scores_are_in_the_metrics_and_in_the_output(self, combined):
        folder, output = combined
        metrics = json.loads((folder / "metrics.json").read_text())
        chosen = metrics["combination"]
        assert set(chosen["weights"]) == {"LSTM", "Theta", "Naive"}
        assert set(chosen["validation_mase"]) == {"LSTM", "Theta", "Naive", "Combined"}
        assert chosen["validation_mase"]["Combined"] <= chosen["validation_mase"]["LSTM"]
        assert {"mase", "coverage-80"} <= set(metrics["backtest"]["Combined"])
        assert "combined  " in output
        assert "on validation" in output
        assert "Combined" in (folder / "report.html").read_text()

    def test_another_table_is_combined_with_the_same_weights(self, combined, tmp_path, table):
        folder, _ = combined
        out = forecast(folder, table, tmp_path / "out")
        pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(folder / "forecasts"))


class TestGoingOn:
    def test_running_again_repeats_no_stage(self, table, copy):
        before = states(copy)
        work(make_config(table), copy)
        after = states(copy)
        assert len(before) > 12
        # The marker may be set again, and the report is rewritten.
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert changed <= {"_SUCCESS", "report.html"}

    def test_the_resolved_config_is_the_same_work(self, copy):
        before = states(copy)
        work(load_config(copy / "config.yaml"), copy)
        assert states(copy)["model.keras"] == before["model.keras"]

    @pytest.mark.parametrize("change", [{"train.steps_per_call": 3}, {"resources.gpus": 0}], ids=str)
    def test_settings_without_effect_on_the_result_may_change(self, table, copy, change):
        assert "already done" in work(make_config(table, **change), copy)

    def test_only_a_deleted_folder_of_forecasts_is_written_again(self, table, copy):
        before, forecasts = states(copy), contents(copy / "forecasts")
        shutil.rmtree(copy / "forecasts")
        work(make_config(table), copy)
        after = states(copy)
        changed = {name for name in before if before[name] != after[name]}
        assert changed - {"_SUCCESS", "report.html"} == {"forecasts/_SUCCESS", "forecasts/part-00000.parquet"}
        assert after.keys() == before.keys()
        assert contents(copy / "forecasts") == forecasts

    def test_a_report_is_written_again_and_its_path_is_shown(self, copy):
        before = (copy / "report.html").read_text()
        (copy / "report.html").unlink()
        result = CliRunner().invoke(cli.app, ["report", str(copy)])
        assert (result.exit_code, result.output.split()) == (0, ["report", str(copy / "report.html")])
        # The page is named after the folder.
        assert (copy / "report.html").read_text().replace("copy", "run") == before.replace("copy", "run")

    def test_a_deleted_backtest_is_written_again(self, table, copy):
        before = contents(copy / "backtest")
        shutil.rmtree(copy / "backtest")
        work(make_config(table), copy)
        assert contents(copy / "backtest") == before

    def test_a_job_stopped_before_its_backtest_resumes_there(self, table, copy):
        before, finished = states(copy), contents(copy / "backtest")
        metrics = json.loads((copy / "metrics.json").read_text())
        for name in ("backtest", "forecasts"):
            shutil.rmtree(copy / name)
        for name in ("scores.parquet", "_SUCCESS"):
            (copy / name).unlink()
        (copy / "metrics.json").write_text(json.dumps({key: metrics[key] for key in ("split", "training")}))
        work(make_config(table), copy)
        after = states(copy)
        assert contents(copy / "backtest") == finished
        assert without_times(json.loads((copy / "metrics.json").read_text())) == without_times(metrics)
        for name in ("model.keras", "model-backtest.keras", "history.csv", "shards/part-00000.parquet"):
            assert after[name] == before[name]
        assert (copy / "_SUCCESS").exists()

    @pytest.mark.parametrize(
        ("setting", "value", "named"),
        [
            ("train.learning_rate", 0.01, "train.learning_rate is 0.001, not 0.01"),
            ("task.horizon", 5, "task.horizon is 7, not 5"),
            ("task.levels", (90,), "task.levels is (80.0, 95.0), not (90.0,)"),
            ("model.units", (4, 4), "model.units is (8,), not (4, 4)"),
            ("split.test", 21, "split.test is 14, not 21"),
            ("train.seed", 4, "train.seed is 3, not 4"),
            ("data.duplicates", "last", "data.duplicates is 'error', not 'last'"),
        ],
    )
    def test_a_directory_that_holds_other_work_is_refused_naming_the_setting(
        self, table, folder, setting, value, named
    ):
        before = states(folder)
        with pytest.raises(UserError) as caught:
            work(make_config(table, **{setting: value}), folder)
        assert "holds other work" in str(caught.value)
        assert named in str(caught.value)
        assert "choose another --out" in str(caught.value)
        assert states(folder) == before

    def test_every_setting_that_differs_is_named(self, table, folder):
        with pytest.raises(UserError) as caught:
            work(make_config(table, **{"train.seed": 4, "model.dropout": 0.5}), folder)
        assert "train.seed is 3, not 4" in str(caught.value)
        assert "model.dropout is 0.1, not 0.5" in str(caught.value)

    def test_a_folder_that_is_not_a_run_is_refused_and_not_changed(self, table, tmp_path):
        (tmp_path / "thesis.txt").write_text("ten years of work")
        with pytest.raises(UserError, match="is not a run directory"):
            work(make_config(table), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_a_run_that_another_process_works_on_is_refused(self, table, folder):
        with lock(folder), pytest.raises(UserError, match="is working on it"):
            work(make_config(table), folder)

    @pytest.mark.parametrize("stage", [stages.backtest, stages.forecast, stages.report])
    def test_a_run_without_a_model_is_refused_with_the_advice_to_train_first(self, table, tmp_path, stage):
        console = Console(file=io.StringIO())
        with (
            start_run(make_config(table), tmp_path / "run", console) as run,
            pytest.raises(UserError, match="there is no model; train one first"),
        ):
            stage(run)

    @pytest.mark.parametrize("verb", ["train", "backtest", "forecast", "report"])
    def test_a_run_whose_shards_changed_is_refused_naming_the_file(self, table, copy, tmp_path, call, verb):
        job = tmp_path / "job.yaml"
        job.write_text(yaml.safe_dump(make_config(table).model_dump(mode="json", exclude_none=True)))
        for name in ("metrics.json", "backtest/_SUCCESS", "_SUCCESS") if verb != "report" else ():
            (copy / name).unlink()
        shutil.rmtree(copy / "forecasts")
        shard = copy / "shards" / "part-00000.parquet"
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
        status, _, error = call(verb, *([job, "--out", copy] if verb == "train" else [copy]))
        assert status == 2
        assert error.splitlines()[-1].startswith(f"error: {shard}: the shard is missing or damaged: its SHA-256 ")
        assert error.count("\n") == 1

    def test_a_model_that_saw_the_test_range_is_not_scored_on_it(self, copy, call):
        for name in ("model-backtest.keras", "backtest/_SUCCESS", "_SUCCESS"):
            (copy / name).unlink()
        status, _, error = call("backtest", copy)
        assert status == 2
        model = copy / "model-backtest.keras"
        assert error.startswith(f"error: {model}: is missing, and its refit saw the test range; train again")

    def test_a_folder_without_a_config_is_not_opened_as_a_run(self, tmp_path):
        with pytest.raises(UserError, match=r"it has no config\.yaml"), open_run(tmp_path, Console()):
            pass


class TestRefitsThatDiverge:
    def spoil(self, monkeypatch, change) -> None:
        """Change the weights of the second training before they are compared with those of the first."""
        from dist_lstm.train import phases

        honest = phases.fit

        def fit(*arguments: Any) -> Any:
            fitted = honest(*arguments)
            if arguments[1].name == "refit":
                fitted.model.set_weights([change(one) for one in fitted.model.get_weights()])
            return fitted

        monkeypatch.setattr(phases, "fit", fit)

    @pytest.mark.slow
    @pytest.mark.parametrize("factor", [1000, np.nan])
    def test_the_first_model_is_kept_and_every_result_says_so(self, table, tmp_path, monkeypatch, factor):
        self.spoil(monkeypatch, lambda weights: weights * np.float32(factor))
        said = work(make_config(table), tmp_path / "run")
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]
        reason = metrics["refit_refused"]
        assert metrics["refit"] is False
        assert f"refit     diverged: {reason}; model.keras is the first model" in said
        assert "refit on whole series" not in said
        assert reason in (tmp_path / "run" / "report.html").read_text()
        one, two = (
            keras.models.load_model(tmp_path / "run" / name) for name in ("model.keras", "model-backtest.keras")
        )
        for weights, kept in zip(one.get_weights(), two.get_weights(), strict=True):
            np.testing.assert_array_equal(weights, kept)
        assert np.isfinite(pd.read_parquet(tmp_path / "run" / "forecasts")["LSTM"]).any()

    def test_a_run_without_divergence_says_nothing_of_it(self, folder):
        assert json.loads((folder / "metrics.json").read_text())["training"]["refit"] is True
        assert "refit_refused" not in (folder / "metrics.json").read_text()
        assert "diverged" not in (folder / "report.html").read_text()


class TestForecastingAnotherTable:
    def new_table(self, folder: Path) -> Path:
        """Series with new names, one of the run, one short, and one with missing values at its end."""
        table = make_table()
        sine = table[table["unique_id"] == "sine"].assign(unique_id="new sine")
        late = sine.iloc[:5].assign(unique_id="new short", ds=sine["ds"].iloc[:5] + pd.Timedelta(days=900))
        gone = sine.assign(unique_id="new but silent", y=sine["y"].mask(sine["ds"] > sine["ds"].iloc[-15]))
        pd.concat([sine, late, gone]).to_csv(folder / "new.csv", index=False)
        return folder / "new.csv"

    def test_new_series_are_forecast_and_training_series_keep_their_forecasts(self, folder, forecasts, tmp_path):
        before = states(folder)
        out = forecast(folder, self.new_table(tmp_path), tmp_path / "out")
        read = pd.read_parquet(out)
        assert visible(out) == ["_SUCCESS", "part-00000.parquet"]
        assert sorted(read["unique_id"].unique()) == ["new but silent", "new short", "new sine"]
        again = read[read["unique_id"] == "new sine"].drop(columns="unique_id").reset_index(drop=True)
        trained = forecasts[forecasts["unique_id"] == "sine"].drop(columns="unique_id").reset_index(drop=True)
        # CSV writes values in full: they are read back as they were. In another batch the last bits may differ.
        last_bits = float(trained["LSTM"].abs().max()) * 2.0**-20
        pd.testing.assert_frame_equal(again, trained, rtol=0, atol=last_bits)
        short = read[read["unique_id"] == "new short"]
        assert short["ds"].min() == pd.Timestamp("2024-01-06") + pd.Timedelta(days=900)
        assert short[QUANTILES].notna().all(axis=None)
        assert states(folder) == before
        assert not [path for path in folder.iterdir() if path.name.startswith(".forecast")]

    def test_a_series_that_fell_silent_is_forecast_from_its_last_value_on(self, folder, tmp_path):
        read = pd.read_parquet(forecast(folder, self.new_table(tmp_path), tmp_path / "out"))
        silent, going = (read[read["unique_id"] == name] for name in ("new but silent", "new sine"))
        assert len(silent) == HORIZON
        assert (going["ds"].to_numpy() - silent["ds"].to_numpy() == np.timedelta64(14, "D")).all()
        assert silent[QUANTILES].notna().all(axis=None)

    def test_forecasts_of_the_runs_own_series_may_be_written_to_another_folder(self, folder, tmp_path):
        out = forecast(folder, None, tmp_path / "deep" / "out")
        assert contents(out) == contents(folder / "forecasts")

    def test_an_out_that_holds_other_files_is_refused_and_not_changed(self, folder, tmp_path):
        (tmp_path / "thesis.txt").write_text("ten years of work")
        with pytest.raises(UserError, match=r"holds something other than forecasts \(thesis.txt\)"):
            forecast(folder, None, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_an_out_that_is_a_run_is_refused_and_not_changed(self, copy, folder):
        before = states(copy)
        with pytest.raises(UserError):
            forecast(folder, None, copy)
        assert states(copy) == before

    def test_an_out_that_is_a_file_is_refused_and_not_changed(self, folder, tmp_path):
        (tmp_path / "thesis.txt").write_text("ten years of work")
        with pytest.raises(UserError):
            forecast(folder, None, tmp_path / "thesis.txt")
        assert (tmp_path / "thesis.txt").read_text() == "ten years of work"

    def test_series_of_another_table_that_cannot_be_used_are_named_or_counted(self, folder, tmp_path):
        table = make_table()
        table[table["unique_id"].isin(["nothing", "sine"])].to_parquet(tmp_path / "new.parquet")
        console = Console(file=io.StringIO(), width=200)
        with open_run(folder, console) as run:
            stages.forecast(run, str(tmp_path / "new.parquet"), tmp_path / "out")
        assert "1 rejected" in console.file.getvalue()

    def test_a_table_that_cannot_be_used_leaves_no_files(self, folder, tmp_path):
        before = states(folder)
        (tmp_path / "bad.csv").write_text("unique_id,ds,y\na,2024-01-01,much\n")
        with pytest.raises(UserError, match=r"bad\.csv: column 'y', row 1 .*: expected a number, got 'much'"):
            forecast(folder, tmp_path / "bad.csv", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert states(folder) == before

    def test_a_run_may_be_read_while_another_process_works_on_it(self, copy, tmp_path):
        new, before = self.new_table(tmp_path), states(copy)
        with lock(copy):
            read = pd.read_parquet(forecast(copy, new, tmp_path / "out"))
        assert "new sine" in set(read["unique_id"])
        assert states(copy) == before

    def test_the_command_line_requires_an_out_of_their_own(self, folder, tmp_path, monkeypatch, capsys):
        before = states(folder)
        monkeypatch.setattr(
            sys, "argv", ["dist-lstm", "forecast", str(folder), "--data", str(self.new_table(tmp_path))]
        )
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 2
        assert capsys.readouterr().err.startswith("error: --data: ")
        assert states(folder) == before


class TestTheSameAgain:
    @pytest.mark.same_bytes
    def test_the_same_seed_gives_the_same_history_and_forecasts_byte_for_byte(self, table, folder, tmp_path):
        work(make_config(table), tmp_path / "run")
        assert (tmp_path / "run" / "history.csv").read_bytes() == (folder / "history.csv").read_bytes()
        for name in ("forecasts", "backtest"):
            assert contents(tmp_path / "run" / name) == contents(folder / name)

    @pytest.mark.slow
    def test_another_seed_gives_another_history(self, table, folder, tmp_path):
        work(make_config(table, **{"train.seed": 4}), tmp_path / "run")
        assert (tmp_path / "run" / "history.csv").read_bytes() != (folder / "history.csv").read_bytes()

    @pytest.mark.slow
    def test_deterministic_ops_give_the_same_history_and_forecasts_byte_for_byte(self, table, tmp_path):
        with deterministic_ops_end():
            for name in ("one", "two"):
                work(make_config(table, **{"train.deterministic": True}), tmp_path / name)
        assert (tmp_path / "one" / "history.csv").read_bytes() == (tmp_path / "two" / "history.csv").read_bytes()
        assert contents(tmp_path / "one" / "forecasts") == contents(tmp_path / "two" / "forecasts")

    @pytest.mark.slow
    @pytest.mark.same_bytes
    def test_a_new_process_loads_the_model_and_gives_the_same_forecasts_bit_for_bit(self, folder, tmp_path):
        command = [sys.executable, "-m", "dist_lstm", "forecast", str(folder), "--out", str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "out") == contents(folder / "forecasts")

    @pytest.mark.slow
    def test_the_backtest_model_and_its_training_windows_do_not_see_the_test_range(self, folder, tmp_path):
        changed = make_table()
        in_test = changed.groupby("unique_id").cumcount(ascending=False) < TEST
        changed.loc[in_test, "y"] = changed.loc[in_test, "y"] * -3 + 50
        changed.to_parquet(tmp_path / "changed.parquet")
        work(make_config(tmp_path / "changed.parquet"), tmp_path / "run")
        assert self.weights(tmp_path / "run", "model-backtest.keras") == self.weights(
            folder, "model-backtest.keras"
        )
        assert self.weights(tmp_path / "run", "model.keras") != self.weights(folder, "model.keras")

    def weights(self, folder: Path, name: str) -> list[bytes]:
        from dist_lstm.train.checkpoint import load_model

        return [one.tobytes() for one in load_model(folder / name).get_weights()]

    def history(self, folder: Path) -> list[str]:
        """Rows of the training up to the validation range."""
        rows = (folder / "history.csv").read_text().splitlines()
        return [row for row in rows if row.startswith("train,")]


@contextlib.contextmanager
def deterministic_ops_end() -> Iterator[None]:
    """Disable deterministic ops again, for which TensorFlow has no public function."""
    from tensorflow.python.framework import config

    try:
        yield
    finally:
        config.disable_op_determinism()


class TestPlan:
    @pytest.fixture
    def planned(self, table, tmp_path, monkeypatch) -> tuple[dict[str, Any], Path]:
        """`dist-lstm plan CONFIG --json`, with its own working and temporary directories."""
        (tmp_path / "job.yaml").write_text(dump_config(make_config(table)))
        (tmp_path / "work").mkdir()
        (tmp_path / "temporary").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        before = os.environ.copy()
        result = CliRunner().invoke(cli.app, ["plan", str(tmp_path / "job.yaml"), "--json"])
        assert result.exit_code == 0, result.exception
        assert os.environ == before
        return json.loads(result.stdout), tmp_path

    def test_it_leaves_no_files(self, planned, table):
        _, folder = planned
        assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
            "job.yaml",
            "temporary",
            "work",
        ]
        assert visible(table.parent) == ["table.parquet"]

    def test_it_names_the_settings_that_were_left_out_and_no_other(self, planned):
        plan, _ = planned
        assert {key: setting["value"] for key, setting in plan["derived"].items()} == {
            "task.min_context": SEASON,
            "model.segment_length": SEASON,
            "model.scaling": "robust",
            "model.loss_unit": "seasonal_change",
            "model.statistics": False,
            "model.members": 1,
            "model.variants": [],
            "train.learning_rate": 1e-3,
            "backtest.windows": 2,
            "backtest.stride": HORIZON,
        }
        assert all(setting["why"] for setting in plan["derived"].values())

    def test_a_batch_is_divided_among_the_replicas_of_all_nodes(self, table):
        plan = make_plan(override(make_config(table), {"resources.nodes": 3}))
        assert plan["model"]["replicas"] == 3

    def test_it_reports_the_same_counts_as_the_run(self, planned, folder):
        plan, _ = planned
        ran = json.loads((folder / "metrics.json").read_text())
        manifest = json.loads((folder / "shards" / "manifest.json").read_text())
        assert plan["config"] == load_config(folder / "config.yaml").model_dump(mode="json")
        assert plan["model"]["parameters"] == ran["training"]["parameters"]
        for name in ("series", "rejected", "steps", "observed", "shortest", "longest"):
            assert plan["data"][name] == manifest[name]
        assert plan["devices"][0]["type"] == "CPU"
        assert plan["memory_mib"].keys() == {"weights", "activations", "series", "batches"}

    def test_it_counts_the_windows_of_loops_over_all_cutoffs(self, planned):
        plan, _ = planned
        values = make_table().groupby("unique_id")["y"]
        # Rows up to the last date of all series: one of them has no value on the last of its own.
        lengths = values.size().drop("nothing")
        cutoffs = {
            name: [cutoff for cutoff in range(SEASON, length) if cutoff + HORIZON <= length - TEST - 7]
            for name, length in lengths.items()
        }
        assert plan["windows"]["training"] == sum(map(len, cutoffs.values()))
        assert plan["windows"]["training_series"] == sum(len(steps) > 0 for steps in cutoffs.values()) == 4
        assert plan["windows"]["validation"] == 4
        assert plan["windows"]["windows_drawn"] == 20 * 16

    def test_it_refuses_the_same_configs_as_a_run(self, table):
        with pytest.raises(UserError, match="all 6 series are too short"):
            make_plan(make_config(table, **{"split.test": 700}))
