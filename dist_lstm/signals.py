"""Signals that ask a process to end wait until its work is saved."""

import signal
import threading
from types import FrameType
from typing import Self


class HeldSignals:
    """While the block runs, SIGINT (Ctrl-C) and SIGTERM (pre-emption) are only noted; they come at its end.

    So the block can end a step, save, and leave; what the signals do then is what they did before. A second
    SIGINT does not wait. In another thread than the main one, where Python has no signals, nothing is held.

    Attributes:
        number: The signal that came, None so far.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Hold both, but not one that is ignored, as SIGINT is in the background."""
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
        """Let go of both, and send on what came."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        if self.number is not None and failure[0] is None:
            signal.raise_signal(self.number)
            # Whoever handles it otherwise: the block did not come to its end.
            raise SystemExit(128 + self.number)
