"""The console that the command line prints to."""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: Exit status of a process whose output nobody reads any more: 128 + SIGPIPE.
BROKEN_PIPE = 141


def make_console() -> "Console":
    """A console for plain text; silent under `-q`."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            """Called by Rich if nobody reads the output any more, as in `dist-lstm plan job.yaml | head -1`."""
            raise SystemExit(BROKEN_PIPE)

    # Paths may contain characters that Rich reads as markup.
    quiet = not logging.getLogger("dist_lstm").isEnabledFor(logging.WARNING)
    return Output(highlight=False, soft_wrap=True, markup=False, emoji=False, quiet=quiet)
