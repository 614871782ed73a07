"""The settings of a hyperparameter search: the space, the algorithm and the resources."""

import difflib
import itertools
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, StrictBool, ValidationError, field_validator

from dist_lstm.config.section import Section, uncapitalised

#: Kinds of domains, and how many numbers each takes; None for a list of values.
_KINDS = {"choice": None, "uniform": 2, "loguniform": 2, "randint": 2, "quniform": 3}
_SHAPES = "{choice: [..]}, {uniform: [a, b]}, {loguniform: [a, b]}, {randint: [a, b]} or {quniform: [a, b, q]}"
#: Settings that may be searched. All trials share the prepared data and are scored on the same windows.
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
#: Settings that population based training may change between two steps: the shapes of the weights and the
#: meaning of the loss stay the same.
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

#: The values of a setting that are tried: the kind of domain, and its values or numbers.
Domain = tuple[str, tuple[Any, ...]]


class SearchSettings(Section):
    """A hyperparameter search."""

    space: dict[str, dict[str, tuple[Any, ...]]] = Field(
        default_factory=dict,
        description="Search space: the values to try for each setting, by its dotted key: "
        + _SHAPES
        + "; both ends are "
        "included.",
    )
    algorithm: Literal["optuna", "random", "grid", "pbt"] = Field(
        default="optuna",
        description="Search algorithm: Optuna's multivariate TPE, random search, grid search or population based "
        "training.",
    )
    num_samples: int = Field(
        default=20,
        ge=1,
        description="Number of trials; for pbt the population size. A grid always tries all combinations.",
    )
    early_stopping: StrictBool = Field(
        default=True, description="Stop trials that are worse than others after the same number of epochs (ASHA)."
    )
    grace_epochs: int = Field(
        default=5,
        ge=1,
        description="Minimum number of epochs before a trial may be stopped; for pbt, epochs between two "
        "exchanges of weights.",
    )
    max_concurrent: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of concurrent trials; null for as many as fit on the cluster.",
    )
    time_budget: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which the search ends with the trials it has; null for no limit.",
    )
    cpus: float = Field(default=1.0, gt=0, description="CPUs per trial.")
    gpus: float = Field(
        default=0.0, ge=0, description="GPUs per trial: a fraction of one GPU or a whole number; 0 for the CPU."
    )
    max_failures: int = Field(
        default=2,
        ge=0,
        description="How many times a trial is resumed from its last epoch after its process has died.",
    )
    trial_timeout: float = Field(
        default=1800.0, gt=0, description="Seconds without progress after which a trial is stopped as hung."
    )
    final: Literal["take", "train", "none"] = Field(
        default="take",
        description="What is done with the best trial: its training is completed to an ordinary run (take), a "
        "new run is trained with its settings (train), or nothing.",
    )
    seed: int = Field(default=1, ge=0, lt=2**31, description="Seed of the sampled values.")

    @field_validator("gpus")
    @classmethod
    def _check_gpus(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"search.gpus must be a fraction of one GPU or a whole number, got {gpus:g}")
        return gpus

    @field_validator("space", mode="before")
    @classmethod
    def _flatten_space(cls, space: Any) -> dict[str, dict[str, Any]]:
        """Turn nested sections, as `--set` makes them, into dotted keys; null removes a setting."""
        if not isinstance(space, Mapping):
            raise ValueError(f"search.space: expected settings, each with {_SHAPES}, got {space!r}")
        result = dict(_leaves("", space))
        return {key: _shaped(key, value) for key, value in result.items() if value is not None}

    @property
    def domains(self) -> dict[str, Domain]:
        """The domain of each setting, by dotted key."""
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
    """Check a domain: one kind, with as many numbers as it takes."""
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
    """All values of a domain; None where it is continuous.

    Args:
        domain: The domain of a setting.

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
    """The choices of a domain as JSON text, because samplers accept no lists, such as `model.units`, as values."""
    return [json.dumps(value) for value in domain[1]]


def check_search(search: SearchSettings, config: type[BaseModel]) -> None:
    """Refuse a space that no trial could use.

    Args:
        search: The settings of the search.
        config: The schema of all settings.

    Raises:
        ValueError: If a key is not a setting or can't be searched, or the setting does not accept a value.
    """
    for key, domain in search.domains.items():
        section, name = _locate(key, config)
        if (not key.startswith(_SECTIONS) and key not in _OTHERS) or key in _FIXED:
            raise ValueError(
                f"search.space.{key}: can't be searched: trials share the prepared data and their windows; use "
                "task.context_length or settings of model and train"
            )
        for value in _samples(domain):
            problem = _refused(section, name, value)
            if problem:
                raise ValueError(f"search.space.{key}: {domain[0]} {list(domain[1])}: {value!r}: {problem}")
        if search.algorithm == "pbt" and key not in _MUTABLE:
            raise ValueError(
                f"search.space.{key}: pbt changes settings while a model trains; use {', '.join(_MUTABLE)}, or "
                "another search.algorithm"
            )
        if search.algorithm == "grid" and values_of(domain) is None:
            raise ValueError(
                f"search.space.{key}: {domain[0]} is continuous; a grid takes choice, randint or quniform"
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
        hint = (
            f"did you mean {near[0]}?" if near else "use a dotted key as with --set, such as train.learning_rate"
        )
        raise ValueError(f"search.space.{key} is not a setting; {hint}")
    return section, name


def _names(part: str, config: type[BaseModel]) -> list[str]:
    section: Any = config.model_fields[part].annotation
    return list(section.model_fields)


def _samples(domain: Domain) -> list[Any]:
    """Values with which a domain is checked: all, or both ends and one between them."""
    values = values_of(domain)
    if values is not None:
        return list(itertools.islice(values, _MOST_STEPS))
    low, high = map(float, domain[1])
    return [low, low + (high - low) * 0.381966, high]


def _refused(section: type[BaseModel], name: str, value: Any) -> str:
    """Why a setting does not accept a value; empty where it does."""
    try:
        section.model_validate({name: value})
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"][:1] == (name,) and problem["type"] != "missing":
                return uncapitalised(problem["msg"])
    return ""
