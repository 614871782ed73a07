"""What a user sees at the terminal: one line an error, nothing where quiet is asked for, no chatter, no codes."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from dist_lstm.cli import main as cli
from dist_lstm.cli import runs as cli_runs
from dist_lstm.train.monitor import Monitor, Speed
from tests.test_bad_input import TABLE, line_of

CONFIG = """
task: {horizon: 2, context_length: 4, season_length: 2}
data: {path: FILE}
split: {validation: 2, test: 2}
model: {units: [4]}
train: {max_steps: 4, steps_per_epoch: 2, batch_size: 4}
"""
#: How the lines of a run on a terminal begin, boxes aside.
WORDS = ("data ", "windows ", "split ", "to 20", "train ", "backtest ", "forecast ", "forecasts ", "skill ", "m",
         "coverage", "rmss", "rmse", "smape", "wql", "seconds ")  # fmt: skip


@pytest.fixture
def job(tmp_path) -> Path:
    """A config of a small table, in a folder whose name rich would take for markup and a smile."""
    folder = tmp_path / "[red]a[b] :smile:"
    folder.mkdir()
    (folder / "t.csv").write_text(TABLE)
    path = folder / "job.yaml"
    path.write_text(CONFIG.replace("FILE", f"'{folder}/t.csv'"))
    return path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], ["'CONFIG'", "dist-lstm run --help"]),
        (["rnu", "a.yaml"], ["'rnu'", "id you mean 'run'?", "dist-lstm --help"]),
        (["plan", "a.yaml", "--nonsense"], ["--nonsense", "dist-lstm plan --help"]),
        (["--nonsense"], ["--nonsense"]),
        (["evaluate", "x"], ["'--data'", "dist-lstm evaluate --help"]),
        (["run", "a.yaml", "b.yaml"], ["b.yaml"]),
        (["run", "--out"], ["'--out'"]),
        (["run\x1b[31m"], ["[31m"]),
    ],
    ids=lambda value: " ".join(value).replace("\x1b", "ESC"),
)
def test_a_mistyped_command_is_named_on_one_line(call, arguments, says):
    line = line_of(call(*arguments))
    assert [part for part in says if part not in line] == []


def test_without_a_command_the_verbs_are_shown(call):
    status, out, err = call()
    assert (status, err) == (0, "")
    assert re.search(r"^  run ", out, re.MULTILINE)


@pytest.mark.parametrize("verb", ["", "run", "prepare", "doctor"])
def test_help_fits_80_columns_and_cuts_nothing(call, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = call(*[verb][: len(verb)], "--help")
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out.replace("[ARGS]...", "")
    assert "--quiet" in out


@pytest.mark.parametrize(
    "arguments",
    [["-v", "-q", "prepare"], ["-v", "prepare", "--quiet"], ["prepare", "x", "-q", "-v"]],
    ids=" ".join,
)
def test_verbose_and_quiet_contradict_each_other(call, monkeypatch, arguments):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    assert "-v and -q contradict" in line_of(call(*arguments, "job.yaml"))


@pytest.mark.parametrize("front", [True, False], ids=["before the verb", "after the verb"])
class TestVerbosity:
    def prepare(self, call, job, front, flag) -> tuple[int, str, str]:
        verb = ["prepare", job, "--out", job.parent / "out"]
        return call(*([flag, *verb] if front else [*verb, flag]))

    def test_quiet_prints_nothing_and_does_the_work(self, call, job, front):
        assert self.prepare(call, job, front, "-q") == (0, "", "")
        assert (job.parent / "out" / "shards" / "_SUCCESS").exists()

    def test_quiet_still_prints_errors(self, call, job, front):
        job.write_text("task: 1\n")
        assert "job.yaml" in line_of(self.prepare(call, job, front, "--quiet"))

    def test_verbose_adds_seconds_by_stage_and_lets_tensorflow_speak(self, call, job, front, monkeypatch):
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
        status, out, err = self.prepare(call, job, front, "-v")
        assert status == 0
        assert re.fullmatch(r"prepare +\d+\.\d s\n", err)
        assert out.startswith("data      1 series")
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"

    def test_neither_outlives_its_command(self, call, job, front, monkeypatch):
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
        for flag in ("-v", "-q"):
            self.prepare(call, job, front, flag)
            _, out, err = call("prepare", job, "--out", job.parent / "out")
            assert out.startswith("data ")
            assert err == ""
        assert logging.getLogger("dist_lstm").handlers == []


def test_an_interruption_ends_with_status_130_and_the_command_that_resumes(call, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dist_lstm.config.load.load_config", interrupt)
    status, out, err = call("prepare", "my job.yaml", "--set", "train.seed=2", "--out", "runs/a")
    assert (status, out) == (130, "")
    assert err == "interrupted; continue with: dist-lstm prepare 'my job.yaml' --set train.seed=2 --out runs/a\n"


def test_an_interrupted_progress_bar_is_erased_and_leaves_room_for_the_echo_of_ctrl_c(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    monitor = Monitor(tmp_path, console)

    def interrupted() -> None:
        with monitor.phase("refit", 100_000, cudnn=False):
            monitor.step(99_999, 0.12345, Speed(512, True, 10.0, 2411, 0.5))
            monitor._bar.refresh()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    shown = console.file.getvalue()
    lines = [re.sub(r"\x1b\[[?\d]*[a-zA-Z]", "", line).strip() for line in re.split(r"[\r\n]", shown)]
    longest = max(lines, key=len)
    assert longest.startswith("123,443 windows/s  241.1 steps/s  input wait 5%  no cuDNN  ")
    assert any("99999/100000 loss 0.1235" in line for line in lines)
    assert len(longest) <= 80 - len("^C")
    # The cursor is shown again, goes up over both lines, and erases them.
    assert shown.endswith("\n\x1b[?25h\r\x1b[1A\x1b[2K\x1b[1A\x1b[2K")


def test_a_plan_fits_80_columns_cuts_nothing_and_has_no_control_codes_in_a_pipe(call, job, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = call("plan", job)
    assert (status, err) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out)
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    values = [line.split("│")[2].strip() for line in out.splitlines() if line.startswith("│")]
    assert f"{job.parent}/t.csv".replace(" ", "") in "".join(values).replace(" ", "")


@pytest.mark.parametrize("models", [2, 10])
def test_a_table_of_scores_fits_80_columns_and_cuts_no_number(capsys, monkeypatch, models):
    monkeypatch.setenv("COLUMNS", "80")
    scores = {f"Baseline{number:02d}": {"mase": 0.1 + number / 1e4} for number in range(models)}
    cli_runs.show_scores(scores | {"skill": 0.1}, "backtest of runs/a", cli._console())
    title, _, table = capsys.readouterr().out.partition("skill")[0].partition("\n")
    assert title == "backtest of runs/a"
    assert max(map(len, table.splitlines())) <= 80
    rows = [line.split("│")[1:-1] for line in table.splitlines() if line.startswith("│")]
    cells = ["".join(part.strip() for part in column) for column in zip(*rows, strict=True)]
    assert cells == ["mase", *(f"{0.1 + number / 1e4:.4g}" for number in range(models))]


@pytest.mark.slow
def test_only_the_command_itself_writes_to_a_terminal(job):
    """The whole of stdout, a terminal, and of stderr, to the end of the process."""
    terminal, inside = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # what Linux gives where the other end is closed
                return
            if not chunk:
                return
            shown.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment = quiet | {"COLUMNS": "80", "TERM": "xterm"}
    command = [sys.executable, "-m", "dist_lstm", "run", str(job), "--out", str(job.parent / "out")]
    try:
        done = subprocess.run(command, stdout=inside, stderr=subprocess.PIPE, env=environment, check=False)
    finally:
        os.close(inside)
        reader.join()
        os.close(terminal)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    text = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", shown.decode())
    lines = [line.strip(" │┃") for line in re.split(r"[\r\n]+", text)]
    lines = [line for line in lines if not re.fullmatch(r"[\d,]+ windows/s  .* no cuDNN  \d\.\d GiB", line)]
    strange = [line for line in lines if line and not line.startswith((*WORDS, "refit ", "report", "┏", "┡", "└"))]
    assert strange == []
    assert b"\x1b[?25l" in shown, "a bar was drawn"
