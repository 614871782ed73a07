"""Assign series to models, and models to packs of about equal cost; packs are stored in a file for the workers.

A pack is what one trial trains: hundreds of small models. Its models depend on the data and the settings, not on
the cluster, so a fleet that was interrupted continues with the packs that are not done.

Axes: N series, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.task import Task
from dist_lstm.data.shards import Shards
from dist_lstm.fleet.similarity import category_groups, cluster_series, similarity_features
from dist_lstm.storage import publish

#: Cost of a series besides its model's steps, in steps: it is read, validated, scored and forecast.
_STEPS_PER_SERIES = 20
#: Models per slot that keep the slots of a pack busy: with fewer, most slots wait for the last model.
_WAVES = 4


@dataclass(frozen=True)
class Group:
    """Series that share a model.

    Attributes:
        name: Its name; the `unique_id` if it is a single series.
        indices: Indices of its series in the order of the shards, `[N]`, ascending.
        fallback: Name of the group whose model is used where this one is unusable; None if there is none.
        may_start: Whether its model may start from that of `fleet.init_from`, and be replaced by the global model
            there: neither has seen a step of its series that is held out now.
    """

    name: str
    indices: np.ndarray
    fallback: str | None = None
    may_start: bool = True


def make_groups(shards: Shards, task: Task, config: ResolvedConfig) -> tuple[list[Group], list[Group]]:
    """Decide which series share a model.

    Args:
        shards: The prepared data.
        task: Season and split.
        config: The config of the fleet.

    Returns:
        The groups with a model of their own, in the order of the shards; and the groups whose models are used
        where those are unusable.
    """
    by, fallback = config.fleet.by, config.fleet.group
    first = _keys(shards, task, config, by)
    own = _gather(first)
    if by != "series" or fallback is None:
        return own, []
    keys = _keys(shards, task, config, fallback)
    return [Group(one.name, one.indices, str(keys[one.indices[0]])) for one in own], _gather(keys)


def _keys(shards: Shards, task: Task, config: ResolvedConfig, by: str | tuple[str, ...]) -> np.ndarray:
    """Name of each series' group, `[N]`."""
    panels = shards.panels()
    if by == "series":
        return np.concatenate([panel.unique_id for panel in panels])
    if by == "cluster":
        features = np.concatenate([similarity_features(panel, task) for panel in panels])
        clusters = config.fleet.clusters
        number = cluster_series(features, None if clusters == "auto" else clusters, config.train.seed)
        return np.array([f"cluster {one}" for one in number], dtype=object)
    columns = tuple(by)
    return np.concatenate([category_groups(panel, columns, shards.manifest.categories) for panel in panels])


def _gather(keys: np.ndarray) -> list[Group]:
    names, first, group = np.unique(keys.astype(str), return_index=True, return_inverse=True)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group))[:-1]
    groups = [Group(str(name), indices) for name, indices in zip(names, np.split(order, ends), strict=True)]
    return [groups[index] for index in np.argsort(first)]


def pack_groups(groups: Sequence[Group], steps: int, slots: int, most: int) -> list[list[Group]]:
    """Put groups into packs of about the same cost: the most expensive first, each into the cheapest pack.

    Source: Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17 (1969).

    Args:
        groups: The groups to pack; at least one.
        steps: Training steps per model.
        slots: Models that a pack trains at once.
        most: Maximum number of packs.

    Returns:
        The packs, each in the order of `groups`, which is the order of the shards.

    Example:
        >>> import numpy as np
        >>> sizes = {"a": 1, "b": 30, "c": 1, "d": 1}  # series per group
        >>> groups = [Group(name, np.arange(size)) for name, size in sizes.items()]
        >>> packs = pack_groups(groups * 4, steps=100, slots=1, most=2)
        >>> [[group.name for group in pack].count("b") for pack in packs]
        [2, 2]
    """
    number = min(most, -(-len(groups) // (_WAVES * slots)))
    cost = np.array([steps + _STEPS_PER_SERIES * len(one.indices) for one in groups])
    if (cost == cost[0]).all():  # adjacent series stay together, so that the fewest row groups are read
        return [[groups[index] for index in part] for part in np.array_split(np.arange(len(groups)), number)]
    packs: list[list[int]] = [[] for _ in range(number)]
    heap = [(0, pack) for pack in range(number)]
    heapify(heap)
    for index in np.argsort(-cost, kind="stable").tolist():
        total, pack = heap[0]
        packs[pack].append(index)
        heapreplace(heap, (total + int(cost[index]), pack))
    return [[groups[index] for index in sorted(pack)] for pack in packs]


_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("places", pa.list_(pa.int64())),
        ("fallback", pa.string()),
        ("may_start", pa.bool_()),
    ]
)


def write_packs(packs: Sequence[Sequence[Group]], path: Path) -> None:
    """Publish a file of packs, one row group per pack.

    Args:
        packs: The groups of each pack.
        path: The Parquet file.

    Example:
        >>> import numpy as np
        >>> path = Path("packs.parquet")
        >>> write_packs([[Group("a", np.array([0, 2]))], [Group("b", np.array([1]))]], path)
        >>> count_packs(path)
        2
        >>> read_pack(path, 1)
        [Group(name='b', indices=array([1]), fallback=None, may_start=True)]
    """
    with publish(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        for pack in packs:
            rows = {
                "name": [one.name for one in pack],
                "places": [one.indices for one in pack],
                "fallback": [one.fallback for one in pack],
                "may_start": [one.may_start for one in pack],
            }
            writer.write_table(pa.table(rows, _SCHEMA), row_group_size=max(len(pack), 1))


def count_packs(path: Path) -> int:
    """Number of packs in a file."""
    with pq.ParquetFile(path) as file:
        return file.num_row_groups


def read_pack(path: Path, number: int) -> list[Group]:
    """Read one pack.

    Args:
        path: The Parquet file.
        number: Number of the pack, from 0.

    Returns:
        Its groups.
    """
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(number).to_pylist()
    # Version 0.1.0 let every model start.
    return [
        Group(row["name"], np.array(row["places"], np.int64), row["fallback"], row.get("may_start", True))
        for row in rows
    ]


def count_starting(path: Path) -> tuple[int, int]:
    """Models of a file of packs that may start from those of `fleet.init_from`, and all models."""
    with pq.ParquetFile(path) as file:
        total = file.metadata.num_rows
        if "may_start" not in file.schema_arrow.names:
            return total, total
        return sum(file.read(["may_start"])["may_start"].to_pylist()), total


def model_steps(config: ResolvedConfig) -> int:
    """Training steps per model by which packs are sized; on whole series a model may take more."""
    return config.train.max_steps * (2 if config.train.refit else 1)
