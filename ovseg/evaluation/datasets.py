"""Data sets with exact masks: pictures, label maps, and the words for the labels."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from ovseg.pocket.world import LABELS, THINGS, scene
from ovseg.types import BACKGROUND
from ovseg.vocabulary import ClassWord


@dataclass(frozen=True)
class Sample:
    """A picture and its truth: `labels` indexes the data set's labels, 255 is not counted."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]


class Dataset(Protocol):
    """Numbered samples. `labels[0]` is background."""

    name: str
    labels: tuple[str, ...]

    def sample(self, index: int) -> Sample:
        """The sample of this number, 0 or more."""
        ...


@dataclass(frozen=True)
class PocketDataset:
    """Scenes of the pocket world, as many as are asked for; stuff is background unless `stuff`."""

    split: str
    stuff: bool = False

    @property
    def name(self) -> str:
        """As the command line calls it."""
        return f"pocket-{self.split}{'-stuff' if self.stuff else ''}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Background, the things, and the stuff if it counts."""
        return (BACKGROUND, *(LABELS if self.stuff else THINGS))

    def sample(self, index: int) -> Sample:
        """Scene `index`; nothing in it is left out of the count."""
        item = scene(self.split, index)
        labels = item.labels + 1
        if not self.stuff:
            labels = np.where(labels > len(THINGS), 0, labels)
        return Sample(f"{self.split}-{index:06d}", item.image, labels.astype(np.uint8))


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (PocketDataset(split, stuff) for stuff in (False, True) for split in ("train", "val", "novel"))
}


def find_dataset(name: str) -> Dataset:
    """The data set of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in DATASETS:
        raise ValueError(f"The data set must be one of {', '.join(DATASETS)}, but got {name!r}.")
    return DATASETS[name]


def present_classes(dataset: Dataset, sample: Sample) -> tuple[ClassWord, ...]:
    """Ground-truth image labels: the classes that the truth holds, background left out."""
    return tuple(ClassWord((dataset.labels[k],)) for k in np.unique(sample.labels) if 0 < k < len(dataset.labels))
