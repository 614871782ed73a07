"""`manifest.json`: the contents of a folder of shards."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dist_lstm.config.defaults import DatasetStatistics
from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.task import Task, Vocabulary, make_task
from dist_lstm.errors import UserError
from dist_lstm.layout import ShardLayout
from dist_lstm.storage import write_text

SCHEMA_VERSION = 2

PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Shard(BaseModel):
    """One Parquet file of series.

    Attributes:
        file: Name in the folder; never a path.
        series: Rows.
        steps: Steps of all its series.
        bytes: Size of the file.
        sha256: Checksum of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: PlainName
    series: int
    steps: int
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """A folder of shards.

    Attributes:
        schema_version: Version of this layout.
        fingerprint: Hash of everything that the shards depend on.
        freq: Frequency alias, or whole number of integer steps.
        series: Series in the shards.
        rejected: Series in `rejected.parquet`.
        steps: Steps of all series.
        observed: Steps with a value.
        shortest: Steps of the shortest series.
        median: Steps of the median series.
        longest: Steps of the longest series.
        last: Last time stamp or step of all series, from which ranges are counted back; None where they are
            counted from the end of each series.
        ended: Series that end before the test range.
        timezone: Zone of the time stamps; None if they have none.
        id_type: Type of `unique_id` in the table; the shards hold text.
        value_type: Type of `y` in the shards: `float64` if float32 does not hold every value of the table exactly.
        trailing: Steps after the last observed values of series, which were dropped.
        rounded: Values of the table that `y` and `start` do not hold exactly, by their kind.
        transforms: Number of series per transform.
        tested: Series that were tested for a transform; 0 if the transform was set.
        evidence: By transform, the median of each field of `dist_lstm.data.stationarity.Evidence` over the
            tested series that have it.
        categories: By name of a static category, its values in the order of their indices, from 1.
        numbers: By name of a static number, its mean and standard deviation over series.
        shards: The files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    fingerprint: str
    freq: str | int
    series: int
    rejected: int
    steps: int
    observed: int
    shortest: int
    median: int
    longest: int
    last: str | int | None = None
    ended: int = 0
    timezone: str | None = None
    id_type: str = Field(default="string", pattern="^(string|u?int64)$")
    value_type: Literal["float32", "float64"] = "float32"
    trailing: int = 0
    rounded: dict[str, int] = {}
    transforms: dict[str, int] = {}
    tested: int = 0
    evidence: dict[str, dict[str, float | None]] = {}
    categories: dict[str, list[str]] = {}
    numbers: dict[str, tuple[float, float]] = {}
    shards: tuple[Shard, ...]

    @property
    def has_gaps(self) -> bool:
        """Whether a series has a missing value."""
        return self.observed < self.steps

    @property
    def statistics(self) -> DatasetStatistics:
        """The statistics that defaults of a config depend on."""
        return DatasetStatistics(self.freq, self.steps, self.median, self.last_stamp, self.timezone, self.series)

    @property
    def last_stamp(self) -> Any:
        """`last` as the grid holds it."""
        return np.datetime64(self.last, "us") if isinstance(self.last, str) else self.last

    @property
    def summary(self) -> str:
        """The data in one line."""
        parts = [f"{self.series:,} series", f"{self.steps:,} steps", f"freq {self.freq}"]
        if 2 * self.observed < self.steps:
            parts.append(f"{self.observed / self.steps:.1%} of the steps have a value")
        return ", ".join([*parts, *self.left_out(f"shards/{ShardLayout.rejected}")])

    def left_out(self, listed: str) -> list[str]:
        """What of the table is not in the shards, or not exactly, in a few words each.

        Args:
            listed: Where rejected series are listed.

        Returns:
            Rejected series, dropped steps and rounded values, where there are any.
        """
        counts = {
            f"rejected ({listed})": self.rejected,
            "steps without a value at the ends of series dropped": self.trailing,
            **{f"{kind} rounded": count for kind, count in self.rounded.items()},
        }
        return [f"{count:,} {words}" for words, count in counts.items() if count]

    def make_task(self, config: ResolvedConfig) -> Task:
        """The task of a resolved config on this data."""
        categories = tuple((name, len(values)) for name, values in self.categories.items())
        vocabulary = Vocabulary(self.series, categories, tuple(self.numbers))
        return make_task(config, vocabulary, self.timezone, self.value_type, self.id_type)


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json` into a folder of shards."""
    write_text(ShardLayout(folder).manifest, manifest.model_dump_json(indent=2) + "\n")


def load_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` of a folder of shards.

    Args:
        folder: The folder.

    Returns:
        The manifest.

    Raises:
        UserError: If it is missing, damaged, or written by another version.
    """
    path = ShardLayout(folder).manifest
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, got {type(values).__name__}")
        if values.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                path,
                f"has schema version {values.get('schema_version')}, this program reads {SCHEMA_VERSION}",
                "prepare the data again into another --out",
            )
        return Manifest.model_validate(values)
    except (OSError, ValueError, ValidationError) as error:
        raise UserError(
            path, "can't be read as a manifest", "prepare the data again into another --out"
        ) from error
