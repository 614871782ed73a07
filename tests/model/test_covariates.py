"""Unknown series, missing numbers, and the calendar, one step at a time."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.task import Task, Vocabulary
from dist_lstm.model.covariates import CalendarFeatures, IdDropout, KnownNumbers
from dist_lstm.model.lstm import build_model
from tests.model import oracle
from tests.model.test_lstm import TASK, contexts, settings


def test_id_dropout_makes_whole_windows_unknown_at_its_rate():
    keras.utils.set_random_seed(1)
    ids = np.random.default_rng(0).integers(1, 9, (20_000, 3)).astype(np.int32)
    actual = IdDropout(0.3)(ids, training=True).numpy()
    dropped = (actual == 0).all(axis=1)
    np.testing.assert_array_equal(actual[~dropped], ids[~dropped])
    # Four standard deviations of the share.
    assert dropped.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / len(ids)))


@pytest.mark.parametrize(("rate", "training"), [(0.9, False), (0.0, True)])
def test_no_id_is_dropped_at_rate_zero_or_while_forecasting(rate, training):
    ids = np.arange(1, 101, dtype=np.int32).reshape(50, 2)
    np.testing.assert_array_equal(IdDropout(rate)(ids, training=training), ids)


def test_dropped_ids_differ_between_replicas_and_from_step_to_step(two_cpus):
    with two_cpus.scope():
        layer = IdDropout(0.5)
        layer.build((64, 1))
    ids = tf.ones((64, 1), tf.int32)
    run = tf.function(lambda: two_cpus.run(lambda: layer(ids, training=True)))
    first, second = (one.numpy() for one in two_cpus.experimental_local_results(run()))
    later = two_cpus.experimental_local_results(run())[0].numpy()
    assert (first != second).any()
    assert (first != later).any()


def series_task(**changes: object) -> Task:
    values = {"series": 5, "vocabulary": Vocabulary(5, (("colour", 3),), ("price",))}
    return Task(**{**vars(TASK), **values, **changes})


def series_inputs(y: np.ndarray, series: int = 0, colour: int = 0) -> dict[str, np.ndarray]:
    return {
        "y": y,
        "series": np.full((len(y), 1), series, np.int32),
        "categories": np.full((len(y), 1), colour, np.int32),
        "numbers": np.full((len(y), 1), 0.5, np.float32),
    }


def test_what_is_dropped_while_training_is_forecast_like_an_unknown_series():
    keras.utils.set_random_seed(1)
    model = build_model(series_task(), settings(series_embedding=3, id_dropout=0.5, dropout=0.0, units=(4,)))
    y = np.tile(contexts(6), (20, 1))
    trained = model(series_inputs(y, 2, 3), training=True)["scaled"].numpy()
    forecasts = [
        model(series_inputs(y, series, colour), training=False)["scaled"].numpy()
        for series in (0, 2)
        for colour in (0, 3)
    ]
    like = np.stack([np.isclose(trained, one, rtol=1e-5, atol=1e-6).all(axis=(1, 2)) for one in forecasts])
    # Series and category are dropped each by itself, and each window is like one of the four.
    np.testing.assert_array_equal(like.sum(axis=0), 1)
    assert (like.sum(axis=1) > 10).all()


def test_the_embedding_of_the_unknown_is_trained_with_id_dropout_alone():
    y = np.tile(contexts(6), (4, 1))
    for rate in (0.0, 0.5):
        keras.utils.set_random_seed(1)
        model = build_model(series_task(), settings(series_embedding=3, id_dropout=rate, units=(4,)))
        for layer in ("series_embedding", "category_0"):
            table = model.get_layer(layer).embeddings
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(model(series_inputs(y, 2, 3), training=True)["scaled"])
            gradient = tf.convert_to_tensor(tape.gradient(total, table)).numpy()
            assert (gradient[0] != 0).any() == (rate > 0)


def test_the_series_its_categories_and_its_numbers_change_the_forecast():
    model = build_model(series_task(), settings(series_embedding=3))
    inputs = series_inputs(contexts(), 2, 3)
    before = model(inputs)["forecast"].numpy()
    for name, other in (("series", 4), ("categories", 1), ("numbers", -0.5), ("numbers", np.nan)):
        changed = inputs | {name: np.full_like(inputs[name], other)}
        after = model(changed)["forecast"].numpy()
        assert np.isfinite(after).all()
        assert (after != before).any()


def test_a_missing_number_is_zero_and_marked_as_missing():
    actual = KnownNumbers()(np.array([[2, np.nan], [np.nan, 0]], np.float32))
    np.testing.assert_array_equal(actual, [[2, 0, 1, 0], [0, 0, 0, 1]])


def calendar_of(freq: str, cutoff: pd.Timestamp, steps: range) -> tuple[np.ndarray, Frequency]:
    """Waves of steps around a cutoff, as the model makes them from the place of the first forecast step."""
    frequency = Frequency(freq)
    cycles = [(one.name, one.period, one.advance) for one in frequency.cycles]
    positions = frequency.calendar(np.array([cutoff], "datetime64[us]"))
    return CalendarFeatures(cycles, list(steps))(positions).numpy()[0], frequency


def waves(position: float, period: float) -> list[float]:
    return [wave(2 * np.pi * harmonic * position / period) for harmonic in (1, 2, 3) for wave in (np.sin, np.cos)]


@pytest.mark.parametrize("freq", ["min", "10min", "30min", "h", "3h", "12h", "D"])
@pytest.mark.parametrize("cutoff", ["2024-02-28 00:00", "2023-12-31 09:00", "2024-06-09 23:00"])
def test_hour_and_weekday_are_those_of_each_steps_own_time(freq, cutoff):
    steps = range(-1500, 1500) if freq == "min" else range(-400, 400)
    actual, frequency = calendar_of(freq, pd.Timestamp(cutoff), steps)
    names = [cycle.name for cycle in frequency.cycles]
    offset = pd.tseries.frequencies.to_offset(freq)
    for row, step in enumerate(steps):
        now = pd.Timestamp(cutoff) + step * offset
        expected = {"hour": waves(now.hour + now.minute / 60, 24), "weekday": waves(now.weekday(), 7)}
        for number, name in enumerate(names):
            if name in expected:
                np.testing.assert_allclose(actual[row, 6 * number : 6 * number + 6], expected[name], atol=2e-3)


def test_business_days_count_five_to_a_week():
    cutoff = pd.Timestamp("2024-05-17")  # a Friday
    steps = range(-30, 30)
    actual, _ = calendar_of("B", cutoff, steps)
    for row, step in enumerate(steps):
        now = cutoff + step * pd.offsets.BDay()
        np.testing.assert_allclose(actual[row, :6], waves(now.weekday(), 5), atol=1e-4)


@pytest.mark.parametrize(("freq", "months"), [("MS", 1), ("2MS", 2), ("QS", 3)])
def test_months_are_those_of_the_calendar(freq, months):
    cutoff, steps = pd.Timestamp("2024-10-01"), range(-20, 20)
    actual, _ = calendar_of(freq, cutoff, steps)
    for row, step in enumerate(steps):
        now = cutoff + pd.DateOffset(months=months * step)
        np.testing.assert_allclose(actual[row], waves(now.month - 1, 12), atol=1e-4)


@pytest.mark.parametrize("freq", ["h", "D", "W", "B"])
def test_the_month_of_finer_steps_is_near_that_of_their_own_time(freq):
    """Months count as 30.44 days: a month or two away that is off by less than a twentieth of a month."""
    cutoff, steps = pd.Timestamp("2024-05-17"), range(-9 if freq == "W" else -40, 9 if freq == "W" else 40)
    actual, frequency = calendar_of(freq, cutoff, steps)
    offset = pd.tseries.frequencies.to_offset("W-FRI" if freq == "W" else freq)
    for row, step in enumerate(steps):
        now = cutoff + step * offset
        position = now.month - 1 + (now.day - 1 + now.hour / 24) / now.days_in_month
        number = len(frequency.cycles) - 1
        expected = waves(position, 12)[:2]
        np.testing.assert_allclose(actual[row, 6 * number : 6 * number + 2], expected, atol=0.05)


@pytest.mark.parametrize("freq", ["10min", "h", "D", "B", "W", "MS"])
def test_the_calendar_is_that_of_numpy(freq):
    steps = range(-100, 100)
    actual, frequency = calendar_of(freq, pd.Timestamp("2024-05-17"), steps)
    task = Task(**{**vars(TASK), "freq": frequency})
    positions = frequency.calendar(np.array(["2024-05-17"], "datetime64[us]"))[0]
    expected = [oracle.waves(positions, task, step) for step in steps]
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_settings_of_the_layers_make_the_same_layers_again():
    for layer in (IdDropout(0.25), CalendarFeatures([("hour", 24, 0.5)], [-1, 0, 1])):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


def test_an_embedding_is_only_there_where_the_task_names_series():
    layers = [one.name for one in build_model(TASK, settings(series_embedding=3)).layers]
    assert not {"series_embedding", "series_dropout", "category_0", "numbers_known"} & set(layers)
