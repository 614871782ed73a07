"""Does training run through cuDNN, and do GPU and CPU agree?"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console

from benchmarks.gpu import ROOT, Job, Lines, Values
from benchmarks.training import make_bare_step, one_device, open_work, ready_batches
from benchmarks.work import Size
from dist_lstm.config.load import load_config, override
from dist_lstm.model.cudnn import CUDNN_OP, LOOP_OPS, graph_ops
from dist_lstm.model.lstm import build_model
from dist_lstm.run import forecast, train
from dist_lstm.run_directory import start_run

#: Largest allowed difference of forecasts between GPU and CPU: of one network, and of a trained model, in units
#: of the scale of the values.
NETWORK_LIMIT, MODEL_LIMIT = 2e-4, 1e-4
#: Largest allowed difference of gradients between GPU and CPU, in units of the largest gradient of each weight.
#: In bfloat16 cuDNN's are wrong, so that no model is trained in it on a GPU; a small difference would end that.
GRADIENT_LIMITS = {"float32": 1e-4, "float16": 0.5, "bfloat16": None}


def lines(job: Job) -> Lines:
    """Lines of the item."""
    size = Size((4, 4), 8, 24) if job.rehearse else Size((64, 64), 256, 96)
    yield "training graph", partial(graph, Path(job.folder), size)
    yield "network on GPU and CPU", partial(network, Path(job.folder), size)
    for precision in GRADIENT_LIMITS:
        yield f"gradients in {precision}", partial(gradients, precision, size)
    yield "model trained on the GPU, on the CPU", partial(model, Path(job.folder), 4 if job.rehearse else 100)


def graph(folder: Path, size: Size) -> Values:
    """Ops in the graph of a training step that decide the speed of its LSTM layers."""
    one_device()
    work = open_work(folder, size)
    ops = graph_ops(make_bare_step(work).get_concrete_function(*ready_batches(work)[0]))
    return {
        "gpu_seen": bool(tf.config.get_visible_devices("GPU")),
        "holds_cudnn": CUDNN_OP in ops,
        "holds_loop": bool(ops & LOOP_OPS),
    }


def network(folder: Path, size: Size) -> Values:
    """Difference between forecasts of one network on GPU and CPU, in float32 without TF32."""
    one_device("float32")
    work = open_work(folder, size)
    keras.utils.set_random_seed(1)
    built = build_model(work.task, work.config.model)
    y = np.random.default_rng(1).normal(size=(size.batch, size.context)).astype(np.float32)
    forecasts = []
    for device in ("GPU:0" if tf.config.get_visible_devices("GPU") else "CPU:0", "CPU:0"):
        # Where a GPU is visible, Keras chooses cuDNN's op, which a CPU can't run.
        for layer in built.layers:
            if isinstance(layer, keras.layers.LSTM):
                layer.use_cudnn = "auto" if device.startswith("GPU") else False
        with tf.device(device):
            forecasts.append(built({"y": tf.constant(y)})["scaled"].numpy())
    return {"difference": float(np.abs(forecasts[0] - forecasts[1]).max()), "limit": NETWORK_LIMIT}


def gradients(precision: str, size: Size) -> Values:
    """Difference between gradients of LSTM layers through cuDNN on the GPU and through a loop on the CPU."""
    one_device("float32")
    keras.utils.set_random_seed(1)
    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    last = len(size.units) - 1
    layers = [
        keras.layers.LSTM(units, return_sequences=number < last, dtype=policy)
        for number, units in enumerate(size.units)
    ]
    x = np.random.default_rng(1).normal(size=(size.batch, size.context, 3)).astype(np.float32)
    results = []
    for device in ("GPU:0" if tf.config.get_visible_devices("GPU") else "CPU:0", "CPU:0"):
        for layer in layers:
            layer.use_cudnn = "auto" if device.startswith("GPU") else False
        with tf.device(device), tf.GradientTape() as tape:
            y = x
            for layer in layers:
                y = layer(y)
            loss = tf.reduce_mean(tf.cast(y, tf.float32) ** 2)
        weights = [weight.value for layer in layers for weight in layer.trainable_weights]
        results.append([tf.convert_to_tensor(one).numpy() for one in tape.gradient(loss, weights)])
    differences = [np.abs(one - other).max() / np.abs(other).max() for one, other in zip(*results, strict=True)]
    worst, limit = float(max(differences)), GRADIENT_LIMITS[precision]
    return {"relative_difference": worst} if limit is None else {"difference": worst, "limit": limit}


def model(folder: Path, steps: int) -> Values:
    """Difference between forecasts of a trained model in this process and in one that sees no GPU."""
    changes = {"train.max_steps": steps, "train.refit": False, "train.precision": "float32"}
    config = override(load_config(ROOT / "configs" / "quickstart.yaml"), changes)
    run, (on_gpu, on_cpu) = folder / "model", (folder / "gpu", folder / "cpu")
    with start_run(config, run, Console(quiet=True)) as started:
        forecast(train(started), out=on_gpu)
    command = [sys.executable, "-m", "dist_lstm", "forecast", str(run), "--out", str(on_cpu)]
    done = subprocess.run(
        command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stderr.strip()}")
    one, other = (pd.read_parquet(path).set_index(["unique_id", "ds"]) for path in (on_gpu, on_cpu))
    scale = pd.read_parquet(config.data.path).groupby("unique_id")["y"].std()
    difference = (one - other).abs().max(axis=1).groupby("unique_id").max() / scale
    return {"difference": float(difference.max()), "limit": MODEL_LIMIT, "series": len(difference)}
