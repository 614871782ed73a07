"""Parts of the benchmarks of accuracy that no run of a table shows to be right."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmarks.accuracy import cells
from benchmarks.accuracy.cells import Cells
from benchmarks.accuracy.runs import Job, score_windows, standardise, without_test
from benchmarks.accuracy.tables import COMPETITIONS, ROLLING, TABLES
from benchmarks.bench_accuracy import GROUPS, geometric_mean_ratio, summarise
from benchmarks.bench_recipe import CHANGES, NAMES, settings_of
from dist_lstm.config.load import override, parse_config


def frame(lengths: dict[str, int]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"unique_id": name, "ds": np.arange(n), "y": np.arange(n) * 2.0 + 5})
        for name, n in lengths.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_ett_is_standardised_by_its_first_twelve_months_and_ends_after_twenty():
    values = standardise(frame({"a": 15_000, "b": 15_000}))
    assert values.groupby("unique_id").size().tolist() == [14_400, 14_400]
    first = values.groupby("unique_id").head(8640).groupby("unique_id")["y"]
    np.testing.assert_allclose(first.mean(), 0, atol=1e-9)
    np.testing.assert_allclose(first.std(ddof=0), 1)


def test_the_range_that_the_default_backtest_scores_is_cut_off():
    table = ROLLING["us_employment"]  # 24 months ahead
    kept = without_test(frame({"a": 500, "b": 100, "c": 480}), table)
    # The median series has 480 steps: two horizons are a tenth of it.
    assert kept.groupby("unique_id").size().to_dict() == {"a": 500 - 48, "b": 100 - 48, "c": 480 - 48}
    assert without_test(frame({"a": 15_000}), TABLES["etth1_96_96"]).shape[0] == 11_520


def test_a_competition_is_held_one_horizon_earlier():
    kept = without_test(frame({"a": 500, "b": 30}), TABLES["m3_quarterly"])  # 8 quarters ahead
    assert kept.groupby("unique_id").size().to_dict() == {"a": 492, "b": 22}


def test_errors_are_means_over_all_rows_of_all_files(tmp_path: Path):
    for number, error in enumerate(([1.0, -1.0], [3.0])):
        table = pd.DataFrame({"y": np.zeros(len(error)), "LSTM": error})
        table.to_parquet(tmp_path / f"part-{number:05d}.parquet")
    assert score_windows(tmp_path) == {"mse": pytest.approx(11 / 3), "mae": pytest.approx(5 / 3)}


def test_scores_are_averaged_over_seeds_with_their_standard_error():
    def result(mase: float) -> dict:
        scores = {"LSTM": {"mase": mase, "wql": None}, "SeasonalNaive": {"mase": 2.0}}
        return {"scores": scores, "seconds": 3.0, "training": {"steps": 5}, "commit": "abc"}

    summary = summarise([result(1.0), result(2.0)])
    assert summary["scores"]["LSTM"] == {"mase": 1.5, "mase-se": 0.5}
    assert summary["scores"]["SeasonalNaive"] == {"mase": 2.0}
    other = {"scores": {"LSTM": {"mase": 6.0}, "SeasonalNaive": {"mase": 2.0}}}
    assert geometric_mean_ratio({"pbs": summary, "carparts": other}) == pytest.approx(1.5)


def test_only_m4_has_a_published_naive2_with_mase():
    assert {name for name, table in COMPETITIONS.items() if table.naive2} == {"m4_hourly", "m4_weekly"}
    assert COMPETITIONS["m4_hourly"].naive2 == (18.383, 2.395)
    assert {name for names in GROUPS.values() for name in names} == set(TABLES)


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_the_recipe_is_accepted_on_every_table(change):
    for name in NAMES:
        config = parse_config({"task": TABLES[name].task, "data": {"path": "table.parquet"}})
        override(config, settings_of(CHANGES[change], name))


def test_a_run_that_is_done_is_stored_and_one_that_failed_is_tried_again(tmp_path, monkeypatch):
    done: list[tuple[str, int | str]] = []

    def run_job(job: Job, _: Path, __: Path, threads: int | str) -> dict:
        done.append((job.table, threads))
        return {"failed": "no memory"} if job.table == "pbs" else {"scores": {"LSTM": {"mase": job.seed / 2}}}

    monkeypatch.setattr(cells, "run_job", run_job)
    path, console = tmp_path / "runs" / "label.jsonl", Console(file=io.StringIO())
    jobs = [Job(table, {"model.units": [8]}, seed) for table in ("etth1", "pbs") for seed in (1, 2)]
    Cells(path, tmp_path).run_all(jobs, 1.0, 2, console)
    assert sorted(done) == [("etth1", 1), ("etth1", 1), ("pbs", 1), ("pbs", 1)]
    again = Cells(path, tmp_path)
    assert again.get(jobs[1])["scores"]["LSTM"]["mase"] == 1.0
    assert again.get(Job("etth1", {"model.units": [8]}, 1, inside=True)) is None
    again.run_all(jobs, 0.0, 1, console)
    assert len(done) == 4
    assert "2 runs are left" in console.file.getvalue()
    again.run_all(jobs, 1.0, 1, console)
    assert sorted(done[4:]) == [("pbs", "auto")] * 2


def test_a_result_that_was_scored_in_another_way_is_not_taken(tmp_path: Path):
    path, stored = tmp_path / "label.jsonl", {"settings": {}, "seed": 1, "scores": {}}
    tables = [("m3_quarterly", True), ("m3_quarterly", False), ("pbs", True)]
    lines = [json.dumps(stored | {"table": table, "inside": inside}) for table, inside in tables]
    path.write_text("\n".join(lines), encoding="utf-8")
    # Competitions inside of the training range were scored on the backtest before results said so.
    taken = [Cells(path, tmp_path).get(Job(table, {}, 1, inside)) is not None for table, inside in tables]
    assert taken == [False, True, True]
