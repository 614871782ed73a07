"""Matplotlib figures as inline SVG with the colours and the font of the page.

Each figure is drawn twice, for a wide and for a narrow screen, because text is illegible in a wide figure
scaled down to a phone; the page shows one of the two.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from markupsafe import Markup

#: Placeholder colours, each replaced by the CSS variable of the page that has its name.
INK, MUTED, RULE, MODEL, BASELINE = "#0000a1", "#0000a2", "#0000a3", "#0000a4", "#0000a5"
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", MODEL: "--model", BASELINE: "--baseline"}

#: Width and height in CSS pixels, which are also the units of the font sizes.
_SIZES = {"wide": (736, 270), "narrow": (340, 230)}
_POINTS_PER_INCH = 72
#: Upper bounds on the width of a digit and on the height of the labels below the axes, pixels.
_DIGIT, _BELOW = 7.5, 42

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "text.parse_math": False,
    "text.color": MUTED,
    "font.size": 12,
    "axes.labelsize": 12,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.01,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.left": False,
    "ytick.labelcolor": MUTED,
}


def draw(name: str, title: str, paint: Callable[[Any], None], height: int | None = None) -> "Markup":
    """Draw a figure for wide and for narrow screens.

    Args:
        name: Letters, digits and hyphens; unique on the page.
        title: Text alternative of the figure; any text.
        paint: Function that draws on a `matplotlib.axes.Axes`.
        height: In CSS pixels, for both screens; None for the default heights.

    Returns:
        Two `<svg>` elements, of the classes `wide` and `narrow`.
    """
    from markupsafe import Markup

    # ElementTree escaped their text when it serialised the tree.
    return Markup("\n".join(_clean(_plot(paint, size, height), f"{name}-{size}", title) for size in _SIZES))  # noqa: S704


def _plot(paint: Callable[[Any], None], size: str, fixed_height: int | None) -> str:
    """The SVG as Matplotlib writes it, independent of pyplot and of the user's Matplotlib settings."""
    from matplotlib import style
    from matplotlib.figure import Figure

    width, height = _SIZES[size]
    height = fixed_height or height
    text = io.StringIO()
    with style.context(["default", _STYLE | {"svg.hashsalt": size}]), warnings.catch_warnings():
        # The page's font may have glyphs that Matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure((width / _POINTS_PER_INCH, height / _POINTS_PER_INCH))
        axes = figure.add_subplot()
        paint(axes)
        # A layout engine would draw everything twice and measure text in a font other than the page's.
        left = 10 + _DIGIT * max(len(label.get_text()) for label in axes.get_yticklabels())
        top = height - (28 if figure.texts else 8)
        axes.set_position((left / width, _BELOW / height, (width - left - 12) / width, (top - _BELOW) / height))
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _clean(text: str, name: str, title: str) -> str:
    """Prepare an SVG for embedding: no fixed size, font, colours or style sheet, and unique ids."""
    root = ET.fromstring(text)  # noqa: S314 (Matplotlib wrote it)
    _drop(root, "metadata")
    _drop(root, "style")
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', text))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = dict(_attributes(element, used, name))
        if element.tag not in ("text", "tspan"):
            element.text = None
        element.tail = None
    label = ET.Element("title", {"id": f"{name}-title"})
    label.text = _printable(title)
    root.insert(0, label)
    root.attrib = {
        "class": name.rpartition("-")[2],
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title",
    }
    return ET.tostring(root, encoding="unicode")


def _printable(text: str) -> str:
    """The text without control characters, which XML does not allow even when escaped."""
    return "".join(char if char.isprintable() else " " for char in text)


def _drop(root: ET.Element, kind: str) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag.endswith("}" + kind)]:
            parent.remove(child)


def _attributes(element: ET.Element, used: set[str], name: str) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        key = key.rpartition("}")[2]  # noqa: PLW2901 (xlink:href is href)
        if key == "id":
            if value in used:
                yield key, f"{name}-{value}"
        elif key == "style":
            yield key, _themed(value)
        elif key in ("d", "x", "y", "transform"):
            # A hundredth of a pixel is finer than any screen.
            yield key, re.sub(r"-?\d+\.\d{3,}", lambda result: f"{float(result.group()):.2f}", value).strip()
        elif key in ("clip-path", "href"):
            yield key, value.replace("#", f"#{name}-")
        elif key not in ("width", "height") or element.tag == "rect":
            yield key, value


def _themed(css: str) -> str:
    rules = [rule.strip() for rule in css.split(";")]
    kept = "; ".join(rule for rule in rules if rule and not rule.startswith("font-family"))
    for colour, variable in _VARIABLES.items():
        kept = kept.replace(colour, f"var({variable})")
    return kept
