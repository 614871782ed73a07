"""Window scaling against NumPy, one window at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dist_lstm.model.scaling import LossScale, Unscale, WindowScaling


def oracle(method: str, window: np.ndarray) -> tuple[float, float]:
    """Location and scale of the observed values of one window."""
    known = window[~np.isnan(window)].astype(np.float64)
    if method == "none":
        return 0.0, 1.0
    if len(known) == 0:
        return 0.0, 0.0
    if method == "standard":
        return known.mean(), known.std()
    if method == "minmax":
        return known.min(), known.max() - known.min()
    if method == "mean_abs":
        return 0.0, np.abs(known).mean()
    low, median, high = np.percentile(known, [25, 50, 75])
    return median, high - low if high > low else np.abs(known - median).mean()


values = st.one_of(st.just(np.nan), st.integers(-50, 50).map(float))


@pytest.mark.parametrize("method", ["standard", "robust", "minmax", "mean_abs", "none"])
@given(window=arrays(np.float32, 9, elements=values))
@settings(deadline=None, max_examples=60)
def test_location_and_scale_are_those_of_the_observed_values(method, window):
    features, location, scale = (one.numpy() for one in WindowScaling(method)(window[None]))
    expected_location, expected_scale = oracle(method, window)
    assert location[0, 0] == pytest.approx(expected_location, abs=1e-4)
    assert scale[0, 0] == pytest.approx(expected_scale, abs=1e-4)
    observed = ~np.isnan(window)
    np.testing.assert_array_equal(features[0, :, 1], observed)
    divisor = expected_scale if expected_scale > 0 else 1.0
    expected = np.where(observed, (window - expected_location) / divisor, 0)
    np.testing.assert_allclose(features[0, :, 0], expected, atol=1e-3)


def test_rounding_of_a_large_constant_does_not_pass_for_variation():
    window = np.full((1, 50), 123456.78, np.float32)
    assert float(WindowScaling("standard")(window)[2][0, 0]) == 0.0


def test_unscale_undoes_the_scaling():
    window = np.array([[3, 8, 1, 6]], np.float32)
    features, location, scale = WindowScaling("standard")(window)
    back = Unscale()(features[..., :1], location, scale)
    np.testing.assert_allclose(back.numpy()[..., 0], window, rtol=1e-6)


@pytest.mark.parametrize(("location", "scale", "expected"), [(5, 2, 2), (-5, 0, 5), (0, 0, 1)])
def test_errors_are_measured_in_scale_then_level_then_one(location, scale, expected):
    unit = LossScale()(np.array([[location]], np.float32), np.array([[scale]], np.float32))
    assert float(unit[0, 0]) == expected
