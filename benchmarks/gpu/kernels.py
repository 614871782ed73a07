"""cuDNN's LSTM alone, forward and backward: the op that Keras uses, and the op that chooses an algorithm.

`CudnnRNNV3`, which Keras uses, always runs cuDNN's standard algorithm; `CudnnRNNV2` times standard, persist-static
and persist-dynamic at its first call and uses the fastest. Both can run several layers in one op; Keras runs one
op per layer.

Axes: T context, B batch, I inputs, U units, L layers.
"""

import time
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.gpu import Job, Values
from benchmarks.gpu.comparison import Turn, summarise, take_turns
from benchmarks.training import one_device
from benchmarks.turns import Contender
from benchmarks.work import Size

_INPUTS = 2


def measure_kernels(job: Job, size: Size, torch: Contender | None) -> Values:
    """Time both ops with one layer and with two, one op per layer as in Keras, and PyTorch's two layers, in turns.

    Args:
        job: Sets the duration of a turn.
        size: Windows, context and units; two layers.
        torch: PyTorch's process, or None.

    Returns:
        The values of `summarise`, and by number of layers `difference`, the relative difference between the summed
        gradients of V2 and V3. On a CPU, where the ops can't run, only the names of the traced graphs.
    """
    one_device()
    steps = {
        "V3, 1 layer": make_step("V3", size, [1]),
        "V2, 1 layer": make_step("V2", size, [1]),
        "V3, 2 layers in an op": make_step("V3", size, [2]),
        "V2, 2 layers in an op": make_step("V2", size, [2]),
        "V3, an op per layer": make_step("V3", size, [1, 1]),
    }
    contenders: dict[str, Turn] = {}
    values: Values = {}
    if tf.config.get_visible_devices("GPU"):
        contenders |= {name: partial(time_step, step, size.batch) for name, step in steps.items()}
    else:
        values["traced"] = [name for name, step in steps.items() if step.get_concrete_function()]
    if torch is not None:
        contenders["torch, 2 layers"] = torch_turn(torch, {"kind": "kernel", "size": size.plain()})
    turns = take_turns(contenders, size.batch, job)
    layers = ("1 layer", "2 layers in an op")
    values["difference"] = {
        one: abs(float(steps[f"V2, {one}"]()) / float(steps[f"V3, {one}"]()) - 1)
        for one in layers
        if {f"V2, {one}", f"V3, {one}"} <= turns.results.keys()
    }
    others = ("V3, an op per layer", "torch, 2 layers")
    pairs = [(f"V2, {one}", f"V3, {one}") for one in layers] + [(f"V2, {layers[1]}", one) for one in others]
    return values | summarise(turns, pairs)


def make_step(version: str, size: Size, layers: list[int]) -> Any:
    """Build the forward and backward pass of consecutive ops.

    Args:
        version: `V2` or `V3`.
        size: Windows, context and units.
        layers: Number of layers of each op.

    Returns:
        A `tf.function` without arguments that returns the sum of all absolute gradients.
    """
    units = size.units[0]
    generator = np.random.default_rng(0)

    def normal(scale: float, *shape: int) -> Any:
        # A variable is stored on the device that computes.
        return tf.Variable(tf.constant(generator.normal(0, scale, shape), tf.float32))

    steps = normal(1.0, size.context, size.batch, _INPUTS)
    reads = [_INPUTS, *[units] * (len(layers) - 1)]
    weights = [normal(0.05, parameters(read, units, one)) for read, one in zip(reads, layers, strict=True)]

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            output = steps.read_value()
            for weight, one in zip(weights, layers, strict=True):
                output = run_op(version, output, weight, (one, units))
            loss = tf.reduce_sum(output[-1])
        gradients: Any = tape.gradient(loss, weights)
        return tf.add_n([tf.reduce_sum(tf.abs(gradient)) for gradient in gradients])

    return step


def parameters(inputs: int, units: int, layers: int) -> int:
    """Number of weights of an op: per layer and gate a kernel, a recurrent kernel and two biases."""
    return sum(4 * units * (read + units + 2) for read in [inputs, *[units] * (layers - 1)])


def run_op(version: str, steps: tf.Tensor, weights: tf.Tensor, shape: tuple[int, int]) -> tf.Tensor:
    """Run an op in training mode: steps `[T, B, I]` and flat weights to the last layer's states `[T, B, U]`."""
    (layers, units), batch = shape, steps.shape[1]
    state = tf.zeros((layers, batch, units))
    common = {"input": steps, "input_h": state, "input_c": state, "params": weights, "rnn_mode": "lstm"}
    if version == "V2":
        return tf.raw_ops.CudnnRNNV2(**common, is_training=True).output
    lengths = tf.fill((batch,), steps.shape[0])
    return tf.raw_ops.CudnnRNNV3(**common, sequence_lengths=lengths, is_training=True, time_major=True).output


def time_step(step: Any, batch: int, number: int) -> dict[str, float]:
    """Call a step `number` times; windows per second."""
    step().numpy()
    begin = time.perf_counter()
    total = None
    for _ in range(number):
        total = step()
    if total is not None:
        total.numpy()  # the last call returns before the GPU has finished
    return {"windows_per_second": number * batch / (time.perf_counter() - begin)}


def torch_turn(torch: Contender, job: dict[str, Any]) -> Turn:
    """Turns of PyTorch in TF32, the precision of `train.precision: auto` on a GPU."""

    def turn(steps: int) -> dict[str, float]:
        torch.ask(**job, precision="tf32", steps=steps)
        return torch.answer()

    return turn
