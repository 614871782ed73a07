"""Fleets from the command line: on a Ray of their own, interrupted, with a series that can't be trained on."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from dist_lstm.config.load import parse_config
from dist_lstm.fleet import run as fleet
from dist_lstm.fleet import tune
from dist_lstm.fleet.pack import OWN, FleetJob
from dist_lstm.fleet.packing import Group, write_packs
from dist_lstm.layout import FleetLayout, part_files
from tests.fleet.fleets import (
    HORIZON,
    SERIES,
    STEPS,
    TELLING,
    finished,
    forecasts,
    make_series,
    start,
    wait_until,
    without_ray,
    write_fleet,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    frames, step = make_series(), np.arange(STEPS)
    frames[3]["y"] = np.where(step % 2, 3e38, -3e38)  # its own model has a non-finite loss
    frames[4] = frames[4].head(14)  # long enough to be forecast, too short to be trained on
    return write_fleet(tmp_path_factory.mktemp("fleet"), frames, global_model=True)


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """The directory and the output of an uninterrupted fleet."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    words = [sys.executable, "-c", TELLING, "fleet", str(config), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=without_ray())
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_series_has_exactly_one_forecast_and_every_model_one_row(undisturbed):
    out, text = undisturbed
    table = forecasts(out)
    counts = table.groupby("unique_id").size()
    assert counts.index.tolist() == [f"s{number:02d}" for number in range(SERIES)]
    assert set(counts) == {HORIZON}
    models = pd.concat([pd.read_parquet(file) for file in part_files(out / FleetLayout.models)])
    assert sorted(models["name"]) == counts.index.tolist()
    assert (out / "_SUCCESS").exists()
    assert f"forecast  {SERIES} series, each by its first usable model: " in text


def test_a_series_whose_own_model_is_unusable_has_the_reason_in_its_scores(undisturbed):
    scores = pd.read_parquet(undisturbed[0] / FleetLayout.series_scores)
    row = scores[scores["model"] == "LSTM"].set_index("unique_id")
    assert row.loc["s03", "reason"].startswith("own: ")
    assert row.loc["s04", "reason"].startswith("own: too short")
    assert {"own"} < set(row["level"])
    assert (row["level"] == "own").sum() > SERIES / 3
    assert row.loc[row["level"] == "own", "reason"].isna().all()


def test_a_finished_fleet_is_not_repeated(config, undisturbed):
    assert "fleet     already done" in finished(start(config, undisturbed[0]))


def test_a_fleet_whose_driver_is_killed_continues_repeats_no_pack_and_gives_the_same_forecasts(
    quick_fleet, tmp_path
):
    (config, undisturbed), out = quick_fleet, tmp_path / "out"
    process = start(config, out)
    wait_until((out / FleetLayout.models / "part-00000.parquet").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in (out / FleetLayout.models).glob("*.parquet")}
    text = finished(start(config, out))
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert "packs already done" in text or "already done" in text
    pd.testing.assert_frame_equal(forecasts(out), forecasts(undisturbed))


def test_a_fleet_with_a_killed_worker_gives_the_same_forecasts(quick_fleet, tmp_path):
    (config, undisturbed), out = quick_fleet, tmp_path / "out"
    process = start(config, out)
    wait_until((out / FleetLayout.models / "part-00000.parquet").exists, process)
    workers = workers_of(process.pid)
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    finished(process)
    pd.testing.assert_frame_equal(forecasts(out), forecasts(undisturbed))


def workers_of(driver: int) -> list[int]:
    """Descendant processes of the driver that run packs."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])

    def below(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == driver:
                return True
        return False

    return sorted(
        pid for pid, name in names.items() if re.match(r"ray::\w*(Trainable|Trial)", name) and below(pid)
    )


def test_the_driver_does_not_import_tensorflow(undisturbed):
    assert undisturbed[1].splitlines()[-1] == "IMPORTED []"


def test_the_models_table_holds_the_weights_of_each_model(undisturbed):
    file = sorted((undisturbed[0] / FleetLayout.models).glob("part-*.parquet"))[0]
    rows = pq.read_table(file).to_pylist()
    assert len({len(row["weights"]) for row in rows}) == 1
    assert all(np.isfinite(row["weights"]).all() for row in rows if row["failure"] is None)


def test_a_pack_whose_worker_dies_while_it_is_handed_over_is_retried(cluster, tmp_path, monkeypatch):
    """Tune itself gives up a trial whose reused actor dies while it is handed over."""
    config = parse_config({"task": {"horizon": 1}, "data": {"path": "none"}, "fleet": {"max_failures": 1}})
    job = FleetJob(tmp_path, str(tmp_path), config, config, None, None)
    packs = [[Group(str(number), np.array([number]))] for number in range(5)]
    write_packs(packs, job.packs(OWN))
    job.models(OWN, 0).parent.mkdir()

    class DyingTrial(tune._trial()):
        def reset_config(self, new_config):
            died = tmp_path / f"died-{new_config['pack']}"
            if new_config["pack"] == 3 and not died.exists():
                died.touch()
                os._exit(1)
            return super().reset_config(new_config)

    @contextmanager
    def open_worker(job, stage):
        def work(number):
            job.models(stage, number).touch()
            return {"models": 1}

        yield work

    monkeypatch.setattr(tune, "_trial", lambda: DyingTrial)
    monkeypatch.setattr(fleet, "_open_worker", open_worker)
    with (tmp_path / "text").open("w") as text:
        fleet._work(job, OWN, Console(file=text, width=200))
    assert (tmp_path / "died-3").exists()
    assert all(job.models(OWN, number).exists() for number in range(5))
    assert "pack 3 was interrupted" in (tmp_path / "text").read_text()
