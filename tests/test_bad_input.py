"""Each mistake of the user gives one line that names its cause, exit status 2 and no traceback."""

import io
import itertools
import subprocess
import sys

import pandas as pd
import pytest

from dist_lstm.errors import UserError

CONFIG = "task: {horizon: 2}\ndata: {path: FILE}\n"
HEAD = "unique_id,ds,y\n"
DAYS = [f"a,2024-01-{day:02d},{day}\n" for day in range(1, 31)]
TABLE = HEAD + "".join(DAYS)
#: A billion numbers, once its aliases are expanded.
NESTED = [f"&{inner} [{', '.join([f'*{outer}'] * 10)}]" for outer, inner in itertools.pairwise("abcdefghij")]
BOMB = f"[&a [1], {', '.join(NESTED)}]"
FRAME = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=30), "y": range(30)})


@pytest.fixture
def prepare(call, tmp_path):
    """Prepare a table: text, bytes of a file, or a DataFrame, under a config and changed settings."""

    def run_prepare(*settings: str, table=TABLE, name: str = "t.csv", config=CONFIG, out=None):
        path = tmp_path / name
        if isinstance(table, pd.DataFrame):
            table.to_parquet(path)
        elif table is not None:
            content = table if isinstance(table, bytes) else table.encode()
            if not path.exists() or path.read_bytes() != content:  # a file written again is a file that changed
                path.write_bytes(content)
        job = tmp_path / "job.yaml"
        job.write_bytes(config if isinstance(config, bytes) else config.replace("FILE", str(path)).encode())
        changed = [part for setting in settings for part in ("--set", setting)]
        return call("prepare", job, "--out", out or tmp_path / "out", *changed)

    return run_prepare


def line_of(result: tuple[int, str, str]) -> str:
    """The one error line of a user's mistake."""
    status, out, err = result
    assert status == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removesuffix("\n")


def test_good_input_ends_with_status_0_and_no_error(prepare):
    status, out, err = prepare()
    assert (status, err) == (0, "")
    assert "1 series, 30 steps, freq D" in out


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["train.learing_rate=1"], ["train.learing_rate", "did you mean train.learning_rate?"]),
        (["task.horizon=soon"], ["task.horizon", "'soon'"]),
        (["task.horizon=true"], ["task.horizon", "True"]),
        (["task.horizon=0"], ["task.horizon", "greater than or equal to 1", "0"]),
        (
            ["task.context_length=10", "model.segment_length=4"],
            ["context_length 10", "segment_length 4", "8 or 12"],
        ),
        (["task.levels=[80, 100]"], ["task.levels.1", "less than 100", "got 100"]),
        (["task.levels=[100.5]"], ["task.levels.0", "less than 100", "got 100.5"]),
        (["task.levels=[-5]"], ["task.levels.0", "greater than 0", "got -5"]),
        (["task.freq=M"], ["task.freq", "'M'", "write ME"]),
        (["task.freq=ns"], ["task.freq", "'ns'"]),
        (["task.freq=1"], ["task.freq", "time stamps"]),
        (["split.test=1"], ["split.test 1", "task.horizon 2"]),
        (["split.test=4", "backtest.windows=5"], ["backtest.windows 5", "10 steps", "split.test has 4"]),
        (["task.horizon"], ["--set task.horizon", "section.key=value"]),
        (["task.horizon=[1"], ["--set task.horizon", "YAML"]),
        (["data.path=nowhere.csv"], ["data.path", "nowhere.csv", "does not exist"]),
        (["data.path=no*where.csv"], ["data.path", "no*where.csv", "no files"]),
        (["data.path=$NOT_SET_ANYWHERE/t.csv"], ["data.path", "$NOT_SET_ANYWHERE"]),
        (["data.path=nowhere://t.csv"], ["nowhere://t.csv"]),
        (["task.freq=W"], ["task.freq", "is 'W-SUN'", "show 'D'"]),
        (["task.freq=MS"], ["task.freq", "is 'MS'", "show 'D'"]),
        (["data.timezone=Mars"], ["data.timezone", "'Mars'", "IANA"]),
        (["data.timezone=UTC"], ["'ds'", "without a time zone", "data.timezone"]),
        (["data.layout=wide"], ["'unique_id', row 1", "'a'", "data.columns.y"]),
        (["data.layout=wide", "data.static_numbers=[x]"], ["data.layout", "data.static_numbers"]),
        (["data.static_numbers=[size]"], ["'size'", "data.static_numbers", "unique_id, ds, y"]),
        (["data.static_numbers=[y]"], ["'y'", "given twice"]),
        (["data.columns.y=[y, y]"], ["'y'", "given twice"]),
        (["data.columns.y=[a/b, b]"], ["data.columns.y", "'a/b'", "'b'"]),
        (["data.decimal=comma", "data.thousands=comma"], ["data.thousands", "data.decimal", "must differ"]),
        (["data.decimal=;"], ["data.decimal", "'point' or 'comma'", "';'"]),
        (["data.csv.delimiter=|"], ["data.csv.delimiter", "'pipe'"]),
        (["data.csv.encoding=utf9"], ["data.csv.encoding", "'utf9'", "cp1252"]),
        (["data.csv=semicolon"], ["data.csv", "settings", "'semicolon'"]),
        (["data.missing_values=-"], ["data.missing_values"]),
        (["data.columns.y=sales"], ["'sales'", "data.columns.y", "unique_id, ds, y"]),
        (["task.horizon=1e18"], ["too short", "1000000000000000000"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_setting_that_can_not_be_used_is_named(prepare, settings, expected):
    line = line_of(prepare(*settings))
    assert [part for part in expected if part not in line] == []


@pytest.mark.parametrize(("given", "shown"), [("D", "h"), ("h", "15min"), ("W", "D"), ("MS", "D"), ("B", "D")])
def test_a_frequency_that_the_data_contradict_is_refused_with_the_inferred_one(prepare, given, shown):
    frame = FRAME.assign(ds=pd.date_range("2024-01-01", periods=30, freq=shown))
    line = line_of(prepare(f"task.freq={given}", table=frame, name="t.parquet"))
    name = {"W": "W-SUN"}.get(given, given)
    assert f"task.freq: is {name!r}, but the time stamps show {shown!r}" in line


ROW = "a,2024-01-31,"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", ["t.csv", "mpty"]),
        (HEAD, ["t.csv", "has no rows"]),
        ("unique_id,ds\na,2024-01-01\n", ["t.csv", "no column 'y'", "data.columns.y"]),
        ("ds,y\n2024-01-01,1\n", ["no column 'unique_id'", "null if the table is one series"]),
        (TABLE + ROW + "lots\n", ["'y'", "row 31", "'a'", "'lots'"]),
        (TABLE + ROW + "inf\n", ["'y'", "row 31", "finite", "inf"]),
        (TABLE + ROW + "-Infinity\n", ["'y'", "row 31", "finite", "-Infinity"]),
        (TABLE + ROW + "1e39\n", ["'y'", "row 31", "1e39"]),
        (TABLE + DAYS[4], ["'a'", "2024-01-05", "data.duplicates"]),
        (TABLE + "a,2024-01-31 05:00,1\n", ["'a'", "2024-01-31T05:00", "off the grid", "'D'", "2024-01-30"]),
        (TABLE + "a,yesterday,1\n", ["'ds'", "row 31", "'yesterday'"]),
        (TABLE + "a,,1\n", ["'ds'", "row 31", "None"]),
        (TABLE + ",2024-01-31,1\n", ["'unique_id'", "row 31", "name of a series"]),
        (TABLE + "a,2024-01-31\n", ["t.csv", "line 32", "expected 3 columns, got 2"]),
        (TABLE + "a,2024-01-31,1,2\n", ["t.csv", "line 32", "expected 3 columns, got 4"]),
        (TABLE + 'a,2024-01-31,"1,5"\n', ["'y'", "row 31", "'1,5'", "set data.decimal to comma"]),
        (TABLE + "a,2024-01-31,1,5\n", ["line 32", "data.csv.delimiter: semicolon", "data.decimal: comma"]),
        (
            TABLE.replace(",", ";") + "a;2024-01-31;1.234,5\n",
            ["'y'", "row 31", "'1.234,5'", "data.decimal to comma and data.thousands to point"],
        ),
        (TABLE + "a,2024-01-31,-\n", ["'y'", "row 31", "'-'", "add it to data.missing_values"]),
        (TABLE.replace("ds", "DS"), ["no column 'ds', but 'DS'", "set data.columns.ds to DS"]),
        (TABLE.replace(HEAD, ""), ["its first line (a, 2024-01-01, 1)", "write a heading above it"]),
        ("unique_id,2024-01-01,2024-01-02\na,1,2\n", ["column for each date", "transpose it"]),
        ("# daily, 2024\n" + TABLE, ["t.csv", 'data.csv.comment to "#"']),
        ("Sales\n" + TABLE, ["t.csv", "line 2", "data.csv.skip_lines"]),
        (TABLE.replace("\na,", "\nü,").encode("latin-1"), ["t.csv", "data.csv.encoding", "cp1252"]),
        (TABLE + "a,31/01/2024,1\n", ["'ds'", "row 31", "'31/01/2024'", "ISO 8601"]),
        (TABLE + "a,2024-01-31T00:00Z,1\n", ["'ds'", "row 31", "without a time zone"]),
        (
            HEAD + "a,2024-03-31T00:00+01:00,1\na,2024-04-01T00:00+02:00,1\n",
            ["'ds'", "row 2", "offset +01:00", "data.timezone"],
        ),
        ("unique_id,ds,y,y\na,2024-01-01,1,2\n", ["t.csv", "2 columns called 'y'"]),
        (TABLE.encode("utf-16-le"), ["t.csv", "NUL bytes", "data.csv.encoding", "utf-16-le"]),
        (TABLE + "a,2024-01-31,1\x00\n", ["'y'", "row 31"]),
        (HEAD + "a,2024-01-01,1\na,2024-01-02,\na,2024-01-03,1\n", ["longest has 3 steps", "13 are needed"]),
        (HEAD + "a,2024-01-01,\na,2024-01-02,\na,2024-01-03,\n", ["t.csv", "none of its 1 series", "observed"]),
        (HEAD + "a,2024-01-01,1\n", ["task.freq", "no regular frequency"]),
        (bytes(range(256)) * 20, ["t.csv", "can't be read as csv"]),
        (b"\0" * 5000, ["t.csv", "can't be read as csv"]),
    ],
    ids=lambda value: repr(value)[-40:],
)
def test_a_csv_file_that_can_not_be_used_is_refused_with_row_and_value(prepare, table, expected):
    line = line_of(prepare(table=table))
    assert [part for part in expected if part not in line] == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unique_id": 1.5}, ["'unique_id'", "text or whole numbers", "double"]),
        ({"unique_id": None}, ["'unique_id'", "row 1", "None"]),
        ({"unique_id": ["a"] * 29 + [None]}, ["'unique_id'", "row 30", "None"]),
        ({"ds": 1.5}, ["'ds'", "time stamps or whole numbers", "double"]),
        ({"ds": ["2024-01-01"] * 29 + ["2024-01-01T00:00Z"]}, ["'ds'", "row 30", "without a time zone"]),
        ({"ds": [*FRAME["ds"].astype(str)[:29], "yesterday"]}, ["'ds'", "row 30", "'yesterday'"]),
        ({"y": [float("inf"), *range(29)]}, ["'y'", "row 1", "finite", "inf"]),
        ({"y": "many"}, ["'y'", "row 1", "'many'"]),
        ({"y": [[1]] * 30}, ["'y'", "row 1", "[1]"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_parquet_column_of_a_wrong_kind_is_refused(prepare, changes, expected):
    line = line_of(prepare(table=FRAME.assign(**changes), name="t.parquet"))
    assert [part for part in ["t.parquet", *expected] if part not in line] == []


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, 1000), slice(100, None)], ids=["empty", "head", "tail"])
@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_a_damaged_parquet_or_feather_file_is_refused(prepare, cut, kind):
    intact = io.BytesIO()
    getattr(FRAME, f"to_{kind}")(intact)
    line = line_of(prepare(table=intact.getvalue()[cut], name=f"t.{kind}"))
    assert f"t.{kind}: can't be read as {kind}: " in line


@pytest.mark.parametrize(
    ("table", "name", "expected"),
    [
        (None, "t.csv", "t.csv does not exist"),
        (TABLE, "t.xlsx", "t.xlsx is neither CSV, Parquet nor Feather"),
        (TABLE, "t.csv.gz", "t.csv.gz: can't be read as csv"),
        (TABLE, "t.parquet", "t.parquet: can't be read as parquet"),
        (TABLE, "t.feather", "t.feather: can't be read as feather"),
        (TABLE, "t", "t is neither CSV, Parquet nor Feather"),
    ],
)
def test_a_missing_file_or_one_that_does_not_match_its_suffix_is_refused(prepare, table, name, expected):
    assert expected in line_of(prepare(table=table, name=name))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", "expected sections"),
        ("just text", "expected sections"),
        ("task: {horizon: 2\n", "YAML"),
        (CONFIG + "task: {horizon: 3}\n", "line 3, column 1: key 'task' is given twice"),
        ("task: {horizon: 2, horizon: 3}\n", "line 1, column 20: key 'horizon' is given twice"),
        (CONFIG + "# " + "x" * 10_000_000, "larger than 1,000,000 bytes"),
        (CONFIG + "x: [&a 1" + ", *a" * 1000 + "]\n", "more than 100 aliases"),
        (CONFIG + "x: [&a 1" + ", *a" * 2_500_000 + "]\n", "larger than 1,000,000 bytes"),
        (CONFIG + "x: [&a 1" + ", *a" * 240_000 + "]\n", "more than 100 aliases"),
        ("task: {horizon: 2, levels: " + BOMB + "}\ndata: {path: FILE}\n", "task.levels.0"),
        ("task: {horizon: 2}\ndata: {path: FILE, static_numbers: " + BOMB + "}\n", "data.static_numbers.0"),
        (CONFIG + "x: " + BOMB + "\n", "x is not a setting"),
        (b"\x89PNG\r\n\x1a\n\0\0", "UTF-8"),
        (b"task: \0", "special characters"),
    ],
    ids=lambda value: repr(value)[-30:],
)
def test_a_file_that_is_not_a_config_is_named_with_the_reason(prepare, config, expected):
    line = line_of(prepare(config=config))
    assert "job.yaml" in line
    assert expected in line


@pytest.mark.parametrize("verb", ["run", "prepare", "train", "plan"])
def test_every_verb_names_a_config_that_is_missing(call, tmp_path, verb):
    line = line_of(call(verb, tmp_path / "none.yaml"))
    assert line == f"error: {tmp_path}/none.yaml: the config can't be read: No such file or directory"


@pytest.mark.parametrize("arguments", [["backtest"], ["forecast"], ["evaluate", "--data", "actuals.csv"]])
def test_every_verb_names_a_folder_that_is_not_a_run(call, tmp_path, arguments):
    verb, *options = arguments
    assert f"{tmp_path}: is not a run directory" in line_of(call(verb, tmp_path, *options))


def test_a_forecast_of_another_table_needs_a_folder_of_its_own(call, prepare, tmp_path):
    assert prepare()[0] == 0
    line = line_of(call("forecast", tmp_path / "out", "--data", "t.csv"))
    assert line.startswith("error: --data: ")
    assert "--out" in line


def test_forecasts_do_not_replace_a_run(call, prepare, tmp_path):
    run = tmp_path / "out"
    assert prepare()[0] == 0
    (run / "_SUCCESS").touch()
    assert f"{run}: holds something other than forecasts" in line_of(call("forecast", run, "--out", run))
    assert (run / "shards" / "manifest.json").exists()


def test_a_shards_folder_with_other_files_is_refused_and_not_changed(prepare, tmp_path):
    precious = tmp_path / "out" / "shards" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    assert "holds other files" in line_of(prepare())
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("task.horizon=3", "task.horizon is 2, not 3"),
        ("train.seed=5", "train.seed is 1, not 5"),
        ("data.duplicates=last", "data.duplicates is 'error', not 'last'"),
    ],
)
def test_an_output_folder_with_other_work_is_refused_with_the_setting_that_differs(
    prepare, tmp_path, setting, expected
):
    assert prepare()[0] == 0
    before = sorted(tmp_path.joinpath("out").rglob("*"))
    line = line_of(prepare(setting))
    assert f"{tmp_path}/out: holds other work" in line
    assert expected in line
    assert "--out" in line
    assert sorted(tmp_path.joinpath("out").rglob("*")) == before
    assert prepare()[0] == 0


def test_an_output_folder_whose_table_changed_is_refused(prepare, tmp_path):
    assert prepare()[0] == 0
    line = line_of(prepare(table=TABLE + ROW + "31\n"))
    assert "the table changed" in line
    assert "--out" in line


def test_an_output_folder_with_other_files_is_refused_and_not_changed(prepare, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    assert "thesis.tex" in line_of(prepare())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_refused_table_leaves_no_incomplete_folder_that_blocks_the_next_attempt(prepare):
    line_of(prepare(table=TABLE + ROW + "lots\n"))
    assert prepare(table=TABLE)[0] == 0


def test_control_codes_of_a_damaged_file_do_not_reach_the_terminal(prepare):
    line = line_of(prepare(table=TABLE + "b\x1b[31m\x07\r\n"))
    assert "\x1b" not in line
    assert "\x07" not in line


def test_an_internal_error_keeps_its_traceback(call, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("dist_lstm.config.load.load_config", fail)
    with pytest.raises(ZeroDivisionError):
        call("prepare", "job.yaml")


def test_a_message_of_several_lines_is_printed_as_one(call, monkeypatch):
    def refuse(*_):
        raise UserError("", "one\n two\r\n\tthree")

    monkeypatch.setattr("dist_lstm.config.load.load_config", refuse)
    assert line_of(call("prepare", "job.yaml")) == "error: one two three"


def test_a_process_of_its_own_prints_the_same_line_and_exits_with_status_2(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(CONFIG + "trian: {seed: 1}\n")
    actual = subprocess.run(
        [sys.executable, "-m", "dist_lstm", "run", str(job)], check=False, capture_output=True, text=True
    )
    line = line_of((actual.returncode, actual.stdout, actual.stderr))
    assert line == f"error: {job}: trian is not a setting; did you mean train?"
