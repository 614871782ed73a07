"""Metrics equal those of utilsforecast, or a loop where it defines a metric otherwise or not at all."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from utilsforecast import losses

from dist_lstm.data.panel import Panel, seasonal_error
from dist_lstm.metrics import (
    POINT_METRICS,
    Rows,
    choose_weights,
    coverage_levels,
    leaderboard,
    owa,
    pinball_loss,
    series_scores,
    skill,
    total_scores,
)

SEASON, TRAIN, STEPS = 4, 23, 40
SERIES = 6
LEVELS = (50, 80, 95)
NAN = float("nan")


def quantile_levels(levels: tuple[int, ...]) -> dict[str, float]:
    names = {}
    for level in levels:
        tail = round((100 - level) / 200, 6)
        names |= {f"LSTM-lo-{level}": tail, f"LSTM-hi-{level}": round(1 - tail, 6)}
    return names


QUANTILES = quantile_levels(LEVELS)


@pytest.fixture(scope="module", params=["large", "around zero", "with zeros"])
def tables(request) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training values, and forecasts with the actual values; the rows of the series are mixed."""
    generator = np.random.default_rng(3)
    low = {"large": 50, "around zero": -5, "with zeros": 0}[request.param]
    names = np.repeat([f"s{number}" for number in range(SERIES)], TRAIN)
    train = pd.DataFrame({"unique_id": names, "ds": np.tile(np.arange(TRAIN), SERIES)})
    train["y"] = generator.uniform(low, low + 10, len(train)).astype(np.float32).astype(float)
    table = pd.DataFrame({"unique_id": np.repeat([f"s{number}" for number in range(SERIES)], STEPS)})
    table["ds"] = np.tile(np.arange(TRAIN, TRAIN + STEPS), SERIES)
    table["y"] = generator.uniform(low, low + 10, len(table))
    table["LSTM"] = table["y"] + generator.normal(0, 2, len(table))
    if request.param == "with zeros":
        table.loc[::3, "y"] = 0.0
        table.loc[::6, "LSTM"] = 0.0
    for name, level in QUANTILES.items():
        table[name] = table["LSTM"] + 6 * (level - 0.5) * generator.uniform(0.2, 1, len(table))
    return train, table.sample(frac=1, random_state=0, ignore_index=True)


def scales(train: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    panel = Panel(
        train["unique_id"].unique(), np.zeros(SERIES, np.int64), train["y"].to_numpy(np.float32),
        np.arange(SERIES + 1) * TRAIN,
    )  # fmt: skip
    absolute, squared = (seasonal_error(panel, panel.length, SEASON, power) for power in (1, 2))
    return absolute, squared


def score(train: pd.DataFrame, table: pd.DataFrame) -> dict[str, np.ndarray]:
    series = table["unique_id"].str[1:].to_numpy(int)
    quantiles = {level: table[name].to_numpy() for name, level in QUANTILES.items()}
    return series_scores(Rows(series, table["y"].to_numpy(), table["LSTM"].to_numpy(), quantiles), *scales(train))


def oracle(metric: str, train: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """A metric of utilsforecast, one value per series in the order of the names."""
    seasonal = {"seasonality": SEASON, "train_df": train} if metric in ("mase", "rmsse") else {}
    return getattr(losses, metric)(table, models=["LSTM"], **seasonal)["LSTM"].to_numpy()


@pytest.mark.parametrize("metric", ["mae", "rmse", "mase", "rmsse"])
def test_point_metrics_are_those_of_utilsforecast(tables, metric):
    np.testing.assert_allclose(score(*tables)[metric], oracle(metric, *tables), rtol=1e-6)


def test_smape_is_that_of_utilsforecast_times_200(tables):
    # Theirs is the mean of |y - f| / (|y| + |f|), 0 to 1; ours that of the M4 competition, 0 to 200 percent.
    np.testing.assert_allclose(score(*tables)["smape"], 200 * oracle("smape", *tables), rtol=1e-9)


@pytest.mark.parametrize("level", LEVELS)
def test_coverage_is_that_of_utilsforecast(tables, level):
    _, table = tables
    expected = losses.coverage(table, models=["LSTM"], level=level)["LSTM"]
    np.testing.assert_allclose(score(*tables)[f"coverage-{level}"], expected)


def test_the_weighted_quantile_loss_is_the_scaled_crps_of_utilsforecast(tables):
    _, table = tables
    names = QUANTILES | {"LSTM": 0.5}
    expected = losses.scaled_crps(table, models={"LSTM": list(names)}, quantiles=np.array(list(names.values())))
    np.testing.assert_allclose(score(*tables)["wql"], expected["LSTM"], rtol=1e-9)


@pytest.mark.parametrize("level", [0.025, 0.1, 0.5, 0.9])
def test_the_pinball_loss_is_the_quantile_loss_of_utilsforecast(tables, level):
    _, table = tables
    ours = pinball_loss(table["y"].to_numpy(), table["LSTM"].to_numpy(), level)
    expected = losses.quantile_loss(table, models={"LSTM": "LSTM"}, q=level)["LSTM"]
    np.testing.assert_allclose(pd.Series(ours).groupby(table["unique_id"]).mean(), expected)


@pytest.mark.parametrize("gap", ["y", "LSTM"])
def test_rows_with_a_missing_value_or_forecast_do_not_count(tables, gap):
    train, table = tables
    holed = table.copy()
    holed.loc[::4, gap] = NAN
    scores, expected = score(train, holed), score(train, table.drop(index=table.index[::4]))
    assert scores.keys() == expected.keys()
    for name, values in scores.items():
        np.testing.assert_array_equal(values, expected[name])
    assert scores["points"].sum() == SERIES * STEPS - len(table.index[::4])


def test_a_series_without_any_value_has_zero_points_and_no_score(tables):
    train, table = tables
    scores = score(train, table.assign(y=table["y"].mask(table["unique_id"] == "s2")))
    assert scores["points"].tolist() == [STEPS, STEPS, 0, STEPS, STEPS, STEPS]
    metrics = [*POINT_METRICS, "wql", "coverage-50", "coverage-80", "coverage-95"]
    missing = np.array([np.isnan(scores[name]) for name in metrics])
    assert missing[:, 2].all()
    assert not np.delete(missing, 2, axis=1).any()


@pytest.mark.parametrize("scale", [0.0, NAN])
def test_a_scale_of_zero_or_unknown_leaves_only_the_scaled_metrics_out(scale):
    rows = Rows(np.array([0, 1]), np.array([1.0, 2.0]), np.array([3.0, 4.0]), {})
    scores = series_scores(rows, np.array([scale, 1.0]), np.array([scale, 1.0]))
    for name in ("mase", "rmsse"):
        assert np.isnan(scores[name]).tolist() == [True, False]
    for name in ("mae", "rmse", "smape"):
        assert np.isfinite(scores[name]).all()


def test_a_worked_example_has_the_scores_computed_by_hand():
    y = np.array([0.0, 10.0, 20.0, 5.0])
    rows = Rows(
        series=np.array([0, 0, 0, 1]), y=y, forecast=np.array([0.0, 8.0, 26.0, 5.0]),
        quantiles={0.1: np.array([0.0, 5.0, 21.0, 4.0]), 0.9: np.array([1.0, 9.0, 30.0, 5.0])},
    )  # fmt: skip
    scores = series_scores(rows, np.array([4.0, 2.0]), np.array([10.0, 4.0]))
    assert scores["points"].tolist() == [3, 1]
    np.testing.assert_allclose(scores["mae"], [8 / 3, 0])
    np.testing.assert_allclose(scores["rmse"], [np.sqrt(40 / 3), 0])
    np.testing.assert_allclose(scores["smape"], [(0 + 200 * 2 / 18 + 200 * 6 / 46) / 3, 0])
    np.testing.assert_allclose(scores["mase"], [2 / 3, 0])
    np.testing.assert_allclose(scores["rmsse"], [np.sqrt(4 / 3), 0])
    # Levels .1, .9 and .5, in this order: the loss of each, over the three values; then doubled, averaged.
    losses_of_first = (0 + 0.5 + 0.9) + (0.1 + 0.9 + 1.0) + (0 + 1 + 3)
    np.testing.assert_allclose(scores["wql"], [2 * losses_of_first / 3 / 30, 2 * 0.1 / 3 / 5])
    np.testing.assert_allclose(scores["coverage-80"], [1 / 3, 1])


def test_smape_is_zero_where_value_and_forecast_are_and_200_where_only_one_is():
    rows = Rows(np.array([0, 1, 2]), np.array([0.0, 0.0, 3.0]), np.array([0.0, 2.0, 0.0]), {})
    assert series_scores(rows, np.ones(3), np.ones(3))["smape"].tolist() == [0, 200, 200]


def test_a_series_of_zeros_has_no_weighted_quantile_loss():
    rows = Rows(np.array([0, 0]), np.zeros(2), np.ones(2), {0.1: np.zeros(2), 0.9: np.ones(2)})
    scores = series_scores(rows, np.ones(1), np.ones(1))
    assert np.isnan(scores["wql"][0])
    assert np.isnan(total_scores(scores)["wql"])


def test_a_model_without_quantiles_has_point_metrics_only():
    rows = Rows(np.array([0]), np.ones(1), np.ones(1), {})
    scores = series_scores(rows, np.ones(1), np.ones(1))
    assert list(scores) == ["points", *POINT_METRICS]
    assert list(total_scores(scores)) == list(POINT_METRICS)


@pytest.mark.parametrize(
    ("quantiles", "expected"),
    [
        ([0.1, 0.9], {80: (0.1, 0.9)}),
        ([0.975, 0.1, 0.025, 0.9], {80: (0.1, 0.9), 95: (0.025, 0.975)}),
        ([0.0125, 0.9875], {97.5: (0.0125, 0.9875)}),
        ([0.1, 0.5, 0.8], {}),
        ([], {}),
    ],
)
def test_intervals_are_the_pairs_of_levels_at_the_same_distance_from_the_median(quantiles, expected):
    assert coverage_levels(quantiles) == expected


def test_totals_are_means_over_series_in_which_every_series_has_the_same_weight(tables):
    train, table = tables
    uneven = table[(table["unique_id"] != "s1") | (table["ds"] < TRAIN + 3)].reset_index(drop=True)
    totals = total_scores(score(train, uneven))
    for metric in ("mae", "rmse", "mase", "rmsse"):
        assert totals[metric] == pytest.approx(oracle(metric, train, uneven).mean(), rel=1e-6)
    assert totals["smape"] == pytest.approx(200 * oracle("smape", train, uneven).mean())


def test_total_quantile_loss_and_coverage_give_every_point_the_same_weight(tables):
    train, table = tables
    uneven = table[(table["unique_id"] != "s1") | (table["ds"] < TRAIN + 3)].assign(unique_id="all")
    totals = total_scores(score(train, table.loc[uneven.index].reset_index(drop=True)))
    names = QUANTILES | {"LSTM": 0.5}
    crps = losses.scaled_crps(uneven, models={"LSTM": list(names)}, quantiles=np.array(list(names.values())))
    assert totals["wql"] == pytest.approx(crps["LSTM"].item())
    for level in LEVELS:
        covered = losses.coverage(uneven, models=["LSTM"], level=level)["LSTM"].item()
        assert totals[f"coverage-{level}"] == pytest.approx(covered)


def test_totals_leave_out_series_in_which_a_metric_is_unknown():
    rows = Rows(np.array([0, 1]), np.array([1.0, 2.0]), np.array([3.0, 8.0]), {})
    totals = total_scores(series_scores(rows, np.array([0.0, 2.0, 1.0]), np.array([0.0, 4.0, 1.0])))
    assert totals == {
        "mae": 4.0, "rmse": 4.0, "smape": pytest.approx((100 + 120) / 2), "mase": 3.0, "rmsse": 3.0,
    }  # fmt: skip


def test_totals_of_no_points_are_nan():
    rows = Rows(np.array([0]), np.array([NAN]), np.array([1.0]), {0.1: np.zeros(1), 0.9: np.ones(1)})
    totals = total_scores(series_scores(rows, np.ones(1), np.ones(1)))
    assert set(totals) == {*POINT_METRICS, "wql", "coverage-80"}
    assert all(np.isnan(value) for value in totals.values())


mase = st.one_of(st.just(NAN), st.floats(0, 10, allow_subnormal=False))
pairs_of_scores = st.lists(st.tuples(mase, mase, st.integers(1, 2), st.integers(1, 2)), max_size=12)


@settings(deadline=None)
@given(pairs_of_scores)
def test_skill_is_one_minus_the_ratio_of_mean_mases_over_the_series_that_both_have(pairs):
    both = [
        (ours, naive)
        for ours, naive, points, naive_points in pairs
        if ours == ours and naive == naive and points == naive_points
    ]
    ours, naive, points, naive_points = np.array(pairs, float).reshape(-1, 4).T
    result = skill({"mase": ours, "points": points}, {"mase": naive, "points": naive_points})
    assert result.series == len(both)
    assert result.left_out == len(pairs) - len(both)
    reference = sum(naive for _, naive in both)
    if reference > 0:
        assert result.skill == pytest.approx(1 - sum(ours for ours, _ in both) / reference, rel=1e-9, abs=1e-9)
    else:
        assert np.isnan(result.skill)


def test_series_of_scale_zero_are_left_out_of_skill_and_counted():
    y = np.array([5.0, 5.0, 1.0, 2.0])
    series = np.array([0, 0, 1, 1])
    absolute, squared = np.array([0.0, 2.0, 1.0]), np.array([0.0, 4.0, 1.0])
    ours = series_scores(Rows(series, y, np.array([9.0, 9.0, 2.0, 3.0]), {}), absolute, squared)
    naive = series_scores(Rows(series, y, np.array([5.0, 5.0, 5.0, 6.0]), {}), absolute, squared)
    result = skill(ours, naive)
    assert result.skill == pytest.approx(1 - 1 / 4)
    assert (result.series, result.left_out) == (1, 2)


def test_a_series_in_which_one_of_the_two_has_fewer_points_is_left_out_of_skill_and_counted():
    y, series = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1])
    one = np.ones(2)
    ours = series_scores(Rows(series, y, np.array([NAN, 2.5, 4.0, 5.0]), {}), one, one)
    naive = series_scores(Rows(series, y, np.array([9.0, 9.0, 5.0, 6.0]), {}), one, one)
    result = skill(ours, naive)
    assert result.skill == pytest.approx(1 - 1 / 2)
    assert (result.series, result.left_out) == (1, 1)


def test_a_series_without_quantiles_has_no_part_in_quantile_loss_and_coverage(tables):
    train, table = tables
    names = [name for name in table if name.startswith("LSTM-")]
    gone = table["unique_id"] == "s2"
    without = total_scores(score(train, table.assign(**{name: table[name].where(~gone) for name in names})))
    left_out = total_scores(score(train, table[~gone].reset_index(drop=True)))
    for name in ("wql", "coverage-80"):
        assert without[name] == pytest.approx(left_out[name])
    assert without["mae"] == pytest.approx(total_scores(score(train, table))["mae"])


def test_owa_counts_the_series_that_both_have():
    points = np.array([4, 4, 4, 3])
    model = {"smape": np.array([5.0, 8.0, 1.0, 2.0]), "mase": np.array([0.5, 2.0, NAN, 1.0]), "points": points}
    naive2 = {"smape": np.array([10.0, 10.0, 9.0, 9.0]), "mase": np.array([1.0, 1.0, NAN, 1.0])}
    naive2 |= {"points": np.array([4, 4, 4, 4])}
    assert owa(model, naive2) == pytest.approx((13 / 20 + 2.5 / 2) / 2)
    assert np.isnan(owa(model, naive2 | {"mase": np.full(4, NAN)}))


def test_a_leaderboard_begins_with_the_lowest_mase_and_ends_with_the_unknown_ones():
    summary = {
        "unknown": {"mase": NAN, "mae": 1.0},
        "null": {"mase": None, "mae": 4.0},
        "second": {"mase": 0.9, "mae": 2.0},
        "first": {"mase": 0.8, "mae": 3.0, "wql": 0.1},
        "skill": 0.1,
    }
    board = leaderboard(summary)
    assert board.models == ["first", "second", "unknown", "null"]
    assert list(board.rows) == ["mase", "mae", "wql"]
    assert board.rows["mae"] == [3.0, 2.0, 1.0, 4.0]
    assert board.rows["wql"] == [0.1, None, None, None]


def test_weights_go_to_forecasts_that_complement_each_other():
    target = np.random.default_rng(1).normal(size=(50, 4))
    forecasts = np.stack([target + 1, target - 1, target + 5])
    assert choose_weights(forecasts, target, np.ones(50), np.ones(50), rounds=20) == [0.5, 0.5, 0.0]


def test_missing_targets_and_windows_without_a_scale_do_not_count():
    target = np.zeros((3, 2))
    target[0, 1] = np.nan
    forecasts = np.stack([np.full((3, 2), 1.0), np.full((3, 2), 2.0)])
    forecasts[0, 0, 1] = forecasts[0, 2] = 100.0
    assert choose_weights(forecasts, target, np.array([1.0, 1.0, 0.0]), np.ones(3), rounds=4) == [1.0, 0.0]


def test_windows_count_by_their_weights():
    target, forecasts = np.zeros((2, 1)), np.array([[[1.0], [5.0]], [[5.0], [1.0]]])
    assert choose_weights(forecasts, target, np.ones(2), np.array([1.0, 9.0]), rounds=1) == [0.0, 1.0]


def test_where_nothing_counts_all_forecasts_have_the_same_weight():
    assert choose_weights(np.zeros((2, 3, 1)), np.zeros((3, 1)), np.zeros(3), np.ones(3)) == [0.5, 0.5]
