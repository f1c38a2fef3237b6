"""What programs get back: plain values that JSON can hold, with a type for each."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from ovseg.compare import Comparison, Entry
from ovseg.output.coco import annotations_of
from ovseg.types import Segmentation


class Rle(TypedDict):
    """A mask as COCO's compressed run lengths; `pycocotools.mask.decode` gives the pixels."""

    size: list[int]  # height, width
    counts: str


class Mask(TypedDict):
    """One class that was found. The keys but the label and the score are those of COCO's annotations."""

    label: str
    score: float  # the mean of the class's score over its mask
    id: int
    image_id: int
    category_id: int  # the index of the label
    area: int
    bbox: list[int]  # x, y, width, height
    iscrowd: int
    segmentation: Rle


class Segmented(TypedDict):
    """What one method made of a picture."""

    title: str  # the method with what is unusual in its settings
    method: str
    settings: dict[str, Any]
    labels: list[str]  # the background first
    masks: list[Mask]
    shares: dict[str, float]  # of the picture, 0 to 1, for every label
    threshold: float | None  # the score of the background, where the method has a constant one
    size: list[int]  # height, width
    caption: str
    seed: int
    seconds: dict[str, float]  # by stage, and "total"
    passes: int | None  # of the diffusion network
    rows: int | None  # prompts in all passes together
    backbone: str
    notes: list[str]  # on words that may not mean what was meant


class Failed(TypedDict):
    """A method that could not be run, and why."""

    title: str
    sentence: str


class Compared(TypedDict):
    """What several methods made of the same picture."""

    labels: list[str]
    results: list[Segmented]
    failures: list[Failed]
    agreement: float | None  # share of the picture where all say the same
    mutual_iou: list[list[float | None]]  # mean IoU of every two results, in their order
    caption: str
    seed: int
    backbone: str
    notes: list[str]  # on words that may not mean what was meant


class Captioned(TypedDict):
    """A sentence about a picture, and the things that it names."""

    caption: str
    things: list[str]
    seconds: float


class Drawn(TypedDict):
    """How a picture was drawn."""

    prompt: str
    seed: int
    steps: int
    guidance: float
    size: list[int]  # height, width
    seconds: float
    backbone: str


def masks_of(segmentation: Segmentation) -> list[Mask]:
    """The masks of the classes that were found, in the order of the labels."""
    label_map, scores, masks = segmentation.label_map, segmentation.scores(), []  # each look expands the scores
    for annotation in annotations_of(label_map, image_id=1):
        index = annotation["category_id"]
        score = float(scores[index][label_map == index].mean(dtype=np.float64))
        masks.append(Mask(label=segmentation.labels[index], score=score, **annotation))
    return masks


def segmented(entry: Entry, caption: str, seed: int, backbone: str, notes: Sequence[str] = ()) -> Segmented:
    """One entry of a comparison as JSON."""
    made = entry.segmentation
    return Segmented(
        title=entry.title, method=entry.method, settings=dict(entry.settings), labels=list(made.labels),
        masks=masks_of(made), shares=made.shares, threshold=made.threshold, size=list(made.image.shape[:2]), caption=caption,
        seed=seed, seconds={**made.timings, "total": entry.seconds}, passes=entry.passes, rows=entry.rows, backbone=backbone,
        notes=list(notes),
    )  # fmt: skip


def compared(comparison: Comparison, caption: str, backbone: str, notes: Sequence[str]) -> Compared:
    """A comparison as JSON."""
    record = comparison.record()
    iou = [[None if np.isnan(value) else float(value) for value in row] for row in record["mutual_iou"]]
    return Compared(
        labels=record["labels"], agreement=record["agreement"], mutual_iou=iou, caption=caption, seed=comparison.seed,
        results=[segmented(entry, caption, comparison.seed, entry.network) for entry in comparison.entries],
        failures=[Failed(title=failure.title, sentence=failure.sentence) for failure in comparison.failures],
        backbone=backbone, notes=list(notes),
    )  # fmt: skip
