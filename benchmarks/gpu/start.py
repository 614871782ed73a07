"""Does TensorFlow start on the GPU, with which libraries, and what does `dist-lstm doctor` report?"""

import re
import time
from pathlib import Path

from benchmarks.gpu import Job, Lines, Values
from dist_lstm.hardware import nvidia_driver
from dist_lstm.startup import start_tensorflow

#: Loaded libraries that matter on a GPU.
_LIBRARIES = re.compile(r"lib(cudnn|cublas|cudart|cusolver|cusparse|cuda|nccl)[^/]*\.so")


def lines(_: Job) -> Lines:
    """Lines of the item, the same in a rehearsal."""
    yield "tensorflow", tensorflow
    yield "doctor", doctor


def tensorflow() -> Values:
    """Import TensorFlow and run a small LSTM: versions, driver, memory and loaded libraries."""
    begin = time.perf_counter()
    start_tensorflow()
    import keras
    import tensorflow as tf

    from dist_lstm.train.devices import describe_devices, peak_memory

    imported = time.perf_counter() - begin
    output = keras.layers.LSTM(32)(tf.random.normal((64, 24, 2)))
    loaded = Path("/proc/self/maps")
    files = {line.split()[-1] for line in loaded.read_text().splitlines()} if loaded.exists() else set()
    build = tf.sysconfig.get_build_info()
    driver = nvidia_driver()
    return {
        "import_s": round(imported, 1),
        "first_lstm_s": round(time.perf_counter() - begin - imported, 1),
        "finite": bool(tf.reduce_all(tf.math.is_finite(output))),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "built_for": {name: build.get(f"{name}_version") for name in ("cuda", "cudnn")},
        "devices": describe_devices(),
        "driver": driver.version,
        "memory_mib": driver.memory_mib,
        "peak_memory_mib": peak_memory() >> 20,
        "libraries": sorted({Path(file).name for file in files if _LIBRARIES.search(file)}),
    }


def doctor() -> Values:
    """Run the checks of `dist-lstm doctor`."""
    from dist_lstm.doctor.check import as_json
    from dist_lstm.doctor.machine import examine

    return as_json(examine())
