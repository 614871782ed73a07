"""Defaults of the settings that were left out, derived from dataset statistics, each with its reason."""

from dataclasses import dataclass
from typing import Any

from dist_lstm.config.frequency import parse_frequency
from dist_lstm.config.load import changed_values, flatten, validate
from dist_lstm.config.members import check_variants
from dist_lstm.config.resolved import MeasuredConfig, ResolvedConfig, as_measured
from dist_lstm.config.schema import Config
from dist_lstm.config.starts import steps_held_out
from dist_lstm.errors import UserError

_MOST_WINDOWS = 10
_EPOCHS = 30
#: Members of an ensemble by preset.
_MEMBERS = {"fast": 1, "good": 1, "best": 5}
#: A longer segment holds more than a state of usual size can represent.
_LONGEST_SEGMENT = 60
#: Fewest seasons of the median series for contexts of so many seasons, where a season is at most `_SHORT_SEASON`.
_SEASONS = {40: 14, 20: 7}
_SHORT_SEASON, _LEAST_SEASONS = 24, 4
#: Shorter series are learnt in few steps, and learnt by heart in many.
_LONG_SERIES = 500
#: Of fewer series the statistics tell which series and time a context is from, and the model learns that by heart.
_MANY_SERIES = 200


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of the data on which the defaults depend.

    Attributes:
        freq: Frequency alias, or the whole number between two integer steps.
        steps: Total number of steps over all series.
        median: Median number of steps per series.
        last: Last time stamp or step of all series; None where they share no calendar.
        timezone: Time zone of the time stamps; None if they have none.
        series: Number of series.
    """

    freq: str | int
    steps: int
    median: int
    last: Any = None
    timezone: str | None = None
    series: int = 1


@dataclass(frozen=True)
class Default:
    """The default of a setting that was left out.

    Attributes:
        value: The value.
        why: The reason, in a few words.
    """

    value: Any
    why: str


def derive(config: Config, statistics: DatasetStatistics) -> dict[str, Default]:
    """Derive the default of every setting that was left out.

    Args:
        config: A config with settings left out.
        statistics: Statistics of the data.

    Returns:
        Defaults by dotted key, in the order of the schema.
    """
    result = _season(config, statistics)
    result |= _shape(config, statistics, result["task.season_length"].value)
    result |= _splits(config, statistics) | _training(config, statistics) | _ensemble(config)
    result |= _scaling(config, statistics, result["task.season_length"].value)
    return {key: result[key] for key, value in flatten(config) if value is None and key in result}


def resolve(config: Config, statistics: DatasetStatistics) -> ResolvedConfig:
    """Fill in every setting that was left out.

    Args:
        config: A config with settings left out.
        statistics: Statistics of the data.

    Returns:
        The config with nothing left out.

    Raises:
        UserError: If the settings contradict each other once filled in.
    """
    defaults = {key: default.value for key, default in derive(config, statistics).items()}
    # The steps say from here on what the dates said.
    starts = dict.fromkeys(("split.validation_start", "split.test_start"))
    # What is combined is scored on its own as well.
    scored = tuple(dict.fromkeys((*config.backtest.baselines, *config.combine)))
    changes = defaults | starts | {"backtest.baselines": scored}
    resolved = validate(changed_values(config, changes), "", ResolvedConfig)
    windows, stride, test = resolved.backtest.windows, resolved.backtest.stride, resolved.split.test
    check_variants(resolved)
    needed = config.task.horizon + (windows - 1) * stride
    if 0 < test < needed:
        raise UserError(
            "",
            (
                f"backtest.windows {windows} with backtest.stride {stride} need {needed} steps, split.test has "
                f"{test}"
            ),
            "raise split.test or lower the windows",
        )
    return resolved


def assume_measured(config: ResolvedConfig, statistics: DatasetStatistics) -> MeasuredConfig:
    """Replace settings that are to be measured by their defaults, which a plan assumes.

    Args:
        config: A resolved config.
        statistics: Statistics of the data.

    Returns:
        The config without `auto`.
    """
    usual = {
        key: default.value
        for key, default in _training(config, statistics).items()
        if key in ("train.batch_size", "train.learning_rate")
    }
    left = [key for key, value in flatten(config) if key in usual and value == "auto"]
    return as_measured(config, {key: usual[key] for key in left})


def _season(config: Config, statistics: DatasetStatistics) -> dict[str, Default]:
    freq = parse_frequency(config.task.freq or statistics.freq)
    usual = {True: "integer steps have no usual season"}.get(freq.integer, f"usual for {freq.name}")
    return {
        "task.freq": Default(freq.name, "the most frequent distance between time stamps"),
        "task.season_length": Default(config.task.season_length or freq.season_length, usual),
    }


def _shape(config: Config, statistics: DatasetStatistics, season: int) -> dict[str, Default]:
    """Segment and context lengths: whole segments, some seasons or horizons."""
    horizon, context, median = config.task.horizon, config.task.context_length, statistics.median
    least = 1 if config.task.min_context is None else config.task.min_context
    if season == 1:
        steps = max(-(-3 * horizon // 2), min(48, median // 4), min(8 * horizon, median // 8), least)
        reason = "one and a half horizons, a quarter of the median series up to 48, or an eighth up to 8 horizons"
    else:
        allowed = _SEASONS if season <= _SHORT_SEASON else {}
        seasons = next((some for fewest, some in allowed.items() if median >= fewest * season), _LEAST_SEASONS)
        steps = max(2 * horizon, seasons * season, least)
        reason = f"{seasons} seasons, or two horizons"
    segment, why = config.model.segment_length, "the season, or its largest divisor up to 60"
    if segment is None:
        whole = season
        if season == 1 and (context or steps) >= 4 * horizon:
            whole, why = horizon, "there is no season: the horizon, or its largest divisor up to 60"
        segment = max(size for size in range(1, min(whole, _LONGEST_SEGMENT) + 1) if whole % size == 0)
        if context and context % segment:
            segment, why = 1, f"task.context_length {context} is not a multiple of {segment}"
    context = context or -(-steps // segment) * segment
    shortest = config.task.min_context or min(context, max(season, 2))
    return {
        "task.context_length": Default(context, f"{reason}; a multiple of the segment"),
        "task.min_context": Default(shortest, "a season"),
        "model.segment_length": Default(segment, why),
    }


def _splits(config: Config, statistics: DatasetStatistics) -> dict[str, Default]:
    horizon, split, backtest = config.task.horizon, config.split, config.backtest
    stride = backtest.stride or horizon
    usual = min(max(statistics.median // 10 // horizon, 1), _MOST_WINDOWS)
    tenth = "as many horizons as a tenth of the median series holds, 1 to 10"
    given = split.test
    if split.test_start is not None:
        given = _from_start("test_start", statistics, horizon, 0, split.test_start)
    if given is not None:
        windows = backtest.windows or (max(given - horizon, 0) // stride + 1)
        test, why = given, "as many as fit into the test range"
    else:
        windows, why = backtest.windows or usual, tenth
        test = horizon + (windows - 1) * stride
    if split.validation_start is not None:
        validation = _from_start("validation_start", statistics, horizon, test, split.validation_start)
        why_validation = f"the steps from {split.validation_start} to the test range"
    else:
        # Two horizons have room for several cutoffs, one horizon only for one.
        has_room = 2 * (test + 2 * horizon) <= statistics.median
        validation = max(usual, 2 if has_room else 1) * horizon
        why_validation = f"{tenth}; at least 2 if half of the median series remains to train on"
    needed = "the steps that backtest.windows need"
    why_test = needed if split.test_start is None else f"the steps from {split.test_start}"
    return {
        "split.validation": Default(validation, why_validation),
        "split.test": Default(test, why_test),
        "backtest.windows": Default(windows, why),
        "backtest.stride": Default(stride, "the horizon"),
    }


def _from_start(key: str, statistics: DatasetStatistics, horizon: int, after: int, start: str | int) -> int:
    """Steps of a range that begins on a date, with some steps after it."""
    steps = steps_held_out(key, start, statistics) - after
    if steps < horizon:
        until = "the last one" if not after else "the test range"
        raise UserError(
            f"split.{key}",
            f"from {start} to {until} there are {max(steps, 0)} steps, below task.horizon {horizon}",
            "give an earlier date",
        )
    return steps


def _scaling(config: Config, statistics: DatasetStatistics, season: int) -> dict[str, Default]:
    if config.model.scaling_by == "series":
        scaling = Default("robust", "scaling_by series has no level")
    elif season > 1:
        scaling = Default("robust", "there is a season")
    else:
        scaling = Default("level", "there is no season")
    # Over a part of a long series the change is not that of the series, to which MASE relates.
    unit = "seasonal_change" if statistics.median < _LONG_SERIES else "scale"
    many = statistics.series >= _MANY_SERIES
    return {
        "model.scaling": scaling,
        "model.loss_unit": Default(unit, "as in MASE where the median series is below 500 steps"),
        "model.statistics": Default(many, f"whether there are {_MANY_SERIES} series or more"),
    }


def _ensemble(config: Config) -> dict[str, Default]:
    variants = len(config.model.variants or ())
    members, why = _MEMBERS[config.preset], f"preset {config.preset}"
    if variants > members:
        members, why = variants, "one per variant"
    return {
        "model.members": Default(members, why),
        "model.variants": Default((), "members differ in their seeds"),
    }


def _training(config: Config, statistics: DatasetStatistics) -> dict[str, Default]:
    units = 128 if statistics.steps >= 10_000 else 64
    room = max(statistics.steps // 16, 1)
    batch = min(max(1 << (room.bit_length() - 1), 32), 512)
    usual = 500 if statistics.median < _LONG_SERIES else 1500 if statistics.steps >= 10_000 else 1000
    most = config.train.max_steps or usual
    amount = f"the data have {statistics.steps:,} steps"
    return {
        "model.units": Default((units,), f"128, or 64 below 10,000 steps; {amount}"),
        "train.batch_size": Default(batch, f"a sixteenth of all steps as a power of 2, 32 to 512; {amount}"),
        "train.max_steps": Default(
            usual, "1,500; 1,000 below 10,000 steps in all; 500 where the median series is below 500"
        ),
        "train.learning_rate": Default(
            3e-3 if statistics.median >= _LONG_SERIES else 1e-3,
            "3e-3, or 1e-3 where the median series is below 500 steps",
        ),
        "train.steps_per_epoch": Default(max(1, most // _EPOCHS), "a thirtieth of train.max_steps"),
    }
