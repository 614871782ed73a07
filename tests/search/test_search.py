"""Hyperparameter search: its space, samples and state, interrupted searches, and the results of a finished one."""

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dist_lstm.config.defaults import DatasetStatistics, resolve
from dist_lstm.config.load import flatten, load_config, override, parse_config
from dist_lstm.errors import UserError
from dist_lstm.run_directory import open_run
from dist_lstm.search import tune_state
from dist_lstm.search.samples import (
    all_samples,
    changes_of,
    contradictions,
    draw_samples,
    own_sample,
    trial_config,
)
from dist_lstm.search.trial import Watchdog
from dist_lstm.storage import is_marked
from tests.conftest import ROOT
from tests.fleet.fleets import TELLING

FACTS = DatasetStatistics(freq=1, steps=360, median=120)
SPACE = {
    "task.context_length": {"choice": [6, 12, 24]},
    "model.segment_length": {"choice": [3, 4]},
    "model.units": {"choice": [[4], [8], [4, 4]]},
    "model.dropout": {"uniform": [0, 0.5]},
    "model.scaling": {"choice": ["standard", "robust"]},
    "model.head": {"choice": ["quantile", "mae"]},
    "train.batch_size": {"quniform": [8, 32, 8]},
    "train.learning_rate": {"loguniform": [1e-4, 1e-1]},
    "train.warmup_steps": {"randint": [0, 5]},
}
TINY = {
    "task": {"horizon": 6, "context_length": 12, "freq": 1, "season_length": 6},
    "split": {"validation": 12, "test": 12},
    "model": {"segment_length": 3, "units": [4]},
    "train": {"max_steps": 24, "steps_per_epoch": 4, "batch_size": 16, "warmup_steps": 3, "seed": 3},
}


def make_job(folder: Path, search_settings: dict, **changes) -> Path:
    """A config file beside a tiny table."""
    rows = [
        f"{name},{step},{level + (step % 6) * 1.5 + random.Random(step * level).random()}"
        for name, level in (("a", 10), ("b", 20), ("c", 30))
        for step in range(120)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "t.csv").write_text("\n".join(["unique_id,ds,y", *rows]))
    values = TINY | {"data": {"path": str(folder / "t.csv")}, "search": search_settings}
    for key, value in changes.items():
        section, name = key.split("__")
        values[section] = values[section] | {name: value}
    (folder / "job.yaml").write_text(yaml.safe_dump(values))
    return folder / "job.yaml"


def config_of(space: dict, **settings):
    return parse_config(TINY | {"data": {"path": "t.csv"}, "search": {"space": space} | settings})


class TestSpace:
    @pytest.mark.parametrize(
        ("key", "domain", "message"),
        [
            ("model.unitss", {"choice": [[1]]}, " is not a setting; did you mean model.units?"),
            ("model", {"choice": [1]}, " is not a setting"),
            ("train.learning_rate", 3, ": expected {choice: [..]}, "),
            ("train.learning_rate", {"normal": [0, 1]}, ": expected {choice: [..]}, "),
            ("train.learning_rate", {"choice": []}, ": choice takes a list of values, got []"),
            ("train.learning_rate", {"loguniform": [0.1]}, ": loguniform takes 2 values, got [0.1]"),
            ("train.learning_rate", {"loguniform": [0, 0.1]}, ": loguniform needs numbers above 0"),
            ("train.learning_rate", {"uniform": [0.2, 0.1]}, ": uniform needs a below b"),
            ("train.learning_rate", {"uniform": [0.9, 2]}, ": uniform [0.9, 2]: 1.3"),
            ("model.dropout", {"uniform": [0, True]}, ": uniform takes numbers"),
            ("train.batch_size", {"uniform": [16, 64]}, "or a whole number of at least 1"),
            ("train.batch_size", {"quniform": [16, 60, 16]}, ": quniform needs b - a to be a multiple of q"),
            ("train.batch_size", {"randint": [0, 8]}, ": randint [0, 8]: 0: "),
            ("model.units", {"choice": [[8], 8]}, ": choice [[8], 8]: 8: "),
            ("model.scaling", {"choice": ["robust", "max"]}, ": 'max': input should be 'standard', "),
            ("task.horizon", {"choice": [6]}, ": can't be searched"),
            ("data.transform", {"choice": ["none"]}, ": can't be searched"),
        ],
    )
    def test_values_that_no_trial_could_use_are_refused_with_their_key_on_loading(self, key, domain, message):
        with pytest.raises(UserError) as error:
            config_of({key: domain})
        assert f"search.space.{key}" in str(error.value)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_space_that_is_not_a_mapping_is_refused(self):
        with pytest.raises(UserError, match=r"search\.space: expected settings, each with .*, got 3"):
            config_of(3)

    def test_a_number_of_gpus_is_an_integer_or_less_than_one(self):
        for gpus in (0, 0.25, 1, 2):
            assert config_of({}, gpus=gpus).search.gpus == gpus
        with pytest.raises(UserError, match=r"search\.gpus must be a fraction"):
            config_of({}, gpus=1.5)

    def test_pbt_accepts_only_settings_that_may_change_during_training(self):
        assert config_of({"train.learning_rate": {"loguniform": [1e-4, 1e-2]}}, algorithm="pbt")
        with pytest.raises(
            UserError, match=r"search\.space\.model\.units: pbt changes settings while a model trains"
        ):
            config_of({"model.units": {"choice": [[4]]}}, algorithm="pbt")

    def test_a_grid_accepts_only_finite_domains(self):
        with pytest.raises(UserError, match=r"search\.space\.model\.dropout: uniform is continuous"):
            config_of({"model.dropout": {"uniform": [0, 0.5]}}, algorithm="grid")

    def test_nested_sections_are_dotted_keys_and_set_overrides_the_file(self, tmp_path):
        job = make_job(tmp_path, {"space": {"train.learning_rate": {"loguniform": [1e-4, 1e-2]}}})
        nested = ["search.space.model.units={choice: [[4], [8]]}", "search.space.train.learning_rate=null"]
        assert load_config(job, nested).search.space == {"model.units": {"choice": ([4], [8])}}
        wider = load_config(job, ["search.space.train.learning_rate={uniform: [0.1, 0.2]}"])
        assert wider.search.space == {"train.learning_rate": {"uniform": (0.1, 0.2)}}

    def test_a_config_that_is_written_and_read_is_the_same(self):
        config = config_of(SPACE)
        assert parse_config(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config


class TestSamples:
    def test_every_value_that_is_drawn_is_in_the_space_and_all_choices_are_drawn(self):
        config = config_of(SPACE)
        seen: dict[str, list] = {key: [] for key in SPACE}
        for sample in draw_samples(config, 300, seed=1):
            for key, value in changes_of(sample, config.search.domains).items():
                seen[key].append(value)
        for key, domain in SPACE.items():
            [(kind, given)] = domain.items()
            if kind == "choice":
                assert {json.dumps(value) for value in seen[key]} == {json.dumps(value) for value in given}
            else:
                assert min(seen[key]) >= given[0]
                assert max(seen[key]) <= given[1]
        assert set(seen["train.batch_size"]) == {8, 16, 24, 32}
        assert set(seen["train.warmup_steps"]) == {0, 1, 2, 3, 4, 5}
        # Half of a log-uniform distribution lies below the geometric mean.
        assert 0.4 < np.mean(np.array(seen["train.learning_rate"]) < 10**-2.5) < 0.6

    def test_the_same_seed_draws_the_same(self):
        config = config_of(SPACE)
        assert draw_samples(config, 5, 1) == draw_samples(config, 5, 1) != draw_samples(config, 5, 2)

    def test_a_grid_has_every_combination_once(self):
        space = {"model.units": {"choice": [[4], [8]]}, "train.warmup_steps": {"randint": [0, 2]}}
        samples = all_samples(config_of(space, algorithm="grid"))
        assert len({json.dumps(one) for one in samples}) == len(samples) == 6

    def test_the_first_sample_is_the_config_itself(self):
        config = config_of(SPACE)
        sample, outside = own_sample(config, FACTS)
        assert outside == []
        assert trial_config(config, sample, FACTS) == resolve(config, FACTS)

    def test_own_settings_outside_of_the_space_are_named(self):
        space = {"model.dropout": {"uniform": [0.2, 0.5]}, "model.units": {"choice": [[8], [16]]}}
        sample, outside = own_sample(config_of(space), FACTS)
        assert sample == {"model.dropout": 0.2, "model.units": "[8]"}
        assert outside == ["model.dropout 0.2 for its own 0.1", "model.units [8] for its own [4]"]

    def test_settings_left_out_are_derived_from_the_values_of_the_sample(self):
        config = override(config_of({"task.context_length": {"choice": [4, 24]}}), {"model.segment_length": None})
        for label, segment in (("4", 1), ("24", 6)):
            actual = trial_config(config, {"task.context_length": label}, FACTS)
            assert (actual.task.context_length, actual.model.segment_length) == (int(label), segment)

    def test_numbers_outside_of_the_domain_are_moved_to_its_nearer_end(self):
        domains = config_of(SPACE).search.domains
        sample = {
            "model.dropout": 0.6,
            "train.batch_size": 8 * 0.8,
            "train.warmup_steps": 6,
            "train.learning_rate": 1.0,
        }
        actual = changes_of(sample, {key: domains[key] for key in sample})
        assert actual == {
            "model.dropout": 0.5, "train.batch_size": 8, "train.warmup_steps": 5, "train.learning_rate": 0.1,
        }  # fmt: skip

    def test_combinations_that_contradict_each_other_are_reported_before_the_search(self):
        space = {"task.context_length": {"choice": [6, 12]}, "model.segment_length": {"choice": [3, 4]}}
        assert "about 2" in contradictions(config_of(space), FACTS)
        assert "is not a multiple of model.segment_length 4" in contradictions(config_of(space), FACTS)
        assert contradictions(config_of({"model.units": {"choice": [[4]]}}), FACTS) == ""
        with pytest.raises(UserError, match=r"search\.space: .*contradict each other in every combination"):
            contradictions(config_of({"task.context_length": {"choice": [5, 7]}}), FACTS)


class TestWatchdog:
    def test_work_that_hangs_ends_with_the_reason(self):
        import threading

        with pytest.raises(TimeoutError, match=r"no progress for 0\.05 seconds \(search\.trial_timeout\)"):
            Watchdog(0.05).run(threading.Event().wait)

    def test_work_that_makes_progress_or_waits_for_others_is_not_ended(self):
        import threading

        watchdog, never = Watchdog(0.2), threading.Event()

        def work() -> None:
            for _ in range(20):
                never.wait(0.02)
                watchdog.beat()
            with watchdog.waiting():
                never.wait(0.5)

        watchdog.run(work)

    @pytest.mark.parametrize("error", [UserError("", "no"), SystemExit(0)])
    def test_exceptions_of_the_work_are_raised_also_its_exit(self, error):
        def work() -> None:
            raise error

        with pytest.raises(type(error)):
            Watchdog(5).run(work)


class TestState:
    def test_a_folder_of_another_user_is_not_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tune_state.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
        with pytest.raises(UserError, match="belongs to another user"):
            tune_state.reserve(tmp_path / "ray")

    def test_a_link_is_refused_and_other_users_have_no_access(self, tmp_path):
        tune_state.reserve(tmp_path / "ray")
        assert stat.S_IMODE((tmp_path / "ray").stat().st_mode) == 0o700
        (tmp_path / "link").symlink_to(tmp_path / "ray")
        with pytest.raises(UserError, match="link: "):
            tune_state.reserve(tmp_path / "link")

    @pytest.mark.parametrize("name", ["tuner.pkl", "experiment_state-1.json", "0000-x/error.pkl", "0000-x"])
    def test_any_file_of_another_user_in_the_folder_is_refused_before_it_is_read(
        self, tmp_path, monkeypatch, name
    ):
        state = tmp_path / "ray"
        (state / "0000-x").mkdir(parents=True)
        for one in ("tuner.pkl", "experiment_state-1.json", "0000-x/error.pkl"):
            (state / one).write_text("{}")
        tune_state.reserve(state)
        owner, lstat = state.stat().st_uid, Path.lstat

        def of_another(path: Path) -> os.stat_result:
            fields = list(lstat(path))
            fields[stat.ST_UID] += path == state / name
            return os.stat_result(fields)

        monkeypatch.setattr(Path, "lstat", of_another)
        message = rf"{name}: belongs to another user \({owner + 1}\); .*; delete {state}; its trials are then run"
        with pytest.raises(UserError, match=message):
            tune_state.reserve(state)

    @pytest.mark.parametrize("name", ["tuner.pkl", "0000-x/checkpoint_000000"])
    def test_a_link_in_the_folder_is_refused(self, tmp_path, name):
        elsewhere, link = tmp_path / "elsewhere", tmp_path / "ray" / name
        elsewhere.mkdir()
        link.parent.mkdir(parents=True)
        link.symlink_to(elsewhere)
        with pytest.raises(UserError, match=rf"{name}: is a link; .*; delete {tmp_path / 'ray'}"):
            tune_state.reserve(tmp_path / "ray")

    def test_damaged_state_is_refused_instead_of_starting_a_new_search(self, tmp_path):
        (tmp_path / "experiment_state-1.json").write_text("{}")
        tune_state.check_intact(tmp_path)
        (tmp_path / "experiment_state-2.json").write_text('{"a": ')
        with pytest.raises(UserError, match=r"experiment_state-2\.json: is damaged.*delete"):
            tune_state.check_intact(tmp_path)

    @pytest.mark.parametrize(
        ("existing", "listed", "expected"),
        [
            ({1: "b", 2: "c"}, 1, {1: "b"}),  # those after the last listed one may be incomplete
            ({3: "d", 4: "e"}, 1, {1: "d"}),  # the listed one is missing: the next one was complete by then
            ({0: "a"}, None, {}),
            ({}, 2, {}),
        ],
    )
    def test_a_trial_continues_from_an_existing_complete_checkpoint(self, tmp_path, existing, listed, expected):
        """Tune deletes a checkpoint before its state lists the next one."""
        from ray.train._internal.session import _TrainingResult
        from ray.tune import Checkpoint, PlacementGroupFactory
        from ray.tune.experiment import Trial

        folder = tmp_path / "0000-trial"
        trial = Trial("trained", stub=True)
        trial.placement_group_factory = PlacementGroupFactory([{"CPU": 1.0}])
        if listed is not None:
            checkpoint = Checkpoint.from_directory(str(folder / f"checkpoint_{listed:06d}"))
            trial.run_metadata.checkpoint_manager.register_checkpoint(_TrainingResult(checkpoint, {}))
        (tmp_path / "experiment_state-1.json").write_text("{}")
        (tmp_path / "experiment_state-2.json").write_text(json.dumps({"trial_data": [trial.get_json_state()]}))
        for number, content in existing.items():
            path = folder / f"checkpoint_{number:06d}" / "scores.json"
            path.parent.mkdir(parents=True)
            path.write_text(content)
        tune_state.restore_checkpoints(tmp_path)
        actual = {int(path.parent.name[-6:]): path.read_text() for path in folder.glob("*/scores.json")}
        assert actual == expected


def test_a_search_without_a_space_is_refused(call, tmp_path):
    job = make_job(tmp_path, {})
    status, _, err = call("tune", job, "--out", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: search.space: is empty; name settings")


def test_a_folder_with_other_files_is_refused(call, tmp_path):
    job = make_job(tmp_path, {"space": {"model.units": {"choice": [[4]]}}})
    status, _, err = call("tune", job, "--out", tmp_path)
    assert status == 2
    assert "holds no search (it holds job.yaml)" in err


def command(job: Path, out: Path, *settings: str) -> list[str]:
    changes = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "dist_lstm", "tune", str(job), "--out", str(out), *changes]


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, env=ALONE, check=False)


ALONE = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
WORK = {
    "num_samples": 6,
    "grace_epochs": 1,
    "final": "take",
    "space": {
        "task.context_length": {"choice": [6, 12]},
        "model.segment_length": {"choice": [3, 4]},
        "model.units": {"choice": [[4], [4, 4]]},
        "train.learning_rate": {"loguniform": [1e-3, 1e-1]},
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished search, and what was printed."""
    folder = tmp_path_factory.mktemp("search")
    job = make_job(folder, WORK)
    words = command(job, folder / "out")[3:]
    done = subprocess.run(
        [sys.executable, "-c", TELLING, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ALONE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return job, folder / "out", done


@pytest.mark.slow
class TestFinished:
    def test_the_directory_holds_exactly_the_documented_files(self, finished):
        _, out, _ = finished
        assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
            "_SUCCESS", "best", "best.yaml", "ray", "search.html", "search.yaml", "shards", "trials.parquet",
        ]  # fmt: skip
        assert stat.S_IMODE((out / "ray").stat().st_mode) == 0o700

    def test_the_driver_never_imports_tensorflow_and_ray_prints_nothing(self, finished):
        *lines, last = finished[2].stdout.splitlines()
        assert last == "IMPORTED []"
        assert finished[2].stderr == ""
        shown_lines = [line for line in lines if " trial " in line and ("score" in line or "failed" in line)]
        assert sum(line.lstrip()[0].isdigit() for line in shown_lines) == 6
        assert not [line for line in lines if "ray::" in line or "Tune" in line]

    def test_every_trial_is_one_row_and_only_contradictions_fail_with_the_reason(self, finished):
        table = pd.read_parquet(finished[1] / "trials.parquet")
        assert sorted(table["trial"]) == list(range(6))
        failed = table[table["status"] == "failed"]
        for _, row in table.iterrows():
            contradicts = row["task.context_length"] % row["model.segment_length"] != 0
            assert (row["status"] == "failed") == contradicts
            assert ("not a multiple" in row["reason"]) == contradicts
            assert np.isnan(row["score"]) == contradicts
        scored = table.drop(failed.index)
        assert (scored["epochs"] == scored["curve_score"].map(len)).all()
        first = table[table["trial"] == 0].iloc[0]
        assert (first["task.context_length"], first["model.units"]) == (12, "[4]")

    def test_the_best_config_is_that_of_the_best_row_and_the_best_run_is_an_ordinary_one(self, finished):
        _, out, _ = finished
        best = pd.read_parquet(out / "trials.parquet").sort_values("score").iloc[0]
        settings = dict(flatten(load_config(out / "best.yaml")))
        assert settings["task.context_length"] == best["task.context_length"]
        assert list(settings["model.units"]) == json.loads(best["model.units"])
        assert settings["train.learning_rate"] == best["train.learning_rate"]
        from rich.console import Console

        with open_run(out / "best", Console(quiet=True)) as opened:
            assert is_marked(opened.folder)
            assert opened.config.model.units == settings["model.units"]
            assert opened.metrics["backtest"]["windows"] > 0
        history = pd.read_csv(out / "best" / "history.csv")
        assert list(history[history["phase"] == "train"]["epoch"]) == [1, 2, 3, 4, 5, 6]

    def test_the_page_is_self_contained(self, finished):
        page = (finished[1] / "search.html").read_text()
        assert "<script" not in page
        assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "").replace(
            "http://www.w3.org", ""
        )
        assert 'id="parallel"' in page
        assert 'href="best/report.html"' in page

    def test_the_same_command_does_nothing_and_another_search_is_refused(self, finished):
        job, out, _ = finished
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"}
        again = run(job, out)
        assert again.returncode == 0, again.stderr
        assert "search    already done" in again.stdout
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != ".lock"} == before
        other = run(job, out, "search.num_samples=7", "search.space.train.learning_rate={uniform: [0.1, 0.2]}")
        assert other.returncode == 2
        assert other.stderr.count("\n") == 1
        assert "search.num_samples is 6, not 7" in other.stderr
        assert (
            "search.space.train.learning_rate is loguniform [0.001, 0.1], not uniform [0.1, 0.2]" in other.stderr
        )


PBT = {
    "algorithm": "pbt",
    "num_samples": 4,
    "grace_epochs": 1,
    "final": "none",
    "space": {"train.learning_rate": {"loguniform": [1e-4, 1e-1]}, "train.batch_size": {"choice": [8, 16]}},
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_population_based_training_continues_from_better_trials_with_other_settings(tmp_path):
    out = tmp_path / "out"
    done = run(make_job(tmp_path, PBT), out)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(out / "trials.parquet")
    assert list(table["status"]) == ["done"] * 4
    assert list(table["epochs"]) == [6] * 4
    # A trial that took over the weights of another has its curve as well.
    curves = [tuple(curve[:3]) for curve in table["curve_score"]]
    assert len(set(curves)) < 4
    assert table["train.learning_rate"].between(1e-4, 1e-1).all()
    assert not (out / "best").exists()
    assert load_config(out / "best.yaml").train.batch_size in (8, 16)


LONG = {
    "num_samples": 2,
    "early_stopping": False,
    "max_concurrent": 1,
    "final": "none",
    "space": {"train.learning_rate": {"loguniform": [1e-3, 1e-1]}},
}


@contextmanager
def started(folder: Path, until: str) -> Iterator[tuple[subprocess.Popen, list, Path]]:
    """A running search that has written a file of this pattern, its arguments, and the file of its output."""
    job, out, log = (
        make_job(folder, LONG, train__max_steps=120, train__patience=100),
        folder / "out",
        folder / "log",
    )
    with log.open("w") as output:
        process = subprocess.Popen(command(job, out), stdout=output, stderr=output, cwd=ROOT, env=ALONE)
    try:
        while not any(out.glob(until)):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield process, [job, out], log
    finally:
        process.kill()
        process.wait()


def complete(out: Path) -> pd.DataFrame:
    """The trials of a finished search, after a check that each has all its epochs, and none twice."""
    assert is_marked(out)
    table = pd.read_parquet(out / "trials.parquet")
    assert list(table["trial"]) == [0, 1]
    assert list(table["status"]) == ["done"] * 2
    for steps in table["curve_step"]:
        assert list(steps) == list(range(4, 121, 4))
    return table


@pytest.mark.fault
def test_a_search_that_is_killed_continues_with_the_same_command(tmp_path):
    with started(tmp_path, "ray/0001-*/checkpoint_*[2-9]") as (process, arguments, log):
        process.send_signal(signal.SIGKILL)
        process.wait()
    # As if it was killed after Tune deleted a checkpoint and before its state listed the next one.
    shutil.rmtree(min((tmp_path / "out" / "ray").glob("0001-*/checkpoint_*")))
    messages = [line for line in log.read_text().splitlines() if "trial" in line and "score" in line]
    assert ["trial 0" in line for line in messages] == [True]
    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    assert "; going on" in again.stdout
    assert "1/2  trial" not in again.stdout, "a finished trial is not repeated"
    first = complete(tmp_path / "out").iloc[0]
    assert f"score {first['score']:.4f} (best so far), 30 epochs" in messages[0]


@pytest.mark.fault
def test_a_trial_whose_process_is_killed_continues_from_its_last_epoch(tmp_path):
    with started(tmp_path, "ray/0000-*/checkpoint_*[2-9]") as (process, (_, out), log):
        [worker] = trials_of(process.pid)
        os.kill(worker, signal.SIGKILL)
        assert process.wait() == 0, log.read_text()
    complete(out)
    # Tune keeps the error of a trial that it restarted.
    assert [path.parent.name[:4] for path in out.glob("ray/*/error.txt")] == ["0000"]


@pytest.mark.fault
def test_a_search_that_is_interrupted_prints_how_to_continue(tmp_path):
    with started(tmp_path, "ray/experiment_state-*.json") as (process, (job, out), log):
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    *_, last = log.read_text().splitlines()
    assert last == f"interrupted; continue with: dist-lstm tune {job} --out {out}"
    assert "Traceback" not in log.read_text()


def trials_of(driver: int) -> list[int]:
    """Processes of the trials of a search."""
    pids, parents = [], {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::ImplicitFunc"):
                pids.append(int(folder.name))
        except OSError:  # the process has just ended
            continue

    def belongs(process: int) -> bool:
        return process == driver or (process in parents and belongs(parents[process]))

    return [process for process in pids if belongs(process)]
