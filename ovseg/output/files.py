"""The files of a segmentation: the same from the page, the command line and the library, in a folder or in one zip."""

import io
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from PIL import Image

from ovseg.files import as_json, as_npz
from ovseg.output import view
from ovseg.output.coco import coco_file
from ovseg.types import Neighbours, Segmentation, named

PICTURE = "picture.png"

README = """\
What this folder holds. All pictures have the size of the picture that was segmented, and no pixel is compressed with loss.

picture.png            the picture
overlay.png            the classes' colours over it
mask.png, legend.json  one label index a pixel (0 is background); the legend names the indices and gives their colours
classes/               a mask for each class that was found: white inside, black outside
cutouts/               each class cut out: transparent outside
coco.json              the masks as COCO annotates them, run lengths (pycocotools reads it); one annotation a class
coco-polygons.json     the same masks as polygons along the edges of the pixels; an outline goes to each hole and back
scores.npz             the score of every label at every pixel; the highest one is the label of mask.png
scores/                the same as pictures of 16 bits, one for each label; scores/range.json has the scores of 0 and 65535
evidence.npz           what led to the result: attention maps, clusters, features, support images
run.json               how it was made: method and settings, words, networks, seed, seconds, versions

Files that were not asked for are not there. The NPZ files hold a text README of their own:
    import numpy; print(numpy.load("scores.npz")["README"])
"""

SCORES = """\
scores: float32 (label, row, column), the score of every label at every pixel of the picture.
labels: the names of the labels; the first is the background.
threshold: the constant score of the background, where the method decides so; NaN where it scores the background itself.
The label of a pixel is the one with the highest score, the earlier one of equals: labels[scores.argmax(0)].
"""

EVIDENCE = """\
What led to the result, one piece after the other. titles, kinds, groups and labels have an entry for each piece k; labels
names the class that it speaks of, empty if none. The arrays of piece k begin with its number in three digits:
NNN_map       kind "heat": float (y, x), brighter is more. "affinity": float (y, x, y, x), the attention that every place
              pays to every other. "regions": integer (y, x), the number of each place's cluster.
NNN_image_M   kind "images": picture M, RGB uint8.
NNN_nearest, NNN_closeness, NNN_titles, NNN_picture_of, NNN_picture_M, NNN_places_M
              kind "neighbours": for each place the nearest candidates, best first (y, x, n), and their cosines; a candidate
              has a title, stands for picture picture_of, and the places in it where it speaks are places_M, M its number.
The grids (y, x) are those of the network's layers; stretched over the picture, they cover it.
"""


@dataclass(frozen=True)
class Result:
    """What is written: a segmentation and its run card. `order`: the labels that give the colours, if not its own."""

    segmentation: Segmentation
    card: Mapping[str, object]
    order: tuple[str, ...] | None = None


Files = Iterator[tuple[str, bytes]]


def _masks(result: Result) -> Files:
    segmentation = result.segmentation
    yield "overlay.png", view.png(view.overlay(segmentation, order=result.order))
    yield "mask.png", view.indexed_png(segmentation.label_map, view.colours_of(segmentation, result.order))
    yield "legend.json", as_json(view.legend(segmentation, result.order))


def _classes(result: Result) -> Files:
    for name, inside in class_masks(result.segmentation):
        yield f"classes/{name}.png", view.png(Image.fromarray(inside).convert("1"))


def _cutouts(result: Result) -> Files:
    for name, inside in class_masks(result.segmentation):
        visible = np.where(inside[..., None], result.segmentation.image, 0).astype(np.uint8)
        yield f"cutouts/{name}.png", view.png(np.dstack([visible, np.uint8(255) * inside]))


def _coco(result: Result) -> Files:
    yield PICTURE, view.png(result.segmentation.image)
    pictures, labels = [(PICTURE, result.segmentation.label_map)], result.segmentation.labels
    yield "coco.json", as_json(coco_file(pictures, labels))
    yield "coco-polygons.json", as_json(coco_file(pictures, labels, as_polygons=True), indent=None)


def _scores(result: Result) -> Files:
    segmentation = result.segmentation
    threshold = np.nan if segmentation.threshold is None else segmentation.threshold
    arrays = {"scores": segmentation.scores(), "labels": np.array(segmentation.labels), "threshold": np.float32(threshold)}
    yield "scores.npz", as_npz({"README": np.array(SCORES), **arrays})


def _score_pictures(result: Result) -> Files:
    scores = result.segmentation.scores()
    low, high = float(scores.min()), float(scores.max())
    steps = np.round((scores - low) / ((high - low) or 1.0) * 65535).astype(np.uint16)
    for number, row in enumerate(steps):
        yield f"scores/{file_name(result.segmentation.labels, number)}.png", view.png(row)
    yield "scores/range.json", as_json({"0": low, "65535": high})


def _evidence(result: Result) -> Files:
    evidence = result.segmentation.evidence
    arrays = {"README": np.array(EVIDENCE)}
    for name, field in (("titles", "title"), ("kinds", "kind"), ("groups", "group"), ("labels", "label")):
        arrays[name] = np.array([getattr(item, field) for item in evidence], np.str_)
    for number, item in enumerate(evidence):
        own = {} if item.map is None else {"map": item.map}
        own |= {} if item.affinity is None else {"map": item.affinity.whole()}
        own |= {f"image_{k}": picture for k, picture in enumerate(item.images)}
        own |= {} if item.neighbours is None else _neighbours(item.neighbours)
        arrays |= {f"{number:03d}_{name}": array for name, array in own.items()}
    yield "evidence.npz", as_npz(arrays)


def _neighbours(neighbours: Neighbours) -> dict[str, np.ndarray]:
    arrays = {
        "nearest": neighbours.nearest, "closeness": neighbours.closeness, "titles": np.array(neighbours.titles, np.str_),
        "picture_of": np.array(neighbours.picture_of, np.int64),
    }  # fmt: skip
    arrays |= {f"picture_{k}": picture for k, picture in enumerate(neighbours.pictures)}
    return arrays | {f"places_{k}": places for k, places in enumerate(neighbours.places)}


PARTS: Mapping[str, Callable[[Result], Files]] = {
    "masks": _masks, "classes": _classes, "cutouts": _cutouts, "coco": _coco, "scores": _scores,
    "score-pictures": _score_pictures, "evidence": _evidence,
}  # fmt: skip
"""What can be asked for, and what makes it. The run card and a README come with everything."""
USUAL = tuple(part for part in PARTS if part != "score-pictures")  # those take seconds, and scores are there already


def files_of(result: Result, parts: Collection[str] = USUAL) -> Files:
    """Names and contents of the files of some `PARTS`, or of "all", one after the other.

    Raises:
        ValueError: a part is unknown.
    """
    wanted = PARTS if "all" in parts else {part: named(PARTS, "files", part) for part in parts}
    for part in wanted:
        yield from PARTS[part](result)
    yield "run.json", as_json(result.card)
    yield "README.txt", README.encode()


def attention_of(segmentation: Segmentation) -> Files:
    """Every piece of evidence that is a picture by itself, as a PNG in the folder attention."""
    for number, evidence in enumerate(segmentation.evidence):
        picture = view.evidence_picture(evidence, segmentation.image)
        if picture is not None:
            name = "".join(c if c.isalnum() else "-" for c in evidence.title)
            yield f"attention/{number:03d}-{name}.png", view.png(picture)


def zip_of(
    results: Mapping[str, Result] | Result, parts: Collection[str] = USUAL, more: Mapping[str, bytes] | None = None
) -> bytes:
    """The files as one zip, with more beside; of several results, each in the folder of its name."""
    folders = {"": results} if isinstance(results, Result) else {f"{name}/": result for name, result in results.items()}
    made = ((folder + name, made) for folder, result in folders.items() for name, made in files_of(result, parts))
    return zipped(chain((more or {}).items(), made))


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Files as one zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files:
            packed = name.endswith((".png", ".npz"))  # they are compressed already
            archive.writestr(name, content, zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def class_masks(segmentation: Segmentation) -> Iterator[tuple[str, np.ndarray]]:
    """For each class that was found, a name for its file, such as "01-traffic-light", and its mask, bool (H, W)."""
    label_map = segmentation.label_map
    for label in (int(value) for value in np.unique(label_map) if value):
        yield file_name(segmentation.labels, label), label_map == label


def file_name(labels: Sequence[str], number: int) -> str:
    """A name for the file of a label: "01-traffic-light"."""
    return f"{number:02d}-{slug(labels[number])}"


def slug(title: str) -> str:
    """A title as a part of a file's name: "DiffSegmenter, draws 2" is "diffsegmenter-draws-2"."""
    words = "".join(c if c.isalnum() else " " for c in title.lower()).split()
    return "-".join(words)
