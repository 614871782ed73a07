"""Baselines against loops over single values, published scores and forecasts of statsforecast."""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dist_lstm.config.defaults import DatasetStatistics, resolve
from dist_lstm.config.load import parse_config
from dist_lstm.config.schema import Baseline
from dist_lstm.config.task import make_task
from dist_lstm.data.panel import Panel
from dist_lstm.forecast import baselines
from dist_lstm.forecast.baselines import forecast_contexts, forecast_windows, most_steps, seasonal_naive
from dist_lstm.metrics import Rows, series_scores, total_scores

NAN = float("nan")


def slow_seasonal_naive(context: np.ndarray, horizon: int, season_length: int) -> np.ndarray:
    """Walk back from each step to forecast, one season at a time, to the first value there is."""
    number, steps = context.shape
    forecast = np.full((number, horizon), np.nan, context.dtype)
    for window in range(number):
        for step in range(horizon):
            index = steps + step - season_length
            while index >= steps or (index >= 0 and np.isnan(context[window, index])):
                index -= season_length
            if index >= 0:
                forecast[window, step] = context[window, index]
    return forecast


contexts = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.integers(0, 20)),
    elements=st.one_of(st.just(NAN), st.floats(-1e6, 1e6, width=32)),
)


@settings(deadline=None, max_examples=300)
@given(context=contexts, horizon=st.integers(1, 12), season_length=st.integers(1, 9))
def test_the_forecast_equals_that_of_the_loop(context, horizon, season_length):
    forecast = seasonal_naive(context, horizon, season_length)
    assert forecast.dtype == context.dtype
    np.testing.assert_array_equal(forecast, slow_seasonal_naive(context, horizon, season_length))


@pytest.mark.parametrize(
    ("context", "season_length", "expected"),
    [
        pytest.param([1, 2, 3, 4, 5, 6], 3, [4, 5, 6, 4, 5], id="the last season is repeated"),
        pytest.param([1, 2, 3, 4], 1, [4, 4, 4, 4, 4], id="without a season the last value is repeated"),
        pytest.param([1, 2, 3, 4, NAN, 6], 3, [4, 2, 6, 4, 2], id="a gap is filled from a season earlier"),
        pytest.param([7, 2, 1, 4, NAN, NAN], 2, [1, 4, 1, 4, 1], id="several gaps too"),
        pytest.param([1, NAN, NAN], 1, [1, 1, 1, 1, 1], id="with season 1 the last value there is"),
        pytest.param([8, 9], 4, [NAN, NAN, 8, 9, NAN], id="a short context knows part of a season"),
        pytest.param([1, 2, 3, 4, 5], 3, [3, 4, 5, 3, 4], id="seasons are counted from the end"),
        pytest.param([NAN, NAN, NAN], 2, [NAN] * 5, id="nothing gives nothing"),
        pytest.param([], 2, [NAN] * 5, id="no context gives nothing"),
    ],
)
def test_a_season_is_repeated_as_in_examples_written_by_hand(context, season_length, expected):
    forecast = seasonal_naive(np.array([context], np.float32), 5, season_length)
    np.testing.assert_array_equal(forecast, np.array([expected], np.float32))


def test_the_context_is_not_changed():
    context = np.array([[1, NAN, 3, 4]], np.float32)
    before = context.copy()
    seasonal_naive(context, 3, 2)
    np.testing.assert_array_equal(context, before)


@pytest.mark.parametrize(("horizon", "season_length"), [(0, 1), (-1, 1), (1, 0), (1, -2)])
def test_a_horizon_or_season_below_one_is_refused(horizon, season_length):
    with pytest.raises(ValueError, match=f"horizon {horizon} and season_length {season_length}"):
        seasonal_naive(np.zeros((1, 4), np.float32), horizon, season_length)


def forecast(name: str, context: list[float], horizon: int = 3, season_length: int = 1) -> list[float]:
    values = forecast_contexts(np.array([context]), horizon, season_length, [name]).values
    return values[name][0].tolist()


ALL = get_args(Baseline)
SMOOTHED = ("Theta", "DampedTrend")


@pytest.mark.parametrize(
    ("name", "context", "expected"),
    [
        pytest.param("Naive", [1, 2, 5], [5, 5, 5], id="Naive repeats the last value"),
        pytest.param("Naive", [1, 5, NAN], [5, 5, 5], id="Naive repeats the last one there is"),
        pytest.param("Drift", [1, 9, 5], [7, 9, 11], id="Drift continues the line from the first to the last"),
        pytest.param("Drift", [NAN, 1, NAN, 5, NAN], [9, 11, 13], id="Drift goes on over missing last values"),
        pytest.param("Drift", [4], [4, 4, 4], id="Drift of one value repeats it"),
        pytest.param("Theta", [NAN, 4, NAN, 8], [8, 8, 8], id="Theta of few values repeats the last"),
        pytest.param("DampedTrend", [1, 2, 3, 4], [4, 4, 4], id="so does DampedTrend"),
    ],
)
def test_a_baseline_is_as_in_examples_written_by_hand(name, context, expected):
    assert forecast(name, context) == pytest.approx(expected)


def test_naive2_repeats_the_last_value_without_its_season():
    level, season = np.linspace(100, 100, 24), np.tile([0.5, 1.0, 1.5], 8)
    assert forecast("Naive2", [*(level * season), NAN], 4, 3) == pytest.approx([100, 150, 50, 100])
    assert forecast("Naive2", [*(level + 300 * season - 400), 5.0], 3, 3)[0] == pytest.approx(155)


@pytest.mark.parametrize("name", SMOOTHED)
def test_a_season_and_missing_last_values_shift_the_forecast(name):
    y = np.arange(100.0, 148.0) * np.tile([0.5, 1.0, 1.5], 16)
    ahead = forecast(name, [*y], 8, 3)
    assert forecast(name, [*y, NAN, NAN], 6, 3) == pytest.approx(ahead[2:])
    assert ahead == pytest.approx((148 + np.arange(8)) * np.tile([0.5, 1.0, 1.5], 3)[:8], rel=0.05)


@pytest.mark.parametrize("name", ALL)
def test_series_of_different_lengths_are_forecast_as_alone(name):
    generator = np.random.default_rng(3)
    rows = [generator.normal(50, 9, 40) for _ in range(6)]
    for row, missing in zip(rows, (0, 5, 20, 37, 39, 40), strict=True):
        row[:missing] = NAN
    rows[0][[7, 20, 38]] = NAN
    together = forecast_contexts(np.array(rows), 5, 4, [name]).values[name]
    for row, values in zip(rows, together, strict=True):
        observed = row[np.flatnonzero(~np.isnan(row))[:1].sum() :]
        np.testing.assert_allclose(values, forecast(name, [*observed], 5, 4), rtol=1e-5)
    assert np.isnan(together[-1]).all()
    assert np.isfinite(together[:3]).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("context", [np.zeros((0, 9)), np.zeros((2, 0)), np.full((2, 9), NAN)])
def test_nothing_gives_nothing(name, context):
    values = forecast_contexts(context, 3, 2, [name]).values[name]
    assert values.shape == (len(context), 3)
    assert np.isnan(values).all()


def test_a_forecast_of_a_window_is_that_of_the_last_steps_before_its_cutoff(monkeypatch):
    monkeypatch.setattr(baselines, "_BLOCK", 2 * most_steps(2))
    generator = np.random.default_rng(4)
    lengths = (30, 300, 8)
    offset = np.concatenate([[0], np.cumsum(lengths)])
    y = generator.normal(20, 3, offset[-1])
    panel = Panel(np.array(["a", "b", "c"], object), np.zeros(3, np.int64), y, offset)
    config = {"task": {"horizon": 4, "freq": 1, "season_length": 2}, "data": {"path": "x"}}
    task = make_task(resolve(parse_config(config), DatasetStatistics(1, sum(lengths), 30)))
    series, cutoff = np.array([1, 0, 2, 1, 1]), np.array([299, 30, 3, 12, 250])
    result = forecast_windows(panel, task, series, cutoff, ALL)
    assert set(result.seconds) == set(result.values) == set(ALL)
    for row, (one, end) in enumerate(zip(series, cutoff, strict=True)):
        context = y[offset[one] : offset[one] + end][-most_steps(2) :]
        for name in ALL:
            np.testing.assert_allclose(result.values[name][row], forecast(name, [*context], 4, 2), rtol=1e-5)


def read_competition(folder: Path, name: str) -> tuple[pd.Index, np.ndarray, np.ndarray]:
    """Names, histories with NaN before their start, `[N, T]`, and actual values, `[N, H]`."""
    train, test = (
        pd.read_parquet(folder / f"{name}_{part}.parquet").groupby("unique_id", sort=False)["y"].apply(np.array)
        for part in ("train", "test")
    )
    steps = max(map(len, train))
    history = np.array([np.concatenate([np.full(steps - len(y), NAN), y]) for y in train])
    return train.index, history, np.stack([*test.loc[train.index]])


def competition_scores(history: np.ndarray, actual: np.ndarray, forecast: np.ndarray, season: int) -> tuple:
    """The means over series of sMAPE and MASE."""
    number, horizon = actual.shape
    scale = np.nanmean(np.abs(history[:, season:] - history[:, :-season]), axis=1)
    rows = Rows(np.repeat(np.arange(number), horizon), actual.ravel(), forecast.ravel(), {})
    totals = total_scores(series_scores(rows, scale, scale))
    return totals["smape"], totals["mase"]


#: sMAPE and MASE as the M4 competition published them, and digits in which ours agree.
PUBLISHED = [
    ("m4/hourly", 24, "Naive2", (18.383, 2.395), 0.0006),
    ("m4/hourly", 24, "SeasonalNaive", (13.912, 1.193), 0.0006),
    ("m4/hourly", 24, "Theta", (18.138, 2.455), 0.002),
    ("m4/weekly", 1, "Naive2", (9.161, 2.777), 0.0006),
    ("m4/weekly", 1, "SeasonalNaive", (9.161, 2.777), 0.0006),
    ("m4/weekly", 1, "Theta", (9.093, 2.637), 0.004),
]


@pytest.mark.parametrize(("table", "season", "name", "published", "tolerance"), PUBLISHED)
def test_the_scores_on_m4_are_the_published_ones(real_data, table, season, name, published, tolerance):
    _, history, actual = read_competition(real_data, table)
    values = forecast_contexts(history, actual.shape[1], season, [name]).values[name]
    assert competition_scores(history, actual, values, season) == pytest.approx(published, abs=tolerance)


#: sMAPE of the NAIVE2 of M3, whose rule for seasons is not published: ours is that of M4.
M3_NAIVE2 = [
    ("yearly", 1, 17.88, 0.01),
    ("other", 1, 6.30, 0.01),
    ("quarterly", 4, 9.95, 0.09),
    ("monthly", 12, 16.89, 0.13),
]


@pytest.mark.parametrize(("table", "season", "published", "tolerance"), M3_NAIVE2)
def test_naive2_on_m3_is_the_published_one_within_one_percent(real_data, table, season, published, tolerance):
    _, history, actual = read_competition(real_data, f"m3/{table}")
    values = forecast_contexts(history, actual.shape[1], season, ["Naive2"]).values["Naive2"]
    smape, _ = competition_scores(history, actual, values, season)
    assert smape == pytest.approx(published, abs=tolerance)


#: sMAPE over all series of M3 of statsforecast 2.1.1: `Theta` on the values, `AutoETS(model="AAN", damped=True)`
#: on values that were seasonally adjusted as here (the damped benchmark of M4). The files hold its forecasts of
#: every 14th monthly and every 7th quarterly series.
STATSFORECAST = [
    ("monthly", 12, "Theta", 13.827, 0.1), ("monthly", 12, "DampedTrend", 14.308, 0.6),
    ("quarterly", 4, "Theta", 9.232, 0.1), ("quarterly", 4, "DampedTrend", 9.642, 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("table", "season", "name", "smape", "typical"), STATSFORECAST)
def test_forecasts_of_m3_are_close_to_those_of_statsforecast(real_data, table, season, name, smape, typical):
    names, history, actual = read_competition(real_data, f"m3/{table}")
    values = forecast_contexts(history, actual.shape[1], season, [name]).values[name]
    assert competition_scores(history, actual, values, season)[0] == pytest.approx(smape, rel=0.01)
    stored = pd.read_parquet(Path(__file__).parent / f"m3_{table}_statsforecast.parquet")
    rows = names.get_indexer(stored["unique_id"].unique())
    theirs, ours = stored[name].to_numpy().reshape(len(rows), -1), values[rows]
    difference = 200 * np.abs(theirs - ours) / (np.abs(theirs) + np.abs(ours))
    assert np.median(difference.mean(axis=1)) < typical, "percent"
