"""The fast path, traced as on a GPU; the graph is looked at, never run."""

import sys

import keras
import pytest
import tensorflow as tf

from dist_lstm.model.cudnn import CUDNN_OP, LOOP_OPS, graph_ops, off_fast_path, uses_cudnn
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.step import summed_loss
from tests.model.test_lstm import TASK, settings


@pytest.fixture
def fake_gpu(monkeypatch):
    """Keras asks this one function whether to take cuDNN."""
    import keras.src.backend.tensorflow  # noqa: F401

    monkeypatch.setattr(sys.modules["keras.src.backend.tensorflow.rnn"], "_is_gpu_available", lambda: True)


def training_graph(model: keras.Model) -> set[str]:
    loss = head_loss("quantile", TASK)

    @tf.function
    def gradients(y: tf.Tensor, target: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total, _ = summed_loss(model, loss, {"y": y}, target, training=True)
        return tape.gradient(total, model.trainable_variables)

    return graph_ops(gradients.get_concrete_function(tf.TensorSpec((8, 12)), tf.TensorSpec((8, 4))))


@pytest.mark.parametrize("segment_length", [1, 3])
def test_with_a_gpu_training_runs_through_cudnn_and_holds_no_loop(fake_gpu, segment_length):
    found = training_graph(build_model(TASK, settings(segment_length=segment_length)))
    assert CUDNN_OP in found
    assert "CudnnRNNBackpropV3" in found
    assert not found & LOOP_OPS


def test_without_a_gpu_training_runs_in_a_loop():
    model = build_model(TASK, settings())
    found = training_graph(model)
    assert CUDNN_OP not in found
    assert found & LOOP_OPS
    assert not uses_cudnn(model)


def test_with_a_gpu_a_model_says_that_it_uses_cudnn(fake_gpu):
    assert uses_cudnn(build_model(TASK, settings()))


def test_no_layer_that_we_build_leaves_the_fast_path():
    layers = [one for one in build_model(TASK, settings()).layers if isinstance(one, keras.layers.LSTM)]
    assert len(layers) == 2
    assert [off_fast_path(layer) for layer in layers] == [[], []]


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
def test_every_setting_named_as_leaving_the_fast_path_does_leave_it(fake_gpu, name, value):
    layer = keras.layers.LSTM(4, **{name: value})
    reasons = off_fast_path(layer)
    assert len(reasons) == 1
    assert reasons[0].startswith(f"{name} is ")
    traced = tf.function(lambda x: layer(x, training=True)).get_concrete_function(tf.TensorSpec((2, 5, 3)))
    assert CUDNN_OP not in graph_ops(traced)
