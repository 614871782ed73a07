"""The settings of the training loop."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from dist_lstm.config.section import Section, Whole, expects

Rate = Annotated[Annotated[float, Field(gt=0, le=1)] | Literal["auto"], expects("'auto' or above 0 and at most 1")]


def parse_duration(given: Any) -> Any:
    """Read a duration.

    Args:
        given: A text such as 90s, 10m or 2h, or anything else.

    Returns:
        Seconds; anything else as it is.

    Example:
        >>> parse_duration("10m"), parse_duration(90)
        (600.0, 90)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*", given) if isinstance(given, str) else None
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else given


Duration = Annotated[
    Annotated[float, Field(gt=0)],
    BeforeValidator(parse_duration),
    expects("seconds above 0, or a duration such as 90s, 10m or 2h"),
]


class TrainSettings(Section):
    """The training loop."""

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        """Version 0.1.0 limited the seconds of each training, of which there are two with `refit`."""
        if isinstance(values, dict) and "max_seconds" in values and "budget" not in values:
            seconds, trainings = values["max_seconds"], 2 if values.get("refit", True) else 1
            kept = {key: value for key, value in values.items() if key != "max_seconds"}
            return kept | {"budget": trainings * seconds if isinstance(seconds, int | float) else seconds}
        return values

    batch_size: Whole | None = Field(
        default=None,
        description="Windows per step, over all replicas; auto measures the smallest size with nearly the "
        "highest throughput.",
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Micro-batches into which each replica's batch is split to save memory (gradient "
        "accumulation); the update stays the same.",
    )
    max_steps: int | None = Field(
        default=None, ge=1, description="Maximum number of training steps; the learning rate decays over them."
    )
    budget: Duration | None = Field(
        default=None,
        description="Maximum duration of all training, of both phases and all members together, in seconds or as "
        "in 90s, 10m and 2h; checked at the end of each epoch. Null for no limit.",
    )
    steps_per_epoch: int | None = Field(
        default=None, ge=1, description="Steps per epoch; the validation loss is computed after each epoch."
    )
    learning_rate: Rate | None = Field(
        default=None, description="Peak learning rate of AdamW; auto finds it by a sweep before training."
    )
    warmup_steps: int = Field(
        default=100, ge=0, description="Steps over which the learning rate rises to its peak."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay of AdamW.")
    clip_norm: float = Field(
        default=1.0, gt=0, description="Maximum global norm of the gradient, above which it is scaled down."
    )
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay per step of the moving average of the weights, which is then validated and saved; 0 "
        "for none.",
    )
    max_bad_steps: int = Field(
        default=10,
        ge=1,
        description="Consecutive steps with a non-finite loss after which training returns to its last "
        "checkpoint with half the learning rate; the second time, training fails.",
    )
    patience: int = Field(
        default=10, ge=1, description="Epochs without a lower smoothed validation loss after which training stops."
    )
    window_sampling: Literal["series", "windows", "recent"] = Field(
        default="series",
        description="How training windows are sampled: uniformly over series; uniformly over all windows; or "
        "uniformly over series, with recent cutoffs more often.",
    )
    stride: int = Field(default=1, ge=1, description="Steps between two cutoffs of a series' training windows.")
    span: int | None = Field(
        default=None,
        ge=0,
        description="Steps before the last cutoff of the training range within which the others lie, to train on "
        "the recent past alone; null for all.",
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Standard deviation of noise that is added to the contexts of training windows, in units of "
        "each context's own.",
    )
    mix: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of training windows that are mixed with another one, each in units of its mean "
        "absolute value.",
    )
    stretch: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of training windows of which a part, at least half, is stretched to the whole length.",
    )
    seed: int = Field(
        default=1,
        ge=0,
        lt=2**31,
        description="Seed of the initial weights, of dropout and of the sampling of windows.",
    )
    steps_per_call: Whole = Field(
        default="auto", description="Training steps per call of the compiled graph; does not change the result."
    )
    precision: Literal["auto", "float32", "tf32", "float16", "bfloat16"] = Field(
        default="auto",
        description="Floating-point precision of the network; auto is tf32 on a GPU, float32 on a CPU. Weights "
        "stay float32.",
    )
    checkpoint_every: int | None = Field(
        default=500, ge=1, description="Steps between two checkpoints; null to use checkpoint_seconds alone."
    )
    checkpoint_seconds: float | None = Field(
        default=60.0, gt=0, description="Seconds between two checkpoints; null to use checkpoint_every alone."
    )
    keep_checkpoints: int = Field(default=3, ge=1, description="Number of most recent checkpoints to keep.")
    profile: StrictBool = Field(
        default=False, description="Write a TensorBoard profile of some steps into tensorboard/."
    )
    deterministic: StrictBool = Field(
        default=False,
        description="Give the same result bit for bit on the same machine, which is slower on a GPU.",
    )
    refit: StrictBool = Field(
        default=True,
        description="Train the final model on whole series, for as many passes over their windows as were "
        "chosen on validation, at most four times the steps; the learning rate decays over them.",
    )
