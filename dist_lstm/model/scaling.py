"""Raw values to unit scale and back, in the graph, so that a saved model takes raw values.

Axes: B batch, T context, H horizon, P head parameters.
"""

import keras
from keras import ops


def _safe_mean(values: keras.KerasTensor, observed: keras.KerasTensor) -> keras.KerasTensor:
    """Mean of the observed values of each window, `[B, 1]`; 0 where there are none."""
    count = ops.sum(observed, axis=1, keepdims=True)
    return ops.sum(values * observed, axis=1, keepdims=True) / ops.maximum(count, 1.0)


def _sorted_quantile(ordered: keras.KerasTensor, count: keras.KerasTensor, level: float) -> keras.KerasTensor:
    """Quantile by linear interpolation of the first `count` of sorted values, `[B, 1]`."""
    rank = level * ops.maximum(count - 1.0, 0.0)
    below = ops.floor(rank)
    above = ops.minimum(below + 1.0, ops.maximum(count - 1.0, 0.0))
    low = ops.take_along_axis(ordered, ops.cast(below, "int32"), axis=1)
    high = ops.take_along_axis(ordered, ops.cast(above, "int32"), axis=1)
    return low + (high - low) * (rank - below)


@keras.saving.register_keras_serializable("dist_lstm")
class WindowScaling(keras.layers.Layer):
    """Takes location and scale of each window's context out.

    | method | location | scale |
    |---|---|---|
    | standard | mean | standard deviation |
    | robust | median | interquartile range; mean absolute deviation where that is 0 |
    | minmax | minimum | maximum - minimum |
    | mean_abs | 0 | mean absolute value |
    | none | 0 | 1 |

    Args:
        method: One of these.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, method: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.method = method

    def call(self, y: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
        """Scale contexts.

        Args:
            y: Raw values, `[B, T]`; NaN is missing.

        Returns:
            Features, `[B, T, 2]`: the scaled value (0 where missing) and 1 where a value was observed;
            location, `[B, 1]`; scale, `[B, 1]`, 0 for a context without variation.
        """
        missing = ops.isnan(y)
        observed = ops.cast(ops.logical_not(missing), y.dtype)
        values = ops.where(missing, ops.zeros_like(y), y)
        location, scale = self._location_and_scale(values, observed)
        # Rounding of a large constant must not pass for variation.
        varies = scale > 1e-6 * ops.abs(location)
        scale = ops.where(varies, scale, ops.zeros_like(scale))
        scaled = (values - location) / ops.where(varies, scale, ops.ones_like(scale)) * observed
        return ops.stack([scaled, observed], axis=-1), location, scale

    def _location_and_scale(
        self, values: keras.KerasTensor, observed: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        mean = _safe_mean(values, observed)
        if self.method == "none":
            return ops.zeros_like(mean), ops.ones_like(mean)
        if self.method == "mean_abs":
            return ops.zeros_like(mean), _safe_mean(ops.abs(values), observed)
        if self.method == "standard":
            return mean, ops.sqrt(_safe_mean(ops.square(values - mean), observed))
        infinity = ops.full_like(values, float("inf"))
        ordered = ops.sort(ops.where(observed > 0, values, infinity), axis=1)
        # A window without any value has nothing to sort: all of it is taken as 0.
        count = ops.sum(observed, axis=1, keepdims=True)
        ordered = ops.where(count > 0, ordered, ops.zeros_like(ordered))
        if self.method == "minmax":
            low = _sorted_quantile(ordered, count, 0.0)
            return low, _sorted_quantile(ordered, count, 1.0) - low
        median = _sorted_quantile(ordered, count, 0.5)
        iqr = _sorted_quantile(ordered, count, 0.75) - _sorted_quantile(ordered, count, 0.25)
        deviation = _safe_mean(ops.abs(values - median), observed)
        return median, ops.where(iqr > 1e-6 * ops.abs(median), iqr, deviation)

    def get_config(self) -> dict[str, object]:
        """Settings to make the same layer again."""
        return super().get_config() | {"method": self.method}


@keras.saving.register_keras_serializable("dist_lstm")
class Unscale(keras.layers.Layer):
    """Puts location and scale back."""

    def call(
        self, scaled: keras.KerasTensor, location: keras.KerasTensor, scale: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Unscale forecasts.

        Args:
            scaled: Forecasts in units of scale, `[B, H, P]`.
            location: Location of each window, `[B, 1]`, in target units.
            scale: Scale of each window, `[B, 1]`, in target units; 0 forecasts the location itself.

        Returns:
            Forecasts in target units, `[B, H, P]`.
        """
        return ops.expand_dims(location, -1) + scaled * ops.expand_dims(scale, -1)


@keras.saving.register_keras_serializable("dist_lstm")
class LossScale(keras.layers.Layer):
    """The unit in which errors of a window are measured, so that all series weigh alike."""

    def call(self, location: keras.KerasTensor, scale: keras.KerasTensor) -> keras.KerasTensor:
        """Choose the unit.

        Args:
            location: Location of each window, `[B, 1]`, in target units.
            scale: Scale of each window, `[B, 1]`, in target units.

        Returns:
            The scale, `[B, 1]`; where it is 0 the absolute location, and 1 where that is 0 too.
        """
        level = ops.abs(location)
        level = ops.where(level > 0, level, ops.ones_like(level))
        return ops.where(scale > 0, scale, level)
