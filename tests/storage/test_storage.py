"""What is published appears whole or not at all; a folder has one owner; a marker ends the work."""

import contextlib
import errno
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from dist_lstm.errors import UserError
from dist_lstm.storage import is_marked, lock, mark, publish, remove, write_json, write_text
from dist_lstm.storage.objects import filesystem

module = importlib.import_module("dist_lstm.storage.publish")  # the package's name of it is a function


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(folder: Path, content: str) -> None:
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text(content)
    (folder / "sub" / "b").write_text(content)


def read_folder(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_published_file_appears_when_the_body_ends_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "file"
    with publish(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert names(path.parent) == ["file"]


def test_a_published_folder_takes_the_place_of_the_old_one_with_none_of_its_files(tmp_path):
    path = tmp_path / "folder"
    write_folder(path, "old")
    (path / "stale").write_text("old")
    with publish(path) as temporary:
        write_folder(temporary, "new")
        assert read_folder(path) == {"a": "old", "sub/b": "old", "stale": "old"}
    assert read_folder(path) == {"a": "new", "sub/b": "new"}
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [ValueError("a fault"), KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
@pytest.mark.parametrize("folder", [False, True])
def test_the_old_content_stays_when_the_block_fails(tmp_path, error, folder):
    path = tmp_path / "x"
    write = write_folder if folder else Path.write_text
    write(path, "old")

    def fail() -> None:
        with publish(path) as temporary:
            write(temporary, "half")
            raise error

    with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
        fail()
    assert (read_folder(path) == {"a": "old", "sub/b": "old"}) if folder else (path.read_text() == "old")
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("point", range(8))
def test_a_folder_that_is_replaced_is_there_whole_whatever_moment_a_signal_comes(
    tmp_path, monkeypatch, exchange, point
):
    """A signal comes before or after each system call that renames; file systems differ in what they can do."""
    path, points = tmp_path / "folder", itertools.count()
    write_folder(path, "old")
    rename, swap = Path.replace, module._exchange

    def stopping(call, *arguments):
        for work in (lambda: None, lambda: call(*arguments)):
            result = work()
            if next(points) == point:
                raise SystemExit(143)  # as the command line's handler of SIGTERM
        return result

    monkeypatch.setattr(Path, "replace", lambda *paths: stopping(rename, *paths))
    monkeypatch.setattr(module, "_exchange", lambda *paths: exchange and stopping(swap, *paths))
    with contextlib.suppress(SystemExit), publish(path) as temporary:
        write_folder(temporary, "new")
    monkeypatch.undo()
    assert read_folder(path) in [{"a": content, "sub/b": content} for content in ("old", "new")]
    assert names(tmp_path) == ["folder"]


def test_this_file_system_exchanges_two_folders_in_one_step(tmp_path):
    write_folder(tmp_path / "one", "1")
    write_folder(tmp_path / "two", "2")
    assert module._exchange(tmp_path / "one", tmp_path / "two")
    assert [read_folder(tmp_path / name)["a"] for name in ("one", "two")] == ["2", "1"]
    assert not module._exchange(tmp_path / "one", tmp_path / "missing")


def test_the_old_folder_comes_back_where_the_new_one_can_not_take_its_place(tmp_path, monkeypatch):
    path, rename = tmp_path / "folder", Path.replace
    write_folder(path, "old")

    def fail(old: Path, new: Path) -> Path:
        if old.suffix == ".tmp":
            raise OSError(errno.EIO, "a fault", str(old))
        return rename(old, new)

    def work() -> None:
        with publish(path) as temporary:
            write_folder(temporary, "new")

    monkeypatch.setattr(module, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="folder: can't be written: a fault"):
        work()
    assert read_folder(path) == {"a": "old", "sub/b": "old"}
    assert names(tmp_path) == ["folder"]


def refuse_connection(_: Path) -> None:
    raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")


def fill_another_disk(folder: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "scratch" / "rows"))


def read_damaged(folder: Path) -> None:
    (folder / "damaged").write_bytes(b"PAR1" + bytes(50) + b"PAR1")
    pq.read_table(folder / "damaged")


def error_of(work, folder: Path) -> Exception:
    try:
        work(folder)
    except OSError as error:
        return error
    raise AssertionError("no error")


@pytest.mark.parametrize(
    "work",
    [
        lambda folder: (folder / "missing").read_bytes(),
        lambda folder: pq.read_table(folder / "missing"),
        lambda folder: pa.OSFile(str(folder / "missing")),
        read_damaged,
        refuse_connection,
        fill_another_disk,
    ],
    ids=["open", "parquet", "arrow", "damaged", "network", "another disk"],
)
def test_an_error_of_the_block_about_something_else_is_not_blamed_on_the_destination(tmp_path, work):
    expected = error_of(work, tmp_path)
    with pytest.raises(type(expected), match=re.escape(str(expected))), publish(tmp_path / "x"):
        work(tmp_path)
    assert not (tmp_path / "x").exists()


def copy_into(folder: Path) -> None:
    write_folder(folder.with_name("source"), "x")
    shutil.copytree(folder.with_name("source"), folder / "copy", copy_function=no_space)


def no_space(_: str, path: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: (folder / "missing" / "a").write_text(""),
        lambda folder: pq.write_table(pa.table({"a": [1]}), folder / "missing" / "a"),
        copy_into,
    ],
    ids=["open", "parquet", "copy"],
)
def test_an_error_of_writing_the_result_is_the_users_and_names_the_destination(tmp_path, write):
    with pytest.raises(UserError, match=r"/x: can't be written: "), publish(tmp_path / "x") as temporary:
        write(temporary)


def test_nodes_that_share_a_folder_and_a_process_number_do_not_write_into_each_others_file(tmp_path):
    with publish(tmp_path / "x") as mine:  # the same process, so the same number
        mine.write_text("mine")
        write_text(tmp_path / "x", "theirs")
        assert (tmp_path / "x").read_text() == "theirs"
    assert (tmp_path / "x").read_text() == "mine"
    assert names(tmp_path) == ["x"]


def test_a_full_disk_is_the_users_error_and_names_path_and_reason(tmp_path):
    with (
        pytest.raises(UserError, match=r"x: can't be written: No space left on device; .*--out"),
        publish(tmp_path / "x"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_that_can_not_be_made_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/x: can't be written"):
        write_text(tmp_path / "file" / "x", "text")


def test_a_process_that_dies_while_it_writes_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    code = (
        "import os, sys, pathlib; from dist_lstm.storage import publish\n"
        "with publish(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"


def test_text_is_written_in_utf8(tmp_path):
    write_text(tmp_path / "x", "ü\n")
    assert (tmp_path / "x").read_bytes() == b"\xc3\xbc\n"


def test_json_holds_null_where_json_has_no_number(tmp_path):
    value = {"a": [1.5, float("nan")], "b": {"c": float("inf"), "d": (-float("inf"), 2)}, "e": None, "f": "nan"}
    write_json(tmp_path / "x", value)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    actual = json.loads((tmp_path / "x").read_text(), parse_constant=refuse)
    assert actual == {"a": [1.5, None], "b": {"c": None, "d": [None, 2]}, "e": None, "f": "nan"}


def test_a_folder_is_finished_only_once_it_is_marked(tmp_path):
    assert not is_marked(tmp_path)
    mark(tmp_path)
    assert is_marked(tmp_path)
    assert names(tmp_path) == ["_SUCCESS"]


def test_remove_deletes_files_and_folders_and_ignores_what_is_missing(tmp_path):
    write_folder(tmp_path / "folder", "x")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file", "nothing"):
        remove(tmp_path / name)
    assert names(tmp_path) == []


def test_remove_deletes_a_link_and_not_what_it_points_to(tmp_path):
    write_folder(tmp_path / "folder", "x")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    assert names(tmp_path) == ["folder"]
    assert read_folder(tmp_path / "folder") == {"a": "x", "sub/b": "x"}


def hold(folder: Path) -> None:
    with lock(folder):
        pass


def test_a_locked_folder_is_refused_to_a_second_owner_and_names_the_first(tmp_path):
    with lock(tmp_path / "run"), pytest.raises(UserError, match=rf"run: process {os.getpid()} is working on it"):
        hold(tmp_path / "run")


@pytest.mark.parametrize("error", [None, ValueError("a fault")])
def test_a_lock_ends_with_its_body(tmp_path, error):
    try:
        with lock(tmp_path):
            if error:
                raise error
    except ValueError:
        pass
    hold(tmp_path)


def test_a_lock_ends_with_its_process_and_shows_the_new_owner(tmp_path):
    code = (
        "import os, sys, pathlib; from dist_lstm.storage import lock\n"
        "with lock(pathlib.Path(sys.argv[1])): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    with lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_folder_that_is_a_file_can_not_be_locked(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: can't be written"):
        hold(tmp_path / "file")


def test_a_relative_path_lies_on_the_local_disk_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    actual, path = filesystem("a/b.csv")
    assert isinstance(actual, fs.LocalFileSystem)
    assert path == str(tmp_path / "a" / "b.csv")


def test_a_file_uri_is_a_local_path(tmp_path):
    actual, path = filesystem(f"file://{tmp_path}/b.csv")
    assert isinstance(actual, fs.LocalFileSystem)
    assert path == f"{tmp_path}/b.csv"


@pytest.mark.parametrize("uri", ["nowhere://bucket/b.csv", "http://host/b.csv", "://"])
def test_an_unknown_scheme_is_the_users_error(uri):
    with pytest.raises(UserError, match=r"can't be opened as a storage location: \S") as actual:
        filesystem(uri)
    assert str(actual.value).startswith(uri)
