"""The command line on a store: what it does in a folder it does at a URI."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from dist_lstm.cli import main as cli
from dist_lstm.errors import UserError
from dist_lstm.jobs import preflight, session
from dist_lstm.jobs.submit import Command, _locations
from dist_lstm.storage import mirrored
from dist_lstm.storage.objects import Objects
from tests.search.test_search import make_job
from tests.storage.conftest import SECRET, make_bucket
from tests.test_run import make_config, make_table


def set_up(where: Path) -> Path:
    make_table().to_parquet(where / "table.parquet")
    config = make_config(where / "table.parquet")
    (where / "job.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)))
    return where / "job.yaml"


def run_command(*words: object, status: int = 0, **environment: str) -> str:
    """Run the command line in a process of its own; what it says."""
    process = subprocess.run(
        [sys.executable, "-m", "dist_lstm", *map(str, words)],
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == status, process.stdout + process.stderr
    return process.stdout + process.stderr


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    return set_up(tmp_path_factory.mktemp("job"))


@dataclass(frozen=True)
class Finished:
    """A run whose first command could not send its forecasts, and whose second did."""

    uri: str
    failed: tuple[int, str]
    halfway: set[str]
    said: str


@pytest.fixture(scope="module")
def run(store, job, tmp_path_factory) -> Finished:
    uri, honest = make_bucket(), Objects.send

    def send(self, files):
        if self.uri.endswith("/forecasts"):
            raise UserError(self.uri, "can't be reached")
        honest(self, files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIST_LSTM_CACHE", str(tmp_path_factory.mktemp("cache")))
        words = ["run", str(job), "--out", uri]
        with pytest.MonkeyPatch.context() as fault:
            fault.setattr(Objects, "send", send)
            first = CliRunner().invoke(cli.app, words)
        halfway = set(Objects(uri).listing())
        second = CliRunner().invoke(cli.app, words)
    assert second.exit_code == 0, second.output
    return Finished(uri, (first.exit_code, str(first.exception)), halfway, second.stdout)


def names(folder: Path) -> set[str]:
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"events\..*", "events", name) for name in paths if not name.startswith(".")}


def fetched(uri: str) -> Path:
    with mirrored(uri, own=False) as folder:
        return folder


def test_a_run_whose_upload_fails_in_the_middle_reports_it_and_can_be_continued(run):
    assert run.failed == (1, f"{run.uri}/forecasts: can't be reached")  # which `main` makes 2 of
    assert "model.keras" in run.halfway
    assert not {"_SUCCESS", "forecasts/_SUCCESS"} & run.halfway
    assert "train     already done" in run.said
    assert f"backtest of {run.uri}\n" in run.said
    assert f"forecasts     {run.uri}/forecasts\n" in run.said
    assert {"_SUCCESS", "forecasts/_SUCCESS"} <= set(Objects(run.uri).listing())


def test_the_secret_key_is_in_no_line_and_no_object_of_a_run_at_a_store(run, tmp_path):
    objects = Objects(run.uri)
    objects.fetch((name, tmp_path / name) for name in objects.raw())
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(contents) > 10
    assert not any(SECRET.encode() in content for content in contents)
    assert SECRET not in run.said + run.failed[1]


@pytest.mark.slow
def test_a_run_at_a_store_is_the_run_of_a_folder(uri, job, tmp_path):
    same = ("--set", "train.deterministic=true")
    run_command("run", job, *same, "--out", uri)
    run_command("run", job, *same, "--out", tmp_path / "local")
    local, remote = tmp_path / "local", fetched(uri)
    assert names(local) == names(remote)
    for name in ("forecasts", "backtest", "scores.parquet"):
        assert pq.read_table(local / name).equals(pq.read_table(remote / name)), name
    assert (local / "history.csv").read_bytes() == (remote / "history.csv").read_bytes()


def test_a_finished_run_is_skipped_by_another_machine_and_its_stages_answer(run, job, call):
    uri = run.uri
    before = Objects(uri).raw()
    status, said, error = call("run", job, "--out", uri)
    assert (status, error) == (0, "")
    for stage in ("train", "backtest", "forecast"):
        assert re.search(rf"^{stage} +already done$", said, re.MULTILINE)
    changed = {name for name, stamp in Objects(uri).raw().items() if before.get(name) != stamp}
    assert changed <= {"report.html"}
    assert call("backtest", uri)[0] == 0
    assert call("report", uri)[1].endswith(f"report    {uri}/report.html\n")


def test_a_run_at_a_store_forecasts_a_table_at_a_store_to_a_store_and_scores_it(run, call, tmp_path):
    uri = run.uri
    bucket = make_bucket()
    table = make_table()
    table.to_parquet(tmp_path / "new.parquet")
    Objects(bucket).send([(tmp_path / "new.parquet", "new.parquet")])
    out = f"{bucket}/forecasts"
    status, said, error = call("forecast", uri, "--data", f"{bucket}/new.parquet", "--out", out)
    assert (status, error) == (0, "")
    assert said.endswith(f"forecasts {out}\n")
    assert {name.split("-")[0] for name in Objects(out).listing()} == {"_SUCCESS", "part", "_rejected.parquet"}
    actuals = pd.read_parquet(next(fetched(out).glob("part-*.parquet")))[["unique_id", "ds"]].assign(y=1.0)
    actuals.to_parquet(tmp_path / "actuals.parquet")
    status, said, error = call("evaluate", uri, "--data", tmp_path / "actuals.parquet", "--forecasts", out)
    assert (status, error) == (0, "")
    assert said.startswith(f"{out} against ")


def test_a_shard_that_changed_at_the_store_is_refused_by_its_uri(run, call, tmp_path, other_machine):
    uri = make_bucket()
    folder = fetched(run.uri)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    changed = folder / "shards" / "part-00000.parquet"
    (tmp_path / "changed").write_bytes(changed.read_bytes()[:-1] + b"?")
    Objects(uri).send([(path, path.relative_to(folder).as_posix()) for path in files if path != changed])
    Objects(uri).send([(tmp_path / "changed", "shards/part-00000.parquet")])
    other_machine()
    status, _, error = call("forecast", uri, "--out", tmp_path / "out")
    assert status == 2
    shard = f"{uri}/shards/part-00000.parquet"
    assert error.startswith(f"error: {shard}: the shard is missing or damaged: its SHA-256")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "JOB", "--out", "URI", "--set", "model.units=[4]"), "URI: holds other work: model.units is"),
        (("forecast", "URI/none"), "URI/none: is not a run directory: it has no config.yaml; give the --out"),
        (("evaluate", "URI", "--data", "JOB", "--forecasts", "URI/none"), "URI/none: "),
        (("train", "JOB", "--out", "s3://no-bucket/x"), r"s3://no-bucket/x/.*: there is no such bucket"),
        (("run", "JOB", "--out", "s4://x/y"), "s4://x/y: can't be opened as a storage location"),
        (("tune", "JOB", "--out", "s3://no-bucket/x"), r"s3://no-bucket/x/.*: there is no such bucket"),
        (("fleet", "JOB", "--out", "s3://no-bucket/x"), r"s3://no-bucket/x/.*: there is no such bucket"),
    ],
)  # fmt: skip
def test_what_can_not_work_is_reported_in_one_line_with_status_2(run, job, call, words, says):
    def put(text: str) -> str:
        return text.replace("URI", run.uri).replace("JOB", str(job))

    status, _, error = call(*map(put, words))
    assert status == 2
    assert re.match(f"error: {put(says)}", error)
    assert len(error.splitlines()) == 1


def test_a_search_on_a_cluster_needs_a_folder_that_its_nodes_share(call, job, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    status, _, error = call("tune", job, "--out", "s3://bucket/x?region=eu-central-1")
    assert status == 2
    assert error.startswith("error: --out s3://bucket/x: a search on a cluster keeps its state in a folder")
    command = Command("tune", (), config=str(job), out="s3://bucket/x")
    with pytest.raises(UserError, match="--out s3://bucket/x: a search on a cluster keeps its state in a folder"):
        _locations(command, None, ())


def test_submit_and_the_doctor_ask_of_a_store_what_a_run_needs_of_it(uri, objects):
    assert preflight.try_storage(uri) == ""
    assert "there is no such bucket" in preflight.try_storage("s3://no-such-bucket/x")
    replies = preflight.answer({"writes": {"--out": uri}, "reads": {"RUN": uri}})
    assert replies["refused"] == {"RUN": f"{uri} does not exist"}
    replies = preflight.answer({"writes": {"--out": "s3://no-such-bucket/x"}})
    assert "there is no such bucket" in replies["refused"]["--out"]
    assert objects.raw() == {}
    objects.put(b"", "config.yaml")
    assert preflight.answer({"reads": {"RUN": uri}})["refused"] == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_at_a_store_is_continued_and_leaves_its_best_run_there(uri, tmp_path, monkeypatch):
    space = {"model.units": {"choice": [[4], [8]]}}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = make_job(tmp_path / "job", {"space": space, "num_samples": 3, "algorithm": "random"})
    words = [sys.executable, "-m", "dist_lstm", "tune", str(config), "--out", uri]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any("1/3  trial" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 143
    assert set(Objects(uri).listing()) >= {"search.yaml", "shards/manifest.json"}
    said = run_command("tune", config, "--out", uri)
    assert "; going on" in said
    assert f"trials.parquet  {uri}/trials.parquet" in said
    there = set(Objects(uri).listing())
    assert {"search.yaml", "trials.parquet", "best.yaml", "search.html", "_SUCCESS"} < there
    assert {"best/model.keras", "best/_SUCCESS", "best/forecasts/_SUCCESS"} < there
    assert not any(name.startswith("ray/") for name in Objects(uri).raw())
    elsewhere = str(tmp_path / "elsewhere")
    assert "search    already done" in run_command("tune", config, "--out", uri, DIST_LSTM_CACHE=elsewhere)
    assert "forecast  already done" in run_command("forecast", f"{uri}/best", DIST_LSTM_CACHE=elsewhere)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fleet_at_a_store_is_worked_on_by_nodes_with_mirrors_of_their_own(uri, job, call, tmp_path, monkeypatch):
    workers, small = tmp_path / "workers", {"train.max_steps": 20, "model.units": [4], "train.batch_size": 8}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session, "RAY_ENVIRONMENT", session.RAY_ENVIRONMENT | {"DIST_LSTM_CACHE": str(workers)})
    words = ("fleet", job, "--out", uri, "--set", f"fleet.settings={json.dumps(small)}")
    status, said, error = call(*words)
    assert status == 0, error
    assert f"forecasts     {uri}/forecasts" in said
    assert list(workers.iterdir())
    there = set(Objects(uri).listing())
    assert {
        "_SUCCESS",
        "model.keras",
        "models/part-00000.parquet",
        "scores/_SUCCESS",
        "forecasts/_SUCCESS",
    } < there
    table = pd.read_parquet(fetched(uri) / "forecasts")
    assert set(table["unique_id"]) == {"sine", "walk", "gaps", "constant", "short", "two"}
    monkeypatch.setenv("DIST_LSTM_CACHE", str(tmp_path / "elsewhere"))
    assert "fleet     already done" in call(*words)[1]
