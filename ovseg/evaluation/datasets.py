"""Data sets with exact masks: the pocket world, and the official folders of five benchmarks."""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from ovseg.evaluation.names import class_words
from ovseg.files import read_text
from ovseg.maths.overlap import IGNORED
from ovseg.pictures import is_turned, read_image, read_values
from ovseg.pocket.sprites import SHIPPED
from ovseg.pocket.world import LABELS, STUFF, THINGS, scene
from ovseg.words.classes import ClassWord

Rule = Literal["scored", "ignored", "absent"]
"""Pixels of no class: scored as a label of their own, ignored in the count, or absent (every pixel has a class)."""


@dataclass(frozen=True)
class Sample:
    """A picture and its truth: `labels` is 0 for background, k for class k - 1, and 255 for pixels that are not counted."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]


class Dataset(ABC):
    """Numbered samples. Label 0 is background, scored or not; label k is class k - 1 of `classes`."""

    name: str  # on the command line; of a benchmark with its split
    background: Rule
    length: int | None
    """Number of samples; None where there is no end of them."""
    entry: str = ""
    """Its entry of names.json; none where it is none of the published benchmarks."""

    @abstractmethod
    def classes(self, variant: str = "plain") -> tuple[ClassWord, ...]:
        """The classes in label order, with the names of this variant."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """The sample of this number, 0 or more."""


@dataclass(frozen=True)
class PocketDataset(Dataset):
    """Scenes of the pocket world, made when they are asked for.

    The first `stuff` kinds of stuff count as classes, the others as background. In the training split the first scene is
    number 100 000: the bundle was trained on lower numbers. `root` is the folder of the atlas that the things are from.
    """

    split: str
    stuff: int = 0
    root: Path = SHIPPED
    length = None

    @property
    def name(self) -> str:
        return self.benchmark if self.root == SHIPPED else f"{self.benchmark} of {self.root.name}"

    @property
    def benchmark(self) -> str:
        """Its name on the command line."""
        return f"pocket-{self.split}" + {0: "", len(STUFF): "-stuff"}.get(self.stuff, f"-stuff{self.stuff}")

    @property
    def background(self) -> Rule:
        """Every pixel of a scene is a thing or stuff."""
        return "absent" if self.stuff == len(STUFF) else "scored"

    def classes(self, variant: str = "plain") -> tuple[ClassWord, ...]:
        """The things, then the kinds of stuff that count as classes. There is one variant of their names."""
        if variant != "plain":
            raise ValueError(f"The names of {self.name} must be plain, but got {variant!r}.")
        return tuple(ClassWord((name,)) for name in LABELS[: len(THINGS) + self.stuff])

    def sample(self, index: int) -> Sample:
        """Scene `index`, in the training split scene 100 000 + `index`. Every pixel is counted."""
        number = index + 100_000 * (self.split == "train")
        item = scene(self.split, number, sprites=self.root)
        labels = np.where(item.labels >= len(THINGS) + self.stuff, 0, item.labels + 1)
        return Sample(f"{self.split}-{number:06d}", item.image, labels.astype(np.uint8))


def _coco_values(stuff: bool) -> tuple[int, ...]:
    """Labels of COCO-Stuff's pixel values, which are category ids less one: things to 90, stuff from 92 to 182."""
    without_pictures = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    ids = [k for k in range(1, 183 if stuff else 91) if k not in without_pictures]
    values = {category - 1: label for label, category in enumerate(ids, 1)}
    if not stuff:
        values |= dict.fromkeys(range(91, 182), 0)
    return tuple(values.get(value, -1) for value in range(182))


@dataclass(frozen=True, kw_only=True)
class FolderLayout:
    """Where a benchmark keeps its files, by paths from its folder with {split} and {name}, and what its masks hold."""

    names: str  # the entry of names.json
    background: Rule
    images: str
    masks: str
    values: tuple[int, ...]  # the label of each mask value, -1 where no mask should hold it
    splits: tuple[str, str] = ("val", "train")
    listing: str = ""  # without one, every mask of the folder counts
    unlabelled: int = IGNORED  # what 255 is taken for; else it is never counted


def _devkit(names: str, of: str = "") -> dict[str, str]:
    """The files of a VOCdevkit; `of` is what the folders of its masks and lists have at the end of their names."""
    folders = {"masks": f"SegmentationClass{of}/{{name}}.png", "listing": f"ImageSets/Segmentation{of}/{{split}}.txt"}
    return {"names": names, "images": "JPEGImages/{name}.jpg", **folders}


_COCO = {"images": "images/{split}2017/{name}.jpg", "masks": "annotations/{split}2017/{name}.png"}
LAYOUTS: dict[str, FolderLayout] = {
    "voc-21": FolderLayout(background="scored", values=tuple(range(21)), **_devkit("voc")),
    "voc-20": FolderLayout(background="ignored", values=tuple(range(21)), **_devkit("voc")),
    "context-60": FolderLayout(background="scored", values=tuple(range(60)), **_devkit("context", "Context")),
    "context-59": FolderLayout(background="ignored", values=tuple(range(60)), **_devkit("context", "Context")),
    # GroupViT's conversion, by which papers measure, makes every pixel that is no thing background, also unlabelled ones.
    "coco-object": FolderLayout(
        names="coco-object", background="scored", values=_coco_values(stuff=False), unlabelled=0, **_COCO
    ),
    "coco-stuff": FolderLayout(names="coco-stuff", background="absent", values=_coco_values(stuff=True), **_COCO),
    "ade20k": FolderLayout(
        names="ade20k",
        background="ignored",
        values=tuple(range(151)),
        splits=("validation", "training"),
        images="images/{split}/{name}.jpg",
        masks="annotations/{split}/{name}.png",
    ),
}


@dataclass(frozen=True)
class FolderDataset(Dataset):
    """A benchmark in its official layout.

    `root` is for VOC and Context the folder `VOC2012` or `VOC2010` of a `VOCdevkit`, with Context's masks and lists as
    mmsegmentation's conversion writes them; for COCO a folder with `images/val2017` and the pixel maps of COCO-Stuff in
    `annotations/val2017`; for ADE20K the folder `ADEChallengeData2016`.

    Raises:
        ValueError: from `length` and `sample`, one sentence on the file that is missing or wrong.
    """

    benchmark: str
    root: Path
    split: str

    @property
    def layout(self) -> FolderLayout:
        return LAYOUTS[self.benchmark]

    @property
    def name(self) -> str:
        return f"{self.benchmark} {self.split}"

    @property
    def entry(self) -> str:
        return self.layout.names

    @property
    def background(self) -> Rule:
        return self.layout.background

    @property
    def length(self) -> int:
        return len(self.samples)

    @cached_property
    def samples(self) -> tuple[str, ...]:
        """Names of all samples: those of the list, or of every mask, sorted."""
        if self.layout.listing:
            path = self.root / self.layout.listing.format(split=self.split)
            if not path.is_file():
                raise ValueError(f"The list of {self.name} must be {path}, but there is no such file.")
            names = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
        else:
            path = self._path(self.layout.masks, "").parent
            # Other tools leave converted masks beside the released ones.
            names = sorted(p.stem for p in path.glob("[!.]*.png") if not p.stem.endswith("TrainIds"))
        if not names:
            raise ValueError(f"{self.name} must hold pictures, but {path} names none.")
        return tuple(names)

    def classes(self, variant: str = "plain") -> tuple[ClassWord, ...]:
        """The classes in label order, by the names that this variant of names.json gives them."""
        return class_words(self.layout.names, variant)

    def sample(self, index: int) -> Sample:
        """The sample of this number."""
        name = self.samples[index]
        image, mask = (self._path(pattern, name) for pattern in (self.layout.images, self.layout.masks))
        for what, path in (("picture", image), ("mask", mask)):
            if not path.is_file():
                raise ValueError(f"The {what} of {name} must be {path}, but there is no such file.")
        picture, labels = read_image(image, as_stored=True), self._read_mask(mask)
        if is_turned(image):
            warnings.warn(f"{name} is not turned as its EXIF asks: its mask is on the pixels as stored.", stacklevel=2)
        if labels.shape != picture.shape[:2]:
            expected, got = (" x ".join(map(str, shape[1::-1])) for shape in (picture.shape, labels.shape))
            raise ValueError(f"The mask {mask} must be {expected} pixels like its picture, but is {got}.")
        return Sample(name, picture, labels)

    def _path(self, pattern: str, name: str) -> Path:
        return self.root / pattern.format(split=self.split, name=name)

    def _read_mask(self, path: Path) -> np.ndarray:
        values = read_values(path, f"The mask {path}")
        table = np.full(256, -1)
        table[: len(self.layout.values)], table[IGNORED] = self.layout.values, self.layout.unlabelled
        labels = table[values]
        if (labels < 0).any():
            unknown = ", ".join(map(str, np.unique(values[labels < 0])[:5]))
            raise ValueError(f"The mask {path} must hold labels of {self.benchmark} only, but holds {unknown}.")
        return labels.astype(np.uint8)


POCKET: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (PocketDataset(split, stuff) for stuff in (0, 4, len(STUFF)) for split in ("train", "val", "novel"))
}
DATASETS: tuple[str, ...] = (*POCKET, *LAYOUTS)


def find_dataset(name: str, root: Path | None = None, split: str | None = None) -> Dataset:
    """The data set of this name.

    Args:
        root: the folder of a benchmark; for the pocket world that of other sprites, as `assets/sprites/build_atlas.py`
            makes one.
        split: one of the benchmark's two splits; the one that papers report if not given.

    Raises:
        ValueError: there is no such data set or split, or the folder is missing.
    """
    if name in POCKET:
        if split:
            raise ValueError(f"{name} has its split in its name, and takes no other, but got {split!r}.")
        if root and not (root / "atlas.json").is_file():
            raise ValueError(f"The folder of {name} must hold other sprites and their atlas.json, but {root} holds none.")
        return replace(POCKET[name], root=root) if root else POCKET[name]
    if name not in LAYOUTS:
        raise ValueError(f"The data set must be one of {', '.join(DATASETS)}, but got {name!r}.")
    splits = LAYOUTS[name].splits
    if split is not None and split not in splits:
        raise ValueError(f"The split of {name} must be one of {', '.join(splits)}, but got {split!r}.")
    if root is None:
        raise ValueError(f"{name} needs the folder that holds it, but none was given.")
    if not root.is_dir():
        raise ValueError(f"{name} must be in the folder that is given, but {root} is no folder.")
    return FolderDataset(name, root, split or splits[0])
