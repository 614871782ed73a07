"""Series to Parquet and back: one row per series, one panel per row group.

Axes: N series, S steps of all series together.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.task import Task
from dist_lstm.data.integrity import checksum, compare_with_manifest, open_shard
from dist_lstm.data.manifest import Manifest, Shard, load_manifest
from dist_lstm.data.panel import LAG, Panel, join_panels, seasonal_error, series_mean
from dist_lstm.layout import ShardLayout, part_name

#: Names of the statistics of a series.
STATISTICS = ("mean", "std", "min", "max", "median", "iqr", "mean_abs", "seasonal_difference")
GROUP_STEPS = 1 << 20
SHARD_STEPS = 1 << 24


def statistics(panel: Panel, end: np.ndarray, season_length: int, logged: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of the first steps of each series.

    Args:
        panel: The series.
        end: Number of first steps of each series that are used, `[N]`.
        season_length: Steps in a season.
        logged: True for series whose transform takes the log of 1 + value, `[N]`; their statistics are those of
            the log.

    Returns:
        By name: `mean`, `std` (population), `min`, `max`, `median`, `iqr`, `mean_abs` and
        `seasonal_difference` (mean absolute difference to the value one season earlier), each `[N]`,
        float64, in target units or their log. NaN without any value.
    """
    values = np.where(logged[panel.series_of_step], signed_log1p(panel.y.astype(np.float64)), panel.y)
    panel = replace(panel, y=values)
    number = len(panel.unique_id)
    series = panel.series_of_step
    step = np.arange(len(panel.y)) - panel.offset[series]
    counted = (step < end[series]) & ~np.isnan(panel.y)

    y = panel.y.astype(np.float64)
    average = series_mean(panel, y, counted)
    deviation = series_mean(panel, (y - average[series]) ** 2, counted)
    ranked = np.lexsort((y[counted], series[counted]))
    ordered = y[counted][ranked]
    count = np.bincount(series[counted], minlength=number)
    low, quarter, half, three, high = (
        _ranked_quantile(ordered, count, level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return {
        "mean": average,
        "std": np.sqrt(deviation),
        "min": low,
        "max": high,
        "median": half,
        "iqr": three - quarter,
        "mean_abs": series_mean(panel, np.abs(y), counted),
        "seasonal_difference": seasonal_error(panel, end, season_length, power=1),
    }


def signed_log1p(y: np.ndarray) -> np.ndarray:
    """Log of 1 + value, mirrored for negative values, as in the model's graph.

    Args:
        y: Values of any shape; NaN is missing.

    Returns:
        Their logs, of the same shape.

    Example:
        >>> signed_log1p(np.array([0.0, np.e - 1, 1 - np.e])).round(6).tolist()
        [0.0, 1.0, -1.0]
    """
    return np.sign(y) * np.log1p(np.abs(y))


def _ranked_quantile(ordered: np.ndarray, count: np.ndarray, level: float) -> np.ndarray:
    """Quantile by linear interpolation of values that are sorted within each series."""
    result = np.full(len(count), np.nan)
    some = count > 0
    rank = level * (count[some] - 1)
    base = (np.cumsum(count) - count)[some]
    below = np.floor(rank).astype(np.int64)
    above = np.minimum(below + 1, count[some] - 1)
    low, high = ordered[base + below], ordered[base + above]
    result[some] = low + (high - low) * (rank - below)
    return result


def _to_table(panel: Panel) -> pa.Table:
    values = pa.array(panel.y, from_pandas=True)
    columns: dict[str, pa.Array] = {
        "unique_id": pa.array(panel.unique_id, pa.string()),
        "start": pa.array(panel.start),
        "length": pa.array(panel.length, pa.int64()),
        "y": pa.ListArray.from_arrays(pa.array(panel.offset, pa.int32()), values),
    }
    return pa.table(columns | {name: _fact(values) for name, values in panel.facts.items()})


def _fact(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.string() if values.dtype == object else None, from_pandas=True)


def _to_panel(table: pa.Table) -> Panel:
    lists = table["y"].combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    offset = lists.offsets.to_numpy().astype(np.int64)
    y = lists.values.slice(offset[0], offset[-1] - offset[0]).to_numpy(zero_copy_only=False)
    facts = [name for name in table.column_names if name not in ("unique_id", "start", "length", "y")]
    return Panel(
        table["unique_id"].to_numpy().astype(object),
        table["start"].to_numpy(),
        y,
        offset - offset[0],
        {name: _values(table[name]) for name in facts},
    )


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """Text as objects, None where null; numbers with NaN where null."""
    return column.to_numpy().astype(object) if pa.types.is_string(column.type) else column.to_numpy()


class ShardWriter:
    """Writes panels to `part-*.parquet`, a new file whenever one is full.

    Args:
        folder: The folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._paths: list[Path] = []
        self._series = 0
        self._steps = 0
        self.shards: list[Shard] = []

    def __enter__(self) -> Self:
        """Create the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, panel: Panel) -> None:
        """Append series; each of `panel.facts` becomes a column."""
        group = (np.cumsum(panel.length) - 1) // GROUP_STEPS
        for number in np.unique(group):
            chosen = group == number
            part = panel.take(chosen)
            table = _to_table(part)
            self._writer = self._writer or self._open(table.schema)
            self._writer.write_table(table, row_group_size=len(part.unique_id))
            self._series += len(part.unique_id)
            self._steps += len(part.y)
            if self._steps >= SHARD_STEPS:
                self._finish()

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        self._paths.append(self._folder / part_name(len(self._paths)))
        return pq.ParquetWriter(self._paths[-1], schema, compression="zstd", write_page_checksum=True)

    def _finish(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        path = self._paths[-1]
        facts = {"series": self._series, "steps": self._steps, "bytes": path.stat().st_size}
        self.shards.append(Shard(file=path.name, sha256=checksum(path), **facts))
        self._writer, self._series, self._steps = None, 0, 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the last file."""
        self._finish()


@dataclass(frozen=True)
class RowGroup:
    """The location of one panel.

    Attributes:
        path: The shard.
        number: Index of the row group in it.
        length: Steps of each series, `[N]`.
        lag: Steps from the end of each series to the end of the panel, `[N]`; 0 without a shared calendar.
    """

    path: Path
    number: int
    length: np.ndarray
    lag: np.ndarray

    @property
    def series(self) -> int:
        """Rows of the group."""
        return len(self.length)


def read_panel(group: RowGroup) -> Panel:
    """Read the series of one row group.

    Args:
        group: The row group.

    Returns:
        The series.

    Raises:
        UserError: If the shard is missing or damaged.
    """
    with open_shard(group.path) as file:
        return _to_panel(file.read_row_group(group.number))


@dataclass(frozen=True)
class Shards:
    """Series in a folder of Parquet files.

    Attributes:
        folder: The folder.
        manifest: Its contents.
    """

    folder: Path
    manifest: Manifest

    @property
    def files(self) -> ShardLayout:
        """Its files."""
        return ShardLayout(self.folder)

    def make_task(self, config: ResolvedConfig) -> Task:
        """The task of a config on these series."""
        return self.manifest.make_task(config)

    def row_groups(self) -> list[RowGroup]:
        """All row groups, in order, after every file was compared with the manifest.

        Returns:
            One entry per row group.

        Raises:
            UserError: If a shard is missing, or its size or checksum is not that of the manifest.
        """
        compare_with_manifest(self.folder, self.manifest.shards)
        return self._row_groups()

    def _row_groups(self) -> list[RowGroup]:
        groups: list[RowGroup] = []
        for shard in self.manifest.shards:
            path = self.folder / shard.file
            with open_shard(path) as file:
                names = [name for name in ("length", LAG) if name in file.schema_arrow.names]
                for number in range(file.num_row_groups):
                    length, *lag = (one.to_numpy() for one in file.read_row_group(number, names).columns)
                    groups.append(RowGroup(path, number, length, *lag or [np.zeros_like(length)]))
        return groups

    def panels_by_file(self) -> Iterator[tuple[str, Iterator[Panel]]]:
        """All series, file by file.

        Yields:
            The name of a file, and its panels in order.

        Raises:
            UserError: If a shard is missing or damaged.
        """
        groups = self.row_groups()
        for shard in self.manifest.shards:
            yield shard.file, (read_panel(group) for group in groups if group.path.name == shard.file)

    def panels(self) -> Iterator[Panel]:
        """All series, panel by panel.

        Yields:
            Panels in the order of the row groups.

        Raises:
            UserError: If a shard is missing or damaged.
        """
        for _, panels in self.panels_by_file():
            yield from panels

    def read_columns(self, names: list[str]) -> dict[str, np.ndarray]:
        """Some columns of all series, `[N]` each; the values of the series are not read.

        Args:
            names: Names of columns.

        Returns:
            The columns by name.
        """
        compare_with_manifest(self.folder, self.manifest.shards)
        tables = []
        for shard in self.manifest.shards:
            with open_shard(self.folder / shard.file) as file:
                tables.append(file.read(names))
        table = pa.concat_tables(tables)
        return {name: _values(table[name]) for name in names}

    def read_series(self, indices: np.ndarray) -> Panel:
        """Read some series; only the files that hold them are compared with the manifest.

        Args:
            indices: Their positions in the order of the shards, from 0, ascending, `[N]`; at least one.

        Returns:
            The series, in that order.

        Raises:
            UserError: If a shard is missing or damaged.
        """
        end = np.cumsum([shard.series for shard in self.manifest.shards])
        needed = np.unique(np.searchsorted(end, indices, side="right"))
        compare_with_manifest(self.folder, [self.manifest.shards[number] for number in needed])
        panels, first = [], 0
        for group in self._row_groups():
            rows = indices[(indices >= first) & (indices < first + group.series)] - first
            if len(rows):
                panels.append(read_panel(group).take(np.isin(np.arange(group.series), rows)))
            first += group.series
        return join_panels(panels)


def open_shards(folder: Path) -> Shards:
    """The shards in a folder.

    Args:
        folder: The folder.

    Returns:
        The shards.

    Raises:
        UserError: If the folder's manifest is missing or can't be read.
    """
    return Shards(folder, load_manifest(folder))
