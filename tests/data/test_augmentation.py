"""Windows that are stretched, mixed and made noisy."""

import numpy as np
import pytest

from dist_lstm.data.augmentation import Augmentation

CONTEXT, STEPS = 8, 12
POSITION = np.arange(4000)


def apply(augmentation: Augmentation, window: np.ndarray, partner: np.ndarray | None = None) -> np.ndarray:
    window = np.broadcast_to(window, (len(POSITION), STEPS)).astype(np.float32)
    partner = window if partner is None else np.broadcast_to(partner, window.shape).astype(np.float32)
    return augmentation.apply(window, partner, POSITION, CONTEXT)


def test_noise_is_added_to_contexts_in_units_of_their_deviation():
    window = np.arange(STEPS) * 10.0
    noise = apply(Augmentation(noise=0.2), window) - window
    assert (noise[:, CONTEXT:] == 0).all()
    expected = 0.2 * window[:CONTEXT].std()
    np.testing.assert_allclose(noise[:, :CONTEXT].std(axis=0), expected, rtol=0.1)
    np.testing.assert_allclose(noise[:, :CONTEXT].mean(axis=0), 0, atol=0.1 * expected)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.1


def test_a_stretched_line_is_a_part_of_it_from_half_to_all_of_its_slope():
    slope = np.diff(apply(Augmentation(stretch=1.0), np.arange(STEPS)), axis=1)
    np.testing.assert_allclose(slope, slope[:, :1].repeat(STEPS - 1, axis=1), atol=1e-4)
    assert 0.5 - 1e-5 <= slope.min() < 0.52
    assert 0.98 < slope.max() <= 1 + 1e-5


def test_as_many_windows_are_changed_as_the_shares_say():
    window = np.random.default_rng(0).normal(size=STEPS)
    for augmentation in (Augmentation(stretch=0.3), Augmentation(mix=0.3)):
        changed = (apply(augmentation, window, window[::-1]) != window.astype(np.float32)).any(axis=1)
        assert changed.mean() == pytest.approx(0.3, abs=0.03)


def test_a_mixed_window_has_at_least_half_of_its_own_and_keeps_its_size():
    own, other = np.tile([1.0, -1.0], STEPS // 2), np.tile([50.0, 50.0], STEPS // 2)
    mixed = apply(Augmentation(mix=1.0), own, other)
    share = (mixed[:, 0] - mixed[:, 1]) / 2
    assert 0.5 <= share.min() < 0.51
    assert 0.99 < share.max() <= 1.0
    np.testing.assert_allclose(mixed[:, 0], share + (1 - share), rtol=1e-5)


def test_missing_values_stay_missing_and_a_window_of_nothing_is_left_alone():
    window = np.random.default_rng(0).normal(size=STEPS)
    window[[0, 1, 5]] = np.nan
    assert np.isnan(apply(Augmentation(noise=0.5), window)[:, [0, 1, 5]]).all()
    mixed = apply(Augmentation(mix=1.0, noise=0.5), window, np.zeros(STEPS))
    assert np.isfinite(mixed[:, [2, 3, 4, 6, 7]]).all()
    assert np.isnan(apply(Augmentation(1.0, 1.0, 1.0), np.full(STEPS, np.nan))).all()


def test_a_window_depends_on_its_position_alone():
    augmentation = Augmentation(stretch=0.5, mix=0.5, noise=0.1, seed=3)
    window = np.random.default_rng(0).normal(size=(len(POSITION), STEPS)).astype(np.float32)
    whole = augmentation.apply(window, window[::-1], POSITION, CONTEXT)
    some = np.array([7, 3900, 12])
    part = augmentation.apply(window[some], window[::-1][some], some, CONTEXT)
    np.testing.assert_array_equal(part, whole[some])


def test_partners_are_uniform():
    counts = np.bincount(Augmentation(seed=1).partner(POSITION, 10), minlength=10)
    assert counts.min() > 320
    assert counts.max() < 480
