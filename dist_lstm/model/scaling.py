"""Raw values to unit scale and back, in the graph, so that a saved model takes raw values.

    log     z = sign(y) log(1 + |y|)    for a series whose transform has a log, otherwise z = y
    unit    z / unit                    unit is the largest absolute value of the window: no square overflows
    base    a forecast is the difference to it: the location, the last value, or the last season
    scale   (z / unit - base) / scale   the network's forecasts and training targets

Values of float64 are computed in float64, up to the scaled values, so that levels far above their changes keep
their digits. They need no unit: no square of a value that is accepted leaves the range of float64.

Axes: B batch, T context, H horizon, F features of a step, P head parameters.
"""

import math
from collections.abc import Sequence

import keras
from keras import ops

from dist_lstm.model.gaps import at_steps, changes, fill_gaps, mean_of_observed
from dist_lstm.model.level import smoothed_level
from dist_lstm.model.transform import signed_log

_LARGEST = 3.4028235e38
#: The log of the largest float32.
_LARGEST_LOG = math.log1p(_LARGEST) * (1 - 1e-6)
#: The scale of a seasonal difference is at least this share of the usual scale: after an exact repetition
#: any change would be infinite.
_LEAST_SPREAD = 0.01
#: Less variation than this, in units, is rounding of float32.
_ROUNDING = 1e-6
#: The largest unit whose inverse is a normal float32.
_LARGEST_UNIT = 2.0**125
#: Scaled values are clipped to this: a sum of squares must not overflow.
_FARTHEST = 1e15
#: By name: `features`, `[B, T, F]`; `base`, `[B, H]`; `scale` and `unit`, `[B, 1]`.
Normalised = dict[str, keras.KerasTensor]


def _is_exact(values: keras.KerasTensor) -> bool:
    """Whether values are float64."""
    return keras.backend.standardize_dtype(values.dtype) == "float64"


def _to_network(scaled: keras.KerasTensor) -> keras.KerasTensor:
    """Scaled values as the network takes them: float32, clipped to 1e15."""
    return ops.cast(ops.clip(scaled, -_FARTHEST, _FARTHEST), "float32")


def _sorted_quantiles(
    ordered: keras.KerasTensor, count: keras.KerasTensor, levels: Sequence[float]
) -> list[keras.KerasTensor]:
    """Quantiles by linear interpolation of the first `count` of sorted values, each `[B, 1]`."""
    last = ops.maximum(count - 1.0, 0.0)
    rank = ops.concatenate([level * last for level in levels], axis=1)
    below = ops.floor(rank)
    low = at_steps(ordered, ops.cast(below, "int32"))
    high = at_steps(ordered, ops.cast(ops.minimum(below + 1.0, last), "int32"))
    return ops.split(low + (high - low) * (rank - below), len(levels), axis=1)


@keras.saving.register_keras_serializable("dist_lstm")
class Normalise(keras.layers.Layer):
    """Applies the transform of a series, and removes location and scale of its values from a context.

    | method | location | scale |
    |---|---|---|
    | standard | mean | standard deviation |
    | robust | median | interquartile range; mean absolute deviation if that is 0 |
    | minmax | minimum | maximum - minimum |
    | mean_abs | 0 | mean absolute value |
    | level | smoothed level at the end | mean absolute distance to it |
    | none | 0 | 1 |

    If a forecast is a difference, the last value (with `level` the smoothed level) or the mean of the last season
    is the location, and the changes are an input as well; differences to the last season are forecast in units of
    their mean absolute value in the context, or in the usual scale if it has no two values a season apart.

    Args:
        method: A method of the table.
        season_length: Steps in a season.
        horizon: Steps to forecast.
        fill: Whether missing values are filled as in `fill_gaps`; otherwise they are 0, as in version 0.1.0.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(
        self, method: str, season_length: int, horizon: int, fill: bool = False, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # of Keras: inputs keep their type
        self.method = method
        self.season_length = season_length
        self.horizon = horizon
        self.fill = fill

    def call(
        self,
        y: keras.KerasTensor,
        transform: keras.KerasTensor | None = None,
        series_scale: keras.KerasTensor | None = None,
    ) -> Normalised:
        """Normalise contexts.

        Args:
            y: Raw values, `[B, T]`; NaN is missing.
            transform: Log or not, and kind of base, `[B, 2]`; None for neither.
            series_scale: Location and scale to use instead of the window's own, `[B, 2]`; NaN for the window's.

        Returns:
            `features`, `[B, T, F]`: the scaled value, 1 if a value was observed, and with transforms the scaled
            change; a missing value and its changes are filled or 0; `base`, `[B, H]`, and `scale`, `[B, 1]`, in
            units; `unit`, `[B, 1]`. The scale is 0 for a context without variation or without any value. All have
            the type of `y`, but for the features, which are float32.
        """
        missing = ops.isnan(y)
        observed = ops.cast(ops.logical_not(missing), y.dtype)
        values = signed_log(ops.where(missing, ops.zeros_like(y), y), transform)
        none = ops.full_like(ops.repeat(values[:, :1], 2, axis=1), float("nan"))
        given = none if series_scale is None else series_scale
        is_given = ops.isfinite(given[:, 1:])
        given = ops.where(is_given, given, ops.zeros_like(given))
        unit = self._unit(values, given)
        values, given = values / unit, given / unit
        location, scale = self._location_and_scale(values, observed, unit)
        location, scale = ops.where(is_given, given[:, :1], location), ops.where(is_given, given[:, 1:], scale)
        varies = self._varies(values, observed, location, scale)
        varies = ops.where(is_given, scale > 0, varies) if _is_exact(values) else varies
        varies = ops.logical_and(varies, ops.any(observed > 0, axis=1, keepdims=True))
        scale = ops.where(varies, scale, ops.zeros_like(scale))
        level, base, spread, changes = location, ops.repeat(location, self.horizon, axis=1), scale, []
        season = self._last_values(values, observed, location, self.season_length)
        filled = fill_gaps(values, observed, season) if self.fill else (values, observed)
        if transform is not None:
            window = (location, scale, season)
            level, base, spread, change = self._difference(values, observed, filled, window, transform[:, 1:])
            changes = [change]
        scaled = (filled[0] - level) * filled[1] / ops.where(varies, scale, ops.ones_like(scale))
        return {
            "features": _to_network(ops.stack([scaled, observed, *changes], axis=-1)),
            "base": base,
            "scale": spread,
            "unit": unit,
        }

    def compute_output_spec(
        self, y: keras.KerasTensor, transform: keras.KerasTensor | None = None, **_: object
    ) -> Normalised:
        """Shapes and types of what `call` returns, without tracing it."""
        batch, steps = y.shape
        return {
            "features": keras.KerasTensor((batch, steps, 2 if transform is None else 3), "float32"),
            "base": keras.KerasTensor((batch, self.horizon), y.dtype),
            "scale": keras.KerasTensor((batch, 1), y.dtype),
            "unit": keras.KerasTensor((batch, 1), y.dtype),
        }

    def _unit(self, values: keras.KerasTensor, given: keras.KerasTensor) -> keras.KerasTensor:
        """The largest absolute value of each window, its location and scale if given, `[B, 1]`; 1 in float64."""
        if _is_exact(values):
            return ops.ones_like(values[:, :1])
        unit = ops.max(ops.abs(ops.concatenate([values, given], axis=1)), axis=1, keepdims=True)
        unit = ops.where(unit > 0, unit, ops.ones_like(unit))
        # Without scaling the scale is the inverse of the unit, and a forecast may be far larger than its context.
        return ops.clip(unit, 1.0, _LARGEST_UNIT) if self.method == "none" else unit

    def _difference(
        self,
        values: keras.KerasTensor,
        observed: keras.KerasTensor,
        filled: tuple[keras.KerasTensor, keras.KerasTensor],
        window: tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor],
        kind: keras.KerasTensor,
    ) -> tuple[keras.KerasTensor, ...]:
        """Level, base and scale for forecasts that are differences.

        Args:
            values: Values in units, `[B, T]`, 0 if missing.
            observed: 1 if there is a value, `[B, T]`.
            filled: The filled values, and 1 where there is one, each `[B, T]`.
            window: Location and scale of a window, each `[B, 1]`, and its last season, `[B, season]`.
            kind: 0 for no difference, 1 to the last value, 2 to the last season, `[B, 1]`.

        Returns:
            Level of the input, `[B, 1]`; base of the forecast, `[B, H]`; scale of the forecast, `[B, 1]`; and
            the changes of the input from step to step, or season to season, in that scale, `[B, T]`.
        """
        location, scale, season = window
        last = location if self.method == "level" else self._last_values(values, observed, location, 1)
        level = ops.where(kind == 1, last, location)
        level = ops.where(kind == 2, ops.mean(season, axis=1, keepdims=True), level)
        repeated = ops.tile(season, (1, -(-self.horizon // self.season_length)))[:, : self.horizon]
        base = ops.where(kind == 2, repeated, ops.repeat(level, self.horizon, axis=1))
        by_step, _ = changes(*filled, 1)
        by_season, _ = changes(*filled, self.season_length)
        observed_changes, pairs = changes(values, observed, self.season_length)
        if self.method != "none":
            # The scale of MASE: a regular series has the same weight as a noisy one.
            spread = ops.maximum(mean_of_observed(ops.abs(observed_changes), pairs), _LEAST_SPREAD * scale)
            measured = ops.logical_and(scale > 0, ops.any(pairs > 0, axis=1, keepdims=True))
            scale = ops.where(ops.logical_and(kind == 2, measured), spread, scale)
        change = ops.where(kind == 2, by_season, by_step) / ops.where(scale > 0, scale, ops.ones_like(scale))
        return level, base, scale, ops.where(kind == 0, ops.zeros_like(change), change)

    def _location_and_scale(
        self, values: keras.KerasTensor, observed: keras.KerasTensor, unit: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        mean = mean_of_observed(values, observed)
        if self.method == "none":
            return ops.zeros_like(mean), 1 / unit
        if self.method == "mean_abs":
            return ops.zeros_like(mean), mean_of_observed(ops.abs(values), observed)
        if self.method == "level":
            level = smoothed_level(values, observed, self.season_length, mean)
            return level, mean_of_observed(ops.abs(values - level), observed)
        if self.method == "standard":
            return mean, ops.sqrt(mean_of_observed(ops.square(values - mean), observed))
        infinity = ops.full_like(values, float("inf"))
        ordered = ops.sort(ops.where(observed > 0, values, infinity), axis=1)
        # A window without any value has nothing to sort: all its values become 0.
        count = ops.sum(observed, axis=1, keepdims=True)
        ordered = ops.where(count > 0, ordered, ops.zeros_like(ordered))
        if self.method == "minmax":
            low, high = _sorted_quantiles(ordered, count, (0.0, 1.0))
            return low, high - low
        lower, median, upper = _sorted_quantiles(ordered, count, (0.25, 0.5, 0.75))
        iqr = upper - lower
        deviation = mean_of_observed(ops.abs(values - median), observed)
        return median, ops.where(iqr > (0.0 if _is_exact(values) else _ROUNDING), iqr, deviation)

    @staticmethod
    def _varies(
        values: keras.KerasTensor,
        observed: keras.KerasTensor,
        location: keras.KerasTensor,
        scale: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Whether the observed values of each window differ, `[B, 1]`."""
        if not _is_exact(values):
            # Rounding of a large constant must not be taken for variation.
            return scale > _ROUNDING * ops.abs(location)
        infinity = ops.full_like(values, float("inf"))
        low = ops.min(ops.where(observed > 0, values, infinity), axis=1, keepdims=True)
        high = ops.max(ops.where(observed > 0, values, -infinity), axis=1, keepdims=True)
        return ops.logical_and(high > low, scale > 0)

    @staticmethod
    def _last_values(
        values: keras.KerasTensor, observed: keras.KerasTensor, otherwise: keras.KerasTensor, period: int
    ) -> keras.KerasTensor:
        """The last observed value at each position of a period, in the order of positions, `[B, period]`."""
        steps = values.shape[1]
        periods = -(-steps // period)
        padding = ((0, 0), (periods * period - steps, 0))
        seasons = ops.reshape(ops.pad(values, padding), (-1, periods, period))
        present = ops.reshape(ops.pad(observed, padding), (-1, periods, period))
        number = ops.reshape(ops.arange(1, periods + 1, dtype=values.dtype), (1, periods, 1))
        last = ops.max(present * number, axis=1, keepdims=True)
        result = ops.sum(ops.where(number == last, seasons, ops.zeros_like(seasons)), axis=1)
        return ops.where(last[:, 0] > 0, result, otherwise)

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        own = {"method": self.method, "season_length": self.season_length, "horizon": self.horizon}
        return super().get_config() | own | {"fill": self.fill}


def normalise_target(
    target: keras.KerasTensor, normalised: Normalised, transform: keras.KerasTensor | None
) -> keras.KerasTensor:
    """Targets in the network's units.

    Args:
        target: Values, `[B, H]`, in target units.
        normalised: `base`, `scale` and `unit` of their contexts.
        transform: Log or not, and kind of base, `[B, 2]`.

    Returns:
        Scaled values, `[B, H]`, float32; not scaled if the scale is 0, and clipped to 1e15.
    """
    scale = ops.where(normalised["scale"] > 0, normalised["scale"], ops.ones_like(normalised["scale"]))
    scaled = (signed_log(target, transform) / normalised["unit"] - normalised["base"]) / scale
    return _to_network(scaled)


@keras.saving.register_keras_serializable("dist_lstm")
class Denormalise(keras.layers.Layer):
    """Restores scale, base and transform: the inverse of `normalise_target`."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.autocast = False

    def call(
        self,
        scaled: keras.KerasTensor,
        base: keras.KerasTensor,
        scale: keras.KerasTensor,
        unit: keras.KerasTensor,
        transform: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor:
        """Denormalise forecasts.

        Args:
            scaled: Forecasts of the network, `[B, H, P]`.
            base: Base of their differences, `[B, H]`, in units.
            scale: Their scale, `[B, 1]`, in units; 0 forecasts the base itself.
            unit: The unit, `[B, 1]`.
            transform: Log or not, and kind of base, `[B, 2]`.

        Returns:
            Forecasts in target units, `[B, H, P]`, of the type of the base, clipped to the largest float32.
        """
        scaled = ops.cast(scaled, base.dtype)
        z = (ops.expand_dims(base, -1) + scaled * ops.expand_dims(scale, -1)) * ops.expand_dims(unit, -1)
        if transform is not None:
            # Clipped in all rows, with a log or not: the gradient of where() has both branches.
            bounded = ops.clip(z, -_LARGEST_LOG, _LARGEST_LOG)
            raised = ops.sign(bounded) * ops.expm1(ops.abs(bounded))
            z = ops.where(ops.expand_dims(transform[:, :1], -1) == 1, raised, z)
        return ops.clip(z, -_LARGEST, _LARGEST)
