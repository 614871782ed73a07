"""A proposed setting with its reason and alternatives."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Proposed:
    """A setting of the config to write.

    Attributes:
        key: Its dotted key.
        value: Its value.
        why: The reason or the meaning, in a few words.
        instead: Alternative values, each with its meaning.
        active: Whether it is written as a setting; otherwise as a comment.
    """

    key: str
    value: Any
    why: str
    instead: tuple[tuple[Any, str], ...] = ()
    active: bool = True
