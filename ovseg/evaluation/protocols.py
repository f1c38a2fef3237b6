"""Protocols: how published harnesses evaluate, and the released code of the methods; segmenting as one of them says.

A method that scores the background by itself keeps its own rule under any protocol; a threshold is the protocol's where it
has one. What a protocol leaves out is in its `source`, which the table prints.
"""

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import UInt8

from ovseg.methods import METHODS
from ovseg.methods.base import Prepared
from ovseg.methods.protocol import Protocol, Sureness
from ovseg.pictures import resized
from ovseg.scene import from_image
from ovseg.types import Segmentation
from ovseg.words.class_filter import photo_prompts

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
            "sclip",
            "SCLIP's harness: 26 background words, what is unsure is background, and small classes are left out on VOC",
            short_side=336,
            windows=(224,),
            stride=112,
            names={"voc": "sclip", "coco-object": "sclip", "ade20k": "sclip"},
            background_words=_SCLIP_BACKGROUND,
            sure={"voc": Sureness(65, least_share=0.1), "coco-object": Sureness(50)},
        ),
        *(protocol for kind in METHODS for protocol in kind.protocols),
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
        part = prepared.method.apply(prepared, from_image(prepared.models, crop, seed, square=protocol.squashed))
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
