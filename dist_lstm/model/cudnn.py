"""Which settings prevent cuDNN, in which precision it is wrong, and whether a graph uses it.

Keras chooses cuDNN while it traces, if a GPU is visible and the layer's settings allow it. Otherwise it falls back
to a loop over steps, many times slower on a GPU, without a message.
"""

from typing import Any

import keras
import tensorflow as tf

from dist_lstm.errors import UserError

#: The op of a graph that uses cuDNN, and those of a loop over steps.
CUDNN_OP = "CudnnRNNV3"
LOOP_OPS = frozenset({"While", "StatelessWhile"})


def check_precision(precision: str) -> None:
    """Refuse to train in a precision in which cuDNN's gradients are wrong.

    In bfloat16 the gradients of LSTM layers had nothing in common with those of a CPU (TensorFlow 2.21 and cuDNN
    9.19 on an H200, `benchmarks/results/gpu_probes.json`): only the layers behind them would learn, without any
    error message.

    Args:
        precision: A precision of the network.

    Raises:
        UserError: If it is bfloat16 and a GPU is visible.
    """
    if precision == "bfloat16" and tf.config.get_visible_devices("GPU"):
        raise UserError(
            "train.precision",
            "in bfloat16 cuDNN's LSTM returns wrong gradients on a GPU",
            "set it to auto or float16",
        )


def cudnn_blockers(layer: keras.layers.LSTM) -> list[str]:
    """The settings of a layer that prevent cuDNN.

    Args:
        layer: An LSTM layer.

    Returns:
        One text per setting: its value and the value that cuDNN needs. Empty for a layer that can use cuDNN. A
        mask is not a setting of the layer: this package uses none (contexts are padded on the left, which
        cuDNN refuses at run time, and an input channel tells what was observed).
    """
    needed = {
        "activation": (keras.activations.serialize(layer.activation), "tanh"),
        "recurrent_activation": (keras.activations.serialize(layer.recurrent_activation), "sigmoid"),
        "use_bias": (layer.use_bias, True),
        "recurrent_dropout": (layer.recurrent_dropout, 0.0),
        "unroll": (layer.unroll, False),
        "use_cudnn": (layer.use_cudnn is not False, True),
    }
    return [f"{name} is {got!r}, cuDNN needs {need!r}" for name, (got, need) in needed.items() if got != need]


def graph_ops(function: Any) -> set[str]:
    """Types of all ops of a traced function, those of the functions it calls included.

    Args:
        function: A concrete function of TensorFlow.

    Returns:
        Op types such as `MatMul`.
    """
    graph = function.graph.as_graph_def()
    nodes = list(graph.node)
    for called in graph.library.function:
        nodes.extend(called.node_def)
    return {node.op for node in nodes}


def uses_cudnn(model: keras.Model) -> bool:
    """Whether the model's LSTM layers run through cuDNN in this process.

    Args:
        model: A built model.

    Returns:
        True if its graph, traced by this call, contains cuDNN's op. Without a GPU nothing is traced.
    """
    if not tf.config.list_logical_devices("GPU"):
        return False
    specs = {one.name: tf.TensorSpec((None, *one.shape[1:]), one.dtype) for one in model.inputs}
    traced = tf.function(lambda inputs: model(inputs, training=True), autograph=False).get_concrete_function(specs)
    return CUDNN_OP in graph_ops(traced)
