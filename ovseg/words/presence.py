"""From a picture to class words: what a caption names, and which classes seem to be there.

The second is the category filter of DiffSegmenter's released label files. The method's masks cannot reject a class: each
class's map is stretched to 1 somewhere. So what is not there has to be left out before. A class is taken for present if
CLIP finds the picture nearly as like it as like the best class, or if a noun of the caption means nearly the same; the
released inference uses this union.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovseg.backbones.base import word_states
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.words.classes import ClassWord, parse_classes
from ovseg.words.nouns import classes_of, noun_phrases

WORD_COSINE = 0.8  # the released filter's


def asked_for(
    models: Models, image: np.ndarray, words: str, *, names_itself: bool = False, caption: str = "", captioner: str = "",
    report: Report = silent,
) -> tuple[tuple[ClassWord, ...], str]:  # fmt: skip
    """The classes to ask a method for, and the caption of the picture: made where it is wanted and not given.

    Typed words are taken as they are. Without words, a method that finds its own gets none and reads the caption, and
    any other is asked for what the caption names.

    Args:
        names_itself: whether the method finds its own classes where none are given.
        captioner: its name; the backbone's if empty.

    Raises:
        ValueError: the words cannot be read, there is no captioner, or neither words nor the caption name anything.
    """
    classes = parse_classes(words) if words.strip() else ()
    if not caption.strip() and (names_itself or not classes):
        if obstacle := models.captioner_obstacle(captioner):
            raise ValueError(f'Classes must be typed, such as "cat, grass": no caption can be made. {obstacle}')
        report("captioning", 0.0)
        caption = models.captioner(captioner).caption(image)
    if classes or names_itself:
        return classes, caption.strip()
    named = classes_of(caption)
    if not named:
        raise ValueError(f'Classes must be typed here, such as "cat, grass": the caption "{caption}" names nothing.')
    return named, caption.strip()


@dataclass(frozen=True)
class Presence:
    """What speaks for a class: its logit over the best class's, and its cosine with the nearest noun of the caption."""

    name: str
    looks: float
    said: float
    present: bool


def photo_prompts(classes: Sequence[ClassWord]) -> list[str]:
    """What CLIP is asked about each class; of several phrases the first speaks."""
    return [f"A photo of a {word.name}" for word in classes]


def look_for(models: Models, image: np.ndarray, classes: Sequence[ClassWord], caption: str = "") -> tuple[Presence, ...]:
    """Every class with what speaks for it; at least one is present.

    Args:
        image: RGB uint8 (H, W, 3).
        caption: what is said about the picture; empty to let CLIP alone decide.
    """
    logits = models.clip.similarity([image], photo_prompts(classes))[0].cpu()
    best = float(logits.max())
    least = min(models.checkpoint.clip_ratio * best, best)  # the best one stays where all logits are negative
    said = nearest_noun(models, classes, caption)
    return tuple(
        Presence(word.name, float(logit) / best, heard, float(logit) >= least or heard > WORD_COSINE)
        for word, logit, heard in zip(classes, logits, said, strict=True)
    )


def nearest_noun(models: Models, classes: Sequence[ClassWord], caption: str) -> list[float]:
    """The highest cosine of each class with a noun of the caption; 0 for a caption without nouns."""
    nouns = [phrase.head for phrase in noun_phrases(caption)]
    if not nouns:
        return [0.0] * len(classes)
    cosines = word_states(models.backbone, [word.name for word in classes]) @ word_states(models.backbone, nouns).T
    return [float(row.max()) for row in cosines]
