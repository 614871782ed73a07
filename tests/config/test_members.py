"""The members of an ensemble: their seeds, their variants, and variants that are refused."""

import pytest

from dist_lstm.config.load import override, parse_config
from dist_lstm.config.members import make_members
from dist_lstm.config.resolved import MeasuredConfig, as_measured
from dist_lstm.errors import UserError
from tests.config.test_defaults import HOURLY, resolve


def config(**model) -> MeasuredConfig:
    values = {"task": {"horizon": 24, "context_length": 96}, "data": {"path": "a.csv"}, "model": model}
    return as_measured(resolve(parse_config(values), HOURLY))


def test_without_an_ensemble_the_only_member_is_the_run_itself():
    run = config()
    [member] = make_members(run)
    assert member.config == run


def test_members_take_the_variants_in_turn_and_have_seeds_of_their_own():
    variants = [{}, {"task.context_length": 48, "data.transform": "log1p"}]
    members = make_members(config(members=3, variants=variants))
    assert [member.number for member in members] == [0, 1, 2]
    assert [member.config.task.context_length for member in members] == [96, 48, 96]
    assert [member.transform for member in members] == [None, "log1p", None]
    seeds = [member.config.train.seed for member in members]
    assert seeds[0] == 1
    assert len(set(seeds)) == 3
    assert all(member.config.model.members == 1 for member in members)


def test_the_first_members_of_a_larger_ensemble_are_those_of_a_smaller_one():
    small, large = (make_members(config(members=count)) for count in (2, 5))
    assert [one.config for one in large[:2]] == [one.config for one in small]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            {"model.head": "mae"},
            r"^model.variants\[1\].model.head: members can't differ in it; use one of",
        ),
        ({"train.seed": 3}, r"^model.variants\[1\].train.seed: members can't differ"),
        (
            {"task.context_length": 192},
            r"context_length: 192 is above task.context_length 96; raise task.cont",
        ),
        (
            {"task.context_length": 30},
            r"^model.variants\[1\]: task.context_length 30 is not a multiple of",
        ),
        ({"model.dropout": 2}, r"^model.variants\[1\]: model.dropout: .*got 2"),
    ],
)
def test_variants_that_can_not_be_members_are_refused_by_name(variant, message):
    with pytest.raises(UserError, match=message):
        config(members=2, variants=[{}, variant])


def test_there_is_a_member_per_variant_unless_their_number_is_given():
    assert len(make_members(config(variants=[{}, {"model.dropout": 0.3}]))) == 2


def test_more_variants_than_members_are_refused():
    with pytest.raises(UserError, match=r"model.variants: there are 2, for 1 member; raise model.members to 2"):
        override(config(), {"model.variants": [{}, {"model.dropout": 0.3}]})
