"""Pictures with titles, notes and a key, set as one sheet that can stand in a paper."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

INK, PALE = (20, 20, 20), (95, 95, 95)
MARGIN, GAP, LINE = 32, 20, 1.45  # of text: line height over font size
TITLE, NOTE = 25, 19  # font sizes in pixels, for panels of 400 pixels
SWATCH = (26, 40)  # height and width of a key's colour


@dataclass(frozen=True)
class Panel:
    """A picture with a title and a smaller line above it, and a note below it."""

    picture: UInt8[np.ndarray, "h w 3"]
    title: str = ""
    subtitle: str = ""
    note: str = ""


@dataclass(frozen=True)
class Key:
    """What a colour means: a piece of it, of the size `SWATCH`, and its name."""

    swatch: UInt8[np.ndarray, "h w 3"]
    name: str


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows: columns of panels, lines of keys, and sentences below them.

    All panels have pictures of one size. Columns that do not fit beside each other go below.
    """

    columns: Sequence[Sequence[Panel]]
    keys: Sequence[tuple[str, Sequence[Key]]] = ()  # each line under its heading
    sentences: Sequence[str] = ()
    most_columns: int = 5


def typeset(sheet: Sheet) -> UInt8[np.ndarray, "H W 3"]:
    """The sheet as pixels on white."""
    bands = _bands(sheet)
    cell_width = sheet.columns[0][0].picture.shape[1]
    width = len(bands[0]) * (cell_width + GAP) - GAP
    indent = max((round(_font(NOTE).getlength(heading)) + 24 for heading, _ in sheet.keys if heading), default=0)
    parts = [_band(band, cell_width) for band in bands]
    parts += [_key_line(heading, keys, width, indent) for heading, keys in sheet.keys if keys]
    parts += [_paragraphs(sheet.sentences, width)] if sheet.sentences else []
    height = 2 * MARGIN + sum(part.height for part in parts) + GAP * (len(parts) - 1)
    page = Image.new("RGB", (width + 2 * MARGIN, height), "white")
    top = MARGIN
    for part in parts:
        page.paste(part, (MARGIN, top))
        top += part.height + GAP
    return np.asarray(page)


def _bands(sheet: Sheet) -> list[Sequence[Sequence[Panel]]]:
    """The columns in as few bands as they need, of about the same width."""
    count = len(sheet.columns)
    wide = -(-count // -(-count // sheet.most_columns))
    return [sheet.columns[k : k + wide] for k in range(0, count, wide)]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)  # Aileron, which Pillow brings along


def _line_height(size: int) -> int:
    return round(size * LINE)


def _band(columns: Sequence[Sequence[Panel]], cell_width: int) -> Image.Image:
    """Columns of panels beside each other; the panels of a row have their pictures at one height."""
    rows = max(map(len, columns))
    in_row = [[column[r] for column in columns if len(column) > r] for r in range(rows)]
    above = [_heading_height(panels) for panels in in_row]
    under = [_line_height(NOTE) * any(panel.note for panel in panels) for panels in in_row]
    cell_height = columns[0][0].picture.shape[0]
    tops = [sum(above[:r]) + sum(under[:r]) + r * (cell_height + GAP // 2) for r in range(rows + 1)]
    width = len(columns) * cell_width + (len(columns) - 1) * GAP
    band = Image.new("RGB", (width, tops[-1] - GAP // 2), "white")
    for number, column in enumerate(columns):
        for row, panel in enumerate(column):
            _panel(band, panel, (number * (cell_width + GAP), tops[row]), above[row])
    return band


def _heading_height(panels: Sequence[Panel]) -> int:
    """Of the titles and smaller lines above a row of panels."""
    titles, subtitles = any(panel.title for panel in panels), any(panel.subtitle for panel in panels)
    return _line_height(TITLE) * titles + _line_height(NOTE) * subtitles


def _panel(band: Image.Image, panel: Panel, corner: tuple[int, int], heading_height: int) -> None:
    draw, (left, top) = ImageDraw.Draw(band), corner
    height, width = panel.picture.shape[:2]
    draw.text((left, top), shortened(panel.title, _font(TITLE), width), INK, _font(TITLE), stroke_width=0.35)
    under_title = top + _line_height(TITLE) * bool(panel.title)
    draw.text((left, under_title), shortened(panel.subtitle, _font(NOTE), width), PALE, _font(NOTE))
    band.paste(Image.fromarray(panel.picture), (left, top + heading_height))
    below = top + heading_height + height + 5
    draw.text((left, below), shortened(panel.note, _font(NOTE), width), PALE, _font(NOTE))


def _key_line(heading: str, keys: Sequence[Key], width: int, indent: int) -> Image.Image:
    """A heading and keys one after the other, on as many lines as they need."""
    font, places, left, top = _font(NOTE), [], indent, 0
    for key in keys:
        needed = SWATCH[1] + 10 + round(font.getlength(key.name)) + 28
        if left > indent and left + needed - 28 > width:
            left, top = indent, top + SWATCH[0] + 10
        places.append((key, left, top))
        left += needed
    line = Image.new("RGB", (width, top + SWATCH[0]), "white")
    draw = ImageDraw.Draw(line)
    draw.text((0, SWATCH[0] / 2), heading, PALE, font, anchor="lm")
    for key, x, y in places:
        line.paste(Image.fromarray(key.swatch), (x, y))
        draw.rectangle((x, y, x + SWATCH[1] - 1, y + SWATCH[0] - 1), outline=PALE)
        name = shortened(key.name, font, width - x - SWATCH[1] - 10)
        draw.text((x + SWATCH[1] + 10, y + SWATCH[0] / 2), name, INK, font, anchor="lm")
    return line


def _paragraphs(sentences: Sequence[str], width: int) -> Image.Image:
    """Sentences below each other, each over as many lines as it needs."""
    font, lines = _font(NOTE), []
    for sentence in sentences:
        lines.append("")
        for word in sentence.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and font.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
    part = Image.new("RGB", (width, len(lines) * _line_height(NOTE)), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(part).text((0, number * _line_height(NOTE)), shortened(line, font, width), PALE, font)
    return part


def shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, or as much of its beginning as fits into a width in pixels, with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
