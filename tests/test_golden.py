"""Series whose best forecast is known: the whole way from a table to scores must come near it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from dist_lstm.config.load import parse_config
from dist_lstm.layout import RunLayout, part_files
from dist_lstm.run import backtest, train
from dist_lstm.run_directory import start_run

pytestmark = pytest.mark.slow


def backtested(y: np.ndarray, horizon: int, folder: Path, **settings: Any) -> pd.DataFrame:
    """Train on all but the last 600 steps, then forecast from every cutoff that they have room for.

    Returns:
        Columns `cutoff`, `step` (1 is the first after the cutoff), and the absolute errors `model` and
        `last_value`.
    """
    table = pd.DataFrame({"unique_id": "s", "ds": np.arange(len(y)), "y": y})
    folder.mkdir(exist_ok=True)
    table.to_parquet(folder / "series.parquet")
    config = parse_config(
        {
            "task": {"horizon": horizon, "freq": 1, "context_length": settings.pop("context_length", None)},
            "data": {"path": str(folder / "series.parquet"), "transform": settings.pop("transform", "auto")},
            "split": {"validation": 300, "test": 600},
            "train": {"batch_size": 256, "refit": False} | settings.pop("train", {}),
            "backtest": {"stride": 1, "windows": 600 - horizon + 1},
            "model": settings,
        }
    )
    with start_run(config, folder / "run", Console(file=io.StringIO())) as run:
        train(run)
        backtest(run)
    rows = pd.concat(pd.read_parquet(part) for part in part_files(RunLayout(folder / "run").backtest))
    last = table.set_index("ds")["y"].reindex(rows["cutoff"]).to_numpy()
    errors = {"model": (rows["y"] - rows["LSTM"]).abs(), "last_value": (rows["y"] - last).abs()}
    return pd.DataFrame({"cutoff": rows["cutoff"], "step": rows["ds"] - rows["cutoff"]} | errors)


def autoregressive(seed: int, steps: int = 4000) -> np.ndarray:
    noise, y = np.random.default_rng(seed).normal(size=steps), np.zeros(steps)
    for step in range(1, steps):
        y[step] = 0.7 * y[step - 1] + noise[step]
    return y


def test_a_sine_between_the_steps_is_forecast_better_than_by_its_last_value(tmp_path):
    y = np.sin(2 * np.pi * np.arange(3000) / 24.7)
    errors = backtested(y, 24, tmp_path, units=(64,), train={"max_steps": 500}).groupby("step").mean()
    assert list(errors.index) == list(range(1, 25))
    assert (errors["model"] < errors["last_value"]).all()
    # A noiseless sine can be known: far better, not just better.
    assert errors["model"].mean() < 0.05


def test_an_autoregression_is_forecast_better_than_by_its_last_value(tmp_path):
    errors = backtested(autoregressive(1), 8, tmp_path, train={"max_steps": 600}).groupby("step").mean()
    assert list(errors.index) == list(range(1, 9))
    assert (errors["model"] < errors["last_value"]).all()
    # Nothing can beat the mean absolute value of the noise, 0.8, by much in 593 forecasts.
    assert errors["model"].iloc[0] > 0.7


def test_the_first_step_of_direct_forecasts_agrees_with_a_model_of_horizon_one(tmp_path):
    y = autoregressive(2)
    scores: dict[int, list[float]] = {1: [], 8: []}
    for horizon, errors in scores.items():
        for seed in (1, 2, 3):
            train_settings = {
                "seed": seed,
                "max_steps": 400,
                "batch_size": 64,
                "learning_rate": 3e-3,
                "patience": 30,
            }
            rows = backtested(
                y, horizon, tmp_path / f"{horizon}-{seed}", context_length=16, units=(32,), dropout=0.0,
                scaling="robust", train=train_settings,
            )  # fmt: skip
            # The cutoffs that both horizons have room for.
            same = (rows["step"] == 1) & rows["cutoff"].between(len(y) - 600, len(y) - 9)
            errors.append(rows.loc[same, "model"].mean())
    spread = max(max(errors) - min(errors) for errors in scores.values())
    assert abs(np.mean(scores[1]) - np.mean(scores[8])) <= spread


def test_a_trend_is_continued_beyond_all_training_values(tmp_path):
    y = 0.05 * np.arange(3000) + np.random.default_rng(3).normal(size=3000)
    errors = backtested(y, 24, tmp_path, train={"max_steps": 600}).groupby("step").mean()
    assert (errors["model"] < errors["last_value"]).all()
    # The mean absolute value of the noise is 0.8; a level learned by heart would be off by 30 and more.
    assert errors["model"].max() < 1.0


def test_after_a_shift_the_forecast_is_at_the_new_level(tmp_path):
    generator = np.random.default_rng(4)
    # A level that holds for 200 steps on average, then jumps.
    level = np.cumsum(generator.normal(0, 20, 3000) * (generator.random(3000) < 1 / 200))
    y = level + generator.normal(size=3000)
    errors = backtested(y, 12, tmp_path, train={"max_steps": 600})
    table = pd.Series(level)
    settled = errors[[len(set(table[cutoff - 24 : cutoff + 13])) == 1 for cutoff in errors["cutoff"]]]
    assert len(settled) > 1000
    assert settled["model"].mean() < settled["last_value"].mean()
    assert settled["model"].mean() < 1.0
