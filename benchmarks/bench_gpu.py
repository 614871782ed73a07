"""Is the GPU used as it should be, and how fast is it?

    python benchmarks/bench_gpu.py            # prints a table, writes benchmarks/results/gpu.json

For a machine that has only Python, TensorFlow and what dist_lstm imports. Asks, in this order: is a GPU
seen; does the training graph hold cuDNN's op and no loop; do GPU and CPU agree in float32 without TF32;
how many windows a second are trained on, from Parquet and on ready tensors, with cuDNN and without. Without
a GPU it measures the CPU and says so.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from dist_lstm.config.defaults import resolve
from dist_lstm.config.load import parse_config
from dist_lstm.config.schema import Config
from dist_lstm.config.section import known
from dist_lstm.config.task import Task, make_task
from dist_lstm.data.prepare import prepare
from dist_lstm.train.devices import describe_devices, make_strategy  # imports TensorFlow quietly

import keras  # isort: skip
import tensorflow as tf  # isort: skip

from dist_lstm.data.sampling import TrainingWindows, make_draw
from dist_lstm.data.stream import distribute, training_dataset
from dist_lstm.model.cudnn import CUDNN_OP, LOOP_OPS, graph_ops
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.optimizer import make_optimizer
from dist_lstm.train.step import make_train_steps, summed_loss

AGREEMENT = 2e-4
RESULTS = Path(__file__).parent / "results" / "gpu.json"


def parse_arguments() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[128, 128], help="units of each layer")
    parser.add_argument("--context", type=int, default=96, help="steps of a context")
    parser.add_argument("--segment", type=int, default=1, help="steps read at once")
    parser.add_argument("--batch", type=int, default=1024, help="windows a step")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds a measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    return parser.parse_args()


def make_data(folder: Path, arguments: argparse.Namespace) -> Config:
    """A table of 200 hourly series of 2,000 steps, and the config that reads it."""
    generator = np.random.default_rng(0)
    steps = np.arange(2000)
    y = np.concatenate([np.sin(steps * 2 * np.pi / 24 + n) + generator.normal(0, 0.3, 2000) for n in range(200)])
    table = {"unique_id": np.repeat([f"s{n:03d}" for n in range(200)], 2000), "ds": np.tile(steps, 200), "y": y}
    pq.write_table(pa.table(table), folder / "series.parquet")
    return parse_config(
        {
            "task": {"horizon": 24, "context_length": arguments.context, "freq": 1, "season_length": 24},
            "data": {"path": str(folder / "series.parquet")},
            "split": {"validation": 24, "test": 24},
            "model": {"units": arguments.units, "segment_length": arguments.segment},
            "train": {"batch_size": arguments.batch},
        }
    )


def without_cudnn(model: keras.Model) -> keras.Model:
    """Send the model's LSTM layers down the loop instead of cuDNN."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.LSTM):
            layer.use_cudnn = False
    return model


def training_ops(config: Config, task: Task) -> set[str]:
    """Ops of the graph of one gradient."""
    model, loss = build_model(task, config.model), head_loss(config.model.head, task)

    def gradient(y: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            total, _ = summed_loss(model, loss, {"y": y}, target, training=True)
        return tape.gradient(total, model.trainable_variables)

    specs = tf.TensorSpec((8, task.context_length)), tf.TensorSpec((8, task.horizon))
    return graph_ops(tf.function(gradient).get_concrete_function(*specs))


def disagreement(config: Config, task: Task) -> float:
    """Greatest difference of forecasts between GPU and CPU, in units of scale, float32 without TF32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    keras.utils.set_random_seed(1)
    model = build_model(task, config.model)
    y = np.random.default_rng(1).normal(size=(256, task.context_length)).astype(np.float32)
    found = []
    for device in ("GPU:0", "CPU:0"):
        # A graph traced with a GPU visible holds cuDNN's op, which no CPU can run.
        if device.startswith("CPU"):
            without_cudnn(model)
        with tf.device(device):
            outputs = model({"y": tf.constant(y)})
        found.append((outputs["forecast"] / outputs["loss_scale"][..., None]).numpy())
    tf.config.experimental.enable_tensor_float_32_execution(True)
    return float(np.abs(found[0] - found[1]).max())


def measure(
    config: Config, task: Task, make_batches: Callable[[], Any], fast: bool, seconds: float
) -> dict[str, float]:
    """Windows a second and the input-wait share of the framework's own steps."""
    strategy = make_strategy("auto")
    with strategy.scope():
        model = build_model(task, config.model)
        if not fast:
            without_cudnn(model)
        optimizer = make_optimizer(config.train)
        optimizer.build(model.trainable_variables)
    loss = head_loss(config.model.head, task)
    steps = make_train_steps(model, optimizer, loss, config.train.clip_norm, strategy)
    batch_size = known(config.train.batch_size)
    batches = distribute(make_batches, strategy, batch_size)
    sums = steps(batches, tf.constant(3), tf.zeros(3, tf.float64)).numpy()
    begin, number = time.perf_counter(), 0
    waited = sums[2]
    while (elapsed := time.perf_counter() - begin) < seconds:
        sums = steps(batches, tf.constant(10), tf.constant(sums)).numpy()
        number += 10
    return {
        "windows_per_second": round(number * batch_size / elapsed, 1),
        "input_wait_share": round((sums[2] - waited) / elapsed, 4),
    }


def ready_tensors(windows: TrainingWindows) -> Callable[[], tf.data.Dataset]:
    """One batch of the stream, again and again: no input to wait for."""
    batch = next(iter(training_dataset(windows)))
    return lambda: tf.data.Dataset.from_tensors(batch).cache().repeat().prefetch(tf.data.AUTOTUNE)


def main() -> None:
    """Check, measure, print a table and write the results file."""
    arguments, console = parse_arguments(), Console()
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    results: dict[str, Any] = {"settings": {k: v for k, v in vars(arguments).items() if k != "out"}}
    make_strategy("auto")
    results["machine"] = describe_machine() | {"devices": describe_devices()}
    if not has_gpu:
        console.print("no GPU is visible: these are numbers of the CPU, and cuDNN can't be checked here")
    with tempfile.TemporaryDirectory() as scratch:
        config = make_data(Path(scratch), arguments)
        manifest = prepare(config, Path(scratch) / "shards")
        config = resolve(config, manifest.facts)
        task = make_task(config)
        ops = training_ops(config, task)
        results["checks"] = {
            "gpu_seen": has_gpu,
            "graph_holds_cudnn": CUDNN_OP in ops,
            "graph_holds_loop": bool(ops & LOOP_OPS),
            "gpu_cpu_difference": disagreement(config, task) if has_gpu else None,
            "gpu_cpu_limit": AGREEMENT,
        }
        windows = TrainingWindows(Path(scratch) / "shards", manifest, task, make_draw(config, whole=False))
        sources = {"parquet": lambda: training_dataset(windows), "ready tensors": ready_tensors(windows)}
        results["speed"] = {
            f"{source}, {'cuDNN' if fast else 'no cuDNN'}": measure(config, task, make, fast, arguments.seconds)
            for fast in ((True, False) if has_gpu else (False,))
            for source, make in sources.items()
        }
    show(results, console)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {arguments.out}")
    checks = results["checks"]
    wrong = has_gpu and (not checks["graph_holds_cudnn"] or checks["gpu_cpu_difference"] > AGREEMENT)
    sys.exit(1 if wrong else 0)


def show(results: dict[str, Any], console: Console) -> None:
    """Print the results as one table."""
    table = Table("what", "windows/s", "input wait", title="training steps", title_justify="left")
    for name, found in results["speed"].items():
        table.add_row(name, f"{found['windows_per_second']:,.0f}", f"{found['input_wait_share']:.1%}")
    for name, found in results["checks"].items():
        table.add_row(name, str(found), "")
    console.print(table)


if __name__ == "__main__":
    main()
