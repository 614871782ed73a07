"""Every setting once: its default, unit, bound and meaning.

`None` means "derived from the frequency, the horizon and the lengths of the series"
(`dist_lstm.config.defaults`); `dist-lstm plan` shows what it becomes.
"""

import difflib
import zoneinfo
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    StrictBool,
    Tag,
    field_validator,
    model_validator,
)

from dist_lstm.config.section import Section

Level = Annotated[float, Field(gt=0, lt=100)]
Units = Annotated[int, Field(ge=1, le=65536)]
Name = Annotated[str, Field(min_length=1)]
#: Without the tags an error would be told twice, once for each type.
NameOrNames = Annotated[
    Annotated[Name, Tag("str")] | Annotated[tuple[Name, ...], Field(min_length=1), Tag("tuple")],
    Discriminator(lambda value: "tuple" if isinstance(value, list | tuple) else "str"),
]


class TaskSettings(Section):
    """What is forecast."""

    horizon: int = Field(ge=1, description="Steps to forecast.")
    context_length: int | None = Field(
        default=None,
        ge=1,
        description="Steps the model reads before a cutoff; shorter pasts are padded on the left.",
    )
    min_context: int | None = Field(
        default=None,
        ge=1,
        description="Fewest steps a series must have before a cutoff to be trained on or scored there.",
    )
    freq: int | str | None = Field(
        default=None,
        description="Pandas frequency alias such as 'h', 'D' or 'MS'; a whole number for integer steps.",
    )
    season_length: int | None = Field(default=None, ge=1, description="Steps in a season; 1 for none.")
    levels: tuple[Level, ...] = Field(
        default=(80.0, 95.0),
        description="Central prediction intervals, percent, to 2 decimals; only the quantile head gives them.",
    )

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        for level in levels:
            if round(level, 2) != level or not 0.01 <= level <= 99.99:
                raise ValueError(f"task.levels must lie in 0.01 to 99.99 with at most 2 decimals, got {level}")
        return levels


class ColumnSettings(Section):
    """Which column of the table is which."""

    unique_id: Name | None = Field(
        default="unique_id",
        description="Name of the series, item_id where there is no unique_id; null for a table of one series.",
    )
    ds: Name = Field(
        default="ds", description="Time stamp (timestamp where there is no ds), or whole number of the step."
    )
    y: NameOrNames = Field(
        default="y",
        description="Value to forecast (target where there is no y); null or NaN is a missing value. Each column "
        "of a list is a series of its own, called unique_id/column, or column where unique_id is null.",
    )

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of values that are named, also where it is one."""
        return (self.y,) if isinstance(self.y, str) else self.y


class DataSettings(Section):
    """The table, and how it is read."""

    path: str = Field(
        min_length=1,
        description="CSV(.gz), Parquet or Feather: a file, a folder, a glob or a URI; $VARIABLES are expanded.",
    )
    layout: Literal["long", "wide"] = Field(
        default="long",
        description="One row a series and time stamp (long), or beside data.columns.ds one column a series (wide):"
        " those of data.columns.y where it is set, else all.",
    )
    columns: ColumnSettings = Field(default=ColumnSettings(), description="Names of the columns.")
    static_categories: tuple[Name, ...] = Field(
        default=(), description="Columns of text, whole numbers or booleans that describe a whole series."
    )
    static_numbers: tuple[Name, ...] = Field(
        default=(), description="Columns of numbers that describe a whole series."
    )
    timezone: str | None = Field(
        default=None,
        description="Zone of aware time stamps in calendar features and output, such as Europe/Berlin; needed "
        "where text carries several offsets. Time stamps without a zone are refused then.",
    )
    duplicates: Literal["error", "first", "last", "mean", "sum"] = Field(
        default="error", description="What to do with rows that have the same series and time stamp."
    )
    transform: Literal[
        "auto",
        "none",
        "log1p",
        "difference",
        "seasonal_difference",
        "log1p_difference",
        "log1p_seasonal_difference",
    ] = Field(
        default="auto",
        description="What of a series is forecast: its value, the log of 1 + value, the difference to the last "
        "value or to the last season, or both; auto decides by tests, for each series.",
    )
    memory_budget: int = Field(
        default=1024, ge=1, description="MiB of table and of windows that may be held in memory at a time."
    )

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, name: str | None) -> str | None:
        try:
            return name if name is None else zoneinfo.ZoneInfo(name).key
        except (LookupError, ValueError, OSError) as error:
            shown = str(name)[:50]
            near = difflib.get_close_matches(shown, sorted(zoneinfo.available_timezones()), n=1)
            hint = f"did you mean {near[0]}?" if near else "take one such as Europe/Berlin or UTC"
            raise ValueError(f"data.timezone: {shown!r} is not a zone of the IANA database; {hint}") from error

    @property
    def every_column(self) -> bool:
        """Whether every column but the time stamp is a series."""
        return self.layout == "wide" and self.columns.y == "y"

    @property
    def named_columns(self) -> list[str]:
        """The columns that the settings name, those that are left at their default too."""
        series = [self.columns.unique_id] if self.layout == "long" and self.columns.unique_id is not None else []
        targets = () if self.every_column else self.columns.targets
        return [*series, self.columns.ds, *targets, *self.static_categories, *self.static_numbers]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        statics = self.static_categories + self.static_numbers
        if self.layout == "wide" and (statics or self.columns.unique_id not in ("unique_id", None)):
            key = "data.static_categories and data.static_numbers" if statics else "data.columns.unique_id"
            raise ValueError(f"data.layout wide has one column a series and no place for {key}; leave it out")
        twice = next((name for name, count in Counter(self.named_columns).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"data.columns and static covariates: column {twice!r} is given twice")
        taken = {"unique_id", "ds", "y"} & {*statics}
        if taken:
            raise ValueError(f"data: {taken.pop()!r} is the name of another column, not of a static covariate")
        targets = {*self.columns.targets}
        for name in targets if self.layout == "long" and self.columns.unique_id is not None else ():
            parts = name.split("/")
            tails = {"/".join(parts[first:]) for first in range(1, len(parts))} & targets
            if tails:
                # 'a' with 'b/c' and 'a/b' with 'c' are both a/b/c.
                raise ValueError(
                    f"data.columns.y: {name!r} and {tails.pop()!r} can name the same series, as names are put "
                    "together as unique_id/column; rename one of them"
                )
        return self


class SplitSettings(Section):
    """Last steps of every series that are kept from training, in time order."""

    validation: int | None = Field(
        default=None, ge=0, description="Steps before the test range on which the number of steps is chosen."
    )
    test: int | None = Field(
        default=None, ge=0, description="Last steps of each series, on which the backtest is scored."
    )


class ModelSettings(Section):
    """The network."""

    segment_length: int | None = Field(
        default=None,
        ge=1,
        description="Steps the LSTM reads at once; must divide context_length; 1 is step by step.",
    )
    units: tuple[Units, ...] | None = Field(
        default=None, min_length=1, description="Units of each LSTM layer, in order."
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of inputs dropped after each LSTM layer.")
    head: Literal["quantile", "mae", "mse", "huber"] = Field(
        default="quantile", description="What is forecast and the loss it is trained on."
    )
    scaling: Literal["standard", "robust", "minmax", "mean_abs", "none"] = Field(
        default="robust", description="How location and scale of values are taken out and put back."
    )
    scaling_by: Literal["window", "series"] = Field(
        default="window", description="Location and scale of each context, or of each series' training range."
    )
    bidirectional: StrictBool = Field(
        default=False, description="Read the context backwards as well; doubles the state."
    )
    linear: StrictBool = Field(
        default=True, description="Add a linear map of the context to the forecast; quantiles shift with it."
    )
    residual: StrictBool = Field(default=False, description="Add the input of each LSTM layer to its output.")
    decoder: Literal["direct", "segment", "recursive"] = Field(
        default="direct",
        description="All steps at once from the last state; segments in parallel, each from the last state and "
        "its place; or segments one after the other, each from the one before.",
    )
    series_embedding: int = Field(
        default=0, ge=0, le=1024, description="Numbers learned for each series; 0 for none."
    )
    id_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of windows trained on as if of an unknown series, so that new series can be forecast.",
    )
    calendar: StrictBool = Field(
        default=False, description="Hour, weekday and month as inputs, as far as the frequency has them."
    )


class TrainSettings(Section):
    """The training loop."""

    batch_size: int | None = Field(default=None, ge=1, description="Windows a step, over all replicas.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Steps at most; the learning rate decays over them."
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Seconds at most of each of the two trainings, which end with the epoch; null for no limit.",
    )
    steps_per_epoch: int | None = Field(
        default=None, ge=1, description="Steps between two looks at the validation loss."
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Highest learning rate of AdamW.")
    warmup_steps: int = Field(
        default=100, ge=0, description="Steps in which the learning rate rises to its highest."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay of AdamW.")
    clip_norm: float = Field(default=1.0, gt=0, description="Greatest norm of the whole gradient.")
    patience: int = Field(default=10, ge=1, description="Epochs without a better validation loss before the end.")
    window_sampling: Literal["series", "windows", "recent"] = Field(
        default="series",
        description="Training windows are drawn uniformly over series; over all windows; or over series, and "
        "later cutoffs more often.",
    )
    stride: int = Field(default=1, ge=1, description="Steps between the cutoffs of a series' training windows.")
    seed: int = Field(default=1, ge=0, lt=2**31, description="Seed of weights, dropout and windows.")
    steps_per_call: int | Literal["auto"] = Field(
        default="auto", description="Steps one graph call runs; does not change the result."
    )
    deterministic: StrictBool = Field(
        default=False, description="Same result bit for bit on the same machine, at some cost on a GPU."
    )
    refit: StrictBool = Field(
        default=True, description="Train the final model on whole series, for the number of steps chosen."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.steps_per_call != "auto" and self.steps_per_call < 1:
            raise ValueError(f"train.steps_per_call must be 'auto' or at least 1, got {self.steps_per_call}")
        return self


class BacktestSettings(Section):
    """Rolling cutoffs in the test range."""

    windows: int | None = Field(
        default=None, ge=1, description="Cutoffs; the last is one horizon before the end of the series."
    )
    stride: int | None = Field(default=None, ge=1, description="Steps between two cutoffs.")


class ResourceSettings(Section):
    """What of the machine is used; none of it changes what is computed."""

    gpus: int | Literal["auto"] = Field(default="auto", description="GPUs to use; auto takes all, 0 the CPU.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gpus != "auto" and self.gpus < 0:
            raise ValueError(f"resources.gpus must be 'auto' or at least 0, got {self.gpus}")
        return self


class Config(Section):
    """One job."""

    task: TaskSettings = Field(description="What is forecast.")
    data: DataSettings = Field(description="The table, and how it is read.")
    split: SplitSettings = Field(default=SplitSettings(), description="Steps kept from training.")
    model: ModelSettings = Field(default=ModelSettings(), description="The network.")
    train: TrainSettings = Field(default=TrainSettings(), description="The training loop.")
    backtest: BacktestSettings = Field(
        default=BacktestSettings(), description="Rolling cutoffs in the test range."
    )
    resources: ResourceSettings = Field(default=ResourceSettings(), description="What of the machine is used.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        context, segment = self.task.context_length, self.model.segment_length
        if context and segment and context % segment:
            raise ValueError(
                f"task.context_length {context} is not a multiple of model.segment_length {segment}; "
                f"take {max(segment, context - context % segment)} or {context + segment - context % segment}"
            )
        if context and self.task.min_context and self.task.min_context > context:
            raise ValueError(f"task.min_context {self.task.min_context} is above task.context_length {context}")
        for name in ("validation", "test"):
            steps = getattr(self.split, name)
            if steps and steps < self.task.horizon:
                raise ValueError(
                    f"split.{name} {steps} is below task.horizon {self.task.horizon}; take 0 or at least that"
                )
        return self
