"""Draw which package imports which, as `pages/images/architecture.svg`.

    uv run python docs/architecture.py

Packages above `layout` stand in rows, each above what it imports. Arrows that follow from others are left out.
Packages from `layout` down serve all of them and are drawn as bars, in the order of import-linter's layers.

Words of graph drawing: a rank is a row, counted from the bottom; an arrow over several ranks bends at a joint in
each rank it passes.
"""

import itertools
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
IMAGE = ROOT / "docs" / "pages" / "images" / "architecture.svg"
PACKAGE = "dist_lstm"
#: The first layer that is drawn as a bar.
BARS = "layout"

WIDTH, BOX, BOX_HEIGHT, RANK_HEIGHT, GAP, JOINT, BAR_HEIGHT = 920, 210, 80, 126, 22, 14, 34
#: Fill and outline. They are light, with dark text on them, so that they suit a light and a dark page.
COLORS = {
    "Ray": ("#ffe3b8", "#c77f0a"),
    "TensorFlow": ("#d5ecd4", "#3d8b40"),
    "neither": ("#dde5f6", "#5470b5"),
}
LINE = "#8089a0"
NAME = 'font-size="14" font-weight="700" fill="#1c2333"'
ROLE = 'font-size="11.5" font-weight="400" fill="#465066"'

Edge = tuple[str, str]


@dataclass(frozen=True)
class Architecture:
    """What is drawn.

    Attributes:
        packages: Name of each package and module right below `dist_lstm`, to what it is for.
        imports: Who imports whom, between those that are drawn as boxes.
        bars: Those that are drawn as bars, top to bottom; what stands side by side is one bar.
        heavy: By name, which of the heavy libraries it imports.
    """

    packages: Mapping[str, str]
    imports: frozenset[Edge]
    bars: Sequence[Sequence[str]]
    heavy: Mapping[str, str]


def read_architecture() -> Architecture:
    """The packages, their imports, and the layers that `pyproject.toml` lists."""
    graph = grimp.build_graph(PACKAGE, include_external_packages=True, exclude_type_checking_imports=True)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = [
        re.split(r"\s*[|:]\s*", layer) for layer in next(one for one in contracts if "layers" in one)["layers"]
    ]
    bars = layers[next(index for index, names in enumerate(layers) if BARS in names) :]
    served = {*itertools.chain(*bars), "__main__"}
    edges, heavy = set(), {}
    for module in sorted(graph.modules):
        for imported in graph.find_modules_directly_imported_by(module):
            if imported in ("ray", "tensorflow", "keras"):
                library = "Ray" if imported == "ray" else "TensorFlow"
                heavy[_top(module)] = min(heavy.get(_top(module), library), library)
            elif _top(module) != _top(imported) and not {_top(module), _top(imported)} & (served | {""}):
                edges.add((_top(module), _top(imported)))
    packages = {
        name: _purpose(name) for name in sorted({_top(module) for module in graph.modules} - {"", "__main__"})
    }
    return Architecture(packages, frozenset(edges), bars, heavy)


def _top(module: str) -> str:
    """The package right below `dist_lstm`; empty for the root and for other libraries."""
    package, *rest = module.split(".")
    return rest[0] if package == PACKAGE and rest else ""


def _purpose(name: str) -> str:
    """First sentence of the docstring."""
    path = ROOT / PACKAGE / name
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    sentence = re.split(r"\.\s|\.?\"\"\"", text.removeprefix('"""'), maxsplit=1)[0]
    return " ".join(sentence.replace("`", "").split())


def without_shortcuts(edges: Iterable[Edge]) -> list[Edge]:
    """The edges that don't follow from others (the transitive reduction)."""
    targets: dict[str, set[str]] = {}
    for source, target in edges:
        targets.setdefault(source, set()).add(target)

    def reached(source: str) -> set[str]:
        return {source}.union(*(reached(target) for target in targets.get(source, ())))

    return sorted(
        (source, target)
        for source, target in edges
        if not any(target in reached(other) for other in targets[source] - {target})
    )


def ranks_of(names: Iterable[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Row of each package, from 0 at the bottom: above all it imports; without imports, right below its users."""
    below = {name: [target for source, target in edges if source == name] for name in names}

    def height(name: str) -> int:
        return 1 + max(map(height, below[name]), default=-1)

    ranks = {name: height(name) for name in below}
    for name, imported in below.items():
        users = [ranks[source] for source, target in edges if target == name]
        if not imported and users:
            ranks[name] = min(users) - 1
    return ranks


def with_joints(ranks: Mapping[str, int], edges: Sequence[Edge]) -> tuple[list[list[str]], list[list[str]]]:
    """Rows from the bottom, with the joints of long edges in them, and the path of every edge."""
    rows: list[list[str]] = [[] for _ in range(max(ranks.values()) + 1)]
    for name in sorted(ranks):
        rows[ranks[name]].append(name)
    paths = []
    for source, target in edges:
        joints = {rank: f"{source}>{target}@{rank}" for rank in range(ranks[source] - 1, ranks[target], -1)}
        for rank, joint in joints.items():
            rows[rank].append(joint)
        paths.append([source, *joints.values(), target])
    return rows, paths


def ordered(rows: list[list[str]], pairs: Sequence[Edge]) -> list[list[str]]:
    """Rows in an order with few crossings: neighbours change places as long as that helps."""

    def cost(rows: list[list[str]]) -> tuple[int, float]:
        position = {name: index - len(row) / 2 for row in rows for index, name in enumerate(row)}
        rank = {name: number for number, row in enumerate(rows) for name in row}
        crossings = sum(
            (position[one[0]] - position[two[0]]) * (position[one[1]] - position[two[1]]) < 0
            for one, two in itertools.combinations(pairs, 2)
            if rank[one[0]] == rank[two[0]]
        )
        return crossings, sum(abs(position[source] - position[target]) for source, target in pairs)

    best = cost(rows)
    changed = True
    while changed:
        changed = False
        for number, row in enumerate(rows):
            for first, second in itertools.combinations(range(len(row)), 2):
                swapped = list(row)
                swapped[first], swapped[second] = row[second], row[first]
                trial = [*rows[:number], swapped, *rows[number + 1 :]]
                if cost(trial) < best:
                    rows, row, best, changed = trial, swapped, cost(trial), True  # noqa: PLW2901
    return rows


def positions(rows: Sequence[Sequence[str]], pairs: Sequence[Edge]) -> dict[str, float]:
    """Horizontal centers: close to the mean of what one is joined to, long edges straight, nothing overlapping."""
    centers = {name: 0.0 for row in rows for name in row}
    joined: dict[str, list[str]] = {name: [] for name in centers}
    for pair in pairs:
        weight = 20 if all(map(_is_joint, pair)) else 1
        for one, other in (pair, reversed(pair)):
            joined[one] += [other] * weight
    for _ in range(400):
        for row in rows:
            desired = [_mean([centers[one] for one in joined[name]] or [0.0]) for name in row]
            centers |= zip(row, _spread(row, desired), strict=True)
    left = min(center - _width(name) / 2 for name, center in centers.items())
    right = max(center + _width(name) / 2 for name, center in centers.items())
    return {name: center + (WIDTH - left - right) / 2 for name, center in centers.items()}


def _is_joint(name: str) -> bool:
    return "@" in name


def _width(name: str) -> float:
    return JOINT if _is_joint(name) else BOX


def _spread(row: Sequence[str], desired: Sequence[float]) -> list[float]:
    """The centers closest to the desired ones at which nothing overlaps, within the page."""
    offsets = [0.0]
    for left, right in itertools.pairwise(row):
        offsets.append(offsets[-1] + (_width(left) + _width(right)) / 2 + GAP)
    blocks: list[list[float]] = []
    for value, offset in zip(desired, offsets, strict=True):
        blocks.append([value - offset])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    low = -WIDTH / 2 + _width(row[0]) / 2
    high = WIDTH / 2 - _width(row[-1]) / 2 - offsets[-1]
    bases = [min(max(_mean(block), low), high) for block in blocks for _ in block]
    return [base + offset for base, offset in zip(bases, offsets, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def draw(architecture: Architecture) -> str:
    """The picture as SVG."""
    edges = without_shortcuts(architecture.imports)
    boxed = sorted(set(architecture.packages) - {*itertools.chain(*architecture.bars)})
    rows, paths = with_joints(ranks_of(boxed, edges), edges)
    pairs = [pair for path in paths for pair in itertools.pairwise(path)]
    rows = ordered(rows, pairs)
    centers = positions(rows, pairs)
    top = {name: 44 + (len(rows) - 1 - rank) * RANK_HEIGHT for rank, row in enumerate(rows) for name in row}
    body = [_arrow([(centers[name], top[name]) for name in path]) for path in paths]
    body += [_box(name, architecture, (centers[name] - BOX / 2, top[name])) for name in boxed]
    y = 44 + len(rows) * RANK_HEIGHT - 14
    body.append(_text(WIDTH / 2, y - 10, "used by all packages above", f'font-size="12.5" fill="{LINE}"'))
    for names in architecture.bars:
        body += _bar(names, architecture, y)
        y += BAR_HEIGHT + 8
    return "\n".join([*_head(y + 4), *body, "</svg>", ""])


def _head(height: float) -> list[str]:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">',
        "<title>Packages of dist_lstm and their imports</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto">'
        f'<path d="M0 0.5 L8 4 L0 7.5 z" fill="{LINE}"/></marker></defs>',
    ]
    for position, (name, (fill, line)) in enumerate(COLORS.items()):
        x = 8 + 160 * position
        label = f"imports {name}" if name != "neither" else "neither of them"
        lines.append(f'<rect x="{x}" y="6" width="16" height="16" rx="4" fill="{fill}" stroke="{line}"/>')
        lines.append(f'<text x="{x + 24}" y="18.5" font-size="12.5" fill="{LINE}">{label}</text>')
    return lines


def _arrow(points: Sequence[tuple[float, float]]) -> str:
    """From the lower edge of the first box through the joints to the upper edge of the last."""
    (x, y), *rest = points
    y += BOX_HEIGHT
    path = f"M{x:.1f} {y:.1f}"
    for number, (next_x, next_y) in enumerate(rest, start=1):
        bend = (next_y - y) / 2
        path += f" C{x:.1f} {y + bend:.1f} {next_x:.1f} {next_y - bend:.1f} {next_x:.1f} {next_y:.1f}"
        x, y = next_x, next_y
        if number < len(rest):
            y += BOX_HEIGHT
            path += f" V{y:.1f}"
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.6" marker-end="url(#head)"/>'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" {style}>{escape(text)}</text>'


def _frame(name: str, architecture: Architecture, area: tuple[float, float, float, float]) -> str:
    x, y, width, height = area
    fill, line = COLORS[architecture.heavy.get(name, "neither")]
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="7" fill="{fill}" '
        f'stroke="{line}" stroke-width="1.3"/>'
    )


def _box(name: str, architecture: Architecture, corner: tuple[float, float]) -> str:
    x, y = corner
    lines = textwrap.wrap(architecture.packages[name], 34)
    middle, first = x + BOX / 2, y + (BOX_HEIGHT - 14 * len(lines)) / 2 + 5
    return "\n".join(
        [
            _frame(name, architecture, (x, y, BOX, BOX_HEIGHT)),
            _text(middle, first, name, NAME),
            *(_text(middle, first + 16 + 14 * row, line, ROLE) for row, line in enumerate(lines)),
        ]
    )


def _bar(names: Sequence[str], architecture: Architecture, y: float) -> list[str]:
    """One bar over the whole width, or small ones side by side."""
    width = (WIDTH - 2 - 8 * (len(names) - 1)) / len(names)
    lines = []
    for position, name in enumerate(names):
        x = 1 + position * (width + 8)
        lines.append(_frame(name, architecture, (x, y, width, BAR_HEIGHT)))
        if len(names) > 1:
            lines.append(_text(x + width / 2, y + 21.5, name, NAME))
        else:
            purpose = f'<tspan {ROLE} dx="10">{escape(architecture.packages[name])}</tspan>'
            lines.append(_text(x + width / 2, y + 21.5, name, NAME).replace("</text>", purpose + "</text>"))
    return lines


if __name__ == "__main__":
    IMAGE.parent.mkdir(exist_ok=True)
    IMAGE.write_text(draw(read_architecture()), encoding="utf-8")
