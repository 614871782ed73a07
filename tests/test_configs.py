"""The configs of this repository, shortened, through the command line."""

import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from dist_lstm.cli.main import main
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def run(monkeypatch: pytest.MonkeyPatch, name: str, out: Path, *settings: str) -> tuple[dict, pd.DataFrame]:
    """Metrics and forecasts of a config."""
    monkeypatch.chdir(ROOT)
    shortened = ("train.max_steps=300", *settings)
    arguments = [part for setting in shortened for part in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["dist-lstm", "run", f"configs/{name}.yaml", "--out", str(out), *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    return read(out)


def read(out: Path) -> tuple[dict, pd.DataFrame]:
    """Metrics and forecasts of a run."""
    return json.loads((out / "metrics.json").read_text()), pd.read_parquet(out / "forecasts")


def test_the_quickstart_beats_the_seasonal_naive_forecast(monkeypatch, tmp_path):
    """A run that is there already, such as that of the README's command in `.ci/run`, is taken instead."""
    out = os.environ.get("DIST_LSTM_QUICKSTART")
    metrics, forecasts = read(Path(out)) if out else run(monkeypatch, "quickstart", tmp_path / "run")
    assert metrics["backtest"]["skill"] > 0
    assert metrics["backtest"]["series"] == 7
    assert forecasts.groupby("unique_id").size().to_dict() == dict.fromkeys(forecasts["unique_id"].unique(), 24)
    assert forecasts["ds"].min() == pd.Timestamp("2018-06-26 20:00")


def test_all_monthly_series_of_m3_are_forecast_better_than_by_the_seasonal_naive(real_data, monkeypatch, tmp_path):
    table = real_data / "m3" / "monthly_train.parquet"
    metrics, forecasts = run(monkeypatch, "m3_monthly", tmp_path / "run", f"data.path={table}")
    assert metrics["backtest"]["skill"] > 0
    assert metrics["backtest"]["skill_series"] == 1428
    assert set(forecasts["unique_id"]) == set(pd.read_parquet(table)["unique_id"])
    assert len(forecasts) == 1428 * 18
    assert forecasts.notna().all(axis=None)
