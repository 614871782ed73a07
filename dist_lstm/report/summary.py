"""Sums over a backtest for its report, read part by part so that any number of series fits into memory.

Axes: N series, R rows of a batch, H horizon, K steps of context.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from dist_lstm.config.schema import SEASONAL_NAIVE
from dist_lstm.config.task import Task
from dist_lstm.data.calendar import stamps
from dist_lstm.data.panel import Panel, seasonal_error
from dist_lstm.data.shards import Shards
from dist_lstm.data.windows import Rolling, backtest_cutoffs, split_ranges
from dist_lstm.forecast.table import COMBINED, MODEL, level_name, value_columns
from dist_lstm.report.figures import Past

_BATCH_ROWS = 1 << 17


def compare_series(scores: pd.DataFrame) -> pd.DataFrame:
    """Series in which the model and the seasonal naive forecast can be compared, best skill first.

    Args:
        scores: The table `scores.parquet`: one row per series and model.

    Returns:
        By `unique_id` the MASE of both, `LSTM` and `SeasonalNaive`, and `skill`, minus infinity where the
        seasonal naive forecast alone has no error.
    """
    # Names are compared with those of shards and shown, both as text.
    scores = scores.assign(unique_id=scores["unique_id"].astype(str))
    both = [scores[scores["model"] == name].set_index("unique_id") for name in (MODEL, SEASONAL_NAIVE)]
    # Both tables have the same series in the same order.
    comparable = np.isfinite(both[0]["mase"]) & np.isfinite(both[1]["mase"])
    comparable &= both[0]["points"] == both[1]["points"]
    table = pd.DataFrame({MODEL: both[0]["mase"], SEASONAL_NAIVE: both[1]["mase"]})[comparable]
    model, naive = table[MODEL].to_numpy(), table[SEASONAL_NAIVE].to_numpy()
    skill = np.where(model > 0, -np.inf, 0.0)
    table["skill"] = 1 - np.divide(model, naive, out=1 - skill, where=naive > 0)
    return table.sort_values("skill", ascending=False, kind="stable")


@dataclass(frozen=True)
class Example:
    """The last window of one series.

    Attributes:
        past: The last part of its context.
        ds: Time stamps or steps of the forecast, `[H]`.
        values: By column of the backtest table, `y` among them, `[H]`; NaN is missing.
    """

    past: Past
    ds: np.ndarray
    values: dict[str, np.ndarray]


@dataclass
class Digest:
    """Sums over all rows of a backtest.

    Attributes:
        models: The model and its baselines, as the table's columns are named.
        points: Rows with an error, by step ahead, `[H]`.
        error: By model: sums of absolute errors in units of scale, `[H]`.
        residual: Sums of actual less forecast, in units of scale, `[H]`.
        intervals: By interval, as the columns are named (`80`): actual values below, inside and above it.
        examples: The requested series, by name.
    """

    models: tuple[str, ...]
    points: np.ndarray
    error: dict[str, np.ndarray]
    residual: np.ndarray
    intervals: dict[str, np.ndarray]
    examples: dict[str, Example] = field(default_factory=dict)

    def mean(self, total: np.ndarray) -> np.ndarray:
        """Means by step from sums by step, `[H]`; NaN where no row has an error."""
        return np.divide(total, self.points, out=np.full(len(total), np.nan), where=self.points > 0)

    @property
    def mean_residual(self) -> float:
        """Mean of actual less forecast over all rows, in units of scale; NaN where none has an error."""
        return float(self.residual.sum() / self.points.sum()) if self.points.any() else float("nan")


def read_digest(folder: Path, shards: Shards, task: Task, rolling: Rolling, chosen: Sequence[str]) -> Digest:
    """Read a backtest once.

    The scale of a series is that of MASE: the mean absolute seasonal difference before the test range.

    Args:
        folder: The backtest's `part-*.parquet`, each of which has the series of the shard of its name.
        shards: Folder and manifest of the series.
        task: The task.
        rolling: The cutoffs of the backtest.
        chosen: Series to take as examples.

    Returns:
        Sums and examples.
    """
    digest: Digest | None = None
    # Intervals are no models.
    columns = {*value_columns(task), *value_columns(task, COMBINED)} - {COMBINED}
    for name, panels in shards.panels_by_file():
        scale, pasts = _scales_and_pasts(panels, task, rolling, set(chosen))
        if not (folder / name).exists():
            continue
        rows: dict[str, list[pd.DataFrame]] = {one: [] for one in pasts}
        with pq.ParquetFile(folder / name) as file:
            models = [one for one in file.schema_arrow.names if one not in ("unique_id", "ds", "cutoff", "y")]
            models = [MODEL, *(one for one in models if one not in columns)]
            digest = digest or _empty(tuple(models), task)
            step = 0
            for batch in file.iter_batches(_BATCH_ROWS):
                table = batch.to_pandas()
                codes, names = pd.factorize(table["unique_id"])
                names = names.astype(str)
                # Every window has one row per step, in order.
                ahead = (step + np.arange(len(table))) % task.horizon
                _add(digest, table, scale.reindex(names).to_numpy()[codes], ahead)
                step += len(table)
                for one, result in rows.items():
                    result.append(table[(names == one)[codes]].iloc[-task.horizon :])
        digest.examples |= {one: _example(pasts[one], result, task) for one, result in rows.items()}
    return digest or _empty((MODEL,), task)


def _empty(models: tuple[str, ...], task: Task) -> Digest:
    zeros = np.zeros(task.horizon)
    levels = {level_name(level): np.zeros(3, np.int64) for level in task.levels}
    return Digest(models, zeros.copy(), {name: zeros.copy() for name in models}, zeros.copy(), levels)


def _scales_and_pasts(
    panels: Iterator[Panel], task: Task, rolling: Rolling, chosen: set[str]
) -> tuple[pd.Series, dict[str, Past]]:
    """Scale of every series of a shard, and the last part of the context of the chosen ones."""
    scales, pasts = [], {}
    # Enough context to judge the forecast by eye.
    steps = max(2 * task.horizon, min(2 * task.season_length, 6 * task.horizon), 20)
    for panel in panels:
        observed = split_ranges(panel, task).validation_end
        scales.append(pd.Series(seasonal_error(panel, observed, task.season_length, power=1), panel.unique_id))
        cutoffs = backtest_cutoffs(panel, task, rolling)
        last = cutoffs.first + (cutoffs.count - 1) * cutoffs.stride
        for index in np.flatnonzero(np.isin(panel.unique_id, list(chosen))):
            end = last[index]
            step = np.arange(max(end - steps, 0), end)
            ds = task.freq.advance(np.repeat(panel.start[index], len(step)), step)
            pasts[str(panel.unique_id[index])] = Past(
                _clock(stamps(ds, task).to_pandas()), panel.y[panel.offset[index] + step]
            )
    return pd.concat(scales), pasts


def _add(digest: Digest, table: pd.DataFrame, scale: np.ndarray, ahead: np.ndarray) -> None:
    y = table["y"].to_numpy(np.float64)
    forecasts = {name: table[name].to_numpy(np.float64) for name in digest.models}
    counted = np.isfinite(y) & np.isfinite(scale) & (scale > 0)
    for values in forecasts.values():
        counted &= np.isfinite(values)
    steps, index = len(digest.points), ahead[counted]
    scaled = {name: (y[counted] - values[counted]) / scale[counted] for name, values in forecasts.items()}
    digest.points += np.bincount(index, minlength=steps)
    digest.residual += np.bincount(index, scaled[MODEL], steps)
    for name, residual in scaled.items():
        digest.error[name] += np.bincount(index, np.abs(residual), steps)
    for level, count in digest.intervals.items():
        low, high = (table[f"{MODEL}-{end}-{level}"].to_numpy(np.float64) for end in ("lo", "hi"))
        observed = ~np.isnan(y) & ~np.isnan(low) & ~np.isnan(high)
        below, above = (y < low) & observed, (y > high) & observed
        count += [below.sum(), observed.sum() - below.sum() - above.sum(), above.sum()]


def _example(past: Past, result: list[pd.DataFrame], task: Task) -> Example:
    """The last window of a series, from its rows."""
    last = pd.concat(result).iloc[-task.horizon :]
    values = last.drop(columns=["unique_id", "ds", "cutoff"])
    return Example(past, _clock(last["ds"]), {name: values[name].to_numpy(np.float64) for name in values})


def _clock(ds: pd.Series) -> np.ndarray:
    """Local time stamps without zone; integer steps unchanged."""
    return ds.dt.tz_localize(None).to_numpy() if isinstance(ds.dtype, pd.DatetimeTZDtype) else ds.to_numpy()
