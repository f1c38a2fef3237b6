"""Masks as COCO annotates them: compressed run lengths and polygons. Both give back the same pixels."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Integer, UInt8
from pycocotools import mask as coco_mask
from scipy.ndimage import label as components_of

from ovseg import __version__

RIGHT, DOWN, LEFT, UP = (1, 0), (0, 1), (-1, 0), (0, -1)
TURNS = {RIGHT: (DOWN, RIGHT, UP), DOWN: (LEFT, DOWN, RIGHT), LEFT: (UP, LEFT, DOWN), UP: (RIGHT, UP, LEFT)}
"""Where an outline may go on: first to its own side, so that pixels which only touch at a corner stay apart."""

HEAD = {"info": {"description": "Masks made by ovseg", "version": __version__}, "licenses": []}
"""What a COCO file begins with; some readers need it."""

Point = tuple[int, int]


def rle(inside: Bool[np.ndarray, "H W"]) -> dict:
    """A mask as COCO's compressed run lengths, ready for JSON: {"size": [H, W], "counts": "..."}."""
    encoded = coco_mask.encode(np.asfortranarray(inside, np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def polygons(inside: Bool[np.ndarray, "H W"]) -> list[list[int]]:
    """A mask as COCO's polygons, [x, y, x, y, ...], one for each connected part.

    They run along the edges of the pixels: pixel (x, y) fills the square from (x, y) to (x + 1, y + 1). COCO's polygons
    have no holes, so an outline goes to each hole and back by the same way, which encloses nothing. pycocotools
    makes exactly the same mask of them.
    """
    parts, _ = components_of(inside)
    rings: dict[int, list[list[Point]]] = defaultdict(list)
    for ring in _rings(inside):
        x, y = ring[0]  # a ring begins along the top of a pixel that is inside
        rings[int(parts[y, x])].append(ring)
    return [_joined(found) for _, found in sorted(rings.items())]


def _rings(inside: np.ndarray) -> list[list[Point]]:
    """Closed outlines as corner points, clockwise around what is inside, each begun on top of a pixel that is inside."""
    open_edges = _edges(inside)
    rings = []
    for start in sorted(corner for corner, ways in open_edges.items() if RIGHT in ways):
        if RIGHT not in open_edges[start]:
            continue  # an outline has passed here meanwhile
        ring, corner, way = [], start, RIGHT
        while True:
            ring.append(corner)
            while True:  # along a straight line
                open_edges[corner].remove(way)
                corner = corner[0] + way[0], corner[1] + way[1]
                following = next((turn for turn in TURNS[way] if turn in open_edges[corner]), None)
                if following != way:
                    break
            if following is None:
                break
            way = following
        rings.append(ring)
    return rings


def _edges(inside: np.ndarray) -> dict[Point, set[Point]]:
    """For each corner of pixels, the ways in which an outline leaves it, with the inside to its right."""
    padded = np.pad(inside, 1)
    middle = padded[1:-1, 1:-1]
    sides = (
        (middle & ~padded[:-2, 1:-1], (0, 0), RIGHT), (middle & ~padded[1:-1, 2:], (1, 0), DOWN),
        (middle & ~padded[2:, 1:-1], (1, 1), LEFT), (middle & ~padded[1:-1, :-2], (0, 1), UP),
    )  # fmt: skip
    edges: dict[Point, set[Point]] = defaultdict(set)
    for present, (dx, dy), way in sides:
        for y, x in np.argwhere(present).tolist():
            edges[x + dx, y + dy].add(way)
    return edges


def _joined(rings: list[list[Point]]) -> list[int]:
    """The rings of one connected part as one outline: around it, and from its first corner to every hole and back."""
    outer, *holes = sorted(rings, key=lambda ring: -cv2.contourArea(np.array(ring, np.int32)))
    path = [*outer, outer[0]]
    for hole in holes:
        path += [*hole, hole[0], outer[0]]
    return [value for point in (path if holes else outer) for value in point]


def annotations_of(
    label_map: Integer[np.ndarray, "H W"], image_id: int, first_id: int = 1, *, as_polygons: bool = False
) -> list[dict]:
    """One annotation for each class that a label map holds; the category is the label's index, 0 is no category.

    Args:
        first_id: the number of the first annotation; ids are unique in a file.
        as_polygons: whether `segmentation` holds polygons in place of run lengths.
    """
    annotations = []
    for label in (int(value) for value in np.unique(label_map) if value):
        encoded = rle(label_map == label)
        annotations.append(
            {
                "id": first_id + len(annotations),
                "image_id": image_id,
                "category_id": label,
                "area": int(coco_mask.area(encoded)),
                "bbox": [int(side) for side in coco_mask.toBbox(encoded)],
                "iscrowd": 0,
                "segmentation": polygons(label_map == label) if as_polygons else encoded,
            }
        )
    return annotations


def coco_file(
    pictures: Iterable[tuple[str, UInt8[np.ndarray, "_H _W"]]], labels: Sequence[str], *, as_polygons: bool = False
) -> dict:
    """Label maps with the names of their pictures as one COCO file, ready for JSON. `labels[0]` is the background."""
    images, annotations = [], []
    for number, (name, label_map) in enumerate(pictures, 1):
        images.append({"id": number, "file_name": name, "height": label_map.shape[0], "width": label_map.shape[1]})
        annotations += annotations_of(label_map, number, len(annotations) + 1, as_polygons=as_polygons)
    categories = [{"id": k, "name": name} for k, name in enumerate(labels) if k]
    return {**HEAD, "images": images, "annotations": annotations, "categories": categories}


def merged(files: Iterable[Mapping], first: Sequence[str] = ()) -> dict:
    """COCO files as one, in the order given: pictures, annotations and categories are numbered anew, from 1.

    Categories of the same name become one. They are all that the files name, also those that no picture shows.

    Args:
        first: names of the first categories, in order; the others follow by the alphabet.
    """
    files = list(files)
    named = {category["name"] for file in files for category in file["categories"]}
    numbers = {name: number for number, name in enumerate([*first, *sorted(named - set(first))], 1)}
    images, annotations = [], []
    for file in files:
        names = {category["id"]: category["name"] for category in file["categories"]}
        places = {image["id"]: len(images) + k for k, image in enumerate(file["images"], 1)}
        images += [{**image, "id": places[image["id"]]} for image in file["images"]]
        for item in file["annotations"]:
            numbered = {"id": len(annotations) + 1, "image_id": places[item["image_id"]]}
            annotations.append({**item, **numbered, "category_id": numbers[names[item["category_id"]]]})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {**HEAD, "images": images, "annotations": annotations, "categories": categories}
