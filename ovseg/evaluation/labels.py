"""Label sources: which of a data set's classes a method is asked for on a picture."""

from collections.abc import Callable

import numpy as np

from ovseg.evaluation.datasets import Sample
from ovseg.models import Models
from ovseg.words.classes import ClassWord
from ovseg.words.presence import look_for

LabelSource = Callable[[Models, Sample, tuple[ClassWord, ...]], list[int]]
"""Given a sample and all classes, the indices of those to ask for."""


def ground_truth(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """The classes that the truth holds: what remains is where they are."""
    return [int(label) - 1 for label in np.unique(sample.labels) if 0 < label <= len(classes)]


def by_clip(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """The classes whose logit comes near the best one's: the image filter of DiffSegmenter's released label files.

    A class is kept if the logit of "A photo of a CLASS" is at least `clip_ratio` times the highest of all classes', so at
    least one always is.
    """
    return [k for k, found in enumerate(look_for(models, sample.image, classes)) if found.present]


def by_clip_and_caption(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """The same and the classes whose name is near a noun of the caption: the released filter's union."""
    caption = models.captioner().caption(sample.image)
    return [k for k, found in enumerate(look_for(models, sample.image, classes, caption)) if found.present]


def all_names(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """Every class of the data set, on every picture."""
    return list(range(len(classes)))


LABEL_SOURCES: dict[str, LabelSource] = {
    "ground-truth": ground_truth,
    "clip": by_clip,
    "clip-caption": by_clip_and_caption,
    "all": all_names,
}
