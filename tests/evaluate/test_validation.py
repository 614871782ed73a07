"""The score by which models of any scaling, head and context are compared, against plain loops."""

import numpy as np
import pytest

from dist_lstm.config.load import override
from dist_lstm.evaluate import validation
from dist_lstm.evaluate.validation import make_scorer, scaled_errors
from tests.evaluate.conftest import Prepared, series

HORIZON, SEASON = 3, 4
SETTINGS = {
    "task__horizon": HORIZON,
    "task__context_length": 8,
    "task__season_length": SEASON,
    "task__freq": 1,
    "split__validation": 9,
    "split__test": 6,
    "data__transform": "none",
}


class LastValue:
    """A model that forecasts the last value of its context, and quantiles a unit apart around it."""

    def __init__(self, quantiles: int) -> None:
        self._quantiles = quantiles
        self.traced = 0

    def __call__(self, inputs, training):
        import tensorflow as tf

        assert training is False
        self.traced += 1
        last = tf.repeat(inputs["y"][:, -1:, None], HORIZON, axis=1)
        return {"forecast": last + tf.range(self._quantiles, dtype=last.dtype) - self._quantiles // 2}


@pytest.fixture(scope="module")
def prepared(prepare_frame) -> Prepared:
    import pandas as pd

    generator = np.random.default_rng(1)
    walks = [
        series(name, generator.normal(size=60).cumsum() * scale, 0, 1) for name, scale in (("a", 1), ("b", 100))
    ]
    gaps = series("gaps", generator.normal(size=60), 0, 1)
    gaps.loc[[47, 49], "y"] = np.nan
    constant, short = series("constant", np.full(60, 5.0), 0, 1), series("short", [1.0, 2.0, 4.0], 0, 1)
    return prepare_frame(pd.concat([*walks, gaps, constant, short]), **SETTINGS)


def slow_score(prepared: Prepared) -> float:
    """Mean over series of the mean over their windows, by loops over the table."""
    result = []
    for name, table in prepared.frame.groupby("unique_id"):
        y = table["y"].to_numpy()
        end = len(y) - 6
        train = y[: end - 9]
        seasonal = [abs(one - before) for one, before in zip(train[SEASON:], train[:-SEASON], strict=True)]
        scale = np.nanmean(seasonal) if seasonal else 0.0
        if name == "short" or not scale > 0:
            continue
        errors = []
        for cutoff in (end - 9, end - 7, end - 5, end - 3):
            window = [abs(one - y[cutoff - 1]) for one in y[cutoff : cutoff + HORIZON] if one == one]
            errors.append(np.mean(window) / scale)
        result.append(np.mean(errors))
    return float(np.mean(result))


@pytest.mark.parametrize("head", ["quantile", "mae"])
def test_it_is_the_mean_over_series_of_the_scaled_errors_of_the_median_forecast(prepared, head):
    task = prepared.shards.make_task(override(prepared.config, {"model.head": head}))
    score = make_scorer(prepared.shards, task, task.min_context, seed=1)(LastValue(len(task.quantiles)))
    assert score == pytest.approx(slow_score(prepared), rel=1e-5)


def test_it_does_not_depend_on_the_context_length(prepared):
    scores = []
    for context in (4, 8, 40):
        task = prepared.shards.make_task(override(prepared.config, {"task.context_length": context}))
        scores.append(make_scorer(prepared.shards, task, min_context=4, seed=1)(LastValue(1)))
    assert scores[0] == scores[1] == scores[2]


def test_the_seed_chooses_the_windows_where_there_are_too_many(prepared, monkeypatch):
    monkeypatch.setattr(validation, "MOST_WINDOWS", 5)
    scores = [make_scorer(prepared.shards, prepared.task, 4, seed)(LastValue(1)) for seed in (1, 1, 2)]
    assert scores[0] == scores[1] != scores[2]


def test_a_model_is_traced_in_its_first_epoch_only(prepared):
    score, model = make_scorer(prepared.shards, prepared.task, 4, seed=1), LastValue(5)
    first, traced = score(model), model.traced
    assert score(model) == first
    assert model.traced == traced


def test_a_real_model_is_scored_and_one_with_nan_forecasts_has_an_infinite_error(prepared):
    from dist_lstm.model.lstm import build_model

    model = build_model(prepared.task, prepared.config.model)
    score = make_scorer(prepared.shards, prepared.task, 4, seed=1)
    assert np.isfinite(score(model))
    assert score(model) == score(model)
    model.set_weights([one + np.nan for one in model.get_weights()])
    assert score(model) == np.inf


def test_errors_of_windows_without_target_or_scale_are_nan():
    forecast, target = np.zeros((4, 2)), np.array([[1, 3], [np.nan, 4], [np.nan, np.nan], [1, 1]])
    errors = scaled_errors(forecast, target, np.array([2.0, 2.0, 2.0, 0.0]))
    np.testing.assert_array_equal(errors, [1, 2, np.nan, np.nan])
    broken = np.array([[np.nan, 0.0], [np.nan, 4.0], [0, 0], [0, 0]])
    errors = scaled_errors(broken, target, np.array([2.0, 2.0, 2.0, np.nan]))
    np.testing.assert_array_equal(errors, [np.inf, 0, np.nan, np.nan])
