"""How the workers of several nodes and the command that follows them hear of each other."""

import io
from typing import Any

from dist_lstm.errors import UserError


class Coordinator:
    """What workers and the command leave for each other; an actor beside the command."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._error: UserError | None = None
        self._output: list[str] = []

    def add_output(self, text: str) -> None:
        """Have the command print something."""
        self._output.append(text)

    def take_output(self) -> str:
        """What is to be printed since the last call."""
        output, self._output = "".join(self._output), []
        return output

    def set_signal(self, number: int) -> None:
        """Pass on a signal that came to the command."""
        self._signal = number

    def get_signal(self) -> int | None:
        """The signal that came to the command, if any."""
        return self._signal

    def set_error(self, error: UserError) -> None:
        """Report a mistake of the user's; the first is kept."""
        self._error = self._error or error

    def get_error(self) -> UserError | None:
        """The mistake that was reported first, if any."""
        return self._error


class RemoteOutput(io.TextIOBase):
    """A file whose text the command prints.

    Args:
        coordinator: The actor.
    """

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator

    def write(self, text: str) -> int:
        """Have the command print something."""
        import ray

        ray.get(self._coordinator.add_output.remote(text))
        return len(text)
