"""Label sources: which classes of a data set a method is asked for on a picture."""

from collections.abc import Callable

import numpy as np

from ovseg.evaluation.datasets import Sample
from ovseg.methods import METHODS, Method, released_for
from ovseg.models import Models
from ovseg.words.class_filter import look_for
from ovseg.words.classes import ClassWord

LabelSource = Callable[[Models, Sample, tuple[ClassWord, ...]], list[int]]
"""Given a sample and all classes, the indices of those to ask for."""

NETWORKS: dict[str, tuple[str, ...]] = {"clip": ("clip",), "clip-caption": ("clip", "captioner")}
"""The networks that a label source uses, where it uses some."""


def ground_truth(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """The classes that are in the picture; the method only has to find where they are."""
    return [int(label) - 1 for label in np.unique(sample.labels) if 0 < label <= len(classes)]


def by_clip(models: Models, sample: Sample, classes: tuple[ClassWord, ...], caption: str = "") -> list[int]:
    """The classes that CLIP finds in the picture: the filter of DiffSegmenter's released label files.

    A class is kept if its logit for "A photo of a CLASS" is at least `clip_ratio` times the highest one. So there is always
    at least one class.
    """
    return [k for k, presence in enumerate(look_for(models, sample.image, classes, caption)) if presence.present]


def by_clip_and_caption(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """The classes that CLIP finds, and those whose name is close to a noun of the caption, as the released filter does."""
    return by_clip(models, sample, classes, models.captioner().caption(sample.image))


def all_names(models: Models, sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """Every class of the data set, on every picture."""
    return list(range(len(classes)))


def by_filter_of(kind: type[Method]) -> LabelSource:
    """The classes that the label filter of a method's released code finds."""
    return lambda models, sample, classes: list(released_for(models, kind).asked(models, sample.image, classes))


FILTERS = {kind.label_source: kind for kind in METHODS if kind.label_source}
"""The methods whose released code has a label filter, by the name of that label source."""

LABEL_SOURCES: dict[str, LabelSource] = {
    "ground-truth": ground_truth,
    "clip": by_clip,
    "clip-caption": by_clip_and_caption,
    **{name: by_filter_of(kind) for name, kind in FILTERS.items()},
    "all": all_names,
}
