"""Every setting once: its default, unit, bounds and meaning.

`None` means "derived from the frequency, the horizon and the lengths of the series"
(`dist_lstm.config.defaults`); `dist-lstm plan` shows what it becomes.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from dist_lstm.config.fleet import FleetSettings
from dist_lstm.config.search import SearchSettings, check_search
from dist_lstm.config.section import Section, Whole, expects
from dist_lstm.config.starts import check_date
from dist_lstm.config.table import DataSettings
from dist_lstm.config.training import TrainSettings

Level = Annotated[float, Field(gt=0, lt=100)]
GPUs = Annotated[Annotated[int, Field(ge=0)] | Literal["auto"], expects("'auto' or a whole number of at least 0")]
Start = Annotated[
    int | Annotated[str, AfterValidator(check_date)],
    expects(
        "a date such as '2024-05-01' or '2024-05-01 12:00', or a whole number where data.shared_steps is true"
    ),
]
Units = Annotated[int, Field(ge=1, le=65536)]
LossUnit = Literal["scale", "seasonal_change"]
Scaling = Literal["standard", "robust", "minmax", "mean_abs", "level", "none"]
Baseline = Literal["SeasonalNaive", "Naive", "Drift", "Naive2", "Theta", "DampedTrend"]
#: The baseline that skill compares with.
SEASONAL_NAIVE: Baseline = "SeasonalNaive"


class TaskSettings(Section):
    """The forecasting task."""

    horizon: int = Field(ge=1, description="Number of steps to forecast.")
    context_length: int | None = Field(
        default=None,
        ge=1,
        description="Steps before a cutoff that the model reads; shorter histories are padded on the left.",
    )
    min_context: int | None = Field(
        default=None,
        ge=1,
        description="Minimum number of steps a series must have before a cutoff to be trained on or scored there.",
    )
    freq: int | str | None = Field(
        default=None,
        description="Pandas frequency alias such as 'h', 'D' or 'MS', or a whole number for integer steps.",
    )
    season_length: int | None = Field(default=None, ge=1, description="Steps per season; 1 for no season.")
    levels: tuple[Level, ...] = Field(
        default=(80.0, 95.0),
        description="Central prediction intervals, in percent with at most 2 decimals; only the quantile head "
        "has them.",
    )

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        for level in levels:
            if round(level, 2) != level or not 0.01 <= level <= 99.99:
                raise ValueError(f"task.levels must be from 0.01 to 99.99 with at most 2 decimals, got {level}")
        return levels


class SplitSettings(Section):
    """Last steps that are held out from training, in time order."""

    validation: int | None = Field(
        default=None,
        ge=0,
        description="Steps before the test range, on which the number of training steps is chosen.",
    )
    test: int | None = Field(
        default=None,
        ge=0,
        description="Last steps, on which the backtest is scored; 0 for no backtest. They are counted from the "
        "last date of all series; where ds are whole numbers, from the end of each series, unless "
        "data.shared_steps is true.",
    )
    validation_start: Start | None = Field(
        default=None,
        description="First date of the validation range, in the time zone of the table, instead of "
        "split.validation.",
    )
    test_start: Start | None = Field(
        default=None, description="First date of the test range, instead of split.test."
    )

    @model_validator(mode="after")
    def _check_starts(self) -> Self:
        for name in ("validation", "test"):
            start = getattr(self, f"{name}_start")
            if start is not None and getattr(self, name) is not None:
                raise ValueError(f"split.{name} and split.{name}_start are both set; give one of them")
        return self


class ModelSettings(Section):
    """The network."""

    segment_length: int | None = Field(
        default=None,
        ge=1,
        description="Time steps that the LSTM reads per recurrent step; must divide context_length. 1 is a plain "
        "LSTM.",
    )
    units: tuple[Units, ...] | None = Field(
        default=None, min_length=1, description="Number of units of each LSTM layer, in order."
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout rate after each LSTM layer.")
    head: Literal["quantile", "mae", "mse", "huber"] = Field(
        default="quantile",
        description="Output of the model and its loss: quantiles with the pinball loss, or one value with the "
        "MAE, MSE or Huber loss.",
    )
    loss_unit: LossUnit | None = Field(
        default=None,
        description="Unit of the errors in the loss: the scale of each context, in which all windows count alike; "
        "or its mean absolute change from season to season, as in MASE.",
    )
    statistics: StrictBool | None = Field(
        default=None,
        description="Give the network statistics of each context that scaling takes out: logs of the deviation "
        "relative to the level, and of the changes from season to season and from step to step relative to the "
        "deviation.",
    )
    scaling: Scaling | None = Field(
        default=None,
        description="How the location and scale by which values are normalised are computed: mean and standard "
        "deviation, median and interquartile range, minimum and range, mean absolute value, smoothed level at the "
        "end of the context and mean absolute distance to it, or none.",
    )
    scaling_by: Literal["window", "series"] = Field(
        default="window",
        description="Whether location and scale come from each context or from each series' training range.",
    )
    fill_missing: StrictBool = Field(
        default=True,
        description="Fill missing values of a context, between observed values by interpolation and at its end by "
        "the last season; a mask of observed values is an input in any case. Otherwise they are 0 once scaled.",
    )
    bidirectional: StrictBool = Field(
        default=False, description="Read the context backwards as well, which doubles the size of the state."
    )
    linear: StrictBool = Field(
        default=True, description="Add a linear map of the context to the forecast; it shifts all quantiles alike."
    )
    residual: StrictBool = Field(default=False, description="Add the input of each LSTM layer to its output.")
    decoder: Literal["direct", "segment", "recursive"] = Field(
        default="direct",
        description="How the horizon is decoded: all steps at once from the last state (direct); segments in "
        "parallel, each from the last state and its position (segment); or segments one by one, each from the "
        "previous one (recursive).",
    )
    series_embedding: int = Field(
        default=0, ge=0, le=1024, description="Size of the vector that is learned for each series; 0 for none."
    )
    id_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of training windows whose series is treated as unknown, so that new series can be "
        "forecast.",
    )
    calendar: StrictBool = Field(
        default=False, description="Use the hour, weekday and month as inputs, as far as the frequency has them."
    )
    members: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Number of members of the ensemble: models that differ in their seed, and in model.variants, "
        "and whose forecasts are combined.",
    )
    variants: tuple[dict[str, Any], ...] | None = Field(
        default=None,
        description="Settings in which the members of an ensemble differ, by dotted key, such as "
        "{task.context_length: 24}; the members take these variants in turn.",
    )
    combination: Literal["median", "mean", "weights"] = Field(
        default="median",
        description="How the members' forecasts are combined, quantile by quantile: by their median, their mean, "
        "or a mean with weights that are chosen on validation and shared by all series.",
    )


class BacktestSettings(Section):
    """Rolling cutoffs in the test range."""

    windows: int | None = Field(
        default=None,
        ge=1,
        description="Number of cutoffs; the last one is one horizon before the end of the test range.",
    )
    stride: int | None = Field(default=None, ge=1, description="Steps between two cutoffs.")
    baselines: tuple[Baseline, ...] = Field(
        default=(SEASONAL_NAIVE, "Theta", "DampedTrend"),
        description="Simple forecasts that are scored beside the model: SeasonalNaive (always), Naive, Drift, "
        "Naive2 (with it, OWA), Theta, DampedTrend. They see the last 4 seasons, or 200 steps where that is more.",
    )

    @field_validator("baselines")
    @classmethod
    def _add_seasonal_naive(cls, baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        return tuple(dict.fromkeys((SEASONAL_NAIVE, *baselines)))


class ResourceSettings(Section):
    """The resources that are used; none of these settings changes what is computed."""

    gpus: GPUs = Field(default="auto", description="Number of GPUs to use; auto uses all of them, 0 the CPU.")
    threads: Whole = Field(
        default="auto", description="Maximum number of threads per CPU operation; auto uses all cores."
    )
    nodes: int = Field(
        default=1,
        ge=1,
        description="Nodes of a Ray cluster that train the model together; gpus and threads are per node.",
    )

    @property
    def alone(self) -> Self:
        """The resources for a process that works alone: with several nodes, `gpus` counts those of each node."""
        return self.model_copy(update={"gpus": "auto"}) if self.nodes > 1 and self.gpus else self


class Config(Section):
    """One job."""

    preset: Literal["fast", "good", "best"] = Field(
        default="good",
        description="How much training is worth: defaults of the settings that are left out. fast is for trying "
        "things out, best for the night.",
    )
    task: TaskSettings = Field(description="The forecasting task.")
    data: DataSettings = Field(description="The table, and how it is read.")
    split: SplitSettings = Field(default=SplitSettings(), description="Steps held out from training.")
    model: ModelSettings = Field(default=ModelSettings(), description="The network.")
    train: TrainSettings = Field(default=TrainSettings(), description="The training loop.")
    backtest: BacktestSettings = Field(
        default=BacktestSettings(), description="Rolling cutoffs in the test range."
    )
    combine: tuple[Baseline, ...] = Field(
        default=(),
        description="Baselines such as Theta that are combined with the model into a further forecast, Combined; "
        "the weights are chosen on validation and shared by all series.",
    )
    fleet: FleetSettings = Field(default=FleetSettings(), description="Many models, one per series or group.")
    resources: ResourceSettings = Field(default=ResourceSettings(), description="The resources that are used.")
    search: SearchSettings = Field(default=SearchSettings(), description="A search for better settings.")

    @field_validator("combine")
    @classmethod
    def _drop_repeated(cls, names: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_search(self.search, type(self))
        context, segment = self.task.context_length, self.model.segment_length
        if context and segment and context % segment:
            raise ValueError(
                f"task.context_length {context} is not a multiple of model.segment_length {segment}; "
                f"use {max(segment, context - context % segment)} or {context + segment - context % segment}"
            )
        if context and self.task.min_context and self.task.min_context > context:
            raise ValueError(f"task.min_context {self.task.min_context} is above task.context_length {context}")
        for name in ("validation", "test"):
            steps = getattr(self.split, name)
            if steps and steps < self.task.horizon:
                raise ValueError(
                    f"split.{name} {steps} is below task.horizon {self.task.horizon}; use 0 or at least that"
                )
        if self.model.scaling == "level" and self.model.scaling_by == "series":
            raise ValueError("model.scaling level is that of a window; set model.scaling_by to window")
        variants, members = len(self.model.variants or ()), self.model.members
        if members is not None and variants > members:
            plural = "member" if members == 1 else "members"
            raise ValueError(
                f"model.variants: there are {variants}, for {members} {plural}; raise model.members to {variants}"
            )
        for key in ("by", "group"):
            columns = getattr(self.fleet, key)
            named = () if isinstance(columns, str | None) else columns
            unknown = next((name for name in named if name not in self.data.static_categories), None)
            if unknown is not None:
                raise ValueError(
                    f"fleet.{key}: {unknown!r} is not among data.static_categories; add the column there as well"
                )
        return self
