"""Protocols: the picture size, sliding windows and class names with which published evaluation code runs a method.

A protocol does not bring the background rule of the method it was written for, such as a threshold on CLIP scores: every
method keeps its own rule, and the table names it.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from ovseg.maths.maps import window_starts
from ovseg.methods.base import Prepared
from ovseg.scene import from_image, resized
from ovseg.types import Segmentation


@dataclass(frozen=True)
class Protocol:
    """How one published evaluation prepares a picture. Sizes are in pixels.

    Args:
        source: whose evaluation it is, and what of it is left out.
        short_side: the shorter side after resizing, with the aspect kept; None leaves the picture as it is.
        long_side: the longest that the other side may become.
        square: squash to a square of this side instead.
        windows: sides of square sliding windows, whose scores are averaged; empty for the whole picture at once.
        stride: pixels from one window to the next.
        whole_too: the whole picture counts as one more window.
        names: for each benchmark, the variant of its class names; the data set's own names where there is none.
        background_words: extra words that count as background, where background is scored.
    """

    name: str
    source: str
    _: KW_ONLY
    short_side: int | None = None
    long_side: int = 2048
    square: int | None = None
    windows: tuple[int, ...] = ()
    stride: int = 224
    whole_too: bool = False
    names: dict[str, str] | None = None
    background_words: tuple[str, ...] = ()

    def working_hw(self, hw: tuple[int, int]) -> tuple[int, int]:
        """The size (H, W) at which a picture of size `hw` is segmented."""
        if self.square:
            return self.square, self.square
        if not self.short_side:
            return hw
        scale = min(self.short_side / min(hw), self.long_side / max(hw))
        return round(hw[0] * scale), round(hw[1] * scale)

    def boxes(self, hw: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
        """The windows of a picture of size `hw` (H, W), each as a slice of rows and a slice of columns."""
        for side in self.windows:
            for top in window_starts(hw[0], side, self.stride):
                for left in window_starts(hw[1], side, self.stride):
                    yield slice(top, top + side), slice(left, left + side)
        if self.whole_too or not self.windows:
            yield slice(None), slice(None)


_SCLIP_BACKGROUND = (
    "sky", "wall", "tree", "wood", "grass", "road", "sea", "river", "mountain", "sands", "desk", "bed", "building",
    "cloud", "lamp", "door", "window", "wardrobe", "ceiling", "shelf", "curtain", "stair", "floor", "hill", "rail", "fence",
)  # fmt: skip

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("native", "the whole picture, as the method itself takes it"),
        Protocol(
            "groupvit",
            "GroupViT's harness; without its top-5 classes and its thresholds",
            short_side=448,
            windows=(448,),
            names={"voc": "groupvit", "context": "groupvit"},
        ),
        Protocol("tcl", "TCL's harness; without PAMR, its thresholds and its saliency mix", short_side=448, windows=(448,)),
        Protocol(
            "ovdiff",
            "OVDiff's windows of two sizes and the whole picture",
            short_side=448,
            windows=(448, 336),
            whole_too=True,
            names={"voc": "ovdiff"},
        ),
        Protocol(
            "sclip",
            "SCLIP's harness, 26 background words; without its confidence and area rules",
            short_side=336,
            windows=(224,),
            stride=112,
            names={"voc": "sclip", "coco-object": "sclip", "ade20k": "sclip"},
            background_words=_SCLIP_BACKGROUND,
        ),
        Protocol("freeseg", "FreeSeg-Diff's squashed square; its figure is the per-image one", square=512),
        Protocol(
            "diffsegmenter",
            "DiffSegmenter's squashed square and class words",
            square=512,
            names={"voc": "diffsegmenter", "context": "diffsegmenter", "coco-object": "diffsegmenter"},
        ),
    )
}


def segment_under(
    protocol: Protocol, prepared: Prepared, image: UInt8[np.ndarray, "H W 3"], *, seed: int = 0
) -> Segmentation:
    """Segment a picture as the protocol says. Scores are averaged over its windows, at the picture's own size.

    Args:
        prepared: the method, prepared for the classes.
        seed: of the noise.
    """
    working, count = protocol.working_hw(image.shape[:2]), len(prepared.classes)
    picture = image if working == image.shape[:2] else resized(image, working)
    total, weight, part = np.zeros((count + 1, *working), np.float32), np.zeros(working, np.float32), None
    for box in protocol.boxes(working):
        part = prepared.segment(from_image(prepared.models, np.ascontiguousarray(picture[box]), seed))
        total[(slice(None), *box)] += _of_classes(part.scores, count)
        weight[box] += 1
    scores = total / weight
    if working != image.shape[:2]:
        scores = np.stack([cv2.resize(row, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) for row in scores])
    return Segmentation(image, part.labels[: len(scores)], scores, threshold=part.threshold)


def _of_classes(scores: np.ndarray, count: int) -> np.ndarray:
    """Scores (count + 1, H, W) of background and the classes asked for. Words that the method added count as background."""
    if len(scores) == count + 1:
        return scores
    return np.concatenate([np.maximum(scores[:1], scores[count + 1 :].max(0, keepdims=True)), scores[1 : count + 1]])
