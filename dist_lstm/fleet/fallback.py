"""For every series of a panel, the first usable model: its own, its group's, the global one, else seasonal naive.

A model is usable for a series if its training succeeded, its forecast is finite, and its skill on the validation
range is at least `fleet.skill_gate`. If a series has no validation windows, a model that was validated on other
series is accepted without that check.

Axes: N series, B windows, H horizon, P head parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from dist_lstm.config.schema import SEASONAL_NAIVE
from dist_lstm.config.task import Task
from dist_lstm.data.panel import Panel, typed_names
from dist_lstm.data.windows import (
    Cutoffs,
    Rolling,
    WindowCutter,
    backtest_cutoffs,
    forecast_cutoffs,
    validation_cutoffs,
)
from dist_lstm.evaluate.backtest import Comparison, backtest_columns, naive_forecast, score_windows
from dist_lstm.forecast.table import MODEL, forecast_columns
from dist_lstm.metrics import Rows, series_scores

#: In the order in which they are tried; the last is always available.
LEVELS = ("own", "group", "global", "naive")

#: Maps a panel and cutoffs to forecasts, `[B, H, P]`, and targets, `[B, H]`.
Predict = Callable[[Panel, Cutoffs], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Candidate:
    """A model that may forecast some series.

    Attributes:
        level: One of `LEVELS`.
        before: Forecasts by the model that was not trained on the test range.
        after: Forecasts by the model that was trained on all steps; None if it is the same model.
        failure: Why the model is unusable; None if it may be usable.
        refit_refused: Why the model that was trained on all steps was refused, so that `after` is not trained on
            the last ones; None if it was not.
    """

    level: str
    before: Predict
    after: Predict | None = None
    failure: str | None = None
    refit_refused: str | None = None


class FallbackSelector:
    """Selects a model for each series of a panel; all start with the seasonal naive forecast.

    Args:
        panel: The series.
        task: Lengths, season and quantile levels; a candidate may read another context length.
        rolling: Number of cutoffs of the backtest and their stride.
        gate: Minimum skill on the validation range; None to accept every model.
    """

    def __init__(self, panel: Panel, task: Task, rolling: Rolling, gate: float | None) -> None:
        self.panel = panel
        self.task = task
        self._rolling = rolling
        self._gate = gate
        number = len(panel.unique_id)
        self.level = np.full(number, "naive", dtype=object)
        self.refit_refused = np.full(number, None, dtype=object)
        self.reasons: list[list[str]] = [[] for _ in range(number)]
        self._median = task.quantiles.index(0.5)
        self._naive = {
            name: naive_forecast(panel, task, cutoffs) for name, cutoffs in self._cutoffs(panel).items()
        }
        self._values = {name: self._with_median(naive) for name, naive in self._naive.items()}

    def _cutoffs(self, panel: Panel) -> Mapping[str, Cutoffs]:
        return {
            "validation": validation_cutoffs(panel, self.task),
            "test": backtest_cutoffs(panel, self.task, self._rolling),
            "end": forecast_cutoffs(panel.length),
        }

    def _with_median(self, naive: np.ndarray) -> np.ndarray:
        """Seasonal naive forecasts with all quantile levels, `[B, H, P]`: NaN except for the median."""
        values = np.full((*naive.shape, len(self.task.quantiles)), np.nan, naive.dtype)
        values[..., self._median] = naive
        return values

    @property
    def waiting(self) -> np.ndarray:
        """Whether a series has no model yet, `[N]`, bool."""
        return self.level == "naive"

    def consider(self, candidate: Candidate, series: np.ndarray) -> None:
        """Let a model forecast those of its series for which it is usable; record why not for the others.

        Args:
            candidate: The model.
            series: Indices of its series in the panel, `[N]`, ascending.
        """
        if candidate.failure is not None:
            self._refuse(candidate.level, series, np.zeros(len(series), bool), [candidate.failure] * len(series))
            return
        chosen = np.isin(np.arange(len(self.level)), series)
        part = self.panel.take(chosen)
        cutoffs = self._cutoffs(part)
        skill = self._skill(part, cutoffs["validation"], candidate.before)
        after = candidate.after or candidate.before
        end, _ = after(part, cutoffs["end"])
        is_finite = np.isfinite(end.reshape(len(end), -1)).min(axis=1, initial=True)
        worse = np.zeros(len(series), bool) if self._gate is None else skill < self._gate
        reasons = [
            f"skill {one:+.1%} on the validation range" if finite else "its forecast is not finite"
            for finite, one in zip(is_finite.tolist(), skill.tolist(), strict=True)
        ]
        taken = is_finite & ~worse
        self._refuse(candidate.level, series, taken, reasons)
        if taken.any():
            kept = part.take(taken)
            test, _ = candidate.before(kept, self._cutoffs(kept)["test"])
            self._put("test", series[taken], test)
            self._put("end", series[taken], end[taken])
            self.level[series[taken]] = candidate.level
            self.refit_refused[series[taken]] = candidate.refit_refused

    def _refuse(self, level: str, series: np.ndarray, taken: np.ndarray, reasons: list[str]) -> None:
        for index, kept, reason in zip(series.tolist(), taken.tolist(), reasons, strict=True):
            if not kept:
                self.reasons[index].append(f"{level}: {reason}")

    def _skill(self, part: Panel, cutoffs: Cutoffs, predict: Predict) -> np.ndarray:
        """Skill per series, `[N]`: 1 - MAE / seasonal naive's MAE; NaN where nothing can be compared."""
        if not cutoffs.total:
            return np.full(len(part.unique_id), np.nan)
        values, target = predict(part, cutoffs)
        naive = naive_forecast(part, self.task, cutoffs)
        median = values[..., self._median]
        both = np.isfinite(naive) & np.isfinite(median)
        series = np.repeat(cutoffs.enumerate()[0], self.task.horizon)
        y = np.where(both, target, np.nan).ravel()
        one = np.ones(len(part.unique_id))
        model_mae, naive_mae = (
            series_scores(Rows(series, y, forecast.ravel(), {}), one, one)["mae"] for forecast in (median, naive)
        )
        # A naive forecast without error can't be beaten; a model equals it only without error of its own.
        perfect = np.where(model_mae > 0, -np.inf, 0.0)
        skill = 1 - np.divide(model_mae, naive_mae, out=np.ones_like(model_mae), where=naive_mae > 0)
        return np.where(np.isnan(naive_mae), np.nan, np.where(naive_mae > 0, skill, perfect))

    def _put(self, name: str, series: np.ndarray, values: np.ndarray) -> None:
        owner, _ = self._cutoffs(self.panel)[name].enumerate()
        self._values[name][np.isin(owner, series)] = values

    def forecasts(self) -> dict[str, pa.Array]:
        """The forecast table of all series, one row per series and step of the horizon."""
        return forecast_columns(self.panel, self.task, forecast_cutoffs(self.panel.length), self._values["end"])

    def backtest(self) -> dict[str, pa.Array]:
        """The forecasts of the test range with the observed values, one row per series, cutoff and step."""
        return backtest_columns(self.panel, self.task, *self._tested())

    def scores(self) -> pa.Table:
        """One row per series and model: metrics, NaN where not scored, `level`, `reason` and `refit_refused`."""
        tables = score_windows(self.panel, self.task, *self._tested())
        chosen = pd.DataFrame(
            {
                "unique_id": typed_names(self.panel.unique_id, self.task.id_type).to_pandas(),
                "level": self.level,
                "reason": ["; ".join(reasons) or None for reasons in self.reasons],
                "refit_refused": self.refit_refused,
            }
        )
        names = (MODEL, SEASONAL_NAIVE)
        merged = [chosen.merge(table, on="unique_id", how="left") for table in tables]
        scores = pd.concat([one.assign(model=name) for name, one in zip(names, merged, strict=True)])
        schema = pa.Schema.from_pandas(scores, preserve_index=False)
        # A column of one pack that is empty would have another type than that of the others.
        types = {"unique_id": pa.type_for_alias(self.task.id_type)}
        types |= dict.fromkeys(("level", "reason", "refit_refused", "model"), pa.string())
        for name, kind in types.items():
            schema = schema.set(schema.get_field_index(name), pa.field(name, kind))
        return pa.Table.from_pandas(scores, schema, preserve_index=False)

    def _tested(self) -> tuple[Cutoffs, np.ndarray, np.ndarray, Comparison]:
        cutoffs = self._cutoffs(self.panel)["test"]
        cutter = WindowCutter(self.panel, self.task)
        target = cutter.windows(*cutoffs.enumerate())[:, self.task.context_length :]
        return cutoffs, self._values["test"], target, Comparison({SEASONAL_NAIVE: self._naive["test"]})
