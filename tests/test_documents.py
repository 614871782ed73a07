"""README, docs and benchmark texts: what they show exists, and their numbers are those of the results files."""

import ast
import json
import re
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import pytest

from benchmarks.bench_fleet import THETA
from benchmarks.gpu.goals import goals
from benchmarks.simulate_cluster import duration
from dist_lstm.config.load import flatten
from dist_lstm.config.schema import Config
from tests.conftest import ROOT

README = ROOT / "README.md"
BENCHMARKS = ROOT / "benchmarks" / "README.md"
PAGES = ROOT / "docs" / "pages"
#: Written by people; the other pages are generated.
GUIDES = sorted(set(PAGES.glob("*.md")) - {PAGES / name for name in ("settings.md", "api.md", "architecture.md")})
TEXTS = [README, ROOT / "CONTRIBUTING.md", BENCHMARKS, ROOT / "cluster" / "README.md", *GUIDES]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def results(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def table(path: Path, header: str) -> list[list[str]]:
    """The cells of the rows of the Markdown table whose header begins so."""
    lines = path.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| {header}"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows


def words(path: Path) -> str:
    """The text with single spaces, so that a sentence may be wrapped anywhere."""
    return " ".join(path.read_text().split())


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_setting_that_is_named_exists(path):
    config = Config.model_validate({"task": {"horizon": 1}, "data": {"path": "x"}})
    settings = {key for key, _ in flatten(config)}
    prefixes = {key.rpartition(".")[0] for key in settings}
    sections = "|".join(type(config).model_fields)
    named = re.findall(rf"(?:`|--set )((?:{sections})\.[a-z_][a-z_.]*[a-z])", path.read_text())
    files = {"model.keras", "search.html"}
    assert [key for key in named if key not in settings | prefixes | files and "search.space" not in key] == []


def verbs() -> set[str]:
    """The verbs of the command line; it is imported here, so that nothing else waits for it."""
    from typer.main import get_command

    from dist_lstm.cli.main import app

    return set(get_command(app).commands)


def test_the_command_line_page_shows_every_verb_once():
    rows = [row[0] for row in table(PAGES / "commands.md", "command")]
    shown = [match[1] for match in (re.match(r"`dist-lstm (\w+)", row) for row in rows) if match]
    assert sorted(shown) == sorted(verbs())


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_command_that_is_shown_has_a_verb_that_exists(path):
    shown = re.findall(
        r"(?:`|\$ |^ *|run |[A-Z_]+=\S+ )dist-lstm(?: -q)? ([a-z]+)\b", path.read_text(), re.MULTILINE
    )
    assert set(shown) <= verbs()


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_file_that_is_linked_to_exists(path):
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]+)?\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def texts_of_the_package() -> str:
    """All string literals of the package, with … for what is put in."""
    literals = []
    for path in (ROOT / "dist_lstm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                literals.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                literals.append(node.value)
    return "\n".join(literals)


def test_every_message_under_troubleshooting_is_one_of_the_package():
    headings = re.findall(r'^### "(.*)"$', (PAGES / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(headings) >= 20
    messages = texts_of_the_package()
    assert [heading for heading in headings if heading not in messages] == []


@pytest.mark.parametrize("path", [README, PAGES / "benchmarks.md"], ids=name_of)
def test_the_scores_of_the_configs_are_those_of_their_results_file(path):
    scores = results("configs")
    shown = (("quickstart", "backtest"), ("m3_monthly", "backtest"), ("m3_monthly", "test"))
    assert [row[-3:] for row in table(path, "config | scored on")] == [
        [f"{one['LSTM']['mase']:.3f}", f"{one['SeasonalNaive']['mase']:.3f}", f"{one['skill']:+.1%}"]
        for one in (scores[name][kind] for name, kind in shown)
    ]


def test_the_skill_over_the_public_tables_is_that_of_its_results_file():
    backtests = [one["backtest"] for one in results("data")["tables"].values()]
    skills = [one["skill"] for one in backtests]
    coverage = [one["LSTM"]["coverage-80"] for one in backtests]
    text = words(README)
    assert f"each of {len(skills)} public tables, the median skill is {median(skills):+.1%}" in text
    assert f"from {min(skills):+.1%} to {max(skills):+.1%}; {sum(one < 0 for one in skills)} of them" in text
    assert f"cover {median(coverage):.0%} of" in text
    assert f"from {min(coverage):.0%} to {max(coverage):.0%}." in text


def test_the_table_of_public_tables_is_that_of_its_results_file():
    expected = []
    for name, one in results("data")["tables"].items():
        model, naive = (one["backtest"][key] for key in ("LSTM", "SeasonalNaive"))
        counts = [name, f"{one['series']:,}", f"{one['steps']:,}"]
        errors = [f"{model['mase']:.3f}", f"{naive['mase']:.3f}"]
        shares = [f"{one['backtest']['skill']:+.1%}", f"{model['coverage-80']:.0%}"]
        expected.append([*counts, *errors, *shares, f"{one['training']['steps']:,}"])
    assert table(BENCHMARKS, "table | series") == expected


def runs(name: str) -> dict[str, dict[str, float]]:
    """MASE by model of the runs with defaults in a file of runs, by table."""
    lines = (ROOT / "benchmarks" / "results" / "runs" / f"{name}.jsonl").read_text().splitlines()
    stored = [one for one in map(json.loads, lines) if not one["settings"]]
    return {one["table"]: {model: scores["mase"] for model, scores in one["scores"].items()} for one in stored}


def test_the_table_of_the_defaults_before_and_now_is_that_of_their_runs():
    before, now = runs("recipe"), runs("defaults")
    expected, ratios = [], []
    for name in sorted(before):
        ratios.append(now[name]["LSTM"] / before[name]["LSTM"])
        both = [f"{one[name]['LSTM']:.3f}" for one in (before, now)]
        expected.append([name, *both, f"{ratios[-1] - 1:+.1%}", f"{now[name]['Theta']:.3f}"])
    assert table(BENCHMARKS, "MASE inside the training range") == expected
    assert f"geometric mean of the ratios is {geometric_mean(ratios):.3f}" in words(BENCHMARKS)


def test_the_table_of_baselines_is_that_of_its_results_file():
    stored, expected = results("baselines"), []
    for name, one in stored["tables"].items():
        cells = [name, f"{one['series']:,}"]
        for baseline in ("SeasonalNaive", "Naive2", "Theta", "DampedTrend"):
            published = stored["published"].get(name, {}).get(baseline)
            beside = f" ({published[0]:.2f})" if published else ""
            cells.append(f"{one['baselines'][baseline]['smape']:.2f}{beside}")
        speeds = [one["baselines"][baseline]["series_per_second"] for baseline in ("Theta", "DampedTrend")]
        expected.append([*cells, *(f"{speed:,}" for speed in speeds)])
    assert table(BENCHMARKS, "sMAPE | series") == expected


def test_what_is_said_of_published_baselines_is_what_the_results_file_holds():
    stored, text = results("baselines"), words(BENCHMARKS)
    off = {}
    for name, rows in stored["published"].items():
        for baseline, (smape, *mase) in rows.items():
            one = stored["tables"][name]["baselines"][baseline]
            off[name, baseline] = abs(one["smape"] / smape - 1)
            if baseline != "Theta" and mase:
                assert [one["smape"], one["mase"]] == [smape, *mase], "to the last digit"
    quarterly, monthly = (100 * off[f"m3/{name}", "Naive2"] for name in ("quarterly", "monthly"))
    assert f"quarterly series differ by {quarterly:.1f} % and monthly ones by {monthly:.1f} %" in text


def test_the_ratios_of_a_training_step_are_those_of_their_results_file_with_their_ranges():
    ratios = results("step")["ratios"]
    names = ("framework / bare", "framework / peer", "mirrored / framework")
    expected = [
        [f"{one['median']:.2f}", f"{one['least']:.2f} to {one['greatest']:.2f}"]
        for one in (ratios[name] for name in names)
    ]
    tables = (
        table(BENCHMARKS, "ratio | median"),
        table(README, "compared with | median ratio"),
        table(PAGES / "benchmarks.md", "compared with | median ratio"),
    )
    for rows in tables:
        assert [row[1:3] for row in rows] == expected[: len(rows)]
        for row, name in zip(rows, names, strict=False):
            includes_one = ratios[name]["least"] <= 1 <= ratios[name]["greatest"]
            assert row[-1].startswith("about equal") == includes_one, name


def test_the_speeds_of_a_training_step_are_those_of_their_results_file():
    turns = results("step")["turns"]
    for row, name in zip(table(BENCHMARKS, "| windows/s"), ("framework", "bare", "peer", "mirrored"), strict=True):
        speeds = [[one["windows_per_second"] for one in turns[name][threads]] for threads in ("1", "2")]
        assert row[1:3] == [f"{median(one):,.0f}" for one in speeds]


def test_the_speeds_of_the_ways_to_train_many_models_are_those_of_their_results_file():
    speed = results("fleet")["speed"]["results"]
    ways = ("fit", "reset", "trials", "peer", *(f"fused {count}" for count in (1, 4, 16, 64, 256)))
    assert [row[1:] for row in table(BENCHMARKS, "series per second")] == [
        [f"{speed[updates][way]['series/s']:#.2g}".rstrip(".") for updates in ("30", "100", "300")] for way in ways
    ]


@pytest.mark.parametrize("path", [BENCHMARKS, PAGES / "fleets.md"], ids=name_of)
def test_the_ratios_of_the_fused_models_are_those_of_their_results_file(path):
    speed = {name: one["series/s"] for name, one in results("fleet")["speed"]["results"]["100"].items()}
    header = "ratio at 100 updates" if path == BENCHMARKS else "compared with | 256"
    ways = [name for name in speed if name in ("fit", "reset") or "peer" in name or "neural" in name]
    assert [row[1:4] for row in table(path, header)] == [
        [f"{speed[f'fused {count}'] / speed[way]:.1f}" for count in (256, 64, 16)] for way in ways
    ]


def test_the_errors_of_the_fleets_on_m3_are_those_of_their_results_file():
    accuracy = results("fleet")["accuracy"]["results"]
    expected = []
    for name, one in accuracy.items():
        levels = [str(one["levels"][level]) for level in ("own", "group", "global", "naive")]
        errors = [f"{value:.2f}" for value in (one["fleet"]["smape"], one["global"]["smape"], THETA[name])]
        expected.append([name, f"{one['series']:,}", *levels, *errors, f"{one['seconds']:.0f}"])
    assert table(BENCHMARKS, "M3 | series | own") == expected
    short = [[row[0], row[1], row[6], row[7]] for row in expected]
    assert table(PAGES / "fleets.md", "M3 | series | fleet") == short
    monthly, theta = accuracy["monthly"], THETA["monthly"]
    fleets, readme = words(PAGES / "fleets.md"), words(README)
    assert f"takes {monthly['seconds']:.0f} s, their global model included" in fleets
    assert f"sMAPE {theta:.2f} on the monthly series, {monthly['global']['smape']:.2f} here" in readme
    assert all(THETA[name] < one["global"]["smape"] for name, one in accuracy.items()), "as the README says"


def test_the_packs_per_second_are_those_of_their_results_file():
    rates = results("fleet")["packs"]["results"]["packs/s"]
    rows = [row[1:] for row in table(BENCHMARKS, "handed out by")]
    assert rows == [[f"{value:.0f}" for value in (median(one), min(one), max(one))] for one in rates.values()]
    parts = results("fleet")["packs"]["results"]["profile"]["parts"]
    assert table(BENCHMARKS, "part of a step of the controller") == [
        [name, f"{one['calls']:.0f}", f"{one['ms']:.1f}"] for name, one in parts.items()
    ]


def test_the_memory_of_generated_fleets_is_that_of_its_results_file():
    sizes = results("fleet")["size"]["results"]
    assert table(BENCHMARKS, "series | peak memory") == [
        [f"{int(series):,}", *(f"{one[key]:,.0f}" for key in ("peak_mib", "command_mib", "seconds"))]
        for series, one in sizes.items()
    ]
    more = sizes["20000"]["peak_mib"] / sizes["10000"]["peak_mib"] - 1
    assert f"20,000 generated series take {100 * more:.1f} % more memory than 10,000" in words(PAGES / "fleets.md")


def rounded(seconds: float) -> str:
    """As `duration` says it, with two digits where it has three."""
    number, unit = duration(seconds).split()
    digits = f"{float(number):.0f}" if float(number) >= 10 else number
    return f"{digits} {unit}"


def test_the_table_of_the_simulation_is_that_of_its_results_file_and_says_so():
    simulated = results("simulation")
    rows = {(row[0], row[1]): row[2:] for row in table(PAGES / "fleets.md", "series | nodes of")}
    for one in simulated["results"]:
        cells = rows.pop((f"{one['series'] // 1_000_000} million", f"{one['nodes']:,}"), None)
        assert cells in (None, [rounded(one["default"]), rounded(one["best"]), f"{one['packs']:,}"])
    assert rows == {}
    text, costs = words(PAGES / "fleets.md"), simulated["costs"]
    assert "**simulated, not run**" in text
    assert f"at {1000 * costs['series']:.1f} ms per series" in text
    assert f"starts {1 / costs['trial']:.0f} trials per second" in text
    assert f"W / {costs['model'] / costs['trial']:.1f} models" in text


def test_the_seconds_of_the_start_are_those_of_their_results_file():
    shown = [median(one) for one in results("start")["seconds"].values()]
    text = words(BENCHMARKS)
    assert f"`--help` {shown[0]:.2f} s" in text
    assert f"{shown[1]:.1f} s after the command" in text


def test_the_speed_of_a_step_on_a_gpu_is_that_of_its_results_file():
    lines = results("gpu")["items"]["steps"]["lines"]
    cells = {name: one for name, one in lines.items() if "input_wait_share" in one}
    expected = {}
    for one in cells.values():
        units, batch = one["cell"]["units"], one["cell"]["batch"]
        speeds = [f"{one['windows_per_second'][name]:,}" for name in ("framework", "ready", "torch")]
        ratios = [f"{one['ratios'][f'framework / {name}']['median']:.2f}" for name in ("ready", "torch")]
        expected[f"{len(units)} x {units[0]}, {batch}"] = [
            *speeds,
            *ratios,
            f"{100 * one['input_wait_share']:.1f} %",
        ]
    assert {name: row for name, *row in table(BENCHMARKS, "units, batch")} == expected
    ratios = {
        name: [one["ratios"][f"framework / {name}"]["median"] for one in cells.values()]
        for name in ("ready", "torch")
    }
    ranges = [f"{min(ratios[name]):.2f} to {max(ratios[name]):.2f} of " for name in ratios]
    for text in (README, PAGES / "benchmarks.md"):
        assert f"{ranges[0]}a bare step and {ranges[1]}`torch.nn.LSTM`" in words(text)
    goal = {one.name.partition(",")[0]: one.value for one in goals(lines)}
    text = words(BENCHMARKS)
    assert f"(lowest: {goal['framework / ready']:.2f})" in text
    assert f"geometric mean ({goal['framework / torch']:.2f})" in text
    kernels = lines["kernels: 2 x 64 units, batch 256, context 96"]["windows_per_second"]
    assert f"{kernels['V3, an op per layer']:,} windows/s, PyTorch's {kernels['torch, 2 layers']:,}" in text


def test_other_answers_of_the_gpu_are_those_of_its_results_file():
    items = results("gpu")["items"]
    lines = {name: item["lines"] for name, item in items.items()}
    quickstart = lines["quickstart"]["quickstart"]
    (forecasting,) = lines["forecasting"].values()
    loss = {name.rpartition(", ")[2]: one["loss"] for name, one in lines["precision"].items() if "loss" in one}
    ratios = lines["precision"]["speed"]["ratios"]
    (mirrored,) = lines["mirrored"].values()
    fused = lines["fused"]["256 models"]["ratios"]["GPU / one CPU core"]["median"]
    graph = lines["cudnn"]["training graph"]
    difference = lines["cudnn"]["network on GPU and CPU"]["difference"]
    assert graph["holds_cudnn"]
    assert not graph["holds_loop"]
    assert [row[1] for row in table(BENCHMARKS, "question | answer")] == [
        "yes",
        f"forecasts differ by {difference:.1e} of the scale at most".replace("e-0", "e-"),
        f"{quickstart['seconds']} s, {quickstart['seconds_by_stage']['train']} s of them training and refit, "
        f"skill {quickstart['backtest']['skill']:+.1%}",
        f"{loss['float32']:.4f}, {loss['tf32']:.4f}, {loss['float16']:.4f}",
        f"{ratios['tf32 / float32']['median']:.2f}, {ratios['float16 / float32']['median']:.2f}",
        f"{fused:.1f}",
        f"{mirrored['ratios']['mirrored / none']['median']:.2f}",
        f"{forecasting['series_per_second']:,} series per second, "
        f"{forecasting['series_per_second_with_prepare']:,} with preparing them",
    ]
    assert f"forecasts {forecasting['series_per_second']:,} series per second" in words(README)
    assert f"stays at {loss['bfloat16']:.4f}" in words(BENCHMARKS)
    wrong = results("gpu_probes")["gradients"]["bfloat16"]
    low, high = wrong["loop"]
    assert f"by {wrong['cuDNN'][0]:.0%}".replace("%", " %") in words(BENCHMARKS)
    assert f"by {100 * low:.1f} % to {100 * high:.1f} %" in words(BENCHMARKS)
