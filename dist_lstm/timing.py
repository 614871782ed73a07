"""Durations of stages, in the log `dist_lstm`, which the command line shows with `-v`."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Log the seconds that a stage took; a context manager or a decorator.

    Args:
        stage: Its name. A stage that fails is not logged.

    Yields:
        Nothing.
    """
    begin = time.perf_counter()
    yield
    logging.getLogger("dist_lstm").info("%-9s %.1f s", stage, time.perf_counter() - begin)
