"""The first usable model of every series."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dist_lstm.config.task import Task
from dist_lstm.data.panel import Panel
from dist_lstm.data.windows import Rolling, WindowCutter, validation_cutoffs
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


def scaled_truth(share: float):
    """A model that forecasts the true values times a factor."""

    def predict(part, cutoffs):
        target = WindowCutter(part, TASK).windows(*cutoffs.enumerate())[:, TASK.context_length :]
        # There are no true values after the end of a series.
        values = np.repeat(np.nan_to_num(target, nan=7.0)[..., None] * share, len(TASK.quantiles), axis=2)
        return values.astype(np.float32), target

    return predict


def not_finite(part, cutoffs):
    values, target = scaled_truth(1)(part, cutoffs)
    return values * np.nan, target


def make(series: Panel, gate: float | None = 0.0, task: Task = TASK) -> FallbackSelector:
    return FallbackSelector(series, task, Rolling(2, TASK.horizon), gate)


GOOD, BAD = Candidate("own", scaled_truth(1)), Candidate("own", scaled_truth(0))


def medians(selector: FallbackSelector) -> np.ndarray:
    return pd.DataFrame({name: column.to_pylist() for name, column in selector.forecasts().items()})


def test_every_series_has_one_forecast_before_any_model_is_considered():
    table = medians(make(noise(3)))
    assert len(table) == 3 * TASK.horizon
    assert table["LSTM"].notna().all()
    assert table["LSTM-lo-80"].isna().all(), "the seasonal naive forecast has no quantiles"


def test_a_model_forecasts_the_series_that_it_is_usable_for_and_no_other():
    selector = make(noise(3))
    selector.consider(GOOD, np.array([0, 2]))
    assert selector.level.tolist() == ["own", "naive", "own"]
    assert selector.reasons == [[], [], []]
    table = medians(selector)
    chosen = table["unique_id"].isin(["s000", "s002"])
    assert (table.loc[chosen, "LSTM"] == 7).all()
    assert (table.loc[~chosen, "LSTM"] != 7).all()


def test_a_model_worse_than_the_baseline_is_replaced_by_the_next_and_the_reasons_are_kept():
    selector = make(noise(2))
    selector.consider(BAD, np.array([0]))
    selector.consider(Candidate("group", not_finite), np.array([0]))
    selector.consider(Candidate("global", scaled_truth(1)), np.array([0, 1]))
    assert selector.level.tolist() == ["global", "global"]
    first, second = selector.reasons[0]
    assert first.startswith("own: skill -")
    assert second == "group: its forecast is not finite"
    assert selector.reasons[1] == []


def test_a_model_that_failed_is_rejected_with_its_reason():
    selector = make(noise(2))
    selector.consider(Candidate("own", scaled_truth(1), failure="training diverged"), np.array([1]))
    assert selector.level.tolist() == ["naive", "naive"]
    assert selector.reasons == [[], ["own: training diverged"]]


def test_without_a_gate_every_model_with_a_finite_forecast_is_accepted():
    selector = make(noise(2), gate=None)
    selector.consider(BAD, np.array([0]))
    selector.consider(Candidate("own", not_finite), np.array([1]))
    assert selector.level.tolist() == ["own", "naive"]


@pytest.mark.parametrize("share", [0.8, 0.95, 1.0])
def test_the_gate_compares_one_minus_the_ratio_of_mean_absolute_errors_on_the_validation_range(share):
    series = noise(1)
    y = series.y.astype(float)
    model_error = naive_error = 0.0
    for cutoff in validation_cutoffs(series, TASK).enumerate()[1].tolist():
        for step in range(TASK.horizon):
            model_error += abs(y[cutoff + step] * (1 - share))
            naive_error += abs(y[cutoff + step] - y[cutoff - TASK.season_length + step % TASK.season_length])
    skill = 1 - model_error / naive_error
    for gate, taken in ((skill - 0.01, True), (min(skill + 0.01, 0.999), skill + 0.01 > 1)):
        selector = make(series, gate)
        selector.consider(Candidate("own", scaled_truth(share)), np.array([0]))
        assert (selector.level[0] == "own") == taken, (skill, gate)


def test_a_series_without_validation_windows_accepts_a_model_that_was_validated_on_others():
    short = TASK.test + 3
    selector = make(panel(np.arange(short, dtype=float), np.arange(STEPS, dtype=float)))
    selector.consider(Candidate("group", scaled_truth(1)), np.array([0]))
    assert selector.level.tolist() == ["group", "naive"]


def test_a_naive_forecast_without_error_is_equalled_only_by_a_perfect_one():
    repeating = np.tile([1.0, 2.0], STEPS // 2)
    for share, level in ((1.0, "own"), (0.999, "naive")):
        selector = make(panel(repeating))
        selector.consider(Candidate("own", scaled_truth(share)), np.array([0]))
        assert selector.level.tolist() == [level]


def test_scores_hold_two_rows_per_series_also_for_one_that_cannot_be_scored():
    selector = make(panel(np.arange(4.0), np.random.default_rng(1).normal(10, 1, STEPS)))
    selector.consider(GOOD, np.array([1]))
    scores = selector.scores().to_pandas()
    assert scores[["unique_id", "model", "level"]].to_numpy().tolist() == [
        ["s000", "LSTM", "naive"], ["s001", "LSTM", "own"],
        ["s000", "SeasonalNaive", "naive"], ["s001", "SeasonalNaive", "own"],
    ]  # fmt: skip
    by_row = scores.set_index(["unique_id", "model"])["mae"]
    assert by_row["s001", "LSTM"] == 0 < by_row["s001", "SeasonalNaive"]
    assert np.isnan(by_row["s000", "LSTM"])


def test_names_that_are_whole_numbers_in_the_table_are_so_in_all_tables_of_a_fleet():
    numbers = replace(noise(2), unique_id=np.array(["7", "12"], object))
    selector = make(numbers, task=replace(TASK, id_type="int64"))
    selector.consider(GOOD, np.array([1]))
    assert selector.scores()["unique_id"].to_pylist() == [7, 12] * 2
    for table in (selector.forecasts(), selector.backtest()):
        assert set(table["unique_id"].to_pylist()) == {7, 12}


def test_the_backtest_uses_the_model_without_the_test_range_and_the_forecast_the_one_with_it():
    selector = make(noise(1), gate=None)
    selector.consider(Candidate("own", scaled_truth(1), after=scaled_truth(2)), np.array([0]))
    assert medians(selector)["LSTM"].tolist() == [14] * TASK.horizon
    rolled = {name: column.to_numpy(zero_copy_only=False) for name, column in selector.backtest().items()}
    np.testing.assert_array_equal(rolled["LSTM"], rolled["y"])


def test_scores_of_packs_have_the_same_columns_whatever_is_in_them(tmp_path):
    with_reason, without = make(noise(2)), make(noise(2))
    for selector in (with_reason, without):
        selector.consider(GOOD, np.array([0, 1]))
    with_reason.level[:] = "naive"
    with_reason.consider(BAD, np.array([1]))
    with_reason.consider(Candidate("group", scaled_truth(1), refit_refused="diverged"), np.array([1]))
    tables = [selector.scores() for selector in (without, with_reason)]
    assert tables[0].schema.equals(tables[1].schema)
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"part-{number}.parquet")
    scores = pd.read_parquet(tmp_path)
    assert scores["reason"].notna().sum() == 2  # a row per model
    assert scores["refit_refused"].dropna().tolist() == ["diverged"] * 2
