"""The Python API: DataFrames in and out, in the columns of Nixtla's libraries."""

import copy
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dist_lstm import Forecaster
from dist_lstm.config.task import TRANSFORMS
from dist_lstm.errors import UserError
from dist_lstm.storage import lock

HORIZON = 6
SETTINGS = {
    "task.context_length": 24,
    "train.max_steps": 8,
    "train.batch_size": 16,
    "model.units": [4],
    "split.validation": 12,
    "split.test": 18,
}


def table(names: str = "abc", steps: int = 120, freq: str = "h") -> pd.DataFrame:
    generator = np.random.default_rng(1)
    ds = pd.date_range("2024-01-01", periods=steps, freq=freq)
    parts = [
        pd.DataFrame({"unique_id": name, "ds": ds, "y": 10 + number + generator.normal(size=steps)})
        for number, name in enumerate(names)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    return Forecaster.fit(table(), HORIZON, season_length=6, overrides=SETTINGS)


def test_predict_gives_the_steps_after_the_end_of_every_series(fitted):
    forecasts = fitted.predict()
    assert list(forecasts.columns) == ["unique_id", "ds", "LSTM"] + [
        f"LSTM-{end}-{level}" for level in (80, 95) for end in ("lo", "hi")
    ]
    for name, rows in forecasts.groupby("unique_id"):
        last = table()[table()["unique_id"] == name]["ds"].max()
        assert list(rows["ds"]) == list(pd.date_range(last, periods=HORIZON + 1, freq="h")[1:])
    assert set(forecasts["unique_id"]) == {"a", "b", "c"}
    assert (forecasts["LSTM-lo-95"] <= forecasts["LSTM"]).all()


def test_predicting_twice_gives_the_same(fitted):
    pd.testing.assert_frame_equal(fitted.predict(), fitted.predict())


def test_the_training_table_passed_to_predict_gives_the_same_forecasts(fitted):
    pd.testing.assert_frame_equal(fitted.predict(table()), fitted.predict())


def test_newer_values_of_a_series_move_its_forecast_forward(fitted):
    newer = table(steps=130)
    forecasts = fitted.predict(newer)
    assert forecasts["ds"].min() == pd.Timestamp("2024-01-06 10:00")


def test_series_that_were_not_trained_on_are_forecast(fitted):
    forecasts = fitted.predict(table("xy", steps=40))
    assert set(forecasts["unique_id"]) == {"x", "y"}
    assert forecasts["LSTM"].notna().all()


def test_the_users_table_is_not_changed(fitted):
    given = table("x")
    before = given.copy()
    fitted.predict(given)
    pd.testing.assert_frame_equal(given, before)


def test_cross_validation_gives_actual_values_and_forecasts_of_a_model_that_never_saw_them(fitted):
    forecasts = fitted.cross_validation()
    assert list(forecasts.columns[:4]) == ["unique_id", "ds", "cutoff", "y"]
    assert list(forecasts.columns[-3:]) == ["SeasonalNaive", "Theta", "DampedTrend"]
    assert len(forecasts) == 3 * 3 * HORIZON
    joined = forecasts.merge(table(), on=["unique_id", "ds"])
    np.testing.assert_allclose(joined["y_x"], joined["y_y"], rtol=1e-6)
    assert (forecasts["ds"] > forecasts["cutoff"]).all()


def test_cross_validation_accepts_other_cutoffs_inside_the_test_range(fitted):
    rows = fitted.cross_validation(n_windows=5, step_size=3)
    assert rows.groupby("unique_id")["cutoff"].nunique().eq(5).all()
    usual = fitted.cross_validation().set_index(["unique_id", "ds", "cutoff"])["LSTM"]
    other = rows.set_index(["unique_id", "ds", "cutoff"])["LSTM"]
    both = usual.index.intersection(other.index)
    assert len(both) > 0
    # Other cutoffs share a batch with them: the last bits may differ.
    np.testing.assert_allclose(usual[both], other[both], rtol=0, atol=usual.abs().max() * 2.0**-20)


def test_cutoffs_that_were_trained_on_are_refused(fitted):
    with pytest.raises(
        UserError, match=r"need 24 steps held out from training, there are 18; fit with .*split\.test"
    ):
        fitted.cross_validation(n_windows=4)


def test_scores_equal_those_of_the_backtest(fitted):
    assert set(fitted.scores["model"]) == {"LSTM", "SeasonalNaive", "Theta", "DampedTrend"}
    assert len(fitted.scores) == 12


def test_a_saved_forecaster_is_loaded_with_the_same_forecasts(fitted, tmp_path):
    fitted.save(tmp_path / "kept")
    loaded = Forecaster.load(tmp_path / "kept")
    pd.testing.assert_frame_equal(loaded.predict(), fitted.predict())
    pd.testing.assert_frame_equal(loaded.predict(table("xy")), fitted.predict(table("xy")))
    pd.testing.assert_frame_equal(loaded.cross_validation(), fitted.cross_validation())


def test_saving_never_overwrites_a_folder(fitted, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        fitted.save(tmp_path)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is not a run directory"):
        Forecaster.load(tmp_path)


def test_a_wrong_setting_is_refused_by_name():
    with pytest.raises(UserError, match=r"train\.max_step is not a setting; did you mean train\.max_steps"):
        Forecaster.fit(table(), HORIZON, overrides={"train.max_step": 1})


def test_a_missing_column_is_refused_by_name():
    with pytest.raises(UserError, match=r"has no column 'unique_id'"):
        Forecaster.fit(table().rename(columns={"unique_id": "shop"}), HORIZON)


def test_progress_is_printed_only_when_requested(fitted, capsys):
    fitted.predict(table("x"))
    assert capsys.readouterr() == ("", "")


def test_forecasts_have_nixtlas_column_names_and_the_time_zone_of_the_table():
    frame = table("a").rename(columns={"unique_id": "item_id", "ds": "timestamp", "y": "target"})
    frame["timestamp"] = frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    forecasts = Forecaster.fit(frame, HORIZON, overrides=SETTINGS).predict()
    assert str(forecasts["ds"].dt.tz) == "Europe/Berlin"
    assert forecasts["ds"].iloc[0] == frame["timestamp"].iloc[-1] + pd.Timedelta(hours=1)


@pytest.mark.slow
def test_small_changes_far_from_zero_are_forecast_and_scored_as_they_are():
    y = 1.7e9 + 40 * np.sin(np.arange(120) * 2 * np.pi / 7)
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=120), "y": y})
    forecaster = Forecaster.fit(frame, 7, season_length=7, overrides={"train.max_steps": 20})
    scored = forecaster.cross_validation(n_windows=1)
    np.testing.assert_array_equal(scored["y"], y[-7:])
    np.testing.assert_array_equal(scored["SeasonalNaive"], y[-14:-7])
    forecasts = forecaster.predict()
    assert forecasts["LSTM"].dtype == np.float64
    expected = 1.7e9 + 40 * np.sin(np.arange(120, 127) * 2 * np.pi / 7)
    assert np.abs(forecasts["LSTM"] - expected).max() < 10
    assert (forecasts["LSTM-hi-80"] > forecasts["LSTM-lo-80"]).all()


@pytest.mark.slow
def test_a_counter_beyond_32_bits_goes_on_rising_in_the_model_file_alone(tmp_path):
    import keras

    y = 1e9 + np.arange(200)
    frame = pd.DataFrame({"unique_id": "a", "ds": np.arange(200), "y": y})
    overrides = {"task.context_length": 24, "train.max_steps": 100, "data.transform": "difference"}
    Forecaster.fit(frame, 6, overrides=overrides).save(tmp_path / "run")
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    forecast = model({"y": y[None, -24:], "transform": np.array([TRANSFORMS["difference"]])})["forecast"].numpy()[
        0
    ]
    assert forecast.dtype == np.float64
    median = forecast[:, forecast.shape[1] // 2]
    assert (np.diff(median) > 0).all()
    assert np.abs(median - (1e9 + 200 + np.arange(6))).max() < 1


@pytest.mark.slow
def test_a_pickle_and_a_copy_take_the_model_along(tmp_path):
    forecaster = Forecaster.fit(table("a"), HORIZON, season_length=6, overrides=SETTINGS)
    expected, pickled, copied = forecaster.predict(), pickle.dumps(forecaster), copy.deepcopy(forecaster)
    del forecaster
    for again in (pickle.loads(pickled), copied):
        pd.testing.assert_frame_equal(again.predict(), expected)
        assert not again.scores.empty


def test_a_saved_forecaster_may_be_used_by_threads_and_from_a_folder_that_is_locked(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    expected, newer = fitted.predict(), table(steps=130)
    with lock(tmp_path / "run"), ThreadPoolExecutor(2) as threads:
        (tmp_path / "run" / ".lock").chmod(0o000)
        loaded = Forecaster.load(tmp_path / "run")
        results = list(threads.map(loaded.predict, [None, newer, None, newer]))
        assert not loaded.cross_validation().empty
    (tmp_path / "run" / ".lock").unlink()
    for one in results[::2]:
        pd.testing.assert_frame_equal(one, expected)
    pd.testing.assert_frame_equal(results[1], results[3])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


@pytest.mark.slow
def test_series_that_cannot_be_used_are_warned_of_and_listed():
    frame = pd.concat([table("ab"), table("xyzuv").assign(y=np.nan)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        forecaster = Forecaster.fit(frame, HORIZON, season_length=6, overrides=SETTINGS)
        forecaster.predict(pd.concat([table("a"), table("n").assign(y=np.nan)]))
    ours = [one for one in caught if one.category is UserWarning]
    assert [str(one.message) for one in ours] == [
        "5 of 7 series can't be used: no observed value (5): 'u', 'v', 'x', ...; forecaster.rejected lists them",
        "1 of 2 series can't be used: no observed value (1): 'n'; they are not forecast",
    ]
    assert {one.filename for one in ours} == {__file__}
    assert list(forecaster.rejected["unique_id"]) == ["u", "v", "x", "y", "z"]
    assert set(forecaster.rejected["reason"]) == {"no observed value"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_windows": -1}, "n_windows"),
        ({"n_windows": 0}, "n_windows"),
        ({"n_windows": 1.5}, "n_windows"),
        ({"step_size": -7}, "step_size"),
        ({"step_size": 0}, "step_size"),
        ({"n_windows": "many"}, "n_windows"),
    ],
)
def test_cutoffs_that_are_not_whole_numbers_are_refused_by_their_own_name(fitted, arguments, message):
    with pytest.raises(UserError, match=rf"^{message}: ") as caught:
        fitted.cross_validation(**arguments)
    assert "backtest." not in str(caught.value)


@pytest.mark.slow
def test_a_policy_and_the_generators_of_the_process_are_left_as_they_are():
    import keras

    expected = Forecaster.fit(table("a"), HORIZON, season_length=6, overrides=SETTINGS).predict()
    keras.config.set_dtype_policy("mixed_float16")
    random.seed(3)
    np.random.seed(4)  # noqa: NPY002
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        forecaster = Forecaster.fit(table("a"), HORIZON, season_length=6, overrides=SETTINGS)
        pd.testing.assert_frame_equal(forecaster.predict(), expected)
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert random.getstate() == python
    assert all(np.array_equal(one, before) for one, before in zip(np.random.get_state(), numpy, strict=True))  # noqa: NPY002


class ArrowFrame:
    """A DataFrame of another library, such as polars, as far as Arrow's interface shows it."""

    def __init__(self, table):
        self.columns = table.column_names
        self.__arrow_c_stream__ = table.__arrow_c_stream__


@pytest.mark.parametrize("kind", [pa.Table.from_pandas, lambda frame: ArrowFrame(pa.Table.from_pandas(frame))])
def test_tables_of_other_libraries_are_read_through_arrow(fitted, kind):
    newer = table(steps=130)
    pd.testing.assert_frame_equal(fitted.predict(kind(newer)), fitted.predict(newer))


def test_columns_that_nobody_asked_for_may_hold_anything(fitted):
    newer = table(steps=130)
    expected = fitted.predict(newer)
    newer["list"] = [[1, 2]] * len(newer)
    newer["dict"] = [{"a": np.arange(3)}] * len(newer)
    newer[5] = [object()] * len(newer)
    pd.testing.assert_frame_equal(fitted.predict(newer), expected)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            None,
            r"^df: expected a DataFrame or an Arrow table, got NoneType; give a DataFrame of pandas or polars$",
        ),
        ([1, 2], r"^df: expected a DataFrame or an Arrow table, got list; "),
        (table().set_index("ds"), r"^the DataFrame: 'ds' is its index, not a column; call reset_index"),
        (table().set_index("ds").rename_axis(None), r"its index holds times; call reset_index\(names='ds'\)"),
        (
            table().assign(ds=lambda one: one["ds"].dt.to_period("h")),
            r"holds periods, .* convert it with \.dt\.to_t",
        ),
        (table().assign(y=np.nan), r"^data\.path: none of its 3 series has an observed value$"),
        (table().iloc[:0], r"^data\.path: the DataFrame has no rows; "),
        (table(steps=8), r"^data\.path: all 3 series are too short"),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_words_of_python(frame, message):
    with pytest.raises(UserError, match=message) as caught:
        Forecaster.fit(frame, HORIZON, season_length=6, overrides=SETTINGS)
    assert "memory:" not in str(caught.value)
    assert "--out" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["quantile", "mae"])
def test_the_scale_of_a_series_is_that_of_its_training(head):
    overrides = SETTINGS | {"model.scaling_by": "series", "model.head": head}
    forecaster = Forecaster.fit(table("ab"), HORIZON, season_length=6, overrides=overrides)
    pd.testing.assert_frame_equal(forecaster.predict(table("ab")), forecaster.predict())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int32", "uint64", "category"])
def test_forecasts_scores_and_rejected_series_can_be_merged_with_the_table(kind):
    frame = table("0123456789", steps=60)
    frame = pd.concat([frame, pd.DataFrame({"unique_id": ["77"], "ds": frame["ds"][:1], "y": [np.nan]})])
    frame["unique_id"] = (
        frame["unique_id"].astype(int).add(3).astype(str if kind == "category" else int).astype(kind)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forecaster = Forecaster.fit(frame, HORIZON, season_length=6, overrides=SETTINGS | {"split.test": 6})
        tables = [forecaster.predict(frame), forecaster.predict(), forecaster.cross_validation(n_windows=1)]
    ids = frame[["unique_id"]].drop_duplicates()
    for one in tables:
        assert len(one.merge(ids, on="unique_id")) == 10 * HORIZON
    assert len(forecaster.scores.merge(ids, on="unique_id")) == 10 * 4, "the model and three baselines"
    assert len(forecaster.rejected.merge(ids, on="unique_id")) == 1
    if kind != "category":
        assert list(tables[0]["unique_id"].unique()) == list(range(3, 13)), "in the order of numbers"


@pytest.mark.slow
def test_a_series_is_known_whatever_the_type_of_its_name():
    frame = table("01", steps=60).astype({"unique_id": int})
    forecaster = Forecaster.fit(
        frame, HORIZON, season_length=6, overrides=SETTINGS | {"model.scaling_by": "series"}
    )
    as_text = forecaster.predict(frame.astype({"unique_id": str}))
    assert list(as_text["unique_id"].unique()) == ["0", "1"]
    pd.testing.assert_frame_equal(as_text.astype({"unique_id": int}), forecaster.predict())
