"""Values into pixels: colours, overlays, legends, heat maps, sheets and files. NumPy and Pillow only."""

import colorsys
import io
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ovseg.types import Claims, Evidence, Segmentation

HEAT = np.array(  # dark violet over red to pale yellow, evenly rising in lightness
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)],
    np.float32,
)


def palette(count: int) -> np.ndarray:
    """Colours of `count` labels, uint8 (count, 3): black for background, then hues a golden angle apart."""
    colours = [(0, 0, 0)]
    for k in range(count - 1):
        # Three lightness steps in turn keep neighbours apart once hues come close, from about the tenth label on.
        lightness, saturation = (0.52, 0.66, 0.38)[k // 8 % 3], 0.78
        colours.append(tuple(round(255 * c) for c in colorsys.hls_to_rgb(0.02 + k * 0.381966 % 1, lightness, saturation)))
    return np.array(colours[:count], np.uint8)


def overlay(segmentation: Segmentation, opacity: float = 0.6, hidden: Collection[str] = ()) -> np.ndarray:
    """Class colours laid over the picture, uint8 (H, W, 3); background and `hidden` labels show the picture."""
    shown = np.array([k > 0 and name not in hidden for k, name in enumerate(segmentation.labels)])
    return paint(segmentation.image, segmentation.label_map, palette(len(segmentation.labels)), opacity * shown)


def paint(image: np.ndarray, label_map: np.ndarray, colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """A picture under a label map (H, W), uint8 (H, W, 3); `colours` (k, 3) and `opacity` (k,) belong to the labels."""
    alpha = opacity[label_map][..., None]
    return (image * (1 - alpha) + colours[label_map] * alpha).round().astype(np.uint8)


def heat(values: np.ndarray) -> np.ndarray:
    """A map (y, x) as colours, uint8 (y, x, 3); its lowest value dark, its highest bright."""
    values = values.astype(np.float32)
    spread = float(values.max() - values.min())
    place = (values - values.min()) / spread * (len(HEAT) - 1) if spread > 0 else np.zeros_like(values)
    low = np.minimum(place.astype(int), len(HEAT) - 2)
    part = (place - low)[..., None]
    return (HEAT[low] * (1 - part) + HEAT[low + 1] * part).round().astype(np.uint8)


def heat_overlay(image: np.ndarray, values: np.ndarray, opacity: float = 0.7) -> np.ndarray:
    """A map laid over its picture, uint8 of the picture's shape; expanded bilinearly."""
    size = image.shape[1], image.shape[0]
    grown = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    return (image * (1 - opacity) + heat(grown) * opacity).round().astype(np.uint8)


def affinity_at(evidence: Evidence, x: float, y: float) -> np.ndarray:
    """Where a point looks: the row (y, x) of an affinity map for a point given in shares of the picture, 0 to 1.

    Raises:
        ValueError: the evidence is no affinity map, or the point is outside.
    """
    if evidence.kind != "affinity":
        raise ValueError(f'The evidence must be an "affinity" map, but {evidence.title!r} is {evidence.kind!r}.')
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"The point must lie within the picture, 0 to 1, but got x {x} and y {y}.")
    rows, columns = evidence.map.shape[:2]
    return evidence.map[min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)].astype(np.float32)


def claims_at(claims: Claims, x: float, y: float) -> list[tuple[np.ndarray, str]]:
    """What claims a point given in shares of the picture, 0 to 1, best first: the claiming picture, dark but for the place
    in it that speaks, and its title with the cosine.

    Raises:
        ValueError: the point is outside.
    """
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"The point must lie within the picture, 0 to 1, but got x {x} and y {y}.")
    rows, columns = claims.nearest.shape[:2]
    at = min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)
    found = []
    for candidate, cosine in zip(claims.nearest[at], claims.closeness[at], strict=True):
        picture = claims.pictures[claims.picture_of[candidate]]
        place = Image.fromarray(claims.places[candidate]).resize(picture.shape[1::-1], Image.Resampling.NEAREST)
        bright = np.where(np.asarray(place)[..., None], 1.0, 0.25)
        found.append(((picture * bright).astype(np.uint8), f"{claims.titles[candidate]}: {cosine:.3f}"))
    return found


def evidence_picture(evidence: Evidence, image: np.ndarray) -> np.ndarray | None:
    """One picture of a piece of evidence laid over its scene; None for what needs a point to be shown."""
    if evidence.kind == "heat":
        return heat_overlay(image, evidence.map)
    if evidence.kind == "regions":
        grown = Image.fromarray(evidence.map.astype(np.int32)).resize(image.shape[1::-1], Image.Resampling.NEAREST)
        regions = np.asarray(grown)
        return (image * 0.35 + palette(int(regions.max()) + 2)[regions + 1] * 0.65).round().astype(np.uint8)
    return contact_sheet(list(evidence.images)) if evidence.kind == "images" else None


def contact_sheet(
    pictures: Sequence[np.ndarray], captions: Sequence[str] = (), columns: int = 4, cell: int = 192
) -> np.ndarray:
    """Pictures in a grid with their captions below, uint8 RGB; each is fitted into `cell` x `cell` pixels."""
    caption_height = 20 if captions else 0
    columns = min(columns, len(pictures))
    sizes = [_fitted(pixels.shape[:2], cell) for pixels in pictures]
    tall = max(height for _, height in sizes)
    rows, step = -(-len(pictures) // columns), tall + caption_height + 8
    sheet = Image.new("RGB", (columns * (cell + 8) + 8, rows * step + 8), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for k, (pixels, size) in enumerate(zip(pictures, sizes, strict=True)):
        left, top = k % columns * (cell + 8) + 8, k // columns * step + 8
        smooth = Image.Resampling.LANCZOS if size[0] < pixels.shape[1] else Image.Resampling.NEAREST
        picture = Image.fromarray(pixels).resize(size, smooth)
        sheet.paste(picture, (left + (cell - size[0]) // 2, top + (tall - size[1]) // 2))
        if captions:
            draw.text((left, top + tall + 3), _shorten(captions[k], draw, font, cell), fill="black", font=font)
    return np.asarray(sheet)


def _fitted(hw: tuple[int, int], cell: int) -> tuple[int, int]:
    """Width and height of a picture fitted into a square cell."""
    scale = cell / max(hw)
    return max(1, round(hw[1] * scale)), max(1, round(hw[0] * scale))


def _shorten(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def legend(segmentation: Segmentation) -> list[dict]:
    """For each label its index, name, colour ("#rrggbb") and share of the picture."""
    colours, shares = palette(len(segmentation.labels)), segmentation.shares
    return [
        {"index": k, "label": name, "colour": "#" + colours[k].tobytes().hex(), "share": round(shares[name], 6)}
        for k, name in enumerate(segmentation.labels)
    ]


def indexed_png(label_map: np.ndarray, count: int) -> bytes:
    """A label map as a palette PNG: pixel values are label indices, colours are those of the overlay."""
    picture = Image.fromarray(label_map, mode="P") if label_map.dtype == np.uint8 else Image.fromarray(label_map)
    picture.putpalette(palette(count).ravel().tolist())
    return png(picture)


def png(picture: Image.Image | np.ndarray) -> bytes:
    """Encode losslessly."""
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, "PNG")
    return buffer.getvalue()


def write_masks(segmentation: Segmentation, folder: Path, card: dict) -> list[Path]:
    """Write `overlay.png`, `mask.png` (indexed) with `legend.json`, and `run.json`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "overlay.png": png(overlay(segmentation)),
        "mask.png": indexed_png(segmentation.label_map, len(segmentation.labels)),
        "legend.json": (json.dumps(legend(segmentation), indent=2) + "\n").encode(),
        "run.json": (json.dumps(card, indent=2) + "\n").encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def write_attention(segmentation: Segmentation, folder: Path) -> list[Path]:
    """Write every piece of evidence that is a picture by itself as a PNG; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, evidence in enumerate(segmentation.evidence):
        picture = evidence_picture(evidence, segmentation.image)
        if picture is not None:
            name = "".join(c if c.isalnum() else "-" for c in evidence.title)
            written.append(folder / f"{number:03d}-{name}.png")
            written[-1].write_bytes(png(picture))
    return written
