"""The steps of a method in pictures, for the page: what they are about, and what they are made of."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ovseg.models import Models
from ovseg.types import Evidence, Scene, Segmentation
from ovseg.words.classes import ClassWord, indefinite

Picture = UInt8[np.ndarray, "_h _w 3"]


@dataclass(frozen=True)
class Step:
    """One picture of a strip, the line under it, and what it shows for those who cannot see it."""

    picture: Picture
    caption: str
    alt: str


class Painter(ABC):
    """What draws values as pictures: methods make values alone."""

    @abstractmethod
    def heat(self, values: Float[np.ndarray, "y x"]) -> Picture:
        """A map in the colours of heat."""

    @abstractmethod
    def heat_over(self, image: Picture, values: Float[np.ndarray, "y x"]) -> Picture:
        """A map laid over a picture."""

    @abstractmethod
    def masks(self, result: Segmentation, order: Sequence[str] | None = None) -> Picture:
        """A picture with coloured masks; `order` says which colours the labels have."""

    @abstractmethod
    def regions(self, clusters: Evidence, image: Picture) -> Picture:
        """Clusters of a picture in flat colours."""

    @abstractmethod
    def parts(self, image: Picture, region: UInt8[np.ndarray, "y x"], inside: Bool[np.ndarray, "y x"]) -> Picture:
        """A picture in which each part of what is inside has a colour."""

    @abstractmethod
    def from_the_middle(self, image: Picture, affinity: Evidence, inside: Bool[np.ndarray, "h w"]) -> Picture:
        """What the middle of a mask attends to, laid over the picture, with a ring around that place."""

    @abstractmethod
    def mosaic(self, pictures: Sequence[Picture]) -> Picture:
        """The first four pictures, two by two."""


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
