"""Which transform a series gets: known series, slow oracles, and what must not change the answer."""

import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dist_lstm.config.task import TRANSFORMS
from dist_lstm.data import stationarity
from dist_lstm.data.panel import Panel
from dist_lstm.data.stationarity import (
    LIMIT,
    Evidence,
    allowed,
    decide,
    examine,
    examine_panel,
    pool,
    sampled,
    transform_panel,
)
from dist_lstm.errors import UserError

STEPS = np.arange(600)
#: Steps of many seasons.
MANY = 10**6
NAN = np.nan


def noise(seed: int = 0, steps: int = 600) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=steps)


def autoregressive(coefficient: float) -> np.ndarray:
    values = noise()
    for step in range(1, len(values)):
        values[step] += coefficient * values[step - 1]
    return values


def season(length: int) -> np.ndarray:
    return np.sin(2 * np.pi * STEPS / length) + 0.5 * np.cos(4 * np.pi * STEPS / length)


def decision(values, season_length: int) -> str:
    return decide(examine(np.asarray(values, np.float32), season_length), season_length, MANY)


@pytest.mark.parametrize(
    ("expected", "values"),
    {
        "noise": ("none", noise()),
        "noise far from zero": ("none", 100 + 10 * noise()),
        "a stationary autoregression": ("none", autoregressive(0.8)),
        "an exact sine": ("none", np.sin(STEPS / 6)),
        "a noisy sine": ("none", np.sin(STEPS / 6) + 0.3 * noise()),
        "a random walk": ("difference", np.cumsum(noise())),
        "an exact line": ("difference", STEPS),
        "a noisy line": ("difference", 0.02 * STEPS + noise()),
        "a falling line": ("difference", -0.02 * STEPS + noise()),
        "a shift of the level": ("difference", 6 * (STEPS > 300) + noise()),
        "exponential growth": ("log1p_difference", 100 * np.exp(STEPS / 100 + 0.1 * noise())),
        "skewed sales": ("log1p", np.exp(1 + noise())),
        "a constant": ("none", np.full(600, 7.3)),
        "nothing": ("none", np.full(600, NAN)),
    }.values(),
)
@pytest.mark.parametrize("season_length", [1, 12])
def test_a_series_without_season_gets_the_transform_that_its_level_and_spread_need(
    expected, values, season_length
):
    if season_length == 1:  # left to the scaling by the smoothed level
        expected = {"difference": "none", "log1p_difference": "log1p"}.get(expected, expected)
    assert decision(values, season_length) == expected


@pytest.mark.parametrize("season_length", [4, 12, 24])
def test_a_strong_season_is_differenced_whatever_the_level_does(season_length):
    for level in (0 * STEPS, 0.05 * STEPS, np.cumsum(0.1 * noise(1))):
        assert decision(level + season(season_length) + 0.2 * noise(), season_length) == "seasonal_difference"


def test_a_season_that_grows_with_the_level_is_differenced_in_logs():
    values = np.exp(5 + 0.004 * STEPS + 0.3 * season(12) + 0.02 * noise())
    assert decision(values, 12) == "log1p_seasonal_difference"


def test_a_weak_season_is_left_to_the_model():
    assert decision(0.5 * season(12) + noise(), 12) == "none"


def test_airline_passengers_are_differenced_by_season_in_logs(real_data):
    values = pd.read_parquet(real_data / "classics" / "airline_passengers.parquet")["y"]
    assert decision(values, 12) == "log1p_seasonal_difference"


def test_most_of_many_series_of_noise_and_of_random_walks_are_distinguished():
    def counts(make) -> Counter:
        return Counter(decision(make(noise(seed, 200)), 12) for seed in range(40))

    assert counts(lambda values: values)["none"] >= 38
    assert counts(np.cumsum)["difference"] >= 32


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5])
def test_the_spread_is_the_power_of_the_level_that_the_noise_follows(power):
    level = np.repeat(np.exp(np.linspace(3, 6, 75)), 8)
    values = level + 0.1 * 50 ** (1 - power) * level**power * noise()
    assert examine(values, 1).spread == pytest.approx(power, abs=0.1)


@pytest.mark.parametrize(
    "values",
    {
        "negative values": np.append(np.exp(1 + noise()), -1.0),
        "blocks of the same level": STEPS % 8,
        "a level that hardly moves": 100 + 20 * noise(),
        "four blocks only": (np.exp(STEPS // 8) * (1 + 0.1 * (STEPS % 2)))[:32],
    }.values(),
)
def test_the_spread_is_nan_without_evidence(values):
    assert np.isnan(examine(values, 1).spread)


def kpss_statistic(y: np.ndarray, lags: int) -> float:
    """The statistic, written out: squared partial sums over a Bartlett estimate of the long-run variance."""
    e, n = y - y.mean(), len(y)
    variance = e @ e / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (e[lag:] @ e[:-lag]) / n
    return (np.cumsum(e) ** 2).sum() / n**2 / variance


def dickey_fuller_statistic(y: np.ndarray, lags: int) -> float:
    """The t-value of the last level in a least-squares fit of the changes."""
    change = np.diff(y)
    rows = range(lags, len(change))
    design = np.array([[y[row], 1.0, *change[row - lags : row]] for row in rows])
    target = change[lags:]
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    rest = target - design @ solution
    variance = rest @ rest / (len(target) - design.shape[1]) * np.linalg.inv(design.T @ design)
    return float(solution[0] / np.sqrt(variance[0, 0]))


def test_the_p_values_are_those_of_the_statistics_written_out():
    from statsmodels.tsa.adfvalues import mackinnonp

    for y in (autoregressive(0.9), autoregressive(0.97), autoregressive(0.98), 1e-3 * STEPS + noise()):
        actual = examine(y, 1)
        assert actual.adf == pytest.approx(mackinnonp(dickey_fuller_statistic(y, 8)), rel=1e-3)
        # Table 1 of Kwiatkowski et al. (1992).
        table = np.interp(kpss_statistic(y, 8), [0.347, 0.463, 0.574, 0.739], [0.1, 0.05, 0.025, 0.01])
        assert actual.kpss == pytest.approx(table, rel=1e-3)


@pytest.mark.parametrize("season_length", [7, 24, 50])
def test_the_seasonal_strength_is_that_of_a_decomposition_of_every_step(season_length):
    from statsmodels.tsa.seasonal import STL

    y = np.cumsum(0.2 * noise(1)) + 0.8 * season(season_length) + 0.5 * noise(2)
    parts = STL(y, season_length, seasonal=11, seasonal_deg=0).fit()
    expected = 1 - np.var(parts.resid) / np.var(parts.resid + parts.seasonal)
    assert 0.3 < expected < 0.95
    assert examine(y, season_length).seasonal_strength == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("season_length", "possible"), [(1, False), (200, True), (201, False), (100_000, False)])
def test_the_seasonal_strength_needs_three_seasons(season_length, possible):
    assert np.isnan(examine(noise(), season_length).seasonal_strength) != possible


def test_two_and_a_half_seasons_of_noise_are_not_taken_for_a_season():
    assert decision(noise(steps=30), 12) == "none"


def test_the_tests_use_the_logs_where_the_log_is_taken():
    y = np.exp(3 + 0.004 * STEPS + season(12) + 0.1 * noise())
    actual, logs = examine(y, 12), examine(np.log1p(y) - 100, 12)
    assert actual.spread > 0.5
    assert (actual.adf, actual.kpss) == pytest.approx((logs.adf, logs.kpss), rel=1e-3)
    assert actual.seasonal_strength == pytest.approx(logs.seasonal_strength, rel=1e-3)


@pytest.mark.parametrize("unit", [1e-30, 1e-3, 1e30])
def test_the_unit_does_not_matter_where_no_log_is_taken(unit):
    y = 50 + np.cumsum(noise()) + season(12)
    one, other = examine(y, 12), examine(unit * y, 12)
    for key in ("adf", "kpss", "seasonal_strength"):
        assert getattr(other, key) == pytest.approx(getattr(one, key), rel=1e-3)


def assert_same(one, other):
    np.testing.assert_equal(astuple(one), astuple(other))  # NaN is NaN


def test_only_the_last_steps_count():
    long = np.concatenate([noise(3, 5000) * 100, noise(1), np.cumsum(noise(2))])
    assert_same(examine(long, 12), examine(long[-1000:], 12))
    assert_same(examine(long, 300), examine(long[-2400:], 300))
    assert examine(long, 300).seasonal_strength != examine(long[-1000:], 300).seasonal_strength
    assert examine(long, 300).adf == pytest.approx(examine(long[-1000:], 1).adf)


def test_missing_values_are_interpolated_and_those_at_the_ends_dropped():
    y = season(12) + 0.1 * np.cumsum(noise())
    y[np.random.default_rng(1).choice(600, 200, replace=False)] = NAN
    filled = pd.Series(y).interpolate(limit_area="inside").dropna().to_numpy()
    assert_same(examine(np.r_[[NAN] * 50, y, [NAN] * 2000], 12), examine(filled, 12))


def test_a_series_whose_last_steps_are_constant_is_not_tested():
    assert not examine(np.concatenate([noise(steps=2000), np.zeros(1000)]), 300).tested


VALUES = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=False),
    st.sampled_from([0.0, 1.0, -1.0, 3e38, -3e38, 1e-45, -1e-45, NAN]),
)


@settings(deadline=None, max_examples=150)
@given(
    y=arrays(np.float32, st.integers(0, 40), elements=VALUES),
    repeats=st.sampled_from([1, 2, 60]),
    season_length=st.sampled_from([1, 2, 3, 7, 12, 400, 10**6]),
)
def test_no_series_of_numbers_fails(y, repeats, season_length):
    actual = examine(np.tile(y, repeats), season_length)
    assert decide(actual, season_length, len(y)) in TRANSFORMS
    assert np.isnan(actual.adf) or 0 <= actual.adf <= 1
    assert np.isnan(actual.kpss) or 0.01 <= actual.kpss <= 0.1
    assert np.isnan(actual.seasonal_strength) or 0 <= actual.seasonal_strength <= 1
    assert not np.isinf(actual.spread)


@pytest.mark.parametrize("steps", range(12))
def test_fewer_than_ten_steps_are_not_tested(steps):
    assert examine(STEPS[:steps].astype(np.float32), 4).tested == (steps >= 10)


def test_the_first_test_of_a_process_warns_of_nothing_and_leaves_the_filters_alone():
    code = (
        "import warnings, numpy as np\n"
        "from dist_lstm.data.stationarity import examine\n"
        "before = list(warnings.filters)\n"
        "examine(np.arange(100.0), 12)\n"
        "assert warnings.filters == before\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_warning_reaches_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for values in (STEPS, noise(), np.cumsum(noise()), np.sin(STEPS), STEPS % 2):
            examine(values.astype(np.float32), 2)
    assert not caught


@pytest.mark.parametrize(
    ("expected", "evidence", "season_length"),
    [
        ("none", Evidence(), 12),
        ("seasonal_difference", Evidence(0.9, 0.01, 0.81, 0.4), 12),
        ("none", Evidence(0.9, 0.01, 0.81, 0.4), 1),
        ("difference", Evidence(0.9, 0.01, 0.79, NAN), 12),
        ("none", Evidence(0.04, 0.01, 0.79, NAN), 12),
        ("none", Evidence(0.9, 0.06, 0.79, NAN), 12),
        ("log1p", Evidence(0.04, 0.1, 0.79, 0.6), 12),
        ("log1p_difference", Evidence(0.9, 0.01, NAN, 0.6), 12),
        ("log1p_seasonal_difference", Evidence(0.04, 0.1, 0.9, 0.6), 12),
    ],
)
def test_the_decision_follows_the_table(expected, evidence, season_length):
    assert decide(evidence, season_length, MANY) == expected


@pytest.mark.parametrize(
    ("steps", "strength", "differenced"),
    [(599, 0.21, True), (600, 0.21, False), (599, 0.19, False), (600, 0.81, True)],
)
def test_where_series_have_fewer_than_fifty_seasons_a_weaker_one_is_enough(steps, strength, differenced):
    transform = decide(Evidence(0.04, 0.1, strength, NAN), 12, steps)
    assert transform == ("seasonal_difference" if differenced else "none")


def test_a_median_of_few_series_does_not_count():
    evidence = untested(5) | {"kpss": np.r_[np.full(4, 0.1), NAN], "spread": np.r_[0.9, np.full(4, NAN)]}
    assert np.isnan(pool([evidence]).spread)
    evidence["spread"][1] = 0.7
    assert pool([evidence]).spread == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("expected", "transform", "y", "season_length"),
    [
        *((name, name, [1.0, NAN, 0.0, 2.0], 2) for name in TRANSFORMS),
        ("none", "log1p", [1.0, -1.0], 1),
        ("difference", "log1p_difference", [NAN, -1.0], 1),
        ("seasonal_difference", "log1p_seasonal_difference", [3.0, -1.0, 2.0], 2),
        ("seasonal_difference", "seasonal_difference", [1.0, NAN, NAN], 2),
        ("difference", "seasonal_difference", [1.0, 1.0, 2.0], 1),
        ("difference", "seasonal_difference", [1.0, NAN, 2.0], 3),
        ("log1p_difference", "log1p_seasonal_difference", [1.0, 2.0], 2),
        ("difference", "difference", [NAN, NAN], 1),
        ("difference", "seasonal_difference", [], 1),
        ("log1p_difference", "log1p_difference", [NAN], 1),
    ],
)
def test_a_transform_is_reduced_to_what_is_possible_for_the_values(expected, transform, y, season_length):
    assert allowed(transform, np.array(y, np.float32), season_length) == expected


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_of_the_values_only_their_sign_reduces_a_transform(transform):
    y = np.arange(1.0, 30.0)
    for later in (y[10:] * 1e30, np.zeros(19), np.full(19, NAN), [NAN] * 18 + [3e38]):
        assert allowed(transform, np.r_[y[:10], later], 12) == allowed(transform, y, 12)


def names(number: int) -> np.ndarray:
    return np.array([f"T{one}" for one in range(number)], object)


def untested(number: int) -> dict[str, np.ndarray]:
    return {key: np.full(number, NAN) for key in ("adf", "kpss", "seasonal_strength", "spread")}


def test_about_the_limit_of_the_series_are_tested_whatever_their_order_and_panel():
    ids = names(20_000)
    mask = sampled(ids, len(ids))
    assert LIMIT * 0.85 < mask.sum() < LIMIT * 1.15
    order = np.random.default_rng(0).permutation(len(ids))
    parts = [sampled(part, len(ids)) for part in np.split(ids[order], [1, 500, 500, 7000])]
    np.testing.assert_array_equal(np.concatenate(parts), mask[order])


def test_a_larger_total_tests_a_part_of_the_same_series():
    ids = names(5000)
    assert (sampled(ids, 5000) | ~sampled(ids, 50_000)).all()


@pytest.mark.parametrize("total", [0, 1, LIMIT])
def test_all_of_few_series_are_tested(total):
    assert sampled(names(total), total).all()


def test_the_evidence_of_a_panel_is_the_median_of_each_result_over_the_series_that_have_one():
    first = untested(4) | {"kpss": np.array([NAN, 0.01, 0.03, 0.1]), "adf": np.array([NAN, 0.9, 0.7, NAN])}
    second = untested(1) | {"spread": np.array([0.4])}
    pooled = pool([first, second, untested(1) | {"spread": np.array([0.6])}])
    assert (pooled.kpss, pooled.adf, pooled.spread) == pytest.approx((0.03, 0.8, 0.5))
    assert np.isnan(pooled.seasonal_strength)
    for nothing in ([], [untested(3)]):
        assert not pool(nothing).tested


def test_values_after_the_training_range_are_not_tested(make_panel_of):
    first = make_panel_of(np.cumsum(noise()), 0.02 * STEPS + noise(1), STEPS[:5])
    second = Panel(first.unique_id, first.start, first.y.copy(), first.offset)
    second.y[500:600] = 1e6
    second.y[1150:1200] = NAN
    end = np.array([500, 550, 5])
    actual, again = (examine_panel(panel, end, 12, 3) for panel in (first, second))
    assert sorted(actual) == ["adf", "kpss", "seasonal_strength", "spread"]
    for key, values in actual.items():
        np.testing.assert_array_equal(values, again[key])
        assert values.dtype == np.float64
        np.testing.assert_equal(values[1], getattr(examine(first.y[600:1150], 12), key))
    assert np.isnan(actual["kpss"]).tolist() == [False, False, True]


def test_one_panel_and_many_panels_give_the_same_answer(make_panel_of, monkeypatch):
    monkeypatch.setattr(stationarity, "LIMIT", 12)
    panel = make_panel_of(*(np.cumsum(noise(seed, 60)) if seed % 3 else noise(seed, 60) for seed in range(40)))
    end = np.full(40, 50)

    def run(parts: list[np.ndarray]) -> Evidence:
        pieces = [panel.take(part) for part in parts]
        actual = [examine_panel(piece, end[part], 4, 40) for piece, part in zip(pieces, parts, strict=True)]
        assert 3 < sum(np.isfinite(one["kpss"]).sum() for one in actual) < 25
        return pool(actual)

    number = np.arange(40)
    once = run([number >= 0])
    assert_same(run([number < 3, (number >= 3) & (number < 31), number >= 31]), once)
    assert once.tested


def test_series_get_the_transform_of_the_panel_as_far_as_it_is_possible(make_panel_of):
    panel = make_panel_of([1, 2, 3], [1, -2, 3], [1, 2], [NAN, -1])
    chosen = transform_panel(panel, 2, "log1p_seasonal_difference", strict=False)
    expected = ["log1p_seasonal_difference", "seasonal_difference", "log1p_difference", "difference"]
    assert chosen.tolist() == expected


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transform_that_is_possible_holds_for_every_series(transform, strict, make_panel_of):
    panel = make_panel_of([1, 2, 3], [0, 0, 4])
    assert transform_panel(panel, 2, transform, strict).tolist() == [transform, transform]


def test_a_named_log_of_a_negative_value_is_the_users_mistake(make_panel_of):
    panel = make_panel_of([1, 2, 3], [1, -3.2, -1, NAN])
    with pytest.raises(UserError) as error:
        transform_panel(panel, 1, "log1p", strict=True)
    assert str(error.value) == (
        "data.transform: log1p needs values of at least 0, unique_id 's001' has -3.2; choose auto or difference"
    )
    with pytest.raises(UserError, match=r"choose auto or seasonal_difference$"):
        transform_panel(panel, 1, "log1p_seasonal_difference", strict=True)
