"""Plain facts about the data to the settings that were left out."""

from dataclasses import dataclass

from dist_lstm.config.frequency import parse_frequency
from dist_lstm.config.load import override
from dist_lstm.config.schema import Config
from dist_lstm.errors import UserError

_MOST_WINDOWS = 10
_EPOCHS = 30


@dataclass(frozen=True)
class Facts:
    """What the defaults depend on.

    Attributes:
        freq: Frequency alias, or whole number of integer steps.
        series: Series that can be used.
        shortest: Steps of the shortest series.
        median: Steps of the median series.
        longest: Steps of the longest series.
    """

    freq: str | int
    series: int
    shortest: int
    median: int
    longest: int


def resolve(config: Config, facts: Facts) -> Config:
    """Fill in every setting that was left out.

    * `season_length`: a day for hours and minutes, a week for days, a year for months and quarters.
    * `split.test`, `split.validation`: as many horizons as fit into a tenth of the median series, 1 to 10.
    * `model.segment_length`: a season, or 1 where there is none, it is longer than 60 steps, or it does not
      divide `task.context_length`.
    * `task.context_length`: the least multiple of a segment that holds 2 horizons and 4 seasons (7 where
      a season has at most 24 steps and the median series has 20 seasons), and `task.min_context`.
    * `task.min_context`: a season, at least 2 steps, at most the context.
    * `train.steps_per_epoch`: a thirtieth of `train.max_steps`.

    Args:
        config: A config with settings left out.
        facts: Facts about the data.

    Returns:
        The config with no setting of `task`, `split`, `model`, `train` and `backtest` left at None.

    Raises:
        UserError: If the settings contradict each other once filled in.
    """
    splits = _splits(config, facts)
    epoch = config.train.steps_per_epoch or max(1, config.train.max_steps // _EPOCHS)
    resolved = override(config, splits | _shape(config, facts) | {"train.steps_per_epoch": epoch})
    windows, stride, test = splits["backtest.windows"], splits["backtest.stride"], splits["split.test"]
    needed = config.task.horizon + (windows - 1) * stride
    if 0 < test < needed:
        raise UserError(
            f"backtest.windows {windows} with backtest.stride {stride} need {needed} steps, split.test has "
            f"{test}; raise split.test or lower the windows"
        )
    return resolved


def _splits(config: Config, facts: Facts) -> dict[str, int]:
    horizon, split, backtest = config.task.horizon, config.split, config.backtest
    stride = backtest.stride or horizon
    usual = min(max(facts.median // 10 // horizon, 1), _MOST_WINDOWS)
    if split.test is not None:
        windows = backtest.windows or (max(split.test - horizon, 0) // stride + 1)
        test = split.test
    else:
        windows = backtest.windows or usual
        test = horizon + (windows - 1) * stride
    validation = usual * horizon if split.validation is None else split.validation
    return {
        "split.test": test,
        "split.validation": validation,
        "backtest.windows": windows,
        "backtest.stride": stride,
    }


def _shape(config: Config, facts: Facts) -> dict[str, int | str]:
    freq = parse_frequency(config.task.freq or facts.freq)
    horizon = config.task.horizon
    season = config.task.season_length or freq.season_length
    context, segment = config.task.context_length, config.model.segment_length
    if segment is None:
        segment = season if season <= 60 else 1
        if context and context % segment:
            segment = 1
    if context is None:
        seasons = 7 if season <= 24 and facts.median >= 20 * season else 4
        steps = max(2 * horizon, seasons * season, config.task.min_context or 1)
        context = -(-steps // segment) * segment
    return {
        "task.freq": freq.name,
        "task.season_length": season,
        "task.context_length": context,
        "task.min_context": config.task.min_context or min(context, max(season, 2)),
        "model.segment_length": segment,
    }
