"""Keys and endpoints are found where AWS's own tools look, also for the lease."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

WORKS = """
import sys
from dist_lstm.storage import mirrored, write_text
with mirrored(sys.argv[1]) as folder:
    write_text(folder / "a", "x")
"""


@dataclass
class Recorder:
    """Answers S3 requests as if the bucket were empty, and keeps the keys that signed them.

    Attributes:
        address: Host and port.
        keys: Access key IDs.
        written: Paths of objects.
    """

    address: str = ""
    keys: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    seen = Recorder()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            signer = re.search(r"Credential=([^/]*)/", self.headers.get("Authorization", ""))
            seen.keys.add(signer[1] if signer else "")
            path = self.path.partition("?")[0]
            if self.command == "PUT":
                seen.written.add(path)
            listing = self.command == "GET"
            there = listing or self.command != "HEAD" or path in seen.written
            body = b"<ListBucketResult></ListBucketResult>" if listing else b""
            self.send_response(200 if there else 404)
            self.send_header("Content-Length", str(len(body)) if self.command != "HEAD" else "1")
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

        def log_message(self, *args) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        seen.address = f"127.0.0.1:{server.server_port}"
        yield seen
        server.shutdown()
        thread.join()


def write(uri: str, home: Path, **environment: str) -> None:
    """Work at a URI in a process of its own, with no settings for AWS but these."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    alone = {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1"}
    process = subprocess.run(
        [sys.executable, "-c", WORKS, uri],
        env=kept | alone | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def make_profiles(home: Path) -> None:
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = KEY-OF-DEFAULT\naws_secret_access_key = secret\n"
        "[nightly]\naws_access_key_id = KEY-OF-NIGHTLY\naws_secret_access_key = secret\n"
    )
    program = home / "keys.sh"
    program.write_text(
        '#!/bin/sh\necho \'{"Version": 1, "AccessKeyId": "KEY-OF-PROGRAM", "SecretAccessKey": "secret"}\'\n'
    )
    program.chmod(0o700)
    (home / ".aws" / "config").write_text(f"[profile program]\ncredential_process = {program}\n")


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({}, "KEY-OF-DEFAULT"),
        ({"AWS_PROFILE": "nightly"}, "KEY-OF-NIGHTLY"),
        ({"AWS_PROFILE": "program"}, "KEY-OF-PROGRAM"),
        ({"AWS_ACCESS_KEY_ID": "KEY-OF-ENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "secret"}, "KEY-OF-ENVIRONMENT"),
    ],
)
def test_keys_are_those_of_the_environment_or_of_a_profile(recorder, tmp_path, environment, key):
    make_profiles(tmp_path / "home")
    write("s3://bucket/runs/x", tmp_path / "home", AWS_ENDPOINT_URL=f"http://{recorder.address}", **environment)
    assert recorder.keys == {key}
    folders = {path.removeprefix("/bucket/runs/x/").partition("/")[0] for path in recorder.written}
    assert folders == {".owners", ".tokens", "a"}


def test_an_endpoint_may_be_named_in_the_uri(recorder, tmp_path):
    make_profiles(tmp_path / "home")
    write(f"s3://bucket/runs/x?scheme=http&endpoint_override={recorder.address}", tmp_path / "home")
    assert "/bucket/runs/x/a" in recorder.written
    assert recorder.keys == {"KEY-OF-DEFAULT"}
