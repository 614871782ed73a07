"""The properties that stream, model and forecast table share."""

import pytest

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.load import override, parse_config, validate
from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.task import TRANSFORMS, Task, Vocabulary, input_spec, make_task
from dist_lstm.errors import UserError

VALUES = {
    "task": {
        "horizon": 3,
        "context_length": 12,
        "min_context": 5,
        "freq": "h",
        "season_length": 6,
        "levels": [95, 80],
    },
    "data": {"path": "a.csv"},
    "split": {"validation": 4, "test": 7},
}
CONFIG = parse_config(VALUES)


def test_a_task_has_the_settings_of_the_config_with_sorted_levels():
    assert make_task(CONFIG) == Task(
        horizon=3,
        context_length=12,
        min_context=5,
        freq=Frequency("h"),
        season_length=6,
        levels=(80.0, 95.0),
        validation=4,
        test=7,
        transformed=True,
    )


VOCABULARY = Vocabulary(series=9, categories=(("city", 3), ("kind", 2)), numbers=("size", "age", "price"))


def test_a_task_has_the_vocabulary_and_time_zone_of_the_shards():
    settings = {"model.scaling": "minmax", "model.scaling_by": "series", "model.series_embedding": 4}
    config = override(CONFIG, settings | {"model.calendar": True, "data.transform": "log1p"})
    task = make_task(config, VOCABULARY, "Europe/Berlin")
    assert (task.transformed, task.series_scaling, task.calendar) == (True, "minmax", True)
    assert (task.series, task.vocabulary, task.timezone) == (9, VOCABULARY, "Europe/Berlin")


def test_a_series_without_an_embedding_has_no_index():
    assert make_task(CONFIG, VOCABULARY).series == 0


@pytest.mark.parametrize(("transform", "transformed"), [("none", False), ("auto", True), ("difference", True)])
def test_series_are_transformed_unless_none_is(transform, transformed):
    assert make_task(override(CONFIG, {"data.transform": transform})).transformed == transformed


@pytest.mark.parametrize(
    ("freq", "expected"), [("h", True), ("D", True), ("MS", True), ("QS", True), ("YS", False), (1, False)]
)
def test_the_calendar_is_an_input_where_it_is_wanted_and_the_frequency_has_one(freq, expected):
    config = override(CONFIG, {"task.freq": freq})
    assert not make_task(config).calendar
    assert make_task(override(config, {"model.calendar": True})).calendar == expected


def test_a_split_of_zero_is_not_a_setting_left_out():
    task = make_task(override(CONFIG, {"split.validation": 0, "split.test": 0}))
    assert (task.validation, task.test) == (0, 0)


@pytest.mark.parametrize(
    "key",
    [
        "task.context_length",
        "task.min_context",
        "task.freq",
        "task.season_length",
        "split.validation",
        "split.test",
    ],
)
def test_a_config_with_a_length_left_out_is_not_resolved(key):
    values = override(CONFIG, {key: None}).model_dump()
    with pytest.raises(UserError, match=f"^a.yaml: {key}: "):
        validate(values, "a.yaml", ResolvedConfig)


@pytest.mark.parametrize(
    ("levels", "quantiles"),
    [
        ([], (0.5,)),
        ([80], (0.1, 0.5, 0.9)),
        ([95, 80], (0.025, 0.1, 0.5, 0.9, 0.975)),
        ([80, 80], (0.1, 0.5, 0.9)),
        ([50, 99.9], (0.0005, 0.25, 0.5, 0.75, 0.9995)),
    ],
)
def test_quantiles_are_the_bounds_of_central_intervals_and_the_median_in_rising_order(levels, quantiles):
    assert make_task(override(CONFIG, {"task.levels": levels})).quantiles == quantiles


@pytest.mark.parametrize("head", ["mae", "mse", "huber"])
def test_a_head_with_one_output_has_only_the_median(head):
    task = make_task(override(CONFIG, {"model.head": head}))
    assert task.levels == ()
    assert task.quantiles == (0.5,)


def test_a_model_without_covariates_has_only_the_raw_values_as_input():
    assert input_spec(make_task(override(CONFIG, {"data.transform": "none"}))) == {"y": ((12,), "float32")}


def test_the_model_has_all_inputs_of_the_task():
    settings = {"model.scaling": "robust", "model.scaling_by": "series"}
    settings |= {"model.series_embedding": 4, "model.calendar": True}
    assert input_spec(make_task(override(CONFIG, settings), VOCABULARY)) == {
        "y": ((12,), "float32"),
        "transform": ((2,), "int32"),
        "series_scale": ((2,), "float32"),
        "calendar": ((3,), "float32"),
        "series": ((1,), "int32"),
        "categories": ((2,), "int32"),
        "numbers": ((3,), "float32"),
    }


def test_transforms_are_all_combinations_of_log_and_base_the_weakest_first():
    bases = {"": 0, "difference": 1, "seasonal_difference": 2}
    pairs = {("_".join(["log1p"] * log + [base] * bool(base)) or "none"): (log, number)
             for base, number in bases.items() for log in (False, True)}  # fmt: skip
    assert dict(TRANSFORMS) == pairs
    assert next(iter(TRANSFORMS)) == "none"
