"""Directories of released versions can be read, and their models give the same forecasts."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dist_lstm.config.load import load_config

VERSIONS = sorted(path for path in Path(__file__).parent.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", path.name))
#: Difference between two processors for one window, relative to its largest value: the last 4 bits of float32.
TOLERANCE = 2.0**-20


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def released(request, tmp_path) -> Path:
    """A copy of the files of a released version."""
    return Path(shutil.copytree(request.param, tmp_path / "released"))


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))], ignore_index=True)


def assert_same_forecasts(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(actual.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(actual[["unique_id", "ds"]], expected[["unique_id", "ds"]])
    values = [one.drop(columns=["unique_id", "ds"]).to_numpy() for one in (actual, expected)]
    assert np.abs(values[0] - values[1]).max() <= TOLERANCE * np.abs(values[1]).max()


def test_at_least_one_version_has_a_folder():
    assert VERSIONS


#: Settings whose names have changed since; where they are null, so are the new ones.
RENAMED = {"max_seconds": "budget"}


def test_configs_of_earlier_versions_load_with_the_same_values(released):
    files = [*released.glob("*.yaml"), *released.glob("*/*.yaml"), *released.glob("*/*/*.yaml")]
    assert len(files) >= 9
    for path in files:
        config = load_config(path).model_dump(mode="json")
        # Without exponents, `on` and octal numbers, a document means the same in every version of YAML.
        for section, settings in yaml.safe_load(path.read_text()).items():
            for name, value in settings.items():
                loaded = config[section][RENAMED.get(name, name)]
                if name == "space":
                    assert loaded.keys() == value.keys()
                elif name != "path":
                    assert loaded == (float(value) if isinstance(loaded, float) else value), f"{section}.{name}"


@pytest.mark.parametrize(("run", "expected"), [("run", "run"), ("search/best", "search")])
def test_a_finished_run_gives_the_same_forecasts_of_another_table(released, call, run, expected):
    words = ("--data", released / "other.csv", "--out", released / "forecasts")
    status, _, error = call("forecast", released / run, *words)
    assert status == 0, error
    assert_same_forecasts(read(released / "forecasts"), read(released / "expected" / expected))


def test_a_finished_run_can_be_reported_and_evaluated(released, call):
    assert call("report", released / "run")[0] == 0
    status, out, error = call("evaluate", released / "run", "--data", released / "other.csv")
    assert status == 0, error
    assert "SeasonalNaive" in out


def test_an_exported_model_of_a_fleet_has_the_same_weights(released, call):
    from dist_lstm.train.checkpoint import load_model

    status, _, error = call("export", released / "fleet", "--model", "s0", "--out", released / "s0.keras")
    assert status == 0, error
    exported, expected = (load_model(path) for path in (released / "s0.keras", released / "expected" / "s0.keras"))
    assert [one.path for one in exported.weights] == [one.path for one in expected.weights]
    for one, other in zip(exported.get_weights(), expected.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_models_with_every_kind_of_layer_give_the_same_forecasts(released):
    from dist_lstm.train.checkpoint import load_model

    paths = sorted((released / "models").glob("*.keras"))
    assert paths
    for path in paths:
        arrays = dict(np.load(path.with_suffix(".npz")))
        expected = arrays.pop("forecast")
        forecast = np.asarray(load_model(path)(arrays, training=False)["forecast"])
        assert np.abs(forecast - expected).max() <= TOLERANCE * np.abs(expected).max(), path.name


def test_a_fleets_forecasts_agree_with_its_scores_and_levels(released):
    forecasts, scores = read(released / "fleet" / "forecasts"), read(released / "fleet" / "scores")
    assert set(forecasts["unique_id"]) == set(scores["unique_id"]) == {f"s{number}" for number in range(6)}


RESUME = """
import sys
from pathlib import Path
import pandas as pd
from rich.console import Console
from dist_lstm.config.load import load_config
from dist_lstm.errors import UserError
from dist_lstm.run import train
from dist_lstm.run_directory import start_run

config, table = load_config("interrupted/config.yaml"), pd.read_csv("table.csv")
try:
    with start_run(config, Path("interrupted"), Console(width=200), table) as run:
        train(run)
except UserError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.slow
def test_an_interrupted_training_is_resumed_or_refused_on_one_line(released):
    # In a process of its own, since deterministic ops can't be switched off again.
    ended = subprocess.run(
        [sys.executable, "-c", RESUME], cwd=released, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        assert re.fullmatch(r"error: .*\n", ended.stderr)
        return
    assert "going on" in ended.stdout
    history = pd.read_csv(released / "interrupted" / "history.csv")
    assert history[history["phase"] == "train"]["step"].tolist()[:4] == [10, 20, 30, 40]
    assert (released / "interrupted" / "model.keras").is_file()
