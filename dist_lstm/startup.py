"""Import of TensorFlow without its messages, once per process."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import BinaryIO

from dist_lstm.errors import UserError

#: Two threads must not redirect the same descriptor.
_LOCK = Lock()


@contextmanager
def _stderr_into(file: BinaryIO) -> Iterator[None]:
    """Redirect what C++ code writes to file descriptor 2 into a file; Python exceptions pass through."""
    try:
        saved = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def start_tensorflow() -> str:
    """Import TensorFlow and Keras without their first lines, which ignore TF_CPP_MIN_LOG_LEVEL.

    Call it before a module that imports TensorFlow is imported; without it the messages are shown. With
    TF_CPP_MIN_LOG_LEVEL=0 in the environment, as `dist-lstm -v` sets it, nothing is suppressed.

    Returns:
        The suppressed messages, among them the reason why TensorFlow sees no GPU.

    Raises:
        UserError: If Keras uses another backend in this process.
    """
    with _LOCK:
        return _start()


@cache
def _start() -> str:
    quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "0"
    os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if not quiet:
        _import()
        return ""
    with tempfile.TemporaryFile() as suppressed:
        with _stderr_into(suppressed):
            _import()
        suppressed.seek(0)
        text = suppressed.read().decode(errors="replace")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return text


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise UserError(
            "KERAS_BACKEND",
            f"is {name!r} in this process",
            "unset it, or set it to tensorflow, before Keras is imported",
        )


def _import() -> None:
    _check_backend(os.environ["KERAS_BACKEND"])
    import keras
    import tensorflow as tf

    _check_backend(keras.backend.backend())  # of a process that imported Keras before
    # Listing the devices loads the GPU driver, which writes messages where there is none.
    tf.config.list_physical_devices()
