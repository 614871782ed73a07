"""The process of a command: closed and full streams, names that are not UTF-8, another backend of Keras."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dist_lstm import startup
from dist_lstm.errors import UserError
from tests.test_bad_input import TABLE
from tests.test_terminal import CONFIG

#: A name that is not UTF-8, as Linux allows it.
ODD = os.fsdecode(b"b\xff")
COMMANDS = [["--version"], ["--help"], ["prepare", "job.yaml"]]


def fill(folder: Path) -> Path:
    """Write a table, t.csv, and a config of it, job.yaml."""
    (folder / "t.csv").write_text(TABLE)
    (folder / "job.yaml").write_text(CONFIG.replace("FILE", "t.csv"))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return fill(tmp_path)


def run(folder: Path, *words: str, shell: str = "", **options) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, through a shell that changes its streams."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-m", "dist_lstm", *words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, cwd=folder, check=False, text=True, **streams)


@pytest.mark.slow
@pytest.mark.parametrize("words", [*COMMANDS, ["plan", "job.yaml"]], ids=" ".join)
def test_a_command_whose_output_nobody_reads_ends_in_silence_as_if_by_its_signal(folder, words):
    reading, writing = os.pipe()
    os.close(reading)
    done = run(folder, *words, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_output_that_takes_no_more_is_reported_in_one_line(folder, words):
    done = run(folder, *words, shell=">/dev/full")
    assert done.returncode == 2
    assert done.stderr == (
        "error: the output or a temporary file: can't be written: No space left on device; free the disk\n"
    )


@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full"])
def test_an_error_that_can_not_be_shown_still_gives_its_status(folder, stream):
    done = run(folder, "prepare", "missing.yaml", shell=stream)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_an_error_that_nobody_reads_still_gives_its_status(folder):
    reading, writing = os.pipe()
    os.close(reading)
    done = run(folder, "prepare", "missing.yaml", stderr=writing)
    os.close(writing)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[str, dict[str, bytes]]:
    """What `prepare` prints, and the files it writes."""
    folder = fill(tmp_path_factory.mktemp("usual"))
    done = run(folder, "prepare", "job.yaml", "--out", "out")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, shards(folder / "out")


def shards(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".parquet", "")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != ".lock"}


@pytest.mark.parametrize("streams", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_neither_the_work_nor_the_other_streams(folder, usual, streams):
    """A file that is opened must not take the descriptor of a stream: what is printed would be written into it."""
    done = run(folder, "prepare", "job.yaml", "--out", "out", shell=streams)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if ">&-" in streams.split() else usual[0])
    assert shards(folder / "out") == usual[1]


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["2>&-", "<&- >&- 2>&-"])
def test_tensorflow_starts_with_closed_streams(folder, streams):
    done = run(folder, "plan", "job.yaml", shell=streams)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("device" in done.stdout) == (streams == "2>&-")


OPENED = """
import os, subprocess, sys
from dist_lstm.cli import process
for descriptor in (0, 1, 2):
    os.close(descriptor)
process.open_closed_streams()
with open("file", "w") as file:
    assert file.fileno() > 2
    print("lost")
    print("lost", file=sys.stderr)
    assert sys.stdin.read() == ""
    child = "import os; [os.fstat(descriptor) for descriptor in (0, 1, 2)]"
    sys.exit(subprocess.run([sys.executable, "-c", child]).returncode)
"""


def test_no_file_takes_the_descriptor_of_a_closed_stream_neither_here_nor_in_children(tmp_path):
    done = subprocess.run([sys.executable, "-c", OPENED], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_tensorflow_starts_in_a_process_of_the_users_with_a_closed_standard_error():
    code = (
        "import os; os.close(2); from dist_lstm.startup import start_tensorflow; print(type(start_tensorflow()))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "<class 'str'>\n")


def test_a_table_beyond_the_memory_budget_needs_few_open_files(folder):
    """macOS allows 256 by default, and the rows are spilled to almost as many."""
    rows = [f"s{series},{step},{step * series % 7}" for step in range(200) for series in range(300)]
    (folder / "t.csv").write_text("\n".join(["unique_id,ds,y", *rows]))
    words = ["prepare", "job.yaml", "--set", "data.memory_budget=1", "--out", "out"]
    done = run(folder, *words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    assert (done.returncode, done.stderr) == (0, "")
    assert "300 series, 60,000 steps" in done.stdout
    assert sorted(path.name for path in (folder / "out").iterdir()) == [".lock", "config.yaml", "shards"]


@pytest.mark.parametrize(
    "words",
    [
        ["plan", f"{ODD}.yaml"],
        ["plan", "job.yaml", "--set", f"data.path={ODD}.csv"],
        ["plan", "job.yaml", "--set", "data.path=$TABLE"],
        ["plan", "job.yaml", "--set", "data.path=folder"],
        ["plan", "job.yaml", "--set", "data.path=folder/*.csv"],
        ["plan", "job.yaml", "--set", "data.path=hive"],
        ["prepare", "job.yaml", "--out", ODD],
        ["init", f"{ODD}.csv"],
        ["init", "folder"],
    ],
    ids=lambda words: ascii(" ".join(words)),
)
def test_a_name_that_is_not_utf8_is_named_in_one_line(folder, words):
    for name in (f"{ODD}.csv", f"folder/{ODD}.csv", f"hive/{ODD}=1/t.csv"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(TABLE)
    done = run(folder, *words, env=os.environ | {"TABLE": f"{ODD}.csv"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "is not UTF-8; rename the file" in done.stderr
    assert "b\\udcff" in done.stderr or "b\\xff" in done.stderr


def test_a_working_directory_whose_name_is_not_utf8_is_named_in_one_line(folder):
    (folder / ODD).mkdir()
    for name in ("t.csv", "job.yaml"):
        (folder / name).rename(folder / ODD / name)
    done = run(folder / ODD, "plan", "job.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: data.path: the name ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "nonsense"])
def test_another_backend_of_keras_is_named_in_one_line(folder, backend):
    done = run(folder, "run", "job.yaml", env=os.environ | {"KERAS_BACKEND": backend})
    assert done.returncode == 2
    assert done.stderr == (
        f"error: KERAS_BACKEND: is {backend!r} in this process; unset it, or set it to tensorflow, "
        "before Keras is imported\n"
    )


def test_a_process_that_uses_keras_with_another_backend_is_told_so(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(UserError, match="KERAS_BACKEND: is 'jax' in this process; unset it, or set"):
        startup._import()


def test_an_empty_backend_is_none(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "")
    startup._start.__wrapped__()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
