"""The settings of a fleet: many models, each of one series or of a group of them."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, field_validator

from dist_lstm.config.section import Section, expects
from dist_lstm.config.table import Name

Grouping = Annotated[
    Literal["series", "cluster"] | Annotated[tuple[Name, ...], Field(min_length=1)],
    expects("'series', 'cluster' or a list of columns"),
]
Group = Annotated[
    Literal["cluster"] | Annotated[tuple[Name, ...], Field(min_length=1)] | None,
    expects("'cluster', a list of columns or null"),
]
Whole = Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], expects("'auto' or a whole number of at least 1")]

#: What a small model of its own is trained with where neither `fleet.settings` says so nor `init_from`.
SMALL = {
    "model.units": [32],
    "train.batch_size": 32,
    "train.max_steps": 300,
    "train.steps_per_epoch": 30,
    "train.warmup_steps": 30,
    "train.patience": 4,
}
#: The head decides what the forecast table holds, for all models alike.
_ALLOWED, _SHARED = ("model.", "train.", "task.context_length", "task.min_context"), ("model.head",)


class FleetSettings(Section):
    """Many models, each of one series or of a group of them."""

    by: Grouping = Field(
        default="series",
        description="What has a model of its own: each series, each cluster of similar series, or each "
        "combination of values of columns, which are among data.static_categories.",
    )
    group: Group = Field(
        default="cluster",
        description="With by: series, the groups whose models forecast the series that have none of their own; "
        "null for none.",
    )
    clusters: Whole = Field(
        default="auto", description="Clusters of similar series; auto is one for each 50 series, 2 to 32."
    )
    settings: dict[str, Any] = Field(
        default={},
        description="Settings by dotted key in which these models differ from the global one, such as "
        "train.max_steps.",
    )
    global_model: StrictBool = Field(
        default=True,
        description="Train one model on all series, for series whose own model and group's model are of no use.",
    )
    init_from: str | None = Field(
        default=None,
        description="A run or a fleet whose weights training starts from; its model is then the global one.",
    )
    skill_gate: float | None = Field(
        default=0.0,
        ge=-10,
        lt=1,
        description="Least skill on the validation range, 1 - MAE / seasonal naive's MAE, with which a model "
        "forecasts a series; null to take what is trained.",
    )
    max_packs: int = Field(
        default=200, ge=1, le=10_000, description="Tune trials at most that the models are packed into."
    )
    slots: Whole = Field(
        default="auto", description="Models a pack trains at once; auto is 16 on a CPU, 256 on a GPU."
    )
    cpus: float = Field(default=1.0, gt=0, description="CPUs a pack takes.")
    gpus: float = Field(default=0.0, ge=0, le=1, description="GPUs a pack takes; a share lets packs sit together.")
    max_failures: int = Field(
        default=2, ge=0, description="How often a pack is tried again after its process or node died."
    )

    @field_validator("settings")
    @classmethod
    def _check_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for key in settings:
            if not key.startswith(_ALLOWED) or key in _SHARED:
                raise ValueError(
                    f"fleet.settings: {key} is the same for all models of a fleet; those of model, train, "
                    "task.context_length and task.min_context may differ, but for model.head"
                )
        return settings
