"""The fast path, traced as on a GPU; the graph is looked at, never run."""

import itertools
from typing import Any

import keras
import pytest
import tensorflow as tf

from dist_lstm.config.task import Task, input_spec
from dist_lstm.errors import UserError
from dist_lstm.model.cudnn import CUDNN_OP, LOOP_OPS, cudnn_blockers, graph_ops, uses_cudnn
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.step import summed_loss
from tests.model.test_architectures import AXES, make
from tests.model.test_lstm import TASK, settings


@pytest.fixture
def fake_gpu(monkeypatch):
    """Keras asks this one function whether there is a GPU, and then takes cuDNN."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _: ["GPU:0"])


def nodes_of(function: Any) -> list[Any]:
    """All ops of a traced function, those of the functions it calls included."""
    graph = function.graph.as_graph_def()
    return [*graph.node, *(node for called in graph.library.function for node in called.node_def)]


def traced(model: keras.Model, task: Task, head: str) -> Any:
    """The loss of a model and its gradient, traced."""
    loss = head_loss(head, task)

    @tf.function
    def gradients(inputs: dict[str, tf.Tensor], target: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total, _ = summed_loss(model, loss, inputs, target, training=True)
        return tape.gradient(total, model.trainable_variables)

    specs = {name: tf.TensorSpec((8, *shape), kind) for name, (shape, kind) in input_spec(task).items()}
    return gradients.get_concrete_function(specs, tf.TensorSpec((8, task.horizon)))


def training_graph(model: keras.Model) -> set[str]:
    return graph_ops(traced(model, TASK, "quantile"))


@pytest.mark.parametrize("segment_length", [1, 3])
def test_with_a_gpu_training_runs_through_cudnn_and_holds_no_loop(fake_gpu, segment_length):
    actual = training_graph(build_model(TASK, settings(segment_length=segment_length)))
    assert CUDNN_OP in actual
    assert "CudnnRNNBackpropV3" in actual
    assert not actual & LOOP_OPS


def test_no_model_is_built_in_a_precision_in_which_cudnn_is_wrong(monkeypatch):
    # On a CPU it is fine: see tests/train/test_step.py.
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: ["GPU:0"])
    with pytest.raises(UserError, match=r"^train.precision: in bfloat16 cuDNN's LSTM returns wrong gradients"):
        build_model(TASK, settings(), "bfloat16")
    for precision in ("float32", "tf32", "float16"):
        build_model(TASK, settings(), precision)


VARIANTS = list(itertools.product(AXES["decoder"], (False, True), (False, True)))


@pytest.mark.parametrize(("number", "variant"), list(enumerate(VARIANTS)), ids=str)
def test_with_a_gpu_every_layer_of_every_variant_uses_cudnn(fake_gpu, number, variant):
    decoder, bidirectional, residual = variant
    choice = {"decoder": decoder, "bidirectional": bidirectional, "residual": residual, "linear": True}
    covariates, values = AXES["covariates"][number % 5], AXES["values"][number % 4]
    head = ("quantile", "mae")[number % 2]
    task, model_settings = make(choice | {"covariates": covariates, "values": values, "head": head}, number)
    nodes = nodes_of(traced(build_model(task, model_settings), task, head))
    layers = len(model_settings.units) * (2 if bidirectional else 1) + (decoder == "segment")
    for op in (CUDNN_OP, "CudnnRNNBackpropV3"):
        assert sum(node.op == op for node in nodes) == layers
    loops = [node.name for node in nodes if node.op in LOOP_OPS]
    if decoder == "recursive":
        # One forwards, one for its gradient: the decoder reads its own forecasts.
        assert len(loops) == 2
        assert all("decoder" in name for name in loops)
    else:
        assert not loops


def test_without_a_gpu_training_runs_in_a_loop():
    model = build_model(TASK, settings())
    actual = training_graph(model)
    assert CUDNN_OP not in actual
    assert actual & LOOP_OPS
    assert not uses_cudnn(model)


@pytest.mark.parametrize("decoder", AXES["decoder"])
def test_with_a_gpu_a_model_is_reported_to_use_cudnn(fake_gpu, decoder):
    assert uses_cudnn(build_model(TASK, settings(decoder=decoder)))


@pytest.mark.parametrize("decoder", AXES["decoder"])
def test_no_layer_of_a_model_prevents_cudnn(decoder):
    for bidirectional in (False, True):
        model = build_model(TASK, settings(decoder=decoder, bidirectional=bidirectional))
        layers = [one for one in model._flatten_layers() if isinstance(one, keras.layers.LSTM)]
        assert len(layers) == (4 if bidirectional else 2) + (decoder == "segment")
        assert [cudnn_blockers(layer) for layer in layers] == [[]] * len(layers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation", "relu"),
        ("recurrent_activation", "hard_sigmoid"),
        ("use_bias", False),
        ("recurrent_dropout", 0.1),
        ("unroll", True),
        ("use_cudnn", False),
    ],
)
def test_every_setting_named_as_preventing_cudnn_does_prevent_it(fake_gpu, name, value):
    layer = keras.layers.LSTM(4, **{name: value})
    reasons = cudnn_blockers(layer)
    assert len(reasons) == 1
    assert reasons[0].startswith(f"{name} is ")
    traced = tf.function(lambda x: layer(x, training=True)).get_concrete_function(tf.TensorSpec((2, 5, 3)))
    assert CUDNN_OP not in graph_ops(traced)
