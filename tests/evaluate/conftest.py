"""Shards of small tables, and predictors that need no model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dist_lstm.config.defaults import resolve
from dist_lstm.config.load import parse_config
from dist_lstm.config.schema import Config
from dist_lstm.config.task import Task
from dist_lstm.data.panel import Panel
from dist_lstm.data.shards import Shards
from dist_lstm.data.windows import Cutoffs, WindowCutter
from tests.preparing import prepare


@dataclass(frozen=True)
class Prepared:
    """A table as shards, and what a run would know of it."""

    frame: pd.DataFrame
    config: Config
    task: Task
    shards: Shards


def series(name: str, y: Any, start: Any = "2024-01-01", freq: str | int = "D") -> pd.DataFrame:
    """One series in long form."""
    steps = len(y)
    ds = (
        np.arange(steps) * freq + start
        if isinstance(freq, int)
        else pd.date_range(start, periods=steps, freq=freq, unit="us")
    )
    return pd.DataFrame({"unique_id": name, "ds": ds, "y": np.asarray(y, float)})


@pytest.fixture(scope="session")
def prepare_frame(tmp_path_factory) -> Callable[..., Prepared]:
    """Prepares a DataFrame; keywords are settings, `section__name`."""

    def make(frame: pd.DataFrame, **settings: Any) -> Prepared:
        folder = tmp_path_factory.mktemp("prepared")
        frame.to_parquet(folder / "table.parquet")
        values: dict[str, dict[str, Any]] = {"data": {"path": str(folder / "table.parquet")}}
        for key, value in settings.items():
            section, name = key.split("__")
            values.setdefault(section, {})[name] = value
        config = parse_config(values)
        manifest = prepare(config, folder / "shards")
        config = resolve(config, manifest.statistics)
        return Prepared(frame, config, manifest.make_task(config), Shards(folder / "shards", manifest))

    return make


def zoned(name: str, y: Any, start: str, freq: str, zone: str) -> pd.DataFrame:
    """One series with time stamps of a zone; days begin at its midnights, or at the first time after."""
    table = series(name, y, start, freq)
    clock = table["ds"].dt
    ds = clock.tz_localize("UTC").dt.tz_convert(zone) if freq == "h" else clock.tz_localize(
        zone, nonexistent="shift_forward")  # fmt: skip
    return table.assign(ds=ds)


def exact(task: Task) -> Callable[[Panel, Cutoffs], tuple[np.ndarray, np.ndarray]]:
    """A predictor that knows what happens: every quantile is the target."""

    def predict(panel: Panel, cutoffs: Cutoffs) -> tuple[np.ndarray, np.ndarray]:
        _, target = WindowCutter(panel, task).cut(*cutoffs.enumerate())
        return np.repeat(target[:, :, None], len(task.quantiles), axis=2), target

    return predict


def spread(task: Task, seed: int = 0) -> Callable[[Panel, Cutoffs], tuple[np.ndarray, np.ndarray]]:
    """A predictor that is wrong at random, with ordered quantiles."""
    generator = np.random.default_rng(seed)

    def predict(panel: Panel, cutoffs: Cutoffs) -> tuple[np.ndarray, np.ndarray]:
        _, target = WindowCutter(panel, task).cut(*cutoffs.enumerate())
        center = np.nan_to_num(target, nan=1.0) + generator.normal(0, 1, target.shape)
        width = np.sort(generator.normal(0, 1, (*target.shape, len(task.quantiles))), axis=2)
        width -= width[:, :, task.quantiles.index(0.5), None]
        return (center[:, :, None] + width).astype(np.float32), target

    return predict
