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

_NO_PAPER = Paper("a trivial answer", "", "", "", "")


class Trivial(Method):
    """A method that has nothing to prepare."""

    @abstractmethod
    def answer(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Segmentation:
        """The segmentation of a scene."""

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedTrivial":
        """Nothing but the classes."""
        return PreparedTrivial(models, classes, self)


@dataclass(frozen=True, eq=False)
class PreparedTrivial(Prepared):
    """A trivial method with its classes."""

    method: Trivial

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment a scene into the classes and background."""
        return self.method.answer(self.models, scene, self.classes)


@dataclass(frozen=True)
class AllBackground(Trivial):
    """Every pixel is background."""

    name: ClassVar[str] = "all-background"
    title: ClassVar[str] = "All background"
    paper: ClassVar[Paper] = _NO_PAPER

    def answer(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Segmentation:
        """Background over the whole picture."""
        return Segmentation.from_scores(scene.image, _names(classes), torch.zeros(len(classes), 1, 1), threshold=0.5)


@dataclass(frozen=True)
class OneClass(Trivial):
    """Every pixel is the first class."""

    name: ClassVar[str] = "one-class"
    title: ClassVar[str] = "One class everywhere"
    paper: ClassVar[Paper] = _NO_PAPER

    def answer(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Segmentation:
        """The first class over the whole picture."""
        scores = torch.zeros(len(classes), 1, 1)
        scores[0] = 1
        return Segmentation.from_scores(scene.image, _names(classes), scores, threshold=0.5)


@dataclass(frozen=True)
class CentrePrior(Trivial):
    """The first class is in the middle of the picture."""

    name: ClassVar[str] = "centre-prior"
    title: ClassVar[str] = "Centre prior"
    paper: ClassVar[Paper] = _NO_PAPER
    width: float = knob(
        0.5,
        "Standard deviation of the Gaussian; 1 is half of the picture's width or height.",
        label="Width",
        low=0.1,
        high=2,
        step=0.05,
    )
    threshold: float = knob(0.5, "Constant score of the background.", label="Background threshold", group="main", step=0.05)

    def answer(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Segmentation:
        """A Gaussian around the centre, with 1 at its peak, times the weight of each class."""
        ys, xs = (torch.linspace(-1, 1, side) for side in scene.image.shape[:2])
        prior = torch.exp(-(ys[:, None] ** 2 + xs[None, :] ** 2) / (2 * self.width**2))
        scores = self._weights(models, scene, classes)[:, None, None] * prior
        return Segmentation.from_scores(scene.image, _names(classes), scores, self.threshold)

    def _weights(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Float[Tensor, " k"]:
        """1 for the first class and 0 for the others."""
        return torch.eye(len(classes))[0]


@dataclass(frozen=True)
class ClipCentrePrior(CentrePrior):
    """The class that CLIP finds most probable is in the middle of the picture."""

    name: ClassVar[str] = "clip-centre-prior"
    title: ClassVar[str] = "CLIP score times centre prior"
    needs: ClassVar[tuple[str, ...]] = ("clip",)

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        """The CLIP of the backbone."""
        return {"clip": lambda: models.clip}

    def _weights(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Float[Tensor, " k"]:
        """CLIP's probabilities of the classes, divided by the highest."""
        likely = models.clip.probabilities([scene.image], photo_prompts(classes))[0].cpu()
        return likely / likely.max()


def _names(classes: tuple[ClassWord, ...]) -> tuple[str, ...]:
    return tuple(word.name for word in classes)


BASELINES: tuple[type[Method], ...] = (AllBackground, OneClass, CentrePrior, ClipCentrePrior)


MEASURABLE: tuple[type[Method], ...] = (*METHODS, *BASELINES)
