"""One measurement of `bench_gpu.py`, which starts a process for each: its memory is free again afterwards.

Takes a job as JSON in its only argument; the last line it prints is the answer.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from benchmarks.training import Work, make_bare_step, open_work, ready_batches, time_bare, train_framework
from benchmarks.work import OUT_OF_MEMORY, Size
from dist_lstm.config.schema import ResourceSettings
from dist_lstm.train.devices import describe_devices, make_strategy

import keras  # isort: skip
import tensorflow as tf  # isort: skip

from dist_lstm.model.cudnn import CUDNN_OP, LOOP_OPS, graph_ops
from dist_lstm.model.lstm import build_model

#: Greatest difference of forecasts between GPU and CPU, in units of scale.
AGREEMENT = 2e-4
_FEWEST, _MOST = 5, 3000


def measure_bare(work: Work, seconds: float, cudnn: bool) -> dict[str, float]:
    """Windows a second of a bare step on ready tensors."""
    step, batches = make_bare_step(work, cudnn), ready_batches(work)
    pilot = time_bare(work, step, batches, 2)["windows_per_second"]
    return time_bare(work, step, batches, _steps(pilot, work, seconds))


def measure_framework(work: Work, strategy: Any, steps: int) -> dict[str, float]:
    """Windows a second and input-wait share of the whole framework, from Parquet."""
    found: dict[str, float] = {}

    def rest(passed: dict[str, float] | None) -> int:
        found.update(passed or {})
        return steps

    fitted = train_framework(work, strategy, rest, last=1 + steps)
    return found | {"input_wait_share": round(fitted.speed.input_wait_share or 0.0, 4)}


def _steps(windows_per_second: float, work: Work, seconds: float) -> int:
    return min(max(round(seconds * windows_per_second / work.batch_size), _FEWEST), _MOST)


def measure(work: Work, ways: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Measure a cell.

    Args:
        work: The cell's size.
        ways: `ready` (a bare step on ready tensors), `framework` and `loop` (bare, cuDNN off), any of them.
        seconds: Seconds of a measurement.

    Returns:
        By way its numbers, or why there are none as `failed`.
    """
    strategy = _strategy(work.config.train.precision)
    found: dict[str, dict[str, Any]] = {}
    for way in sorted(ways, key=["ready", "framework", "loop"].index):
        try:
            if way == "framework":
                speed = found.get("ready", {}).get("windows_per_second", 0.0)
                found[way] = measure_framework(work, strategy, _steps(speed, work, seconds))
            else:
                found[way] = measure_bare(work, seconds, cudnn=way == "ready")
        except tf.errors.ResourceExhaustedError:
            found[way] = {"failed": OUT_OF_MEMORY}
        except tf.errors.OpError as error:
            found[way] = {"failed": error.message.splitlines()[0]}
    return found


def check(work: Work, seconds: float) -> dict[str, Any]:
    """Is a GPU seen, is cuDNN in the training graph and no loop, does the GPU agree with the CPU, and what
    would a MirroredStrategy of one device cost?
    """
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    strategy = _strategy("float32")
    inputs, target = ready_batches(work)[0]
    ops = graph_ops(make_bare_step(work).get_concrete_function(inputs, target))
    steps = _steps(measure_bare(work, seconds, cudnn=True)["windows_per_second"], work, seconds)
    plain = measure_framework(work, strategy, steps)
    mirrored = tf.distribute.MirroredStrategy(["GPU:0" if has_gpu else "CPU:0"])
    rate = measure_framework(work, mirrored, steps)["windows_per_second"]
    return {
        "devices": describe_devices(),
        "gpu_seen": has_gpu,
        "graph_holds_cudnn": CUDNN_OP in ops,
        "graph_holds_loop": bool(ops & LOOP_OPS),
        "gpu_cpu_difference": disagreement(work) if has_gpu else None,
        "gpu_cpu_limit": AGREEMENT,
        "strategy_of_one_device": type(strategy).__name__,
        "mirrored_speed_on_one_device": round(rate / plain["windows_per_second"], 4),
        "input_wait_share": plain["input_wait_share"],
    }


def _strategy(precision: str) -> Any:
    """One GPU where there is one, else the CPU."""
    gpus = min(len(tf.config.list_physical_devices("GPU")), 1)
    return make_strategy(ResourceSettings(gpus=gpus), precision)


def disagreement(work: Work) -> float:
    """Greatest difference of forecasts between GPU and CPU, in units of scale, float32 without TF32."""
    _strategy("float32")
    keras.utils.set_random_seed(1)
    model = build_model(work.task, work.config.model)
    y = np.random.default_rng(1).normal(size=(256, work.task.context_length)).astype(np.float32)
    found = []
    for device in ("GPU:0", "CPU:0"):
        # A graph traced with a GPU visible holds cuDNN's op, which no CPU can run.
        for layer in model.layers:
            if isinstance(layer, keras.layers.LSTM) and device.startswith("CPU"):
                layer.use_cudnn = False
        with tf.device(device):
            found.append(model({"y": tf.constant(y)})["scaled"].numpy())
    return float(np.abs(found[0] - found[1]).max())


def main() -> None:
    """Do the job and print the answer."""
    job = json.loads(sys.argv[1])
    _strategy(job["precision"])
    work = open_work(Path(job["folder"]), Size.parse(job["size"]), job["precision"])
    answer = measure(work, job["ways"], job["seconds"]) if job["ways"] else check(work, job["seconds"])
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
