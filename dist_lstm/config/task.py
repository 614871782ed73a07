"""A `Task`: the properties that the stream, the model and the forecast table share.

Axes: T context, H horizon, Q quantile levels, C cycles of the calendar, K static covariates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dist_lstm.config.frequency import Frequency, parse_frequency
from dist_lstm.config.resolved import ResolvedConfig

#: Transforms of a series: whether the log of 1 + value is taken first, and the base that is then subtracted:
#: 0 none, 1 the last observed value, 2 the last observed season.
TRANSFORMS: Mapping[str, tuple[bool, int]] = MappingProxyType(
    {
        "none": (False, 0),
        "log1p": (True, 0),
        "difference": (False, 1),
        "seasonal_difference": (False, 2),
        "log1p_difference": (True, 1),
        "log1p_seasonal_difference": (True, 2),
    }
)


@dataclass(frozen=True)
class Vocabulary:
    """The vocabularies of series and static covariates in the shards.

    Attributes:
        series: Number of series with an index, which counts from 1; index 0 is an unknown series.
        categories: Name and number of values of each static category; index 0 is an unknown value.
        numbers: Names of the static numbers.
    """

    series: int = 0
    categories: tuple[tuple[str, int], ...] = ()
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A resolved forecasting task.

    Attributes:
        horizon: Steps to forecast.
        context_length: Steps before the cutoff that the model reads.
        min_context: Fewest steps a series must have before a cutoff to be trained on or scored there.
        freq: Distance between two steps.
        season_length: Steps per season; 1 for no season.
        levels: Central prediction intervals in percent; empty for a head with one output.
        validation: Steps of the validation range.
        test: Steps of the test range, which are the last of each series.
        transformed: Whether each series has a transform of its own, which is an input.
        transform: The transform of all series, one of `TRANSFORMS`; None where there is none, or each has its own.
        series_scaling: The kind of scaling by the statistics of each series; None where scaling is by window.
        series: Series with an embedding; 0 where the model has none.
        vocabulary: Static covariates.
        calendar: Whether the calendar is an input.
        timezone: Time zone of the calendar and of forecasts; None for time stamps without a zone.
        value_type: Type of values, targets and forecasts: `float32`, or `float64` where that rounds values of the
            table.
        id_type: Type of the names of series in forecasts and scores: `string`, `int64` or `uint64`.
    """

    horizon: int
    context_length: int
    min_context: int
    freq: Frequency
    season_length: int
    levels: tuple[float, ...]
    validation: int
    test: int
    transformed: bool = False
    transform: str | None = None
    series_scaling: str | None = None
    series: int = 0
    vocabulary: Vocabulary = Vocabulary()
    calendar: bool = False
    timezone: str | None = None
    value_type: str = "float32"
    id_type: str = "string"

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Quantile levels in rising order, the median among them, `[Q]`."""
        tails = [round((100 - level) / 200, 6) for level in self.levels]
        return tuple(sorted({0.5, *tails, *(round(1 - tail, 6) for tail in tails)}))


def make_task(
    config: ResolvedConfig,
    vocabulary: Vocabulary | None = None,
    timezone: str | None = None,
    value_type: str = "float32",
    id_type: str = "string",
) -> Task:
    """Build the task that a resolved config describes.

    Args:
        config: A resolved config.
        vocabulary: Vocabularies of series and static covariates in the shards.
        timezone: Time zone of the time stamps; None for none.
        value_type: `float32` or `float64`.
        id_type: `string`, `int64` or `uint64`.

    Returns:
        The task.
    """
    task, split, model = config.task, config.split, config.model
    vocabulary = vocabulary or Vocabulary()
    freq = parse_frequency(task.freq)
    return Task(
        horizon=task.horizon,
        context_length=task.context_length,
        min_context=task.min_context,
        freq=freq,
        season_length=task.season_length,
        levels=tuple(sorted(set(task.levels))) if model.head == "quantile" else (),
        validation=split.validation,
        test=split.test,
        transformed=config.data.transform != "none",
        series_scaling=model.scaling if model.scaling_by == "series" else None,
        series=vocabulary.series if model.series_embedding else 0,
        vocabulary=vocabulary,
        calendar=model.calendar and bool(freq.cycles),
        timezone=timezone,
        value_type=value_type,
        id_type=id_type,
    )


def input_spec(task: Task) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the shape, without the batch axis, and the dtype of every model input.

    The stream emits these inputs and the model is built from them, so that neither depends on the other.

    Args:
        task: The task.

    Returns:
        Shapes and dtypes by name, for the inputs that the task has:

        * `y`, `[T]`: raw values up to the cutoff, of the task's `value_type`; NaN is a missing value or a step
          before the start of the series.
        * `transform`, `[2]`: the series' entry in `TRANSFORMS`.
        * `series_scale`, `[2]`: location and scale of the series' training range, of the same type; NaN where
          it has none.
        * `calendar`, `[C]`: positions of the first forecast step in the frequency's cycles.
        * `series`, `[1]`: index of the series; 0 is unknown.
        * `categories`, `[K]`: indices of the values of the static categories; 0 is unknown.
        * `numbers`, `[K]`: standardised static numbers; NaN is missing.
    """
    spec: dict[str, tuple[tuple[int, ...], str]] = {"y": ((task.context_length,), task.value_type)}
    if task.transformed:
        spec["transform"] = ((2,), "int32")
    if task.series_scaling:
        spec["series_scale"] = ((2,), task.value_type)
    if task.calendar:
        spec["calendar"] = ((len(task.freq.cycles),), "float32")
    if task.series:
        spec["series"] = ((1,), "int32")
    if task.vocabulary.categories:
        spec["categories"] = ((len(task.vocabulary.categories),), "int32")
    if task.vocabulary.numbers:
        spec["numbers"] = ((len(task.vocabulary.numbers),), "float32")
    return spec
