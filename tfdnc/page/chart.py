"""Geometry of a chart: numbers -> positions in a small SVG; the template and its CSS define fonts and colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 250
"""Size of a chart in its own units; the page shows it at about this many pixels, so that text keeps its size."""

LEFT, RIGHT, TOP, BOTTOM = 44, 14, 10, 38
"""Margins between the plot area and the border of the chart."""

LABEL_WIDTH, LABEL_HEIGHT = 6.2, 13
"""Size of one character of a label, a little more than its font takes."""

COLORS = 20
"""Number of colours in the style sheet."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line through points; `style` is a CSS class: "", "dashed", or "dotted"."""

    points: Sequence[Point]
    color: int | None = None  # None: the neutral colour
    style: str = ""


@dataclass(frozen=True)
class Mark:
    """A point with a hover title, and a label if there is space for it; `shape` is "dot", "small" or "diamond"."""

    x: float
    y: float
    color: int
    title: str
    shape: str = "dot"
    label: str = ""


@dataclass(frozen=True)
class Bar:
    """A bar from the bottom up to `height`, a share of the height of the plot area."""

    left: float
    right: float
    height: float
    title: str


@dataclass(frozen=True)
class Chart:
    """A chart as the template draws it; every number is in the chart's own units."""

    title: str
    x_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    paths: list[tuple[str, str]]  # path data, CSS classes
    marks: list[tuple[str, str, str]]  # path data, CSS classes, hover title
    labels: list[tuple[float, float, str]]
    bars: list[tuple[float, float, float, float, str]]  # x, y, width, height, hover title
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def draw(
    title: str,
    x_label: str,
    lines: Sequence[Line] = (),
    marks: Sequence[Mark] = (),
    levels: Sequence[Line] = (),
    bars: Sequence[Bar] = (),
    limits: tuple[Point, Point] | None = None,
) -> Chart:
    """Returns the chart of lines, marks and bars, with axes that cover all of them.

    Args:
        title: name of the figure on the vertical axis.
        x_label: name of the figure on the horizontal axis.
        lines: lines, drawn below the marks.
        marks: points.
        levels: lines across the whole chart, at the height of their only point.
        bars: bars, drawn below lines and marks.
        limits: ((x low, x high), (y low, y high)); without them, round numbers around the data.
    """
    points = [point for line in lines for point in line.points] + [(mark.x, mark.y) for mark in marks]
    x_values = [x for x, _ in points]
    y_values = [y for _, y in points] + [line.points[0][1] for line in levels]
    x_ticks, x_range = _ticks(x_values, limits and limits[0])
    y_ticks, y_range = _ticks(y_values, limits and limits[1])

    def x_position(x: float) -> float:
        return _round(LEFT + (x - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT))

    def y_position(y: float) -> float:
        return _round(HEIGHT - BOTTOM - (y - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - TOP - BOTTOM))

    across = [Line([(x, line.points[0][1]) for x in x_range], line.color, line.style) for line in levels]
    positions = [(x_position(mark.x), y_position(mark.y), mark) for mark in marks]
    paths = [[(x_position(x), y_position(y)) for x, y in line.points] for line in (*across, *lines)]
    full = HEIGHT - TOP - BOTTOM
    return Chart(
        title=title,
        x_label=x_label,
        x_ticks=[(x_position(x), f"{x:g}") for x in x_ticks],
        y_ticks=[(y_position(y), f"{y:g}") for y in y_ticks],
        paths=[
            (path_data(path), _classes("line", line.style, line.color))
            for path, line in zip(paths, (*across, *lines), strict=True)
        ],
        marks=[(_SHAPES[mark.shape](x, y), _classes("mark", "", mark.color), mark.title) for x, y, mark in positions],
        labels=_labels([(x, y, mark.label) for x, y, mark in positions]),
        bars=[
            (
                x_position(bar.left),
                _round(HEIGHT - BOTTOM - bar.height * full),
                _round(x_position(bar.right) - x_position(bar.left)),
                _round(bar.height * full),
                bar.title,
            )
            for bar in bars
        ],
    )


def path_data(points: Sequence[Point]) -> str:
    """Returns the SVG path data of a line through points."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def _classes(kind: str, style: str, color: int | None) -> str:
    return " ".join(filter(None, (kind, style, "" if color is None else f"c{color % COLORS}")))


def _ticks(values: Sequence[float], limits: Point | None) -> tuple[list[float], Point]:
    """Returns round numbers along an axis, and the range that it covers."""
    from matplotlib.ticker import MaxNLocator

    low, high = limits or (min(values, default=0.0), max(values, default=1.0))
    if low == high:
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    ticks = [float(tick) for tick in MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    if limits is None:
        return ticks, (ticks[0], ticks[-1])
    return [tick for tick in ticks if low <= tick <= high], limits


def _dot(x: float, y: float, radius: float) -> str:
    r = f"{radius:g}"
    return f"M{_round(x - radius):g} {y:g}a{r} {r} 0 1 0 {2 * radius:g} 0a{r} {r} 0 1 0 {-2 * radius:g} 0z"


def _diamond(x: float, y: float, radius: float) -> str:
    return f"M{x:g} {_round(y - radius):g}l{radius:g} {radius:g}l{-radius:g} {radius:g}l{-radius:g} {-radius:g}z"


_SHAPES = {
    "dot": lambda x, y: _dot(x, y, 4.5),
    "small": lambda x, y: _dot(x, y, 2.5),
    "diamond": lambda x, y: _diamond(x, y, 7),
}


def _labels(wanted: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Centres a label above its mark, or below it; leaves it out if it would overlap another one on both sides."""
    drawn: list[tuple[float, float, str]] = []
    for x, y, text in wanted:
        half = len(text) * LABEL_WIDTH / 2
        for at in (y - 9, y + 17):
            inside = x - half >= LEFT and x + half <= WIDTH and TOP + LABEL_HEIGHT / 2 < at < HEIGHT - BOTTOM
            free = all(
                abs(x - other_x) > half + len(other) * LABEL_WIDTH / 2 or abs(at - other_y) > LABEL_HEIGHT
                for other_x, other_y, other in drawn
            )
            if text and inside and free:
                drawn.append((x, _round(at), text))
                break
    return drawn


def _round(value: float) -> float:
    """Rounds to a tenth of a pixel; 0 for NaN and infinity."""
    return round(value, 1) if math.isfinite(value) else 0.0
