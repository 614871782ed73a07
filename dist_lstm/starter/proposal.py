"""A setting that is proposed, with its reason and what could stand instead."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Proposed:
    """A setting of the config that is written.

    Attributes:
        key: Its dotted name.
        value: Its value.
        why: The reason, or what it means, in a few words.
        instead: Other values, each with what it would mean.
        active: Whether it is written as a setting; else as a comment.
    """

    key: str
    value: Any
    why: str
    instead: tuple[tuple[Any, str], ...] = ()
    active: bool = True
