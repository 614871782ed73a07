"""The REST client of a cluster's dashboard, against a server of this process."""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest
from rich.console import Console

from dist_lstm.errors import UserError
from dist_lstm.jobs import client as client_module
from dist_lstm.jobs import follow
from dist_lstm.jobs.client import Dashboard, Token, connect

TOKEN = Token("0123456789abcdef" * 4, "a test")


@contextmanager
def serving(answer):
    """A server that answers with `answer(method, path)`: status, headers, text; yields URL and requests."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self):
            requests.append((self.command, self.path, self.headers.get("Authorization")))
            status, headers, text = answer(self.command, self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = reply  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_each_call_is_one_request_of_the_documented_api_with_the_token():
    def answer(method, path):
        return 200, {}, json.dumps([] if path == "/api/jobs/" else {"logs": "text", "data": {"x": 1}})

    with serving(answer) as (url, requests):
        dashboard = Dashboard(url, TOKEN)
        assert dashboard.jobs() == []
        assert dashboard.job("a-1")["data"] == {"x": 1}
        assert dashboard.logs("a-1") == "text"
        assert dashboard.state("/api/cluster_status") == {"x": 1}
        dashboard.stop("a-1")
        dashboard.delete("a-1")
    assert {authorization for *_, authorization in requests} == {f"Bearer {TOKEN.value}"}
    assert [(method, path) for method, path, _ in requests] == [
        ("GET", "/api/jobs/"),
        ("GET", "/api/jobs/a-1"),
        ("GET", "/api/jobs/a-1/logs"),
        ("GET", "/api/cluster_status"),
        ("POST", "/api/jobs/a-1/stop"),
        ("DELETE", "/api/jobs/a-1"),
    ]


def test_the_token_follows_no_redirect():
    with serving(lambda *_: (200, {}, "[]")) as (other, requests):
        moved = {"Location": other + "/api/jobs/"}
        with (
            serving(lambda *_: (302, moved, "")) as (url, _),
            pytest.raises(UserError, match="answers 302 to /api/jobs/"),
        ):
            Dashboard(url, TOKEN).jobs()
        assert requests == []


def test_a_password_in_netrc_does_not_replace_the_token(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving(lambda *_: (200, {}, "[]")) as (url, requests):
        Dashboard(url, TOKEN).jobs()
        Dashboard(url).jobs()
    assert [authorization for *_, authorization in requests] == [f"Bearer {TOKEN.value}", None]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("token", "message"), [(TOKEN, "refuses the token of a test"), (None, "asks for a token")]
)
def test_a_refused_token_is_an_error_of_one_line_without_the_token(status, token, message):
    with serving(lambda *_: (status, {}, "no")) as (url, _), pytest.raises(UserError, match=message) as refused:
        Dashboard(url, token).jobs()
    assert TOKEN.value not in str(refused.value)


@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '"text"'])
def test_a_server_that_is_not_a_dashboard_is_refused(text, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN.value)
    with (
        serving(lambda *_: (200, {}, text)) as (url, _),
        pytest.raises(UserError, match="is not the dashboard of a Ray cluster"),
    ):
        connect(url)


def test_a_request_without_an_answer_ends_at_its_deadline(monkeypatch):
    monkeypatch.setattr(client_module, "_SECONDS", 0.2)
    stopped = threading.Event()

    def answer(*_):
        stopped.wait(10)
        return 200, {}, "[]"

    with serving(answer) as (url, _):
        with pytest.raises(UserError, match="no answer in time"):
            Dashboard(url).jobs()
        with pytest.raises(UserError, match="no answer in time"):
            Dashboard(url).submit(entrypoint="true")
        stopped.set()


def details(status):
    return {
        "entrypoint": "python -m dist_lstm train a.yaml", "metadata": {"job_name": "a", "dist_lstm": "1"},
        "submission_id": "a-1", "status": status, "start_time": 1000, "end_time": 61_000, "message": "why\nmore",
    }  # fmt: skip


@pytest.mark.parametrize(("last", "status"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 130)])
def test_each_character_of_a_log_is_shown_once_when_the_connection_breaks(last, status, monkeypatch, capsys):
    monkeypatch.setattr(follow, "_POLL", 0.0)
    states = iter(["PENDING", "RUNNING", "RUNNING", "RUNNING", last])
    logs = iter(["one\n", None, "one\ntwo\n", "one\ntwo\nthree\n"])

    def answer(_, path):
        if not path.endswith("/logs"):
            return 200, {}, json.dumps(details(next(states)))
        text = next(logs)
        return (500, {}, "broken") if text is None else (200, {}, json.dumps({"logs": text}))

    with serving(answer) as (url, _):
        job = follow._job(details("PENDING"))
        assert follow.follow(Dashboard(url), job, Console(highlight=False)) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["one", "two", "three"]
    why = ": why" if last == "FAILED" else ""
    assert lines[3] == f"a {last.lower()} after 1.0 minutes{why}"


def test_following_ends_with_the_command_to_continue_it_when_the_cluster_stays_unreachable(monkeypatch):
    monkeypatch.setattr(follow, "_POLL", 0.0)
    monkeypatch.setattr(follow, "_OUT_OF_REACH", 0.05)
    with (
        serving(lambda *_: (500, {}, "broken")) as (url, requests),
        pytest.raises(UserError, match=r"answers 500 .*; a goes on: `dist-lstm jobs logs a --follow`"),
    ):
        follow.follow(Dashboard(url), follow._job(details("RUNNING")), Console())
    assert len(requests) > 1
