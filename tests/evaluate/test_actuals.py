"""Forecasts scored against a table of what happened."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dist_lstm.config.load import override
from dist_lstm.data.windows import forecast_cutoffs
from dist_lstm.errors import UserError
from dist_lstm.evaluate.actuals import evaluate_forecasts
from dist_lstm.forecast.baselines import forecast_contexts
from dist_lstm.forecast.table import PartWriter, forecast_columns
from dist_lstm.storage import mark
from tests.evaluate.conftest import Prepared, series, zoned

HORIZON, SEASON = 3, 2
SETTINGS = {
    "task__horizon": HORIZON, "task__context_length": 4, "task__season_length": SEASON, "split__validation": 3,
    "split__test": 3,
}  # fmt: skip
PAST = {"a": np.arange(20.0), "b": 10 + np.arange(24.0) ** 1.5, "c": np.r_[np.full(10, 4.0), np.nan, 5.0] * 2}
FUTURE = {"a": [20.0, 22.0, 21.0], "b": [150.0, 160.0, 165.0], "c": [8.0, 9.0, 10.0]}
METRICS = {"mae", "rmse", "smape", "mase", "rmsse", "wql", "coverage-80", "coverage-95"}


def past(freq: str | int, start: str | int) -> pd.DataFrame:
    return pd.concat([series(name, y, start, freq) for name, y in PAST.items()], ignore_index=True)


def future(freq: str | int, start: str | int) -> pd.DataFrame:
    """What happens after `past`, with the past as well: a table of actuals often goes back to the start."""
    longer = {name: np.r_[PAST[name], FUTURE[name]] for name in PAST}
    return pd.concat([series(name, y, start, freq) for name, y in longer.items()], ignore_index=True)


def write_forecasts(prepared: Prepared, folder, error: float = 0.0, values: dict | None = None) -> None:
    """Forecast what happens, plus an error; quantiles lie 1 and 2 beside it."""
    future = values or FUTURE
    values = np.array([future[name] for name in sorted(future)], np.float32)[:, :, None] + error
    offsets = (np.arange(len(prepared.task.quantiles)) - len(prepared.task.quantiles) // 2).astype(np.float32)
    for name, panels in prepared.shards.panels_by_file():
        with PartWriter(folder / name) as part:
            for panel in panels:
                cutoffs = forecast_cutoffs(panel.length)
                part.write(forecast_columns(panel, prepared.task, cutoffs, values + offsets))
    mark(folder)


def write_table(table: pd.DataFrame, folder) -> None:
    with PartWriter(folder / "part-00000.parquet") as part:
        part.write({name: pa.array(table[name], from_pandas=True) for name in table.columns})
    mark(folder)


@pytest.fixture(params=[("D", "2024-01-30"), ("MS", "2020-05-01"), (1, 1), (10, -40)], ids=str)
def case(request, prepare_frame, tmp_path):
    """A run on the past, forecasts that are 1 too high, and a function that scores them."""
    freq, start = request.param
    prepared = prepare_frame(past(freq, start), task__freq=freq, **SETTINGS)
    write_forecasts(prepared, tmp_path / "forecasts", error=1.0)

    def score(actuals: pd.DataFrame) -> dict:
        actuals.to_parquet(tmp_path / "actuals.parquet", index=False)
        data = str(tmp_path / "actuals.parquet")
        return evaluate_forecasts(prepared.shards, prepared.config, prepared.task, data, tmp_path / "forecasts")

    return prepared, future(freq, start), score


def slow_scale(y: np.ndarray, power: int) -> float:
    differences = [abs(y[t] - y[t - SEASON]) ** power for t in range(SEASON, len(y))]
    return float(np.nanmean(differences))


def slow_naive(y: np.ndarray) -> list[float]:
    """The last value there is at the same place in a season."""
    forecast = []
    for step in range(HORIZON):
        index = len(y) + step - SEASON
        while index >= len(y) or np.isnan(y[index]):
            index -= SEASON
        forecast.append(y[index])
    return forecast


def test_scores_equal_those_of_loops_over_single_values(case):
    _, actuals, score = case
    scores = score(actuals)
    mases = [1 / slow_scale(PAST[name], 1) for name in PAST]
    rmsses = [np.sqrt(1 / slow_scale(PAST[name], 2)) for name in PAST]
    smapes = [np.mean([200 / (abs(y) + abs(y + 1)) for y in FUTURE[name]]) for name in PAST]
    ours = scores["LSTM"]
    assert set(ours) == METRICS
    assert (ours["mae"], ours["rmse"]) == (pytest.approx(1, rel=1e-5), pytest.approx(1, rel=1e-5))
    assert ours["mase"] == pytest.approx(np.mean(mases), rel=1e-5)
    assert ours["rmsse"] == pytest.approx(np.mean(rmsses), rel=1e-5)
    assert ours["smape"] == pytest.approx(np.mean(smapes), rel=1e-5)
    # The forecast is 1 too high: the value lies on the lower end of the inner interval.
    assert (ours["coverage-80"], ours["coverage-95"]) == (1, 1)
    # Levels .025, .1, .5, .9, .975 at 1 below the value, at it, and 1, 2, 3 above it.
    loss = 2 * np.mean([0.025 * 1, 0, 0.5 * 1, 0.1 * 2, 0.025 * 3])
    assert ours["wql"] == pytest.approx(loss * 9 / sum(map(sum, FUTURE.values())), rel=1e-4)


def test_the_baseline_is_the_seasonal_naive_forecast_from_the_end_of_the_past(case):
    _, actuals, score = case
    scores = score(actuals)
    errors = {name: np.mean(np.abs(np.subtract(FUTURE[name], slow_naive(y)))) for name, y in PAST.items()}
    mases = [errors[name] / slow_scale(PAST[name], 1) for name in PAST]
    assert scores["SeasonalNaive"]["mae"] == pytest.approx(np.mean(list(errors.values())), rel=1e-5)
    assert scores["SeasonalNaive"]["mase"] == pytest.approx(np.mean(mases), rel=1e-5)
    assert scores["skill"] == pytest.approx(1 - scores["LSTM"]["mase"] / scores["SeasonalNaive"]["mase"])
    assert (scores["skill_series"], scores["skill_left_out"]) == (3, 0)


def test_the_baselines_of_the_config_are_scored_from_the_end_of_the_past(case):
    _, actuals, score = case
    scores = score(actuals)
    for model in ("Theta", "DampedTrend"):
        errors = {}
        for name, y in PAST.items():
            values = forecast_contexts(y[None], HORIZON, SEASON, [model]).values[model][0]
            errors[name] = np.mean(np.abs(np.subtract(FUTURE[name], values)))
        mases = [errors[name] / slow_scale(PAST[name], 1) for name in PAST]
        assert scores[model]["mae"] == pytest.approx(np.mean(list(errors.values())), rel=1e-4)
        assert scores[model]["mase"] == pytest.approx(np.mean(mases), rel=1e-4)


def test_every_point_with_an_actual_is_counted(case):
    _, actuals, score = case
    scores = score(actuals)
    assert (scores["points"], scores["series"], scores["points_without_actual"]) == (9, 3, 0)


def test_rows_without_an_actual_are_counted_and_not_scored(case):
    _, actuals, score = case
    ends = actuals.groupby("unique_id").tail(HORIZON)
    holed = actuals.drop(index=ends.index[ends["unique_id"] == "a"][1:])  # two rows are not there
    holed.loc[ends.index[ends["unique_id"] == "b"][0], "y"] = np.nan  # one is there without a value
    scores = score(holed)
    assert (scores["points"], scores["series"], scores["points_without_actual"]) == (6, 3, 3)
    assert scores["LSTM"]["mae"] == pytest.approx(1, rel=1e-5)


def test_a_series_without_actuals_is_left_out_and_counted(case):
    _, actuals, score = case
    scores = score(actuals[actuals["unique_id"] != "b"])
    assert (scores["points"], scores["series"], scores["points_without_actual"]) == (6, 2, 3)
    assert (scores["skill_series"], scores["skill_left_out"]) == (2, 1)


def test_series_and_steps_without_a_forecast_do_not_change_the_scores(case):
    prepared, actuals, score = case
    stranger = series("stranger", np.arange(30.0), actuals["ds"].iloc[0], prepared.task.freq.name)
    later = actuals.groupby("unique_id").tail(1).assign(ds=stranger["ds"].iloc[-1], y=1e9)
    assert score(pd.concat([actuals, stranger, later])) == score(actuals)


def test_the_order_of_the_rows_does_not_matter(case):
    _, actuals, score = case
    assert score(actuals.sample(frac=1, random_state=1)) == score(actuals)


def test_two_actuals_of_one_step_are_refused_naming_it(case):
    _, actuals, score = case
    last = actuals[actuals["unique_id"] == "b"].iloc[[-1]]
    with pytest.raises(UserError, match=r"--data: two rows for unique_id 'b' at .*; drop one") as caught:
        score(pd.concat([actuals, last]))
    assert str(last["ds"].item()) in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "merged"),
    [("first", 5.0), ("last", np.nan), ("mean", 6.0), ("sum", 12.0)],
    ids=str,
)
def test_several_actuals_of_one_step_are_merged_by_the_rule_of_the_run(case, tmp_path, rule, merged):
    """As in preparation: a mean and a sum leave out missing values, the first and the last may be missing."""
    prepared, actuals, score = case
    row = actuals.index[actuals["unique_id"] == "b"][-1]
    missing = actuals.index[actuals["unique_id"] == "a"][-1]
    repeats = [actuals.loc[[row]].assign(y=y) for y in (5.0, 7.0, np.nan)]
    without = [actuals.loc[[missing]].assign(y=np.nan)] * 2
    table = pd.concat([*repeats, *without, actuals.drop(index=[row, missing])])
    by_hand = actuals.assign(y=actuals["y"].where(actuals.index != row, merged))
    by_hand.loc[missing, "y"] = np.nan
    table.to_parquet(tmp_path / "several.parquet", index=False)
    run = override(prepared.config, {"data.duplicates": rule})
    scores = evaluate_forecasts(
        prepared.shards, run, prepared.task, str(tmp_path / "several.parquet"), tmp_path / "forecasts"
    )
    expected = score(by_hand)
    assert scores.keys() == expected.keys()
    for name in scores:
        assert scores[name] == pytest.approx(expected[name], rel=1e-9)
    assert scores["points_without_actual"] == 1 + np.isnan(merged)


def test_two_actuals_before_the_forecast_are_ignored(case):
    _, actuals, score = case
    assert score(pd.concat([actuals, actuals.iloc[[0]]])) == score(actuals)


@pytest.mark.parametrize("which", ["other series", "earlier steps", "no rows", "no values"])
def test_actuals_without_any_overlap_are_refused_naming_the_expected_range(case, which):
    prepared, actuals, score = case
    strangers = {
        "other series": actuals.assign(unique_id="x" + actuals["unique_id"]),
        "earlier steps": prepared.frame,
        "no rows": actuals.iloc[:0],
        "no values": actuals.assign(y=np.nan),
    }
    with pytest.raises(UserError, match=r"has no value at any of the forecast steps, .* of 3 series"):
        score(strangers[which])


@pytest.mark.parametrize("unfinished", ["missing", "empty", "without marker"])
def test_forecasts_that_are_not_finished_are_refused(case, tmp_path, unfinished):
    prepared, _, _ = case
    folder = tmp_path / unfinished
    if unfinished != "missing":
        folder.mkdir()
    if unfinished == "without marker":
        write_forecasts(prepared, folder)
        (folder / "_SUCCESS").unlink()
    with pytest.raises(UserError, match=f"{unfinished}: holds no finished forecasts; run dist-lstm forecast"):
        evaluate_forecasts(prepared.shards, prepared.config, prepared.task, "none.parquet", folder)


@pytest.mark.parametrize(
    ("freq", "start", "other"), [("D", "2024-01-30", 1), (1, 1, "D")], ids=["numbers", "time stamps"]
)
def test_actuals_with_another_kind_of_ds_are_refused(prepare_frame, tmp_path, freq, start, other):
    prepared = prepare_frame(past(freq, start), task__freq=freq, **SETTINGS)
    write_forecasts(prepared, tmp_path / "forecasts")
    future(other, 1 if other == 1 else "2024-01-01").to_parquet(tmp_path / "actuals.parquet")
    with pytest.raises(UserError, match=r"--data: column ds holds .*, the forecasts hold"):
        evaluate_forecasts(
            prepared.shards, prepared.config, prepared.task, str(tmp_path / "actuals.parquet"),
            tmp_path / "forecasts",
        )  # fmt: skip


def test_actuals_are_read_with_the_column_names_of_the_run(prepare_frame, tmp_path):
    names = {"unique_id": "item", "ds": "day", "y": "sold"}
    prepared = prepare_frame(
        past("D", "2024-01-30").rename(columns=names), task__freq="D", data__columns=names, **SETTINGS
    )
    write_forecasts(prepared, tmp_path / "forecasts")
    future("D", "2024-01-30").rename(columns=names).to_csv(tmp_path / "actuals.csv", index=False)
    scores = evaluate_forecasts(
        prepared.shards, prepared.config, prepared.task, str(tmp_path / "actuals.csv"), tmp_path / "forecasts"
    )
    assert scores["LSTM"]["mae"] == pytest.approx(0, abs=1e-4)


def test_actuals_need_no_static_covariates(prepare_frame, tmp_path):
    static = {"data__static_categories": ["city"], "data__static_numbers": ["size"]}
    table = past("D", "2024-01-30").assign(city="Ulm", size=1.5)
    prepared = prepare_frame(table, task__freq="D", **static, **SETTINGS)
    write_forecasts(prepared, tmp_path / "forecasts")
    future("D", "2024-01-30").to_csv(tmp_path / "actuals.csv", index=False)
    scores = evaluate_forecasts(
        prepared.shards, prepared.config, prepared.task, str(tmp_path / "actuals.csv"), tmp_path / "forecasts"
    )
    assert scores["LSTM"]["mae"] == pytest.approx(0, abs=1e-4)


def test_actuals_of_a_wide_run_are_wide(prepare_frame, tmp_path):
    steps = pd.date_range("2024-01-30", periods=27, unit="us")
    table = pd.DataFrame({"ds": steps, "b": np.r_[PAST["b"], FUTURE["b"]], "a": np.r_[PAST["b"], FUTURE["a"]]})
    prepared = prepare_frame(table[:24], task__freq="D", data__layout="wide", **SETTINGS)
    write_forecasts(prepared, tmp_path / "forecasts", values={name: FUTURE[name] for name in "ab"})
    table.to_feather(tmp_path / "actuals.feather")
    scores = evaluate_forecasts(
        prepared.shards, prepared.config, prepared.task, str(tmp_path / "actuals.feather"), tmp_path / "forecasts"
    )
    assert (scores["points"], scores["series"]) == (6, 2)
    assert scores["LSTM"]["mae"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("freq", "start", "zone"),
    [
        ("h", "2024-03-30 03:00", "Europe/Berlin"),
        ("D", "2018-10-14", "America/Sao_Paulo"),
        ("D", "2024-03-10", "+05:30"),
    ],
)
def test_actuals_with_a_zone_are_scored_as_those_without_and_those_of_another_zone_are_refused(
    freq, start, zone, prepare_frame, tmp_path
):
    def table(series: dict, zone: str | None) -> pd.DataFrame:
        parts = [zoned(name, y, start, freq, zone or "UTC") for name, y in series.items()]
        frame = pd.concat(parts, ignore_index=True)
        return frame if zone else frame.assign(ds=frame["ds"].dt.tz_localize(None))

    longer = {name: np.r_[PAST[name], FUTURE[name]] for name in PAST}
    scores = []
    for run_zone in (zone, None):
        prepared = prepare_frame(table(PAST, run_zone), task__freq=freq, **SETTINGS)
        folder = tmp_path / f"forecasts in {run_zone is None}"
        write_forecasts(prepared, folder, error=1.0)
        work = (prepared.shards, prepared.config, prepared.task)
        for number, other in enumerate((zone, None, "Asia/Tokyo")):
            path = tmp_path / f"actuals {number}.parquet"
            table(longer, other).to_parquet(path)
            if other == run_zone:
                scores.append(evaluate_forecasts(*work, str(path), folder))
            else:
                with pytest.raises(UserError, match=r"--data: column ds holds .*, the forecasts hold"):
                    evaluate_forecasts(*work, str(path), folder)
    assert scores[0] == scores[1]
    assert scores[0]["points"] == 9
    assert scores[0]["skill_series"] == 3


def test_forecasts_of_series_the_run_never_saw_are_scored_without_scale(case, tmp_path):
    prepared, actuals, _ = case
    table = pd.read_parquet(tmp_path / "forecasts")
    new = table.assign(unique_id="new " + table["unique_id"])
    write_table(new, tmp_path / "new")
    actuals.assign(unique_id="new " + actuals["unique_id"]).to_parquet(tmp_path / "actuals.parquet")
    scores = evaluate_forecasts(
        prepared.shards, prepared.config, prepared.task, str(tmp_path / "actuals.parquet"), tmp_path / "new"
    )
    assert (scores["points"], scores["series"], scores["points_without_actual"]) == (9, 3, 0)
    assert scores["LSTM"]["mae"] == pytest.approx(1, rel=1e-5)
    assert np.isnan([scores["LSTM"]["mase"], scores["SeasonalNaive"]["mae"], scores["skill"]]).all()
    assert (scores["skill_series"], scores["skill_left_out"]) == (0, 3)


def test_forecasts_from_a_later_cutoff_have_no_skill_where_the_baseline_has_fewer_points(case, tmp_path):
    prepared, actuals, _ = case
    # They begin one step after the end of the run's series: the baseline has no value at their last step.
    table = pd.read_parquet(tmp_path / "forecasts")
    table["ds"] = prepared.task.freq.advance(table["ds"].to_numpy(), np.ones(len(table), np.int64))
    write_table(table, tmp_path / "later")
    last = table.groupby("unique_id").tail(1)[["unique_id", "ds"]].assign(y=7.0)
    pd.concat([actuals, last]).to_parquet(tmp_path / "actuals.parquet")
    scores = evaluate_forecasts(
        prepared.shards, prepared.config, prepared.task, str(tmp_path / "actuals.parquet"), tmp_path / "later"
    )
    assert scores["points"] == 9
    assert (scores["skill_series"], scores["skill_left_out"]) == (0, 3)


@pytest.mark.parametrize("kind", [int, str])
def test_names_of_actuals_may_be_numbers_or_text(kind, prepare_frame, tmp_path):
    numbers = {"a": 11, "b": 2, "c": 3}
    frame = past("D", "2024-01-30").replace({"unique_id": numbers}).astype({"unique_id": int})
    prepared = prepare_frame(frame, task__freq="D", **SETTINGS)
    write_forecasts(prepared, tmp_path / "forecasts", 1.0, {numbers[name]: y for name, y in FUTURE.items()})
    actuals = future("D", "2024-01-30").replace({"unique_id": numbers}).astype({"unique_id": kind})
    actuals.to_parquet(tmp_path / "actuals.parquet", index=False)
    data, forecasts = str(tmp_path / "actuals.parquet"), tmp_path / "forecasts"
    result = evaluate_forecasts(prepared.shards, prepared.config, prepared.task, data, forecasts)
    assert (result["points"], result["series"], result["LSTM"]["mae"]) == (9, 3, 1.0)
