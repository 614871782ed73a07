"""The tables of a fleet's models: one row per model, with its weights.

The weights of a model are one flat list. The file's schema says, in its metadata, of which variables they are: a
JSON object of paths and shapes, in the order of the list. Files of version 0.1.0 lack it; their weights are in the
order of the model's variables.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from dist_lstm.errors import UserError
from dist_lstm.storage import publish

if TYPE_CHECKING:
    import keras

_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("level", pa.string()),
        ("series", pa.int64()),
        ("steps", pa.int64()),
        ("validation_loss", pa.float64()),
        ("stopped_early", pa.bool_()),
        ("failure", pa.string()),
        ("weights", pa.list_(pa.float32())),
        ("weights_backtest", pa.list_(pa.float32())),
    ]
)
#: Columns with weights: trained without the test range, and with it.
_BEFORE, _AFTER = "weights_backtest", "weights"
#: Key of the variables in a schema's metadata.
_VARIABLES = b"dist_lstm.variables"


@dataclass(frozen=True)
class StoredModel:
    """A small model of a fleet.

    Attributes:
        name: The `unique_id` of its series, or the name of its group.
        failure: Why it could not be trained; None if it could.
        before: Its weights, trained without the test range, as `set_weights` takes them.
        after: Its weights, trained with the test range.
    """

    name: str
    failure: str | None
    before: list[np.ndarray]
    after: list[np.ndarray]


def write_models(path: Path, rows: Sequence[Mapping[str, Any]], model: "keras.Model") -> None:
    """Publish a table of models.

    Args:
        path: The file.
        rows: One per model, by column; weights as `get_weights` gives them.
        model: A Keras model of their architecture.
    """
    flat = [
        {**row} | {name: np.concatenate([np.ravel(one) for one in row[name]]) for name in (_BEFORE, _AFTER)}
        for row in rows
    ]
    schema = _SCHEMA.with_metadata({_VARIABLES: json.dumps(_variables(model)).encode()})
    with publish(path) as temporary:
        pq.write_table(pa.Table.from_pylist(flat, schema), temporary, compression="zstd")


def read_models(files: Sequence[Path], names: Sequence[str], model: "keras.Model") -> list[StoredModel]:
    """Read some models from tables.

    Args:
        files: The tables; at least one.
        names: Names of the models.
        model: A Keras model of their architecture.

    Returns:
        Those of the models that are in the tables.

    Raises:
        UserError: If their architecture is another.
    """
    return list(_read(files, names, _variables(model)))


def _read(
    files: Sequence[Path], names: Sequence[str], variables: Mapping[str, Sequence[int]]
) -> Iterator[StoredModel]:
    dataset = ds.dataset([str(file) for file in files], schema=_SCHEMA)
    columns = ["name", "failure", _BEFORE, _AFTER, "__filename"]
    table = dataset.to_table(columns=columns, filter=pc.field("name").isin(list(names)))
    described: dict[str, Mapping[str, Sequence[int]]] = {}
    for row in table.to_pylist():
        path = row["__filename"]
        if path not in described:
            metadata = pq.read_schema(path).metadata or {}
            described[path] = json.loads(metadata[_VARIABLES]) if _VARIABLES in metadata else variables
        before, after = (_arrays(row[name], described[path], variables) for name in (_BEFORE, _AFTER))
        yield StoredModel(row["name"], row["failure"], before, after)


def _variables(model: "keras.Model") -> dict[str, list[int]]:
    """The shapes of a model's variables by path, in the order of `get_weights`."""
    return {variable.path: list(variable.shape) for variable in model.weights}


def _arrays(
    flat: Sequence[float], stored: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]]
) -> list[np.ndarray]:
    """Split the flat weights of a row into arrays, in the order of the expected variables."""
    values = np.asarray(flat, np.float32)
    sizes = [int(np.prod(shape)) for shape in stored.values()]
    if stored != expected or len(values) != sum(sizes):
        number = sum(int(np.prod(shape)) for shape in expected.values())
        raise UserError(
            "fleet.init_from",
            f"its models have other variables ({len(values):,} weights) than those of this fleet ({number:,})",
            "give fleet.settings the same context_length, segment_length and units",
        )
    parts = np.split(values, np.cumsum(sizes)[:-1])
    named = {path: part.reshape(shape) for (path, shape), part in zip(stored.items(), parts, strict=True)}
    return [named[path] for path in expected]
