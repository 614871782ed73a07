"""The forecast table: its columns, and the part files it is stored in.

Axes: B windows, H horizon, P head parameters, Q quantile levels.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dist_lstm.config.task import Task
from dist_lstm.data.calendar import stamps
from dist_lstm.data.panel import Panel, typed_names
from dist_lstm.data.windows import Cutoffs
from dist_lstm.errors import UserError
from dist_lstm.layout import ForecastLayout
from dist_lstm.storage import MARKER, listing

MODEL = "LSTM"
#: The model's forecast combined with those of baselines.
COMBINED = "Combined"


def level_name(level: float) -> str:
    """A level as written in a column name.

    Args:
        level: In percent.

    Returns:
        The shortest text.

    Example:
        >>> level_name(80.0), level_name(97.5)
        ('80', '97.5')
    """
    return f"{level:g}"


def value_columns(task: Task, name: str = MODEL) -> dict[str, float]:
    """Columns of forecasts with quantiles.

    Args:
        task: The task, with its levels.
        name: `LSTM` or `Combined`.

    Returns:
        The quantile level of each column: the median `LSTM` first, then `LSTM-lo-80`, `LSTM-hi-80`, ...
    """
    columns = {name: 0.5}
    for level in task.levels:
        tail = round((100 - level) / 200, 6)
        columns[f"{name}-lo-{level_name(level)}"] = tail
        columns[f"{name}-hi-{level_name(level)}"] = round(1 - tail, 6)
    return columns


def median(values: np.ndarray, task: Task) -> np.ndarray:
    """The median forecast, `[B, H]`, or the only one a head without quantiles has, of values `[B, H, P]`."""
    return values[:, :, task.quantiles.index(0.5) if values.shape[2] > 1 else 0]


def quantile_values(values: np.ndarray, task: Task, name: str = MODEL) -> dict[str, np.ndarray]:
    """Forecasts column by column.

    Args:
        values: Forecasts in target units, `[B, H, P]`.
        task: The task, with its levels.
        name: `LSTM` or `Combined`.

    Returns:
        By column of `value_columns`, `[B * H]`; a head without quantiles has one value for all.
    """
    flat = values.reshape(-1, values.shape[-1])
    index = {level: task.quantiles.index(level) if flat.shape[1] > 1 else 0 for level in (0.5, *task.quantiles)}
    return {column: flat[:, index[level]] for column, level in value_columns(task, name).items()}


def forecast_columns(
    panel: Panel, task: Task, cutoffs: Cutoffs, values: np.ndarray, combined: np.ndarray | None = None
) -> dict[str, pa.Array]:
    """The forecasts of a panel in long form, one row per window and step.

    Args:
        panel: The series.
        task: Frequency, levels and type of the names.
        cutoffs: Cutoffs of the forecasts.
        values: The model's forecasts, `[B, H, P]`, in target units.
        combined: The combined ones, `[B, H, P]`; None for none.

    Returns:
        Columns `unique_id`, `ds` and those of `value_columns`, each `[B * H]`.
    """
    series, cutoff = cutoffs.enumerate()
    steps = (cutoff[:, None] + np.arange(task.horizon)).ravel()
    rows = np.repeat(series, task.horizon)
    columns: dict[str, pa.Array] = {
        "unique_id": typed_names(panel.unique_id[rows], task.id_type),
        "ds": stamps(task.freq.advance(panel.start[rows], steps), task),
    }
    numbers = quantile_values(values, task)
    if combined is not None:
        numbers |= quantile_values(combined, task, COMBINED)
    return columns | {name: pa.array(one, from_pandas=True) for name, one in numbers.items()}


def refuse_other_files(folder: Path) -> None:
    """Make sure that new forecasts replace nothing but forecasts.

    Args:
        folder: Where forecasts will be written.

    Raises:
        UserError: If it is a file, or holds other files.
    """
    if folder.is_dir():
        ours = (MARKER, ForecastLayout.rejected)
        unexpected = [
            name for name in listing(folder) if name not in ours and not Path(name).match("part-*.parquet")
        ]
    else:
        unexpected = [folder.name] if folder.exists() else []
    if unexpected:
        raise UserError(
            folder, f"holds something other than forecasts ({min(unexpected)})", "choose another --out"
        )


class PartWriter:
    """Writes one part file; it is created with the first rows.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self.rows = 0

    def __enter__(self) -> Self:
        """Create the folder."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, columns: dict[str, pa.Array]) -> None:
        """Append rows.

        Args:
            columns: Columns of one length; the same in every call.
        """
        table = pa.table(columns)
        self._writer = self._writer or pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)
        self.rows += table.num_rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
