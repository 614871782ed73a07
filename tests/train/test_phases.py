"""The two trainings of a run: what each sees of the series, where each begins, and when the second is refused."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from dist_lstm.data.shards import Shards
from dist_lstm.train import phases
from dist_lstm.train.divergence import DivergedError, divergence
from dist_lstm.train.monitor import EpochRecord, Speed
from dist_lstm.train.phases import Refit, Training, train_phase, train_refit
from dist_lstm.train.progress import Fitted
from tests.train.conftest import DAYS, HORIZON, LENGTHS, TEST, VALIDATION


#: They end on the same day, and start on the same day of the week.
@pytest.fixture
def asked(monkeypatch):
    """What `fit` is asked to do, instead of doing it."""
    calls = []

    def remember(*arguments: Any) -> Fitted:
        calls.append(arguments)
        return Fitted(arguments[0].state.model, 8, 1.0, False, False, 0, Speed(), [])

    monkeypatch.setattr(phases, "fit", remember)
    return calls


def steps_of(target: np.ndarray, name: str) -> set[int]:
    number = list(LENGTHS).index(name) + 1
    return {int(one) % 1000 for one in target.ravel() if one // 1000 == number}


def drawn(phase: Any, name: str) -> set[int]:
    """Steps of a series among the targets of many batches."""
    return set().union(*(steps_of(target.numpy(), name) for _, target in islice(phase.batches(0, 0), 60)))


def test_the_first_training_draws_from_the_training_range_and_validates_on_what_follows(work, asked):
    job = work()
    train_phase(job)
    trainer, phase, monitor = asked[0]
    assert (phase.name, phase.steps, trainer.settings, monitor) == ("train", 8, job.config.train, job.monitor)
    validated = [target for _, target, _ in phase.validation()]
    for name, length in LENGTHS.items():
        end = length - VALIDATION - TEST
        # The first targets lie one season, the least context, after the start.
        assert drawn(phase, name) == set(range(job.task.min_context, end))
        result = set().union(*(steps_of(target, name) for target in validated))
        assert result == set(range(end, end + VALIDATION))


def test_the_second_training_draws_from_whole_series_and_does_not_validate(work, asked):
    job = work()
    train_phase(job, refit_steps=5)
    _, phase, _ = asked[0]
    assert (phase.name, phase.steps, phase.validation) == ("refit", 5, None)
    for name, length in LENGTHS.items():
        assert drawn(phase, name) == set(range(job.task.min_context, length))


def test_the_second_training_passes_as_often_over_its_windows_as_the_first(work, asked):
    job = work()
    before = job.task.min_context + HORIZON - 1
    whole, part = (sum(one - before - out for one in LENGTHS.values()) for out in (0, VALIDATION + TEST))
    assert job.refit_ratio() == pytest.approx(whole / part)
    first = replace(train_phase(job), steps=50)
    train_refit(job, first)
    assert asked[-1][1].steps == round(50 * whole / part)


def test_without_a_validation_range_there_is_nothing_to_validate_on(work, asked):
    train_phase(work(validation=0))
    assert asked[0][1].validation is None


def test_both_trainings_begin_with_the_weights_of_the_seed(work, asked):
    job = work()
    first, second, third = (
        train_phase(one, refit_steps=steps).model.get_weights()
        for one, steps in ((job, None), (job, 5), (work(seed=2), None))
    )
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(first, third, strict=True))


def test_a_series_is_trained_on_with_its_own_number_transform_and_calendar(work, asked):
    train_phase(work(transform="seasonal_difference"))
    phase = asked[0][1]
    for inputs, target in islice(phase.batches(0, 0), 5):
        values = target.numpy()[:, 0]
        np.testing.assert_array_equal(inputs["series"].numpy()[:, 0], values // 1000)
        np.testing.assert_array_equal(inputs["transform"].numpy(), [[0, 2]] * len(values))
        days = [(DAYS + pd.Timedelta(days=int(one))).weekday() for one in values % 1000]
        np.testing.assert_array_equal(inputs["calendar"].numpy()[:, 0], days)


@pytest.mark.same_bytes
@pytest.mark.parametrize("refit_steps", [None, 6])
def test_a_phase_trained_again_ends_with_the_same_model(work, tmp_path: Path, refit_steps):
    one, two = (train_phase(work(deterministic=False), refit_steps=refit_steps) for _ in range(2))
    assert one.steps == two.steps <= (refit_steps or 8)
    for left, right in zip(one.model.get_weights(), two.model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert np.isnan(one.validation_loss) == (refit_steps is not None)


def test_the_learning_rate_of_both_trainings_falls_to_0(work):
    for one in (train_phase(work()), train_phase(work(), refit_steps=6)):
        assert one.history[-1].learning_rate == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("gaps", [False, True])
def test_gaps_are_looked_for_in_training_only_where_there_are_some_but_always_in_the_model(work, gaps):
    job = work()
    steps = job.shards.manifest.steps
    manifest = job.shards.manifest.model_copy(update={"observed": steps - gaps})
    job = replace(job, shards=Shards(job.shards.folder, manifest))
    assert job.build().get_layer("normalise").fill is gaps
    assert train_phase(job, refit_steps=1).model.get_layer("normalise").fill is True


def test_how_many_windows_there_are_is_said_once_validation_is_known(work):
    job = work()
    train_phase(job)
    shown = job.monitor._console.file.getvalue()
    windows = sum(length - VALIDATION - TEST - HORIZON - job.task.min_context + 1 for length in LENGTHS.values())
    assert f"{windows} to train on, of 2 series; 8 of 8 to validate on" in shown


class TestRefitsThatDiverge:
    def refit(self, job: Training, monkeypatch, spoil) -> tuple[Refit, str]:
        """Trainings of no steps, the second one's weights changed; and what is printed."""

        def no_steps(trainer: Any, phase: Any, _: Any) -> Fitted:
            model, name = trainer.state.model, phase.name
            if name == "refit":
                model.set_weights([spoil(one) for one in model.get_weights()])
            history = [EpochRecord(name, 1, 0, 0.1, 1.0, 1.0)]
            return Fitted(model, 8, 1.0, False, False, 0, Speed(), history)

        monkeypatch.setattr(phases, "fit", no_steps)
        refit = train_refit(job, train_phase(job))
        return refit, " ".join(job.monitor._console.file.getvalue().split())

    @pytest.mark.slow
    def test_one_that_went_well_is_the_one_without_the_comparison(self, work):
        job = work()
        first = train_phase(job)
        steps = round(first.steps * job.refit_ratio())
        expected, actual = train_phase(work(), refit_steps=steps), train_refit(job, first)
        assert actual.refused is None
        assert actual.accepted is actual.fitted
        assert actual.describe() == {"refit": True, "refit_steps": steps}
        assert "diverged" not in job.monitor._console.file.getvalue()
        for one, two in zip(actual.fitted.model.get_weights(), expected.model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda weights: weights * 1000, "its loss on the training range is"),
            (lambda weights: weights * np.float32(1e38), "its forecasts are not finite"),
            (lambda weights: weights + np.nan, "its weights are not finite"),
        ],
    )
    def test_one_that_diverged_is_refused_with_the_reason(self, work, monkeypatch, spoil, reason):
        refit, printed = self.refit(work(), monkeypatch, spoil)
        assert refit.refused.startswith(reason)
        assert refit.accepted is None
        assert [one.phase for one in refit.history] == ["refit"]
        assert refit.describe() == {"refit": False, "refit_refused": refit.refused}
        assert f"refit diverged: {refit.refused}; model.keras is the first model" in printed
        assert f"the last {VALIDATION + TEST} steps" in printed
        assert "lower train.learning_rate (0.001)" in printed

    def test_one_whose_loss_becomes_non_finite_is_refused_instead_of_failing(self, work, monkeypatch):
        job = work()

        def fail(*_: Any) -> None:
            raise DivergedError("training diverged", "the loss is non-finite at step 3", "lower it")

        monkeypatch.setattr(phases, "fit", fail)
        first = Fitted(keras.Model(), 8, 1.0, False, False, 0, Speed(), [])
        refit = train_refit(job, first)
        assert refit == Refit(refused="the loss is non-finite at step 3")
        assert refit.history == []

    @pytest.mark.parametrize("head", ["mae", "mse", "huber"])
    def test_it_holds_for_every_head(self, work, monkeypatch, head):
        job = work()
        config = job.config.model_copy(update={"model": job.config.model.model_copy(update={"head": head})})
        refit, _ = self.refit(replace(job, config=config), monkeypatch, lambda weights: weights * 1000)
        assert refit.refused.startswith("its loss on the training range is")

    @pytest.mark.parametrize(
        ("losses", "diverged"),
        [
            ((0.4, 0.79, 0.1), False),
            ((0.4, 0.81, 0.1), True),
            ((0.4, 0.81, 0.41), False),  # no worse than where the first model was not trained
            ((0.4, 0.81, np.nan), True),
            ((1e-6, 0.01, 1e-6), False),  # both are small
            ((np.nan, np.nan, np.nan), False),  # nothing to compare
            ((np.nan, np.inf, 0.4), True),
        ],
    )
    def test_it_counts_as_diverged_only_far_above_both_losses_of_the_first_model(self, losses, diverged):
        assert (divergence(*losses) is not None) == diverged
