"""The settings of a fleet: many models, each for one series or for a group of series."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, field_validator

from dist_lstm.config.section import Section, Whole, expects
from dist_lstm.config.table import Name

Grouping = Annotated[
    Literal["series", "cluster"] | Annotated[tuple[Name, ...], Field(min_length=1)],
    expects("'series', 'cluster' or a list of columns"),
]
Group = Annotated[
    Literal["cluster"] | Annotated[tuple[Name, ...], Field(min_length=1)] | None,
    expects("'cluster', a list of columns or null"),
]

#: Settings of the small models where neither `fleet.settings` nor `fleet.init_from` gives them.
SMALL = {
    "model.members": 1,
    "model.variants": [],
    "model.statistics": False,
    "model.units": [32],
    "train.batch_size": 32,
    "train.learning_rate": 1e-3,
    "train.max_steps": 300,
    "train.steps_per_epoch": 30,
    "train.warmup_steps": 30,
    "train.patience": 4,
}
#: The head determines the columns of the forecast table, which all models share.
_ALLOWED, _SHARED = ("model.", "train.", "task.context_length", "task.min_context"), ("model.head",)
#: Only the global model may be an ensemble.
_ENSEMBLE = ("model.members", "model.variants", "model.combination")


class FleetSettings(Section):
    """Many models, each for one series or for a group of series."""

    by: Grouping = Field(
        default="series",
        description="What gets its own model: each series, each cluster of similar series, or each combination of "
        "values of these columns, which must be among data.static_categories.",
    )
    group: Group = Field(
        default="cluster",
        description="With by: series, the groups whose models forecast the series without a usable model of "
        "their own; null for none.",
    )
    clusters: Whole = Field(
        default="auto",
        description="Number of clusters of similar series; auto is one per 50 series, from 2 to 32.",
    )
    settings: dict[str, Any] = Field(
        default={},
        description="Settings by dotted key, such as train.max_steps, in which these models differ from the "
        "global one.",
    )
    global_model: StrictBool = Field(
        default=True,
        description="Train one model on all series, for series whose own and group models are not usable.",
    )
    init_from: str | None = Field(
        default=None,
        description="A run or a fleet whose weights training starts from; its model then serves as the global "
        "model. Not used for series of which it saw steps that are held out now.",
    )
    skill_gate: float | None = Field(
        default=0.0,
        ge=-10,
        lt=1,
        description="Minimum skill on the validation range, 1 - MAE / seasonal naive's MAE, that a model needs to "
        "be used for a series; null to use every trained model.",
    )
    max_packs: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Maximum number of Tune trials (packs) over which the models are distributed.",
    )
    slots: Whole = Field(
        default="auto", description="Models that a pack trains at once; auto is 16 on a CPU, 256 on a GPU."
    )
    cpus: float = Field(default=1.0, gt=0, description="CPUs per pack.")
    gpus: float = Field(
        default=0.0, ge=0, le=1, description="GPUs per pack; with a fraction, several packs share one GPU."
    )
    max_failures: int = Field(
        default=2, ge=0, description="How many times a pack is retried after its process or node has died."
    )

    @field_validator("settings")
    @classmethod
    def _check_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for key in settings:
            if key in _ENSEMBLE:
                raise ValueError(
                    f"fleet.settings: {key} is for the global model; the small ones have one member each"
                )
            if not key.startswith(_ALLOWED) or key in _SHARED:
                raise ValueError(
                    f"fleet.settings: {key} is the same for all models of a fleet; only task.context_length, "
                    "task.min_context and the settings of train and model, without model.head, may differ"
                )
        return settings
