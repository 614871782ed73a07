"""All rows of some series to a `Panel`: checked series on a regular grid, end to end in one buffer.

Axes: N series, R rows of the table, S steps of all series together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.frequency import Frequency
from dist_lstm.data.calendar import to_grid, zone_of
from dist_lstm.errors import UserError

#: Prefix of static covariates among the facts of a panel and the columns of a shard.
STATIC = "static:"
#: Name of the steps between the end of a series and that of the panel, among the facts and columns.
LAG = "lag"
_SPARSE = 1000


@dataclass(frozen=True)
class Panel:
    """Regular series of any lengths.

    Attributes:
        unique_id: Names, `[N]`, text, sorted; names that are whole numbers in the table, as numbers.
        start: Time stamp or step of each first value, `[N]`.
        y: Values of all series one after the other, `[S]`, float32 or float64; NaN is a missing value.
        offset: Index of the first value of each series in `y`, and the end of the last, `[N + 1]`.
        facts: Other values per series, by the name of their column in the shards, each `[N]`.
    """

    unique_id: np.ndarray
    start: np.ndarray
    y: np.ndarray
    offset: np.ndarray
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def length(self) -> np.ndarray:
        """Steps of each series, `[N]`."""
        return np.diff(self.offset)

    @property
    def lag(self) -> np.ndarray:
        """Steps from the end of each series to the end of the panel, `[N]`; 0 without a shared calendar."""
        return self.facts[LAG] if LAG in self.facts else np.zeros(len(self.unique_id), np.int64)

    @property
    def series_of_step(self) -> np.ndarray:
        """The series each value of `y` belongs to, `[S]`."""
        return np.repeat(np.arange(len(self.unique_id)), self.length)

    def take(self, keep: np.ndarray) -> "Panel":
        """Some of the series.

        Args:
            keep: True for the series to keep, `[N]`.

        Returns:
            A panel of their copies.
        """
        length = self.length
        return Panel(
            self.unique_id[keep],
            self.start[keep],
            self.y[np.repeat(keep, length)],
            np.concatenate([[0], np.cumsum(length[keep])]).astype(np.int64),
            {name: values[keep] for name, values in self.facts.items()},
        )

    def until_last_value(self) -> "Panel":
        """The series without the missing values after their last observed ones.

        Returns:
            A panel of the same series; one without any value has no steps.
        """
        observed = np.flatnonzero(~np.isnan(self.y))
        end = self.offset[:-1].copy()
        # Ascending, so that the last one of each series stays.
        end[self.series_of_step[observed]] = observed + 1
        length = end - self.offset[:-1]
        if (length == self.length).all():
            return self
        series = self.series_of_step
        kept = np.arange(len(self.y)) < end[series]
        offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        return replace(self, y=self.y[kept], offset=offset)


def typed_names(names: np.ndarray, id_type: str) -> pa.Array:
    """Names of series in the type that they have in the table.

    Args:
        names: Names of a panel, `[N]`, text.
        id_type: `string`, `int64` or `uint64`.

    Returns:
        The names, `[N]`.
    """
    return pa.array(names, pa.string()).cast(id_type)


def join_panels(panels: Sequence[Panel]) -> Panel:
    """The series of several panels in one."""
    length = np.concatenate([panel.length for panel in panels])
    return Panel(
        np.concatenate([panel.unique_id for panel in panels]),
        np.concatenate([panel.start for panel in panels]),
        np.concatenate([panel.y for panel in panels]),
        np.concatenate([[0], np.cumsum(length)]).astype(np.int64),
        {name: np.concatenate([panel.facts[name] for panel in panels]) for name in panels[0].facts},
    )


def series_mean(panel: Panel, values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean of some values of each series.

    Args:
        panel: The series.
        values: One value per step, `[S]`.
        counted: True for the values to average, `[S]`.

    Returns:
        Means, `[N]`, float64; NaN without any value.

    Example:
        >>> panel = Panel(np.array(["a", "b"]), np.zeros(2), np.array([1.0, 3.0, 8.0]), np.array([0, 2, 3]))
        >>> series_mean(panel, panel.y, np.array([True, True, False])).tolist()
        [2.0, nan]
    """
    number, series = len(panel.unique_id), panel.series_of_step[counted]
    count = np.bincount(series, minlength=number)
    total = np.bincount(series, weights=values[counted], minlength=number)
    return np.divide(total, count, out=np.full(number, np.nan), where=count > 0)


def seasonal_error(panel: Panel, end: np.ndarray, season_length: int, power: int) -> np.ndarray:
    """Error of the seasonal naive forecast one season ahead, within each series: the unit of MASE and RMSSE.

    Source: Hyndman & Koehler, "Another look at measures of forecast accuracy", IJF 22 (2006).

    Args:
        panel: The series.
        end: Number of first steps of each series that are used, `[N]`.
        season_length: Steps in a season.
        power: 1 for the absolute error, 2 for the squared one.

    Returns:
        Means over steps, `[N]`, in target units to that power; NaN if no two values are a season apart.

    Example:
        >>> panel = Panel(np.array(["a"]), np.zeros(1), np.array([1.0, 5.0, 2.0, 8.0]), np.array([0, 4]))
        >>> seasonal_error(panel, np.array([4]), season_length=2, power=1).tolist()
        [2.0]
    """
    series = panel.series_of_step
    step = np.arange(len(panel.y)) - panel.offset[series]
    y = panel.y.astype(np.float64)
    error = np.full(len(y), np.nan)
    error[season_length:] = np.abs(y[season_length:] - y[:-season_length]) ** power
    return series_mean(panel, error, (step >= season_length) & (step < end[series]) & ~np.isnan(error))


def make_panel(table: pa.Table, freq: Frequency, duplicates: str) -> Panel:
    """Sort, check and regularise series; steps without a row become missing values.

    Args:
        table: All rows of some series, in any order, with columns `unique_id`, `ds`, `y`, and one per static
            covariate. Time stamps with a zone are converted as in `dist_lstm.data.calendar`.
        freq: Distance between two steps.
        duplicates: `error`, `first`, `last`, `mean` or `sum`: how rows of the same step are merged. A mean or a
            sum leaves out missing values.

    Returns:
        The series, sorted by name, as numbers if the names are; values are float64.

    Raises:
        UserError: If a step occurs twice and `duplicates` is `error`, a time stamp is off the grid, or a
            static covariate changes within a series.
    """
    names, series = _series_of_rows(table["unique_id"])
    zone = zone_of(table.schema.field("ds").type)
    ds, y = to_grid(table["ds"].to_numpy(), freq, zone), table["y"].to_numpy()
    _check_kind(freq, ds)
    statics = [name for name in table.column_names if name not in ("unique_id", "ds", "y")]
    facts = {STATIC + name: _static_values(table[name], name, names, series) for name in statics}

    by_time = np.lexsort((ds, series))
    series, ds, y = series[by_time], ds[by_time], y[by_time]
    series, ds, y = _merge_duplicates(names, series, ds, y, duplicates)
    first = np.searchsorted(series, np.arange(len(names)))
    start = ds[first]
    position = freq.position(ds, start[series])
    if (position < 0).any():
        row = int(np.argmax(position < 0))
        raise UserError(
            "data.path",
            (
                f"unique_id {names[series[row]]!r} at {ds[row]} is off the grid: not a whole number of steps of "
                f"task.freq {freq.name!r} after {ds[max(row - 1, first[series[row]])]}"
            ),
            _off_grid_advice(ds[row], ds[max(row - 1, first[series[row]])], freq),
        )
    last = np.append(first[1:], len(series)) - 1
    length = position[last] + 1
    _check_density(names, length, last - first + 1, freq)
    offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    values = np.full(offset[-1], np.nan)
    values[offset[series] + position] = y
    return Panel(names, start, values, offset, facts)


def _off_grid_advice(stamp: np.datetime64, before: np.datetime64, freq: Frequency) -> str:
    """What to do about a time stamp that is not a whole number of steps after the one before."""
    moved = abs(_time_of_day(stamp) - _time_of_day(before)) if not freq.integer and not freq.within_day else None
    if moved in (np.timedelta64(1, "h"), np.timedelta64(23, "h")):
        return (
            "they move by an hour, as local midnights in UTC do: set data.timezone to their zone, such as "
            "Europe/Berlin (time stamps without a zone: write them with Z, or in local time)"
        )
    return "set task.freq to the true frequency or round the time stamps"


def _time_of_day(stamp: np.datetime64) -> np.timedelta64:
    return stamp - stamp.astype("datetime64[D]")


def _series_of_rows(ids: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted names of the series, `[N]`, and the series of each row, `[R]`."""
    encoded = pc.dictionary_encode(ids.combine_chunks())
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    names = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    order = np.argsort(names)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    # Numbers are sorted as such and kept as text, like all names.
    return names[order].astype(str).astype(object), rank[encoded.indices.to_numpy()]


def _check_kind(freq: Frequency, ds: np.ndarray) -> None:
    if freq.integer != (ds.dtype.kind == "i"):
        got, expected = (
            ("whole numbers", "a whole number such as 1")
            if ds.dtype.kind == "i"
            else ("time stamps", "an alias such as h or D")
        )
        raise UserError(
            "task.freq", f"{freq.name!r} does not fit column ds, which holds {got}", f"set it to {expected}"
        )


def _static_values(column: pa.ChunkedArray, name: str, names: np.ndarray, series: np.ndarray) -> np.ndarray:
    """The one value of a static covariate of each series, `[N]`: text or None, or a number or NaN."""
    values = column.to_numpy()
    present = ~pd.isna(values)
    rows = np.flatnonzero(present)
    first = np.full(len(names), -1)
    # Assigned backwards, so that the first row of each series stays.
    first[series[rows[::-1]]] = rows[::-1]
    differs = present & (values != values[first[series]])
    if differs.any():
        row = int(np.argmax(differs))
        one, other = (column[int(index)].as_py() for index in (first[series[row]], row))
        raise UserError(
            "data.path",
            (
                f"the static covariate {name!r} changes within unique_id {names[series[row]]!r}: {one!r} and "
                f"{other!r}"
            ),
            "give each series one value",
        )
    result = values[first]
    result[first < 0] = None if values.dtype == object else np.nan
    return result


def _check_density(names: np.ndarray, length: np.ndarray, rows: np.ndarray, freq: Frequency) -> None:
    sparse = (length > _SPARSE * rows) & (length > 1_000_000)
    if sparse.any():
        worst = int(np.argmax(sparse))
        raise UserError(
            "task.freq",
            (
                f"at {freq.name!r} unique_id {names[worst]!r} has {length[worst]:,} steps but only "
                f"{rows[worst]:,} rows"
            ),
            "set the true frequency, or correct its first or last time stamp",
        )


def _merge_duplicates(
    names: np.ndarray, series: np.ndarray, ds: np.ndarray, y: np.ndarray, duplicates: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    same = np.zeros(len(ds), bool)
    same[1:] = (series[1:] == series[:-1]) & (ds[1:] == ds[:-1])
    if not same.any():
        return series, ds, y
    if duplicates == "error":
        row = int(np.argmax(same))
        raise UserError(
            "data.path",
            (
                f"rows that repeat a time stamp: {int(same.sum()):,}, first unique_id {names[series[row]]!r} at "
                f"{ds[row]}"
            ),
            "set data.duplicates to first, last, mean or sum, or drop them",
        )
    first = np.flatnonzero(~same)
    if duplicates == "first":
        return series[first], ds[first], y[first]
    if duplicates == "last":
        last = np.append(first[1:], len(ds)) - 1
        return series[last], ds[last], y[last]
    group = np.cumsum(~same) - 1
    observed = ~np.isnan(y)
    count = np.bincount(group[observed], minlength=len(first))
    total = np.bincount(group[observed], weights=y[observed], minlength=len(first))
    merged = total if duplicates == "sum" else total / np.maximum(count, 1)
    return series[first], ds[first], np.where(count > 0, merged, np.nan)
