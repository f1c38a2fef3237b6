"""Which part changes how many points, as an SVG: a bar for each part, with its spread over the noise."""

from collections.abc import Sequence
from html import escape
from typing import Any

ROW, LEFT, WIDTH, TOP, COLOUR = 22, 330, 760, 56, ("#0072b2", "#d55e00")  # pixels; better and worse, for colour-blind too


def parts_plot(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """The plot as the text of an SVG file.

    Args:
        rows: of a `PartsTable`; those that stand alone are shown, the plain reading left out.
    """
    shown = [row for row in rows if row["table"] == "alone"][1:]
    most = max([1.0, *(100 * (abs(row["change"]) + row["spread"]) for row in shown)])
    middle, each = (LEFT + WIDTH) / 2 + 20, (WIDTH - LEFT) / 2 / most * 0.8
    height = TOP + ROW * len(shown) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="20" font-size="14">{escape(title)}</text>',
        f'<text x="12" y="40">the plain reading: {100 * rows[0]["miou"]:.1f} mIoU; bars are points above or below it</text>',
        f'<path d="M{middle:.1f} {TOP - 6} V{height - 8}" stroke="#999"/>',
    ]
    for number, row in enumerate(shown):
        y, end = TOP + ROW * number, middle + 100 * row["change"] * each
        spread, worse = 100 * row["spread"] * each, row["change"] < 0
        parts += [
            f'<text x="{LEFT}" y="{y + 14}" text-anchor="end">{escape(row["what"])}</text>',
            f'<rect x="{min(middle, end):.1f}" y="{y + 3}" width="{abs(end - middle):.1f}" height="{ROW - 8}"'
            f' fill="{COLOUR[worse]}"/>',
            f'<path d="M{end - spread:.1f} {y + 10} H{end + spread:.1f}" stroke="#111" stroke-width="1.5"/>',
            f'<text x="{end + (-6 - spread if worse else 6 + spread):.1f}" y="{y + 14}"'
            f' text-anchor="{"end" if worse else "start"}">{100 * row["change"]:+.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
