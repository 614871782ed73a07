"""The figures of a search report, drawn from its trials as SVG.

Axes: N trials.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_lstm.report.figures import tick_text
from dist_lstm.report.svg import BASELINE, INK, MODEL, MUTED, RULE, draw

if TYPE_CHECKING:
    from markupsafe import Markup

#: Height of a row of parallel coordinates, of a bar, and of the margin below them, in CSS pixels.
_ROW, _BAR, _BELOW = 46, 30, 50
_DIGIT = 6.2
#: Trials with the same choice are spread over this share of the distance between choices, so that lines differ.
_SPREAD = 0.35


@dataclass(frozen=True)
class Scale:
    """One row of parallel coordinates.

    Attributes:
        name: The setting, or the score.
        position: Position of each trial, `[N]`, 0 to 1.
        ticks: Positions, 0 to 1, and texts of its labels.
    """

    name: str
    position: np.ndarray
    ticks: Sequence[tuple[float, str]]


def number_scale(name: str, values: np.ndarray, ends: tuple[float, float], log: bool) -> Scale:
    """Make the row of a numeric setting.

    Args:
        name: The setting, or the score.
        values: One number per trial, `[N]`; values outside of `ends` are drawn at the nearer end.
        ends: Smallest and largest value.
        log: Whether the scale is logarithmic.

    Returns:
        The row.
    """
    low, high = np.log(ends) if log else np.asarray(ends, float)
    numbers = np.log(values.astype(float)) if log else values.astype(float)
    position = np.clip((numbers - low) / (high - low), 0, 1)
    return Scale(name, position, [(0.0, _short(ends[0])), (1.0, _short(ends[1]))])


def choice_scale(name: str, number: np.ndarray, labels: Sequence[str]) -> Scale:
    """Make the row of a categorical setting.

    Args:
        name: The setting.
        number: Index of each trial's choice, `[N]`, from 0.
        labels: All choices.

    Returns:
        The row.
    """
    gap = 1 / len(labels)
    offset = (np.arange(len(number)) * 0.618034 % 1 - 0.5) * gap * _SPREAD
    position = (number + 0.5) * gap + offset
    return Scale(name, position, [((one + 0.5) * gap, label) for one, label in enumerate(labels)])


def _short(value: float) -> str:
    return tick_text(float(f"{value:.3g}"), [value]) if abs(value) >= 1e-3 or value == 0 else f"{value:.2g}"


def parallel_coordinates(title: str, scales: Sequence[Scale], rank: np.ndarray, own: int | None) -> "Markup":
    """Parallel coordinates: one line per trial, one row per setting, and the score as the last row.

    Args:
        title: Text alternative of the figure.
        scales: The rows.
        rank: Rank of each trial by score, `[N]`; 0 is the best.
        own: Index of the trial with the config's own settings; None if it has no score.

    Returns:
        The figure as SVG.
    """
    rows = -np.arange(len(scales), dtype=float)
    positions = np.stack([scale.position for scale in scales])

    def paint(axes: Any) -> None:
        axes.grid(False)
        axes.set_yticks(rows, [scale.name for scale in scales])
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_xlim(0, 1)
        axes.set_ylim(rows[-1] - 0.45, 0.4)
        axes.hlines(rows, 0, 1, color=RULE, linewidth=1)
        for trial in np.argsort(-rank, kind="stable"):
            better = rank[trial] < max(1, len(rank) // 4)
            style: dict[str, Any] = {"color": MODEL if better else MUTED, "linewidth": 1.3 if better else 0.8}
            style["alpha"] = 0.6 if better else 0.35
            if rank[trial] == 0:
                style = {"color": MODEL, "linewidth": 2.6}
            elif trial == own:
                style = {"color": BASELINE, "linewidth": 1.8, "linestyle": (0, (4, 2))}
            axes.plot(positions[:, trial], rows, **style)
        width = axes.get_figure().get_figwidth() * 72 - 20 - 7.5 * max(len(scale.name) for scale in scales)
        for row, scale in zip(rows, scales, strict=True):
            limit = max(2, int(width / len(scale.ticks) / _DIGIT))
            for position, text in scale.ticks:
                shown = text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
                ends = len(scale.ticks) == 2 and position in (0.0, 1.0)
                align = {0.0: "left", 1.0: "right"}[position] if ends else "center"
                axes.text(position, row - 0.12, shown, ha=align, va="top", fontsize=11, color=MUTED)

    return draw("parallel", title, paint, height=_ROW * len(scales) + _BELOW)


def score_curves(title: str, curves: Sequence[tuple[np.ndarray, np.ndarray]], best: int, own: int | None,
                 cap: float) -> "Markup":  # fmt: skip
    """Learning curves: scores over training steps, one line per trial.

    Args:
        title: Text alternative of the figure.
        curves: Steps and scores of each trial.
        best: Index of the best trial.
        own: Index of the trial with the config's own settings; None if it has no score.
        cap: Scores above it are not shown.

    Returns:
        The figure as SVG.
    """

    def paint(axes: Any) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        for position, (step, score) in enumerate(curves):
            if position not in (best, own):
                axes.plot(step, score, color=MUTED, linewidth=0.9, alpha=0.45)
                axes.plot(step[-1:], score[-1:], "o", color=MUTED, markersize=3, alpha=0.6)
        if own is not None and own != best:
            axes.plot(*curves[own], color=BASELINE, linewidth=1.8, linestyle=(0, (4, 2)))
        axes.plot(*curves[best], color=MODEL, linewidth=2.4)
        shown = np.concatenate([score[score <= cap] for _, score in curves])
        margin = 0.06 * (cap - shown.min())
        axes.set_ylim(shown.min() - margin, cap + margin)
        axes.get_figure().text(0, 1, "score of the epoch; lower is better", ha="left", va="top")
        axes.set_xlabel("training step", loc="right")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        for axis in (axes.xaxis, axes.yaxis):
            ticks = axis.get_majorticklocs
            axis.set_major_formatter(FuncFormatter(lambda value, _, ticks=ticks: tick_text(value, ticks())))

    return draw("score-curves", title, paint)


def importance_bars(title: str, shares: Mapping[str, float]) -> "Markup":
    """Bars of the importance of each setting.

    Args:
        title: Text alternative of the figure.
        shares: Importance by setting, in shares of 1, the largest first.

    Returns:
        The figure as SVG.
    """
    values, rows = list(shares.values()), -np.arange(len(shares), dtype=float)

    def paint(axes: Any) -> None:
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.barh(rows, values, height=0.5, color=MODEL, linewidth=0)
        axes.set_yticks(rows, list(shares))
        axes.set_xticks([])
        axes.set_xlim(0, 1.2 * max(values))
        axes.set_ylim(rows[-1] - 0.5, 0.5)
        for row, value in zip(rows, values, strict=True):
            axes.text(value + 0.015 * max(values), row, f"{value:.0%}", va="center", color=INK, fontsize=12)

    return draw("importance", title, paint, height=_BAR * len(shares) + _BELOW)
