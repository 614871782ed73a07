"""Statistics of a context: what scaling takes out of it, as an input of the network and as a unit of errors.

Source: Salinas et al., "DeepAR", IJF 36 (2020), gives the network the scale of each series as well; Hyndman &
Koehler, "Another look at measures of forecast accuracy", IJF 22 (2006): errors in units of the seasonal naive
forecast's.

Axes: B batch, T context.
"""

import keras
from keras import ops

from dist_lstm.config.resolved import ResolvedModelSettings
from dist_lstm.model.gaps import changes, mean_of_observed
from dist_lstm.model.transform import signed_log

#: How many there are of each context.
_STATISTICS = 3
#: Least deviation relative to the level, and least change relative to the deviation, that are told apart.
_LEAST_DEVIATION, _LEAST_CHANGE = 1e-4, 1e-2
#: Of usual series the deviation is about a seventh of the level.
_USUAL = 2.0
_LARGEST = 5.0
#: A window counts at most so many times as much, or as little, as one whose scale is its seasonal change.
_LARGEST_WEIGHT = 20.0


@keras.saving.register_keras_serializable("dist_lstm")
class ContextStatistics(keras.layers.Layer):
    """How far and how fast the values of a context vary.

    Args:
        season_length: Steps in a season; 1 for none.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, season_length: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # of Keras: inputs keep their type
        self.season_length = season_length

    def call(
        self, y: keras.KerasTensor, unit: keras.KerasTensor, transform: keras.KerasTensor | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Compute the statistics.

        Args:
            y: Raw values, `[B, T]`; NaN is missing.
            unit: The unit of each window, `[B, 1]`.
            transform: Log or not, and kind of base, `[B, 2]`; None for neither.

        Returns:
            `seasonal_change`, `[B, 1]`: the mean absolute difference to the value a season before, or the mean
            absolute deviation where there are no two such values, in units, of the type of `y`; and `statistics`,
            `[B, 3]`, float32, within -5 and 5: logs of the deviation relative to the level (after a log, of the
            deviation itself), and of the changes from season to season and from step to step relative to the
            deviation.
        """
        missing = ops.isnan(y)
        observed = ops.cast(ops.logical_not(missing), y.dtype)
        values = signed_log(ops.where(missing, ops.zeros_like(y), y), transform) / unit
        mean = mean_of_observed(values, observed)
        deviation = mean_of_observed(ops.abs(values - mean), observed)
        level = ops.abs(mean)
        if transform is not None:
            level = ops.where(transform[:, :1] == 1, ops.ones_like(unit) / unit, level)
        by_season, by_step = (
            self._mean_change(values, observed, lag, deviation) for lag in (self.season_length, 1)
        )
        logs = [
            ops.log(_ratio(deviation, level) + _LEAST_DEVIATION) + _USUAL,
            ops.log(_ratio(by_season, deviation) + _LEAST_CHANGE),
            ops.log(_ratio(by_step, deviation) + _LEAST_CHANGE),
        ]
        statistics = ops.clip(ops.concatenate(logs, axis=1), -_LARGEST, _LARGEST)
        return {"seasonal_change": by_season, "statistics": ops.cast(statistics, "float32")}

    def compute_output_spec(
        self, y: keras.KerasTensor, unit: keras.KerasTensor, **_: object
    ) -> dict[str, keras.KerasTensor]:
        """Shapes and types of what `call` returns, without tracing it."""
        return {
            "seasonal_change": keras.KerasTensor(unit.shape, y.dtype),
            "statistics": keras.KerasTensor((unit.shape[0], _STATISTICS), "float32"),
        }

    @staticmethod
    def _mean_change(
        values: keras.KerasTensor, observed: keras.KerasTensor, lag: int, otherwise: keras.KerasTensor
    ) -> keras.KerasTensor:
        change, pairs = changes(values, observed, lag)
        return ops.where(
            ops.any(pairs > 0, axis=1, keepdims=True), mean_of_observed(ops.abs(change), pairs), otherwise
        )

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"season_length": self.season_length}


def is_described(settings: ResolvedModelSettings) -> bool:
    """Whether a model computes the statistics of its contexts."""
    return settings.statistics or settings.loss_unit == "seasonal_change"


def _ratio(part: keras.KerasTensor, whole: keras.KerasTensor) -> keras.KerasTensor:
    """Part of a whole, both at least 0, at most 1,000 times as large: any more is the same to the network."""
    least = ops.maximum(whole, 1e-3 * part)
    return part / ops.where(least > 0, least, ops.ones_like(least))


def loss_weight(scale: keras.KerasTensor, seasonal_change: keras.KerasTensor) -> keras.KerasTensor:
    """Weights of windows by which errors in units of scale count as errors in units of the seasonal change.

    Args:
        scale: The scale of each window, `[B, 1]`.
        seasonal_change: Its seasonal change in the same unit, `[B, 1]`.

    Returns:
        Weights, `[B, 1]`, float32, within 1/20 and 20.
    """
    least = ops.maximum(seasonal_change, scale / _LARGEST_WEIGHT)
    weight = scale / ops.where(least > 0, least, ops.ones_like(least))
    return ops.cast(ops.maximum(weight, 1 / _LARGEST_WEIGHT), "float32")
