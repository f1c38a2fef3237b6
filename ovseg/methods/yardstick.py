"""Yardsticks: networks that were trained with masks and read no diffusion network. What those that take words share."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.backbones.weights import is_cached
from ovseg.maths.maps import best_of_each
from ovseg.methods.base import Method, Prepared
from ovseg.models import Models
from ovseg.pretrained.by_words import PhraseNetwork
from ovseg.progress import Report, Stages, silent
from ovseg.types import Evidence, Scene, Segmentation
from ovseg.words.classes import ClassWord, rows_of

PROBABILITY = "Probability"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


class Yardstick(Method):
    """A method without diffusion: how far one comes with masks to learn from."""

    listed_first: ClassVar[bool] = False
    yardstick: ClassVar[str] = "no diffusion, trained with masks"
    released_on: ClassVar[str] = ""

    @property
    def reads_latent(self) -> bool:
        return False

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        return 0


class ByWords(Yardstick):
    """A yardstick whose network takes any words, and is fetched from the hub."""

    source: ClassVar[str]
    """The repository of its weights."""
    terms: ClassVar[str] = ""
    """What has to be done before they can be fetched, to stand before a colon."""
    network: ClassVar[type[PhraseNetwork]]
    evidence_steps: ClassVar[Mapping[str, str]] = {PROBABILITY: "What the network gives a word at each place, 0 to 1."}
    threshold: float
    weights: str

    @classmethod
    def lacks(cls, models: Models) -> str:
        """Its weights, where they are not in the cache of the hub: nobody should fetch them unawares."""
        if is_cached(cls.source, WEIGHTS):
            return ""
        return f"Its weights are not on this machine{cls.terms}: `hf download {cls.source}` fetches them."

    @abstractmethod
    def maps(self, network: Any, image: UInt8[np.ndarray, "H W 3"], words: Any) -> Float[Tensor, "n h w"]:
        """The probability of each phrase at each place of an RGB picture, on any grid that covers it."""

    def helpers(self, models: Models) -> dict[str, Callable[[], PhraseNetwork]]:
        return {self.name: lambda: models.other(self.network, self.weights)}

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedByWords":
        stages = Stages(report)
        with stages.stage("encoding the words"):
            network = models.other(self.network, self.weights)
            words = network.encode(rows_of(classes)[0])
        return PreparedByWords(models, classes, self, network, words, timings=stages.timings)


@dataclass(frozen=True, eq=False)
class PreparedByWords(Prepared):
    """A network with its words."""

    method: ByWords
    network: PhraseNetwork
    words: Any

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        stages, (phrases, owners) = Stages(report), rows_of(self.classes)
        with stages.stage("looking at the picture"):
            likely = self.method.maps(self.network, scene.image, self.words)
        return Segmentation.from_scores(
            scene.image, self.names, best_of_each(likely, owners), self.method.threshold, timings=stages.timings,
            evidence=lambda: probabilities(likely, phrases, [self.names[owner] for owner in owners]),
        )  # fmt: skip


def probabilities(likely: Float[Tensor, "n h w"], phrases: Sequence[str], labels: Sequence[str]) -> tuple[Evidence, ...]:
    """A heat map for each phrase, which belongs to a class."""
    return tuple(
        Evidence.heat(f"{phrase}: probability", one, PROBABILITY, label)
        for phrase, label, one in zip(phrases, labels, likely, strict=True)
    )
