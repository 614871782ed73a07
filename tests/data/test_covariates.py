"""Static covariates, vocabularies and scales, against loops over single values."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.task import TRANSFORMS, Vocabulary, input_spec
from dist_lstm.data import covariates
from dist_lstm.data.covariates import StaticValues, encode_statics, series_inputs
from dist_lstm.data.panel import STATIC, Panel, make_panel
from dist_lstm.data.shards import statistics
from dist_lstm.errors import UserError
from tests.data.conftest import to_table

NAN = np.nan


def panel_of(**statics: list) -> Panel:
    """A panel of one step a series, with the given static covariates: text or numbers."""
    number = len(next(iter(statics.values())))
    facts = {
        STATIC + name: np.array(values, object if any(isinstance(one, str) for one in values) else np.float64)
        for name, values in statics.items()
    }
    names = np.array([f"s{position}" for position in range(number)], object)
    return Panel(names, np.zeros(number, np.int64), np.ones(number, np.float32), np.arange(number + 1), facts)


def collected(*panels: Panel) -> tuple[dict[str, list[str]], dict[str, tuple[float, float]]]:
    values = StaticValues()
    for panel in panels:
        values.add(panel)
    return values.vocabulary()


def statics_of(frame: pd.DataFrame) -> dict[str, dict]:
    """Static covariates that `make_panel` finds, by name and series; missing is None."""
    panel = make_panel(to_table(frame), Frequency(1), "first")
    return {
        key.removeprefix(STATIC): {
            name: None if pd.isna(value) else value for name, value in zip(panel.unique_id, values, strict=True)
        }
        for key, values in panel.facts.items()
    }


VALUES = {"city": st.sampled_from(["Ulm", "Bonn", "", "NA", None]), "size": st.sampled_from([1.5, -2.0, 0.0, NAN])}


@settings(deadline=None, max_examples=60)
@given(
    cities=st.dictionaries(st.sampled_from("abcd"), VALUES["city"], min_size=1),
    sizes=st.dictionaries(st.sampled_from("abcd"), VALUES["size"], min_size=4),
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans()), min_size=1, max_size=20),
)
def test_a_static_covariate_is_the_one_value_in_the_rows_of_a_series(cities, sizes, rows):
    frame = pd.DataFrame(
        [
            # A row may leave out what another row of its series says.
            (name, step, 1.0, cities.get(name) if city else None, sizes[name] if size else NAN)
            for step, (name, city, size) in enumerate(rows)
        ],
        columns=["unique_id", "ds", "y", "city", "size"],
    ).astype({"city": object})
    expected: dict[str, dict] = {"city": {}, "size": {}}
    for name in sorted(set(frame["unique_id"])):
        mine = frame[frame["unique_id"] == name]
        for column, actual in expected.items():
            observed = [one for one in mine[column] if not pd.isna(one)]
            actual[name] = observed[0] if observed else None
    assert statics_of(frame) == expected


@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [("city", ["Ulm", None, "Bonn"], "'Ulm' and 'Bonn'"), ("size", [1.0, NAN, 2.5], "1.0 and 2.5")],
)
def test_a_static_covariate_that_changes_within_a_series_is_refused_in_one_line(column, values, shown):
    frame = pd.DataFrame({"unique_id": ["b", "a", "a", "a"], "ds": [0, 0, 1, 2], "y": 1.0})
    frame[column] = [values[0], *values]
    with pytest.raises(UserError) as error:
        make_panel(to_table(frame), Frequency(1), "error")
    expected = f"data.path: the static covariate {column!r} changes within unique_id 'a': {shown}; "
    assert str(error.value) == expected + "give each series one value"


def test_a_series_taken_from_a_panel_keeps_its_facts():
    panel = panel_of(city=["Ulm", "Bonn", None], size=[1.0, 2.0, 3.0])
    some = panel.take(np.array([True, False, True]))
    assert some.facts[STATIC + "city"].tolist() == ["Ulm", None]
    assert some.facts[STATIC + "size"].tolist() == [1.0, 3.0]


def test_a_vocabulary_is_every_value_once_in_order_whatever_the_panels():
    first, second = panel_of(city=["Ulm", "Bonn", None, "Ulm"]), panel_of(city=["Aachen", "ulm"])
    assert collected(first, second) == ({"city": ["Aachen", "Bonn", "Ulm", "ulm"]}, {})
    assert collected(second, first) == collected(first, second)


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.just(NAN), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30)),
)
def test_mean_and_deviation_are_those_of_all_values_whatever_the_panels(values, cuts):
    bounds = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    parts = [values[first:last] for first, last in pairwise(bounds) if last > first]
    _, numbers = collected(*(panel_of(size=part) for part in parts))
    observed = [one for one in values if not math.isnan(one)]
    mean = sum(observed) / len(observed) if observed else 0.0
    deviation = math.sqrt(sum((one - mean) ** 2 for one in observed) / len(observed)) if observed else 0.0
    np.testing.assert_allclose(numbers["size"], (mean, deviation), rtol=1e-5, atol=1e-5 * (1 + abs(mean)))


@pytest.mark.parametrize("value", [0.1, 1e-30, 3e38, -2019.7, 0.0])
@pytest.mark.parametrize("number", [1, 3, 1000])
def test_a_number_that_is_the_same_everywhere_has_no_deviation_and_is_shifted_only(value, number):
    panel = panel_of(size=[value] * number)
    _, numbers = collected(panel)
    assert numbers["size"][1] == 0
    np.testing.assert_allclose(encode_statics(panel, {}, numbers)[STATIC + "size"], 0, atol=1e-9 * abs(value))
    later = encode_statics(panel_of(size=[value + 2.0]), {}, numbers)[STATIC + "size"]
    assert later == pytest.approx(2.0, rel=1e-5) or abs(value) > 1e30


def test_values_are_numbered_from_one_and_what_the_vocabulary_lacks_is_zero():
    actual = encode_statics(panel_of(city=["Ulm", "Rome", None, "Bonn", "Ulm"]), {"city": ["Bonn", "Ulm"]}, {})
    assert actual[STATIC + "city"].tolist() == [2, 0, 0, 1, 2]
    assert actual[STATIC + "city"].dtype == np.int32


def test_one_and_zero_are_the_booleans_of_a_vocabulary_that_has_only_those():
    panel = panel_of(open=["1", "0", "true", None, "2"])
    assert encode_statics(panel, {"open": ["false", "true"]}, {})[STATIC + "open"].tolist() == [2, 1, 2, 0, 0]
    assert encode_statics(panel, {"open": ["false", "true", "x"]}, {})[STATIC + "open"].tolist() == [0, 0, 2, 0, 0]


def test_numbers_are_standardised_and_missing_ones_stay_missing():
    actual = encode_statics(panel_of(size=[10.0, NAN, 4.0, 1000.0]), {}, {"size": (10.0, 3.0)})
    np.testing.assert_allclose(actual[STATIC + "size"], [0, NAN, -2, 330], rtol=1e-6)
    assert actual[STATIC + "size"].dtype == np.float32


def test_a_column_of_names_is_not_a_category(monkeypatch):
    monkeypatch.setattr(covariates, "_MOST_CATEGORIES", 3)
    panels = [panel_of(city=["a", "b"]), panel_of(city=["b", "c"]), panel_of(city=["d"])]
    assert collected(*panels[:2])[0] == {"city": ["a", "b", "c"]}
    with pytest.raises(
        UserError, match=r"data\.static_categories: 'city' has more than 3 different values; leave"
    ):
        collected(*panels)


SCALES = {
    "standard": lambda y: (np.mean(y), np.std(y)),
    "robust": lambda y: (
        np.median(y),
        np.subtract(*np.percentile(y, [75, 25])) if np.ptp(np.percentile(y, [75, 25])) else np.std(y),
    ),
    "minmax": lambda y: (np.min(y), np.max(y) - np.min(y)),
    "mean_abs": lambda y: (0.0, np.mean(np.abs(y))),
    "none": lambda y: (0.0, 1.0),
}


@pytest.mark.parametrize("method", SCALES)
def test_location_and_scale_are_those_of_the_training_range_in_logs_where_the_log_is_taken(
    method, make_panel_of, make_task
):
    generator = np.random.default_rng(0)
    values = [generator.normal(50, 9, 30), [*[5.0] * 20, 9.0], generator.normal(-3, 1, 9), np.exp(np.arange(20.0))]
    values[0][[3, 4]] = NAN
    logged = np.array([False, False, False, True])
    panel = make_panel_of(*values)
    end = np.array([20, 21, 9, 15])
    panel = replace(panel, facts=statistics(panel, end, 2, logged))
    task = make_task(series_scaling=method)
    actual = series_inputs(panel, task)["series_scale"]
    assert actual.shape == (4, 2)
    assert actual.dtype == np.float32
    for row, (one, last, log) in enumerate(zip(values, end, logged, strict=True)):
        seen = np.array(one[:last])[~np.isnan(one[:last])].astype(np.float32).astype(np.float64)
        seen = np.log1p(seen) if log else seen
        np.testing.assert_allclose(actual[row], SCALES[method](seen), rtol=1e-5)


@pytest.mark.parametrize("method", ["standard", "robust", "minmax"])
@pytest.mark.parametrize("values", [[7.3] * 20, [1e30] * 20, [NAN] * 20, [0.0] * 20, [1e7, 1e7 + 1] * 10], ids=str)
def test_a_training_range_that_does_not_vary_or_is_empty_has_no_scale(method, values, make_panel_of, make_task):
    panel = make_panel_of(values, values)
    panel = replace(panel, facts=statistics(panel, np.array([20, 0]), 2, np.zeros(2, bool)))
    assert np.isnan(series_inputs(panel, make_task(series_scaling=method))["series_scale"]).all()


def test_series_inputs_are_those_that_the_task_has(make_panel_of, make_task):
    panel = make_panel_of([1.0], [2.0], [3.0])
    facts = {
        "transform": np.array(["none", "log1p_seasonal_difference", "difference"], object),
        "series": np.array([5, 0, 7]),
        STATIC + "city": np.array([2, 0, 1], np.int32),
        STATIC + "kind": np.array([1, 1, 0], np.int32),
        STATIC + "size": np.array([0.5, NAN, -1], np.float32),
    }
    vocabulary = Vocabulary(9, (("kind", 1), ("city", 2)), ("size",))
    task = make_task(transformed=True, series=9, vocabulary=vocabulary)
    actual = series_inputs(replace(panel, facts=facts), task)
    expected = {
        "transform": [[0, 0], [1, 2], [0, 1]],
        "series": [[5], [0], [7]],
        "categories": [[1, 2], [1, 0], [0, 1]],
        "numbers": [[0.5], [NAN], [-1]],
    }
    assert list(actual) == list(expected) == [name for name in input_spec(task) if name != "y"]
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], np.array(values, np.float32))
        shape, kind = input_spec(task)[name]
        assert actual[name].dtype == kind
        assert actual[name].shape == (3, *shape)
    assert series_inputs(panel, make_task()) == {}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_is_an_input_of_log_and_base(name, make_panel_of, make_task):
    panel = replace(make_panel_of([1.0]), facts={"transform": np.array([name], object)})
    base = {"seasonal": 2, "difference": 1}.get(name.removeprefix("log1p").strip("_").split("_")[0], 0)
    actual = series_inputs(panel, make_task(transformed=True))["transform"]
    assert actual.tolist() == [[int(name.startswith("log1p")), base]]
