"""`manifest.json`: what a folder of shards holds."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dist_lstm.config.defaults import Facts
from dist_lstm.errors import UserError
from dist_lstm.storage import write_text

SCHEMA_VERSION = 1
FILE = "manifest.json"

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
    shards: tuple[Shard, ...]

    @property
    def facts(self) -> Facts:
        """What the defaults of a config depend on."""
        return Facts(self.freq, self.series, self.shortest, self.median, self.longest)


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json` into a folder of shards."""
    write_text(folder / FILE, manifest.model_dump_json(indent=2) + "\n")


def load_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` of a folder of shards.

    Args:
        folder: The folder.

    Returns:
        The manifest.

    Raises:
        UserError: If there is none, it is damaged, or another version wrote it.
    """
    path = folder / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, got {type(values).__name__}")
        if values.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"{path}: has schema version {values.get('schema_version')}, this program reads {SCHEMA_VERSION}; "
                "prepare the data again into another --out"
            )
        return Manifest.model_validate(values)
    except (OSError, ValueError, ValidationError) as error:
        raise UserError(
            f"{path}: can't be read as a manifest; prepare the data again into another --out"
        ) from error
