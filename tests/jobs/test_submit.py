"""Checks and choices before anything is sent to a cluster."""

import json
import shlex
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

import dist_lstm
from dist_lstm.config.load import override, parse_config
from dist_lstm.doctor.cluster import check_nccl, check_node, check_reach, check_storage
from dist_lstm.errors import UserError
from dist_lstm.hardware import GIB
from dist_lstm.jobs import client as client_module
from dist_lstm.jobs import follow, preflight, submit
from dist_lstm.jobs.client import Token, check_address, find_token
from dist_lstm.jobs.submit import Command, Nodes, choose_resources, compare_versions, make_runtime_env

SECRET = "0123456789abcdef" * 4
TOKEN = Token(SECRET, "a test")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory and an environment without a token."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write_token(path, mode=0o600, text=SECRET + "\n"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_a_token_is_found_where_ray_looks_for_it_in_that_order(home, monkeypatch):
    with pytest.raises(UserError, match=r"auth_token: no token can be read: No such file"):
        find_token()
    write_token(home / ".ray" / "auth_token")
    assert find_token().value == SECRET
    write_token(home / "mine", text="mine")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "mine"))
    assert find_token().value == "mine"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "word")
    assert find_token() == Token("word", "RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert find_token() is None
    monkeypatch.setenv("RAY_AUTH_MODE", "off")
    with pytest.raises(UserError, match="expected token or disabled, got off"):
        find_token()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_token_that_others_can_read_or_write_is_refused(home, mode):
    write_token(home / ".ray" / "auth_token", mode)
    with pytest.raises(UserError, match="others can read this token; `chmod 600"):
        find_token()


@pytest.mark.parametrize("text", ["", " \n", "two words", "line\nline", "tök"])
def test_text_that_is_not_a_token_is_refused_and_not_repeated(home, text):
    write_token(home / ".ray" / "auth_token", text=text)
    with pytest.raises(UserError, match="holds no token") as refused:
        find_token()
    assert not text.strip() or text not in str(refused.value)


def test_a_token_is_not_in_its_records_text():
    assert SECRET not in f"{TOKEN} {TOKEN!r}"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://127.0.0.1:8265/", "http://127.0.0.1:8265"),
        ("localhost:8265", "http://localhost:8265"),
        ("http://[::1]:8265", "http://[::1]:8265"),
        ("https://ray.example", "https://ray.example"),
    ],
)
@pytest.mark.parametrize("token", [TOKEN, None])
def test_a_token_may_be_sent_to_loopback_and_over_https(address, url, token):
    assert check_address(address, token, insecure=False) == url


@pytest.mark.parametrize(
    "address", ["http://192.0.2.1:8265", "192.0.2.1:8265", "http://127.0.0.1.example", "http://ray"]
)
def test_plain_http_to_another_machine_needs_a_token_and_the_insecure_option(address):
    with pytest.raises(UserError, match=r"shows the token to the network.*--insecure"):
        check_address(address, TOKEN, insecure=False)
    assert check_address(address, TOKEN, insecure=True).startswith("http://")
    for insecure in (False, True):
        with pytest.raises(UserError, match="it must ask for a token"):
            check_address(address, None, insecure)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "auto://x", "http://", "http://[::1", "http://a:b"])
def test_an_address_that_is_not_a_dashboards_url_is_refused(address):
    with pytest.raises(UserError, match="--address"):
        check_address(address, TOKEN, insecure=True)


def test_a_password_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(UserError, match="a password in the URL") as refused:
        check_address(f"https://me:{SECRET}@ray.example", TOKEN, insecure=True)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "location",
    [
        "data.csv",
        "/elsewhere/data.csv",
        "/shared/x/../../elsewhere",
        "/sharedtoo/x",
        "file:///elsewhere/x",
        "shared/x",
    ],
)
def test_a_path_of_this_machine_is_refused_with_what_to_do(location):
    with pytest.raises(UserError, match=r"--out: .*does not see this machine's disk; give a URI.*--shared DIR"):
        submit._check_location("--out", location, ("/shared",))


@pytest.mark.parametrize(
    "location", ["s3://bucket/x", "gs://b/x", "/shared/x/y.csv", "/shared", "file:///shared/x"]
)
def test_a_uri_and_a_path_in_a_shared_folder_are_accepted(location):
    submit._check_location("--out", location, ("/data", "/shared"))


def config(**resources):
    return parse_config({"task": {"horizon": 1}, "data": {"path": "s3://b/x.csv"}, "resources": resources})


TWO = Nodes(({"CPU": 8, "GPU": 4}, {"CPU": 16}), grows=False)
EMPTY = Nodes(({},), grows=True)
GPUS, CPUS = "entrypoint_num_gpus", "entrypoint_num_cpus"


@pytest.mark.parametrize(
    ("verb", "job", "nodes", "expected"),
    [
        ("run", config(), TWO, {GPUS: 4}),
        ("run", config(gpus=2), TWO, {GPUS: 2}),
        ("run", config(gpus=0), TWO, {CPUS: 16}),
        ("run", config(gpus=0, threads=3), TWO, {CPUS: 3}),
        ("forecast", None, TWO, {GPUS: 4}),
        ("report", None, TWO, {CPUS: 1}),
        ("prepare", config(), TWO, {CPUS: 1}),
        ("tune", config(gpus=2), TWO, {}),
        ("fleet", config(), TWO, {}),
        ("train", config(nodes=2), TWO, {}),
        ("prepare", config(nodes=2), TWO, {CPUS: 1}),
        ("run", config(gpus=4), EMPTY, {GPUS: 4}),
        ("run", config(), EMPTY, {CPUS: 1}),
    ],
)
def test_a_job_requests_a_whole_node_or_nothing_where_it_distributes_work(verb, job, nodes, expected):
    assert choose_resources(verb, job, nodes, Console(quiet=True)) == expected


@pytest.mark.parametrize("verb", ["run", "tune"])
def test_more_gpus_than_any_node_has_are_refused_without_an_autoscaler(verb):
    with pytest.raises(UserError, match=r"resources.gpus: 5: no node of the cluster has more than 4 GPUs"):
        choose_resources(verb, config(gpus=5), TWO, Console(quiet=True))
    with pytest.raises(UserError, match=r"resources.threads: 17: no node .* more than 16 CPUs"):
        choose_resources("run", config(gpus=0, threads=17), TWO, Console(quiet=True))


@pytest.mark.parametrize(("verb", "section"), [("tune", "search"), ("fleet", "fleet")])
def test_trials_that_need_more_than_any_node_has_are_refused_without_an_autoscaler(verb, section):
    for setting, asked, problem in (("cpus", 17, "more than 16 CPUs"), ("gpus", 1, "more than 0 GPUs")):
        job = override(config(gpus=0), {f"{section}.{setting}": asked})
        nodes = Nodes(({"CPU": 16.0}, {"CPU": 16.0}), grows=False)
        with pytest.raises(
            UserError, match=rf"{section}\.{setting}: {asked}: no node of the cluster has {problem}"
        ):
            choose_resources(verb, job, nodes, Console(quiet=True))
        assert choose_resources(verb, job, Nodes(nodes.resources, grows=True), Console(quiet=True)) == {}


@pytest.mark.parametrize("nodes", [TWO, EMPTY])
def test_a_training_on_more_nodes_than_are_up_is_refused(nodes):
    with pytest.raises(UserError, match=r"resources.nodes: 3 nodes asked for, \d of the cluster's \d have 1 CPU"):
        choose_resources("run", config(nodes=3), nodes, Console(quiet=True))


def test_a_job_on_a_cpu_is_warned_of_where_an_autoscaler_may_start_gpus(capsys):
    choose_resources("run", config(), EMPTY, Console())
    assert "--set resources.gpus=N" in " ".join(capsys.readouterr().out.split())


def nodes_of(kinds, state="ALIVE"):
    answers = {
        "/api/v0/nodes?detail=1&limit=10000": {
            "result": {"result": [{"state": state, "resources_total": {"CPU": 2}}]}
        },
        "/api/cluster_status": {"clusterStatus": kinds and {"autoscalerReport": {"nodeTypeMapping": kinds}}},
    }
    return submit.read_cluster(SimpleNamespace(state=answers.__getitem__))


def test_dead_nodes_are_not_counted_and_only_a_cluster_with_an_autoscaler_grows():
    assert nodes_of({"ab12": "node_ab12"}) == Nodes(({"CPU": 2},), grows=False)
    assert nodes_of({"192.0.2.1": "head"}).grows
    assert nodes_of(None).grows, "an unknown cluster may grow"
    assert nodes_of({"ab12": "node_ab12"}, state="DEAD").resources == ()


def test_versions_that_differ_are_reported_with_what_may_break():
    here = {"Python": "3.11.7", "ray": "2.60.0", "tensorflow": "2.21.0", "keras": "3.15.1"}
    assert compare_versions(here, here | {"Python": "3.11.2", "ray": "2.60.9"}) == []
    lines = compare_versions(here, here | {"Python": "3.12.7", "tensorflow": "2.22.0"})
    assert [line.split(":")[0] for line in lines] == [
        "Python is 3.12.7 on the cluster, 3.11.7 here",
        "tensorflow is 2.22.0 on the cluster, 2.21.0 here",
    ]
    assert compare_versions(here, {})[1].startswith("ray is none on the cluster")


def test_the_installed_package_and_the_config_are_shipped_and_nothing_else(tmp_path):
    (tmp_path / "job.yaml").write_text("task: {}\n")
    (tmp_path / "table.csv").write_text("x" * 10_000)
    from ray._private.runtime_env.packaging import create_package

    with make_runtime_env(str(tmp_path / "job.yaml")) as (runtime_env, description):
        [package] = runtime_env["py_modules"]
        create_package(package, tmp_path / "package.zip", include_gitignore=True, include_parent_dir=True)
        inside = set(zipfile.ZipFile(tmp_path / "package.zip").namelist())
        assert [path.name for path in Path(runtime_env["working_dir"]).iterdir()] == ["job.yaml"]
    installed = Path(dist_lstm.__path__[0])
    expected = {str(path.relative_to(installed.parent)) for path in installed.rglob("*") if path.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    assert {name for name in inside if not name.endswith("/")} == expected
    assert description.startswith(f"dist_lstm {dist_lstm.__version__} and job.yaml: {len(expected) + 1} files, ")
    assert runtime_env["env_vars"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert runtime_env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "60", (
        "Ray's 3 seconds are too few for a checkpoint"
    )
    assert not Path(package).exists()


def test_the_submitted_command_has_the_config_by_its_name_and_the_table_by_its_path(monkeypatch, tmp_path):
    monkeypatch.setenv("TABLES", "/shared/a b")
    path = tmp_path / "job.yaml"
    path.write_text("task: {horizon: 1}\ndata: {path: $TABLES/x.csv}\n")
    command = Command("run", ("--out", "/shared/o", str(path)), config=str(path), out="/shared/o")
    job = submit.load_config(path)
    words = submit._words(command, job)
    assert words[:4] == ["run", "--out", "/shared/o", "job.yaml"]
    assert words[4] == "--set"
    key, _, value = words[5].partition("=")
    assert (key, json.loads(value)) == ("data.path", "/shared/a b/x.csv")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["doctor"], "doctor can't be run on a cluster; expected one of run, prepare"),
        (["submit", "run", "x.yaml"], "submit can't be run on a cluster"),
        (["run"], "run: CONFIG is missing"),
        (["run", "a.yaml", "b.yaml"], "run: unexpected b.yaml"),
        (["run", "a.yaml", "--ot", "x"], "No such option: --ot"),
        (["run", "no-such.yaml", "--out", "s3://b/x"], "no-such.yaml: the config can't be read"),
    ],
)
def test_a_mistake_in_the_command_is_reported_before_anything_is_sent(call, monkeypatch, words, message):
    monkeypatch.setattr(client_module, "connect", lambda *_: None)
    status, out, err = call("submit", "--", *words)
    assert (status, out) == (2, "")
    assert message in err


def test_inputs_and_outputs_of_a_command_are_taken_from_its_options(call, monkeypatch):
    commands = []
    monkeypatch.setattr(client_module, "connect", lambda *_: None)
    monkeypatch.setattr(
        submit, "submit", lambda _, command, *rest: commands.append(command) or follow.Job("n", "n-1", "", "")
    )
    words = ("/s/run", "--data", "s3://b/t.csv", "--out", "s3://b/x")
    assert call("submit", "--no-follow", "forecast", *words)[0] == 0
    assert call("submit", "--no-follow", "--", "run", "a.yaml", "--set", "a=1", "--set", "b=2", "-q")[0] == 0
    assert commands == [
        Command("forecast", words, tables={"--data": "s3://b/t.csv"}, reads={"RUN": "/s/run"}, out="s3://b/x"),
        Command("run", ("a.yaml", "--set", "a=1", "--set", "b=2", "-q"), config="a.yaml", settings=("a=1", "b=2")),
    ]


@pytest.mark.parametrize("name", ["../x", "a/b", " ", "a b", "x" * 61, "-x", ".x", "ü"])
def test_a_name_that_can_not_be_a_file_name_is_refused(name):
    command = Command("report", ("s3://b/r",), reads={"RUN": "s3://b/r"})
    with pytest.raises(UserError, match="--name"):
        submit.submit(None, command, name, (), None)


def test_paths_and_uris_are_checked_on_the_cluster(tmp_path):
    (tmp_path / "t.csv").write_text("a\n")
    (tmp_path / "locked").mkdir()
    refused = preflight.answer(
        {
            "tables": {"data.path": str(tmp_path / "t.csv"), "--data": str(tmp_path / "none.csv")},
            "reads": {"RUN": str(tmp_path), "--from": str(tmp_path / "none")},
            "writes": {
                "--out": str(tmp_path / "a" / "b"),
                "--other": str(tmp_path / "t.csv" / "x"),
                "--uri": "zz://x",
            },
        }
    )["refused"]
    assert set(refused) == {"--data", "--from", "--other", "--uri"}
    assert refused["--data"].endswith("none.csv does not exist")
    assert "t.csv can't be written" in refused["--other"]
    assert preflight.try_storage(str(tmp_path / "new")) == ""
    assert list((tmp_path / "new").iterdir()) == []
    assert preflight.try_storage(str(tmp_path / "t.csv" / "x"))


def test_a_survey_prints_its_answer_on_one_line(capsys):
    assert preflight.versions()["ray"]
    assert "\n" not in json.dumps(preflight.answer({}))


def test_output_of_a_job_can_not_control_the_terminal():
    assert follow.clean("a\x1b]0;title\x07b\r\n\tü\x9b1m") == "a]0;titleb\n\n\tü1m"


def test_the_reason_of_a_failure_is_its_first_line_without_the_log():
    message = "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000 chars):\nx"
    assert follow.first_line(message) == "Job entrypoint command failed with exit code 2"


def test_a_jobs_name_number_and_verb_are_read_from_its_details():
    entrypoint = shlex.join([*submit._COMMAND, "train", "a b.yaml"])
    details = {
        "metadata": {"job_name": "a-7"}, "submission_id": "a-7-12", "status": "RUNNING",
        "entrypoint": entrypoint, "start_time": 1000, "end_time": None, "message": None,
    }  # fmt: skip
    job = follow._job(details)
    assert (job.name, job.number, job.verb, job.begin, job.ended) == ("a-7", 12, "train", 1.0, False)


NODE = {
    "name": "192.0.2.7", "head": True, "resources": {"CPU": 8.0, "GPU": 4.0, "memory": 16.0 * GIB},
    "versions": {"Python": "3.11.7", "ray": "2.60.0"}, "storage": "",
    "nccl": {"gpus": 4, "nccl": "2.26", "error": ""},
}  # fmt: skip


def test_a_node_without_problems_is_shown_with_its_resources_and_versions():
    node, storage, nccl = check_node(NODE, NODE["versions"])
    assert (node.name, node.state) == ("node 192.0.2.7 (head)", "ok")
    assert node.value == "8 CPUs, 4 GPUs, 16.0 GiB; Python 3.11.7, ray 2.60.0"
    assert (storage.state, nccl.state) == ("ok", "ok")
    assert nccl.value == "TensorFlow sums over 4 GPUs through NCCL 2.26"
    assert [check.name for check in check_node(NODE | {"storage": None, "nccl": None}, {})] == [node.name]


@pytest.mark.parametrize(
    ("check", "state", "says"),
    [
        (next(check_node(NODE, {"Python": "3.12.1", "ray": "2.60.0"})), "warning", "install the same versions"),
        (next(check_node(NODE | {"versions": {"error": "busy"}}, {})), "problem", "busy"),
        (check_reach("http://h", "token"), "ok", "accepts the token"),
        (check_reach("http://h", "disabled"), "warning", "RAY_AUTH_MODE=token"),
        (check_storage("s", ""), "ok", "can be written"),
        (check_storage("s", "no such folder"), "problem", "no such folder"),
        (check_storage("s", {"error": "no answer"}), "problem", "no answer"),
        (check_nccl("n", 4, {"error": "busy"}), "warning", "idle"),
        (check_nccl("n", 4, {"gpus": 4, "nccl": "", "error": "unhandled"}), "problem", "unhandled"),
        (check_nccl("n", 4, {"gpus": 2, "nccl": "", "error": ""}), "problem", "--num-gpus=2"),
    ],
)
def test_facts_of_a_cluster_give_a_state_and_what_to_do(check, state, says):
    assert check.state == state
    assert says in f"{check.value} {check.advice}"
    assert bool(check.advice) == (state != "ok")
