"""Yardsticks: networks that were trained with masks and read no diffusion network. What those that take words share."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.backbones.weights import is_cached
from ovseg.methods.base import Method, Prepared
from ovseg.models import Models
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
        """It looks at the picture itself."""
        return False

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        """No row of the diffusion network."""
        return 0


@runtime_checkable
class WordNetwork(Protocol):
    """A network that is told phrases."""

    @property
    def fingerprint(self) -> str:
        """A short name for its weights."""
        ...

    def encode(self, phrases: Sequence[str]) -> Any:
        """The phrases as the network reads them."""
        ...


class ByWords(Yardstick):
    """A yardstick whose network takes any words, and is fetched from the hub."""

    source: ClassVar[str]
    """The repository of its weights."""
    terms: ClassVar[str] = ""
    """What has to be done before they can be fetched, to stand before a colon."""
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
    def network(self, models: Models) -> WordNetwork:
        """Its network, loaded on first use."""

    @abstractmethod
    def maps(self, network: Any, image: UInt8[np.ndarray, "H W 3"], words: Any) -> Float[Tensor, "n h w"]:
        """The probability of each phrase at each place of an RGB picture, on any grid that covers it.

        Args:
            network: that of `network`.
            words: what it made of the phrases.
        """

    def helpers(self, models: Models) -> dict[str, Callable[[], WordNetwork]]:
        """Its network."""
        return {self.name: lambda: self.network(models)}

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedByWords":
        """Encode the phrases.

        Raises:
            ValueError: the network cannot be loaded, or a phrase is too long for it.
        """
        stages = Stages(report)
        with stages.stage("encoding the words"):
            network = self.network(models)
            words = network.encode(rows_of(classes)[0])
        return PreparedByWords(models, classes, self, network, words, timings=stages.timings)


@dataclass(frozen=True, eq=False)
class PreparedByWords(Prepared):
    """A network with its words."""

    method: ByWords
    network: WordNetwork
    words: Any

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment a scene into the classes; what is below the threshold for all of them is background."""
        stages, (phrases, owners) = Stages(report), rows_of(self.classes)
        with stages.stage("looking at the picture"):
            likely = self.method.maps(self.network, scene.image, self.words)
        own = [[row for row, owner in enumerate(owners) if owner == k] for k in range(len(self.classes))]
        scores = torch.stack([likely[rows].amax(0) for rows in own])
        return Segmentation.from_scores(
            scene.image, self.names, scores, self.method.threshold, timings=stages.timings,
            evidence=lambda: probabilities(likely, phrases, [self.names[owner] for owner in owners]),
        )  # fmt: skip


def probabilities(likely: Float[Tensor, "n h w"], phrases: Sequence[str], labels: Sequence[str]) -> tuple[Evidence, ...]:
    """A heat map for each phrase, which belongs to a class."""
    return tuple(
        Evidence(f"{phrase}: probability", "heat", map=one.float().cpu().numpy(), group=PROBABILITY, label=label)
        for phrase, label, one in zip(phrases, labels, likely, strict=True)
    )
