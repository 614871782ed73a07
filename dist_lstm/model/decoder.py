"""The state at the cutoff to the parameters of every forecast step.

Axes: B batch, H horizon, P head parameters, U units.
"""

import keras


def decode(state: keras.KerasTensor, horizon: int, parameters: int) -> keras.KerasTensor:
    """Forecast all steps directly, each by its own linear map of the state.

    Args:
        state: State at the cutoff, `[B, U]`.
        horizon: Steps to forecast.
        parameters: Numbers the head needs a step.

    Returns:
        Raw head parameters, `[B, H, P]`.
    """
    flat = keras.layers.Dense(horizon * parameters, name="decoder")(state)
    return keras.layers.Reshape((horizon, parameters), name="steps")(flat)
