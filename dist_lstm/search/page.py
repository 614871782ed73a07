"""The report of a search: one self-contained HTML page, in the style of a run's report."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from dist_lstm.config.load import flatten
from dist_lstm.config.schema import Config
from dist_lstm.config.search import Domain, labels_of
from dist_lstm.report.wording import number, percent
from dist_lstm.search import figures
from dist_lstm.search.importance import importance, label_of

#: Maximum number of trials that are listed, and of curves that are drawn.
_LISTED, _DRAWN = 20, 200
_ALGORITHMS = {
    "optuna": "Optuna (TPE)",
    "random": "random values",
    "grid": "all combinations",
    "pbt": "population based",
}


def render_search(name: str, config: Config, trials: pd.DataFrame, has_run: bool) -> str:
    """Render the report of a search.

    Args:
        name: Name of the search; any text.
        config: The config of the search.
        trials: The table of trials, as `table_of` returns it; at least one trial has a score.
        has_run: Whether there is a run of the best trial, with its report.

    Returns:
        The page as HTML; the same for the same trials.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {"number": number, "percent": percent}
    page = jinja.from_string(files("dist_lstm.search").joinpath("search.html.j2").read_text(encoding="utf-8"))
    domains = config.search.domains
    scored = trials[trials["score"].notna()].sort_values(["score", "trial"]).reset_index(drop=True)
    own = scored[scored["own"]]
    return page.render(
        style=Markup(files("dist_lstm.report").joinpath("report.css").read_text(encoding="utf-8")),  # noqa: S704 (packaged file)
        name=name,
        best=_trial(scored.iloc[0], domains),
        own=None if own.empty else _trial(own.iloc[0], domains),
        sentence=_sentence(scored, trials),
        facts=_facts(config, trials),
        settings=list(domains),
        trials=[_trial(row, domains) for _, row in scored.head(_LISTED).iterrows()],
        scored=len(scored),
        figures=_figures(scored, domains),
        importance=_importance(scored, domains),
        failures=_failures(trials),
        has_run=has_run,
        search=[(f"search.{key}", _text(value)) for key, value in flatten(config.search) if key != "space"],
        space=[(key, f"{kind} {json.dumps(given)}") for key, (kind, given) in domains.items()],
    )


def _trial(row: pd.Series, domains: Mapping[str, Domain]) -> dict[str, Any]:
    result = {key: row[key] for key in ("trial", "score", "status", "epochs", "seconds")}
    return result | {"settings": {key: _text(row[key]) for key in domains}}


def _text(value: Any) -> str:
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, bool) or plain is None:
        return json.dumps(plain)
    return number(plain) if isinstance(plain, int | float) else str(plain)


def _sentence(scored: pd.DataFrame, trials: pd.DataFrame) -> str:
    """The result of the search in one sentence."""
    best, own = scored.iloc[0], scored.loc[scored["own"], "score"]
    result = f"The best of {len(trials):,} trials has a score of {number(best['score'])}"
    if own.empty:
        return f"{result}; the config\N{RIGHT SINGLE QUOTATION MARK}s own settings have none."
    if best["own"]:
        return f"{result}: no other settings were better than the config\N{RIGHT SINGLE QUOTATION MARK}s own."
    share = 1 - best["score"] / own.iloc[0]
    return f"{result}, {percent(share)} below that of the config\N{RIGHT SINGLE QUOTATION MARK}s own settings."


def _facts(config: Config, trials: pd.DataFrame) -> list[tuple[str, str]]:
    counts = trials["status"].value_counts()
    result = [("Trials", number(len(trials)))]
    names = {"done": "Trained to the end", "stopped": "Stopped early", "failed": "Failed"}
    result += [(label, number(int(counts[key]))) for key, label in names.items() if key in counts]
    spent = timedelta(seconds=round(float(trials["seconds"].sum())))
    return [
        *result,
        ("Epochs", number(int(trials["epochs"].sum()))),
        ("Time of all trials", str(spent)),
        ("Settings searched", number(len(config.search.space))),
        ("Chosen by", _ALGORITHMS[config.search.algorithm]),
    ]


def _cap(scores: np.ndarray) -> float:
    """Upper limit of the scores that are shown: far worse ones would only compress the others."""
    best, middle, worst = np.nanmin(scores), np.nanmedian(scores), np.nanmax(scores)
    return float(min(worst, best + 3 * (middle - best))) if middle > best else float(worst)


def _figures(scored: pd.DataFrame, domains: Mapping[str, Domain]) -> dict[str, Any]:
    """Parallel coordinates, None unless there are two different scores, and learning curves."""
    drawn = scored.head(_DRAWN)
    scores = drawn["score"].to_numpy(float)
    position = drawn.index[drawn["own"]]
    own = int(position[0]) if len(position) else None
    curves = [
        (np.asarray(row["curve_step"]), np.asarray(row["curve_score"], float)) for _, row in drawn.iterrows()
    ]
    result: dict[str, Any] = {"parallel": None, "capped": False, "drawn": len(drawn)}
    if len(drawn) > 1 and scores.max() > scores.min():
        cap = _cap(scores)
        scales = [_scale(key, drawn[key], domain) for key, domain in domains.items()]
        score = figures.number_scale("score", scores, (scores.min(), cap), log=False)
        result["capped"] = bool(cap < scores.max())
        if result["capped"]:
            low, (position, label) = score.ticks
            score = replace(score, ticks=[low, (position, f"{label} and more")])
        scales.append(score)
        title = f"Parallel coordinates of {len(drawn)} trials: one line per trial, one row per setting and score."
        result["parallel"] = figures.parallel_coordinates(title, scales, np.arange(len(drawn)), own)
    ends = np.concatenate([curve[1][np.isfinite(curve[1])] for curve in curves])
    cap = max(_cap(ends), float(np.nanmin(ends)) * 1.02)
    title = f"Scores of {len(curves)} trials over training steps; the best ends at {number(scores[0])}."
    result["curves"] = figures.score_curves(title, curves, 0, own, cap)
    return result


def _scale(key: str, values: pd.Series, domain: Domain) -> figures.Scale:
    kind, given = domain
    name = key.rsplit(".", maxsplit=1)[-1]
    if kind == "choice":
        labels = labels_of(domain)
        positions = np.array([labels.index(label_of(value, domain)) for value in values])
        return figures.choice_scale(name, positions, [label.strip('"') for label in labels])
    return figures.number_scale(name, values.to_numpy(), (given[0], given[1]), log=kind == "loguniform")


def _importance(scored: pd.DataFrame, domains: Mapping[str, Domain]) -> Any:
    shares = importance(scored, domains)
    if shares is None:
        return None
    listed = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
    return figures.importance_bars(f"Importance of settings: {listed}.", shares)


def _failures(trials: pd.DataFrame) -> list[dict[str, Any]]:
    failed = trials[trials["status"] == "failed"]
    return [
        {"reason": reason, "trials": [int(one) for one in rows["trial"]]}
        for reason, rows in sorted(failed.groupby("reason"), key=lambda pair: -len(pair[1]))
    ]
