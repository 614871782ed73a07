"""Speed of training a small LSTM on this machine, and whether it uses cuDNN.

Axes: B batch, T context, H horizon.
"""

import time
from dataclasses import dataclass
from typing import Any

from dist_lstm.startup import start_tensorflow

#: The job that is timed: 2 layers of 64 units, a context of 96 single steps, batches of 256 windows.
_BATCH_SIZE = 256
_JOB = {
    "task": {"horizon": 24, "context_length": 96, "freq": 1, "season_length": 24},
    "data": {"path": "synthetic", "transform": "none"},
    "model": {"units": [64, 64], "segment_length": 1},
    "train": {"batch_size": _BATCH_SIZE},
}

#: Seconds of one measurement, without tracing.
_SECONDS = 1.0


@dataclass(frozen=True)
class Speed:
    """Speed of training a small LSTM on this machine.

    Attributes:
        on_gpu: Whether TensorFlow sees a GPU.
        cudnn: Whether the training graph holds cuDNN's op.
        windows_per_second: Training windows per second, with cuDNN where Keras chooses it.
        without_cudnn: The same with `use_cudnn=False`; None on a CPU.
    """

    on_gpu: bool
    cudnn: bool
    windows_per_second: float
    without_cudnn: float | None


def measure_speed() -> Speed:
    """Time training steps of a small LSTM, on one GPU or the CPU, by the package's own model and step.

    Returns:
        The measurement; takes about 5 seconds beside the import of TensorFlow.
    """
    start_tensorflow()
    import tensorflow as tf

    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    ops, speed = _time_steps(on_gpu, use_cudnn="auto")
    from dist_lstm.model.cudnn import CUDNN_OP

    return Speed(on_gpu, CUDNN_OP in ops, speed, _time_steps(on_gpu, use_cudnn=False)[1] if on_gpu else None)


def _time_steps(on_gpu: bool, use_cudnn: bool | str) -> tuple[set[str], float]:
    """Ops of the training graph, and windows per second."""
    import numpy as np
    import tensorflow as tf

    from dist_lstm.config.defaults import DatasetStatistics, resolve
    from dist_lstm.config.load import parse_config
    from dist_lstm.config.resolved import as_measured
    from dist_lstm.config.schema import ResourceSettings
    from dist_lstm.config.task import make_task
    from dist_lstm.model.cudnn import graph_ops
    from dist_lstm.model.heads import head_loss
    from dist_lstm.train.devices import make_strategy
    from dist_lstm.train.state import make_train_state
    from dist_lstm.train.step import make_train_steps

    config = as_measured(resolve(parse_config(_JOB), DatasetStatistics(freq=1, steps=1000, median=1000)))
    task = make_task(config)
    strategy = make_strategy(ResourceSettings(gpus=int(on_gpu)))
    state = make_train_state(lambda: _build(config, task, use_cudnn), config.train, strategy)
    # The loop is a tf.function, which the type of TrainSteps does not say.
    train_steps: Any = make_train_steps(state, head_loss(config.model.head, task), config.train)
    y = np.random.default_rng(0).normal(size=(_BATCH_SIZE, task.context_length + task.horizon)).astype(np.float32)
    batch = ({"y": y[:, : task.context_length]}, y[:, task.context_length :])
    batches, sums = iter(tf.data.Dataset.from_tensors(batch).repeat()), tf.zeros(5, tf.float64)
    ops = graph_ops(train_steps.get_concrete_function(batches, tf.constant(1), sums))

    def seconds(steps: int) -> float:
        begin = time.perf_counter()
        train_steps(batches, tf.constant(steps), sums)[1].numpy()
        return time.perf_counter() - begin

    seconds(1)  # work done only once, such as choosing algorithms
    steps = max(2, int(_SECONDS / seconds(1)))
    return ops, steps * _BATCH_SIZE / seconds(steps)


def _build(config: Any, task: Any, use_cudnn: bool | str) -> Any:
    import keras

    from dist_lstm.model.lstm import build_model

    model = build_model(task, config.model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.LSTM):
            layer.use_cudnn = use_cudnn
    return model
