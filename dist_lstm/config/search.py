"""The settings of a search: which settings are tried, by what rule, with which means."""

import difflib
import itertools
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, StrictBool, ValidationError, field_validator

from dist_lstm.config.section import Section

#: Ways to say which values are tried, and how many numbers each takes; None for a list of values.
_KINDS = {"choice": None, "uniform": 2, "loguniform": 2, "randint": 2, "quniform": 3}
_SHAPES = "{choice: [..]}, {uniform: [a, b]}, {loguniform: [a, b]}, {randint: [a, b]} or {quniform: [a, b, q]}"
#: What may be searched. All trials share the prepared data and are scored on the same windows.
_SECTIONS = ("model.", "train.")
_OTHERS = ("task.context_length",)
_FIXED = (
    "train.refit",
    "train.deterministic",
    "train.profile",
    "train.steps_per_call",
    "train.checkpoint_every",
    "train.checkpoint_seconds",
    "train.keep_checkpoints",
)
#: What population based training may change between two steps: weights keep their shapes, losses their meaning.
_MUTABLE = (
    "model.dropout",
    "model.id_dropout",
    "train.batch_size",
    "train.clip_norm",
    "train.learning_rate",
    "train.stride",
    "train.weight_decay",
    "train.window_sampling",
)
_MOST_STEPS = 10_000

#: What is tried of a setting: its kind, and the values or numbers that belong to it.
Domain = tuple[str, tuple[Any, ...]]


class SearchSettings(Section):
    """A search for better settings."""

    space: dict[str, dict[str, tuple[Any, ...]]] = Field(
        default_factory=dict,
        description="What is tried of each setting, by its dotted key: " + _SHAPES + "; both ends are included.",
    )
    algorithm: Literal["optuna", "random", "grid", "pbt"] = Field(
        default="optuna",
        description="Optuna's multivariate TPE; random values; all combinations; or population based training.",
    )
    num_samples: int = Field(
        default=20, ge=1, description="Trials; for pbt the population. A grid has all its combinations."
    )
    early_stopping: StrictBool = Field(
        default=True, description="Stop trials that are worse than others were after as many epochs (ASHA)."
    )
    grace_epochs: int = Field(
        default=5,
        ge=1,
        description="Epochs before a trial may be stopped; for pbt epochs between two exchanges of weights.",
    )
    max_concurrent: int | None = Field(
        default=None, ge=1, description="Trials at a time; null for as many as the cluster has room for."
    )
    time_budget: float | None = Field(
        default=None, gt=0, description="Seconds after which the search ends with what it has; null for no limit."
    )
    cpus: float = Field(default=1.0, gt=0, description="CPUs of a trial.")
    gpus: float = Field(
        default=0.0, ge=0, description="GPUs of a trial: a fraction, or a whole number of them; 0 for the CPU."
    )
    max_failures: int = Field(
        default=2, ge=0, description="Times a trial whose process dies goes on from its last epoch."
    )
    trial_timeout: float = Field(
        default=1800.0, gt=0, description="Seconds without progress after which a trial is ended as hung."
    )
    final: Literal["take", "train", "none"] = Field(
        default="take",
        description="What becomes of the best trial: its training goes on to an ordinary run; a run with its "
        "settings starts anew; or nothing.",
    )
    seed: int = Field(default=1, ge=0, lt=2**31, description="Seed of the values that are tried.")

    @field_validator("gpus")
    @classmethod
    def _check_gpus(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"search.gpus must be a fraction of one GPU or a whole number, got {gpus:g}")
        return gpus

    @field_validator("space", mode="before")
    @classmethod
    def _flatten_space(cls, space: Any) -> dict[str, dict[str, Any]]:
        """Dotted keys; sections within sections, as `--set` makes them, are the same. Null takes a setting out."""
        if not isinstance(space, Mapping):
            raise ValueError(f"search.space: expected settings, each with {_SHAPES}, got {space!r}")
        result = dict(_leaves("", space))
        return {key: _shaped(key, value) for key, value in result.items() if value is not None}

    @property
    def domains(self) -> dict[str, Domain]:
        """What is tried of each setting."""
        return {key: next(iter(value.items())) for key, value in self.space.items()}


def _leaves(prefix: str, space: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    result = []
    for name, value in space.items():
        key = f"{prefix}{name}"
        inner = isinstance(value, Mapping) and value and not set(map(str, value)) & set(_KINDS)
        nested = inner and not any(isinstance(one, list | tuple) for one in value.values())
        result += _leaves(f"{key}.", value) if nested else [(key, value)]
    return result


def _shaped(key: str, value: Any) -> dict[str, Any]:
    """One kind, with as many numbers as it takes."""
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in _KINDS:
        raise ValueError(f"search.space.{key}: expected {_SHAPES}, got {value!r}")
    [(kind, given)] = value.items()
    count = _KINDS[kind]
    if not isinstance(given, list | tuple) or not given or (count and len(given) != count):
        raise ValueError(f"search.space.{key}: {kind} takes {count or 'a list of'} values, got {given!r}")
    if count is None:
        return {kind: tuple(given)}
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one) for one in given):
        raise ValueError(f"search.space.{key}: {kind} takes numbers, got {given!r}")
    low, high, *step = given
    if low >= high:
        raise ValueError(f"search.space.{key}: {kind} needs a below b, got {given!r}")
    if kind == "loguniform" and low <= 0:
        raise ValueError(f"search.space.{key}: loguniform needs numbers above 0, got {given!r}")
    if kind == "randint" and (low != int(low) or high != int(high)):
        raise ValueError(f"search.space.{key}: randint takes whole numbers, got {given!r}")
    if step and (step[0] <= 0 or not math.isclose(round((high - low) / step[0]) * step[0], high - low)):
        raise ValueError(f"search.space.{key}: quniform needs b - a to be a multiple of q, got {given!r}")
    return {kind: tuple(given)}


def values_of(domain: Domain) -> tuple[Any, ...] | None:
    """All values of a setting that are tried; None where there is no end of them.

    Args:
        domain: What is tried.

    Returns:
        The values, in order.
    """
    kind, given = domain
    if kind == "choice":
        return given
    if kind == "randint":
        return tuple(range(int(given[0]), int(given[1]) + 1))
    if kind == "quniform":
        low, high, step = given
        numbers = [round(low + index * step, 10) for index in range(round((high - low) / step) + 1)]
        whole = all(one == int(one) for one in given)
        return tuple(int(one) if whole else one for one in numbers)
    return None


def labels_of(domain: Domain) -> list[str]:
    """The choices of a setting as JSON text: a choice may be a list of units, which samplers take for no value."""
    return [json.dumps(value) for value in domain[1]]


def check_search(search: SearchSettings, config: type[BaseModel]) -> None:
    """Refuse a space that no trial could use.

    Args:
        search: The settings of the search.
        config: The schema of all settings.

    Raises:
        ValueError: If a key is no setting or can't be searched, or a value is none that the setting takes.
    """
    for key, domain in search.domains.items():
        section, name = _locate(key, config)
        if (not key.startswith(_SECTIONS) and key not in _OTHERS) or key in _FIXED:
            raise ValueError(
                f"search.space.{key}: can't be searched: trials share the prepared data and their windows; take "
                "task.context_length or settings of model and train"
            )
        for value in _samples(domain):
            problem = _refused(section, name, value)
            if problem:
                raise ValueError(f"search.space.{key}: {domain[0]} {list(domain[1])}: {value!r}: {problem}")
        if search.algorithm == "pbt" and key not in _MUTABLE:
            raise ValueError(
                f"search.space.{key}: pbt changes settings while a model trains; take {', '.join(_MUTABLE)}, or "
                "another search.algorithm"
            )
        if search.algorithm == "grid" and values_of(domain) is None:
            raise ValueError(
                f"search.space.{key}: {domain[0]} has no end of values; a grid takes choice, randint or quniform"
            )


def _locate(key: str, config: type[BaseModel]) -> tuple[type[BaseModel], str]:
    """The section and the name of a setting."""
    section: Any = config
    *outer, name = key.split(".")
    for one in outer:
        fields = getattr(section, "model_fields", {})
        section = fields[one].annotation if one in fields else None
    fields = getattr(section, "model_fields", {})
    if name not in fields or not outer or isinstance(fields[name].annotation, type(BaseModel)):
        names = [f"{part}.{one}" for part in ("task", "model", "train") for one in _names(part, config)]
        near = difflib.get_close_matches(key, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "take a key as --set takes it, such as train.learning_rate"
        raise ValueError(f"search.space.{key} is not a setting; {hint}")
    return section, name


def _names(part: str, config: type[BaseModel]) -> list[str]:
    section: Any = config.model_fields[part].annotation
    return list(section.model_fields)


def _samples(domain: Domain) -> list[Any]:
    """Values to ask a setting for: all, or the ends and what lies between."""
    values = values_of(domain)
    if values is not None:
        return list(itertools.islice(values, _MOST_STEPS))
    low, high = map(float, domain[1])
    return [low, low + (high - low) * 0.381966, high]


def _refused(section: type[BaseModel], name: str, value: Any) -> str:
    """Why a setting does not take a value; empty where it does."""
    try:
        section.model_validate({name: value})
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"][:1] == (name,) and problem["type"] != "missing":
                return str(problem["msg"]).lower()
    return ""
