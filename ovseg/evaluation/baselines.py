"""Trivial methods, as baselines: a real method must be much better than these."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.methods import METHODS, Method
from ovseg.methods.base import Network, Prepared
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.types import Paper, Scene, Segmentation, knob
from ovseg.words.class_filter import photo_prompts
from ovseg.words.classes import ClassWord


class Trivial(Method):
    """A method that has nothing to prepare: a weight for each class, times one map for all of them."""

    paper: ClassVar[Paper] = Paper("a trivial answer", "", "", "", "")
    threshold: ClassVar[float] = 0.5

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedTrivial":
        """Nothing but the classes."""
        return PreparedTrivial(models, classes, self)

    @abstractmethod
    def class_weights(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Float[Tensor, " k"]:
        """How strong each class is."""

    def place_weights(self, image_hw: tuple[int, int]) -> Float[Tensor, "_y _x"]:
        """Where a class is strong: 1 everywhere."""
        return torch.ones(1, 1)


@dataclass(frozen=True, eq=False)
class PreparedTrivial(Prepared):
    """A trivial method with its classes."""

    method: Trivial

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment a scene into the classes and background."""
        weights = self.method.class_weights(self.models, scene, self.classes)
        scores = weights[:, None, None] * self.method.place_weights(scene.image.shape[:2])
        return Segmentation.from_scores(scene.image, self.names, scores, self.method.threshold)


@dataclass(frozen=True)
class AllBackground(Trivial):
    """Every pixel is background."""

    name: ClassVar[str] = "all-background"
    title: ClassVar[str] = "All background"

    def class_weights(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Float[Tensor, " k"]:
        return torch.zeros(len(classes))


@dataclass(frozen=True)
class OneClass(Trivial):
    """Every pixel is the first class."""

    name: ClassVar[str] = "one-class"
    title: ClassVar[str] = "One class everywhere"

    def class_weights(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Float[Tensor, " k"]:
        return torch.eye(len(classes))[0]


@dataclass(frozen=True)
class CentrePrior(OneClass):
    """The first class is in the middle of the picture."""

    name: ClassVar[str] = "centre-prior"
    title: ClassVar[str] = "Centre prior"
    width: float = knob(
        0.5, "Standard deviation of the Gaussian; 1 is half of the picture's width or height.", label="Width", low=0.1,
        high=2, step=0.05,
    )  # fmt: skip
    threshold: float = knob(0.5, "Constant score of the background.", label="Background threshold", group="main", step=0.05)

    def place_weights(self, image_hw: tuple[int, int]) -> Float[Tensor, "H W"]:
        """A Gaussian around the centre, with 1 at its peak."""
        ys, xs = (torch.linspace(-1, 1, side) for side in image_hw)
        return torch.exp(-(ys[:, None] ** 2 + xs[None, :] ** 2) / (2 * self.width**2))


@dataclass(frozen=True)
class ClipCentrePrior(CentrePrior):
    """The class that CLIP finds most probable is in the middle of the picture."""

    name: ClassVar[str] = "clip-centre-prior"
    title: ClassVar[str] = "CLIP score times centre prior"
    needs: ClassVar[tuple[str, ...]] = ("clip",)

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        """The CLIP of the backbone."""
        return {"clip": lambda: models.clip}

    def class_weights(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Float[Tensor, " k"]:
        """CLIP's probabilities of the classes, divided by the highest."""
        likely = models.clip.probabilities([scene.image], photo_prompts(classes))[0].cpu()
        return likely / likely.max()


BASELINES: tuple[type[Method], ...] = (AllBackground, OneClass, CentrePrior, ClipCentrePrior)
MEASURABLE: tuple[type[Method], ...] = (*METHODS, *BASELINES)
