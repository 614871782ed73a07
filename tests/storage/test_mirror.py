"""What is published in a mirror is at the store, whole or not at all, and on the next machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dist_lstm.errors import UserError
from dist_lstm.storage import (
    is_marked,
    listing,
    mark,
    mirrored,
    origin,
    publish,
    refresh,
    remove,
    shown,
    write_text,
)
from dist_lstm.storage import objects as store_objects
from dist_lstm.storage.objects import Objects


def write_folder(path: Path, content: str, *names: str) -> None:
    with publish(path) as temporary:
        (temporary / "sub").mkdir(parents=True)
        for name in ("a", "sub/b", *names):
            (temporary / name).write_text(content)
        mark(temporary)


def texts(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_a_path_is_its_own_mirror(tmp_path, machine):
    for where in (tmp_path / "x", str(tmp_path / "x"), f"file://{tmp_path}/x"):
        with mirrored(where) as folder:
            assert folder == tmp_path / "x"
            assert shown(folder) == origin(folder) == str(tmp_path / "x")
    assert not machine.exists()


def test_what_is_published_is_found_by_another_machine(uri, other_machine):
    with mirrored(uri) as folder:
        write_text(folder / "config", "c")
        write_folder(folder / "part", "new")
        mark(folder)
        assert shown(folder / "part") == f"{uri}/part"
    written = texts(folder)
    other_machine()
    with mirrored(uri) as elsewhere:
        assert elsewhere != folder
        assert texts(elsewhere) == written
        assert is_marked(elsewhere)


def test_a_folder_takes_the_place_of_the_old_one_with_none_of_its_files(uri, objects):
    with mirrored(uri) as folder:
        write_folder(folder / "part", "old", "stale")
        write_folder(folder / "part", "new")
        assert {name for name in objects.raw() if not name.startswith(".")} == {
            "part/a",
            "part/sub/b",
            "part/_SUCCESS",
        }
        assert listing(folder / "part") == ["_SUCCESS", "a", "sub"]


def test_what_is_removed_is_gone_at_the_store_and_its_marker_went_first(uri, objects, monkeypatch):
    deleted: list[str] = []
    with mirrored(uri) as folder:
        write_folder(folder / "part", "x")
        write_text(folder / "file", "x")
        honest = Objects.delete

        def note(self, names):
            names = list(names)
            deleted.extend(names)
            honest(self, names)

        monkeypatch.setattr(Objects, "delete", note)
        remove(folder / "part")
        remove(folder / "file")
    assert deleted[0] == "_SUCCESS"
    assert objects.raw() == {}


def test_a_marker_is_sent_after_all_it_stands_for(uri, monkeypatch):
    sent: list[str] = []
    honest = Objects.send

    def note(self, files):
        files = list(files)
        honest(self, files)
        sent.extend(name for _, name in files)

    monkeypatch.setattr(Objects, "send", note)
    with mirrored(uri) as folder:
        write_folder(folder / "part", "x")
    assert set(sent) == {"a", "sub/b", "_SUCCESS"}
    assert sent[-1] == "_SUCCESS"


def fail_after(count: int, patch: pytest.MonkeyPatch) -> None:
    """Let uploads of files fail after so many."""
    honest, left = Objects.send, [count]

    def send(self, files):
        for one in files:
            if not left[0]:
                raise UserError("", "the network is gone")
            left[0] -= 1
            honest(self, [one])

    patch.setattr(Objects, "send", send)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("before", [False, True])
def test_an_upload_that_ends_in_the_middle_leaves_nothing_that_a_reader_takes_for_complete(
    uri, objects, other_machine, count, before
):
    with mirrored(uri) as folder:
        if before:
            write_folder(folder / "part", "old")
        write_text(folder / "other", "x")
        with pytest.MonkeyPatch.context() as patch:
            fail_after(count, patch)
            with pytest.raises(UserError, match="the network is gone"):
                write_folder(folder / "part", "new")
    for move in (lambda: None, other_machine):  # what was not sent is not taken from the mirror either
        move()
        with mirrored(uri) as folder:
            assert texts(folder) == {"other": "x"}
    with mirrored(uri, own=False) as folder:
        assert texts(folder) == {"other": "x"}
    with mirrored(uri) as folder:
        write_folder(folder / "part", "new")
    assert set(objects.listing()) == {"other", "part/a", "part/sub/b", "part/_SUCCESS"}


DIES = """
import os, sys
from pathlib import Path
from dist_lstm.storage.objects import Objects
from dist_lstm.storage import mark, mirrored, publish
honest = Objects.send
def send(self, files):
    files = list(files)
    honest(self, files[:1])
    if len(files) > 1:
        os._exit(9)
Objects.send = send
with mirrored(sys.argv[1]) as folder, publish(folder / "part") as temporary:
    temporary.mkdir()
    for name in "abc":
        (temporary / name).write_text("x")
    mark(temporary)
"""


def test_a_process_that_dies_in_the_middle_of_an_upload_leaves_nothing_to_read_and_no_claim(uri, objects):
    process = subprocess.run([sys.executable, "-c", DIES, uri], env=dict(os.environ), check=False)
    assert process.returncode == 9
    left = set(objects.raw())
    assert "part/a" in left
    for start in ("part/.incomplete.", ".owners/", ".tokens/"):
        assert any(name.startswith(start) for name in left)
    assert objects.listing() == {}
    # On its own machine without waiting: the system released its lock, so it has ended.
    with mirrored(uri) as folder:
        assert texts(folder) == {}
        write_folder(folder / "part", "new")
    assert set(objects.raw()) == {"part/a", "part/sub/b", "part/_SUCCESS"}


def test_unsent_files_of_a_mirror_are_deleted_and_what_is_the_same_is_not_fetched_again(uri, monkeypatch):
    fetched: list[str] = []
    with mirrored(uri) as folder:
        write_folder(folder / "part", "x")
    (folder / "unsent").write_text("x")
    (folder / "part" / "a").write_text("y")
    honest = store_objects.Objects.fetch

    def note(self, files):
        files = list(files)
        fetched.extend(name for name, _ in files)
        honest(self, files)

    monkeypatch.setattr(store_objects.Objects, "fetch", note)
    with mirrored(uri) as folder:
        assert texts(folder) == {"part/a": "x", "part/sub/b": "x", "part/_SUCCESS": ""}
    assert fetched == ["part/a"]


def test_only_what_is_asked_for_is_fetched_and_the_marker(uri, other_machine):
    with mirrored(uri) as folder:
        for name in ("small", "large"):
            write_folder(folder / name, "x")
        mark(folder)
    other_machine()
    with mirrored(uri, fetch=["small"]) as folder:
        assert set(texts(folder)) == {"small/a", "small/sub/b", "small/_SUCCESS", "_SUCCESS"}
        assert listing(folder) == ["_SUCCESS", "large", "small"]


def test_a_worker_writes_beside_the_owner_who_finds_it_after_a_refresh(uri, machine, tmp_path):
    code = (
        "import sys; from dist_lstm.storage import mirrored, write_text\n"
        "with mirrored(sys.argv[1], own=False, fetch=['begun']) as folder:\n"
        "    write_text(folder / 'parts' / 'b', (folder / 'begun').read_text())"
    )
    environment = os.environ | {"DIST_LSTM_CACHE": str(tmp_path / "worker")}
    with mirrored(uri) as folder:
        write_text(folder / "begun", "x")
        assert origin(folder) == uri
        subprocess.run([sys.executable, "-c", code, origin(folder)], env=environment, check=True)
        assert listing(folder / "parts") == ["b"]
        assert not (folder / "parts").exists()
        refresh(folder, ["parts"])
        assert texts(folder) == {"begun": "x", "parts/b": "x"}


def test_what_a_machine_keeps_for_itself_stays_as_long_as_the_store_holds_the_same_work(uri, objects):
    keep = {"state": "begun"}

    def state_is_kept() -> bool:
        with mirrored(uri, keep=keep) as folder:
            return (folder / "state" / "a").exists()

    with mirrored(uri, keep=keep) as folder:
        write_text(folder / "begun", "x")
        (folder / "state").mkdir()
        (folder / "state" / "a").write_text("x")
    assert state_is_kept()
    assert set(objects.raw()) == {"begun"}
    objects.put(b"another", "begun")
    assert not state_is_kept()


def test_what_is_kept_is_deleted_with_its_work(uri, objects):
    with mirrored(uri, keep={"state": "begun"}) as folder:
        write_text(folder / "begun", "x")
        (folder / "state").mkdir()
        (folder / "state" / "a").write_text("x")
    objects.delete(["begun"])
    with mirrored(uri, keep={"state": "begun"}) as folder:
        assert not (folder / "state").exists()


def test_messages_name_the_uri_and_not_the_mirror(uri):
    with pytest.raises(UserError, match=f"^{uri}/config: is wrong$"), mirrored(uri) as folder:
        raise UserError(f"{folder}/config", "is wrong")
