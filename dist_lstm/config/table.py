"""The settings of the table: its location, how it is read, and which column is which."""

import difflib
import zoneinfo
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, StrictBool, Tag, field_validator, model_validator

from dist_lstm.config.section import Section

Name = Annotated[str, Field(min_length=1)]
#: Without the tags an error would be reported twice, once per type.
NameOrNames = Annotated[
    Annotated[Name, Tag("str")] | Annotated[tuple[Name, ...], Field(min_length=1), Tag("tuple")],
    Discriminator(lambda value: "tuple" if isinstance(value, list | tuple) else "str"),
]
#: A text; a number need not be quoted.
Missing = Annotated[str, BeforeValidator(lambda given: str(given) if type(given) in (int, float) else given)]

#: `data.ds_format` of whole numbers that count steps.
STEP = "step"
#: Units of times since 1970, by how many of them are a second.
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: The characters that settings name.
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
MARKS = {"point": ".", "comma": ",", "space": " ", "apostrophe": "'"}
_SOME_TIME = datetime(2001, 12, 31, 23, 59, 58, tzinfo=UTC)


class ColumnSettings(Section):
    """Which column of the table is which."""

    unique_id: Name | None = Field(
        default="unique_id",
        description="Column of the series' identifier (item_id where there is no unique_id); null for a table "
        "with one series.",
    )
    ds: Name = Field(
        default="ds",
        description="Column of the time stamp (timestamp where there is no ds) or of the whole number of the "
        "step.",
    )
    y: NameOrNames = Field(
        default="y",
        description="Column of the values to forecast (target where there is no y); null or NaN is a missing "
        "value. Each column of a list is a separate series named unique_id/column, or column where unique_id is "
        "null.",
    )

    @property
    def targets(self) -> tuple[str, ...]:
        """The named columns of values, as a tuple also where there is one."""
        return (self.y,) if isinstance(self.y, str) else self.y


class CsvSettings(Section):
    """How CSV files are written."""

    delimiter: Literal["comma", "semicolon", "tab", "pipe", "space"] | None = Field(
        default=None,
        description="Character between the fields; null takes the one of a first line such as sep=; or else the "
        "most frequent one in the heading, of comma, semicolon, tab and pipe.",
    )
    comment: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="Character at the beginning of lines that are comments and are not read, such as '#'; null "
        "for none.",
    )
    skip_lines: int = Field(
        default=0, ge=0, description="Number of lines before the heading that are not read, such as a title."
    )
    encoding: str | None = Field(
        default=None,
        description="Encoding of the text, such as cp1252; null for UTF-8, or UTF-16 where the file begins with "
        "its byte order mark.",
    )

    @field_validator("comment")
    @classmethod
    def _check_comment(cls, given: str | None) -> str | None:
        if given is not None and (not given.isascii() or given.isalnum() or given.isspace() or given == '"'):
            raise ValueError(f"data.csv.comment: expected a character such as '#', got {given!r}")
        return given

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, given: str | None) -> str | None:
        try:
            "a".encode("utf-8" if given is None else given)
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"data.csv.encoding: {given!r} is not an encoding of text; use one such as cp1252"
            ) from error
        return given


class DataSettings(Section):
    """The table, and how it is read."""

    path: str = Field(
        min_length=1,
        description="A file, folder, glob or URI of CSV (also .gz), Parquet or Feather; $VARIABLES are expanded.",
    )
    layout: Literal["long", "wide"] = Field(
        default="long",
        description="One row per series and time stamp (long), or one column per series beside data.columns.ds "
        "(wide): those of data.columns.y where it is set, otherwise all.",
    )
    columns: ColumnSettings = Field(default=ColumnSettings(), description="Names of the columns.")
    static_categories: tuple[Name, ...] = Field(
        default=(), description="Columns of text, whole numbers or booleans with one value per series."
    )
    static_numbers: tuple[Name, ...] = Field(
        default=(), description="Columns of numbers with one value per series."
    )
    ds_format: str | None = Field(
        default=None,
        description="How time stamps are written that are not in ISO 8601: a format such as %d/%m/%Y or %Y%m%d; "
        "s, ms, us or ns for times since 1970, which are in UTC; step for whole numbers that count steps. Without "
        "it whole numbers are steps, and refused where they look like dates or times.",
    )
    timezone: str | None = Field(
        default=None,
        description="IANA time zone of calendar features and output, such as Europe/Berlin; required where text "
        "has several UTC offsets. When it is set, time stamps without a zone are refused.",
    )
    duplicates: Literal["error", "first", "last", "mean", "sum"] = Field(
        default="error",
        description="How rows with the same series and time stamp are treated: as an error, or merged by this "
        "rule.",
    )
    trailing: Literal["drop", "missing"] = Field(
        default="drop",
        description="What rows without a value after the last observed value of a series are: not part of it "
        "(drop), so that the forecast follows the last observed value; or missing values, after which it follows.",
    )
    shared_steps: StrictBool = Field(
        default=False,
        description="Whether the same whole number of a step is the same time in all series, so that ranges are "
        "cut by calendar, as they are for dates; false counts them from the end of each series.",
    )
    csv: CsvSettings = Field(default=CsvSettings(), description="How CSV files are written.")
    decimal: Literal["point", "comma"] = Field(
        default="point", description="Decimal mark of numbers that are text, as those of CSV are."
    )
    thousands: Literal["point", "comma", "space", "apostrophe"] | None = Field(
        default=None,
        description="Mark between groups of three digits in numbers that are text; null for none, so that such "
        "numbers are refused.",
    )
    missing_values: tuple[Missing, ...] = Field(
        default=(),
        description="Texts, in upper or lower case, or numbers that mean a missing value in columns of numbers, "
        "such as None, '-' or -999, beside an empty field, NaN, NA, N/A, #N/A and null. In other columns, such as "
        "that of the series' identifier, they are text like any other.",
    )
    transform: Literal[
        "auto",
        "none",
        "log1p",
        "difference",
        "seasonal_difference",
        "log1p_difference",
        "log1p_seasonal_difference",
    ] = Field(
        default="auto",
        description="Transform of the values before the model: none, the log of 1 + value, the difference to the "
        "last value or to the last season, or both; auto chooses by statistical tests, the same for all series.",
    )
    memory_budget: int = Field(
        default=1024,
        ge=1,
        description="Maximum size in MiB of the table and of the windows that are held in memory at a time.",
    )

    @field_validator("ds_format")
    @classmethod
    def _check_format(cls, given: str | None) -> str | None:
        if given is None or given in (STEP, *UNITS):
            return given
        try:
            is_format = "%" in given and datetime.strptime(_SOME_TIME.strftime(given), given) is not None
        except ValueError:
            is_format = False
        if not is_format:
            others = ", ".join((*UNITS, STEP))
            raise ValueError(f"data.ds_format: {given!r} is neither a format such as %d/%m/%Y nor one of {others}")
        return given

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, name: str | None) -> str | None:
        try:
            return name if name is None else zoneinfo.ZoneInfo(name).key
        except (LookupError, ValueError, OSError) as error:
            shown = str(name)[:50]
            near = difflib.get_close_matches(shown, sorted(zoneinfo.available_timezones()), n=1)
            hint = f"did you mean {near[0]}?" if near else "use one such as Europe/Berlin or UTC"
            raise ValueError(f"data.timezone: {shown!r} is not a zone of the IANA database; {hint}") from error

    @model_validator(mode="after")
    def _check_marks(self) -> Self:
        if self.thousands == self.decimal:
            raise ValueError(f"data.thousands and data.decimal are both {self.decimal}; they must differ")
        return self

    @property
    def every_column(self) -> bool:
        """Whether every column but the time stamp is a series."""
        return self.layout == "wide" and self.columns.y == "y"

    @property
    def named_columns(self) -> list[str]:
        """The columns that the settings name, including defaults."""
        series = [self.columns.unique_id] if self.layout == "long" and self.columns.unique_id is not None else []
        targets = () if self.every_column else self.columns.targets
        return [*series, self.columns.ds, *targets, *self.static_categories, *self.static_numbers]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        statics = self.static_categories + self.static_numbers
        if self.layout == "wide" and (statics or self.columns.unique_id not in ("unique_id", None)):
            key = "data.static_categories and data.static_numbers" if statics else "data.columns.unique_id"
            raise ValueError(
                f"data.layout wide has one column per series and can't be combined with {key}; leave it out"
            )
        twice = next((name for name, count in Counter(self.named_columns).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"data.columns and static covariates: column {twice!r} is given twice")
        taken = {"unique_id", "ds", "y"} & {*statics}
        if taken:
            raise ValueError(f"data: {taken.pop()!r} is the name of another column, not of a static covariate")
        targets = {*self.columns.targets}
        for name in targets if self.layout == "long" and self.columns.unique_id is not None else ():
            parts = name.split("/")
            tails = {"/".join(parts[first:]) for first in range(1, len(parts))} & targets
            if tails:
                # 'a' with 'b/c' and 'a/b' with 'c' are both a/b/c.
                raise ValueError(
                    f"data.columns.y: {name!r} and {tails.pop()!r} can name the same series, because series "
                    "are named unique_id/column; rename one of them"
                )
        return self
