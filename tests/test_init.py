"""`dist-lstm init`: tables of all kinds, the configs that it writes for them, and what it refuses to guess."""

import re

import numpy as np
import pandas as pd
import pytest

from dist_lstm.config.defaults import resolve
from dist_lstm.config.load import load_config
from dist_lstm.data import source
from dist_lstm.data.prepare import describe, ingest
from dist_lstm.starter import propose as propose_module
from dist_lstm.starter.propose import propose
from dist_lstm.starter.write import config_path
from tests.conftest import ROOT
from tests.test_imports import modules_of

DAYS = pd.date_range("2023-01-01", periods=200, freq="D")


def values(number: int) -> np.ndarray:
    return np.sin(np.arange(number) * 2 * np.pi / 7) + np.arange(number) % 5


def long(names=("a", "b", "c"), ds=DAYS, **columns) -> pd.DataFrame:
    """One row per series and time stamp: date, store, sales and other columns."""
    parts = [pd.DataFrame({"date": ds, "store": name, "sales": values(len(ds))}) for name in names]
    return pd.concat(parts, ignore_index=True).assign(**columns)


def wide(**columns) -> pd.DataFrame:
    return pd.DataFrame({"date": DAYS, "north": values(200), "south": 2 * values(200), **columns})


def single(ds, y=None) -> pd.DataFrame:
    return pd.DataFrame({"ds": ds, "y": values(len(ds)) if y is None else y})


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Write a table into the working directory; its name."""
    monkeypatch.chdir(tmp_path)

    def write(frame: pd.DataFrame, name: str = "sales.csv", **options) -> str:
        if name.endswith((".csv", ".csv.gz")):
            frame.to_csv(name, **{"index": False} | options)
        elif name.endswith(".feather"):
            frame.to_feather(name)
        else:
            frame.to_parquet(name, **options)
        return name

    return write


@pytest.fixture
def init(call, tmp_path):
    """The config that `init` writes for a table, and what it prints."""

    def run(name: str, *options: str):
        path = tmp_path / "job.yaml"
        status, out, err = call("init", name, "--out", path, *options)
        assert (status, err) == (0, "")
        return load_config(path), out

    return run


@pytest.fixture
def refusal(call, tmp_path):
    """The one line in which `init` refuses a table."""

    def run(name: str, *options: str) -> str:
        path = tmp_path / "job.yaml"
        status, out, err = call("init", name, "--out", path, *options)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert not path.exists()
        return err

    return run


def columns(config) -> tuple:
    chosen = config.data.columns
    return chosen.unique_id, chosen.ds, chosen.y


FORMS = {
    "CSV": (long(), "t.csv", {}),
    "gzipped CSV": (long(), "t.csv.gz", {}),
    "CSV with semicolons": (long(), "t.csv", {"sep": ";"}),
    "CSV with an index": (long(), "t.csv", {"index": True}),
    "Parquet": (long(), "t.parquet", {}),
    "Parquet, categories": (long().astype({"store": "category"}), "t.parquet", {}),
    "Feather": (long(), "t.feather", {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_long_table_of_any_form_is_recognised_by_names_and_types(table, init, form):
    frame, name, options = FORMS[form]
    config, out = init(table(frame, name, **options))
    assert columns(config) == ("store", "date", "sales")
    assert (config.data.layout, config.task.freq, config.task.season_length) == ("long", "D", 7)
    assert "3 of 200 steps" in out


def test_a_folder_and_a_glob_are_one_table(table, init, tmp_path):
    (tmp_path / "parts" / "region=north").mkdir(parents=True)
    table(long(("a", "b")), "parts/region=north/1.csv")
    table(long(("c",)), "parts/region=north/2.csv")
    config, out = init("parts/")
    assert columns(config) == ("store", "date", "sales")
    assert "3 of 200 steps" in out
    assert (
        "3 of 200 steps"
        in init("parts/region=north/*.csv", "--out", "other.yaml", "--set", "data.duplicates=last")[1]
    )


def test_a_uri_is_written_as_it_was_given(table, init, tmp_path):
    uri = f"file://{tmp_path}/{table(long())}"
    assert init(uri)[0].data.path == uri


FREQUENCIES = {
    "years": (pd.date_range("1960-01-01", periods=50, freq="YS"), "YS", 1, 6),
    "quarters": (pd.date_range("1990-01-01", periods=80, freq="QS"), "QS", 4, 8),
    "months": (pd.date_range("2010-01-01", periods=120, freq="MS"), "MS", 12, 12),
    "weeks": (pd.date_range("2015-01-04", periods=200, freq="W"), "W-SUN", 1, 13),
    "business days": (pd.bdate_range("2020-01-01", periods=300), "B", 5, 10),
    "hours": (pd.date_range("2024-01-01", periods=900, freq="h"), "h", 24, 24),
    "half hours in a zone": (
        pd.date_range("2024-03-01", periods=2000, freq="30min", tz="Europe/Berlin"),
        "30min",
        48,
        48,
    ),
    "days in a zone": (pd.date_range("2024-01-01", periods=300, freq="D", tz="Europe/Berlin"), "D", 7, 14),
    "minutes": (pd.date_range("2024-01-01", periods=9000, freq="min"), "min", 1440, 60),
    "steps": (np.arange(100), 1, 1, 12),
}


@pytest.mark.parametrize("kind", FREQUENCIES)
def test_frequency_season_and_horizon_follow_the_time_stamps(table, init, kind):
    ds, freq, season, horizon = FREQUENCIES[kind]
    config, _ = init(table(single(ds), "t.parquet"))
    # pandas has several names for quarters and years.
    assert str(config.task.freq).partition("-")[0] == str(freq).partition("-")[0]
    assert (config.task.season_length, config.task.horizon) == (season, horizon)
    assert columns(config) == (None, "ds", "y")


ONE_COLUMN = {
    "by its name": (long(price=2.5, units_left=1), "sales"),
    "the only one that changes within a series": (long().rename(columns={"sales": "x"}).assign(size=4.5), "x"),
    "named as the field does": (
        long().rename(columns={"sales": "target", "store": "item_id", "date": "timestamp"}),
        "target",
    ),
    "a word of its name": (long().rename(columns={"sales": "netSales"}).assign(b=values(600)), "netSales"),
}


@pytest.mark.parametrize("kind", ONE_COLUMN)
def test_the_column_to_forecast_is_found(table, init, kind):
    frame, expected = ONE_COLUMN[kind]
    assert columns(init(table(frame))[0])[2] == expected


SERIES = {
    "whole numbers, by their name": (long((3, 7)).rename(columns={"store": "store_nbr"}), "store_nbr"),
    "numbers with leading zeros": (long(("007", "012")).rename(columns={"store": "sku"}), "sku"),
    "the text that repeats no time stamp": (long(region="x").rename(columns={"store": "which"}), "which"),
    "the surer name of two": (long(region=[*"x" * 200, *"y" * 200, *"z" * 200]), "store"),
    "one series": (long(("a",)), "store"),
    "none": (long(("a",)).drop(columns="store"), None),
}


@pytest.mark.parametrize("kind", SERIES)
def test_the_column_that_names_the_series_is_found(table, init, kind):
    frame, expected = SERIES[kind]
    assert columns(init(table(frame))[0])[0] == expected


def test_a_wide_table_is_read_as_one_column_per_series(table, init):
    config, out = init(table(wide()))
    assert (config.data.layout, config.data.columns.ds, config.data.every_column) == ("wide", "date", True)
    assert "2 of 200 steps" in out


def test_a_wide_table_with_text_names_its_series(table, init):
    config, _ = init(table(wide(weather="sun")), "--set", "data.layout=wide")
    assert config.data.columns.y == ("north", "south")


def test_columns_that_describe_a_series_are_offered_and_those_that_change_are_named(table, init, tmp_path):
    frame = long(price=np.linspace(1, 2, 600).round(3))
    frame["region"] = frame["store"].map({"a": "north", "b": "south", "c": "south"})
    frame["area"] = frame["store"].map({"a": 10.5, "b": 20.5, "c": 30.5})
    config, out = init(table(frame))
    assert (config.data.static_categories, config.data.static_numbers) == ((), ())
    text = (tmp_path / "job.yaml").read_text()
    assert "# static_categories: [region]" in text
    assert "# static_numbers: [area]" in text
    assert "# y: price" in text
    assert "region, area" in out
    assert re.search(r"^unused +price$", out, re.MULTILINE)


def test_missing_values_and_series_without_any_are_counted(table, init):
    frame = long().drop(index=range(50, 60))
    frame.loc[frame["store"] == "c", "sales"] = np.nan
    out = init(table(frame))[1]
    assert "3 of 200 steps, 1 without any value" in out
    assert f"{(10 + 200) / 600:.1%} of the steps" in out


REFUSED = {
    "an empty file": ("", "Empty CSV file"),
    "no rows": ("ds,y\n", "has no rows"),
    "no time": ("name,v\na,1.5\nb,2.5\n", "no column holds time stamps; its columns are name (text), v (number)"),
    "dates of another form": ("date,v\n31/01/2024,1\n01/02/2024,2\n", "date holds '31/01/2024'"),
    "dates as numbers": (
        "date,v\n20240131,1.5\n20240201,2.5\n",
        "--set data.ds_format=step if they do count steps",
    ),
    "a time without a name": (",v\n2024-01-01,1\n2024-01-02,2\n", "the column of time stamps has no name"),
    "two times": (
        "from,to,v\n2024-01-01,2024-01-02,1\n2024-01-02,2024-01-03,2\n",
        "several columns hold time stamps",
    ),
    "no number": ("ds,v\n2024-01-01,a\n2024-01-02,b\n", "no column holds numbers to forecast"),
    "a comma for the decimal point": (
        "ds;y\n2024-01-01;1,5\n2024-01-02;2,5\n",
        "(y holds '1,5'); its columns are ds (time), y (text); set data.decimal to comma (as --set KEY=VALUE)",
    ),
    "a text for a missing value": (
        "ds,y\n2024-01-01,1\n2024-01-02,-\n",
        "(y holds '-'); its columns are ds (time), y (text); if it means a missing value, add it to",
    ),
    "names of series among numbers": (
        "ds,v,w\n2024-01-01,-,x\n2024-01-02,1,y\n",
        "(v holds '-')",
    ),
    "no heading": (
        "2024-01-01,a,1\n2024-01-02,a,2\n",
        "has the name '2024-01-01'; its columns are 2024-01-01 (time), a (text), 1 (whole); its first line",
    ),
    "dates as columns": (
        "store,2024-01-01,2024-01-02\na,1,2\nb,3,4\n",
        "a column for each date, such as 2024-01-01 and 2024-01-02",
    ),
    "years as columns": ("country,2019,2020\nAruba,1,2\n", "transpose it"),
    "a comment": ("# made, by\nds,y\n2024-01-01,1\n", 'set data.csv.comment to "#" (as --set KEY=VALUE)'),
    "a title": ("Sales\nds,y\n2024-01-01,1\n", "set data.csv.skip_lines"),
    "another delimiter": ("ds^y\n2024-01-01^1\n", "its heading is one field, 'ds^y'; set data.csv.delimiter"),
    "another encoding": ("ds,Menge in m\udcb3\n2024-01-01,1\n", "set data.csv.encoding"),
    "two columns of a name": ("ds,y,y\n2024-01-01,1,2\n", "has 2 columns called 'y'"),
    "too short": (
        "ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n",
        "its series are too short: the longest has 3",
    ),
    "irregular": ("ds,y\n2024-01-01,1\n2024-01-05,2\n2024-03-06,3\n", "(as --set KEY=VALUE)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cant_be_decided_is_said_in_one_line(table, refusal, tmp_path, kind):
    text, expected = REFUSED[kind]
    (tmp_path / "t.csv").write_text(text, errors="surrogateescape")
    table(single(DAYS))
    assert expected in refusal("t.csv")


def german(frame: pd.DataFrame) -> str:
    """A table as a spreadsheet in German writes it, with a mark where a value is missing."""
    text = frame.to_csv(index=False, sep=";", decimal=",", na_rep="-", date_format="%d.%m.%Y")
    return "sep=;\n" + text


SPREADSHEET = ("data.ds_format='%d.%m.%Y'", "data.decimal=comma", "data.missing_values=['-']")
WRITTEN = {
    "blanks and another case": (long().to_csv(index=False).replace(",", ", ").replace("date", "DS"), ()),
    "24:00 in UTC": (long().to_csv(index=False, date_format="%Y-%m-%d 24:00 UTC"), ()),
    "comments": ("# made by x\n" + long().to_csv(index=False), ("data.csv.comment='#'",)),
    "a spreadsheet": (german(long().assign(sales=[None, *values(599)])), SPREADSHEET),
    "an encoding": (long(("a", "b", "ü")).to_csv(index=False), ("data.csv.encoding=cp1252",)),
    "UTF-16": (long(("a", "b", "ü")).to_csv(index=False, sep="\t"), ()),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_table_as_other_programs_write_it_gets_a_config_that_reads_it(table, init, tmp_path, kind):
    text, settings = WRITTEN[kind]
    table(long())
    encoding = {"an encoding": "cp1252", "UTF-16": "utf-16"}.get(kind, "utf-8")
    (tmp_path / "t.csv").write_text(text, encoding=encoding)
    config, out = init("t.csv", *(part for one in settings for part in ("--set", one)))
    assert columns(config) == ("store", "DS" if "DS" in text else "date", "sales")
    assert (config.task.freq, config.task.season_length) == ("D", 7)
    assert "3 of 200 steps" in out
    given = [one.partition("=")[0] for one in settings]
    assert [key for key in given if f"{key.rpartition('.')[2]}:" not in (tmp_path / "job.yaml").read_text()] == []
    with ingest(config, tmp_path / "shards") as dataset:
        assert dataset.shards.manifest.series == 3


@pytest.mark.parametrize(("form", "freq"), [("'%Y%m%d'", "D"), ("step", 1)])
def test_dates_as_numbers_are_read_as_the_advice_says(form, freq, table, init, refusal):
    days = 20240101 + np.arange(31) if form == "step" else DAYS.strftime("%Y%m%d").astype(int)
    name = table(single(days).rename(columns={"ds": "date"}))
    assert "--set data.ds_format='%Y%m%d'" in refusal(name)
    config, _ = init(name, "--set", f"data.ds_format={form}")
    assert (config.task.freq, columns(config)) == (freq, (None, "date", "y"))


def test_series_called_as_missing_values_are_series(table, init):
    config, out = init(table(long(("NA", "None", "-"))), "--set", "data.missing_values=['-', None]")
    assert columns(config) == ("store", "date", "sales")
    assert "3 of 200 steps" in out


def test_a_column_that_can_be_chosen_is_chosen_by_a_setting(table, init, refusal):
    frame = long().rename(columns={"sales": "left"}).assign(right=values(600))
    name = table(frame)
    error = refusal(name)
    assert "several columns hold numbers to forecast: left, right" in error
    assert "--set data.columns.y=NAME" in error
    assert columns(init(name, "--set", "data.columns.y=right")[0])[2] == "right"


def test_both_columns_can_be_forecast(table, init):
    frame = long().rename(columns={"sales": "left"}).assign(right=values(600))
    config, out = init(table(frame), "--set", "data.columns.y=[left, right]")
    assert config.data.columns.y == ("left", "right")
    assert "6 of 200 steps" in out


def test_rows_that_repeat_a_time_stamp_are_for_the_user_to_decide(table, init, refusal):
    name = table(pd.concat([long(), long().head(4)]))
    error = refusal(name)
    assert "rows that repeat a time stamp: 4" in error
    assert "(as --set KEY=VALUE)" in error
    assert init(name, "--set", "data.duplicates=last")[0].data.duplicates == "last"


def test_two_columns_that_name_the_series_together_are_named(table, refusal):
    error = refusal(table(pd.concat([long(family="x"), long(family="y")])))
    assert "'store' and 'family' together do" in error
    assert "a/x" in error


def test_rows_of_one_series_are_merged_where_that_is_asked_for(table, init, refusal):
    name = table(pd.concat([long(("a",)).drop(columns="store")] * 2))
    assert "--set data.duplicates=sum" in refusal(name)
    assert columns(init(name, "--set", "data.duplicates=sum")[0]) == (None, "date", "sales")


def test_text_with_changing_offsets_needs_the_zone(table, init, refusal):
    ds = pd.date_range("2024-03-01", periods=1000, freq="h", tz="Europe/Berlin").astype(str)
    name = table(single(ds))
    assert "data.timezone" in refusal(name)
    assert init(name, "--set", "data.timezone=Europe/Berlin")[0].data.timezone == "Europe/Berlin"


def test_an_existing_file_is_never_overwritten(table, call, tmp_path):
    name = table(long())
    (tmp_path / "sales.yaml").write_text("mine")
    status, _, err = call("init", name)
    assert status == 2
    assert "sales.yaml: exists already" in err
    assert (tmp_path / "sales.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("sales.csv", "sales"),
        ("../data/sales.2024.csv.gz", "sales.2024"),
        ("s3://bucket/tables/load/", "load"),
        ("data/load/*.parquet", "load"),
        ("*.csv", "table"),
        ("my sales (1).csv", "my-sales-1"),
    ],
)
def test_the_config_is_named_after_the_table(path, name):
    assert str(config_path(path)) == f"{name}.yaml"


def test_the_horizon_that_is_given_is_written_or_refused_with_the_longest_there_is(table, init, refusal):
    name = table(long())
    assert "use --horizon 64 or less" in refusal(name, "--horizon", "100")
    config, _ = init(name, "--horizon", "64")
    assert config.task.horizon == 64


def test_a_setting_that_has_no_line_in_the_config_is_refused(table, refusal):
    assert "is not for init" in refusal(table(long()), "--set", "search.space={model.dropout: {choice: [0, 0.1]}}")
    assert "task.horizn" in refusal("sales.csv", "--set", "task.horizn=3")


def test_every_other_setting_that_is_given_is_written(table, init):
    config, _ = init(
        table(long()), "--set", "train.max_steps=20", "--set", "model.units=[8]", "--set", "split.test=28"
    )
    assert (config.train.max_steps, config.model.units, config.split.test) == (20, (8,), 28)


@pytest.mark.parametrize("frame", [long(), wide(), single(np.arange(60)), single(DAYS[:9])], ids=len)
def test_the_config_and_every_alternative_in_it_fit_the_table(table, init, tmp_path, frame):
    init(table(frame))
    text = (tmp_path / "job.yaml").read_text()
    lines = text.splitlines()
    alternatives = [number for number, line in enumerate(lines) if re.match(r" +# \w+: \S", line)]
    assert len(alternatives) >= 5
    for number in alternatives:
        indent, name = re.match(r"( +)# (\w+:)", lines[number]).groups()
        others = [line for line in lines if not line.startswith(f"{indent}{name}")]
        others.insert(others.index(lines[number]), lines[number].replace("# ", "", 1))
        path = tmp_path / "changed.yaml"
        path.write_text("\n".join(others))
        config = load_config(path)
        with ingest(config, tmp_path / f"shards-{number}") as dataset:
            describe(dataset, resolve(config, dataset.statistics))


def test_what_is_printed_fits_a_terminal_and_the_config_a_screen(table, call, tmp_path):
    status, out, _ = call("init", table(long()))
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert out.endswith("dist-lstm run sales.yaml\n")
    assert max(map(len, (tmp_path / "sales.yaml").read_text().splitlines())) <= 100


def test_what_is_left_out_is_what_a_run_derives(table, init, tmp_path):
    config, _ = init(table(long()))
    text = (tmp_path / "job.yaml").read_text()
    with ingest(config, tmp_path / "shards") as dataset:
        resolved = resolve(config, dataset.statistics)
        describe(dataset, resolved)
    shown = dict(
        re.findall(r"^ +# (context_length|segment_length|batch_size|max_steps): (\d+)", text, re.MULTILINE)
    )
    assert shown == {
        "context_length": str(resolved.task.context_length),
        "segment_length": str(resolved.model.segment_length),
        "batch_size": str(resolved.train.batch_size),
        "max_steps": str(resolved.train.max_steps),
    }


def test_names_that_yaml_reads_as_something_else_are_quoted(table, init):
    frame = long().rename(columns={"store": "no", "date": "2024", "sales": "a: [b] #c"})
    name = table(frame.assign(text="x"), "päth with: #.csv")
    config, _ = init(name)
    assert columns(config) == ("no", "2024", "a: [b] #c")
    assert config.data.path.endswith("päth with: #.csv")


@pytest.fixture
def small_pieces(monkeypatch):
    """Tables are read 100 rows at a time, and judged by their first 450."""
    monkeypatch.setattr(source, "_ROWS", 100)
    monkeypatch.setattr(propose_module, "_ROWS", 450)


def test_a_big_table_is_judged_by_its_first_rows(table, init, small_pieces):
    config, out = init(table(long("abcdef"), "t.parquet"))
    assert "the first 500; the rest was not read" in out
    # The third series goes on where reading ended.
    assert "2 of 200 steps" in out
    assert config.task.horizon == 14


def test_reading_ends_where_a_table_is_judged(table, small_pieces, monkeypatch):
    sizes, original = [], propose_module.read

    def counting(*arguments):
        for piece in original(*arguments):
            sizes.append(piece.num_rows)
            yield piece

    monkeypatch.setattr(propose_module, "read", counting)
    propose(table(long("abcdef"), "t.parquet"))
    assert sizes == [100] * 6


def test_neither_tensorflow_nor_ray_is_imported(table):
    loaded = modules_of([["init", table(long())]], None)
    assert loaded & {"tensorflow", "keras", "ray"} == set()
    assert "dist_lstm.starter.write" in loaded


def test_the_table_of_the_quickstart_gets_what_its_config_says(table, init):
    config, _ = init(str(ROOT / "configs" / "data" / "etth1.parquet"))
    quickstart = load_config(ROOT / "configs" / "quickstart.yaml")
    assert columns(config) == columns(quickstart)
    task = {"horizon", "freq", "season_length", "levels"}
    assert config.task.model_dump(include=task) == quickstart.task.model_dump(include=task)


@pytest.mark.slow
def test_every_real_table_gets_a_config(real_data):
    tables = sorted(real_data.glob("*/*.parquet"))
    assert len(tables) > 20
    for path in tables:
        if path.stat().st_size < 500_000:
            proposal = propose(str(path))
            assert proposal.usable > len(proposal.facts.length) // 2, path


@pytest.mark.slow
def test_a_config_is_planned_and_run_to_the_end_as_it_was_written(table, call, tmp_path):
    frame = long().drop(index=range(20, 30))
    assert call("init", table(frame))[0] == 0
    status, out, _ = call("plan", "sales.yaml")
    assert status == 0
    assert re.search(r"task.horizon +│ 14 ", out)
    status, _, err = call("run", "sales.yaml", "--set", "train.max_steps=20", "--set", "resources.gpus=0")
    assert status == 0, err
    forecasts = pd.read_parquet(tmp_path / "runs" / "sales" / "forecasts")
    assert forecasts.groupby("unique_id").size().to_dict() == {"a": 14, "b": 14, "c": 14}
    assert forecasts["ds"].min() == DAYS[-1] + pd.Timedelta(days=1)
    assert (tmp_path / "runs" / "sales" / "report.html").exists()
