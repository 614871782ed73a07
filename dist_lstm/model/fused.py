"""M independent small models of one architecture as one graph: every weight has a leading model axis.

A thousand tiny LSTMs one after another leave every device idle; as batched matrix products they use it fully. The
graph is that of `build_model`, operation by operation: a layer with weights or dropout is computed by its form in
`dist_lstm.model.fused_layers`, and any other operation takes the batches of all models as one. So whatever
`build_model` builds can be fused. A fused model is exported by giving its slice of the weights to an ordinary
model, and ordinary models are fused by stacking their weights.

All models may have windows of their own, `[M, B, ...]`, or the same windows, `[B, ...]`. What depends only on the
latter, and not on weights, is computed once for all models.

Source: Wang et al., "Horizontally Fused Training Array", MLSys 2021, arXiv 2102.02344.

Axes: M fused models, B batch, T context, H horizon, F features, P head parameters.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.resolved import ResolvedModelSettings
from dist_lstm.config.task import Task
from dist_lstm.model.fused_layers import FUSED_LAYERS, Fused, Noise, Weights, repeat_models
from dist_lstm.model.lstm import build_model
from dist_lstm.model.scaling import normalise_target
from dist_lstm.model.statistics import is_described, loss_weight

#: Model inputs that only scaling reads.
_OF_SCALING = frozenset({"y", "transform", "series_scale"})
#: Variables of layers that may be random at first, and the attributes with their initializers.
_DRAWN = {
    "kernel": "kernel_initializer",
    "recurrent_kernel": "recurrent_initializer",
    "embeddings": "embeddings_initializer",
    "vectors": "vectors_initializer",
}
#: Arguments that Keras adds to calls of layers: there are no masks here, and `Noise` says whether dropout is on.
_KERAS_OWN = frozenset({"mask", "training"})
#: Layers inside of layers.
_INNER = ("forward_layer", "backward_layer", "cell", "lstm", "dense")


@dataclass(frozen=True)
class _Call:
    """One operation of a model's graph, with the symbolic tensors that it takes and gives."""

    operation: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    outputs: Any

    def takes(self) -> list[keras.KerasTensor]:
        return [one for one in keras.tree.flatten(self.arguments) if isinstance(one, keras.KerasTensor)]


class FusedModel:
    """An architecture that computes any number of models at once.

    Args:
        task: The task.
        settings: The architecture; its rate of dropout is not used.

    Attributes:
        task: The task.
        settings: The architecture.
        ordinary: A newly built model of the architecture, whose graph is used; its weights are not.
    """

    def __init__(self, task: Task, settings: ResolvedModelSettings) -> None:
        self.task = task
        self.settings = settings
        # With dropout layers: each of the fused models has a rate of its own.
        self.ordinary = build_model(task, settings.model_copy(update={"dropout": 0.5}))
        self._calls = _record(self.ordinary)

    @property
    def network_inputs(self) -> dict[str, keras.KerasTensor]:
        """Symbolic inputs of the network by name.

        `features`, `[B, T, F]`; `statistics`, `[B, 3]`, if the network takes them; and model inputs other than
        values.
        """
        # Keras gives the outputs of a layer as a list, in the order of their names.
        _, features, _, _ = self.ordinary.get_layer("normalise").output
        result = {"features": features}
        if self.settings.statistics:
            _, result["statistics"] = self.ordinary.get_layer("context_statistics").output
        return result | {name: one for name, one in self.ordinary.input.items() if name not in _OF_SCALING}

    @property
    def window_bytes(self) -> int:
        """Bytes of the network's inputs and targets per window."""
        shapes = [one.shape[1:] for one in self.network_inputs.values()]
        return 4 * (sum(math.prod(shape) for shape in shapes) + self.task.horizon)

    def normalise(
        self, inputs: Mapping[str, tf.Tensor], target: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Inputs of the network and scaled targets of windows; they do not depend on any weight.

        Args:
            inputs: Model inputs, each `[B, ...]`.
            target: Targets, `[B, H]`, in target units; NaN is missing.

        Returns:
            Inputs of the network, each `[B, ...]`, and `weight`, `[B]`, how much the errors of each window count;
            and targets in the network's units, `[B, H]`, NaN where one is not used: if it is missing, and in a
            window whose context does not vary.
        """
        transform, layer = inputs.get("transform"), self.ordinary.get_layer("normalise")
        normalised = layer(inputs["y"], transform=transform, series_scale=inputs.get("series_scale"))
        described = {}
        if is_described(self.settings):
            describe = self.ordinary.get_layer("context_statistics")
            described = describe(inputs["y"], normalised["unit"], transform=transform)
        counted = tf.logical_and(tf.logical_not(tf.math.is_nan(target)), normalised["scale"] > 0)
        scaled = normalise_target(tf.where(counted, target, tf.zeros_like(target)), normalised, transform)
        values = {**inputs, **normalised, **described}
        features = {name: values[name] for name in self.network_inputs}
        weight = tf.ones_like(normalised["scale"], tf.float32)
        if self.settings.loss_unit == "seasonal_change":
            weight = loss_weight(normalised["scale"], described["seasonal_change"])
        features["weight"] = weight[:, 0]
        return features, tf.where(counted, scaled, tf.fill(tf.shape(scaled), float("nan")))

    def network(self, weights: Weights, inputs: Mapping[str, tf.Tensor], noise: Noise | None = None) -> tf.Tensor:
        """Inputs of the network to scaled forecasts of each model.

        Args:
            weights: Weights of the models.
            inputs: As `normalise` gives them, each `[M, B, ...]` or the same for all models, `[B, ...]`; weights
                of windows are not used.
            noise: Dropout during training; None for none.

        Returns:
            Scaled forecasts, `[M, B, H, P]`.
        """
        scaled = self.ordinary.output["scaled"]
        return self._run(Fused(weights, noise), (self.network_inputs, inputs), {"scaled": scaled})["scaled"]

    def outputs(self, weights: Weights, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Forecasts of each model.

        Args:
            weights: Weights of the models.
            inputs: Model inputs, each `[M, B, ...]` or the same for all models, `[B, ...]`.

        Returns:
            The outputs of `build_model`, each `[M, B, ...]`.
        """
        return self._run(Fused(weights, None), (self.ordinary.input, inputs), self.ordinary.output)

    def _run(
        self,
        fused: Fused,
        given: tuple[Mapping[str, keras.KerasTensor], Mapping[str, tf.Tensor]],
        requested: Mapping[str, keras.KerasTensor],
    ) -> dict[str, tf.Tensor]:
        """Compute symbolic tensors of the graph from others, whose values are given by name."""
        symbols, inputs = given
        values = {id(symbol): _with_models(inputs[name], symbol) for name, symbol in symbols.items()}
        models = int(next(iter(fused.weights.values())).shape[0])
        for call in _needed(self._calls, values, requested.values()):
            args, kwargs = keras.tree.map_structure(lambda one: values.get(id(one), one), call.arguments)
            form = FUSED_LAYERS.get(type(call.operation))
            if form is not None:
                outputs = form(fused, call.operation, *args, **kwargs)
            else:
                shared = all(values[id(one)].shape[0] == 1 for one in call.takes())
                outputs = _in_one_batch(call.operation, args, kwargs, 1 if shared else models)
            for symbol, value in zip(keras.tree.flatten(call.outputs), keras.tree.flatten(outputs), strict=True):
                values[id(symbol)] = value
        return {name: repeat_models(values[id(symbol)], models) for name, symbol in requested.items()}


def _record(model: keras.Model) -> list[_Call]:
    """The operations of a functional model, in an order in which they can be computed."""
    calls = []

    def record(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(operation, "weights", None) and type(operation) not in FUSED_LAYERS:
            raise TypeError(f"no fused form of {type(operation).__name__}")
        used = {name: value for name, value in kwargs.items() if name not in _KERAS_OWN}
        calls.append(_Call(operation, (args, used), operation.output))
        return operation.output

    # No layer is cloned or called again: this is the way in which Keras gives the operations of a graph.
    keras.models.clone_model(model, model.input, clone_function=lambda layer: layer, call_function=record)
    return calls


def _needed(calls: Sequence[_Call], given: Mapping[int, Any], requested: Any) -> list[_Call]:
    """The calls on which some tensors depend, if the values of others are given, by id."""
    missing, needed = {id(one) for one in requested} - given.keys(), []
    for call in reversed(calls):
        if missing & {id(one) for one in keras.tree.flatten(call.outputs)}:
            missing |= {id(one) for one in call.takes()} - given.keys()
            needed.append(call)
    return needed[::-1]


def _with_models(values: Any, symbol: keras.KerasTensor) -> tf.Tensor:
    """Values with a model axis, which is of size 1 if all models have the same values."""
    values = tf.convert_to_tensor(values)
    return tf.expand_dims(values, 0) if values.shape.rank == len(symbol.shape) else values


def _in_one_batch(operation: Any, args: Any, kwargs: Any, models: int) -> Any:
    """What an operation without weights makes of the batches of all models, as one batch."""

    def join(one: Any) -> Any:
        return tf.reshape(repeat_models(one, models), (-1, *one.shape[2:])) if tf.is_tensor(one) else one

    def divide(one: tf.Tensor) -> tf.Tensor:
        return tf.reshape(one, (models, -1, *one.shape[1:]))

    args, kwargs = keras.tree.map_structure(join, (args, kwargs))
    return keras.tree.map_structure(divide, operation(*args, **kwargs))


def stack_weights(model: keras.Model, weights: Sequence[Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """Fuse the weights of models of one architecture.

    Args:
        model: One of them, or another of the same architecture.
        weights: `get_weights()` of each.

    Returns:
        Weights by path, each `[M, ...]`.
    """
    paths = [variable.path for variable in model.weights]
    return {path: np.stack(parts) for path, parts in zip(paths, zip(*weights, strict=True), strict=True)}


def unstack_weights(weights: Weights, number: int) -> list[np.ndarray]:
    """The weights of one model, for `set_weights` of an ordinary model."""
    return [np.array(weight[number]) for weight in weights.values()]


def first_weights(model: keras.Model, seed: int) -> list[np.ndarray]:
    """Initial weights like those of `build_model`, without building a model.

    Args:
        model: A newly built model of the architecture: weights that are not random are taken from it.
        seed: Seed of the random weights.

    Returns:
        Weights in the order of `get_weights()`.
    """
    generator, drawn = np.random.default_rng(seed), {}
    for layer in (inner for outer in model.layers for inner in _layers_of(outer)):
        for name, drawn_by in _DRAWN.items():
            variable = getattr(layer, name, None)
            if variable is None:
                continue
            initializer: keras.Initializer = getattr(layer, drawn_by)
            if "seed" in (values := initializer.get_config()):
                again = type(initializer).from_config(values | {"seed": int(generator.integers(2**31))})
                with tf.device("CPU:0"):  # on a GPU, each of these small draws would have to be waited for
                    drawn[variable.path] = again(variable.shape).numpy()
    return [
        drawn.get(variable.path, value) for variable, value in zip(model.weights, model.get_weights(), strict=True)
    ]


def _layers_of(layer: keras.Layer) -> Iterator[keras.Layer]:
    """A layer and the layers inside of it."""
    yield layer
    for name in _INNER:
        if (inner := getattr(layer, name, None)) is not None:
            yield from _layers_of(inner)
