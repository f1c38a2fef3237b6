"""Large pictures in overlapping tiles, whose scores are blended by a smooth window: for every method, in one place."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float32, Integer

from ovseg.maths.maps import windows
from ovseg.models import Models
from ovseg.progress import Report, silent, within
from ovseg.scene import from_image
from ovseg.types import Evidence, EvidenceOnDemand, Scene, Segmentation

OVERLAP = 0.25  # share of a tile's side that the next one shares
LEAST_SIDE = 32  # pixels

Box = tuple[slice, slice]


def in_tiles(
    models: Models,
    segment: Callable[[Scene, Report], Segmentation],
    scene: Scene,
    report: Report = silent,
    *,
    side: int,
    stretched: bool = False,
) -> Segmentation:
    """Segment a picture tile by tile; the evidence is that of the whole picture, and which tile counts most where.

    A tile is seen as large as a whole picture is, so small things are seen better; what lies outside of it is not seen.
    Where a method stretches each class's scores over the picture, a tile without the class would score like one with it:
    then the picture is looked at as a whole too, and each tile's scores of a class get the range that they have there.

    Args:
        segment: segments a scene, whatever its size is.
        side: of a tile, in pixels; a picture that is no larger is segmented as it is.
        stretched: whether scores are stretched over the picture.

    Raises:
        ValueError: the side is too small.
    """
    _check_side(side)
    boxes = boxes_of(scene.image.shape[:2], side)
    if len(boxes) == 1:
        return segment(scene, report)
    first = int(stretched)
    share = 1 / (first + len(boxes))
    whole = segment(scene, within(report, 0.0, share)) if stretched else None
    parts = []
    for number, box in enumerate(boxes):
        begin, what = (first + number) * share, f"tile {number + 1} of {len(boxes)}"
        tile = from_image(models, np.ascontiguousarray(scene.image[box]), scene.seed, caption=scene.caption)
        parts.append(segment(tile, within(report, begin, begin + share, what)))
    return _joined(scene, whole, boxes, parts)


def boxes_of(image_hw: tuple[int, int], side: int) -> list[Box]:
    """The tiles of a picture (H, W), row by row."""
    return windows(image_hw, side, round(side * (1 - OVERLAP)))


def looked_at_hw(image_hw: tuple[int, int], side: int, stretched: bool) -> list[tuple[int, int]]:
    """The sizes (H, W) of all pieces in which `in_tiles` looks at a picture; the picture's own where the side is 0.

    Raises:
        ValueError: the side is too small.
    """
    _check_side(side or LEAST_SIDE)
    boxes = boxes_of(image_hw, side) if side else []
    if len(boxes) <= 1:
        return [image_hw]
    pieces = [tuple(min(side, length) for length in image_hw)] * len(boxes)
    return [image_hw, *pieces] if stretched else pieces


def _check_side(side: int) -> None:
    if side < LEAST_SIDE:
        raise ValueError(f"A tile must have a side of {LEAST_SIDE} pixels or more, but got {side}.")


def _joined(scene: Scene, whole: Segmentation | None, boxes: Sequence[Box], parts: Sequence[Segmentation]) -> Segmentation:
    every = [*parts, *([whole] if whole else [])]
    labels = tuple(dict.fromkeys(label for part in every for label in part.labels))
    tiles = (rows_of_labels(part, labels) for part in parts)  # one after the other: all of them are large
    if whole:
        ranges = rows_of_labels(whole, labels)
        tiles = (in_range_of(tile, ranges[(slice(None), *box)]) for tile, box in zip(tiles, boxes, strict=True))
    scores, most = blended((len(labels), *scene.image.shape[:2]), boxes, tiles)
    threshold, timings = parts[0].threshold, sum((Counter(part.timings) for part in every), Counter())
    if threshold is not None:
        scores[0] = threshold  # exactly, whatever the division rounds

    def evidence() -> tuple[Evidence, ...]:
        own = whole.evidence if whole else ()
        return *own, Evidence("The tile that counts most", "regions", map=most, group="Tiles")

    return Segmentation(scene.image, labels, scores, EvidenceOnDemand(evidence), dict(timings), threshold)


def blended(
    shape: tuple[int, int, int], boxes: Sequence[Box], tiles: Iterable[Float32[np.ndarray, "k _h _w"]]
) -> tuple[Float32[np.ndarray, "k H W"], Integer[np.ndarray, "H W"]]:
    """The mean of all tiles at each pixel, by `window`, and the number of the tile that counts most there."""
    total, weight = np.zeros(shape, np.float32), np.zeros(shape[1:], np.float32)
    most, highest = np.zeros(shape[1:], np.int64), np.zeros(shape[1:], np.float32)
    for number, (box, tile) in enumerate(zip(boxes, tiles, strict=True)):
        own = window(*tile.shape[1:])
        total[(slice(None), *box)] += own * tile
        weight[box] += own
        most[box][own > highest[box]] = number
        highest[box] = np.maximum(highest[box], own)
    return total / weight, most


def rows_of_labels(part: Segmentation, labels: Sequence[str]) -> Float32[np.ndarray, "k h w"]:
    """The scores of a list of labels; one that was not found has the lowest score that there is."""
    scores = part.scores()
    none = np.full(scores.shape[1:], scores.min(), np.float32)
    return np.stack([scores[part.labels.index(label)] if label in part.labels else none for label in labels])


def in_range_of(scores: Float32[np.ndarray, "k h w"], whole: Float32[np.ndarray, "k h w"]) -> Float32[np.ndarray, "k h w"]:
    """Scores of a tile, of which each row is stretched to the range that it has in the whole picture's scores there."""
    (low, high), (own_low, own_high) = (
        (one.min((1, 2), keepdims=True), one.max((1, 2), keepdims=True)) for one in (whole, scores)
    )
    span = np.where(own_high > own_low, own_high - own_low, np.float32(1))
    return low + (high - low) * (scores - own_low) / span


def window(height: int, width: int) -> Float32[np.ndarray, "height width"]:
    """How much each pixel of a tile counts: the square of a sine along both sides, highest in the middle, never 0."""
    rows, columns = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width))
    return (rows[:, None] * columns).astype(np.float32)
