"""Which classes a training may see: the splits of the papers, over the things of the pocket world."""

from ovseg.pocket.world import THINGS
from ovseg.types import named

# S1 to S3 are those of Grounded Diffusion's released code, ZS3 is the standard split of zero-shot segmentation, which its
# paper reports. PASCAL VOC's dining table is not in the pocket world; the world's four things that VOC lacks are seen.
UNSEEN: dict[str, tuple[str, ...]] = {
    "S1": ("tv", "car", "dog", "sofa", "train"),
    "S2": ("horse", "motorbike", "person", "potted plant", "sheep"),
    "S3": ("bus", "cat", "chair", "cow"),
    "ZS3": ("potted plant", "sheep", "sofa", "train", "tv"),
}


def unseen_of(split: str) -> tuple[str, ...]:
    """The things that a training of this split must not see.

    Raises:
        ValueError: there is no such split.
    """
    return named(UNSEEN, "class split", split)


def seen_of(split: str) -> tuple[str, ...]:
    """The things that a training of this split may see, in the world's order.

    Raises:
        ValueError: there is no such split.
    """
    hidden = unseen_of(split)
    return tuple(thing for thing in THINGS if thing not in hidden)
