"""A server that speaks S3, on loopback, once a module; every test has a bucket and a machine of its own."""

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from dist_lstm.storage import lease
from dist_lstm.storage.objects import Objects

#: The secret key, which no file and no line may hold.
SECRET = "Pl4nted/secret+key"


@pytest.fixture(scope="module")
def store() -> Iterator[None]:
    """The server; the environment names it, as a user's would."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield
    server.stop()


def make_bucket() -> str:
    """The URI of a folder in a new bucket."""
    name = f"bucket-{secrets.token_hex(4)}"
    fs.FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")[0].create_dir(name)
    return f"s3://{name}/runs/x"


@pytest.fixture
def uri(store) -> str:
    """Where there is nothing yet."""
    return make_bucket()


@pytest.fixture
def objects(uri) -> Objects:
    """What lies there, without a mirror."""
    return Objects(uri)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch) -> Path:
    """This machine's mirrors."""
    monkeypatch.setenv("DIST_LSTM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """Makes this process work, from then on, as on another machine."""

    def move() -> None:
        monkeypatch.setenv("DIST_LSTM_CACHE", str(tmp_path / secrets.token_hex(4)))

    return move


@pytest.fixture
def hasty(monkeypatch) -> None:
    """Claims that are renewed, polled and given up at ten times the speed."""
    for name in ("LEASE", "_RENEWAL_INTERVAL", "_POLL_INTERVAL"):
        monkeypatch.setattr(lease, name, getattr(lease, name) / 10)
