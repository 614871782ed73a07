"""Groups of similar series."""

import numpy as np
import pytest

from dist_lstm.fleet.similarity import category_groups, cluster_series, similarity_features

STEPS = 40
LENGTH, ZEROS, TREND, SEASON = range(4)


def test_a_straight_line_has_only_trend_and_a_repeated_season_only_season(make_panel_of, make_task):
    line, season = np.arange(STEPS, dtype=float), np.tile([1.0, 5.0], STEPS // 2)
    actual = similarity_features(make_panel_of(line, season, line + 10 * season), make_task())
    np.testing.assert_allclose(actual[0, [TREND, SEASON]], [1, 0], atol=1e-6)
    np.testing.assert_allclose(actual[1, [TREND, SEASON]], [0, 1], atol=0.02)
    # A straight line and a season explain the whole variance.
    assert actual[2, SEASON] == pytest.approx(1, abs=1e-2)


def test_length_and_zeros_are_those_of_the_training_range(make_panel_of, make_task):
    task = make_task()
    kept = STEPS - task.validation - task.test
    y = np.ones(STEPS)
    y[: kept // 2] = 0
    actual = similarity_features(make_panel_of(y), task)
    assert actual[0, LENGTH] == pytest.approx(np.log(kept))
    assert actual[0, ZEROS] == pytest.approx((kept // 2) / kept)


def test_values_after_the_training_range_change_no_feature(make_panel_of, make_task):
    task, generator = make_task(), np.random.default_rng(1)
    y = generator.normal(size=STEPS)
    other = y.copy()
    other[STEPS - task.validation - task.test :] = 1e6
    actual = similarity_features(make_panel_of(y, other), task)
    np.testing.assert_array_equal(actual[0], actual[1])


def test_a_series_without_observed_values_has_finite_features(make_panel_of, make_task):
    actual = similarity_features(make_panel_of([], [np.nan] * STEPS, [3.0] * STEPS), make_task())
    assert np.isfinite(actual).all()
    np.testing.assert_array_equal(actual[:, [TREND, SEASON]], 0)


def test_two_kinds_of_series_become_two_clusters():
    generator = np.random.default_rng(2)
    kind = generator.integers(0, 2, 60)
    features = generator.normal(size=(60, 4)) * 0.1 + kind[:, None]
    actual = cluster_series(features, 2, seed=1)
    assert len(np.unique(np.stack([kind, actual]), axis=1).T) == 2
    np.testing.assert_array_equal(actual, cluster_series(features, 2, seed=1))


def test_there_is_one_cluster_per_50_series_but_at_least_two():
    features = np.random.default_rng(3).normal(size=(500, 4))
    assert len(np.unique(cluster_series(features, None, seed=1))) == 10
    assert len(np.unique(cluster_series(features[:3], None, seed=1))) == 2


def test_series_that_do_not_differ_are_one_cluster():
    np.testing.assert_array_equal(cluster_series(np.ones((9, 4)), 5, seed=1), 0)


def test_groups_by_columns_are_named_by_their_values(make_panel_of):
    from dataclasses import replace

    panel = replace(
        make_panel_of([1.0], [2.0], [3.0]),
        facts={"static:shop": np.array([1, 2, 0]), "static:size": np.array([1, 1, 1])},
    )
    values = {"shop": ["north", "south"], "size": ["<b>"]}
    actual = category_groups(panel, ("shop", "size"), values)
    assert actual.tolist() == ["north / <b>", "south / <b>", "? / <b>"]
