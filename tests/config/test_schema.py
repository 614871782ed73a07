"""Every setting is documented, bounded and frozen."""

import math

import pytest
from pydantic import BaseModel, ValidationError

from dist_lstm.config.load import flatten, override, parse_config
from dist_lstm.config.schema import Config, TaskSettings
from dist_lstm.config.task import TRANSFORMS
from dist_lstm.errors import UserError

CONFIG = parse_config({"task": {"horizon": 12}, "data": {"path": "a.csv"}})


def sections(section: type[BaseModel] = Config):
    """Every section, including nested ones."""
    yield section
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation)


FIELDS = [(section, name) for section in sections() for name in section.model_fields]


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_setting_has_a_sentence_as_its_description(section, name):
    description = section.model_fields[name].description or ""
    assert len(description) > 10
    assert description[0].isupper() or description[0] == "$"
    assert description.endswith(".")


@pytest.mark.parametrize("section", list(sections()))
def test_every_section_is_frozen_and_refuses_unknown_keys(section):
    assert section.model_config["frozen"]
    assert section.model_config["extra"] == "forbid"


def test_a_setting_can_not_be_assigned():
    with pytest.raises(ValidationError, match="frozen"):
        CONFIG.task.horizon = 3


def test_all_settings_except_horizon_and_path_may_be_left_out():
    required = {name for section, name in FIELDS if section.model_fields[name].is_required()}
    assert required == {"task", "data", "horizon", "path"}


# key, values at the bounds, values just beyond them
BOUNDS = [
    ("preset", ["fast", "good", "best"], ["slow", 1]),
    ("task.horizon", [1], [0, -1]),
    ("task.context_length", [1, None], [0]),
    ("task.min_context", [1, None], [0]),
    ("task.season_length", [1, None], [0]),
    ("task.levels", [[], [0.1], [99.9]], [[0], [100], [-1], [80, 101]]),
    ("data.columns.unique_id", ["a", None], [""]),
    ("data.columns.ds", ["a"], ["", None]),
    ("data.columns.y", ["a", ["a"], ["a", "b"]], ["", None, [], [""], ["a", None]]),
    ("data.path", ["a"], ["", None]),
    ("data.layout", ["long", "wide"], ["tall", None]),
    ("data.static_categories", [[], ["a", "b"]], ["a", [""], None]),
    ("data.static_numbers", [[], ["a", "b"]], ["a", [""], None]),
    ("data.timezone", ["UTC", "Europe/Berlin", "Etc/GMT-1", None], ["", "Mars", "+01:00", "Europe", "../x", 1]),
    ("data.ds_format", ["%Y%m%d", "%d/%m/%Y %H:%M", "s", "ms", "us", "ns", "step", None], ["", "D", "%", "%Q", 1]),
    ("data.trailing", ["drop", "missing"], ["keep", None]),
    ("data.shared_steps", [True, False], [None, 1]),
    ("data.csv.delimiter", ["comma", "semicolon", "tab", "pipe", "space", None], [",", ";", "", 1]),
    ("data.csv.comment", ["#", "%", ";", None], ["", "##", "a", "1", " ", "\n", '"', "é"]),
    ("data.csv.skip_lines", [0, 3], [-1, None, 1.5]),
    ("data.csv.encoding", ["cp1252", "latin-1", "utf-16", None], ["", "utf-9", "base64", "undefined", "\0", 1]),
    ("data.decimal", ["point", "comma"], [",", None]),
    ("data.thousands", ["comma", "space", "apostrophe", None], [".", ""]),
    ("data.missing_values", [[], ["-", "None"]], ["-", None, [None], [True], [["-"]]]),
    ("data.duplicates", ["error", "first", "last", "mean", "sum"], ["drop", None]),
    ("data.transform", ["auto", *TRANSFORMS], ["log", "", None]),
    ("data.memory_budget", [1], [0]),
    ("split.validation", [0, 12, None], [-1, 11]),
    ("split.test", [0, 12, None], [-1, 11]),
    ("split.validation_start", ["2024-05-01", 12, None], ["May", "2024-05-01T00:00Z", "", 1.5]),
    ("split.test_start", ["2024-05-01 12:00", -1, None], ["1.5.2024", "2024-13-01"]),
    ("model.segment_length", [1, None], [0]),
    ("model.units", [[1], [65536], [1, 1, 1], None], [[], [0], [65537]]),
    ("model.dropout", [0, 0.999], [-0.1, 1]),
    ("model.head", ["quantile", "mae", "mse", "huber"], ["median"]),
    ("model.scaling", ["standard", "robust", "minmax", "mean_abs", "level", "none", None], ["max"]),
    ("model.loss_unit", ["scale", "seasonal_change", None], ["mase"]),
    ("model.scaling_by", ["window", "series"], [None, "panel"]),
    ("model.decoder", ["direct", "segment", "recursive"], [None, "mlp"]),
    ("model.series_embedding", [0, 1, 1024], [-1, 1025, None]),
    ("model.id_dropout", [0, 0.999], [-0.1, 1]),
    ("model.members", [1, 256, None], [0, 257]),
    ("model.variants", [[], [{}], None], [3, ["a"]]),
    ("model.combination", ["median", "mean", "weights"], [None, "sum"]),
    ("train.batch_size", [1, "auto", None], [0, "all"]),
    ("train.accumulate", [1, 8], [0]),
    ("train.max_steps", [1], [0]),
    ("train.budget", [0.001, 1e9, None], [0, -1, float("nan"), "ten", "-5m"]),
    ("train.steps_per_epoch", [1, None], [0]),
    ("train.learning_rate", [1e-12, 1, "auto", None], [0, -1e-3, 1.1, "fast"]),
    ("train.ema", [0, 0.999], [-0.1, 1]),
    ("train.max_bad_steps", [1], [0]),
    ("train.precision", ["auto", "float32", "tf32", "float16", "bfloat16"], ["float64"]),
    ("train.checkpoint_every", [1, None], [0]),
    ("train.checkpoint_seconds", [0.1, None], [0]),
    ("train.keep_checkpoints", [1], [0]),
    ("train.warmup_steps", [0], [-1]),
    ("train.weight_decay", [0, 1], [-0.1, 1.1]),
    ("train.clip_norm", [1e-9], [0, -1]),
    ("train.patience", [1], [0]),
    ("train.window_sampling", ["series", "windows", "recent"], ["random"]),
    ("train.stride", [1], [0]),
    ("train.span", [0, 5, None], [-1, 1.5]),
    ("train.noise", [0, 1], [-0.1, 1.1]),
    ("train.mix", [0, 1], [-0.1, 1.1]),
    ("train.stretch", [0, 1], [-0.1, 1.1]),
    ("train.seed", [0, 2**31 - 1], [-1, 2**31]),
    ("train.steps_per_call", [1, "auto"], [0, -1, "all"]),
    ("backtest.windows", [1, None], [0]),
    ("backtest.stride", [1, None], [0]),
    ("backtest.baselines", [["SeasonalNaive"], ["SeasonalNaive", "Theta"]], ["Theta", ["theta"], None]),
    ("combine", [[], ["Theta", "Naive"]], ["Theta", ["theta"]]),
    ("search.space", [{}, {"model.dropout": {"uniform": (0, 0.5)}}], [3, {"model.dropout": {"uniform": [0, 1]}}]),
    ("search.algorithm", ["optuna", "random", "grid", "pbt"], ["tpe", None]),
    ("search.num_samples", [1], [0, None]),
    ("search.grace_epochs", [1], [0]),
    ("search.max_concurrent", [1, None], [0]),
    ("search.time_budget", [0.1, None], [0, -1]),
    ("search.cpus", [0.5, 8], [0, -1]),
    ("search.gpus", [0, 0.25, 1, 2], [-1, 1.5]),
    ("search.max_failures", [0], [-1]),
    ("search.trial_timeout", [0.1], [0]),
    ("search.final", ["take", "train", "none"], [None, "best"]),
    ("search.seed", [0, 2**31 - 1], [-1, 2**31]),
    ("resources.gpus", [0, 8, "auto"], [-1, "all"]),
    ("resources.nodes", [1, 64], [0]),
    ("resources.threads", [1, "auto"], [0, "all"]),
    ("fleet.by", ["series", "cluster"], ["", "shop", [], None]),
    ("fleet.group", ["cluster", None], ["series", []]),
    ("fleet.clusters", [1, "auto"], [0, "all"]),
    (
        "fleet.settings",
        [{}, {"train.max_steps": 5}],
        [{"task.horizon": 3}, {"model.head": "mae"}, {"model.members": 2}],
    ),
    ("fleet.init_from", [None, "runs/a"], []),
    ("fleet.skill_gate", [-10, 0.99, None], [-11, 1]),
    ("fleet.max_packs", [1, 10_000], [0, 10_001]),
    ("fleet.slots", [1, "auto"], [0, "all"]),
    ("fleet.cpus", [0.1], [0]),
    ("fleet.gpus", [0, 1], [-0.1, 1.1]),
    ("fleet.max_failures", [0], [-1]),
]


@pytest.mark.parametrize(("key", "inside", "beyond"), BOUNDS)
def test_values_are_accepted_up_to_their_bounds_and_refused_beyond(key, inside, beyond):
    for value in inside:
        actual = dict(flatten(override(CONFIG, {key: value})))[key]
        assert key == "data.path" or actual == (tuple(value) if isinstance(value, list) else value)
    for value in beyond:
        with pytest.raises(UserError, match=key):
            override(CONFIG, {key: value})


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), (" 1.5 h", 5400)])
def test_a_budget_may_be_given_with_a_unit(text, seconds):
    assert override(CONFIG, {"train.budget": text}).train.budget == seconds


def test_the_limit_of_each_training_that_version_0_1_0_had_is_its_share_of_the_budget():
    values = {"task": {"horizon": 1}, "data": {"path": "a.csv"}}
    assert parse_config(values | {"train": {"max_seconds": 60}}).train.budget == 120
    assert parse_config(values | {"train": {"max_seconds": 60, "refit": False}}).train.budget == 60
    assert parse_config(values | {"train": {"max_seconds": None}}).train.budget is None


def test_the_bounds_of_every_setting_are_tested():
    yes_or_no = {
        f"model.{name}"
        for name in ("bidirectional", "linear", "residual", "calendar", "fill_missing", "statistics")
    }
    unbounded = {
        "task.freq",
        "train.deterministic",
        "train.refit",
        "train.profile",
        "fleet.global_model",
        "search.early_stopping",
        *yes_or_no,
    }
    assert {key for key, _ in flatten(CONFIG)} == {key for key, _, _ in BOUNDS} | unbounded


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "key", ["model.dropout", "model.id_dropout", "train.learning_rate", "train.weight_decay", "train.clip_norm"]
)
def test_a_setting_is_a_finite_number(key, value):
    with pytest.raises(UserError, match=f"{key}: .*(finite|above 0 and at most 1)"):
        override(CONFIG, {key: value})


@pytest.mark.parametrize(("context", "segment"), [(10, 4), (3, 4), (25, 24), (23, 12)])
def test_a_context_that_is_not_a_multiple_of_the_segment_is_refused_with_valid_lengths(context, segment):
    with pytest.raises(UserError, match="is not a multiple of model") as error:
        override(CONFIG, {"task.context_length": context, "model.segment_length": segment})
    *_, first, _, second = str(error.value).split()
    for length in (int(first), int(second)):
        changed = override(CONFIG, {"task.context_length": length, "model.segment_length": segment})
        assert changed.task.context_length == length


def test_a_context_that_is_a_multiple_of_the_segment_is_accepted():
    changed = override(CONFIG, {"task.context_length": 12, "model.segment_length": 4})
    assert (changed.task.context_length, changed.model.segment_length) == (12, 4)


def test_a_minimum_context_above_the_context_is_refused():
    assert override(CONFIG, {"task.context_length": 5, "task.min_context": 5}).task.min_context == 5
    with pytest.raises(UserError, match=r"task.min_context 6 is above task.context_length 5"):
        override(CONFIG, {"task.context_length": 5, "task.min_context": 6})


@pytest.mark.parametrize("value", [2024, True, {"a": 1}])
def test_a_column_that_is_neither_a_name_nor_a_list_is_refused_once(value):
    with pytest.raises(UserError, match=r"data\.columns\.y: ") as error:
        override(CONFIG, {"data.columns.y": value})
    assert str(error.value).count("data.columns.y") == 1


def test_the_most_similar_zone_is_suggested_for_an_unknown_one():
    with pytest.raises(
        UserError, match=r"'Europe/Berln' is not a zone of the IANA database; did you mean Europe/Berlin"
    ):
        override(CONFIG, {"data.timezone": "Europe/Berln"})
    with pytest.raises(UserError) as error:
        override(CONFIG, {"data.timezone": "x" * 100_000})
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("level", [0.001, 99.999, 80.123])
def test_a_level_with_more_than_two_decimals_is_refused(level):
    with pytest.raises(ValidationError, match="at most 2 decimals"):
        TaskSettings(horizon=1, levels=(level,))


def test_the_seasonal_naive_forecast_is_always_among_the_baselines_and_each_is_there_once():
    for given, expected in (([], ()), (["Theta", "Theta"], ("Theta",)), (["Drift", "SeasonalNaive"], ("Drift",))):
        config = parse_config({"task": {"horizon": 1}, "data": {"path": "x"}, "backtest": {"baselines": given}})
        assert config.backtest.baselines == ("SeasonalNaive", *expected)


def test_a_baseline_is_combined_once():
    config = override(CONFIG, {"combine": ["Theta", "Drift", "Theta"]})
    assert config.combine == ("Theta", "Drift")
