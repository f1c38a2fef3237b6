"""Protocols: the labels, class names, background, picture size and windows with which published evaluation code runs.

A method that scores the background by itself, such as OVDiff, keeps its own rule under any protocol; a threshold is the
protocol's where it has one. What a protocol leaves out is in its `source`, which the table prints.
"""

from collections.abc import Collection, Iterator
from dataclasses import KW_ONLY, dataclass, fields, replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from ovseg.maths.maps import window_starts
from ovseg.methods.base import Method, Prepared
from ovseg.scene import from_image, resized
from ovseg.types import Segmentation
from ovseg.words.presence import photo_prompts


@dataclass(frozen=True)
class Sureness:
    """What is too unsure to count, where background is scored.

    Args:
        scale: scores times this are the logits of probabilities over background and classes.
        least: a pixel whose highest probability is below it is background.
        least_share: a class that wins a smaller share of the pixels that are not background is left out.
    """

    scale: float
    least: float = 0.1
    least_share: float = 0.0

    def applied(self, scores: Float32[np.ndarray, "k H W"], words: int = 0) -> Float32[np.ndarray, "k H W"]:
        """The same scores, with the lowest one where a class must not win.

        Args:
            scores: background first.
            words: how many of the last rows are words that count as background.
        """
        end = len(scores) - words
        pooled = np.concatenate([np.concatenate([scores[:1], scores[end:]]).max(0)[None], scores[1:end]])
        counts = np.bincount(pooled.argmax(0).ravel(), minlength=end)
        small = np.flatnonzero(counts[1:] < self.least_share * counts[1:].sum()) + 1
        pooled[small] = scores.min()
        unsure = 1 / np.exp(self.scale * (pooled - pooled.max(0))).sum(0) < self.least
        result = scores.copy()
        result[small] = scores.min()
        result[1:end, unsure] = scores.min()
        return result


@dataclass(frozen=True)
class Protocol:
    """How one published evaluation prepares a picture. Sizes are in pixels.

    Args:
        source: whose evaluation it is, and what of it is left out.
        short_side: the shorter side after resizing, with the aspect kept; None leaves the picture as it is.
        long_side: the longest that the other side may become.
        squashed: the diffusion network sees the picture squashed to a square; nothing else does.
        labels: a name of `LABEL_SOURCES`: the classes that a method is asked for.
        thresholds: for each benchmark the background's threshold, and under "" that of all others; the method's own where
            there is none. It is never above the picture's highest score.
        with_pamr: the same where a method refines by PAMR.
        cuts_itself: the method that cuts the windows itself, so that they are not cut twice.
        settings: for a method's name, and a benchmark or "" for all, the settings that the protocol gives it.
        void_is_background: pixels that no other protocol counts are background.
        swept: background thresholds, each of which is counted beside the method's own.
        likeliest: how many classes a picture may show, those that its CLIP finds likeliest; 0 for all.
        sure: for each benchmark, when a pixel or a class is too unsure to count.
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
    squashed: bool = False
    windows: tuple[int, ...] = ()
    stride: int = 224
    whole_too: bool = False
    names: dict[str, str] | None = None
    background_words: tuple[str, ...] = ()
    labels: str = "all"
    thresholds: dict[str, float] | None = None
    with_pamr: float | None = None
    cuts_itself: str = ""
    settings: dict[tuple[str, str], dict[str, object]] | None = None
    void_is_background: bool = False
    swept: tuple[float, ...] = tuple(round(0.05 * k, 2) for k in range(20))
    likeliest: int = 0
    sure: dict[str, Sureness] | None = None

    def fitted(self, method: Method, benchmark: str, chosen: Collection[str] = ()) -> Method:
        """The method with what the protocol owns: no windows inside windows, the background's threshold, and its settings.

        Args:
            benchmark: the entry of names.json.
            chosen: settings that were asked for, which stay.
        """
        known, given = {field.name for field in fields(method)}, {}
        if "windows" in known and self.windows and self.cuts_itself != method.name:
            given |= {"windows": (), "short_side": 0}
        if "threshold" in known and self.thresholds:
            threshold = self.thresholds.get(benchmark, self.thresholds.get(""))
            by_pamr = self.with_pamr if getattr(method, "refinement", "") == "pamr" else None
            given |= {"threshold": by_pamr or threshold} if threshold is not None else {}
        for name in ("", benchmark):
            given |= (self.settings or {}).get((method.name, name), {})
        return replace(method, **{name: value for name, value in given.items() if name not in chosen})

    def working_hw(self, hw: tuple[int, int]) -> tuple[int, int]:
        """The size (H, W) at which a picture of size `hw` is segmented."""
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
        Protocol("native", "the whole picture, as the method itself takes it", labels="ground-truth"),
        Protocol(
            "groupvit",
            "GroupViT's harness; its choice of five classes for each picture is CLIP's",
            short_side=448,
            windows=(448,),
            thresholds={"voc": 0.95, "context": 0.35, "coco-object": 0.95},
            likeliest=5,
            names={"voc": "groupvit", "context": "groupvit"},
        ),
        Protocol(
            "tcl",
            "TCL's harness; PAMR as the method is set; what its network mixes into its own scores is no part of it",
            short_side=448,
            windows=(448,),
            thresholds={"": 0.5},
            with_pamr=0.4,
        ),
        Protocol(
            "ovdiff",
            "OVDiff's windows of two sizes and the whole picture",
            short_side=448,
            windows=(448, 336),
            whole_too=True,
            names={
                "voc": "ovdiff",
                "context": "ovdiff",
                "coco-object": "ovdiff",
                "coco-stuff": "ovdiff",
                "ade20k": "ovdiff",
            },
            cuts_itself="ovdiff",
            settings={
                ("ovdiff", ""): {"short_side": 448, "windows": (448, 336), "window_stride": 224, "windows_always": True},
            },
        ),
        Protocol(
            "sclip",
            "SCLIP's harness: 26 background words, what is unsure is background, and small classes are left out on VOC",
            short_side=336,
            windows=(224,),
            stride=112,
            names={"voc": "sclip", "coco-object": "sclip", "ade20k": "sclip"},
            background_words=_SCLIP_BACKGROUND,
            sure={"voc": Sureness(65, least_share=0.1), "coco-object": Sureness(50)},
        ),
        Protocol(
            "freeseg",
            "FreeSeg-Diff's: a square for the diffusion network alone, void counts as background; its figure is the mean"
            " over pictures",
            squashed=True,
            void_is_background=True,
        ),
        Protocol(
            "diffsegmenter",
            "DiffSegmenter's square and class words, labels by its filter; its figure is that of the best threshold on these"
            " pictures",
            squashed=True,
            labels="released-filter",
            settings={
                ("diffsegmenter", ""): {"filtered": False},
                ("diffsegmenter", "context"): {"prompt": "a photography of {}"},
                ("diffsegmenter", "coco-object"): {"prompt": "a photography of {}"},
            },
            names={"voc": "diffsegmenter", "context": "diffsegmenter", "coco-object": "diffsegmenter"},
            swept=tuple(round(0.3 + 0.01 * k, 2) for k in range(45)),
        ),
    )
}


def segment_under(
    protocol: Protocol,
    prepared: Prepared,
    image: UInt8[np.ndarray, "H W 3"],
    *,
    seed: int = 0,
    benchmark: str = "",
    words: int = 0,
) -> Segmentation:
    """Segment a picture as the protocol says. Scores are averaged over its windows, at the picture's own size.

    Args:
        prepared: the method, prepared for the classes.
        seed: of the noise.
        benchmark: the entry of names.json, where the protocol's rules differ from one to the next.
        words: how many of the last classes are words that count as background.
    """
    if protocol.cuts_itself and protocol.cuts_itself == prepared.method.name:
        protocol = replace(protocol, short_side=None, windows=(), whole_too=False)
    working, count = protocol.working_hw(image.shape[:2]), len(prepared.classes)
    picture = image if working == image.shape[:2] else resized(image, working)
    total, weight, part = np.zeros((count + 1, *working), np.float32), np.zeros(working, np.float32), None
    for box in protocol.boxes(working):
        crop = np.ascontiguousarray(picture[box])
        part = prepared.segment(from_image(prepared.models, crop, seed, square=protocol.squashed))
        total[(slice(None), *box)] += _of_classes(part.scores(), count)
        weight[box] += 1
    scores = total / weight
    if working != image.shape[:2]:
        scores = np.stack([cv2.resize(row, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) for row in scores])
    if 0 < protocol.likeliest < count:
        scores = _likeliest(prepared, image, scores, protocol.likeliest)
    if rule := (protocol.sure or {}).get(benchmark):
        scores = rule.applied(scores, words)
    result = Segmentation(image, part.labels[: len(scores)], scores, threshold=part.threshold)
    if protocol.thresholds and part.threshold is not None:  # a picture is never all background
        return result.with_threshold(min(part.threshold, float(scores[1:].max())))
    return result


def _likeliest(prepared: Prepared, image: np.ndarray, scores: np.ndarray, kept: int) -> np.ndarray:
    """Scores (count + 1, H, W) in which classes that CLIP does not find among the `kept` likeliest never win."""
    logits = prepared.models.clip.similarity([image], photo_prompts(prepared.classes))[0].cpu().numpy()
    others = np.argsort(-logits, kind="stable")[kept:] + 1
    scores = scores.copy()
    scores[others] = scores.min()
    return scores


def _of_classes(scores: np.ndarray, count: int) -> np.ndarray:
    """Scores (count + 1, H, W) of background and the classes asked for. Words that the method added count as background."""
    if len(scores) == count + 1:
        return scores
    return np.concatenate([np.maximum(scores[:1], scores[count + 1 :].max(0, keepdims=True)), scores[1 : count + 1]])
