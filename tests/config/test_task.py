"""What stream, model and forecast table agree on."""

import pytest

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.load import override, parse_config
from dist_lstm.config.task import Task, input_spec, make_task

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


def test_a_task_holds_what_the_config_says_with_rising_levels():
    assert make_task(CONFIG) == Task(
        horizon=3,
        context_length=12,
        min_context=5,
        freq=Frequency("h"),
        season_length=6,
        levels=(80.0, 95.0),
        validation=4,
        test=7,
    )


def test_a_split_of_zero_is_no_setting_left_out():
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
def test_a_config_with_a_length_left_out_makes_no_task(key):
    with pytest.raises(ValueError, match="not resolved"):
        make_task(override(CONFIG, {key: None}))


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
def test_quantiles_are_the_ends_of_central_intervals_and_the_median_rising(levels, quantiles):
    assert make_task(override(CONFIG, {"task.levels": levels})).quantiles == quantiles


@pytest.mark.parametrize("head", ["mae", "mse", "huber"])
def test_a_head_of_one_number_has_the_median_alone(head):
    task = make_task(override(CONFIG, {"model.head": head}))
    assert task.levels == ()
    assert task.quantiles == (0.5,)


def test_the_model_reads_the_raw_values_of_the_context():
    assert input_spec(make_task(CONFIG)) == {"y": ((12,), "float32")}
