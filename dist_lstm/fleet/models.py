"""The tables of a fleet's models: one row per model, with its weights.

The weights of a model are one flat list. The file's schema says, in its metadata, of which variables they are: a
JSON object of paths and shapes, in the order of the list. Files of version 0.1.0 lack it; their weights are in the
order of the model's variables.
"""

import json
from collections.abc import Mapping, Sequence
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
        ("refit_refused", pa.string()),
        ("weights", pa.list_(pa.float32())),
        ("weights_backtest", pa.list_(pa.float32())),
    ]
)
#: Columns with weights: trained with the test range, and without it.
_WEIGHTS = ("weights", "weights_backtest")
#: Key of the variables in a schema's metadata.
_VARIABLES = b"dist_lstm.variables"


@dataclass(frozen=True)
class StoredModel:
    """A small model of a fleet.

    Attributes:
        name: The `unique_id` of its series, or the name of its group.
        failure: Why it could not be trained; None if it could.
        refit_refused: Why `weights` are those trained without the test range; None if they are not.
        weights: Its weights, trained with the test range, as one flat list.
        weights_backtest: Its weights, trained without the test range.
        variables: The shapes of their variables by path, in the order of the lists; None in version 0.1.0.
    """

    name: str
    failure: str | None
    refit_refused: str | None
    weights: Sequence[float]
    weights_backtest: Sequence[float]
    variables: Mapping[str, Sequence[int]] | None

    def before(self, model: "keras.Model") -> list[np.ndarray]:
        """Its weights without the test range, as `set_weights` of a model takes them.

        Args:
            model: A Keras model of its architecture.

        Returns:
            One array per variable.

        Raises:
            UserError: If its architecture is another.
        """
        return _arrays(self.weights_backtest, self.variables, _variables(model))

    def after(self, model: "keras.Model") -> list[np.ndarray]:
        """Its weights with the test range; as `before`."""
        return _arrays(self.weights, self.variables, _variables(model))


def write_models(path: Path, rows: Sequence[Mapping[str, Any]], model: "keras.Model") -> None:
    """Publish a table of models.

    Args:
        path: The file.
        rows: One per model, by column; weights as `get_weights` gives them.
        model: A Keras model of their architecture.
    """
    flat = [
        {**row} | {name: np.concatenate([np.ravel(one) for one in row[name]]) for name in _WEIGHTS} for row in rows
    ]
    schema = _SCHEMA.with_metadata({_VARIABLES: json.dumps(_variables(model)).encode()})
    with publish(path) as temporary:
        pq.write_table(pa.Table.from_pylist(flat, schema), temporary, compression="zstd")


def read_models(files: Sequence[Path], names: Sequence[str]) -> list[StoredModel]:
    """Read some models from tables.

    Args:
        files: The tables; at least one.
        names: Names of the models.

    Returns:
        Those of the models that are in the tables.
    """
    dataset = ds.dataset([str(file) for file in files], schema=_SCHEMA)
    columns = ["name", "failure", "refit_refused", *_WEIGHTS, "__filename"]
    rows = dataset.to_table(columns=columns, filter=pc.field("name").isin(list(names))).to_pylist()
    variables = {path: _described(path) for path in {row["__filename"] for row in rows}}
    return [StoredModel(variables=variables[row.pop("__filename")], **row) for row in rows]


def _described(path: str) -> Mapping[str, Sequence[int]] | None:
    """The variables that the schema of a table names."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata[_VARIABLES]) if _VARIABLES in metadata else None


def _variables(model: "keras.Model") -> dict[str, list[int]]:
    """The shapes of a model's variables by path, in the order of `get_weights`."""
    return {variable.path: list(variable.shape) for variable in model.weights}


def _arrays(
    flat: Sequence[float], stored: Mapping[str, Sequence[int]] | None, expected: Mapping[str, Sequence[int]]
) -> list[np.ndarray]:
    """Split flat weights into arrays, in the order of the expected variables."""
    values, stored = np.asarray(flat, np.float32), expected if stored is None else stored
    sizes = [int(np.prod(shape)) for shape in stored.values()]
    if stored != expected or len(values) != sum(sizes):
        number = sum(int(np.prod(shape)) for shape in expected.values())
        raise UserError(
            "fleet.init_from",
            f"its models have other variables ({len(values):,} weights) than those of this fleet ({number:,})",
            "give fleet.settings the same task.context_length and model.*",
        )
    parts = np.split(values, np.cumsum(sizes)[:-1])
    named = {path: part.reshape(shape) for (path, shape), part in zip(stored.items(), parts, strict=True)}
    return [named[path] for path in expected]
