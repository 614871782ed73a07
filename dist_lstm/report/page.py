"""The report of a run: one HTML page without network access, scripts or other files.

Text from the user's table or config is escaped, in the page and in its figures.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dist_lstm.config.load import flatten
from dist_lstm.config.resolved import ResolvedConfig
from dist_lstm.config.schema import SEASONAL_NAIVE, Config
from dist_lstm.config.task import Task
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.ranges import split_sentence
from dist_lstm.data.shards import Shards
from dist_lstm.data.stationarity import EVIDENCE
from dist_lstm.data.windows import Rolling
from dist_lstm.forecast.table import MODEL, level_name
from dist_lstm.layout import RunLayout
from dist_lstm.metrics import leaderboard
from dist_lstm.report import figures
from dist_lstm.report.summary import Digest, Example, compare_series, read_digest
from dist_lstm.report.wording import NAMES, TRANSFORMS, metric_words, number, percent, skill_sentence

#: Most series that get a row each; with more, the page shows a histogram.
FEW_SERIES = 20
#: Rejected series that are named per reason.
_NAMED = 5
_ENVIRONMENT = {
    "devices": "Devices",
    "replicas": "Replicas",
    "precision": "Precision",
    "cudnn": "cuDNN",
    "windows_per_second": "Training windows per second",
    "steps_per_second": "Training steps per second",
    "input_wait_share": "Time spent waiting for input",
    "peak_memory_mib": "Peak memory, MiB",
    "machine": "Machine",
    "versions": "Versions",
}


@dataclass(frozen=True)
class Source:
    """The files and facts of a run that its report shows.

    Attributes:
        name: Name of the run; any text.
        config: The resolved config.
        task: The task.
        shards: Folder and manifest of the series.
        metrics: Content of `metrics.json`, with `training`.
        files: The run's files.
        scored: Whether there is a backtest.
    """

    name: str
    config: ResolvedConfig
    task: Task
    shards: Shards
    metrics: Mapping[str, Any]
    files: RunLayout
    scored: bool


def render_report(source: Source) -> str:
    """Render the page.

    Args:
        source: Files and facts of the run.

    Returns:
        HTML; identical for identical files.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("dist_lstm.report")
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {"number": number, "percent": percent}
    page = jinja.from_string(folder.joinpath("report.html.j2").read_text(encoding="utf-8"))
    backtest = source.metrics.get("backtest") if source.scored else None
    return page.render(
        style=Markup(folder.joinpath("report.css").read_text(encoding="utf-8")),  # noqa: S704 (a file of the package)
        name=source.name,
        task=source.task,
        manifest=source.shards.manifest,
        trained=datetime.fromtimestamp(source.files.environment.stat().st_mtime, UTC),
        training=source.metrics["training"],
        sentence=skill_sentence(backtest, source.task.test),
        backtest=backtest,
        split=split_sentence(source.shards.manifest, source.task),
        **_scored(source, backtest if backtest and MODEL in backtest else None),
        learning=_learning(source),
        transforms=_transforms(source.shards.manifest),
        rejected=_rejected(source.shards.files.rejected),
        environment=list(_environment(source.files.environment)),
        settings=list(_settings(source.config)),
    )


def _scored(source: Source, totals: Mapping[str, Any] | None) -> dict[str, Any]:
    """The sections that need scores, each None or empty where it has nothing to show."""
    if totals is None:
        return dict.fromkeys(("scores", "examples", "by_step", "residuals", "by_series"))
    series = compare_series(pd.read_parquet(source.files.scores, columns=["unique_id", "model", "points", "mase"]))
    chosen = _choose(series.index.tolist())
    rolling = Rolling.of(source.config.backtest)
    digest = read_digest(source.files.backtest, source.shards, source.task, rolling, list(chosen.values()))
    return {
        "scores": _scores(totals),
        "examples": [
            _example(label, name, digest.examples[name], source.task) | series.loc[name].to_dict()
            for label, name in chosen.items()
        ],
        "by_step": _by_step(digest, leaderboard(totals).models),
        "residuals": _residuals(digest),
        "by_series": _by_series(series),
    }


def _choose(names: list[str]) -> dict[str, str]:
    """The best, the median and the worst of sorted series; fewer labels where there are fewer than three."""
    labels = {0: (), 1: ("Only",), 2: ("Better", "Worse")}.get(len(names), ("Best", "Median", "Worst"))
    indices = np.linspace(0, len(names) - 1, len(labels)).astype(int)
    return {label: names[index] for label, index in zip(labels, indices, strict=True)}


def _scores(totals: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics beside each other, the best of each marked."""
    board, rows = leaderboard(totals), []
    for metric, values in board.rows.items():
        coverage = metric.startswith("coverage-")
        exact = float(metric.removeprefix("coverage-")) / 100 if coverage else 0.0
        distance = [float("nan") if value is None else abs(value - exact) for value in values]
        numbers = [value for value in distance if value == value]
        best = min(numbers) if len(set(numbers)) > 1 else None
        texts = [percent(value) if coverage else number(value) for value in values]
        name, meaning = metric_words(metric)
        cells = [
            {"text": text, "best": one == best, "other": model != MODEL}
            for model, text, one in zip(board.models, texts, distance, strict=True)
        ]
        rows.append({"name": name, "meaning": meaning, "cells": cells})
    return {"models": [NAMES.get(name, name) for name in board.models], "rows": rows}


def _learning(source: Source) -> dict[str, Any]:
    """The first training of the only member, or of the first; and all members, of which there are none for one."""
    training = source.metrics["training"]
    members = training.get("members", [])
    first = members[0] if members else training
    history = pd.read_csv(source.files.history)
    epochs = history[history["phase"] == "train"]
    step = epochs["step"].to_numpy()
    losses = {"train": epochs["loss"].to_numpy(np.float64)}
    validated = epochs["validation_loss"].notna().any()
    if validated:
        losses["validation"] = epochs["validation_loss"].to_numpy(np.float64)
    chosen = int(first["steps"]) if validated else None
    texts = [
        f"{name} loss {number(loss[0])} at first, {number(loss[-1])} at last" for name, loss in losses.items()
    ]
    figure = figures.learning_curve(f"Learning curve: {'; '.join(texts)}.", step, losses, chosen)
    variants = [", ".join(f"{key} {value}" for key, value in one["variant"].items()) for one in members]
    rows = [one | {"variant": variant or "as the run"} for one, variant in zip(members, variants, strict=True)]
    return {
        "figure": figure,
        "validated": bool(validated),
        "first": first,
        "members": rows,
        "smoothed": "smoothed_loss" in epochs,
    }


def _example(label: str, name: str, example: Example, task: Task) -> dict[str, Any]:
    columns = {"median": MODEL} | {one: one for one in example.values if one == SEASONAL_NAIVE}
    lines = {"actual": example.values["y"]} | {line: example.values[one] for line, one in columns.items()}
    levels = [level_name(level) for level in sorted(task.levels, reverse=True)]
    intervals = [
        (example.values[f"{MODEL}-lo-{level}"], example.values[f"{MODEL}-hi-{level}"]) for level in levels
    ]
    title = f"{label} series, {name}: its last steps, the forecast and the actual values."
    figure = figures.fan_chart(f"fan-{label.lower()}", title, example.past, example.ds, lines, intervals)
    return {"label": label, "name": name, "figure": figure}


def _by_step(digest: Digest, ranking: Sequence[str]) -> dict[str, Any] | None:
    """Errors of the model and the best baselines over the horizon; None for one step, or no row with an error."""
    if len(digest.points) < 2 or not digest.points.any():
        return None
    best = [name for name in ranking if name != MODEL and name in digest.error][: figures.MOST_BASELINES]
    errors = {NAMES.get(name, name): digest.mean(digest.error[name]) for name in (MODEL, *best)}
    texts = [
        f"{name} {number(values[0])} one step ahead, {number(values[-1])} {len(values):,} steps ahead"
        for name, values in errors.items()
    ]
    title = f"Mean absolute error by steps ahead, in units of scale: {'; '.join(texts)}."
    return {"figure": figures.error_by_step(title, errors), "baselines": list(errors)[1:]}


def _residuals(digest: Digest) -> dict[str, Any] | None:
    """Bias and calibration; None where no row has an error."""
    intervals = []
    for level, counts in digest.intervals.items():
        if counts.sum():
            below, inside, above = (counts / counts.sum()).tolist()
            intervals.append({"nominal": float(level) / 100, "inside": inside, "below": below, "above": above})
    figure = None
    if len(digest.points) > 1 and digest.points.any():
        title = f"Mean residual by steps ahead, in units of scale; over all steps {number(digest.mean_residual)}."
        figure = figures.bias_by_step(title, digest.mean(digest.residual))
    if not intervals and not digest.points.any():
        return None
    return {"mean": digest.mean_residual, "figure": figure, "intervals": intervals}


def _by_series(series: pd.DataFrame) -> dict[str, Any] | None:
    """Distribution of skill over series; None for fewer than two series."""
    if len(series) < 2:
        return None
    skill = series["skill"].to_numpy()
    result = {
        "series": len(skill),
        "better": int((skill > 0).sum()),
        "median": float(np.median(skill)),
        "beyond": int((np.abs(skill) > 1).sum()),
        "rows": None,
        "figure": None,
    }
    if len(skill) <= FEW_SERIES:
        return result | {"rows": series.reset_index(names="unique_id").to_dict("records")}
    title = (
        f"Histogram of skill over {len(skill):,} series: better than the seasonal naive forecast in "
        f"{result['better']:,}, median {percent(result['median'], sign=True)}."
    )
    return result | {"figure": figures.skill_histogram(title, skill)}


def _transforms(manifest: Manifest) -> list[dict[str, Any]]:
    """The chosen transforms, with the medians of the tests' results."""
    return [
        {
            "name": name,
            "meaning": TRANSFORMS[name],
            "count": count,
            "share": count / manifest.series,
            "evidence": [manifest.evidence.get(name, {}).get(key) for key in EVIDENCE],
        }
        for name, count in sorted(manifest.transforms.items(), key=lambda pair: -pair[1])
    ]


def _rejected(path: Path) -> list[dict[str, Any]]:
    """Rejected series by reason, with the names of the first few."""
    table = pd.read_parquet(path)
    return [
        {"reason": reason, "count": len(rows), "names": rows["unique_id"].iloc[:_NAMED].tolist()}
        for reason, rows in sorted(table.groupby("reason"), key=lambda pair: -len(pair[1]))
    ]


def _environment(path: Path) -> Iterator[tuple[str, str]]:
    result = json.loads(path.read_text(encoding="utf-8"))
    for key in sorted(result, key=lambda name: list(_ENVIRONMENT).index(name) if name in _ENVIRONMENT else 99):
        value = result[key]
        if key == "devices":
            text = ", ".join(f"{device['name']} ({device['model']})" for device in value)
        elif key == "input_wait_share":
            text = percent(value)
        elif isinstance(value, Mapping):
            text = ", ".join(f"{name} {one}" for name, one in value.items())
        elif isinstance(value, bool):
            text = "used" if value else "not used"
        else:
            text = number(value) if isinstance(value, int | float | None) else str(value)
        yield _ENVIRONMENT.get(key, key), text


def _settings(config: Config) -> Iterator[tuple[str, str, str]]:
    """Every setting: key, value, meaning. Reports are shared, so passwords in URIs are left out."""
    for key, value in flatten(config):
        section: Any = config
        *sections, last = key.split(".")
        for name in sections:
            section = getattr(section, name)
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        text = "\N{EN DASH}" if value is None else re.sub(r"(?<=://)[^/@\s]*@", "***@", text)
        yield key, text, type(section).model_fields[last].description or ""
