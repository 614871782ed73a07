"""The members of an ensemble: trained as alone, combined, and continued where a run was stopped."""

from dataclasses import replace
from types import SimpleNamespace
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


@pytest.mark.slow
@pytest.mark.same_bytes
def test_a_member_is_the_model_that_its_settings_give_alone(work):
    trainings = MemberTrainings(ensemble(work(), **{"model.variants": [], "model.members": 2}))
    trained = trainings.refit(trainings.train())
    for member, first, refit in zip(trained.members, trained.fitted, trained.refits, strict=True):
        alone = replace(work(), config=member.config)
        expected = train_phase(alone)
        assert [one.loss for one in first.history] == [one.loss for one in expected.history]
        again = train_phase(alone, refit_steps=round(expected.steps * alone.refit_ratio()))
        for one, two in zip(weights_of([expected.model, again.model]),
                            weights_of([first.model, refit.fitted.model]), strict=True):  # fmt: skip
            np.testing.assert_array_equal(one, two)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_the_only_member_may_have_a_variant(work):
    job = ensemble(work(), **{"model.members": 1, "model.variants": [{"task.context_length": 3}]})
    trainings = MemberTrainings(job)
    trained = trainings.train()
    assert trained.fitted[0].model.input["y"].shape == (None, 3)
    assert trainings.combine(trained).input["y"].shape == (None, 6)


def test_where_the_budget_ends_the_first_members_are_kept_and_the_others_are_counted(work):
    job = ensemble(work(), **{"train.budget": 1e-6})
    trainings = MemberTrainings(job)
    trained = trainings.refit(trainings.train())
    assert [one.out_of_time for one in trained.fitted] == [True]
    assert [one.history[-1].step for one in trained.fitted] == [4]
    assert len(trained.refits) == 1
    summary = trained.describe()
    assert (len(summary["members"]), summary["members_left_out"]) == (1, 2)
    shown = " ".join(job.monitor._console.file.getvalue().split())
    assert "members 2 of 3 are left out: train.budget is 1e-06 seconds" in shown
    assert trainings.combine(trained).input["y"].shape == (None, 6)


@pytest.mark.parametrize(
    ("seconds", "refit_ratio", "spent", "expected"),
    [
        (None, 1.0, [50.0], float("inf")),
        (100.0, 1.0, [], 50.0),  # half is for the second trainings, which take as many steps
        (100.0, 0.0, [], 100.0),
        (100.0, 3.0, [], 25.0),
        (100.0, 1.0, [20.0], 30.0),
        (100.0, 1.0, [30.0], 20.0),
        (100.0, 1.0, [35.0], 0.0),  # less than half of what the members before took
    ],
)
def test_a_member_gets_what_is_left_unless_that_is_too_little(monkeypatch, seconds, refit_ratio, spent, expected):
    monkeypatch.setattr(trained_members.time, "perf_counter", lambda: 0.0)
    budget = trained_members._Budget(seconds, refit_ratio)
    fitted = [SimpleNamespace(seconds=one) for one in spent]
    assert budget.of_member(fitted) == expected


def test_second_trainings_share_what_is_left(monkeypatch):
    clock = iter([0.0, 70.0])
    monkeypatch.setattr(trained_members.time, "perf_counter", lambda: next(clock))
    budget = trained_members._Budget(100.0, refit_ratio=1.0)
    assert budget.of_refit([SimpleNamespace(seconds=20.0)], left=3) == 10.0


def test_members_of_one_task_are_validated_on_the_same_windows(work):
    trainings = MemberTrainings(ensemble(work(), **{"model.variants": []}))
    one, two, _ = (trainings._of(member).validation for member in trainings.members)
    assert one is two
