"""Protocols: how a picture reaches a method and how its scores come back, as the harnesses of the field do it.

A preset sets size, windows and names. Background rules that belong to another method's scores (a threshold on CLIP
affinities, say) are not carried over: each method keeps its own, and the table says which.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from ovseg.maths.maps import window_starts
from ovseg.methods.base import Prepared
from ovseg.scene import from_image, resized
from ovseg.types import Segmentation


@dataclass(frozen=True)
class Protocol:
    """One harness's inference settings. Sizes are in pixels.

    Args:
        short_side: resize to this shorter side, aspect kept; None leaves the picture as it is.
        long_side: the longer side may not exceed this after it.
        square: squash to a square of this side instead.
        windows: sides of sliding windows, averaged where they overlap; none: the whole picture at once.
        stride: of the windows.
        whole_too: the whole picture is averaged in with the windows.
        names: variant of the class names, by benchmark; the data set's own where there is none.
        background_words: asked for beside the classes and counted as background, where background is scored.
    """

    name: str
    source: str
    short_side: int | None = None
    long_side: int = 2048
    square: int | None = None
    windows: tuple[int, ...] = ()
    stride: int = 224
    whole_too: bool = False
    names: dict[str, str] | None = None
    background_words: tuple[str, ...] = ()

    def working_hw(self, hw: tuple[int, int]) -> tuple[int, int]:
        """The size at which a picture of (H, W) is segmented."""
        if self.square:
            return self.square, self.square
        if not self.short_side:
            return hw
        scale = min(self.short_side / min(hw), self.long_side / max(hw))
        return round(hw[0] * scale), round(hw[1] * scale)

    def boxes(self, hw: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
        """The windows on a picture of (H, W), as rows and columns."""
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
        Protocol("native", "ours: the picture as the method takes it, whole"),
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


def segment_under(protocol: Protocol, prepared: Prepared, image: UInt8[np.ndarray, "H W 3"], seed: int = 0) -> Segmentation:
    """Segment a picture as the protocol does; scores are averaged over windows and come back at (H, W)."""
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
    """Scores of the background and of the classes asked for; words that a method found by itself are background."""
    if len(scores) == count + 1:
        return scores
    return np.concatenate([np.maximum(scores[:1], scores[count + 1 :].max(0, keepdims=True)), scores[1 : count + 1]])
