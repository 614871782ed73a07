"""The members of an ensemble: trained as alone, combined, and continued where a run was stopped."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dist_lstm.config.load import override
from dist_lstm.train import members as trained_members
from dist_lstm.train.members import MemberTrainings
from dist_lstm.train.phases import Training, train_phase

VARIANTS = [{}, {"task.context_length": 3}, {"data.transform": "difference"}]


def ensemble(job: Training, **changes: Any) -> Training:
    settings = {"model.members": 3, "model.variants": VARIANTS} | changes
    return replace(job, config=override(job.config, settings))


def weights_of(models: list) -> list[np.ndarray]:
    return [weight for model in models for weight in model.get_weights()]


@pytest.mark.same_bytes
def test_a_member_is_the_model_that_its_settings_give_alone(work):
    trainings = MemberTrainings(ensemble(work(), **{"model.variants": [], "model.members": 2}))
    trained = trainings.refit(trainings.train())
    for member, first, refit in zip(trained.members, trained.fitted, trained.refits, strict=True):
        alone = replace(work(), config=member.config)
        expected = train_phase(alone)
        assert [one.loss for one in first.history] == [one.loss for one in expected.history]
        again = train_phase(alone, refit_steps=expected.steps)
        for one, two in zip(weights_of([expected.model, again.model]),
                            weights_of([first.model, refit.fitted.model]), strict=True):  # fmt: skip
            np.testing.assert_array_equal(one, two)


def test_a_run_that_was_stopped_between_members_goes_on_with_the_next(work, monkeypatch):
    job = ensemble(work())
    undisturbed = MemberTrainings(ensemble(replace(work(), shards=job.shards))).train().fitted
    calls = []

    def stop_at_the_third(training: Training, **arguments: Any) -> Any:
        calls.append(training.member)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train_phase(training, **arguments)

    monkeypatch.setattr(trained_members, "train_phase", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        MemberTrainings(job).train()
    monkeypatch.undo()
    before = len(job.monitor._console.file.getvalue())
    fitted = MemberTrainings(job).train().fitted
    shown = job.monitor._console.file.getvalue()[before:]
    assert "train_1: going on from step 8" in shown
    assert "train_2: up to 8 steps" in shown
    for one, two in zip(weights_of([one.model for one in fitted]),
                        weights_of([one.model for one in undisturbed]), strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("combination", ["median", "mean", "weights"])
def test_members_of_different_contexts_and_transforms_are_combined(work, combination):
    job = ensemble(work(), **{"model.combination": combination})
    trainings = MemberTrainings(job)
    trained = trainings.refit(trainings.train())
    weights, fitted = trained.weights, trained.fitted
    assert (weights is None) == (combination == "median")
    assert weights is None or sum(weights) == pytest.approx(1)
    model = trainings.combine(trained)
    assert model.output["forecast"].shape[1:] == (job.task.horizon, len(job.task.quantiles))
    summary = trained.describe()
    assert [one["variant"] for one in summary["members"]] == VARIANTS
    assert summary["steps"] == sum(one.steps for one in fitted)
    assert {record.phase for record in trained.history} == {
        f"{phase}{member}" for phase in ("train", "refit") for member in ("", "_1", "_2")
    }
    assert trained.summarise(cudnn=False).endswith("no cuDNN; 3 of 3 refit on whole series")
