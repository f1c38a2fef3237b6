"""A segmenter that was trained with the masks of the backbone's own world: a yardstick.

The network is a UperNet (Unified Perceptual Parsing for Scene Understanding; Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning
Jiang, Jian Sun; ECCV 2018; arXiv 1807.10221) on a small ResNet. It knows the words that it was trained on and no other.
Each place has a probability for each of its labels. The background is the likeliest label of stuff that was not asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones import Checkpoint
from ovseg.limits import quoted
from ovseg.methods.base import Prepared
from ovseg.methods.records import Floor
from ovseg.methods.yardstick import PROBABILITY, Yardstick, probabilities
from ovseg.models import Models
from ovseg.pictures import resized
from ovseg.pretrained.detector import SemanticDetector, plain
from ovseg.progress import Report, Stages, silent
from ovseg.types import BACKGROUND, Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord
from ovseg.words.stuff import is_stuff

LABELS = "All its labels"


@dataclass(frozen=True)
class TrainedSegmenter(Yardstick):
    """The likeliest label of each place."""

    name: ClassVar[str] = "trained-segmenter"
    title: ClassVar[str] = "Trained segmenter"
    needs: ClassVar[tuple[str, ...]] = ("segmenter",)
    evidence_steps: ClassVar[Mapping[str, str]] = {
        PROBABILITY: "What the network gives a word at each place, 0 to 1.",
        LABELS: "The likeliest of all labels that the network was trained on, whether they were asked for or not.",
    }  # fmt: skip
    paper: ClassVar[Paper] = Paper(
        title="Unified Perceptual Parsing for Scene Understanding",
        authors="Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning Jiang, Jian Sun",
        venue="ECCV 2018",
        arxiv="1807.10221",
        code="https://github.com/CSAILVision/unifiedparsing",
    )
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.84),)

    background: Literal["stuff", "all"] = knob(
        "stuff",
        "Which of the labels that were not asked for are background: stuff such as grass alone, as no method here compares"
        " with things that nobody asked for, or things too, as a segmenter is used elsewhere.",
        label="What is background",
        group="main",
    )
    side: int = knob(
        128,
        "Pixels of the picture's shorter side when the network looks at it. The shipped one was trained at 128.",
        label="Shorter side",
        low=32,
        high=1024,
    )

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """Pictures as large as those that the backbone was trained on."""
        return {"side": checkpoint.side}

    def helpers(self, models: Models) -> dict[str, Callable[[], SemanticDetector]]:
        return {"segmenter": lambda: models.segmenter}

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedTrainedSegmenter":
        stages = Stages(report)
        with stages.stage("finding the labels"):
            if obstacle := models.obstacle("segmenter"):
                raise ValueError(obstacle)
            network = models.segmenter
            rows = tuple(rows_for(network.labels, word) for word in classes)
        return PreparedTrainedSegmenter(models, classes, self, network, rows, timings=stages.timings)


def rows_for(labels: Sequence[str], word: ClassWord) -> list[int]:
    """The numbers of the labels that a class means.

    Raises:
        ValueError: there are none.
    """
    asked = {plain(phrase) for phrase in word.phrases}
    rows = [number for number, label in enumerate(labels) if plain(label) in asked and label != BACKGROUND]
    if not rows:
        known = ", ".join(label for label in labels if label != BACKGROUND)
        raise ValueError(
            f"A trained segmenter knows the words of its training alone ({known}), but got {quoted(word.name)}."
        )
    return rows


@dataclass(frozen=True, eq=False)
class PreparedTrainedSegmenter(Prepared):
    """The network, and the numbers of its labels for each class."""

    method: TrainedSegmenter
    network: SemanticDetector
    rows: tuple[list[int], ...]

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        stages = Stages(report)
        with stages.stage("looking at the picture"):
            scale = self.method.side / min(scene.image.shape[:2])
            small_hw = tuple(max(1, round(side * scale)) for side in scene.image.shape[:2])
            likely = self.network.probabilities([resized(scene.image, small_hw)])[0]
        asked = torch.stack([likely[own].amax(0) for own in self.rows])
        return Segmentation.from_scores(
            scene.image, self.names, torch.cat([self._background(likely)[None], asked]), timings=stages.timings,
            evidence=lambda: (
                *probabilities(asked, self.names, self.names),
                Evidence(LABELS, "regions", map=likely.argmax(0).cpu().numpy(), group=LABELS),
            ),
        )  # fmt: skip

    def _background(self, likely: Float[Tensor, "labels h w"]) -> Float[Tensor, "h w"]:
        """The likeliest of the labels that are background; 0 where there are none."""
        taken = {number for own in self.rows for number in own}
        labels, every = enumerate(self.network.labels), self.method.background == "all"
        rest = [k for k, label in labels if k not in taken and (every or label == BACKGROUND or is_stuff(label))]
        return likely[rest].amax(0) if rest else torch.zeros_like(likely[0])
