"""Label sources: which of a data set's classes a method is asked for on a picture."""

from collections.abc import Callable

import numpy as np

from ovseg.evaluation.datasets import Sample
from ovseg.models import Models
from ovseg.vocabulary import ClassWord

LabelSource = Callable[[Models, Sample, tuple[ClassWord, ...]], list[int]]
"""Given a sample and all classes, the indices of those to ask for."""


def ground_truth(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """The classes that the truth holds: what remains is where they are."""
    return [int(label) - 1 for label in np.unique(sample.labels) if 0 < label <= len(classes)]


def by_clip(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """The classes whose logit comes near the best one's: the image filter of DiffSegmenter's released label files.

    A class is kept if the logit of "A photo of a CLASS" is at least `clip_ratio` times the highest of all classes', so at
    least one always is. Of several phrases the first speaks for the class.
    """
    prompts = [f"A photo of a {word.name}" for word in classes]
    cosines = models.clip.similarity([sample.image], prompts)[0]
    return [int(k) for k in (cosines >= models.checkpoint.clip_ratio * cosines.max()).nonzero().flatten()]


def all_names(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """Every class of the data set, on every picture."""
    return list(range(len(classes)))


LABEL_SOURCES: dict[str, LabelSource] = {"ground-truth": ground_truth, "clip": by_clip, "all": all_names}


def find_label_source(name: str) -> LabelSource:
    """The label source of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in LABEL_SOURCES:
        raise ValueError(f"The labels must be one of {', '.join(LABEL_SOURCES)}, but got {name!r}.")
    return LABEL_SOURCES[name]
