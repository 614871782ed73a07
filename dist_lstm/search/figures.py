"""The figures of a search: trials to SVG.

Axes: N trials, K settings and the score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_lstm.report.figures import tick_text
from dist_lstm.report.svg import BASELINE, INK, MODEL, MUTED, RULE, draw

if TYPE_CHECKING:
    from markupsafe import Markup

#: Height of a row of parallel coordinates and of a bar, in CSS pixels, and what is below them.
_ROW, _BAR, _BELOW = 46, 30, 50
_DIGIT = 6.2
#: Trials of choices lie beside each other, so that lines can be told apart: within so much of the way to the next.
_SPREAD = 0.35


@dataclass(frozen=True)
class Scale:
    """One row of parallel coordinates.

    Attributes:
        name: What is shown on it.
        position: Where each trial lies, `[N]`, 0 to 1.
        ticks: Places and texts of its labels.
    """

    name: str
    position: np.ndarray
    ticks: Sequence[tuple[float, str]]


def number_scale(name: str, values: np.ndarray, ends: tuple[float, float], log: bool) -> Scale:
    """A row of numbers.

    Args:
        name: What is shown on it.
        values: A number a trial, `[N]`; what lies beyond the ends is drawn at them.
        ends: Least and largest.
        log: Whether equal distances are equal ratios.

    Returns:
        The row.
    """
    low, high = np.log(ends) if log else np.asarray(ends, float)
    numbers = np.log(values.astype(float)) if log else values.astype(float)
    position = np.clip((numbers - low) / (high - low), 0, 1)
    return Scale(name, position, [(0.0, _short(ends[0])), (1.0, _short(ends[1]))])


def choice_scale(name: str, number: np.ndarray, labels: Sequence[str]) -> Scale:
    """A row of choices.

    Args:
        name: What is shown on it.
        number: The choice of each trial, `[N]`, from 0.
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
    """Trials as lines through rows, a row a setting, the last one the score.

    Args:
        title: The figure in words.
        scales: The rows.
        rank: Place of each trial by score, `[N]`, 0 the best.
        own: The trial of the config's own settings; None where it has no score.

    Returns:
        The figure.
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
            room = max(2, int(width / len(scale.ticks) / _DIGIT))
            for position, text in scale.ticks:
                shown = text if len(text) <= room else text[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"
                ends = len(scale.ticks) == 2 and position in (0.0, 1.0)
                align = {0.0: "left", 1.0: "right"}[position] if ends else "center"
                axes.text(position, row - 0.12, shown, ha=align, va="top", fontsize=11, color=MUTED)

    return draw("parallel", title, paint, height=_ROW * len(scales) + _BELOW)


def score_curves(title: str, curves: Sequence[tuple[np.ndarray, np.ndarray]], best: int, own: int | None,
                 cap: float) -> "Markup":  # fmt: skip
    """Scores over training steps, a line a trial.

    Args:
        title: The figure in words.
        curves: Steps and scores of each trial.
        best: Which of them is the best.
        own: Which is that of the config's own settings; None where it has none.
        cap: Scores above it are not shown.

    Returns:
        The figure.
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
        room = 0.06 * (cap - shown.min())
        axes.set_ylim(shown.min() - room, cap + room)
        axes.get_figure().text(0, 1, "score of the epoch; lower is better", ha="left", va="top")
        axes.set_xlabel("training step", loc="right")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        for axis in (axes.xaxis, axes.yaxis):
            ticks = axis.get_majorticklocs
            axis.set_major_formatter(FuncFormatter(lambda value, _, ticks=ticks: tick_text(value, ticks())))

    return draw("score-curves", title, paint)


def importance_bars(title: str, shares: Mapping[str, float]) -> "Markup":
    """How much each setting matters.

    Args:
        title: The figure in words.
        shares: Shares by setting, the largest first.

    Returns:
        The figure.
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
