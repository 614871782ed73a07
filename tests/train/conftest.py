"""A small job whose values encode their positions, for the tests of trainings."""

import io
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from rich.console import Console

from dist_lstm.config.defaults import resolve
from dist_lstm.config.load import parse_config
from dist_lstm.data.shards import Shards
from dist_lstm.train.monitor import Monitor
from dist_lstm.train.phases import Training
from tests.preparing import prepare

LENGTHS = {"a": 60, "b": 46}
HORIZON, VALIDATION, TEST = 3, 6, 9
DAYS = pd.Timestamp("2024-01-01")


def make_frame() -> pd.DataFrame:
    """A value encodes its position: 1000 x series + step."""
    parts = [
        pd.DataFrame(
            {
                "unique_id": name,
                "ds": pd.date_range(end=DAYS + pd.Timedelta(days=59), periods=length),
                "y": 1000.0 * number + np.arange(length),
            }
        )
        for number, (name, length) in enumerate(LENGTHS.items(), start=1)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def work(tmp_path):
    """Shards, config, task, strategy and monitor of a job."""

    def make(**changes: Any) -> Training:
        values = {
            "task": {"horizon": HORIZON, "context_length": 6, "season_length": 7, "freq": "D"},
            "data": {"path": "nowhere.csv", "transform": changes.pop("transform", "none")},
            "split": {"validation": changes.pop("validation", VALIDATION), "test": TEST},
            "model": {"units": [4], "segment_length": 3, "series_embedding": 2, "calendar": True},
            "train": {"max_steps": 8, "steps_per_epoch": 4, "batch_size": 8, "warmup_steps": 0} | changes,
        }
        folder = tmp_path / "shards"
        manifest = prepare(parse_config(values), folder, make_frame())
        config = resolve(parse_config(values), manifest.statistics)
        monitor = Monitor(tmp_path, Console(file=io.StringIO(), width=120))
        strategy = tf.distribute.get_strategy()
        # A directory of its own: the second training of a test is not to go on from the first.
        return Training(
            Path(mkdtemp(dir=tmp_path)),
            Shards(folder, manifest),
            config,
            manifest.make_task(config),
            strategy,
            monitor,
        )

    return make
