"""Delay of SIGINT and SIGTERM until the work is saved."""

import signal
import threading
from types import FrameType
from typing import Self


class HeldSignals:
    """Records SIGINT (Ctrl-C) and SIGTERM (pre-emption) during a block and raises them again at its end.

    The block can finish a step, save and leave; the signals then act as they would have without it. A second
    SIGINT acts at once. Outside the main thread, where Python handles no signals, nothing is delayed.

    Attributes:
        number: The signal received; None before one is.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Install the handlers, except for a signal that is ignored, as SIGINT is in the background."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT == self.number:
            raise KeyboardInterrupt
        self.number = number

    def __exit__(self, *failure: object) -> None:
        """Restore the handlers, and raise the signal received."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        if self.number is not None and failure[0] is None:
            signal.raise_signal(self.number)
            # A handler returned: the block still did not finish its work.
            raise SystemExit(128 + self.number)
