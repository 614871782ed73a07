"""YAML and `--set` to a checked config."""

import hashlib
import re
from pathlib import Path

import pytest

from dist_lstm.config import load
from dist_lstm.config.load import (
    MAX_BYTES,
    differences,
    dump_config,
    fingerprint,
    flatten,
    load_config,
    override,
    parse_config,
)
from dist_lstm.errors import UserError

MINIMAL = "task: {horizon: 2}\ndata: {path: a.csv}\n"
CONFIG = parse_config({"task": {"horizon": 2}, "data": {"path": "a.csv"}})
SPLIT = "expected one of validation, test, validation_start, test_start"
BOOLEAN = ("data.shared_steps", "model.bidirectional", "model.linear", "model.residual", "model.calendar",
           "model.fill_missing", "model.statistics", "train.deterministic", "train.refit", "train.profile",
           "fleet.global_model", "search.early_stopping")  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """Load a config from its text."""

    def read_text(text: str | bytes, *settings: str):
        path = tmp_path / "job.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path, settings)

    return read_text


def refusal(read, text: str | bytes, *settings: str) -> str:
    with pytest.raises(UserError) as error:
        read(text, *settings)
    return str(error.value)


def test_a_whole_number_may_have_an_exponent_in_the_file_and_after_set(read):
    assert read(MINIMAL + "train: {max_steps: 1e3}\n").train.max_steps == 1000
    assert read(MINIMAL, "train.max_steps=1e3").train.max_steps == 1000


def test_a_learning_rate_of_1e_3_is_the_same_from_file_set_and_override(read):
    in_file = read(MINIMAL + "train: {learning_rate: 1e-3}\n")
    assert isinstance(in_file.train.learning_rate, float)
    assert in_file.train.learning_rate == 0.001
    start = read(MINIMAL + "train: {learning_rate: 0.5}\n")
    assert read(MINIMAL, "train.learning_rate=1e-3") == in_file
    assert override(start, {"train.learning_rate": 1e-3}) == in_file


def test_a_file_is_read_up_to_the_maximum_size_and_refused_above_it(read):
    full = MINIMAL + "#" * (MAX_BYTES - len(MINIMAL))
    assert read(full).task.horizon == 2
    assert refusal(read, full + "#").endswith(f"is larger than {MAX_BYTES:,} bytes, which no config file needs")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected sections such as task: and data:"),
        ("- 1\n", "expected sections such as task: and data:, got list"),
        ("task: {horizon: 2\n", "line 2, column 1: not valid YAML: "),
        (MINIMAL + "train: {refit: yes}\n", "line 3, column 16: yes has different meanings"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
        ("data: {path: a.csv}\n", "task is missing"),
        ("task:\ndata: {path: a.csv}\n", "task is missing"),
        ("task: {freq: h}\ndata: {path: a.csv}\n", "task.horizon is missing"),
        ("task: {horizon: 2}\n", "data is missing"),
        (MINIMAL + "train: 5\n", "train: expected settings, got 5"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_is_not_a_config_is_refused_with_its_name_and_the_reason(read, text, reason):
    message = refusal(read, text)
    assert "job.yaml: " in message
    assert reason in message


@pytest.mark.parametrize(("name", "reason"), [("missing.yaml", "No such file"), (".", "Is a directory")])
def test_a_config_that_can_not_be_opened_is_named(tmp_path, name, reason):
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path / name))}: the config can't be read: {reason}"):
        load_config(tmp_path / name)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("train: {learning_rte: 1}", "train.learning_rte is not a setting; did you mean train.learning_rate?"),
        ("trian: {seed: 1}", "trian is not a setting; did you mean train?"),
        ("train: {lr: 1}", "train.lr is not a setting; did you mean train.learning_rate?"),
        ("train: {epochs: 1}", "train.epochs is not a setting; did you mean train.max_steps?"),
        ("model: {input_size: 1}", "model.input_size is not a setting; did you mean task.context_length?"),
        ("lookback: 1", "lookback is not a setting; did you mean task.context_length?"),
        ("split: {dropout: 1}", "split.dropout is not a setting; did you mean model.dropout?"),
        (
            "split: {stride: 1}",
            f"split.stride is not a setting; {SPLIT}",
        ),  # two have one
        (
            "split: {zzz: 1}",
            f"split.zzz is not a setting; {SPLIT}",
        ),
        (
            "split: {int: 1}",
            f"split.int is not a setting; {SPLIT}",
        ),
        ("model: {unit: [1]}", "model.unit is not a setting; did you mean model.units?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_most_similar_one_or_all_keys(read, extra, expected):
    assert refusal(read, MINIMAL + extra).endswith(expected)


def test_names_of_other_tools_lead_to_existing_settings():
    settings = {key for key, _ in flatten(parse_config({"task": {"horizon": 1}, "data": {"path": "a.csv"}}))}
    others = [name for names in load._OTHER_NAMES.values() for name in names]
    assert load._OTHER_NAMES.keys() <= settings
    assert len(others) == len(set(others)), "a name leads to one setting"


def test_an_unknown_key_two_levels_down_is_refused(read):
    message = refusal(read, "task: {horizon: 2}\ndata: {path: a.csv, columns: {id: x}}\n")
    assert "data.columns.id is not a setting; " in message


def test_a_section_with_every_line_commented_out_equals_one_left_out(read):
    assert read(MINIMAL + "train:\n  # seed: 2\n") == read(MINIMAL)
    assert read(MINIMAL + "train:\n", "train.seed=2").train.seed == 2


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("task.horizon=abc", "task.horizon: input should be a valid integer, .* got 'abc'"),
        ("task.horizon=2.5", "task.horizon: .*, got 2.5"),
        ("task.horizon=", "task.horizon: .*, got None"),
        ("task.horizon=[1]", r"task.horizon: .*, got \[1\]"),
        ("task.horizon=1e400", "task.horizon: .*finite"),
        ("task.freq=[h]", r"task.freq: .*, got \['h'\]"),
        ("task.levels=80", "task.levels: .*, got 80"),
        ("task.levels=[a]", "task.levels.0: .*, got 'a'"),
        ("model.units=128", "model.units: .*, got 128"),
        ("model.head=median", "model.head: input should be 'quantile', 'mae', 'mse' or 'huber', got 'median'"),
        ("combine=[theta]", "combine.0: input should be 'SeasonalNaive', .* or 'DampedTrend', got 'theta'"),
        ("train.refit=1", "train.refit: .*boolean, got 1"),
        (
            "train.steps_per_call=0",
            "train.steps_per_call: input should be 'auto' or a whole number of at least 1, got 0",
        ),
        ("resources.gpus=-1", "resources.gpus: input should be 'auto' or a whole number of at least 0, got -1"),
        ("resources.gpus=all", "resources.gpus: .*, got 'all'"),
        ("data.columns.y=2024", "data.columns.y: .*string, got 2024"),
        ("task=3", "task: expected settings, got 3"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_key_and_value(read, setting, expected):
    assert re.search(f"with --set: {expected}", refusal(read, MINIMAL, setting))


def test_a_long_value_is_shortened_in_the_error(read):
    message = refusal(read, MINIMAL + "model: {head: " + "x" * 100_000 + "}\n")
    assert "model.head" in message
    assert len(message) < 500


def test_the_first_five_mistakes_are_named_and_the_others_counted(read):
    message = refusal(read, MINIMAL + "split: {" + ", ".join(f"s{n}: 1" for n in range(7)) + "}\n")
    assert [name in message for name in ("s0", "s4", "s5")] == [True, True, False]
    assert message.endswith("; and 2 more")


@pytest.mark.parametrize("key", [key for key, _ in flatten(CONFIG) if key not in BOOLEAN])
def test_true_is_not_accepted_by_a_setting_that_is_not_boolean(key):
    with pytest.raises(UserError, match=re.escape(key)):
        override(CONFIG, {key: True})


@pytest.mark.parametrize("key", BOOLEAN)
def test_a_boolean_setting_accepts_only_true_and_false(key):
    assert dict(flatten(override(CONFIG, {key: True})))[key] is True
    # The default of one is derived, and may be left to it.
    for value in (1, 0, "true", *(() if key == "model.statistics" else (None,))):
        with pytest.raises(UserError, match=key):
            override(CONFIG, {key: value})


@pytest.mark.parametrize("setting", ["task.horizon", "=3", " =3", ".=3", "task.=3", ".horizon=3", ""])
def test_a_set_without_key_or_equals_sign_is_refused(read, setting):
    assert refusal(read, MINIMAL, setting) == f"--set {setting}: expected section.key=value"


@pytest.mark.parametrize("value", ["[1", "*a", "{a: 1, a: 2}", "!!python/none x"])
def test_a_set_with_invalid_yaml_is_refused_with_its_key(read, value):
    assert refusal(read, MINIMAL, f"task.horizon={value}").startswith("--set task.horizon: ")


def test_a_format_of_time_stamps_needs_no_quotes_after_set(read):
    assert read(MINIMAL, "data.ds_format=%Y%m%d").data.ds_format == "%Y%m%d"


def test_a_set_below_a_single_value_is_refused(read):
    assert refusal(read, MINIMAL, "task.horizon.x=3") == "task.horizon.x: horizon is a single value, not a section"


def test_the_last_of_two_sets_of_a_key_counts(read):
    assert read(MINIMAL, "task.horizon=3", "task.horizon=4").task.horizon == 4


def test_a_set_is_read_as_yaml_and_makes_the_section_it_needs(read):
    actual = read(MINIMAL, "model.units=[8, 16]", "model.head=mae", "data.columns.unique_id=null", "split.test=4")
    assert actual.model.units == (8, 16)
    assert actual.model.head == "mae"
    assert actual.data.columns.unique_id is None
    assert actual.split.test == 4


def test_only_the_first_equals_sign_of_a_set_separates(read):
    assert Path(read(MINIMAL, "data.path=a=b.csv").data.path).name == "a=b.csv"


def test_a_relative_path_is_made_absolute_once_when_the_config_is_loaded(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = read("task: {horizon: 2}\ndata: {path: sub/a.csv}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert override(loaded, {"task.horizon": 3}).data.path == str(tmp_path / "sub" / "a.csv")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$FOLDER/a.csv", "/some/folder/a.csv"),
        ("${FOLDER}/*.csv", "/some/folder/*.csv"),
        ("s3://$BUCKET/a.csv", "s3://some-bucket/a.csv"),
        ("~/a.csv", "/home/someone/a.csv"),
        ("file:///a/../b.csv", "file:///a/../b.csv"),
    ],
)
def test_variables_and_the_home_folder_are_expanded_and_a_uri_is_left_alone(monkeypatch, path, expected):
    monkeypatch.setenv("FOLDER", "/some/folder")
    monkeypatch.setenv("BUCKET", "some-bucket")
    monkeypatch.setenv("HOME", "/home/someone")
    assert override(CONFIG, {"data.path": path}).data.path == expected


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("$NOT_SET/a.csv", r"\$NOT_SET is not set"),
        ("/x/${NOT_SET}.csv", r"\$\{NOT_SET\} is not set"),
        ("~nobody-of-this-name/a.csv", "no such user"),
    ],
)
def test_a_path_that_can_not_be_expanded_is_refused(monkeypatch, path, reason):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(UserError, match=f"^data.path: .*{reason}"):
        override(CONFIG, {"data.path": path})


def test_override_does_not_change_the_config_it_starts_from():
    before = CONFIG.model_dump()
    changed = override(CONFIG, {"train.learning_rate": 0.5, "data.columns.y": "value"})
    assert CONFIG.model_dump() == before
    assert changed.train.learning_rate == 0.5
    assert changed.data.columns.y == "value"
    assert override(changed, {"train.learning_rate": None, "data.columns.y": "y"}) == CONFIG


@pytest.mark.parametrize(
    "changes", [{"train.rate": 1}, {"horizon": 1}, {"task.horizon": 0}, {"task.horizon.x": 1}]
)
def test_override_checks_as_loading_does(changes):
    with pytest.raises(UserError, match=next(iter(changes)).replace(".", r"\.")):
        override(CONFIG, changes)


def test_a_dumped_config_is_read_back_the_same(read):
    changes = {"task.levels": [50, 99.9], "task.freq": "QS", "model.units": [1, 2], "train.learning_rate": 1e-12,
               "data.columns.unique_id": None, "data.path": "/a b/ü: #.csv", "train.refit": False}  # fmt: skip
    changed = override(CONFIG, changes)
    for config in (CONFIG, changed):
        assert read(dump_config(config)) == config
    assert "learning_rate: 1e-12\n" in dump_config(changed)


def test_flatten_gives_every_setting_once_in_the_order_of_the_schema():
    keys = [key for key, _ in flatten(CONFIG)]
    leaves = []
    for section, values in CONFIG.model_dump().items():
        for name, value in values.items() if isinstance(values, dict) else ():
            leaves += (
                [f"{section}.{name}.{inner}" for inner in value]
                if isinstance(value, dict) and value
                else [f"{section}.{name}"]
            )
        leaves += [] if isinstance(values, dict) else [section]
    assert keys == leaves


def test_differences_name_each_setting_that_changes_the_work_in_the_order_of_the_schema():
    other = override(CONFIG, {"train.seed": 7, "task.horizon": 3, "resources.gpus": 0})
    assert differences(CONFIG, other) == ["task.horizon is 2, not 3", "train.seed is 1, not 7"]
    assert differences(CONFIG, CONFIG) == []


@pytest.mark.parametrize(
    ("key", "value"), [("resources.gpus", 0), ("train.steps_per_call", 3), ("train.checkpoint_every", 7)]
)
def test_settings_without_an_effect_on_the_result_are_not_a_difference(key, value):
    assert differences(CONFIG, override(CONFIG, {key: value})) == []


def test_the_memory_budget_is_a_difference_because_the_sampling_of_windows_depends_on_it():
    changed = override(CONFIG, {"data.memory_budget": 5})
    assert differences(CONFIG, changed) == ["data.memory_budget is 1024, not 5"]


def test_a_fingerprint_depends_on_values_and_not_on_their_order():
    values = {"b": [1, "x"], "a": None}
    expected = hashlib.sha256(b'{"a": null, "b": [1, "x"]}').hexdigest()[:16]
    assert fingerprint(values) == fingerprint({"a": None, "b": [1, "x"]}) == expected
    assert fingerprint({"a": None, "b": ["x", 1]}) != expected
