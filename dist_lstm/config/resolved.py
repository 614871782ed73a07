"""Configs whose types say that nothing is missing.

Config           settings may be left out (None), or measured later ("auto")
ResolvedConfig   no setting with a default derived from the data is None
MeasuredConfig   and no setting that training needs as a number is "auto"
"""

# A section is frozen, so a narrower type in a subclass is sound; pyright can't infer that for pydantic.
# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from dist_lstm.config.load import changed_values, load_config, validate
from dist_lstm.config.schema import (
    BacktestSettings,
    Config,
    LossUnit,
    ModelSettings,
    Scaling,
    SplitSettings,
    TaskSettings,
    Units,
)
from dist_lstm.config.section import Whole
from dist_lstm.config.training import Rate, TrainSettings


class ResolvedTaskSettings(TaskSettings):
    """The forecasting task, resolved."""

    context_length: int = Field(ge=1)
    min_context: int = Field(ge=1)
    freq: int | str
    season_length: int = Field(ge=1)


class ResolvedSplitSettings(SplitSettings):
    """Last steps of every series that are held out from training, resolved."""

    validation: int = Field(ge=0)
    test: int = Field(ge=0)


class ResolvedModelSettings(ModelSettings):
    """The network, resolved."""

    segment_length: int = Field(ge=1)
    scaling: Scaling = "robust"
    loss_unit: LossUnit = "scale"
    statistics: bool = False
    units: tuple[Units, ...] = Field(min_length=1)
    members: int = Field(default=1, ge=1)
    variants: tuple[dict[str, Any], ...] = ()


class ResolvedTrainSettings(TrainSettings):
    """The training loop, resolved."""

    batch_size: Whole
    max_steps: int = Field(ge=1)
    steps_per_epoch: int = Field(ge=1)
    learning_rate: Rate


class MeasuredTrainSettings(ResolvedTrainSettings):
    """The training loop, with nothing left to be measured."""

    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)


class ResolvedBacktestSettings(BacktestSettings):
    """Rolling cutoffs in the test range, resolved."""

    windows: int = Field(ge=1)
    stride: int = Field(ge=1)


class ResolvedConfig(Config):
    """One job, with nothing left out."""

    task: ResolvedTaskSettings
    split: ResolvedSplitSettings
    model: ResolvedModelSettings
    train: ResolvedTrainSettings
    backtest: ResolvedBacktestSettings


class MeasuredConfig(ResolvedConfig):
    """One job, with nothing left out and nothing left to be measured."""

    train: MeasuredTrainSettings


def load_resolved(path: Path) -> ResolvedConfig:
    """Read a config that a command has written with every setting.

    Args:
        path: A file such as the `config.yaml` of a run.

    Returns:
        The config.

    Raises:
        UserError: If it can't be read, or a setting is missing or wrong.
    """
    # What an earlier version did not have gets a value here, instead of "left out".
    return validate(load_config(path).model_dump(exclude_unset=True), str(path), ResolvedConfig)


def unresolved(config: ResolvedConfig) -> Config:
    """Return the same config as one in which settings may be left out again."""
    return Config.model_validate(config.model_dump())


def as_measured(config: ResolvedConfig, changes: Mapping[str, Any] | None = None) -> MeasuredConfig:
    """Return the config with the measured settings.

    Args:
        config: A resolved config.
        changes: Measured values and other changes, by dotted key.

    Returns:
        The config.

    Raises:
        UserError: If a setting has still to be measured, or a value is out of bounds.
    """
    return validate(changed_values(config, changes or {}), "", MeasuredConfig)
