"""Every setting once: its default, unit, bound and meaning.

`None` means "derived from the frequency, the horizon and the lengths of the series"
(`dist_lstm.config.defaults`); `dist-lstm plan` shows what it becomes.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from dist_lstm.config.fleet import FleetSettings
from dist_lstm.config.search import SearchSettings, check_search
from dist_lstm.config.section import Section, expects
from dist_lstm.config.table import DataSettings

Level = Annotated[float, Field(gt=0, lt=100)]
Whole = Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], expects("'auto' or a whole number of at least 1")]
GPUs = Annotated[Annotated[int, Field(ge=0)] | Literal["auto"], expects("'auto' or a whole number of at least 0")]
Rate = Annotated[Annotated[float, Field(gt=0, le=1)] | Literal["auto"], expects("'auto' or above 0 and at most 1")]
Units = Annotated[int, Field(ge=1, le=65536)]


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

    batch_size: Whole | None = Field(
        default=None,
        description="Windows a step, over all replicas; auto measures how many fill the machine.",
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Parts a replica's batch is worked through in, to save memory; the step stays the same.",
    )
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
    learning_rate: Rate = Field(
        default=1e-3, description="Highest learning rate of AdamW; auto finds it by a sweep before training."
    )
    warmup_steps: int = Field(
        default=100, ge=0, description="Steps in which the learning rate rises to its highest."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay of AdamW.")
    clip_norm: float = Field(default=1.0, gt=0, description="Greatest norm of the whole gradient.")
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay a step of the moving average of the weights, which is validated and kept; 0 for none.",
    )
    max_bad_steps: int = Field(
        default=10,
        ge=1,
        description="Steps in a row whose loss is no number, before training goes back to its last checkpoint at "
        "half the learning rate; a second time ends it.",
    )
    patience: int = Field(default=10, ge=1, description="Epochs without a better validation loss before the end.")
    window_sampling: Literal["series", "windows", "recent"] = Field(
        default="series",
        description="Training windows are drawn uniformly over series; over all windows; or over series, and "
        "later cutoffs more often.",
    )
    stride: int = Field(default=1, ge=1, description="Steps between the cutoffs of a series' training windows.")
    seed: int = Field(default=1, ge=0, lt=2**31, description="Seed of weights, dropout and windows.")
    steps_per_call: Whole = Field(
        default="auto", description="Steps one graph call runs; does not change the result."
    )
    precision: Literal["auto", "float32", "tf32", "float16", "bfloat16"] = Field(
        default="auto",
        description="Arithmetic of the network: auto is tf32 on a GPU, float32 on a CPU; weights stay float32.",
    )
    checkpoint_every: int | None = Field(
        default=500, ge=1, description="Steps between two checkpoints; null to go by the clock alone."
    )
    checkpoint_seconds: float | None = Field(
        default=60.0, gt=0, description="Seconds between two checkpoints; null to go by steps alone."
    )
    keep_checkpoints: int = Field(default=3, ge=1, description="Newest checkpoints that are kept.")
    profile: StrictBool = Field(
        default=False, description="Write a profile of some steps for TensorBoard into tensorboard/."
    )
    deterministic: StrictBool = Field(
        default=False, description="Same result bit for bit on the same machine, at some cost on a GPU."
    )
    refit: StrictBool = Field(
        default=True, description="Train the final model on whole series, for the number of steps chosen."
    )


class BacktestSettings(Section):
    """Rolling cutoffs in the test range."""

    windows: int | None = Field(
        default=None, ge=1, description="Cutoffs; the last is one horizon before the end of the series."
    )
    stride: int | None = Field(default=None, ge=1, description="Steps between two cutoffs.")


class ResourceSettings(Section):
    """What of the machine is used; none of it changes what is computed."""

    gpus: GPUs = Field(default="auto", description="GPUs to use; auto takes all, 0 the CPU.")
    threads: Whole = Field(
        default="auto", description="Threads an operation on the CPU may use; auto takes all cores."
    )
    nodes: int = Field(
        default=1,
        ge=1,
        description="Nodes of a Ray cluster that train the model together; gpus and threads are those of each.",
    )

    @property
    def alone(self) -> Self:
        """For a process that is no worker of several nodes: the GPUs it sees, where theirs are counted."""
        return self.model_copy(update={"gpus": "auto"}) if self.nodes > 1 and self.gpus else self


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
    fleet: FleetSettings = Field(default=FleetSettings(), description="Many models, of a series or group each.")
    resources: ResourceSettings = Field(default=ResourceSettings(), description="What of the machine is used.")
    search: SearchSettings = Field(default=SearchSettings(), description="A search for better settings.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_search(self.search, type(self))
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
        for key in ("by", "group"):
            columns = getattr(self.fleet, key)
            named = () if isinstance(columns, str | None) else columns
            unknown = next((name for name in named if name not in self.data.static_categories), None)
            if unknown is not None:
                raise ValueError(
                    f"fleet.{key}: {unknown!r} is not among data.static_categories; name the column there too"
                )
        return self
