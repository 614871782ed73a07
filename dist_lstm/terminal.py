"""The console that the command line prints to."""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def make_console() -> "Console":
    """A console for plain text; silent under `-q`."""
    from rich.console import Console

    # Paths may contain characters that Rich reads as markup.
    quiet = not logging.getLogger("dist_lstm").isEnabledFor(logging.WARNING)
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, quiet=quiet)
