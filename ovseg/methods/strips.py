"""The steps of a method in pictures, for the page: what they are about, and what they are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.models import Models
from ovseg.types import Scene, Segmentation
from ovseg.words.classes import ClassWord, indefinite

Picture = UInt8[np.ndarray, "_h _w 3"]
Painter = Any
"""What draws values as pictures, `Painting` of `ovseg.demo.make_about`: methods make values alone."""


@dataclass(frozen=True)
class Step:
    """One picture of a strip, the line under it, and what it shows for those who cannot see it."""

    picture: Picture
    caption: str
    alt: str


@dataclass(frozen=True)
class Subject:
    """What all strips are about: a scene and the things on it, the first of which is looked at most closely."""

    models: Models
    scene: Scene
    classes: tuple[ClassWord, ...]

    @property
    def first(self) -> str:
        """The name of the first class."""
        return self.classes[0].name

    @property
    def names(self) -> str:
        """All classes in a row of words: "cat and car"."""
        return " and ".join(word.name for word in self.classes)

    @property
    def alt(self) -> str:
        """What the scene shows, for those who cannot see it."""
        return f"A drawn scene with {' and '.join(indefinite(word.name) for word in self.classes)}."

    def picture_step(self) -> Step:
        """The step at which there is nothing but the picture and the words."""
        return Step(self.scene.image, f"A picture, and words: “{self.names}”", self.alt)

    def affinity_step(self, paint: Painter, result: Segmentation, caption: str) -> Step:
        """The step that shows what the middle of the first thing attends to."""
        (affinity,) = (item for item in result.evidence if item.kind == "affinity")
        picture = paint.from_the_middle(self.scene.image, affinity, result.label_map == 1)
        return Step(picture, caption, f"A heat map over the picture: what one place of the {self.first} looks at.")

    def mask_step(self, paint: Painter, result: Segmentation, caption: str) -> Step:
        """The step that shows the masks."""
        shares = [f"{name} {share:.0%}" for name, share in result.shares.items() if name != "background"]
        return Step(paint.masks(result), caption, f"The scene with coloured masks. Shares of it: {', '.join(shares)}.")
