"""What every group of settings shares."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

_T = TypeVar("_T")


def known(setting: _T | None) -> _T:
    """A setting that may be left out, where it has been filled in.

    Args:
        setting: Its value.

    Returns:
        The value.

    Raises:
        ValueError: If it is None: the config is not resolved.
    """
    if setting is None:
        raise ValueError("the config is not resolved; see dist_lstm.config.defaults.resolve")
    return setting


class Section(BaseModel):
    """A group of settings: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: ValidationInfo) -> Any:
        """Python, and so pydantic, takes true for 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError("bool_given", "input should not be true or false")
        return value
