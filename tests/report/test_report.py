# ruff: noqa: RUF001 (a page has true minus signs and apostrophes)
"""The report: every section where it has something to show, any text as text, nothing from elsewhere."""

import itertools
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dist_lstm.config.schema import TaskSettings
from dist_lstm.config.training import TrainSettings
from dist_lstm.data.windows import Rolling
from dist_lstm.evaluate.backtest import ComparedMethods, backtest, summarise
from dist_lstm.layout import RunLayout
from dist_lstm.report import figures
from dist_lstm.report.page import Source, render_report
from dist_lstm.report.summary import compare_series, read_digest
from dist_lstm.report.wording import number, percent, skill_sentence
from dist_lstm.storage import write_json
from tests.evaluate.conftest import Prepared, exact, series, spread, zoned

EVIL = "</text></svg><script>alert(1)</script>&amp; $x_1$ {{ 7 * 7 }} \x1b[31m -->"
SCORED = {"scores", "examples", "by-step", "by-series", "residuals"}
ALWAYS = {"learning", "transforms", "data", "machine"}
SETTINGS = {
    "task__horizon": 4,
    "task__context_length": 14,
    "task__season_length": 7,
    "split__validation": 8,
    "split__test": 12,
    "backtest__windows": 3,
    "backtest__stride": 4,
}


class Page(HTMLParser):
    """What a browser would make of a page, as far as the tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((self.open[-1] if self.open else "", data))

    @property
    def sections(self) -> set[str]:
        return {str(attributes["id"]) for tag, attributes in self.tags if tag == "section"}

    @property
    def text(self) -> str:
        return " ".join(" ".join(data for tag, data in self.words if tag != "style").split())


def noise(*names: str, steps: int = 90, **more: Any) -> pd.DataFrame:
    generator = np.random.default_rng(len(names))
    return pd.concat([series(name, 50 + generator.normal(0, 5, steps).cumsum(), **more) for name in names])


def source_of(
    prepared: Prepared,
    folder: Path,
    predict: Any = None,
    validated: bool = True,
    weights: dict[str, float] | None = None,
) -> Source:
    """What a run of these series would leave, by a predictor in the place of a trained model."""
    validation = [0.5, 0.3, 0.4] if validated else [np.nan] * 3
    history = pd.DataFrame({"phase": "train", "epoch": [1, 2, 3], "step": [5, 10, 15], "learning_rate": 1e-3})
    history = history.assign(loss=[0.9, 0.6, 0.5], validation_loss=validation)
    history.to_csv(folder / "history.csv", index=False)
    device = {"name": "GPU:0", "type": "GPU", "model": "A Device"}
    environment = {"devices": [device], "cudnn": True, "input_wait_share": None, "versions": {"keras": "3.1"}}
    write_json(folder / "environment.json", environment)
    training = {"steps": 10, "validation_loss": 0.3, "stopped_early": True, "parameters": 1234, "refit": True}
    metrics: dict[str, Any] = {"training": training}
    if predict is not None:
        settings = prepared.config.backtest
        rolling = Rolling(settings.windows, settings.stride)
        methods = ComparedMethods(prepared.config.backtest.baselines, weights)
        result = backtest(prepared.shards, prepared.task, rolling, predict, folder / "backtest", methods)
        result.scores.to_parquet(folder / "scores.parquet", index=False)
        summary = summarise(result.scores, dict.fromkeys(result.seconds, 1.5))
        write_json(folder / "metrics.json", metrics | {"backtest": summary | result.counts})
        metrics = json.loads((folder / "metrics.json").read_text())
    return Source(
        "a run",
        prepared.config,
        prepared.task,
        prepared.shards,
        metrics,
        RunLayout(folder),
        scored="backtest" in metrics,
    )


@pytest.fixture
def page_of(prepare_frame, tmp_path):
    """Renders the report of series; keywords are settings."""

    def make(frame: pd.DataFrame, predictor: Any = spread, **settings: Any) -> Page:
        prepared = prepare_frame(frame, **SETTINGS | settings)
        predict = predictor(prepared.task) if predictor else None
        text = render_report(source_of(prepared, tmp_path, predict))
        assert len(text) < 2_000_000
        page = Page(text)
        assert page.open == [], "every element is closed"
        return page

    return make


class TestSections:
    def test_a_scored_run_has_every_section(self, page_of):
        assert page_of(noise("a", "b", "c")).sections == SCORED | ALWAYS

    def test_series_named_by_whole_numbers_are_compared_and_drawn(self, page_of):
        frame = noise("1", "10", "2").astype({"unique_id": int})
        page = page_of(frame)
        assert page.sections == SCORED | ALWAYS
        assert {"1", "10", "2"} <= set(page.text.split())

    def test_a_run_without_a_backtest_has_no_scored_section_and_states_the_reason(self, page_of):
        page = page_of(noise("a", "b"), None, split__test=0)
        assert page.sections == ALWAYS
        assert "No steps were kept for testing" in page.text

    def test_the_page_of_a_run_that_is_not_scored_yet_says_so(self, page_of):
        page = page_of(noise("a", "b"), None)
        assert page.sections == ALWAYS
        assert "has not been scored yet" in page.text

    def test_one_series_has_one_chart_and_is_not_compared_with_others(self, page_of):
        page = page_of(noise("a"))
        assert page.sections == (SCORED | ALWAYS) - {"by-series"}
        assert sum(attributes.get("class") == "example" for _, attributes in page.tags) == 1

    def test_a_horizon_of_one_step_has_no_error_by_step(self, page_of):
        page = page_of(noise("a", "b"), task__horizon=1)
        assert page.sections == (SCORED | ALWAYS) - {"by-step"}

    def test_forecasts_that_are_all_missing_leave_dashes_and_no_comparison(self, page_of):
        def nothing(task):
            return lambda panel, cutoffs: (exact(task)(panel, cutoffs)[0] * np.nan, exact(task)(panel, cutoffs)[1])

        page = page_of(noise("a", "b"), nothing)
        assert "can’t be compared" in page.text
        assert {"scores", "learning"} <= page.sections
        assert not {"by-series", "by-step", "residuals"} & page.sections

    def test_series_that_are_all_too_short_for_the_backtest_are_counted(self, prepare_frame, tmp_path):
        prepared = prepare_frame(noise("a", "b"), **SETTINGS)
        settings = prepared.config.backtest.model_copy(update={"windows": 30})
        task = replace(prepared.task, min_context=90)
        longer = replace(prepared, config=prepared.config.model_copy(update={"backtest": settings}), task=task)
        page = Page(render_report(source_of(longer, tmp_path, spread(prepared.task))))
        assert page.sections == ALWAYS
        assert "No series is long enough to be scored" in page.text
        assert "2 series are too short for the backtest" in page.text

    def test_without_a_validation_range_no_step_is_marked(self, prepare_frame, tmp_path):
        prepared = prepare_frame(noise("a"), **SETTINGS)
        page = Page(render_report(source_of(prepared, tmp_path, validated=False)))
        assert "There was no validation range" in page.text
        assert "the chosen step marked" not in page.text

    def test_skipped_steps_and_the_time_limit_are_shown(self, prepare_frame, tmp_path):
        source = source_of(prepare_frame(noise("a"), **SETTINGS), tmp_path)
        page = Page(render_report(source))
        assert "skipped" not in page.text
        assert "time limit" not in page.text
        source.metrics["training"].update(skipped_steps=12, out_of_time=True)
        page = Page(render_report(source))
        assert "12 steps were skipped: their loss was not finite." in page.text
        assert "Training ended at its time limit." in page.text

    def test_few_series_have_one_row_each_and_many_have_a_histogram(self, page_of):
        few = page_of(noise(*(f"s{number}" for number in range(20))))
        assert "Seasonal naive, MASE" in few.text
        many = page_of(noise(*(f"s{number:02}" for number in range(21))))
        assert "Seasonal naive, MASE" not in many.text
        assert "Histogram of skill over 21 series" in many.text

    def test_transforms_are_counted_with_the_results_of_their_tests(self, prepare_frame, tmp_path):
        source = source_of(prepare_frame(noise("a"), **SETTINGS), tmp_path)
        evidence = {"log1p": {"adf": 0.5, "kpss": 0.01, "seasonal_strength": None, "spread": 1.25}}
        values = {"series": 4, "tested": 3, "transforms": {"log1p": 3, "none": 1}, "evidence": evidence}
        manifest = source.shards.manifest.model_copy(update=values)
        page = Page(render_report(replace(source, shards=replace(source.shards, manifest=manifest))))
        assert "log1p the logarithm is forecast 3 75.0 % 0.5000 0.01000 – 1.250" in page.text
        assert "none forecast as it is 1 25.0 % – – – –" in page.text
        assert "3 of 4 series were tested, the others" in page.text

    def test_rejected_series_are_counted_by_reason_and_named(self, page_of):
        frame = pd.concat([noise("a", "b"), *(series(f"gone{number}", [np.nan] * 50) for number in range(7))])
        page = page_of(frame)
        assert "no observed value 7 gone0, gone1, gone2, gone3, gone4 and 2 more" in page.text

    @pytest.mark.parametrize("head", ["mae", "mse"])
    def test_a_point_head_has_no_intervals(self, page_of, head):
        page = page_of(noise("a", "b"), model__head=head)
        assert page.sections == SCORED | ALWAYS
        assert "% interval" not in page.text
        assert "Verdict" not in page.text


class TestData:
    @pytest.mark.parametrize(
        "frame",
        [
            noise("a", "b", start=7, freq=1),
            noise("a", "b", freq="MS"),
            noise("a", "b").assign(y=lambda table: table["y"].where(np.arange(len(table)) % 3 > 0)),
            noise("a", "b").assign(y=lambda table: table["y"] * 1e30),
            noise("a", "b").assign(y=7.5),
            noise("a", "b", steps=31),
        ],
        ids=["integer steps", "months", "gaps", "huge", "constant", "short"],
    )
    def test_every_kind_of_series_has_a_page(self, page_of, frame):
        assert page_of(frame).sections >= ALWAYS | {"scores"}

    @pytest.mark.parametrize(("freq", "zone"), [("h", "Europe/Berlin"), ("D", "America/Sao_Paulo")])
    def test_series_with_a_zone_have_a_page(self, page_of, freq, zone):
        y = 50 + np.random.default_rng(0).normal(0, 5, (2, 90)).cumsum(axis=1)
        frame = pd.concat([zoned(name, one, "2018-10-01", freq, zone) for name, one in zip("ab", y, strict=True)])
        assert page_of(frame).sections == SCORED | ALWAYS

    @pytest.mark.parametrize(("freq", "zone"), [("h", "Europe/Berlin"), ("D", "America/Sao_Paulo")])
    def test_examples_show_the_local_clock(self, prepare_frame, tmp_path, freq, zone):
        frame = zoned("a", np.random.default_rng(0).normal(size=90), "2018-08-15", freq, zone)
        prepared = prepare_frame(frame, **SETTINGS)
        backtest(prepared.shards, prepared.task, Rolling(3, 4), exact(prepared.task), tmp_path / "backtest")
        example = read_digest(
            tmp_path / "backtest", prepared.shards, prepared.task, Rolling(3, 4), ["a"]
        ).examples["a"]
        local = frame["ds"].dt.tz_localize(None).tolist()
        assert pd.Series(example.past.ds).tolist() == local[-4 - len(example.past.ds) : -4]
        assert pd.Series(example.ds).tolist() == local[-4:]

    def test_a_very_long_horizon_is_thinned_to_what_can_be_seen(self, page_of):
        steps = {"task__horizon": 3000, "split__validation": 0, "split__test": 3000, "backtest__windows": 1}
        assert page_of(noise("a", "b", steps=9100), **steps).sections == SCORED | ALWAYS

    def test_thousands_of_series_keep_the_page_small(self, page_of):
        values = np.random.default_rng(0).normal(size=(3000, 42)).cumsum(axis=1)
        names = np.repeat([f"series {number}" for number in range(3000)], 42)
        ds = np.tile(pd.date_range("2024-01-01", periods=42, unit="us"), 3000)
        frame = pd.DataFrame({"unique_id": names, "ds": ds, "y": values.ravel()})
        page = page_of(frame, split__validation=4)
        assert "of 3,000 series" in page.text
        assert sum(len(data) for _, data in page.words) < 100_000


class TestSafety:
    def test_ids_are_text_in_the_page_and_in_its_figures(self, page_of):
        names = [f"{EVIL} {letter}" for letter in "abc"]
        page = page_of(pd.concat([noise(*names), series(f"gone {EVIL}", [np.nan] * 50)]))
        assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "img")]
        titles = [data for tag, data in page.words if tag == "title"]
        assert sum("<script>alert(1)</script>&amp; $x_1$ {{ 7 * 7 }}" in title for title in titles) == 6
        headings = " ".join(data for tag, data in page.words if tag == "h3")
        assert headings.count("<script>alert(1)</script>") == 3
        assert "gone </text></svg><script>alert(1)</script>" in page.text

    def test_the_page_loads_nothing_external_and_runs_no_script(self, page_of):
        page = page_of(noise("a", "b"))
        for tag, attributes in page.tags:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href", "action", "data"):
                assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        style = " ".join(data for tag, data in page.words if tag == "style")
        assert not re.search(r"url\(|@import|@font-face", style)
        policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
        assert str(policy).startswith("default-src 'none'")

    def test_passwords_in_a_uri_are_left_out(self, prepare_frame, tmp_path):
        source = source_of(prepare_frame(noise("a"), **SETTINGS), tmp_path)
        data = source.config.data.model_copy(update={"path": "s3://key:secret@bucket/table.parquet"})
        config = source.config.model_copy(update={"data": data})
        page = Page(render_report(replace(source, config=config)))
        assert "s3://***@bucket/table.parquet" in page.text
        assert "secret" not in page.text


class TestPage:
    def test_headings_are_in_order_and_figures_are_named(self, page_of):
        page = page_of(noise("a", "b", "c"))
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        figures = [attributes for tag, attributes in page.tags if tag == "svg"]
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(figures) == 2 * 6
        assert all(attributes["role"] == "img" and attributes["aria-labelledby"] in ids for attributes in figures)
        assert len(ids) == len(set(ids)), "an id of one figure clips another"

    def test_every_reference_inside_a_figure_has_its_target_there(self, page_of):
        text = json.dumps([attributes for _, attributes in page_of(noise("a", "b", "c")).tags])
        used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'"(?:xlink:)?href": "#([^"]+)"', text))
        assert used
        assert used <= set(re.findall(r'"id": "([^"]+)"', text))

    def test_figures_have_no_colours_or_fonts_of_their_own(self, page_of):
        styles = [attributes.get("style") or "" for _, attributes in page_of(noise("a", "b", "c")).tags]
        assert not [style for style in styles if "#" in style.replace("url(#", "") or "font-family" in style]
        assert any("var(--model)" in style for style in styles)

    def test_the_same_run_gives_the_same_page(self, prepare_frame, tmp_path):
        prepared = prepare_frame(noise("a", "b"), **SETTINGS)
        source = source_of(prepared, tmp_path, spread(prepared.task))
        assert render_report(source) == render_report(source)

    def test_a_users_matplotlib_settings_are_kept_and_have_no_effect(self, prepare_frame, tmp_path):
        import matplotlib as mpl

        source = source_of(prepare_frame(noise("a"), **SETTINGS), tmp_path)
        expected = render_report(source)
        with mpl.rc_context({"xtick.major.size": 30, "svg.fonttype": "path"}):
            assert render_report(source) == expected
            assert mpl.rcParams["xtick.major.size"] == 30

    def test_the_better_score_of_each_row_is_marked(self, page_of):
        for predictor, winner in ((exact, "LSTM"), (lambda task: spread(task, 1), None)):
            page = page_of(noise("a", "b"), predictor)
            marked = [
                attributes["class"]
                for tag, attributes in page.tags
                if tag == "td" and "best" in (attributes.get("class") or "")
            ]
            assert len(marked) == 5, "MAE, RMSE, sMAPE, MASE and RMSSE"
            assert winner is None or not [one for one in marked if "other" in one]

    def test_no_two_sentences_run_into_each_other(self, page_of):
        short, ended = noise("d", steps=10, start="2024-03-21"), noise("e", steps=12)
        text = page_of(pd.concat([noise("a", "b", "c"), short, ended])).text
        assert "validation from 2024-03-11, test from 2024-03-19, to 2024-03-30; 1 of 5 series end before" in text
        assert "the test range, and are not scored. 1 series are too short for the backtest; they are" in text
        assert "they are still forecast. No series" in text
        assert not re.search(r"[a-z)%][.;:][A-Z]", text.replace("data.path", ""))

    def test_every_setting_is_listed_with_its_meaning(self, page_of):
        text = page_of(noise("a"), None).text
        for section, setting, value in ((TaskSettings, "horizon", "4"), (TrainSettings, "patience", "")):
            meaning = section.model_fields[setting].description
            assert f"{setting} {meaning} {value}" in text


class TestDigest:
    def test_streamed_sums_equal_those_of_the_complete_table(self, prepare_frame, tmp_path, monkeypatch):
        monkeypatch.setattr("dist_lstm.report.summary._BATCH_ROWS", 7)  # windows lie across batches
        frame = noise("a", "b", "c")
        frame.loc[(frame["unique_id"] == "b") & (frame["ds"] > "2024-03-25"), "y"] = np.nan
        prepared = prepare_frame(frame, data__trailing="missing", **SETTINGS)
        task = prepared.task
        result = backtest(prepared.shards, task, Rolling(3, 4), spread(task), tmp_path / "backtest")
        digest = read_digest(tmp_path / "backtest", prepared.shards, task, Rolling(3, 4), ["b", "c"])

        table = pd.read_parquet(tmp_path / "backtest")
        scale = {}
        for name, one in frame.groupby("unique_id"):
            before = one["y"].to_numpy()[: -task.test]
            scale[name] = np.nanmean(np.abs(before[7:] - before[:-7]))
        table["scale"] = table["unique_id"].map(scale)
        table["ahead"] = table.groupby(["unique_id", "cutoff"]).cumcount()
        scored = table[table["y"].notna() & table["SeasonalNaive"].notna()]
        residual = (scored["y"] - scored["LSTM"]) / scored["scale"]
        np.testing.assert_allclose(
            digest.mean(digest.error["LSTM"]), residual.abs().groupby(scored["ahead"]).mean(), rtol=1e-5
        )
        np.testing.assert_allclose(
            digest.mean(digest.residual), residual.groupby(scored["ahead"]).mean(), rtol=1e-4
        )
        assert digest.mean_residual == pytest.approx(residual.mean(), rel=1e-4)
        inside = scored["y"].between(scored["LSTM-lo-80"], scored["LSTM-hi-80"])
        assert digest.intervals["80"].tolist() == [
            (scored["y"] < scored["LSTM-lo-80"]).sum(),
            inside.sum(),
            (scored["y"] > scored["LSTM-hi-80"]).sum(),
        ]
        shown = digest.examples["c"]
        last = table[(table["unique_id"] == "c") & (table["cutoff"] == table["cutoff"].max())]
        assert shown.ds.tolist() == last["ds"].to_numpy().tolist()
        np.testing.assert_array_equal(shown.values["LSTM"], last["LSTM"])
        seen = frame[(frame["unique_id"] == "c") & (frame["ds"] <= last["cutoff"].iloc[0])].iloc[-20:]
        np.testing.assert_array_equal(shown.past.ds, seen["ds"].to_numpy())
        np.testing.assert_allclose(shown.past.y, seen["y"], rtol=1e-6)
        assert result.series == 3

    def test_series_are_sorted_by_skill_and_only_comparable_ones_count(self):
        rows = [("good", 1, 2, 5), ("bad", 3, 2, 5), ("lost", 1, 0, 5), ("exact", 0, 0, 5), ("nan", np.nan, 1, 5)]
        table = pd.DataFrame(rows, columns=["unique_id", "LSTM", "SeasonalNaive", "points"])
        both = [
            table[["unique_id", "points"]].assign(model=name, mase=table[name])
            for name in ("LSTM", "SeasonalNaive")
        ]
        both[1].loc[len(both[1])] = ["few", 4, "SeasonalNaive", 1.0]
        both[0].loc[len(both[0])] = ["few", 5, "LSTM", 1.0]
        compared = compare_series(pd.concat(both))
        assert compared["skill"].to_dict() == {"good": 0.5, "exact": 0.0, "bad": -0.5, "lost": -np.inf}
        assert list(compared.index) == ["good", "exact", "bad", "lost"]


class TestWording:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.0, "0"), (1234567.8, "1,234,568"), (12.3456, "12.35"), (0.0123456, "0.01235"), (7, "7"),
            (-0.5, "−0.5000"), (1.5e-7, "1.500e−07"), (3.4e30, "3.400e+30"), (None, "–"), (float("nan"), "–"),
            (float("-inf"), "−∞"), (999.96, "1,000.0"),
        ],
    )  # fmt: skip
    def test_numbers_have_four_digits_and_separators(self, value, text):
        assert number(value) == text

    def test_shares_are_percentages(self):
        texts = [percent(0.15234, sign=True), percent(-2.5), percent(1.0), percent(None), percent(float("-inf"))]
        assert [one.replace("\u00a0", " ") for one in texts] == ["+15.2 %", "−250 %", "100 %", "–", "−∞ %"]

    @pytest.mark.parametrize(
        ("skill", "sentence"),
        [
            (0.1504, "The LSTM’s errors are 15 % smaller than the seasonal naive forecast’s, over 1,007 series."),
            (0.0213, "2.1 % smaller than"),
            (-0.3, "30 % larger than the seasonal naive forecast’s, over 1,007 series: it is the worse forecast."),
            (-2.5, "3.500 times as large as the seasonal naive forecast’s, over 1,007 series: it is the worse"),
            (0.0001, "as large as the seasonal naive forecast’s"),
            (None, "It can’t be compared with the seasonal naive forecast"),
        ],
    )
    def test_skill_is_described_in_plain_words(self, skill, sentence):
        scores = {"LSTM": {}, "skill": skill, "skill_series": 1007}
        assert sentence in skill_sentence(scores, 12).replace("\u00a0", " ")

    @pytest.mark.parametrize(
        ("ticks", "texts"),
        [
            ([0.0, 0.25, 0.5], ["0.00", "0.25", "0.50"]),
            ([-1000, 0, 1000], ["−1,000", "0", "1,000"]),
            ([0, 2.5e6, 5e6], ["0.0M", "2.5M", "5.0M"]),
            ([0, 1e30], ["0", "1e+30"]),
            ([0, 1e-8], ["0", "1e-08".replace("-", "−")]),
        ],
    )
    def test_numbers_on_an_axis_have_the_same_decimals(self, ticks, texts):
        assert [figures.tick_text(tick, ticks) for tick in ticks] == texts


def test_a_figure_is_well_formed_whatever_its_title_holds():
    markup = figures.bias_by_step(EVIL + "\x00", np.array([0.1, np.nan, -0.2]))
    for one in str(markup).split("\n"):
        assert "alert(1)" in (ET.fromstring(one).findtext("title") or "")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_opens_the_page_without_a_console_message(prepare_frame, tmp_path, dark):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        pytest.skip("no Chromium found to open the page in")
    prepared = prepare_frame(noise("a", EVIL, "c"), **SETTINGS)
    path = tmp_path / "report.html"
    path.write_text(render_report(source_of(prepared, tmp_path, spread(prepared.task))), encoding="utf-8")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", "--dump-dom",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    ]  # fmt: skip
    command = [browser, *options, path.as_uri()]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in process.stderr.splitlines() if "CONSOLE" in line] == []
    page = Page(process.stdout)
    assert page.sections == SCORED | ALWAYS
    assert not [tag for tag, _ in page.tags if tag == "script"]


@pytest.mark.parametrize(("freq", "steps"), [("h", 60), ("D", 60), ("MS", 60), ("MS", 120), ("W-SUN", 500)])
def test_stamps_of_any_frequency_are_drawn_without_a_warning(freq, steps, page_of):
    frame = noise("a", steps=steps)
    frame["ds"] = pd.date_range("2024-03-01", periods=steps, freq=freq, tz="Europe/Berlin", unit="us")
    assert "examples" in page_of(frame, task__freq=freq).sections


def test_the_combined_forecast_is_compared_like_a_model_and_its_intervals_are_not(prepare_frame, tmp_path):
    prepared = prepare_frame(noise("a", "b"), task__horizon=7)
    source_of(prepared, tmp_path, spread(prepared.task), weights={"LSTM": 0.5, "Theta": 0.5})
    rolling = Rolling.of(prepared.config.backtest)
    digest = read_digest(tmp_path / "backtest", prepared.shards, prepared.task, rolling, [])
    assert [*digest.error] == ["LSTM", "Combined", *prepared.config.backtest.baselines]
