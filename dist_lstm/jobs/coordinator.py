"""Where the workers of several nodes and the command that follows them leave word for each other."""

import io
from typing import Any


class Desk:
    """Where workers and the command leave word for each other; an actor beside the command.

    Attributes:
        told: The signal that came to the command; None so far.
        mistake: What is wrong with the job; None so far.
    """

    def __init__(self) -> None:
        self.told: int | None = None
        self.mistake: str | None = None
        self._said: list[str] = []

    def say(self, text: str) -> None:
        """Have the command print something."""
        self._said.append(text)

    def take(self) -> str:
        """What was said since."""
        said, self._said = "".join(self._said), []
        return said

    def tell(self, number: int) -> None:
        """Pass on a signal."""
        self.told = number

    def asked(self) -> int | None:
        """The signal that came, if any."""
        return self.told

    def refuse(self, mistake: str) -> None:
        """Say what is the user's to mend."""
        self.mistake = self.mistake or mistake

    def refused(self) -> str | None:
        """What is to be mended, if anything."""
        return self.mistake


class Line(io.TextIOBase):
    """A file whose lines the command prints.

    Args:
        desk: The actor.
    """

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def write(self, text: str) -> int:
        """Have the command print something."""
        import ray

        ray.get(self._desk.say.remote(text))
        return len(text)
