"""Seg4Diff: Unveiling Open-Vocabulary Segmentation in Text-to-Image Diffusion Transformers.

Chaehyun Kim, Heeseong Shin, Eunbeen Hong, Heeji Yoon, Anurag Arnab, Paul Hongsuck Seo, Sunghwan Hong, Seungryong Kim;
NeurIPS 2025; arXiv 2509.18096.

One layer of a diffusion transformer with joint attention says which word belongs where, in one pass that ends there: the
share of each place's attention that a word's tokens receive, the mean over heads, as it is. Without words the padding of the
empty prompt divides the picture into segments of its own.

The mode "released" has the settings of the released code on Stable Diffusion 3. It still differs from it in this:

- The classes are those that are asked for; the code names those of the truth.
- A picture keeps its aspect; the code cuts out the middle square.
- Several prompts are run where the words of one are too many.
- The layers that the paper fine-tunes (MAGNET) are no part of it.

On a network of cross-attention the layer's attention is shared among words alone; the paper says nothing about such.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.attention.spreading import affinity_evidence
from ovseg.backbones import Checkpoint
from ovseg.backbones.base import Backbone, Capture, Site, Text, sibling
from ovseg.maths.maps import best_of_each, normalise, resize
from ovseg.methods.base import Method, Prepared
from ovseg.methods.knobs import background_threshold, noise_level
from ovseg.methods.records import Floor
from ovseg.methods.seg4diff.slots import regions
from ovseg.methods.strips import Painter, Step, Subject
from ovseg.models import Models
from ovseg.progress import Report, Stages, silent
from ovseg.reading.layers import middle_of_second_grid
from ovseg.reading.prompts import Sentence, all_in_one, as_few
from ovseg.reading.recipe import crossing_at, told
from ovseg.types import Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord, rows_of

RECEIVED, WORDLESS = "What the words receive", "Segments without words"


@dataclass(frozen=True)
class Seg4Diff(Method):
    """One layer of joint attention, read as it is."""

    name: ClassVar[str] = "seg4diff"
    title: ClassVar[str] = "Seg4Diff"
    listed_first: ClassVar[bool] = False
    evidence_steps: ClassVar[Mapping[str, str]] = {
        RECEIVED: "The share of a place's attention that goes to the word's tokens, in one softmax with all places.",
        WORDLESS: "Where each place's attention goes among the padding of the empty prompt; slots that are alike are one.",
        "Self-attention": "The part of the same attention that goes from a place to places.",
    }
    paper: ClassVar[Paper] = Paper(
        title="Seg4Diff: Unveiling Open-Vocabulary Segmentation in Text-to-Image Diffusion Transformers",
        authors="Chaehyun Kim, Heeseong Shin, Eunbeen Hong, Heeji Yoon, Anurag Arnab, Paul Hongsuck Seo, Sunghwan Hong,"
        " Seungryong Kim",
        venue="NeurIPS 2025",
        arxiv="2509.18096",
        code="https://github.com/cvlab-kaist/Seg4Diff",
    )
    released: ClassVar[Mapping[str, object]] = {"scale": "none", "threshold": 0.0}
    released_on: ClassVar[str] = "sd3m"
    network_fields: ClassVar[tuple[str, ...]] = ("layer",)
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.7), Floor(0.72, backbone="pocket-sd3"))

    scale: Literal["min-max", "none"] = knob(
        "min-max",
        "Whether each word's map is stretched to 0 ... 1, which a background needs, or taken as it is, as in the released"
        " code, which knows no background.",
        label="Scale of words",
        group="main",
    )
    threshold: float = background_threshold(
        0.5, "Score that a pixel needs to belong to a class. The released code has no background, which is 0."
    )
    layer: int = knob(
        9,
        "Number of the layer that is read, counted from 0. The released code reads 9 of Stable Diffusion 3 and 3.5.",
        label="Layer",
        group="main",
        high=99,
    )
    timestep: int = noise_level(
        515, "The released code takes the eighth step from the end of 28, which is 515 of Stable Diffusion 3.", "more"
    )
    prompt: str = knob("{}", "The sentence; {} is replaced by the list of words.", label="Sentence")
    between: str = knob(
        " ", "What stands between two words of the list; the released code has a space.", label="Between words"
    )
    nearest: float = knob(
        0.035,
        "KL distance below which two slots of the empty prompt are one segment. The released code uses 0.035.",
        label="Distance of slots that are one",
        step=0.005,
    )

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """A layer as deep as 9 of 24 of joint attention; of cross-attention the middle of the last at the second grid.

        What suits a small world was chosen on scenes that nothing was trained on (docs/pocket.md).
        """
        strides, small = checkpoint.cross_strides, checkpoint.is_small_world
        layer = round(9 * (len(strides) - 1) / 23) if checkpoint.joint else middle_of_second_grid(strides)
        own = {"prompt": checkpoint.template, "between": " and "} if small else {}
        deeper = {"layer": len(strides) // 2, "threshold": 0.1} if small and checkpoint.joint else {}
        return {"layer": layer} | own | deeper

    @property
    def stretched(self) -> bool:
        return self.scale == "min-max"

    def sentences(self, backbone: Backbone, phrases: Sequence[str]) -> tuple[Sentence, ...]:
        """As few sentences as hold all words."""
        return as_few(backbone, lambda some: all_in_one(self.prompt, some, between=self.between), phrases)

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        """A row for each sentence; as if each phrase had one, before the backbone is loaded."""
        return len(self.sentences(models.backbone, phrases)) if models.is_loaded else len(phrases)

    def site(self, backbone: Backbone) -> Site:
        """The layer that is read.

        Raises:
            ValueError: the backbone has no such layer.
        """
        return crossing_at(backbone, self.layer, "layer must be one of")

    def strip(self, subject: Subject, paint: Painter) -> tuple[Step, ...]:
        """Words, what the first receives in one layer, what the padding of an empty prompt receives, masks."""
        result = self.segment(subject.models, subject.scene, subject.classes)
        received = next(item for item in result.evidence if item.group == RECEIVED)
        (wordless,) = (item for item in result.evidence if item.group == WORDLESS)
        return (
            subject.picture_step(),
            Step(
                paint.heat_over(subject.scene.image, received.map),
                f"The share of each place's attention that “{subject.first}” receives in one layer",
                f"A heat map over the picture, brightest on the {subject.first}.",
            ),
            Step(
                paint.regions(wordless, subject.scene.image), "Without words: an empty prompt's padding divides the picture",
                "The picture in flat colours, one for each segment.",
            ),
            subject.mask_step(paint, result, "The strongest word above a threshold wins: the masks"),
        )  # fmt: skip

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedSeg4Diff":
        stages = Stages(report)
        with stages.stage("encoding the words"):
            self.site(models.backbone)
            text = told(models.backbone, self.sentences(models.backbone, rows_of(classes)[0]))
            empty = models.backbone.encode_text([""], [""])
        return PreparedSeg4Diff(models, classes, self, text, empty, timings=stages.timings)


@dataclass(frozen=True, eq=False)
class PreparedSeg4Diff(Prepared):
    """The method with its words; `empty` is the empty prompt."""

    method: Seg4Diff
    text: Text
    empty: Text

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        method, stages = self.method, Stages(report)
        with stages.stage("encoding the picture"):
            _ = scene.latent
        with stages.stage("reading the network's attention"):
            maps = self._received(scene)
        with stages.stage("scoring", 1.0):
            owners = rows_of(self.classes)[1]
            scores = resize(best_of_each(maps, owners), scene.image.shape[:2])
            scores = normalise(scores) if method.scale == "min-max" else scores
        return Segmentation.from_scores(
            scene.image, self.names, scores, method.threshold, evidence=lambda: tuple(self._evidence(scene, maps)),
            timings=stages.timings,
        )  # fmt: skip

    def _received(self, scene: Scene) -> Float[Tensor, "p y x"]:
        """The share of each place's attention that each phrase's tokens receive, their mean."""
        site, backbone, maps = self.method.site(self.models.backbone), self.models.backbone, []
        capture = Capture(states=(site,))
        for text in self.text.split(backbone.rows_per_pass(tuple(scene.latent.shape[-2:]), capture)):
            trace = backbone.trace(scene.latent, text, self.method.timestep, capture, seed=scene.seed)
            counts = text.indicators()
            received = text.unpacked(trace.states[site].spread(text.packed(counts / counts.sum(1, keepdim=True))))
            maps.append(received.unflatten(-1, trace.states[site].grid).float())
        return torch.cat(maps)

    def _evidence(self, scene: Scene, maps: Float[Tensor, "p y x"]) -> Iterator[Evidence]:
        phrases, owners = rows_of(self.classes)
        for phrase, owner, values in zip(phrases, owners, maps, strict=True):
            yield Evidence.heat(f"{phrase}: {RECEIVED}", values, RECEIVED, self.names[owner])
        site, backbone, method = self.method.site(self.models.backbone), self.models.backbone, self.method
        padding = [k for k, token in enumerate(backbone.tokens("")) if token.kind == "padding"]
        if padding:
            trace = backbone.trace(scene.latent, self.empty, method.timestep, Capture(states=(site,)), seed=scene.seed)
            slots = trace.states[site].maps()[0, ..., padding].permute(2, 0, 1).float()
            yield Evidence(WORDLESS, "regions", map=regions(slots, method.nearest), group=WORDLESS)
        own = sibling(site, backbone.sites)
        if own:
            yield from affinity_evidence(self.models, scene, self.text, method.timestep, own.stride)
