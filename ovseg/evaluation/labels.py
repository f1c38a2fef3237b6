"""Label sources: which of a data set's classes a method is asked for on a picture."""

from collections.abc import Callable

import numpy as np

from ovseg.evaluation.datasets import Sample
from ovseg.vocabulary import ClassWord

LabelSource = Callable[[Sample, tuple[ClassWord, ...]], list[int]]
"""Given a sample and all classes, the indices of those to ask for."""


def ground_truth(sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """The classes that the truth holds: what remains is where they are."""
    return [int(label) - 1 for label in np.unique(sample.labels) if 0 < label <= len(classes)]


def all_names(sample: Sample, classes: tuple[ClassWord, ...]) -> list[int]:
    """Every class of the data set, on every picture."""
    return list(range(len(classes)))


LABEL_SOURCES: dict[str, LabelSource] = {"ground-truth": ground_truth, "all": all_names}


def find_label_source(name: str) -> LabelSource:
    """The label source of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in LABEL_SOURCES:
        raise ValueError(f"The labels must be one of {', '.join(LABEL_SOURCES)}, but got {name!r}.")
    return LABEL_SOURCES[name]
