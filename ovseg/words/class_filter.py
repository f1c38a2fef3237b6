"""From a picture to class words: the classes that a caption names, and the filter that says which classes are present.

DiffSegmenter's masks cannot reject a class, because the map of each class is stretched to 1 somewhere: an absent class must
be left out beforehand. The filter is that of its released label files. A class counts as present if CLIP's logit for it is
nearly that of the best class, or if a noun of the caption means nearly the same; the released inference uses this union.

`look_for` takes one caption of any captioner, its things, and the backbone's text encoder. `look_as_released` takes what the
released label files were made with: two greedy captions, each noun by itself, and CLIP's own text network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from ovseg.backbones.base import word_states
from ovseg.limits import visible
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.words.classes import ClassWord, parse_classes
from ovseg.words.nouns import classes_of, every_noun, noun_phrases

if TYPE_CHECKING:
    from ovseg.pretrained.clip import Clip

WORD_COSINE = 0.8  # between a class and a noun that means the same; the released filter's
BEGINNINGS = ("", "A picture of")  # of the two captions; the released filter's


def asked_for(
    models: Models,
    image: UInt8[np.ndarray, "H W 3"],
    words: str,
    *,
    finds_words: bool = False,
    caption: str = "",
    captioner: str = "",
    report: Report = silent,
) -> tuple[tuple[ClassWord, ...], str]:
    """The classes to ask a method for, and the caption of the picture, which is made if it is needed and not given.

    Typed words are taken as they are. Without words, a method that names classes itself gets none, and any other method
    is asked for the classes that the caption names.

    Args:
        words: as `parse_classes` reads them; blank for none.
        finds_words: whether the method names classes itself, from the caption, where none are given.
        captioner: its name; the backbone's if empty.

    Raises:
        ValueError: the words cannot be read, there is no captioner, or neither words nor the caption name anything.
    """
    classes, caption = parse_classes(words) if words.strip() else (), visible(caption)
    if not caption.strip() and (finds_words or not classes):
        if obstacle := models.captioner_obstacle(captioner):
            raise ValueError(f'Classes must be typed, such as "cat, grass": no caption can be made. {obstacle}')
        report("captioning", 0.0)
        caption = models.captioner(captioner).caption(image)
    if classes or finds_words:
        return classes, caption.strip()
    named = classes_of(caption)
    if not named:
        raise ValueError(f'Classes must be typed here, such as "cat, grass": the caption "{caption}" names nothing.')
    return named, caption.strip()


@dataclass(frozen=True)
class Presence:
    """Whether a class is present in a picture, and why."""

    name: str
    clip_score: float  # CLIP's logit of the class divided by that of the best class
    caption_score: float  # the highest cosine of the class with a noun of the caption
    present: bool


def photo_prompts(classes: Sequence[ClassWord]) -> list[str]:
    """CLIP's prompt for each class, of its name alone."""
    return [f"A photo of a {word.name}" for word in classes]


def look_for(
    models: Models, image: UInt8[np.ndarray, "H W 3"], classes: Sequence[ClassWord], caption: str = ""
) -> tuple[Presence, ...]:
    """Which of the classes a picture shows; at least one is present. Without a caption CLIP alone decides."""
    nouns = [phrase.head for phrase in noun_phrases(caption)]
    cosines = nearest_noun(partial(word_states, models.backbone), classes, nouns)
    return _verdicts(models, models.clip, image, classes, cosines)


def look_as_released(
    models: Models, image: UInt8[np.ndarray, "H W 3"], classes: Sequence[ClassWord], captioner: str = "", clip: str = ""
) -> tuple[Presence, ...]:
    """Which of the classes a picture shows, by the pipeline that made DiffSegmenter's label files; at least one is present.

    Args:
        captioner: its name or folder; the backbone's if empty. The released one is BLIP large.
        clip: what open_clip calls it; the backbone's if empty. The released one is OpenAI's ViT-L/14.

    Raises:
        ValueError: a network cannot be loaded, or the captioner cannot go on greedily.
    """
    network, speaker = models.clip_named(clip), models.captioner(captioner)
    nouns = dict.fromkeys(noun for beginning in BEGINNINGS for noun in every_noun(speaker.go_on(image, beginning)))
    return _verdicts(models, network, image, classes, nearest_noun(network.word_states, classes, list(nouns)))


def _verdicts(
    models: Models, clip: "Clip", image: UInt8[np.ndarray, "H W 3"], classes: Sequence[ClassWord], cosines: Sequence[float]
) -> tuple[Presence, ...]:
    logits = clip.similarity([image], photo_prompts(classes))[0].cpu()
    best = float(logits.max())
    least = min(models.checkpoint.clip_ratio * best, best)  # the best one stays where all logits are negative
    return tuple(
        Presence(word.name, float(logit) / best, cosine, float(logit) >= least or cosine > WORD_COSINE)
        for word, logit, cosine in zip(classes, logits, cosines, strict=True)
    )


def nearest_noun(states: Callable[[list[str]], Tensor], classes: Sequence[ClassWord], nouns: list[str]) -> list[float]:
    """The highest cosine of each class with one of some nouns, by what gives unit vectors of words; 0 without nouns."""
    if not nouns:
        return [0.0] * len(classes)
    return (states([word.name for word in classes]) @ states(nouns).T).amax(1).tolist()
