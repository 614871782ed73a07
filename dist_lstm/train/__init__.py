"""Training: devices, steps, the loop, the monitor. Importing this package imports TensorFlow, quietly.

With TF_CPP_MIN_LOG_LEVEL=0 in the environment, as `dist-lstm -v` sets it, TensorFlow says all it has to say.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keep lines that C++ code writes to file descriptor 2 from the terminal.

    TensorFlow's first lines ignore TF_CPP_MIN_LOG_LEVEL. A Python exception passes through.
    """
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


_quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "0"
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
with _stderr_held_back() if _quiet else nullcontext():
    import keras  # noqa: F401
    import tensorflow as tf

    # The first look at the devices loads the GPU driver, which complains where there is none.
    tf.config.list_physical_devices()

if _quiet:
    for _name in ("tensorflow", "absl"):
        logging.getLogger(_name).setLevel(logging.ERROR)
