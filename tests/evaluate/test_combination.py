"""Weights of the combined forecast, against a search over all of them."""

import numpy as np
import pandas as pd
import pytest

from dist_lstm.data.windows import Rolling, WindowCutter
from dist_lstm.evaluate.backtest import ComparedMethods, backtest, summarise
from dist_lstm.evaluate.combination import choose_combination
from dist_lstm.evaluate.validation import make_scorer, mean_over_series, scaled_errors, validation_batches
from dist_lstm.forecast.baselines import forecast_windows
from dist_lstm.forecast.table import median
from tests.evaluate.conftest import Prepared, series

HORIZON = 3
SETTINGS = {
    "task__horizon": HORIZON,
    "task__context_length": 8,
    "task__season_length": 4,
    "task__freq": 1,
    "split__test": 6,
}


class LastValue:
    """A model that forecasts the last value of its context, and quantiles a unit apart around it."""

    def __call__(self, inputs, training):
        import tensorflow as tf

        assert training is False
        last = tf.repeat(inputs["y"][:, -1:, None], HORIZON, axis=1)
        return {"forecast": last + tf.range(-2, 3, dtype=last.dtype)}


def make_table() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    season = np.tile([0.0, 3.0, -2.0, 1.0], 20)
    values = {
        "walk": generator.normal(size=60).cumsum(),
        "large": 100 * generator.normal(size=70).cumsum(),
        "season": 20 + season + generator.normal(size=80),
        "short": np.arange(10.0),
        "constant": np.full(60, 5.0),
    }
    values["walk"][[47, 49]] = np.nan
    return pd.concat([series(name, y, 0, 1) for name, y in values.items()], ignore_index=True)


@pytest.fixture(scope="module")
def prepared(prepare_frame) -> Prepared:
    return prepare_frame(make_table(), split__validation=9, **SETTINGS)


def test_no_other_weights_have_a_mase_that_is_lower_by_more_than_two_percent(prepared):
    chosen = choose_combination(prepared.shards, prepared.task, LastValue(), ["SeasonalNaive", "Theta"], seed=1)
    assert sum(chosen.weights.values()) == pytest.approx(1)
    (batch,) = validation_batches(prepared.shards, prepared.task, prepared.task.min_context, seed=1)
    names = ["SeasonalNaive", "Theta"]
    others = forecast_windows(batch.panel, prepared.task, batch.series, batch.cutoff, names).values
    model = median(LastValue()(batch.inputs, training=False)["forecast"].numpy(), prepared.task)

    def mase(*weights: float) -> float:
        forecast = sum(w * one for w, one in zip(weights, [model, *others.values()], strict=True))
        return mean_over_series(scaled_errors(forecast, batch.target, batch.scale), batch.owner)

    grid = np.arange(0, 1.01, 0.1)
    best = min(mase(a, b, 1 - a - b) for a in grid for b in grid if a + b <= 1 + 1e-9)
    assert mase(*chosen.weights.values()) == pytest.approx(chosen.mase["Combined"])
    assert chosen.mase["Combined"] <= min(1.02 * best, *(chosen.mase[name] for name in chosen.weights))
    assert chosen.mase["LSTM"] == pytest.approx(mase(1, 0, 0))


def test_the_models_own_score_is_the_one_that_searches_compare(prepared):
    chosen = choose_combination(prepared.shards, prepared.task, LastValue(), ["SeasonalNaive"], seed=1)
    score = make_scorer(prepared.shards, prepared.task, prepared.task.min_context, seed=1)(LastValue())
    assert chosen.mase["LSTM"] == pytest.approx(score)
    assert "on validation" in chosen.summary


def test_without_a_validation_range_weights_are_equal_and_that_is_said(prepare_frame):
    prepared = prepare_frame(make_table(), split__validation=0, **SETTINGS)
    chosen = choose_combination(prepared.shards, prepared.task, LastValue(), ["Theta"], seed=1)
    assert chosen.weights == {"LSTM": 0.5, "Theta": 0.5}
    assert "equal weights" in chosen.summary


def test_the_combined_forecast_is_scored_beside_the_others_with_intervals(prepared, tmp_path):
    def predict(panel, cutoffs):
        inputs, target = WindowCutter(panel, prepared.task).cut(*cutoffs.enumerate())
        return LastValue()(inputs, training=False)["forecast"].numpy(), target

    methods = ComparedMethods(("SeasonalNaive", "Theta"), {"LSTM": 0.25, "Theta": 0.75})
    folder = tmp_path / "backtest"
    result = backtest(prepared.shards, prepared.task, Rolling(2, 3), predict, folder, methods)
    read = pd.read_parquet(folder)
    np.testing.assert_allclose(read["Combined"], 0.25 * read["LSTM"] + 0.75 * read["Theta"], rtol=1e-5)
    for end in ("lo-80", "hi-95"):
        distance = read[f"LSTM-{end}"] - read["LSTM"]
        np.testing.assert_allclose(read[f"Combined-{end}"] - read["Combined"], distance, atol=1e-3)
    totals = summarise(result.scores, result.seconds)
    assert {"mase", "wql", "coverage-80", "coverage-95"} <= set(totals["Combined"])
