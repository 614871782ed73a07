"""What would leave the cuDNN path, and whether a graph is on it.

Keras chooses cuDNN while it traces, where a GPU is visible and the layer's settings allow it. Otherwise it
falls back to a loop over steps, many times slower on a GPU, without a word.
"""

from typing import Any

import keras
import tensorflow as tf

#: Ops that mean: on the path, and off it.
CUDNN_OP = "CudnnRNNV3"
LOOP_OPS = frozenset({"While", "StatelessWhile"})


def cudnn_blockers(layer: keras.layers.LSTM) -> list[str]:
    """The settings of a layer that would leave the cuDNN path.

    Args:
        layer: An LSTM layer.

    Returns:
        One text a setting: what it is and what cuDNN needs. Empty for a layer that stays on the path. A
        mask is not a setting of the layer: this package uses none (contexts are padded on the left, which
        cuDNN refuses at run time, and a channel says what was observed).
    """
    needed = {
        "activation": (keras.activations.serialize(layer.activation), "tanh"),
        "recurrent_activation": (keras.activations.serialize(layer.recurrent_activation), "sigmoid"),
        "use_bias": (layer.use_bias, True),
        "recurrent_dropout": (layer.recurrent_dropout, 0.0),
        "unroll": (layer.unroll, False),
        "use_cudnn": (layer.use_cudnn is not False, True),
    }
    return [f"{name} is {got!r}, cuDNN needs {want!r}" for name, (got, want) in needed.items() if got != want]


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
        True if its graph, traced here and now, holds cuDNN's op.
    """
    specs = {one.name: tf.TensorSpec((None, *one.shape[1:]), one.dtype) for one in model.inputs}
    traced = tf.function(lambda inputs: model(inputs, training=True)).get_concrete_function(specs)
    return CUDNN_OP in graph_ops(traced)
