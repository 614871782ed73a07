"""The figures of a report, drawn as SVG.

Axes: E epochs, H horizon, K steps of context, N series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_lstm.report.svg import BASELINE, INK, MODEL, MUTED, draw

if TYPE_CHECKING:
    from markupsafe import Markup

#: Most points of a line; more can't be distinguished at the width of a page.
MAX_POINTS = 500
#: Width of a bar of the histogram, in percent.
_BIN = 5
_UNITS = ((1e6, "M"), (1e9, "G"), (1e12, "T"))
#: Dashes of baselines, in their order; the page's style sheet has the same.
_BASELINE_STYLE = ((0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))
#: Most baselines that lines can tell apart.
MOST_BASELINES = len(_BASELINE_STYLE)


@dataclass(frozen=True)
class Past:
    """The last part of a context.

    Attributes:
        ds: Time stamps or steps, `[K]`.
        y: Values, `[K]`; NaN is missing.
    """

    ds: np.ndarray
    y: np.ndarray


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A number on an axis, with as many decimals and the same unit as the others there.

    Args:
        value: The number.
        ticks: All numbers of the axis.

    Returns:
        Text such as `1,500`, `2.5M` or `0.30`, with a true minus sign.
    """
    largest = max(map(abs, ticks), default=0.0)
    size, letter = next((unit for unit in _UNITS if unit[0] <= largest < 1000 * unit[0]), (1.0, ""))
    scaled, slack = [tick / size for tick in ticks], 1e-6 * largest / size
    exact = (index for index in range(6) if all(abs(round(tick, index) - tick) <= slack for tick in scaled))
    digits = next(exact, None)
    text = f"{value:.3g}" if digits is None or largest >= 1e15 else f"{value / size:,.{digits}f}{letter}"
    return text.replace("-", "\N{MINUS SIGN}")


def learning_curve(title: str, step: np.ndarray, losses: Mapping[str, np.ndarray], chosen: int | None) -> "Markup":
    """Losses over training steps.

    Args:
        title: Text alternative of the figure.
        step: Steps, `[E]`.
        losses: `train` and, where there is one, `validation`, each `[E]`, in units of scale.
        chosen: The step whose weights were kept, to be marked; None for no mark.

    Returns:
        The figure.
    """

    def paint(axes: Any) -> None:
        colours = {"train": MUTED, "validation": MODEL}
        for name, loss in losses.items():
            _line(axes, step, loss, color=colours[name], linewidth=1.8)
            if chosen is not None and name == "validation":
                axes.plot(chosen, loss[step == chosen], "o", color=MODEL, markersize=7)
        if chosen is not None:
            axes.axvline(chosen, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        finite = np.concatenate([loss[np.isfinite(loss)] for loss in losses.values()])
        if len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min():
            axes.set_yscale("log")
        _label(axes, "mean loss of an epoch", "training step")

    return draw("learning-curve", title, paint)


def fan_chart(
    name: str,
    title: str,
    past: Past,
    ds: np.ndarray,
    lines: Mapping[str, np.ndarray],
    intervals: Sequence[tuple[np.ndarray, np.ndarray]],
) -> "Markup":
    """One window of one series: its context, the forecast and the actual values.

    Args:
        name: Name of the figure, unique on its page.
        title: Text alternative of the figure.
        past: The last part of the context.
        ds: Time stamps or steps of the forecast, `[H]`.
        lines: `actual`, `median` and, by other names, baselines, each `[H]`; NaN is missing.
        intervals: Lower and upper ends, each `[H]`, the widest interval first.

    Returns:
        The figure.
    """
    keep = thin(len(ds))
    before = thin(len(past.ds))

    def paint(axes: Any) -> None:
        for low, high in intervals:
            if len(ds) == 1:
                axes.vlines(ds, _finite(low), _finite(high), color=MODEL, alpha=0.22, linewidth=9)
            else:
                ends = (_finite(low)[keep], _finite(high)[keep])
                axes.fill_between(ds[keep], *ends, color=MODEL, alpha=0.22, linewidth=0)
        if len(past.ds):
            axes.axvline(past.ds[-1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        others = [values for name, values in lines.items() if name not in ("actual", "median")]
        for values, dashes in zip(others, _BASELINE_STYLE, strict=False):
            _line(axes, ds[keep], values[keep], color=BASELINE, linewidth=1.2, linestyle=dashes)
        when = np.concatenate([past.ds[before], ds[keep]])
        _line(axes, when, np.concatenate([past.y[before], lines["actual"][keep]]), color=INK, linewidth=1.3)
        _line(axes, ds[keep], lines["median"][keep], color=MODEL, linewidth=2)
        dates = ds.dtype.kind == "M"
        _label(axes, "", "" if dates else "step")
        if dates:
            _date_ticks(axes)

    return draw(name, title, paint)


def error_by_step(title: str, errors: Mapping[str, np.ndarray]) -> "Markup":
    """Errors over the horizon.

    Args:
        title: Text alternative of the figure.
        errors: Mean absolute error in units of scale, `[H]`, by model; the LSTM first, then at most
            `MOST_BASELINES`.

    Returns:
        The figure.
    """

    def paint(axes: Any) -> None:
        for index, values in enumerate(errors.values()):
            dashes = _BASELINE_STYLE[index - 1] if index else "-"
            colour = BASELINE if index else MODEL
            _over_horizon(axes, values, color=colour, linewidth=1.6 if index else 2, linestyle=dashes)
        axes.set_ylim(bottom=0)
        _label(axes, "mean absolute error, in units of scale", "steps ahead")

    return draw("error-by-step", title, paint)


def bias_by_step(title: str, bias: np.ndarray) -> "Markup":
    """Mean residuals over the horizon.

    Args:
        title: Text alternative of the figure.
        bias: Mean of actual less forecast, in units of scale, `[H]`.

    Returns:
        The figure.
    """

    def paint(axes: Any) -> None:
        axes.axhline(0, color=MUTED, linewidth=1)
        _over_horizon(axes, bias, color=MODEL, linewidth=2)
        # Noise that is small relative to the errors must not look large.
        limit = max(0.1, 1.15 * float(np.nanmax(np.abs(_finite(bias)))))
        axes.set_ylim(-limit, limit)
        _label(axes, "mean of actual minus forecast, in units of scale", "steps ahead")

    return draw("bias-by-step", title, paint)


def skill_histogram(title: str, skill: np.ndarray) -> "Markup":
    """Distribution of skill over series.

    Args:
        title: Text alternative of the figure.
        skill: Skill of each series, `[N]`; the outermost bars include values beyond -1 and 1.

    Returns:
        The figure.
    """
    inside = 100 * np.clip(skill, -1, 1)
    low = min(np.floor(inside.min() / _BIN), -1)
    high = max(np.ceil(inside.max() / _BIN), 1)
    edges = np.arange(low, high + 1) * _BIN
    count, _ = np.histogram(inside, edges)

    def paint(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        middle = (edges[:-1] + edges[1:]) / 2
        colours = [BASELINE if index < 0 else MODEL for index in middle]
        axes.bar(middle, count, width=0.86 * _BIN, color=colours, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=1)
        _label(axes, "series", "skill in percent")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))

    return draw("skill-histogram", title, paint)


def thin(count: int) -> np.ndarray:
    """Choose the points of a line to draw.

    Args:
        count: Points of the line.

    Returns:
        Indices: all, or `MAX_POINTS` evenly spaced ones with the first and the last.

    Example:
        >>> thin(4)
        array([0, 1, 2, 3])
        >>> len(thin(10_000)), int(thin(10_000)[-1])
        (500, 9999)
    """
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, MAX_POINTS)).round().astype(np.int64))


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan).astype(np.float64)


def _line(axes: Any, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """A line, and a dot for each value without a neighbour to connect to."""
    y = _finite(y)
    finite = np.concatenate([[False], ~np.isnan(y), [False]])
    alone = finite[1:-1] & ~finite[:-2] & ~finite[2:]
    axes.plot(x, y, **style)
    axes.plot(x[alone], y[alone], "o", color=style["color"], markersize=3 * style["linewidth"])


def _over_horizon(axes: Any, values: np.ndarray, **style: Any) -> None:
    keep = thin(len(values))
    _line(axes, keep + 1, values[keep], **style)


def _label(axes: Any, y: str, x: str) -> None:
    """Horizontal names of the axes, and tick labels that fit."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if y:
        axes.get_figure().text(0, 1, y, ha="left", va="top")
    axes.set_xlabel(x, loc="right")
    axes.xaxis.set_major_locator(MaxNLocator(_most_ticks(axes), integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5) if axes.get_yscale() == "linear" else LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        ticks = axis.get_majorticklocs
        axis.set_major_formatter(FuncFormatter(lambda value, _, ticks=ticks: tick_text(value, ticks())))


def _most_ticks(axes: Any) -> int:
    narrow = axes.get_figure().get_figwidth() < 6
    return 5 if narrow else 8


def _date_ticks(axes: Any) -> None:
    from datetime import UTC

    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=2, maxticks=_most_ticks(axes))
    offset_formats = ["", "%Y", "%B %Y", "%d %B %Y", "%d %B %Y", "%d %B %Y %H:%M"]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC, offset_formats=offset_formats))
