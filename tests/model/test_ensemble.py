"""The ensemble as one model, and the choice of its members' weights."""

from dataclasses import replace

import numpy as np
import pytest

from dist_lstm.config.task import Task
from dist_lstm.model.ensemble import build_ensemble
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import load_model, save_model
from tests.model.test_lstm import TASK, TRANSFORMED, contexts, forecast, settings

SHORT = replace(TASK, context_length=6)


def members(tasks: list[Task]) -> list:
    return [(task, build_model(task, settings())) for task in tasks]


def test_the_forecast_is_the_median_of_the_members_forecasts():
    three = members([TASK, TASK, TASK])
    single = np.stack([forecast(model, contexts()) for _, model in three])
    np.testing.assert_array_equal(forecast(build_ensemble(TASK, three), contexts()), np.median(single, axis=0))


def test_it_is_their_weighted_mean_where_there_are_weights_and_leaves_out_members_without_one():
    three = members([TASK, TASK, TASK])
    first, _, third = (forecast(model, contexts()) for _, model in three)
    combined = build_ensemble(TASK, three, [0.25, 0.0, 0.75])
    np.testing.assert_allclose(forecast(combined, contexts()), 0.25 * first + 0.75 * third, rtol=1e-6)
    inner = sum(model.count_params() for _, model in three[:1] + three[2:])
    assert combined.count_params() == inner


@pytest.mark.parametrize("weights", [None, [0.3, 0.3, 0.4]])
def test_quantiles_do_not_cross(weights):
    assert (np.diff(forecast(build_ensemble(TASK, members([TASK] * 3), weights), contexts()), axis=-1) > 0).all()


def test_a_member_reads_the_last_steps_of_the_context_only():
    both = build_ensemble(TASK, [*members([SHORT])], [1.0])
    y = contexts()
    changed = y.copy()
    changed[:, :6] = 1e6
    np.testing.assert_array_equal(forecast(both, changed), forecast(both, y))
    changed[:, 6] += 1
    assert (forecast(both, changed) != forecast(both, y)).any()


def test_a_member_may_set_its_own_transform_for_all_series():
    own = replace(TASK, transform="log1p_seasonal_difference")
    alone, given = build_model(own, settings()), build_model(TRANSFORMED, settings())
    given.set_weights(alone.get_weights())
    expected = forecast(given, contexts(), "log1p_seasonal_difference")
    np.testing.assert_array_equal(forecast(alone, contexts()), expected)
    ensemble = build_ensemble(TRANSFORMED, [(own, alone)], [1.0])
    np.testing.assert_array_equal(forecast(ensemble, contexts(), "none"), expected)


def test_a_saved_ensemble_forecasts_the_same(tmp_path):
    tasks = [TASK, SHORT, replace(TASK, transform="log1p")]
    ensemble = build_ensemble(TASK, members(tasks))
    save_model(ensemble, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(forecast(loaded, contexts()), forecast(ensemble, contexts()))
