"""Messages between the workers on several nodes and the command that started them."""

import io
from typing import Any

from dist_lstm.errors import UserError


class Coordinator:
    """Holds output, a signal and an error for the other side; a Ray actor on the node of the command."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._error: UserError | None = None
        self._output: list[str] = []

    def add_output(self, text: str) -> None:
        """Add text for the command to print."""
        self._output.append(text)

    def take_output(self) -> str:
        """Text that was added since the last call."""
        output, self._output = "".join(self._output), []
        return output

    def set_signal(self, number: int) -> None:
        """Pass a signal that the command received on to the workers."""
        self._signal = number

    def get_signal(self) -> int | None:
        """The signal that the command received, if any."""
        return self._signal

    def set_error(self, error: UserError) -> None:
        """Report an error of the user's; the first one is kept."""
        self._error = self._error or error

    def get_error(self) -> UserError | None:
        """The error that was reported first, if any."""
        return self._error


class RemoteOutput(io.TextIOBase):
    """A text stream whose content the command prints.

    Args:
        coordinator: Handle of the `Coordinator` actor.
    """

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator

    def write(self, text: str) -> int:
        """Send text to the command, which prints it."""
        import ray

        ray.get(self._coordinator.add_output.remote(text))
        return len(text)
