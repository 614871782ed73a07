"""Secrets: refused in URIs at every door, and in no file, message or command line, whatever is done with them."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console

from dist_lstm.config.load import load_config, override, parse_config
from dist_lstm.credentials import refuse_keys, without_keys
from dist_lstm.errors import UserError
from dist_lstm.forecaster import Forecaster
from dist_lstm.jobs.submit import Command, _locations, submit
from dist_lstm.storage import exists, listing, mirrored, try_to_write
from dist_lstm.storage.objects import Objects
from tests.test_bad_input import TABLE, line_of

SECRET = "Pl4nted"
WITH_SECRET = [
    f"s3://key:{SECRET}@bucket/x",
    f"s3://key:{SECRET}%2F@bucket/x?region=z",
    f"s3://key:a/{SECRET}+/b@bucket/x",  # a key of Amazon's that is not escaped
    f"s3://key%3A{SECRET}@bucket/x",
    f"s3://bucket/x?region=z&secret_key={SECRET}",
    f"s3://bucket/x?endpoint_override=key:{SECRET}@host:9000",
    f"gs://user:{SECRET}@bucket/x",
    f"gs://bucket/x?access_token={SECRET}",
    f"abfss://account:{SECRET}@container/x",
    f"abfss://c@account.dfs.core.windows.net/x?client_secret={SECRET}",
    f"abfss://c@account.dfs.core.windows.net/x?sv=2024&sig={SECRET}",
    f"hdfs://user:{SECRET}@host:8020/x",
    f"https://user:{SECRET}@host/x.csv",
    f"https://bucket.s3.amazonaws.com/x.csv?X-Amz-Signature={SECRET}",
    f"ftp://user:{SECRET}@host/x.csv",
    f"file://user:{SECRET}@host/x.csv",
]
WITHOUT = [
    "s3://bucket/x",
    "s3://bucket/x?region=eu-central-1&scheme=http&endpoint_override=127.0.0.1:9000",
    "s3://bucket/user:name@home",
    "gs://anonymous@bucket/x",
    "hdfs://user@host:8020/x",
    "hdfs://host:8020/x@2",
    "abfss://container@account.dfs.core.windows.net/x?credential_kind=environment",
    "file:///home/me@work/a:b.csv",
    "/home/me:a@work/x.csv",
    '{"address":"s3://bucket","mail":"me@host"}',
]
CONFIG = "task: {horizon: 2}\ndata: {path: FILE}\n"


@pytest.mark.parametrize("uri", WITH_SECRET)
def test_a_uri_with_a_secret_is_refused_and_not_shown(uri):
    with pytest.raises(UserError, match=r"^data\.path: holds a URI with a password or a secret key") as caught:
        refuse_keys("data.path", uri)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("uri", WITHOUT)
def test_a_uri_without_a_secret_is_not_refused(uri):
    refuse_keys("data.path", uri)


def test_what_may_hold_a_key_is_not_shown():
    assert without_keys("s3://key:secret%2F@bucket/runs/x/?region=z&secret=1") == "s3://bucket/runs/x/"
    assert without_keys("s3://key:a/secret/b@bucket/runs/x") == "s3://bucket/runs/x"
    assert without_keys("s3://key@bucket/runs/x") == "s3://bucket/runs/x"


@pytest.mark.parametrize("uri", ["s4://TOKEN@host/x?z=TOKEN", "https://TOKEN@host/x", "s3://TOKEN@bucket/a b"])
def test_the_reason_why_a_location_can_not_be_opened_does_not_show_what_may_be_a_key(uri):
    with pytest.raises(UserError, match="can't be opened as a storage location: ") as caught:
        Objects(uri)
    assert "TOKEN" not in str(caught.value)


def opened(uri: str) -> None:
    with mirrored(uri):
        pass


DOORS = {
    "config": lambda uri: parse_config({"task": {"horizon": 2}, "data": {"path": uri}}),
    "wrong type": lambda uri: parse_config({"task": {"horizon": 2}, "data": {"path": [uri]}}),
    "unknown setting": lambda uri: parse_config({"task": {"horizon": 2}, "data": {"pth": uri}}),
    "override": lambda uri: override(
        parse_config({"task": {"horizon": 2}, "data": {"path": "x"}}), {"data.path": uri}
    ),
    "init_from": lambda uri: parse_config(
        {"task": {"horizon": 2}, "data": {"path": "x"}, "fleet": {"init_from": uri}}
    ),
    "mirrored": opened,
    "objects": Objects,
    "exists": exists,
    "listing": listing,
    "try_to_write": try_to_write,
    "load": Forecaster.load,
    "save": lambda uri: Forecaster(Path("run")).save(uri),
    "submit --out": lambda uri: _locations(Command("train", (), out=uri), None, ()),
    "submit RUN": lambda uri: _locations(Command("forecast", (), reads={"RUN": uri}), None, ()),
    "submit --data": lambda uri: _locations(Command("forecast", (), tables={"--data": uri}), None, ()),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("uri", WITH_SECRET)
def test_every_function_that_takes_a_location_refuses_a_secret_in_it(door, uri):
    with pytest.raises(UserError, match="holds a URI with a password or a secret key") as caught:
        DOORS[door](uri)
    assert SECRET not in str(caught.value)


def files_with_secret(folder: Path) -> list[str]:
    """Files below a folder whose name or content has the secret."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in paths if SECRET in str(path) or SECRET.encode() in path.read_bytes()]


TEXTS = {
    "table": "task: {horizon: 2}\ndata: {path: 'URI'}\n",
    "comment": "task: {horizon: 2}\ndata: {path: t.csv}\n# before: URI\n",
    "not YAML": "task: {horizon: 2\ndata: {path: 'URI'}\n",
    "not a setting": "task: {horizon: 2}\ndata: {path: t.csv}\ntable: 'URI'\n",
    "variables": "task: {horizon: 2}\ndata: {path: 's3://$KEY:$PLANTED@bucket/x'}\n",
    "a variable": "task: {horizon: 2}\ndata: {path: $LOCATION}\n",
    "a variable in the tail": "task: {horizon: 2}\ndata: {path: 's3://key:$PLANTED/x'}\n",
}


@pytest.mark.parametrize("verb", ["plan", "run", "prepare", "train", "tune", "fleet"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_config_is_in_no_message_and_no_file(call, tmp_path, monkeypatch, verb, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTED", f"{SECRET}@bucket" if "tail" in text else SECRET)
    monkeypatch.setenv("KEY", "key")
    monkeypatch.setenv("LOCATION", WITH_SECRET[0])
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "job.yaml").write_text(TEXTS[text].replace("URI", WITH_SECRET[0]))
    line = line_of(call(verb, "job.yaml"))
    assert "holds a URI with a password or a secret key" in line
    assert SECRET not in line
    (tmp_path / "job.yaml").unlink()
    assert files_with_secret(tmp_path) == []


@pytest.mark.parametrize("text", TEXTS)
def test_a_config_that_holds_a_secret_is_not_shipped_to_a_cluster(tmp_path, monkeypatch, text):
    monkeypatch.setenv("PLANTED", f"{SECRET}@bucket" if "tail" in text else SECRET)
    monkeypatch.setenv("KEY", "key")
    monkeypatch.setenv("LOCATION", WITH_SECRET[0])
    (tmp_path / "job.yaml").write_text(TEXTS[text].replace("URI", WITH_SECRET[0]))
    command, dashboard = Command("train", (), config=str(tmp_path / "job.yaml"), out="s3://bucket/out"), Mock()
    with pytest.raises(UserError, match="holds a URI with a password or a secret key"):
        submit(dashboard, command, "name", (), Console())
    dashboard.submit.assert_not_called()


COMMANDS = [
    ["plan", "job.yaml", "--set", "data.path=URI"],
    ["run", "job.yaml", "--out", "URI"],
    ["run", "job.yaml", "--out=URI"],
    ["train", "job.yaml", "--set", "fleet.init_from=URI"],
    ["tune", "job.yaml", "--out", "URI"],
    ["fleet", "job.yaml", "--out", "URI"],
    ["init", "URI"],
    ["forecast", "URI"],
    ["forecast", "out", "--data", "URI"],
    ["forecast", "out", "--out", "URI"],
    ["evaluate", "out", "--data", "URI"],
    ["evaluate", "out", "--data", "t.csv", "--forecasts", "URI"],
    ["backtest", "URI"],
    ["report", "URI"],
    ["export", "URI", "--model", "a", "--out", "a.keras"],
    ["doctor", "--address", "URI"],
    ["doctor", "--storage", "URI"],
    ["jobs", "list", "--address", "URI"],
    ["submit", "train", "job.yaml", "--out", "URI"],
    ["submit", "--address", "URI", "train", "job.yaml"],
    ["nonsense", "URI"],
    ["run", "job.yaml", "--nonsense=URI"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("uri", [WITH_SECRET[0], WITH_SECRET[2], WITH_SECRET[4]])
def test_a_secret_on_the_command_line_is_in_no_message_and_no_file(call, tmp_path, monkeypatch, words, uri):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "job.yaml").write_text(CONFIG.replace("FILE", "t.csv"))
    line = line_of(call(*(word.replace("URI", uri) for word in words)))
    assert "the command line: holds a URI with a password or a secret key" in line
    assert SECRET not in line
    assert files_with_secret(tmp_path) == []


def test_a_config_that_holds_a_secret_is_named_with_its_line(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(CONFIG.replace("FILE", WITH_SECRET[0]))
    with pytest.raises(UserError, match=r"job\.yaml, line 2: holds a URI .*AWS_ACCESS_KEY_ID"):
        load_config(path)
