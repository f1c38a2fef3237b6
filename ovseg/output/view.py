"""Values into pixels: colours, overlays, legends, heat maps, sheets and files. NumPy and Pillow only."""

import io
from collections.abc import Collection, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ovseg.maths.maps import place_at
from ovseg.output.sheet import shortened
from ovseg.types import Evidence, Neighbours, Segmentation

HEAT = np.array(  # dark violet over red to pale yellow, evenly rising in lightness
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)],
    np.float32,
)
HEAT_TABLE = np.stack(  # with 256 steps from each colour to the next
    [np.interp(np.arange(256 * (len(HEAT) - 1) + 1) / 256, np.arange(len(HEAT)), channel) for channel in HEAT.T], -1
).round().astype(np.uint8)  # fmt: skip
GREY = np.array([0.299, 0.587, 0.114])  # brightness of red, green and blue
CHANGE_COLOURS = np.array([(33, 102, 172), (215, 25, 28)], np.uint8)  # fell, rose
ERROR_COLOURS = np.array([(126, 126, 126), (204, 20, 30), (92, 158, 255), (255, 221, 51)], np.uint8)
"""Of the values of an error map: right, grey in legends, which shows the dimmed picture itself; missed, false positive,
taken for another class."""

DISTINCT = (
    (0, 114, 178), (213, 94, 0), (240, 228, 66), (86, 180, 233), (204, 121, 167), (230, 159, 0), (0, 158, 115),
    (135, 0, 240), (90, 45, 0), (210, 255, 225),
)  # fmt: skip
"""Ten colours that colour-blind eyes tell apart. The first seven are those of Masataka Okabe and Kei Ito ("Color Universal
Design", 2002; without black), ordered so that the first few are farthest apart. Violet, brown and pale green were added
as the colours farthest from all before them, for normal eyes and the three deficiencies alike."""

HALO = 0.8
"""How strong the line outside of a class's edge is."""

PNG_EFFORT = 4
"""Of 9: files are larger by a twentieth than with Pillow's own 6, and written in two fifths of the time."""

HATCHINGS = 8
"""Patterns of lines: rising, falling, level, upright, dots, grid, crossed, dashes. Label k has pattern (k - 1) modulo 8;
the browser draws the same."""


def palette(count: int, hues: Sequence[Sequence[int]] | np.ndarray = DISTINCT) -> np.ndarray:
    """Colours of `count` labels, uint8 (count, 3): black for background, then ten hues.

    The order of the words gives the colours: label k has colour k, however many labels there are. After ten labels the
    same hues come again, lighter and darker in turn.
    """
    colours = [(0, 0, 0)]
    for k in range(count - 1):
        hue = np.array(hues[k % len(hues)])
        # Steps of the golden ratio never meet, and stay away from the first round's 0; 0.7 keeps off white and black.
        step = 1.4 * (0.5 - (0.5 + k // len(hues) * 0.618034) % 1)
        colours.append(tuple((hue + (255 - hue) * step if step > 0 else hue * (1 + step)).round()))
    return np.array(colours[:count], np.uint8)


def palette_for(image: np.ndarray, count: int) -> np.ndarray:
    """As `palette`, for masks on this picture: page, sheet and files have the same colours."""
    return palette(count, hues_for(image))


def hues_for(image: np.ndarray) -> np.ndarray:
    """`DISTINCT`, uint8 (10, 3), each next the one that lies farthest from the picture's pixels and from those before.

    A hue's distance from the picture is that from the nearest hundredth of it; lightness counts half, as a fill keeps it.
    """
    hues, stride = np.array(DISTINCT, np.uint8), max(1, max(image.shape[:2]) // 64)
    seen, places = (_oklab(some) * (0.5, 1, 1) for some in (image[::stride, ::stride].reshape(-1, 3), hues))
    from_picture = np.percentile(np.linalg.norm(places[:, None] - seen, axis=-1), 1, axis=1)
    order, apart = [int(from_picture.argmax())], np.full(len(hues), np.inf)
    while len(order) < len(hues):
        apart = np.minimum(apart, np.linalg.norm(places - places[order[-1]], axis=-1))
        gain = np.minimum(apart, 2 * from_picture)
        gain[order] = -1
        order.append(int(gain.argmax()))
    return hues[order]


def _oklab(colours: np.ndarray) -> np.ndarray:
    """Colours (k, 3) in OKLab (Björn Ottosson, 2020), where a distance is about what an eye sees."""
    linear = (colours / 255) ** 2.2
    cones = np.cbrt(linear @ [[0.4122, 0.2119, 0.0883], [0.5363, 0.6807, 0.2817], [0.0514, 0.1074, 0.63]])
    return cones @ [[0.2105, 1.978, 0.0259], [0.7936, -2.4286, 0.7828], [-0.0041, 0.4506, -0.8087]]


def hex_colours(colours: np.ndarray) -> list[str]:
    """Colours (k, 3) as "#rrggbb"."""
    return ["#" + colour.tobytes().hex() for colour in colours]


def indices_in(order: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """For each label its index in a longer or differently ordered list, int (k,); colours and hatching follow it.

    Raises:
        ValueError: a label is not in the list.
    """
    for label in labels:
        if label not in order:
            raise ValueError(f"Each label must be one of {', '.join(order)}, but got {label!r}.")
    return np.array([list(order).index(label) for label in labels])


def hatch_size(shape: tuple[int, int]) -> tuple[int, int]:
    """Distance and width of hatching lines in pixels, for a picture (H, W): 36 lines along its longer side."""
    step = max(6, int(max(shape) / 36 + 0.5))
    return step, max(1, int(step / 4 + 0.5))


def hatch(label: int, shape: tuple[int, int], size: tuple[int, int] | None = None) -> np.ndarray:
    """The lines of a label's hatching on a picture, bool (H, W): a second sign beside its colour; none for background.

    Args:
        size: distance and width of the lines; those of `hatch_size` if not given.
    """
    y, x = np.indices(shape)
    step, thick = size or hatch_size(shape)
    if label == 0:
        return np.zeros(shape, bool)
    rising, falling = (x + y) % step < thick, (x - y) % step < thick
    level, upright = y % step < thick, x % step < thick
    dots = (x % step < 1.6 * thick) & (y % step < 1.6 * thick)
    dashes = level & ((x + y // step % 2 * step) % (2 * step) < step)
    patterns = (rising, falling, level, upright, dots, level | upright, rising | falling, dashes)
    return patterns[(label - 1) % HATCHINGS]


def hatch_colours(colours: np.ndarray) -> np.ndarray:
    """The colours of hatching lines, uint8 (k, 3): light on dark colours, dark on light ones."""
    light = (colours @ GREY > 127.5)[:, None]
    return (colours * 0.45 + np.where(light, 0, 255) * 0.55).round().astype(np.uint8)


def overlay(
    segmentation: Segmentation,
    opacity: float = 0.45,
    hidden: Collection[str] = (),
    *,
    order: Sequence[str] | None = None,
    hatched: bool = False,
    outlined: bool = True,
) -> np.ndarray:
    """Class colours laid over the picture, uint8 (H, W, 3); background and `hidden` labels show the picture.

    Args:
        order: the list of labels that gives colours and hatching; the segmentation's own if not given.
        hatched: whether each class has its lines too.
        outlined: whether each class has its edge in its full colour, with a dark or a light line outside.
    """
    indices = indices_in(order or segmentation.labels, segmentation.labels)
    colours, label_map = palette_for(segmentation.image, int(indices.max()) + 1), indices[segmentation.label_map]
    visible = np.zeros(len(colours), bool)
    visible[indices] = [k > 0 and name not in hidden for k, name in enumerate(segmentation.labels)]
    return masks_over(segmentation.image, label_map, colours, visible, opacity, hatched=hatched, outlined=outlined)


def masks_over(
    image: np.ndarray,
    label_map: np.ndarray,
    colours: np.ndarray,
    visible: np.ndarray,
    opacity: float = 0.45,
    *,
    hatched: bool = False,
    outlined: bool = True,
) -> np.ndarray:
    """A label map (H, W) over its picture, uint8 (H, W, 3), with hatching and outlines; see `overlay`.

    Args:
        colours: of the labels, (k, 3); `visible` (k,) says which show.
        opacity: of the fill.
    """
    painted = paint(image, label_map, colours, opacity * visible)
    if hatched:
        lined = paint(image, label_map, hatch_colours(colours), opacity * visible)
        painted = np.where(hatching(label_map)[..., None], lined, painted)
    if outlined:
        edge, halo = outline(label_map)
        painted = np.where((edge & visible[label_map])[..., None], colours[label_map], painted)
        painted = paint(painted, halo, np.where((colours @ GREY > 127.5)[:, None], 0, 255), HALO * visible)
    return painted


def outline(label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edge of each class within it, bool (H, W), and the class beside each place of the background that lies as near to
    an edge, 0 elsewhere, int (H, W). Both are as wide as a 300th of the picture's longer side.
    """
    height, width = label_map.shape
    reach = max(1, int(max(height, width) / 300 + 0.5))
    wide = np.pad(label_map, reach, "edge")
    middle = slice(reach, -reach)
    around = wide[middle, :width], wide[middle, 2 * reach :], wide[:height, middle], wide[2 * reach :, middle]
    differs = np.any([beside != label_map for beside in around], 0)
    beside = np.select([one > 0 for one in around], around, 0)
    return differs & (label_map > 0), np.where(differs & (label_map == 0), beside, 0)


def hatching(label_map: np.ndarray) -> np.ndarray:
    """Where the lines of each place's own label run, bool (H, W)."""
    lines = np.zeros(label_map.shape, bool)
    for label in np.unique(label_map):
        lines |= (label_map == label) & hatch(int(label), label_map.shape)
    return lines


def paint(image: np.ndarray, label_map: np.ndarray, colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """A picture under a label map (H, W), uint8 (H, W, 3); `colours` (k, 3) and `opacity` (k,) belong to the labels."""
    alpha = opacity[label_map][..., None]
    return (image * (1 - alpha) + colours[label_map] * alpha).round().astype(np.uint8)


def error_picture(image: np.ndarray, errors: np.ndarray, opacity: float = 0.85) -> np.ndarray:
    """An error map over its picture in dim grey, uint8 (H, W, 3); what is right or not counted shows the grey alone."""
    grey = dimmed(image)
    colours = np.concatenate([ERROR_COLOURS, [(0, 0, 0)]])
    return paint(grey, np.where(errors < 4, errors, 4), colours, np.array([0] + [opacity] * 3 + [0]))


def dimmed(image: np.ndarray) -> np.ndarray:
    """The picture in dim grey, uint8 (H, W, 3): a ground for colours that say something else than classes."""
    return np.repeat((image @ GREY * 0.65).astype(np.uint8)[..., None], 3, 2)


def heat(values: np.ndarray) -> np.ndarray:
    """A map (y, x) as colours, uint8 (y, x, 3); its lowest value dark, its highest bright."""
    values = values.astype(np.float32)
    spread = float(values.max() - values.min())
    place = (values - values.min()) / spread * (len(HEAT_TABLE) - 1) if spread > 0 else np.zeros_like(values)
    return HEAT_TABLE[place.round().astype(np.int32)]


def heat_overlay(image: np.ndarray, values: np.ndarray, opacity: float = 0.7) -> np.ndarray:
    """A map laid over its picture, uint8 of the picture's shape; expanded bilinearly."""
    size = image.shape[1], image.shape[0]
    grown = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    return cv2.addWeighted(image, 1 - opacity, heat(grown), opacity, 0)


def change_over(image: np.ndarray, change: np.ndarray) -> np.ndarray:
    """A change (y, x), -1 to 1, over the dimmed picture, uint8 (H, W, 3): what rose red, what fell blue."""
    grown = np.asarray(Image.fromarray(change.astype(np.float32)).resize(image.shape[1::-1], Image.Resampling.BILINEAR))
    colours = np.where(grown[..., None] > 0, CHANGE_COLOURS[1], CHANGE_COLOURS[0])
    strength = np.abs(grown).clip(0, 1)[..., None]
    return (dimmed(image) * (1 - strength) + colours * strength).round().astype(np.uint8)


def marked(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """The picture with a white square at a place given in shares of its sides."""
    height, width = picture.shape[:2]
    reach, row, column = max(height, width) // 64, int(y * (height - 1)), int(x * (width - 1))
    copy = picture.copy()
    copy[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = 255
    return copy


def affinity_at(evidence: Evidence, x: float, y: float) -> np.ndarray:
    """Where a point looks: the row (y, x) of an affinity map for a point given in shares of the picture, 0 to 1.

    Raises:
        ValueError: the evidence is no affinity map, or the point is outside.
    """
    if evidence.kind != "affinity":
        raise ValueError(f'The evidence must be an "affinity" map, but {evidence.title!r} is {evidence.kind!r}.')
    return evidence.affinity.at(*place_at(evidence.affinity.grid, x, y))


def neighbours_at(neighbours: Neighbours, x: float, y: float) -> list[tuple[np.ndarray, str]]:
    """What is most like a point, best first: the picture that each candidate was taken from, dark except for the part that
    it was taken from, and its title with the cosine.

    Args:
        x: share of the picture's width from the left, 0 to 1; `y` is the share of its height from the top.

    Raises:
        ValueError: the point is outside.
    """
    at, found = place_at(neighbours.nearest.shape[:2], x, y), []
    for candidate, cosine in zip(neighbours.nearest[at], neighbours.closeness[at], strict=True):
        picture = neighbours.pictures[neighbours.picture_of[candidate]]
        place = Image.fromarray(neighbours.places[candidate]).resize(picture.shape[1::-1], Image.Resampling.NEAREST)
        bright = np.where(np.asarray(place)[..., None], 1.0, 0.25)
        found.append(((picture * bright).astype(np.uint8), f"{neighbours.titles[candidate]}: {cosine:.3f}"))
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
    sizes = [fitted(pixels.shape[:2], cell) for pixels in pictures]
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
            draw.text((left, top + tall + 3), shortened(captions[k], font, cell), fill="black", font=font)
    return np.asarray(sheet)


def fitted(hw: tuple[int, int], cell: int) -> tuple[int, int]:
    """Width and height of a picture (H, W) fitted into a square cell."""
    scale = cell / max(hw)
    return max(1, round(hw[1] * scale)), max(1, round(hw[0] * scale))


def colours_of(segmentation: Segmentation, order: Sequence[str] | None = None) -> np.ndarray:
    """The colours of the labels, uint8 (k, 3), as `legend` names them."""
    indices = indices_in(order or segmentation.labels, segmentation.labels)
    return palette_for(segmentation.image, int(indices.max()) + 1)[indices]


def legend(segmentation: Segmentation, order: Sequence[str] | None = None) -> list[dict]:
    """For each label its index, name, colour ("#rrggbb") and share of the picture.

    `order` is the list of labels that gives the colours; the segmentation's own if not given.
    """
    colours, shares = hex_colours(colours_of(segmentation, order)), segmentation.shares
    return [
        {"index": k, "label": name, "colour": colours[k], "share": round(shares[name], 6)}
        for k, name in enumerate(segmentation.labels)
    ]


def indexed_png(label_map: np.ndarray, colours: np.ndarray) -> bytes:
    """A label map (H, W) as a PNG whose pixel values are the label indices, in 8 bits, with the labels' colours (k, 3)."""
    picture = Image.frombytes("P", label_map.shape[::-1], label_map.astype(np.uint8).tobytes())
    picture.putpalette(colours.ravel().tolist())
    return png(picture)


def png(picture: Image.Image | np.ndarray) -> bytes:
    """Encode losslessly."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(buffer, "PNG", compress_level=PNG_EFFORT)
    return buffer.getvalue()


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """Encode with loss, colours at full resolution; `quality` is Pillow's, 0 to 95."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
