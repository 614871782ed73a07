"""Read a `Config` from YAML and `--set`; change, compare and fingerprint configs."""

import difflib
import hashlib
import json
import os
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dist_lstm.config.schema import Config
from dist_lstm.config.section import uncapitalised
from dist_lstm.config.yaml import dump_yaml, parse_yaml
from dist_lstm.credentials import refuse_keys
from dist_lstm.errors import UserError

_Config = TypeVar("_Config", bound=Config)

MAX_BYTES = 1_000_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring = 1, 80
#: What pydantic adds to the location of an error: which type of a union it tried.
_TYPES = ("int", "str", "tuple", "literal['auto']")


def load_config(path: str | Path, settings: Sequence[str] = ()) -> Config:
    """Read a config file and apply `--set` to it.

    Environment variables and `~` in `data.path` are expanded, and relative paths are made absolute
    against the working directory.

    Args:
        path: A YAML file.
        settings: Texts of the form `section.key=value`; the value is YAML, or text that begins with %.

    Returns:
        The checked config.

    Raises:
        UserError: If the file can't be read, it holds a secret key, or a setting is unknown, of a wrong type or
            out of bounds.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(path, f"is larger than {MAX_BYTES:,} bytes, which no config file needs")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(path, f"the config can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(path, "is not a text file in UTF-8") from error
    for number, line in enumerate(text.splitlines(), 1):  # also in comments: `submit` ships the file
        refuse_keys(f"{path}, line {number}", line)
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise UserError(path, f"expected sections such as task: and data:, got {type(values).__name__}")
    assign_settings(values, settings)
    return parse_config(values, f"{path} with --set" if settings else str(path))


def assign_settings(values: dict[str, Any], settings: Sequence[str]) -> None:
    """Assign the settings of `--set` to plain values.

    Args:
        values: Sections, each a mapping of settings; changed.
        settings: Texts of the form `section.key=value`; the value is YAML.

    Raises:
        UserError: If a text has another form.
    """
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not all(key.strip().split(".")):
            raise UserError(f"--set {setting}", "expected section.key=value")
        # A format of time stamps, such as %Y%m%d, would be a directive of YAML; a date is refused in a file.
        is_text = value.startswith("%") or _DATE.match(value)
        _assign(values, key.strip(), value if is_text else parse_yaml(value, f"--set {key}"))


def parse_config(values: Mapping[str, Any], where: str = "config") -> Config:
    """Check plain values and build a `Config` from them.

    Args:
        values: Sections, each a mapping of settings.
        where: Source of the values, named in errors.

    Returns:
        The checked config, with absolute paths.

    Raises:
        UserError: If a setting is unknown, of a wrong type or out of bounds.
    """
    return validate(values, where, Config)


def validate(values: Mapping[str, Any], where: str, kind: type[_Config]) -> _Config:
    """Check plain values and build a config of the given kind, as `parse_config` does."""
    try:
        # A section with every line commented out is null.
        config = kind.model_validate({key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            _refuse_keys_in(".".join(map(str, problem["loc"])), problem["input"])
        problems = [_explain(problem) for problem in error.errors()]
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(where, f"{'; '.join(problems[:5])}{more}") from error
    for key, value in flatten(config):
        _refuse_keys_in(key, value)
    located = _locate(config.data.path)
    data = config.data.model_copy(update={"path": located})
    return config.model_copy(update={"data": data})


def _refuse_keys_in(key: str, value: Any) -> None:
    """Refuse a secret key in a text, or in one directly inside of a list or a mapping, as messages show it."""
    match value:
        case dict():
            texts = [*value, *value.values()]
        case list() | tuple():
            texts = value
        case _:
            texts = [value]
    for text in texts:
        if isinstance(text, str):
            refuse_keys(key, text)


def _locate(path: str) -> str:
    expanded = os.path.expandvars(path)
    unset = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unset:
        raise UserError("data.path", f"{path}: the environment variable {unset.group()} is not set")
    refuse_keys("data.path", expanded)
    try:
        return expanded if "://" in expanded else str(Path(expanded).expanduser().absolute())
    except RuntimeError as error:
        raise UserError("data.path", f"{path}: there is no such user") from error


def override(config: _Config, changes: Mapping[str, Any]) -> _Config:
    """Return the config with some settings changed.

    Args:
        config: The config to start from; it is not changed.
        changes: New values by dotted key, such as `{"train.learning_rate": 3e-4}`.

    Returns:
        The changed and checked config, of the same kind: a resolved one stays resolved.

    Raises:
        UserError: If a key is unknown or a value is of a wrong type or out of bounds.

    Example:
        >>> config = parse_config({"task": {"horizon": 24}, "data": {"path": "sales.csv"}})
        >>> override(config, {"train.learning_rate": 3e-4}).train.learning_rate
        0.0003
    """
    return validate(changed_values(config, changes), "", type(config))


def changed_values(config: Config, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a config with some settings changed; they are not checked."""
    values = config.model_dump(mode="python")
    for key, value in changes.items():
        _assign(values, key, value)
    return values


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = values.get(section)
        if inner is None:
            inner = values[section] = {}
        if not isinstance(inner, dict):
            raise UserError(key, f"{section} is a single value, not a section")
        values = inner
    values[last] = value


#: Names of settings in other tools.
_OTHER_NAMES = {
    "task.horizon": (
        "h",
        "prediction_length",
        "forecast_horizon",
        "output_chunk_length",
        "n_ahead",
        "steps_ahead",
    ),
    "task.context_length": ("lookback", "look_back", "input_size", "input_chunk_length", "window_size", "seq_len"),
    "task.freq": ("frequency",),
    "task.season_length": ("seasonality", "period", "m"),
    "task.levels": ("level", "quantiles", "intervals"),
    "split.validation": ("val_size", "valid", "val"),
    "split.test": ("test_size",),
    "model.units": ("hidden_size", "hidden_dim", "hidden_units", "encoder_hidden_size", "num_layers", "layers"),
    "model.dropout": ("dropout_rate", "encoder_dropout"),
    "model.head": ("loss", "likelihood"),
    "model.scaling": ("scaler", "scaler_type", "normalization"),
    "train.learning_rate": ("lr",),
    "train.max_steps": ("epochs", "n_epochs", "max_epochs", "num_epochs", "steps", "iterations"),
    "train.patience": ("early_stopping", "early_stop_patience_steps"),
    "train.batch_size": ("windows_batch_size", "batch"),
    "train.clip_norm": ("gradient_clip_val", "grad_clip"),
    "train.seed": ("random_seed", "random_state"),
    "resources.gpus": ("num_gpus", "devices", "gpu"),
    "data.path": ("file", "filename", "dataset", "csv"),
    "data.timezone": ("tz",),
    "data.missing_values": ("na_values", "null_values"),
    "data.csv.delimiter": ("delimiter", "sep", "separator"),
    "data.csv.comment": ("comment", "comments"),
    "data.csv.skip_lines": ("skip_lines", "skiprows", "skip_rows"),
    "data.csv.encoding": ("encoding",),
}


def _keys_below(location: Sequence[Any]) -> list[str]:
    """Dotted keys of the settings and sections directly below a section."""
    section: Any = Config
    for name in location:
        section = section.model_fields[name].annotation
    return [".".join([*location, name]) for name in getattr(section, "model_fields", ())]


def _meant(location: Sequence[str]) -> str | None:
    """The setting that was probably meant by an unknown one; None where none is similar."""
    *sections, name = location
    keys = _keys_below(sections)
    names = {key.rpartition(".")[2]: key for key in keys}
    near = difflib.get_close_matches(name, names, n=1)
    other = next((key for key, others in _OTHER_NAMES.items() if name.lower() in others), None)
    elsewhere = [
        key for section in Config.model_fields for key in _keys_below([section]) if key.endswith(f".{name}")
    ]
    return other or (names[near[0]] if near else None) or (elsewhere[0] if len(elsewhere) == 1 else None)


def _explain(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        *sections, _ = problem["loc"]
        meant = _meant(problem["loc"])
        names = [key.rpartition(".")[2] for key in _keys_below(sections)]
        hint = f"did you mean {meant}?" if meant else "expected one of " + ", ".join(names)
        return f"{'.'.join(problem['loc'])} is not a setting; {hint}"
    key = ".".join(str(part) for part in problem["loc"] if part not in _TYPES)
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    expected = "expected settings" if problem["type"] == "model_type" else uncapitalised(problem["msg"])
    return f"{key}: {expected}, got {_SHORT.repr(problem['input'])}"


def dump_config(config: Config) -> str:
    """Return the config as YAML with every setting."""
    return dump_yaml(config.model_dump(mode="json"))


def flatten(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting as dotted key and value, in the order of the schema."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting of nested dicts, such as a dumped config, as dotted key and value."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


#: Settings whose `auto` is measured when training starts; `config.yaml` then has the measured number.
MEASURED = ("train.batch_size", "train.learning_rate")

#: Settings that change where and how fast results are computed, but not the results. The memory budget is not
#: among them: the pools from which windows are sampled depend on it.
WITHOUT_EFFECT = (
    "preset",  # what it changes are other settings
    "resources.",
    "search.",
    "train.steps_per_call",
    "train.checkpoint_every",
    "train.checkpoint_seconds",
    "train.keep_checkpoints",
    "train.profile",
    "fleet.max_packs",
    "fleet.cpus",
    "fleet.gpus",
    "fleet.max_failures",
)


def differences(left: Config, right: Config) -> list[str]:
    """Settings in which two configs describe different work.

    Args:
        left: One config; where one is that of a run directory, this one.
        right: The other; its `auto` equals any value that was measured.

    Returns:
        Texts such as `task.horizon is 24, not 48`, in the order of the schema.
    """
    others = dict(flatten(right))
    return [
        f"{key} is {value!r}, not {others[key]!r}"
        for key, value in flatten(left)
        if value != others[key] and not key.startswith(WITHOUT_EFFECT) and key not in measured_before(right, left)
    ]


def measured_before(config: Config, stored: Config) -> dict[str, Any]:
    """Find settings that a config leaves to be measured (`auto`) and that an earlier command has measured.

    Args:
        config: The config.
        stored: The config of a run directory.

    Returns:
        Measured values by dotted key.
    """
    result = dict(flatten(stored))
    return {key: result[key] for key, value in flatten(config) if key in MEASURED and value == "auto"}


def fingerprint(values: Mapping[str, Any]) -> str:
    """Return a short hash of plain values that is the same in every process."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
