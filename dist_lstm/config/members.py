"""The members of an ensemble: how each differs from the settings of the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from dist_lstm.config.load import override
from dist_lstm.config.resolved import MeasuredConfig, ResolvedConfig
from dist_lstm.errors import UserError

_Config = TypeVar("_Config", bound=ResolvedConfig)

#: Settings in which members may differ: all members take the same inputs and forecast the same quantiles.
_DIFFERING = (
    "data.transform",
    "model.bidirectional",
    "model.decoder",
    "model.dropout",
    "model.id_dropout",
    "model.linear",
    "model.residual",
    "model.scaling",
    "model.segment_length",
    "model.units",
    "task.context_length",
    "train.ema",
    "train.learning_rate",
    "train.max_steps",
    "train.mix",
    "train.noise",
    "train.span",
    "train.stretch",
    "train.stride",
    "train.weight_decay",
    "train.window_sampling",
)


@dataclass(frozen=True)
class Member:
    """One member of an ensemble.

    Attributes:
        number: Index of the member, from 0.
        config: Its settings; those of the run but for its variant and its seed.
        variant: Settings in which it differs from the run, by dotted key.
    """

    number: int
    config: MeasuredConfig
    variant: Mapping[str, Any]

    @property
    def transform(self) -> str | None:
        """The transform that its variant sets for all series; None for that of each series."""
        return self.variant.get("data.transform")


def make_members(config: MeasuredConfig) -> list[Member]:
    """The members of a run's ensemble; a single one, with the settings of the run, where it has no ensemble.

    Args:
        config: The config of the run.

    Returns:
        The members. They take the variants in turn; the first has the seed of the run, the others have seeds that
        depend on it and on their number.

    Raises:
        UserError: If a variant has a setting in which members can't differ, or a wrong value.
    """
    variants = config.model.variants or ({},)
    return [
        Member(
            number,
            variant_config(config, number % len(variants), {"train.seed": _seed(config.train.seed, number)}),
            variants[number % len(variants)],
        )
        for number in range(config.model.members)
    ]


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) % 2**31 if number else seed


def check_variants(config: ResolvedConfig) -> None:
    """Refuse variants with settings in which members can't differ, or with wrong values.

    Args:
        config: The config of the run.

    Raises:
        UserError: If there is one.
    """
    for number in range(len(config.model.variants)):
        variant_config(config, number)


def variant_config(config: _Config, number: int, changes: Mapping[str, Any] | None = None) -> _Config:
    """The settings of a member, which has no ensemble of its own.

    Args:
        config: The config of the run.
        number: Index of the member's variant; there may be none.
        changes: Further changes, by dotted key.

    Returns:
        The config.

    Raises:
        UserError: If the variant has a setting in which members can't differ, or a wrong value.
    """
    variant = config.model.variants[number] if config.model.variants else {}
    where = f"model.variants[{number}]"
    for key in variant:
        if key not in _DIFFERING:
            raise UserError(f"{where}.{key}", "members can't differ in it", f"use one of {', '.join(_DIFFERING)}")
    context = variant.get("task.context_length", config.task.context_length)
    if isinstance(context, int) and context > config.task.context_length:
        raise UserError(
            f"{where}.task.context_length",
            f"{context} is above task.context_length {config.task.context_length}",
            "raise task.context_length, the context of the ensemble",
        )
    shortest = {"task.min_context": min(config.task.min_context, context)} if isinstance(context, int) else {}
    alone = {"model.members": 1, "model.variants": ()}
    try:
        return override(config, {**alone, **shortest, **variant, **(changes or {})})
    except UserError as error:
        raise UserError(where, str(error)) from error
