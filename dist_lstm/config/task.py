"""A `Task`: what the stream, the model and the forecast table have to agree on.

Axes: T context, H horizon, Q quantile levels.
"""

from dataclasses import dataclass

from dist_lstm.config.frequency import Frequency, parse_frequency
from dist_lstm.config.schema import Config


@dataclass(frozen=True)
class Task:
    """A resolved forecasting task.

    Attributes:
        horizon: Steps to forecast.
        context_length: Steps before the cutoff that the model reads.
        min_context: Fewest steps a series must have before a cutoff to be trained on or scored there.
        freq: Distance between two steps.
        season_length: Steps in a season; 1 for none.
        levels: Central prediction intervals in percent; empty for a head that gives one number.
        validation: Steps of the validation range.
        test: Steps of the test range, the last of each series.
    """

    horizon: int
    context_length: int
    min_context: int
    freq: Frequency
    season_length: int
    levels: tuple[float, ...]
    validation: int
    test: int

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Quantile levels in rising order, the median among them, `[Q]`."""
        tails = [round((100 - level) / 200, 6) for level in self.levels]
        return tuple(sorted({0.5, *tails, *(round(1 - tail, 6) for tail in tails)}))


def make_task(config: Config) -> Task:
    """The task a resolved config describes.

    Args:
        config: A config in which nothing is left out.

    Returns:
        The task.

    Raises:
        ValueError: If the config is not resolved.
    """
    task, split = config.task, config.split
    lengths = (task.context_length, task.min_context, task.season_length, split.validation, split.test)
    if task.freq is None or None in lengths:
        raise ValueError("the config is not resolved; see dist_lstm.config.defaults.resolve")
    return Task(
        horizon=task.horizon,
        context_length=task.context_length or 0,
        min_context=task.min_context or 0,
        freq=parse_frequency(task.freq or 1),
        season_length=task.season_length or 1,
        levels=tuple(sorted(set(task.levels))) if config.model.head == "quantile" else (),
        validation=split.validation or 0,
        test=split.test or 0,
    )


def input_spec(task: Task) -> dict[str, tuple[tuple[int, ...], str]]:
    """Every model input: its shape without the batch axis, and its type.

    The stream emits these and the model is built from these, so that the two need not know each other.

    Args:
        task: The task.

    Returns:
        By name: `y`, `[T]`, the raw values before the cutoff; NaN is a missing value or lies before the
        start of the series.
    """
    return {"y": ((task.context_length,), "float32")}
