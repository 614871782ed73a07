"""The backtest with predictors whose scores are known beforehand."""

from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from utilsforecast import losses
from utilsforecast.evaluation import evaluate

from dist_lstm.config.schema import Baseline
from dist_lstm.data.windows import Rolling, WindowCutter
from dist_lstm.evaluate.backtest import Backtest, ComparedMethods, backtest, naive_forecast, summarise
from dist_lstm.forecast.baselines import forecast_contexts
from dist_lstm.storage import is_marked
from tests.evaluate.conftest import exact, series, spread, zoned

HORIZON, WINDOWS, STRIDE, SEASON, TEST = 4, 3, 2, 7, 10
SETTINGS = {
    "task__horizon": HORIZON, "task__context_length": 14, "task__min_context": 7, "task__season_length": SEASON,
    "split__validation": 4, "split__test": TEST, "backtest__windows": WINDOWS, "backtest__stride": STRIDE,
    "model__segment_length": 7,
}  # fmt: skip
COLUMNS = ["unique_id", "ds", "cutoff", "y", "LSTM", "LSTM-lo-80", "LSTM-hi-80", "LSTM-lo-95", "LSTM-hi-95"]


def table(freq: str | int) -> pd.DataFrame:
    """Two usual series, one with gaps, one constant, one with just enough steps, and one with a step less.

    They end on the same date where `ds` are dates.
    """
    generator = np.random.default_rng(5)
    begin = {"MS": "2015-03-01"}.get(freq, "2024-02-20") if isinstance(freq, str) else 11
    enough = 7 + HORIZON + (WINDOWS - 1) * STRIDE
    gaps = generator.normal(50, 5, 60)
    gaps[[20, 21, 50, 52, 57]] = np.nan
    named = {
        "one": generator.normal(10, 3, 60), "two": generator.normal(1000, 30, 45), "gaps": gaps,
        "constant": np.full(40, 3.0), "enough": generator.normal(5, 1, enough),
        "short": generator.normal(5, 1, enough - 1),
    }  # fmt: skip
    if isinstance(freq, int):
        return pd.concat([series(name, y, begin, freq) for name, y in named.items()], ignore_index=True)
    start = {name: pd.date_range(begin, periods=60, freq=freq)[-len(y)] for name, y in named.items()}
    return pd.concat([series(name, y, start[name], freq) for name, y in named.items()], ignore_index=True)


@pytest.fixture(scope="module", params=["D", "MS", "h", 1, 5])
def prepared(request, prepare_frame):
    return prepare_frame(table(request.param), task__freq=request.param, **SETTINGS)


@pytest.fixture
def run(prepared, tmp_path):
    def make(predictor) -> tuple[Backtest, pd.DataFrame]:
        rolling = Rolling(WINDOWS, STRIDE)
        result = backtest(prepared.shards, prepared.task, rolling, predictor(prepared.task), tmp_path / "backtest")
        return result, pd.read_parquet(tmp_path / "backtest")

    return make


def seasonal_naive_predictor(task):
    def predict(panel, cutoffs):
        _, target = WindowCutter(panel, task).cut(*cutoffs.enumerate())
        naive = naive_forecast(panel, task, cutoffs)
        return np.repeat(naive[:, :, None], len(task.quantiles), axis=2), target

    return predict


def slow_cutoffs(frame: pd.DataFrame, name: str) -> list[list[int]]:
    """Rows of a series that each of its windows forecasts, written as loops over the source table."""
    rows = frame.index[frame["unique_id"] == name].tolist()
    cutoffs = [len(rows) - HORIZON - k * STRIDE for k in reversed(range(WINDOWS))]
    return [rows[cutoff : cutoff + HORIZON] for cutoff in cutoffs if cutoff >= 7]


def test_a_predictor_that_knows_the_future_has_no_error(run):
    result, _ = run(exact)
    ours = result.scores[result.scores["model"] == "LSTM"]
    assert ours[["mae", "rmse", "smape", "wql"]].eq(0).all(axis=None)
    assert ours[["coverage-80", "coverage-95"]].eq(1).all(axis=None)
    totals = summarise(result.scores)
    assert totals["LSTM"] == dict.fromkeys(("mae", "rmse", "smape", "mase", "rmsse", "wql"), 0.0) | dict.fromkeys(
        ("coverage-80", "coverage-95"), 1.0
    )
    assert totals["skill"] == 1
    assert totals["SeasonalNaive"]["mase"] > 0


def test_a_predictor_that_repeats_the_season_has_skill_zero(run):
    result, _ = run(seasonal_naive_predictor)
    totals = summarise(result.scores)
    assert totals["skill"] == 0
    assert totals["SeasonalNaive"]["mae"] > 0


def test_series_without_a_scale_are_left_out_of_skill_and_counted(run):
    result, _ = run(spread)
    totals = summarise(result.scores)
    # "constant" has scale 0; the ranges before the test ranges of two are 5 and 4 steps, less than a season.
    scale_unknown = result.scores.loc[result.scores["mase"].isna(), "unique_id"].unique()
    assert sorted(scale_unknown) == ["constant", "enough", "short"]
    assert (totals["skill_series"], totals["skill_left_out"]) == (3, 3)


def test_a_series_too_short_for_all_windows_is_scored_on_those_it_has(run):
    result, read = run(spread)
    assert (result.windows, result.series, result.too_short) == (5 * WINDOWS + WINDOWS - 1, 6, 0)
    rows = read.groupby("unique_id").size()
    assert rows.pop("short") == (WINDOWS - 1) * HORIZON
    assert rows.eq(WINDOWS * HORIZON).all()


def test_the_table_has_the_documented_columns(run):
    _, read = run(spread)
    assert list(read.columns) == [*COLUMNS, "SeasonalNaive"]


def test_time_stamps_and_values_are_those_of_the_source_table(run, prepared):
    _, read = run(spread)
    frame = prepared.frame
    for name, rows in read.groupby("unique_id"):
        expected = [index for window in slow_cutoffs(frame, name) for index in window]
        assert rows["ds"].tolist() == frame.loc[expected, "ds"].tolist()
        np.testing.assert_array_equal(rows["y"], frame.loc[expected, "y"].to_numpy())


def test_the_cutoff_is_the_last_step_before_the_forecast(run, prepared):
    _, read = run(spread)
    frame = prepared.frame
    for name, rows in read.groupby("unique_id"):
        expected = [frame.loc[window[0] - 1, "ds"] for window in slow_cutoffs(frame, name) for _ in window]
        assert rows["cutoff"].tolist() == expected
    assert (read["cutoff"] < read["ds"]).all()
    assert read["cutoff"].dtype == read["ds"].dtype


#: The clock changes in the test range: 10 steps, the last but few.
CHANGES = [("h", "2024-03-28 20:00", "Europe/Berlin"), ("h", "2024-10-24 20:00", "Europe/Berlin"),
           ("D", "2018-09-10", "America/Sao_Paulo"), ("D", "2024-02-05", "Europe/Berlin")]  # fmt: skip


@pytest.mark.parametrize(("freq", "start", "zone"), CHANGES)
def test_time_stamps_and_cutoffs_of_a_table_with_a_zone_are_in_the_zone(
    freq, start, zone, prepare_frame, tmp_path
):
    generator = np.random.default_rng(0)
    frame = pd.concat([zoned(name, generator.normal(9, 1, 60), start, freq, zone) for name in ("one", "two")])
    prepared = prepare_frame(frame.reset_index(drop=True), task__freq=freq, **SETTINGS)
    backtest(prepared.shards, prepared.task, Rolling(WINDOWS, STRIDE), exact(prepared.task), tmp_path / "backtest")
    read = pd.read_parquet(tmp_path / "backtest")
    assert read["ds"].dtype == read["cutoff"].dtype == pd.DatetimeTZDtype("us", zone)
    offsets = {one.utcoffset() for one in read["ds"]}
    assert len(offsets) == 2
    for name, rows in read.groupby("unique_id"):
        windows = slow_cutoffs(prepared.frame, str(name))
        source = prepared.frame["ds"]
        assert rows["ds"].tolist() == [source[index] for window in windows for index in window]
        assert rows["cutoff"].tolist() == [source[window[0] - 1] for window in windows for _ in window]


def test_the_baseline_repeats_the_last_season_known_at_the_cutoff(run, prepared):
    _, read = run(spread)
    frame = prepared.frame
    for name, rows in read.groupby("unique_id"):
        expected = []
        for window in slow_cutoffs(frame, name):
            for step in range(HORIZON):
                index = window[0] + step - SEASON
                while np.isnan(frame.loc[index, "y"]):
                    index -= SEASON
                expected.append(frame.loc[index, "y"])
        np.testing.assert_array_equal(rows["SeasonalNaive"], expected)


def test_utilsforecast_reads_the_table_and_finds_our_scores(run, prepared):
    result, read = run(spread)
    # Without gaps: utilsforecast takes a row for a step.
    read = read[~read["unique_id"].isin(["gaps", "constant", "enough", "short"])]
    frame = prepared.frame
    train = pd.concat(rows.iloc[: len(rows) - TEST] for _, rows in frame.groupby("unique_id"))
    seasonal = (partial(losses.mase, seasonality=SEASON), partial(losses.rmsse, seasonality=SEASON))
    metrics = [losses.mae, losses.rmse, losses.smape, *seasonal]
    theirs = evaluate(read.drop(columns="cutoff"), metrics=metrics, train_df=train)
    assert set(theirs.columns) == {"unique_id", "metric", "LSTM", "SeasonalNaive"}
    assert set(theirs["unique_id"]) == {"one", "two"}
    ours = result.scores.set_index(["unique_id", "model"])
    for _, row in theirs.iterrows():
        # Theirs is a share, ours the percentage of the M4 competition.
        factor = 200 if row["metric"] == "smape" else 1
        for model in ("LSTM", "SeasonalNaive"):
            expected = ours.loc[(row["unique_id"], model), row["metric"]]
            assert factor * row[model] == pytest.approx(expected, rel=1e-4), (row["metric"], model)


def test_utilsforecast_reads_the_table_with_its_cutoffs_and_intervals(run):
    result, read = run(spread)
    theirs = evaluate(read, metrics=[losses.coverage], models=["LSTM"], level=[80, 95])
    assert len(theirs) == 2 * result.windows
    ours = result.scores[result.scores["model"] == "LSTM"].set_index("unique_id")
    full = read[read["unique_id"] != "gaps"]
    for level in (80, 95):
        covered = losses.coverage(full.drop(columns="cutoff"), models=["LSTM"], level=level)
        expected = ours.loc[covered["unique_id"], f"coverage-{level}"]
        np.testing.assert_allclose(covered["LSTM"], expected)


def test_missing_values_are_null_and_do_not_count(run, prepared):
    result, read = run(spread)
    rows = read[read["unique_id"] == "gaps"]
    source = prepared.frame.set_index(["unique_id", "ds"])["y"]
    missing = [np.isnan(source["gaps", stamp]) for stamp in rows["ds"]]
    assert rows["y"].isna().tolist() == missing
    assert sum(missing) > 0
    points = result.scores.loc[result.scores["unique_id"] == "gaps", "points"]
    assert points.tolist() == [WINDOWS * HORIZON - sum(missing)] * 2


def test_there_is_one_row_per_scored_series_and_model(run):
    result, _ = run(spread)
    pairs = result.scores[["unique_id", "model"]].apply(tuple, axis=1).tolist()
    scored = ["constant", "enough", "gaps", "one", "short", "two"]
    assert sorted(pairs) == sorted((name, model) for name in scored for model in ("LSTM", "SeasonalNaive"))


def test_the_folder_is_marked_as_finished(run, tmp_path):
    run(spread)
    assert is_marked(tmp_path / "backtest")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backtest"]


def test_a_failing_predictor_leaves_no_folder(prepared, tmp_path):
    def predict(panel, cutoffs):
        raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        backtest(prepared.shards, prepared.task, Rolling(WINDOWS, STRIDE), predict, tmp_path / "backtest")
    assert list(tmp_path.iterdir()) == []


def test_no_series_long_enough_gives_no_scores(prepared, tmp_path):
    task = replace(prepared.task, min_context=100)
    result = backtest(prepared.shards, task, Rolling(WINDOWS, STRIDE), exact(task), tmp_path / "backtest")
    assert (result.windows, result.series, result.too_short) == (0, 0, 6)
    assert summarise(result.scores) == {}
    assert [path.name for path in (tmp_path / "backtest").iterdir()] == ["_SUCCESS"]


def test_a_point_head_is_scored_without_quantiles(prepare_frame, tmp_path):
    prepared = prepare_frame(table("D"), task__freq="D", model__head="mae", **SETTINGS)
    result = backtest(
        prepared.shards, prepared.task, Rolling(WINDOWS, STRIDE), spread(prepared.task), tmp_path / "backtest"
    )
    assert list(pd.read_parquet(tmp_path / "backtest").columns) == [*COLUMNS[:5], "SeasonalNaive"]
    assert set(summarise(result.scores)["LSTM"]) == {"mae", "rmse", "smape", "mase", "rmsse"}


def test_the_baseline_is_nan_where_the_last_four_seasons_are_missing(prepare_frame, tmp_path):
    y = np.random.default_rng(0).normal(10, 1, 80)
    y[80 - HORIZON - 4 * SEASON : 80 - HORIZON] = np.nan
    prepared = prepare_frame(
        pd.concat([series("hole", y), series("whole", np.arange(80.0) % 10)]), task__freq="D",
        **(SETTINGS | {"backtest__windows": 1}),
    )  # fmt: skip
    backtest(prepared.shards, prepared.task, Rolling(1, 1), exact(prepared.task), tmp_path / "backtest")
    read = pd.read_parquet(tmp_path / "backtest").set_index("unique_id")["SeasonalNaive"]
    assert read["hole"].isna().all()
    assert read["whole"].notna().all()


def test_every_baseline_has_a_column_of_what_it_forecasts_from_all_steps_before_the_cutoff(prepared, tmp_path):
    names = get_args(Baseline)
    rolling, folder = Rolling(WINDOWS, STRIDE), tmp_path / "backtest"
    result = backtest(
        prepared.shards, prepared.task, rolling, spread(prepared.task), folder, ComparedMethods(names)
    )
    read = pd.read_parquet(folder)
    assert list(read.columns) == [*COLUMNS, *names]
    frame = prepared.frame
    for name, rows in read.groupby("unique_id"):
        history = frame.loc[frame["unique_id"] == name, "y"].to_numpy()
        for number, window in enumerate(slow_cutoffs(frame, name)):
            context = history[: window[0] - frame.index[frame["unique_id"] == name][0]]
            expected = forecast_contexts(context[None], HORIZON, SEASON, names).values
            own = rows.iloc[number * HORIZON : (number + 1) * HORIZON]
            for one in names:
                np.testing.assert_allclose(own[one], expected[one][0], rtol=1e-4)
    totals = summarise(result.scores, result.seconds)
    assert set(result.seconds) == {"LSTM", *names}
    assert totals["Naive2"]["owa"] == 1
    # OWA counts the series with a scale alone; the others have no MASE.
    scored = result.scores[result.scores["mase"].notna()]
    means = scored.groupby("model")[["smape", "mase"]].mean()
    assert totals["Theta"]["owa"] == pytest.approx((means.loc["Theta"] / means.loc["Naive2"]).mean())
