"""Forecasts of a model, window by window."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import TRANSFORMS, Task, Vocabulary
from dist_lstm.data.panel import Panel
from dist_lstm.data.windows import Cutoffs, forecast_cutoffs
from dist_lstm.forecast.predict import BATCH_SIZE, make_predictor
from dist_lstm.model.lstm import build_model
from dist_lstm.train.devices import seeded

TASK = Task(
    horizon=4, context_length=12, min_context=1, freq=Frequency(1), season_length=6,
    levels=(80.0, 95.0), validation=4, test=4,
)  # fmt: skip
SERIES = 1400

pytestmark = pytest.mark.same_bytes


def make_panel(series: list[np.ndarray]) -> Panel:
    offset = np.concatenate([[0], np.cumsum([len(one) for one in series])]).astype(np.int64)
    names = np.array([f"{number:05d}" for number in range(len(series))], object)
    return Panel(names, np.zeros(len(series), np.int64), np.concatenate(series).astype(np.float32), offset)


def some(cutoffs: Cutoffs, chosen: np.ndarray) -> Cutoffs:
    return Cutoffs(cutoffs.first, np.where(chosen, cutoffs.count, 0), cutoffs.stride)


def assert_equal_but_for_the_last_4_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    """Forecasts of windows, `[B, H, P]`: equal to 2^-20 of each window's largest absolute value."""
    unknown = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), unknown)
    largest = np.nanmax(np.abs(expected), axis=(1, 2), keepdims=True, initial=0.0)
    assert (np.abs(actual - expected) <= largest * 2.0**-20)[~unknown].all()


@pytest.fixture(scope="module", params=["quantile", "mae"])
def model(request):
    settings = ModelSettings(units=(24, 16), segment_length=3, head=request.param)
    task = TASK if request.param == "quantile" else Task(**{**vars(TASK), "levels": ()})
    with seeded(1, deterministic=False):
        return build_model(task, settings), task


@pytest.fixture(scope="module")
def panel():
    """Series of many lengths, some shorter than the context, one in fifty with gaps."""
    generator = np.random.default_rng(0)
    series = [generator.normal(100, 20, generator.integers(1, 40)) for _ in range(SERIES)]
    for one in series[::50]:
        one[generator.random(len(one)) < 0.3] = np.nan
    series[7] = np.full(9, np.nan)
    return make_panel(series)


@pytest.fixture(scope="module")
def predict(model):
    return make_predictor(*model)


@pytest.fixture(scope="module")
def forecasts(predict, panel):
    return predict(panel, forecast_cutoffs(panel.length))[0]


def test_a_second_predictor_gives_the_same_forecasts(model, panel, forecasts):
    again, _ = make_predictor(*model)(panel, forecast_cutoffs(panel.length))
    assert again.tobytes() == forecasts.tobytes()


@pytest.mark.parametrize("number", [1, 2, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1, 2 * BATCH_SIZE + 3])
def test_forecasts_do_not_depend_on_the_windows_that_follow(predict, panel, forecasts, number):
    first = some(forecast_cutoffs(panel.length), np.arange(SERIES) < number)
    alone, _ = predict(panel, first)
    assert alone.tobytes() == forecasts[:number].tobytes()


@pytest.mark.parametrize("stride", [3, 7, 500])
def test_other_windows_of_the_batch_change_only_the_last_bits_of_a_forecast(predict, panel, forecasts, stride):
    chosen = np.arange(SERIES) % stride == stride - 1
    actual, _ = predict(panel, some(forecast_cutoffs(panel.length), chosen))
    assert_equal_but_for_the_last_4_bits(actual, forecasts[chosen])


def test_other_series_of_the_panel_change_only_the_last_bits_of_a_forecast(predict, panel, forecasts):
    alone = panel.take(np.arange(SERIES) == 1234)
    actual, _ = predict(alone, forecast_cutoffs(alone.length))
    assert_equal_but_for_the_last_4_bits(actual, forecasts[1234:1235])


def test_forecasts_are_the_models_output_for_the_last_steps(model, panel, forecasts):
    context = np.full((SERIES, TASK.context_length), np.nan, np.float32)
    for number in range(SERIES):
        values = panel.y[panel.offset[number] : panel.offset[number + 1]][-TASK.context_length :]
        context[number, TASK.context_length - len(values) :] = values
    said = model[0]({"y": context}, training=False)["forecast"].numpy()
    observed = ~np.isnan(context).all(axis=1)
    np.testing.assert_allclose(forecasts[observed], said[observed], rtol=1e-4, atol=1e-3)


def test_forecasts_are_the_models_output_for_every_input():
    """Series of the same values, which differ in all that a model is told beside them."""
    number = 12
    index = np.arange(number)
    facts = {
        "transform": np.array([list(TRANSFORMS)[one % 6] for one in index], object),
        "mean": 100.0 + index,
        "std": 10.0 + index,
        "series": index[::-1],
        "static:city": index % 3,
        "static:size": np.where(index % 4 == 3, np.nan, index / number),
    }
    y = np.random.default_rng(0).normal(100, 20, TASK.context_length + 3).astype(np.float32)
    panel = replace(make_panel([y] * number), facts=facts)
    panel = replace(panel, start=np.datetime64("2024-03-01", "us") + index * np.timedelta64(1, "D"))
    vocabulary = Vocabulary(number, (("city", 2),), ("size",))
    task = replace(
        TASK, freq=Frequency("D"), transformed=True, series_scaling="standard", series=number, calendar=True,
        vocabulary=vocabulary,
    )  # fmt: skip
    settings = ModelSettings(units=(8,), segment_length=3, series_embedding=2, calendar=True, scaling_by="series")
    with seeded(1, deterministic=False):
        built = build_model(task, settings)
    actual, _ = make_predictor(built, task)(panel, forecast_cutoffs(panel.length))
    days = pd.date_range("2024-03-01", periods=number) + pd.Timedelta(days=len(y))
    month = days.month - 1 + (days.day - 1) / days.days_in_month
    inputs = {
        "y": np.tile(y[-TASK.context_length :], (number, 1)),
        "transform": np.array([TRANSFORMS[name] for name in facts["transform"]], np.int32),
        "series_scale": np.stack([facts["mean"], facts["std"]], axis=1).astype(np.float32),
        "calendar": np.stack([days.day_of_week, month], axis=1).astype(np.float32),
        "series": facts["series"].astype(np.int32)[:, None],
        "categories": facts["static:city"].astype(np.int32)[:, None],
        "numbers": facts["static:size"].astype(np.float32)[:, None],
    }
    said = built(inputs, training=False)["forecast"].numpy()
    np.testing.assert_allclose(actual, said, rtol=1e-4, atol=1e-3)
    assert len({one.tobytes() for one in actual}) == number


def test_only_a_context_without_any_value_is_forecast_as_nan(panel, forecasts):
    unknown = np.isnan(forecasts).all(axis=(1, 2))
    empty = [
        np.isnan(panel.y[panel.offset[number] : panel.offset[number + 1]][-TASK.context_length :]).all()
        for number in range(SERIES)
    ]
    assert unknown[7]
    assert unknown.tolist() == empty
    assert np.isfinite(forecasts[~unknown]).all()


def test_a_value_before_the_context_has_no_effect(predict):
    old = make_panel([np.r_[np.ones(5), np.full(TASK.context_length, np.nan)]])
    forecast, _ = predict(old, forecast_cutoffs(old.length))
    assert np.isnan(forecast).all()


def test_a_constant_context_is_forecast_as_the_constant(predict):
    constant = make_panel([np.full(30, 1234.5), np.full(3, -7.25), np.zeros(12)])
    forecast, _ = predict(constant, forecast_cutoffs(constant.length))
    expected = np.broadcast_to(np.array([1234.5, -7.25, 0.0]).reshape(3, 1, 1), forecast.shape)
    np.testing.assert_array_equal(forecast, expected)


def test_targets_are_the_values_after_each_cutoff(predict):
    panel = make_panel([np.arange(10.0), np.arange(100.0, 108.0)])
    cutoffs = Cutoffs(first=np.array([4, 5]), count=np.array([2, 1]), stride=3)
    forecast, target = predict(panel, cutoffs)
    nan = np.nan
    expected = [[4, 5, 6, 7], [7, 8, 9, nan], [105, 106, 107, nan]]
    np.testing.assert_array_equal(target, np.array(expected, np.float32))
    assert forecast.shape[:2] == (3, TASK.horizon)


def test_forecasts_do_not_see_the_targets(predict):
    generator = np.random.default_rng(1)
    past, future = generator.normal(size=20), generator.normal(size=(2, 6))
    cutoff = Cutoffs(np.array([20]), np.array([1]), 1)
    one, other = (predict(make_panel([np.r_[past, later]]), cutoff)[0].tobytes() for later in future)
    assert one == other


def test_no_windows_give_no_forecasts_of_the_right_shape(model, predict, panel):
    none = some(forecast_cutoffs(panel.length), np.zeros(SERIES, bool))
    forecast, target = predict(panel, none)
    assert forecast.shape == (0, TASK.horizon, max(len(model[1].quantiles), 1))
    assert target.shape == (0, TASK.horizon)


def test_quantiles_of_a_forecast_do_not_cross(model, forecasts):
    finite = forecasts[~np.isnan(forecasts).all(axis=(1, 2))]
    assert (np.diff(finite, axis=2) >= 0).all()
    assert finite.shape[2] == len(model[1].quantiles)
