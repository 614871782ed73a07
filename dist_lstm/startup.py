"""TensorFlow, started quietly, once per process."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import BinaryIO


@contextmanager
def _stderr_into(file: BinaryIO) -> Iterator[None]:
    """Send what C++ code writes to file descriptor 2 into a file. A Python exception passes through."""
    saved = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@cache
def start_tensorflow() -> str:
    """Import TensorFlow and Keras without their first lines, which ignore TF_CPP_MIN_LOG_LEVEL.

    Called before a module that imports TensorFlow is imported; importing such a module first works as well, but is
    not quiet. With TF_CPP_MIN_LOG_LEVEL=0 in the environment, as `dist-lstm -v` sets it, nothing is held back.

    Returns:
        What was held back: among it why TensorFlow sees no GPU.
    """
    quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "0"
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if not quiet:
        _import()
        return ""
    with tempfile.TemporaryFile() as held_back:
        with _stderr_into(held_back):
            _import()
        held_back.seek(0)
        text = held_back.read().decode(errors="replace")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return text


def _import() -> None:
    import keras  # noqa: F401
    import tensorflow as tf

    # The first look at the devices loads the GPU driver, which complains where there is none.
    tf.config.list_physical_devices()
