"""Which classes a training may see: splits of the pocket world, of PASCAL VOC and of COCO, or one of your own.

S1 to S3 are those of Grounded Diffusion's released code (Li et al., ICCV 2023, arXiv 2301.05221), with 15 seen classes of
PASCAL VOC and 5 unseen ones; ZS3 is the standard split of zero-shot segmentation, which its paper reports. The pocket world
lacks VOC's dining table, and its four things that VOC lacks are seen. The paper's split of COCO into 65 seen and 15 unseen
classes is not published; `coco-65-15` is the widely used one of zero-shot detection (Rahman, Khan, Porikli: Zero-Shot Object
Detection: Learning to Simultaneously Recognize and Localize Novel Concepts; ACCV 2018, arXiv 1803.06049).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovseg.backbones import BACKBONES
from ovseg.files import read_text
from ovseg.pocket.world import THINGS
from ovseg.pretrained.detector import plain

# The words of the released code's prompts; four of them are written as one, as in the names of VOC's files.
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC_UNSEEN: dict[str, tuple[str, ...]] = {
    "S1": ("tvmonitor", "car", "dog", "sofa", "train"),
    "S2": ("horse", "motorbike", "person", "pottedplant", "sheep"),
    "S3": ("bus", "cat", "chair", "cow", "diningtable"),
    "ZS3": ("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
}
UNSEEN = {name: tuple(word for word in map(plain, words) if word in THINGS) for name, words in VOC_UNSEEN.items()}
"""The same of the pocket world."""

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip
COCO_UNSEEN = (
    "airplane", "train", "parking meter", "cat", "bear", "suitcase", "frisbee", "snowboard", "fork", "sandwich", "hot dog",
    "toilet", "mouse", "toaster", "hair drier",
)  # fmt: skip


@dataclass(frozen=True)
class ClassSplit:
    """Classes, and which of them a training must not see."""

    name: str  # also of the folders of what is trained on it
    classes: tuple[str, ...]
    unseen: tuple[str, ...]
    file: Path | None = None  # the JSON file that it was read from; None for a split of ours

    @property
    def source(self) -> str:
        """What `find_split` finds it by."""
        return str(self.file) if self.file else self.name

    @property
    def seen(self) -> tuple[str, ...]:
        """The classes that a training may see, in their order."""
        return tuple(word for word in self.classes if word not in self.unseen)


SPLITS: dict[str, ClassSplit] = {
    **{name: ClassSplit(name, THINGS, hidden) for name, hidden in UNSEEN.items()},
    **{f"voc-{name}": ClassSplit(f"voc-{name}", VOC, hidden) for name, hidden in VOC_UNSEEN.items()},
    "coco-65-15": ClassSplit("coco-65-15", COCO, COCO_UNSEEN),
}
OWN = 'a JSON file such as {"seen": ["cat"], "unseen": ["dog"]}'


def splits_for(backbone: str) -> tuple[str, ...]:
    """The splits whose classes a backbone can draw: of its world for the pocket one, of VOC and COCO for Stable Diffusion.

    What a local folder can draw is not known, so it has all of them.
    """
    if backbone not in BACKBONES:
        return tuple(SPLITS)
    return tuple(name for name in SPLITS if (name in UNSEEN) == BACKBONES[backbone].is_small_world)


def find_split(name: str, offered: Sequence[str] = tuple(SPLITS)) -> ClassSplit:
    """A split by its name, which must be one of `offered`, or that of a JSON file by its path.

    Raises:
        ValueError: there is no such split, or the file is not as it must be.
    """
    if name in offered:
        return SPLITS[name]
    if name.endswith(".json"):
        return _read_split(Path(name))
    raise ValueError(f"The class split must be one of {', '.join(offered)}, or {OWN}, but got {name!r}.")


def _read_split(path: Path) -> ClassSplit:
    try:
        read = json.loads(read_text(path))
    except (OSError, ValueError) as error:  # ValueError: no JSON, or no text
        raise ValueError(f"The class split must be {OWN}, but reading {path} failed: {error}") from error
    if not isinstance(read, dict) or set(read) != {"seen", "unseen"}:
        raise ValueError(f"The class split {path} must be {OWN}, with these two lists and nothing else.")
    for name, words in read.items():
        if not isinstance(words, list) or not words or not all(isinstance(word, str) and word.strip() for word in words):
            raise ValueError(f"The list {name!r} of the class split {path} must hold one word or more, but is {words!r}.")
    classes = tuple(" ".join(word.split()) for word in (*read["seen"], *read["unseen"]))
    meanings = [plain(word) for word in classes]
    twice = [word for word, meaning in zip(classes, meanings, strict=True) if meanings.count(meaning) > 1]
    if twice:
        raise ValueError(f"Each class of the class split {path} must be there once, but these mean the same: {twice}.")
    if path.stem in SPLITS:
        raise ValueError(f"The class split {path} must have a name of its own, but {path.stem} is one of ours.")
    return ClassSplit(path.stem, classes, classes[len(read["seen"]) :], path)
