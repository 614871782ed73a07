"""The table, task and network of the benchmarks of training, in any size."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dist_lstm.config.defaults import resolve
from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.schema import Config
from dist_lstm.data.prepare import describe, ingest
from dist_lstm.data.shards import Shards

HORIZON, SEASON, SERIES, STEPS = 24, 24, 200, 2000
#: Intervals in percent, and their quantile levels.
LEVELS, QUANTILES = (80, 95), (0.025, 0.1, 0.5, 0.9, 0.975)


@dataclass(frozen=True)
class Size:
    """Size of a training step.

    Attributes:
        units: Units of each LSTM layer.
        batch: Windows per step.
        context: Steps of a context.
        segment: Steps per segment of the LSTM's input.
    """

    units: tuple[int, ...]
    batch: int
    context: int
    segment: int = 1

    def describe(self) -> str:
        """A short text, such as `2 x 64 units, batch 256, context 96`."""
        return f"{len(self.units)} x {self.units[0]} units, batch {self.batch}, context {self.context}"

    def plain(self) -> dict[str, Any]:
        """Plain values that can be sent to another process."""
        return asdict(self)

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """The size from the values of `plain`."""
        return cls(tuple(values["units"]), values["batch"], values["context"], values["segment"])


def write_table(folder: Path) -> Path:
    """Write 200 series of 2,000 steps with a season and noise, all observed, as a long table.

    Args:
        folder: Folder of the file.

    Returns:
        The file, `series.parquet`: `unique_id`, `ds` (integers), `y`.
    """
    steps = np.arange(STEPS)
    noise = np.random.default_rng(0).normal(0, 0.3, (SERIES, STEPS))
    y = np.sin(steps * 2 * np.pi / SEASON + np.arange(SERIES)[:, None]) + noise
    ids, ds = np.repeat([f"s{n:03d}" for n in range(SERIES)], STEPS), np.tile(steps, SERIES)
    table = pa.table({"unique_id": ids, "ds": ds, "y": y.ravel().astype(np.float32)})
    pq.write_table(table, folder / "series.parquet")
    return folder / "series.parquet"


def make_config(
    folder: Path, size: Size, precision: str = "auto", settings: Mapping[str, Any] | None = None
) -> Config:
    """Make the config of a size, for the table in a folder.

    The transform is off: the inputs of the network are the scaled value and whether it was observed. All other
    settings are defaults: robust scaling of each window, dropout 0.1, the quantile head.

    Args:
        folder: Folder of the table that `write_table` wrote.
        size: The size.
        precision: Value of `train.precision`.
        settings: Other settings, by dotted key.

    Returns:
        The unresolved config.
    """
    from dist_lstm.config.load import override, parse_config

    task = {"horizon": HORIZON, "context_length": size.context, "freq": 1, "season_length": SEASON}
    config = parse_config(
        {
            "task": task | {"levels": list(LEVELS)},
            "data": {"path": str(folder / "series.parquet"), "transform": "none"},
            "split": {"validation": HORIZON, "test": HORIZON},
            "model": {"units": list(size.units), "segment_length": size.segment},
            "train": {"batch_size": size.batch, "precision": precision},
        }
    )
    return override(config, dict(settings or {}))


def prepare(folder: Path, config: Config) -> tuple[ResolvedConfig, Shards]:
    """Prepare the table in a folder, unless it is prepared already: the resolved config and the shards."""
    with ingest(config, folder / "shards") as dataset:
        resolved = resolve(config, dataset.statistics)
        return resolved, describe(dataset, resolved)
