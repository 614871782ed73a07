"""Builders of small tasks, panels, configs and folders of shards; tables as `read` gives them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.load import parse_config
from dist_lstm.config.schema import DataSettings
from dist_lstm.config.task import Task
from dist_lstm.data import prepare as prepare_module
from dist_lstm.data import shards
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.panel import Panel
from dist_lstm.data.shards import ShardWriter, statistics
from dist_lstm.data.source import read, source_files
from dist_lstm.data.windows import split_ranges
from dist_lstm.errors import UserError


def pieces(path="unused", frame=None, rounded=None, **settings) -> list[pa.Table]:
    """All pieces that `read` gives; settings of columns are given by their bare name."""
    columns = {key: settings.pop(key) for key in ("unique_id", "ds", "y") if key in settings}
    settings = DataSettings(path=str(path), columns=columns, **settings)
    return list(read(settings, source_files(settings.path) if frame is None else frame, rounded))


def rows(path="unused", frame=None, **settings) -> list[dict]:
    """All rows that `read` gives, in order."""
    return [row for piece in pieces(path, frame, **settings) for row in piece.to_pylist()]


def message(path="unused", frame=None, **settings) -> str:
    """The one line of the error that `read` raises."""
    with pytest.raises(UserError) as caught:
        pieces(path, frame, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _make_task(**changes) -> Task:
    values = {
        "horizon": 3,
        "context_length": 6,
        "min_context": 2,
        "freq": Frequency(1),
        "season_length": 2,
        "levels": (80.0,),
        "validation": 6,
        "test": 6,
    }
    return Task(**values | changes)


@pytest.fixture
def make_task():
    """A task of integer steps: context 6, horizon 3, 6 steps to validate and 6 to test on."""
    return _make_task


def _make_panel(*values) -> Panel:
    length = [len(one) for one in values]
    return Panel(
        np.array([f"s{number:03d}" for number in range(len(values))], object),
        np.arange(len(values), dtype=np.int64) * 10,
        np.concatenate([np.zeros(0), *values]).astype(np.float32),
        np.concatenate([[0], np.cumsum(length)]).astype(np.int64),
    )


@pytest.fixture
def make_panel_of():
    """A panel of the given series, which start at 0, 10, 20 and so on."""
    return _make_panel


@pytest.fixture
def numbered_panel():
    """A panel of series of given lengths in which a value tells its place: 1000 x series + step."""
    return lambda *lengths: _make_panel(*(1000 * number + np.arange(n) for number, n in enumerate(lengths)))


@pytest.fixture
def write_panel(tmp_path, monkeypatch):
    """Write a panel to a folder of shards, with as many steps in a row group and in a file as given."""

    def write(panel: Panel, task: Task, group_steps: int = 1 << 20, shard_steps: int = 1 << 24) -> tuple:
        folder = tmp_path / "written"
        with monkeypatch.context() as patch:
            patch.setattr(shards, "GROUP_STEPS", group_steps)
            patch.setattr(shards, "SHARD_STEPS", shard_steps)
            with ShardWriter(folder) as writer:
                train_end = split_ranges(panel, task).train_end
                logged = np.zeros(len(panel.unique_id), bool)
                actual = statistics(panel, train_end, task.season_length, logged)
                writer.write(replace(panel, facts={**actual, **panel.facts}))
        return folder, manifest_of(panel, writer.shards)

    return write


def ends(length, lag=0) -> SimpleNamespace:
    """Lengths and lags of series, as a panel has them."""
    length = np.asarray(length, np.int64)
    return SimpleNamespace(length=length, lag=np.broadcast_to(np.asarray(lag, np.int64), length.shape))


def manifest_of(panel: Panel, files: list) -> Manifest:
    """The manifest of one panel."""
    return Manifest(
        fingerprint="none",
        freq=1,
        series=len(panel.unique_id),
        rejected=0,
        steps=len(panel.y),
        observed=int((~np.isnan(panel.y)).sum()),
        shortest=int(panel.length.min()),
        median=int(np.median(panel.length)),
        longest=int(panel.length.max()),
        shards=tuple(files),
    )


@pytest.fixture
def make_config():
    """A config of horizon 3, context 6, validation 6 and test 6, with settings changed by dotted key."""

    def make(path: str | Path = "nowhere.csv", **changes):
        values: dict = {
            "task": {"horizon": 3, "context_length": 6, "min_context": 2, "season_length": 2},
            "data": {"path": str(path)},
            "split": {"validation": 6, "test": 6},
            "model": {"segment_length": 1},
            "backtest": {"windows": 2, "stride": 3},
        }
        for key, value in changes.items():
            section, name = key.split("__")
            values.setdefault(section, {})[name] = value
        return parse_config(values)

    return make


@pytest.fixture
def make_frame():
    """A long table of integer steps from series by name; NaN is a row without a value."""

    def make(**series) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "unique_id": np.repeat(list(series), [len(values) for values in series.values()]),
                "ds": np.concatenate([np.arange(len(values)) for values in series.values()]),
                "y": np.concatenate([np.asarray(values, np.float64) for values in series.values()]),
            }
        )

    return make


def to_table(frame: pd.DataFrame) -> pa.Table:
    """A DataFrame as `read` gives it: `unique_id`, `ds`, `y`, then static covariates, text or numbers."""
    ds = pa.array(frame["ds"], from_pandas=True)
    ds = ds.cast(pa.int64() if pa.types.is_integer(ds.type) else pa.timestamp("us", ds.type.tz))
    columns = {"unique_id": pa.array(frame["unique_id"].tolist(), pa.string()), "ds": ds}
    columns["y"] = pa.array(frame["y"].to_numpy(np.float64), from_pandas=True)
    for name in frame.columns.drop(list(columns)):
        columns[name] = pa.array(frame[name], _kind(frame[name]), from_pandas=True)
    return pa.table(columns)


def _kind(values: pd.Series) -> pa.DataType:
    return pa.float64() if values.dtype.kind in "iuf" else pa.string()


@pytest.fixture
def read_rows(monkeypatch):
    """From here on `prepare` takes the columns of a DataFrame as they are: zones and static covariates too."""

    def read(settings, frame, rounded):
        # In two pieces, as a file comes.
        middle = len(frame) // 2
        yield from (to_table(part) for part in (frame[:middle], frame[middle:]))

    monkeypatch.setattr(prepare_module, "read", read)
    monkeypatch.setattr(prepare_module, "used_columns", lambda frame, _: frame)
