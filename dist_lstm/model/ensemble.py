"""An ensemble as one Keras model: its members side by side, their forecasts combined.

Axes: B batch, T context of the ensemble, H horizon, P head parameters, K members.
"""

from collections.abc import Sequence

import keras
from keras import ops

from dist_lstm.config.task import Task, input_spec


@keras.saving.register_keras_serializable("dist_lstm")
class LastSteps(keras.layers.Layer):
    """The last steps of a context, for a member that reads fewer of them.

    Args:
        steps: How many.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, steps: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # of Keras: inputs keep their type
        self.steps = steps

    def call(self, y: keras.KerasTensor) -> keras.KerasTensor:
        """Values, `[B, T]`, to their last steps, `[B, steps]`."""
        return y[:, -self.steps :]

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"steps": self.steps}


@keras.saving.register_keras_serializable("dist_lstm")
class Combination(keras.layers.Layer):
    """The median of the members' forecasts, or their weighted mean, quantile by quantile.

    Quantiles that ascend in every member ascend in both.

    Args:
        weights: Weight of each member, `[K]`, which sum to 1; None for the median.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, weights: Sequence[float] | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # of Keras: forecasts keep their type
        self.shares = None if weights is None else [float(weight) for weight in weights]

    def call(self, forecasts: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        """Combine forecasts, K times `[B, H, P]`, to `[B, H, P]`."""
        stacked = ops.stack(forecasts, axis=0)
        if self.shares is None:
            ordered, middle = ops.sort(stacked, axis=0), len(forecasts) // 2
            return ordered[middle] if len(forecasts) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        shares = ops.reshape(ops.array(self.shares, dtype=stacked.dtype), (-1, 1, 1, 1))
        return ops.sum(stacked * shares, axis=0)

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"weights": self.shares}


def build_ensemble(
    task: Task, members: Sequence[tuple[Task, keras.Model]], weights: Sequence[float] | None = None
) -> keras.Model:
    """Put the members of an ensemble into one model.

    Args:
        task: The task of the ensemble, with the longest context.
        members: The task and the model of each member; each takes some of the ensemble's inputs.
        weights: Weight of each member, `[K]`; None for the median.

    Returns:
        A model from the inputs of `input_spec(task)` to `forecast`, `[B, H, P]`, in target units. A member without
        weight is left out.
    """
    inputs = {
        name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in input_spec(task).items()
    }
    used = [number for number in range(len(members)) if weights is None or weights[number] > 0]
    forecasts = []
    for number in used:
        own, model = members[number]
        taken = {name: inputs[name] for name in input_spec(own)}
        if own.context_length < task.context_length:
            taken["y"] = LastSteps(own.context_length, name=f"context_{number}")(inputs["y"])
        model.name = f"member_{number}"
        forecasts.append(model(taken)["forecast"])
    shares = None if weights is None else [weights[number] for number in used]
    forecast = Combination(shares, name="combination")(forecasts)
    return keras.Model(inputs, {"forecast": forecast}, name="dist_lstm")
