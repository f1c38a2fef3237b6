"""Masks as COCO annotates them: compressed run lengths and polygons. Both give back the same pixels."""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Integer, UInt8
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects
from scipy.ndimage import label as components_of

from ovseg import __version__

HEAD = {"info": {"description": "Masks made by ovseg", "version": __version__}, "licenses": []}
"""What a COCO file begins with; some readers need it."""


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
    return [_outline(parts[box] == number, box) for number, box in enumerate(find_objects(parts), 1)]


def _outline(part: Bool[np.ndarray, "h w"], box: tuple[slice, slice]) -> list[int]:
    """A connected part in its box as one outline: clockwise around it, and from its first corner to every hole and back."""
    # OpenCV follows the centres of pixels. With four pixels for each, these say by which of its corners an outline goes.
    contours, _ = cv2.findContours(part.astype(np.uint8).repeat(2, 0).repeat(2, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = []
    for contour in sorted(contours, key=cv2.contourArea, reverse=True):
        ring = np.roll((contour[::-1, 0] + 1) // 2 + (box[1].start, box[0].start), 1, 0)
        rings.append(ring[np.any(ring != np.roll(ring, 1, 0), 1)].tolist())
    outer, *holes = rings
    path = [*outer, outer[0]] if holes else outer
    for hole in holes:
        path += [*hole, hole[0], outer[0]]
    return [value for point in path for value in point]


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
