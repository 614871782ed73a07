"""Normalising and its inverse against NumPy, one window at a time; and on values of every size."""

import functools
import itertools
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dist_lstm.config.task import TRANSFORMS
from dist_lstm.model.scaling import Denormalise, Normalise, normalise_target
from tests.model import oracle

METHODS = ("standard", "robust", "minmax", "mean_abs", "level", "none")
CODES = np.array(list(TRANSFORMS.values()), np.int32)
CONTEXT, SEASON, HORIZON = 9, 4, 6
NONE = np.full(2, np.nan, np.float32)
#: Two numbers of float32 are the same next to a third: some 30 roundings apart.
SAME = 2e-6
#: Farther from the base than so many units of scale, nothing is told apart.
FARTHEST = 1e15
#: The least normal float32, below which TensorFlow takes numbers for 0.
TINY = float(np.finfo(np.float32).tiny)


@functools.cache
def graph(method: str, season: int, horizon: int) -> Callable[..., dict[str, tf.Tensor]]:
    """Traced: many windows one after the other take a tenth of the time."""
    layer = Normalise(method, season, horizon)
    return tf.function(lambda y, transform, scale: layer(y, transform=transform, series_scale=scale))


def normalised(y, method, transform=None, series_scale=None, season=SEASON, horizon=HORIZON):
    return {name: one.numpy() for name, one in graph(method, season, horizon)(y, transform, series_scale).items()}


def every_transform(y: np.ndarray, series_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each window once by itself and once with the scale of its series, and both under every transform."""
    # Under a log, location and scale of a series are those of its logs.
    of_series = [oracle.signed_log(series_scale) if log else series_scale for log, _ in CODES]
    own = list(zip(CODES, of_series, strict=True))
    rows = [(one, code, scale) for one in y for code, of_code in own for scale in (NONE, of_code)]
    y, codes, scales = (np.stack(part) for part in zip(*rows, strict=True))
    return y, codes, scales.astype(np.float32)


def assert_as_in_numpy(y, method, codes, scales, season=SEASON, horizon=HORIZON):
    actual = normalised(y, method, codes, scales, season, horizon)
    for row in range(len(y)):
        expected = oracle.normalise(y[row], method, season, horizon, codes[row], scales[row])
        unit = float(actual["unit"][row, 0])
        np.testing.assert_allclose(actual["base"][row] * unit, expected.base, rtol=1e-5, atol=1e-5 * unit)
        assert actual["scale"][row, 0] * unit == pytest.approx(expected.scale, rel=1e-4, abs=1e-6 * unit)
        np.testing.assert_allclose(actual["features"][row], expected.features, rtol=1e-3, atol=1e-3)


values = st.one_of(st.just(np.nan), st.integers(-50, 50).map(float))
scales = st.tuples(st.integers(-40, 40), st.integers(1, 40)).map(lambda one: np.array(one, np.float32))


@pytest.mark.parametrize("method", METHODS)
@given(window=arrays(np.float32, CONTEXT, elements=values), series_scale=scales)
@settings(deadline=None, max_examples=60)
def test_features_base_and_scale_are_those_of_numpy_under_every_transform(method, window, series_scale):
    assert_as_in_numpy(*reordered(every_transform(window[None], series_scale), method))


def reordered(rows: tuple[np.ndarray, np.ndarray, np.ndarray], method: str) -> tuple:
    return rows[0], method, rows[1], rows[2]


@pytest.mark.parametrize("method", METHODS)
@given(window=arrays(np.float32, CONTEXT, elements=values))
@settings(deadline=None, max_examples=30)
def test_without_a_transform_there_is_no_change_among_the_features(method, window):
    actual = normalised(window[None], method)
    expected = oracle.normalise(window, method, SEASON, HORIZON)
    np.testing.assert_allclose(actual["features"][0], expected.features, rtol=1e-3, atol=1e-3)
    none = normalised(window[None], method, CODES[:1])
    np.testing.assert_array_equal(actual["features"], none["features"][..., :2])
    for name in ("base", "scale", "unit"):
        np.testing.assert_array_equal(actual[name], none[name])


@pytest.mark.parametrize("with_transform", [False, True])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_the_shapes_and_types_that_a_model_is_built_with_are_those_of_the_values(kind, with_transform):
    layer, y = Normalise("robust", SEASON, HORIZON), np.zeros((len(CODES), CONTEXT), kind)
    inputs = [y, CODES] if with_transform else [y]
    symbols = [keras.KerasTensor((None, *one.shape[1:]), one.dtype.name) for one in inputs]
    expected = {name: ((len(y), *one.shape[1:]), one.dtype) for name, one in layer(*symbols).items()}
    assert {name: (tuple(one.shape), one.dtype.name) for name, one in layer(*inputs).items()} == expected


@pytest.mark.parametrize(
    ("context", "season", "horizon"),
    [
        *[(1, 1, 1), (3, 7, 20), (12, 4, 1)],
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in [(1, 4, 6), (3, 7, 2), (8, 8, 8), (9, 1, 5), (13, 4, 11), (5, 24, 30)]
        ),
    ],
)
def test_context_season_and_horizon_may_have_any_lengths(context, season, horizon):
    generator = np.random.default_rng(context)
    y = generator.integers(-50, 50, (20, context)).astype(np.float32)
    y[generator.random(y.shape) < 0.3] = np.nan
    for method in METHODS:
        rows = every_transform(y, np.array([3, 5], np.float32))
        assert_as_in_numpy(*reordered(rows, method), season, horizon)


def test_the_base_of_a_difference_is_the_last_observed_value():
    y = np.array([[1, 2, 7, np.nan, np.nan], [np.nan] * 4 + [3]], np.float32)
    actual = normalised(y, "robust", CODES[[2, 2]])
    np.testing.assert_allclose(actual["base"] * actual["unit"], [[7] * HORIZON, [3] * HORIZON], rtol=1e-6)


def test_the_base_of_a_seasonal_difference_is_the_last_season_with_gaps_filled_from_the_one_before():
    y = np.array([[1, 2, 3, 4, 5, np.nan, 7, np.nan], [1, np.nan, 3, 4, 5, np.nan, 7, 8]], np.float32)
    actual = normalised(y, "minmax", CODES[[3, 3]])
    # Nowhere seen: the location, here the least value.
    expected = [[5, 2, 7, 4, 5, 2], [5, 1, 7, 8, 5, 1]]
    np.testing.assert_allclose(actual["base"] * actual["unit"], expected, rtol=1e-6)


def test_seasonal_differences_are_measured_in_their_mean_size():
    y = np.array([[0, 10, 20, 30, 2, 12, 20, 26]], np.float32)
    actual = normalised(y, "robust", CODES[[3]])
    assert actual["scale"][0, 0] * actual["unit"][0, 0] == pytest.approx(2.0)
    changes = [0, 0, 0, 0, 1, 1, 0, -2]
    np.testing.assert_allclose(actual["features"][0, :, 2], changes, atol=1e-5)


@pytest.mark.parametrize("method", ["standard", "robust", "minmax", "mean_abs"])
def test_an_exact_repetition_is_measured_in_a_hundredth_of_the_usual_scale(method):
    y = np.tile(np.array([[1, 5, 2, 9]], np.float32), (1, 3))
    usual, seasonal = (normalised(y, method, CODES[[position]])["scale"] for position in (0, 3))
    np.testing.assert_allclose(seasonal, 0.01 * usual, rtol=1e-6)


@pytest.mark.parametrize("method", ["standard", "robust", "minmax", "mean_abs"])
@pytest.mark.parametrize(
    "window", [[1, 5, 2, 9], [np.nan] * 5 + [1, 5, 2, 9], [1, 5, np.nan, np.nan, np.nan, np.nan, 2, 9]]
)
def test_without_two_values_a_season_apart_the_scale_is_the_usual_one(method, window):
    y = np.array([window], np.float32)
    usual, seasonal = (normalised(y, method, CODES[[position]])["scale"] for position in (0, 3))
    np.testing.assert_array_equal(seasonal, usual)


@pytest.mark.parametrize("position", range(len(CODES)))
def test_rounding_of_a_large_constant_is_not_taken_for_variation(position):
    y = np.full((1, 48), 123456.78, np.float32)
    y[0, ::5] = np.nextafter(y[0, 0], np.float32(np.inf))
    for method in ("standard", "robust", "minmax"):
        assert normalised(y, method, CODES[[position]])["scale"][0, 0] == 0.0


def test_a_range_of_quartiles_that_is_tiny_compared_to_the_largest_value_counts_as_zero():
    """Noise of rounding beside a few true values: in units of that noise, these would be 1e20."""
    y = np.array([[1e-17, 0, 0, -1e-17, 1e-17, 1000, 0, 0, 0]], np.float32)
    actual = normalised(y, "robust")
    assert actual["scale"][0, 0] * actual["unit"][0, 0] == pytest.approx(1000 / 9, rel=1e-5)
    assert np.abs(actual["features"]).max() < 10


def test_a_series_without_a_scale_takes_that_of_the_window():
    y = np.random.default_rng(1).normal(5, 3, (2, CONTEXT)).astype(np.float32)
    for method, code in itertools.product(METHODS, CODES):
        codes = np.stack([code, code])
        alone = normalised(y, method, codes)
        for scale in ([np.nan, np.nan], [0, np.inf]):
            given_ = normalised(y, method, codes, np.array([scale, [2, 3]], np.float32))
            for name, values_ in alone.items():
                np.testing.assert_array_equal(given_[name][0], values_[0])
            assert (given_["features"][1] != alone["features"][1]).any()


@pytest.mark.parametrize("method", METHODS)
def test_a_context_without_any_value_has_no_scale_and_no_features(method):
    y, codes, scales_ = every_transform(np.full((1, CONTEXT), np.nan, np.float32), np.array([4, 8], np.float32))
    actual = normalised(y, method, codes, scales_)
    assert (actual["scale"] == 0).all()
    assert (actual["features"] == 0).all()
    expected = np.repeat(np.nan_to_num(scales_[:, :1]), HORIZON, axis=1)
    np.testing.assert_allclose(actual["base"] * actual["unit"], expected, rtol=1e-6)


def magnitudes(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values of every size float32 has, both signs, zeros and missing ones among them."""
    actual = 10.0 ** generator.uniform(-37.9, 38.5, shape) * generator.choice([-1, 1], shape)
    actual[generator.random(shape) < 0.1] = 0
    actual[generator.random(shape) < 0.1] = np.nan
    return actual.astype(np.float32)


LARGEST = float(np.finfo(np.float32).max)
extremes = st.one_of(
    st.sampled_from([0.0, 1e-38, -1e-38, TINY, -TINY, 1e-30, 1e-6, 1.0, -1.0, 1e6, 1e30, 3e38, -3e38, LARGEST]),
    st.floats(-LARGEST, LARGEST, width=32, allow_subnormal=False),
    st.integers(-20, 20).map(float),
)
missing = st.one_of(st.just(np.nan), extremes)
series_scales = st.tuples(extremes, st.floats(TINY, LARGEST, width=32, allow_subnormal=False))


@st.composite
def windows(draw) -> np.ndarray:
    """Contexts: of all sizes mixed, of one size, constant, or empty."""
    y = draw(arrays(np.float32, CONTEXT, elements=draw(st.sampled_from([missing, st.just(draw(missing))]))))
    factor = draw(st.sampled_from([0.0, 1e-30, 1.0, 1e30]))
    noise = draw(arrays(np.float32, CONTEXT, elements=st.integers(-9, 9).map(float)))
    mixed = y.astype(np.float64) + factor * noise if draw(st.booleans()) else y
    return np.clip(mixed, -LARGEST, LARGEST).astype(np.float32)


@functools.cache
def inverse_graph() -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    layer = Denormalise()

    @tf.function
    def there_and_back(target, context, codes):
        scaled = normalise_target(target, context, codes)
        return scaled, layer(scaled[..., None], **context, transform=codes)[..., 0]

    return there_and_back


def there_and_back(y, target, method, codes, scales_):
    """Features, scaled targets, forecasts made of them, and the normalised contexts."""
    context = normalised(y, method, codes, scales_)
    features = context.pop("features")
    scaled, back = inverse_graph()(target, context, codes)
    return features, scaled.numpy(), back.numpy(), context


def assert_back_again(y, target, method, codes, scales_):
    """Denormalising undoes normalising, to what float32 can hold next to the largest value of a window.

    A target, the base and the window are numbers of float32 in units of the window's largest value, so their
    differences are known to some roundings of the largest of them, not of the target alone; under a log that
    holds for the logs. Where the scale is 0 the forecast is the base.
    """
    features, scaled, back, context = there_and_back(y, target, method, codes, scales_)
    for one in (features, scaled, back, *context.values()):
        assert np.isfinite(one).all()
    log = codes[:, :1] == 1
    want, got = (np.where(log, oracle.signed_log(one), one) for one in (target.astype(float), back.astype(float)))
    base, unit = context["base"].astype(float) * context["unit"], context["unit"].astype(float)
    flat, far = context["scale"] == 0, np.abs(scaled) >= FARTHEST
    want = np.where(flat, base, want)
    tolerance = SAME * np.maximum(np.abs(want), np.maximum(unit, np.abs(base))) + 2 * TINY
    assert (far | (np.abs(got - want) <= tolerance)).all()


@pytest.mark.parametrize("method", METHODS)
@given(
    window=windows(),
    target=arrays(np.float32, HORIZON, elements=extremes),
    scale=series_scales.map(lambda one: np.array(one, np.float32)),
)
@settings(deadline=None, max_examples=150)
def test_denormalising_a_normalised_target_gives_it_back_under_every_transform(method, window, target, scale):
    y, codes, scales_ = every_transform(window[None], scale)
    assert_back_again(y, np.tile(target, (len(y), 1)), method, codes, scales_)


@pytest.mark.parametrize("method", METHODS)
def test_a_window_of_any_magnitude_comes_back_from_its_own_normalisation(method):
    """Targets of the size of their window, as they are: far ones prove little."""
    generator = np.random.default_rng(7)
    size = 10.0 ** generator.uniform(-36, 37, (200, 1))
    both = generator.normal(generator.normal(0, 3, (200, 1)), 1, (200, CONTEXT + HORIZON)) * size
    y, codes, scales_ = every_transform(both.astype(np.float32), NONE)
    y, target = y[:, :CONTEXT], y[:, CONTEXT:]
    assert_back_again(y, target, method, codes, scales_)
    _, scaled, _, context = there_and_back(y, target, method, codes, scales_)
    if method != "none":
        assert (context["scale"] > 0).mean() > 0.9
        assert np.abs(scaled).max() < 1e6


@pytest.mark.parametrize("method", METHODS)
def test_forecasts_are_finite_whatever_the_output_of_the_network(method):
    generator = np.random.default_rng(8)
    y, codes, scales_ = every_transform(magnitudes(generator, (100, CONTEXT)), np.array([1e-20, 1e20]))
    context = Normalise(method, SEASON, HORIZON)(y, transform=codes, series_scale=scales_)
    context.pop("features")
    for size in (1e-30, 1.0, 100.0, 1e15, 1e38):
        scaled = (generator.normal(0, 1, (len(y), HORIZON, 1)) * size).clip(-LARGEST, LARGEST).astype(np.float32)
        forecast = Denormalise()(scaled, **context, transform=codes).numpy()
        assert np.isfinite(forecast).all()
    if method == "none":
        # In target units whatever the window: that is what no scaling means.
        plain = np.isnan(scales_[:, 0]) & (codes == 0).all(axis=1) & ~np.isnan(y).all(axis=1)
        forecast = Denormalise()(np.full((len(y), HORIZON, 1), 100, np.float32), **context, transform=codes)
        np.testing.assert_allclose(forecast.numpy()[plain], 100, rtol=1e-5)
        assert plain.sum() > 50


def test_denormalising_passes_gradients_on_for_every_transform():
    y, codes, scales_ = every_transform(magnitudes(np.random.default_rng(9), (50, CONTEXT)), NONE)
    context = Normalise("robust", SEASON, HORIZON)(y, transform=codes, series_scale=scales_)
    context.pop("features")
    scaled = tf.constant(np.random.default_rng(9).normal(size=(len(y), HORIZON, 1)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(scaled)
        # In float32 the derivative of a log's inverse may be as large as its value: halved, both fit.
        forecast = tf.reduce_mean(Denormalise()(scaled, **context, transform=codes) * 1e-30)
    assert np.isfinite(tape.gradient(forecast, scaled).numpy()).all()


@pytest.mark.parametrize("level", [0.0, 1.7e9, -1e12, 2.0**50])
@pytest.mark.parametrize("method", ["standard", "robust", "minmax"])
@given(window=arrays(np.float64, CONTEXT, elements=values))
@settings(deadline=None, max_examples=20)
def test_in_float64_features_do_not_depend_on_the_level(method, level, window):
    """Whole numbers, so that adding the level is exact; a log depends on the level."""
    codes = CODES[CODES[:, 0] == 0]
    y = np.repeat(window[None], len(codes), axis=0)
    here, there = (normalised(one, method, codes) for one in (y, y + level))
    assert {name: str(one.dtype) for name, one in there.items()} == {
        "features": "float32", "base": "float64", "scale": "float64", "unit": "float64",
    }  # fmt: skip
    # The mean of large numbers is rounded, and is both subtracted and added again.
    slack = 8 * np.spacing(abs(level)) / np.where(here["scale"] > 0, here["scale"], 1.0)[..., None]
    assert (np.abs(there["features"] - here["features"]) <= slack + 1e-5 * np.abs(here["features"])).all()
    np.testing.assert_array_equal(there["scale"] > 0, here["scale"] > 0)
    observed = ~np.isnan(window)
    assert (here["scale"] > 0).all() == (len(set(window[observed])) > 1)


@pytest.mark.parametrize("method", METHODS)
def test_in_float64_a_target_comes_back_with_the_digits_of_its_changes(method):
    generator = np.random.default_rng(11)
    level = 10.0 ** generator.uniform(0, 15, (200, 1)) * generator.choice([-1.0, 1.0], (200, 1))
    both = level + generator.normal(size=(200, CONTEXT + HORIZON))
    rows = [(one, code) for one in both for code in CODES]
    both, codes = (np.stack(part) for part in zip(*rows, strict=True))
    y, target = both[:, :CONTEXT], both[:, CONTEXT:]
    context = Normalise(method, SEASON, HORIZON)(y, transform=codes)
    context.pop("features")
    scaled = normalise_target(target, context, codes)
    assert scaled.dtype == tf.float32
    forecast = Denormalise()(scaled[:, :, None], **context, transform=codes)
    assert forecast.dtype == tf.float64
    if method in ("mean_abs", "none"):  # not about the changes: the level itself is scaled to float32
        tolerance = 1e-5 * np.abs(target)
    else:
        tolerance = 1e-5 + 64 * np.spacing(np.abs(target))
    varies = (context["scale"].numpy() > 0)[:, 0]
    assert varies.mean() > 0.95
    assert (np.abs(forecast.numpy()[:, :, 0] - target) <= tolerance)[varies].all()
