"""Every series and the first model that is of use to it."""

import numpy as np
import pandas as pd
import pytest

from dist_lstm.data.panel import Panel
from dist_lstm.data.windows import Rolling, WindowCutter
from dist_lstm.fleet.fallback import Candidate, FallbackSelector
from tests.data.conftest import _make_panel, _make_task

TASK = _make_task()
STEPS = 60
MEDIAN = TASK.quantiles.index(0.5)


def panel(*values) -> Panel:
    return _make_panel(*values)


def noise(number: int) -> list[Panel]:
    generator = np.random.default_rng(number)
    return panel(*(generator.normal(10, 1, STEPS) for _ in range(number)))


def knowing(share: float):
    """A model that knows the future, but for a share of the way to 0."""

    def predict(part, cutoffs):
        target = WindowCutter(part, TASK).windows(*cutoffs.enumerate())[:, TASK.context_length :]
        # Behind the end of a series is nothing to know.
        values = np.repeat(np.nan_to_num(target, nan=7.0)[..., None] * share, len(TASK.quantiles), axis=2)
        return values.astype(np.float32), target

    return predict


def silent(part, cutoffs):
    values, target = knowing(1)(part, cutoffs)
    return values * np.nan, target


def make(series: Panel, gate: float | None = 0.0) -> FallbackSelector:
    return FallbackSelector(series, TASK, Rolling(2, TASK.horizon), gate)


GOOD, BAD = Candidate("own", knowing(1)), Candidate("own", knowing(0))


def medians(selector: FallbackSelector) -> np.ndarray:
    return pd.DataFrame({name: column.to_pylist() for name, column in selector.forecasts().items()})


def test_every_series_has_one_forecast_before_any_model_is_offered():
    table = medians(make(noise(3)))
    assert len(table) == 3 * TASK.horizon
    assert table["LSTM"].notna().all()
    assert table["LSTM-lo-80"].isna().all(), "the seasonal naive forecast has no quantiles"


def test_a_model_forecasts_the_series_it_is_of_use_to_and_no_other():
    selector = make(noise(3))
    selector.consider(GOOD, np.array([0, 2]))
    assert selector.level.tolist() == ["own", "naive", "own"]
    assert selector.reasons == [[], [], []]
    table = medians(selector)
    mine = table["unique_id"].isin(["s000", "s002"])
    assert (table.loc[mine, "LSTM"] == 7).all()
    assert (table.loc[~mine, "LSTM"] != 7).all()


def test_a_model_worse_than_the_baseline_gives_way_to_the_next_and_the_reasons_are_kept():
    selector = make(noise(2))
    selector.consider(BAD, np.array([0]))
    selector.consider(Candidate("group", silent), np.array([0]))
    selector.consider(Candidate("global", knowing(1)), np.array([0, 1]))
    assert selector.level.tolist() == ["global", "global"]
    first, second = selector.reasons[0]
    assert first.startswith("own: skill -")
    assert second == "group: its forecast is no number"
    assert selector.reasons[1] == []


def test_a_model_that_failed_is_refused_with_its_own_reason():
    selector = make(noise(2))
    selector.consider(Candidate("own", knowing(1), failure="training diverged"), np.array([1]))
    assert selector.level.tolist() == ["naive", "naive"]
    assert selector.reasons == [[], ["own: training diverged"]]


def test_without_a_gate_every_model_that_gives_numbers_is_taken():
    selector = make(noise(2), gate=None)
    selector.consider(BAD, np.array([0]))
    selector.consider(Candidate("own", silent), np.array([1]))
    assert selector.level.tolist() == ["own", "naive"]


@pytest.mark.parametrize("share", [0.8, 0.95, 1.0])
def test_the_gate_is_one_less_the_ratio_of_mean_absolute_errors_on_the_validation_range(share):
    series = noise(1)
    y = series.y.astype(float)
    first, last = STEPS - TASK.test - TASK.validation, STEPS - TASK.test
    mine = theirs = 0.0
    for cutoff in range(first, last, TASK.horizon):
        for step in range(TASK.horizon):
            mine += abs(y[cutoff + step] * (1 - share))
            theirs += abs(y[cutoff + step] - y[cutoff - TASK.season_length + step % TASK.season_length])
    skill = 1 - mine / theirs
    for gate, taken in ((skill - 0.01, True), (min(skill + 0.01, 0.999), skill + 0.01 > 1)):
        selector = make(series, gate)
        selector.consider(Candidate("own", knowing(share)), np.array([0]))
        assert (selector.level[0] == "own") == taken, (skill, gate)


def test_a_series_too_short_to_be_judged_takes_a_model_that_others_were_judged_by():
    short = TASK.test + 3
    selector = make(panel(np.arange(short, dtype=float), np.arange(STEPS, dtype=float)))
    selector.consider(Candidate("group", knowing(1)), np.array([0]))
    assert selector.level.tolist() == ["group", "naive"]


def test_a_naive_forecast_without_error_is_matched_by_nothing_but_a_perfect_one():
    repeating = np.tile([1.0, 2.0], STEPS // 2)
    for share, level in ((1.0, "own"), (0.999, "naive")):
        selector = make(panel(repeating))
        selector.consider(Candidate("own", knowing(share)), np.array([0]))
        assert selector.level.tolist() == [level]


def test_scores_hold_two_rows_for_every_series_also_for_one_that_can_not_be_scored():
    selector = make(panel(np.arange(4.0), np.random.default_rng(1).normal(10, 1, STEPS)))
    selector.consider(GOOD, np.array([1]))
    scores = selector.scores()
    assert scores[["unique_id", "model", "level"]].to_numpy().tolist() == [
        ["s000", "LSTM", "naive"], ["s001", "LSTM", "own"],
        ["s000", "SeasonalNaive", "naive"], ["s001", "SeasonalNaive", "own"],
    ]  # fmt: skip
    by_row = scores.set_index(["unique_id", "model"])["mae"]
    assert by_row["s001", "LSTM"] == 0 < by_row["s001", "SeasonalNaive"]
    assert np.isnan(by_row["s000", "LSTM"])


def test_the_backtest_is_by_the_model_before_and_the_forecast_by_the_one_after():
    selector = make(noise(1), gate=None)
    selector.consider(Candidate("own", knowing(1), after=knowing(2)), np.array([0]))
    assert medians(selector)["LSTM"].tolist() == [14] * TASK.horizon
    rolled = {name: column.to_numpy(zero_copy_only=False) for name, column in selector.backtest().items()}
    np.testing.assert_array_equal(rolled["LSTM"], rolled["y"])
