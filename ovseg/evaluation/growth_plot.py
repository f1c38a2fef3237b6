"""A plot of growth as an SVG: a panel for each sweep and for seconds and memory, a line for each method."""

import math
from collections.abc import Sequence
from html import escape

from ovseg.evaluation.growth import Axis, grown
from ovseg.evaluation.sizes import Taken

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 280, 210, 52, 14, 34, 38  # of a panel and its margins, in pixels
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by colour-blind people, too
WHATS = (("seconds", 1.0), ("memory, MB", 1e6))
TICKS = 4

Point = tuple[float, float]


def growth_plot(title: str, sweeps: Sequence[tuple[Axis, Sequence[Taken]]]) -> str:
    """The plot as the text of an SVG file. Both axes are logarithmic; a dashed line grows as the input does."""
    methods = list(dict.fromkeys(item.method for _, taken in sweeps for item in taken))
    width, height = WIDTH * len(sweeps), HEIGHT * len(WHATS) + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="white"/><text x="12" y="18" font-size="13">{escape(title)}</text>',
    ]
    for number, method in enumerate(methods):
        x = 12 + number * (width - 24) / len(methods)
        parts.append(f'<rect x="{x:.0f}" y="30" width="12" height="4" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 17:.0f}" y="36">{escape(method)}</text>')
    for column, (axis, taken) in enumerate(sweeps):
        for row, (what, unit) in enumerate(WHATS):
            lines = [_line(axis, taken, method, row, unit) for method in methods]
            parts += [f'<g transform="translate({column * WIDTH} {48 + row * HEIGHT})">', *_panel(axis, what, lines), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(axis: Axis, taken: Sequence[Taken], method: str, row: int, unit: float) -> list[Point]:
    own = [item for item in taken if item.method == method]
    return sorted((grown(axis, item.size), (item.peak_bytes if row else item.seconds) / unit) for item in own)


def _panel(axis: Axis, what: str, lines: Sequence[list[Point]]) -> list[str]:
    """One pair of axes, with a line for each method that has any points."""
    points = [point for line in lines for point in line]
    (low_x, high_x), (low_y, high_y) = (_span([point[k] for point in points]) for k in range(2))

    def place(point: Point) -> Point:
        x = (math.log(point[0]) - math.log(low_x)) / (math.log(high_x) - math.log(low_x))
        y = (math.log(point[1]) - math.log(low_y)) / (math.log(high_y) - math.log(low_y))
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" fill="none" stroke="#bbb"/>',
        f'<text x="{LEFT}" y="{TOP - 8}">{escape(what)}</text>',
        f'<text x="{right}" y="{HEIGHT - 8}" text-anchor="end">{axis}</text>',
    ]
    for value in _ticks(sorted({point[0] for point in points})):
        x = place((value, low_y))[0]
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{_short(value)}</text>')
    for value in (low_y, math.sqrt(low_y * high_y), high_y):
        y = place((low_x, value))[1]
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    parts.append(_linear((low_x, high_x), (low_y, high_y), place))
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        if line:
            drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, line))
            parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in map(place, line)]
    return parts


def _linear(x: Point, y: Point, place: object) -> str:
    """A dashed line of the slope 1, as far as it stays in the panel."""
    factor = min(x[1] / x[0], y[1] / y[0])
    (x1, y1), (x2, y2) = place((x[0], y[0])), place((x[0] * factor, y[0] * factor))
    return f'<path d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}" stroke="#999" stroke-dasharray="4 4"/>'


def _span(values: Sequence[float]) -> Point:
    """The least and the largest value, apart from each other, so that a logarithmic axis has a length."""
    low, high = min(values), max(values)
    return (low, high) if high > 1.05 * low else (low / 1.5, high * 1.5)


def _ticks(values: list[float]) -> list[float]:
    step = max(1, math.ceil(len(values) / TICKS))
    return values[::step]


def _short(value: float) -> str:
    """Three digits: 0.025, 1.52, 120, 4096, 65.5k, 4.19M."""
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 1e4 else f"{value:.0f}" if value >= 1e3 else f"{value:.3g}"
