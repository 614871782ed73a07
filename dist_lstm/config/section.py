"""The base of all groups of settings."""

from typing import Annotated, Any, Literal, LiteralString, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic_core import PydanticCustomError

_T = TypeVar("_T")


def expects(expected: LiteralString) -> WrapValidator:
    """Report what a setting of several types must be in one sentence, instead of one sentence per type.

    Args:
        expected: What it must be.

    Returns:
        A validator to annotate the type with.
    """

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise PydanticCustomError("one_of_several", "input should be " + expected) from error

    return WrapValidator(validate)


Whole = Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], expects("'auto' or a whole number of at least 1")]


def uncapitalised(message: str) -> str:
    """A message to stand within a line; names in it keep their capitals, which count."""
    return message[:1].lower() + message[1:]


def _takes_bool(annotation: Any) -> bool:
    return annotation is bool or any(_takes_bool(one) for one in get_args(annotation))


class Section(BaseModel):
    """A group of settings: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse booleans as numbers: Python, and so pydantic, takes true for 1."""
        if isinstance(value, bool) and not _takes_bool(cls.model_fields[str(info.field_name)].annotation):
            raise PydanticCustomError("bool_given", "input should not be true or false")
        return value
