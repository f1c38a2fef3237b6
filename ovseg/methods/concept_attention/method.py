"""ConceptAttention: Diffusion Transformers Learn Highly Interpretable Features.

Alec Helbling, Tuna Han Salih Meral, Benjamin Hoover, Pinar Yanardag, Duen Horng Chau; ICML 2025; arXiv 2502.04320.

Words ride along beside the prompt: they attend to the picture and to one another, and nothing attends to them, so that the
picture does not change. What a word gathers in a layer of joint attention is compared with what each place gathers: their
product, in a softmax over the words, the mean over layers. Words that are no class take what classes would take else.

The mode "released" has the settings of the released code, which runs on Flux.1 and Stable Diffusion 3.5. It differs in this:

- A word is the mean of its tokens in the first text encoders; the code takes T5's first token alone, which cuts words of
  several pieces.
- Words are encoded by the text encoders that the backbone has; with Flux.1 that is T5.
- The prompt is empty, as for a given picture in the code; its pooled states are those of the empty prompt, not zeros.
- A pixel is background where a word that is no class is the strongest; the code thresholds the map of one word at its mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones import Checkpoint
from ovseg.backbones.base import Capture, Text, grid_at, query_states
from ovseg.maths.maps import best_of_each, resize
from ovseg.methods.base import Method, Prepared
from ovseg.methods.knobs import noise_level, read_layers
from ovseg.methods.records import Floor
from ovseg.methods.strips import Painter, Step, Subject
from ovseg.models import Models
from ovseg.progress import Report, Stages, silent
from ovseg.reading.recipe import crossing_named
from ovseg.types import Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord, rows_of

SHARE = "Share of the word"


@dataclass(frozen=True)
class ConceptAttention(Method):
    """Words that ride along, compared with places by what both gather."""

    name: ClassVar[str] = "concept-attention"
    title: ClassVar[str] = "ConceptAttention"
    listed_first: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("joint attention",)
    rows_alone: ClassVar[bool] = True
    evidence_steps: ClassVar[Mapping[str, str]] = {
        SHARE: "softmax over words of the product of what the word and the place gather, the mean over layers.",
    }
    paper: ClassVar[Paper] = Paper(
        title="ConceptAttention: Diffusion Transformers Learn Highly Interpretable Features",
        authors="Alec Helbling, Tuna Han Salih Meral, Benjamin Hoover, Pinar Yanardag, Duen Horng Chau",
        venue="ICML 2025",
        arxiv="2502.04320",
        code="https://github.com/helblazer811/ConceptAttention",
    )
    released_on: ClassVar[str] = "sd35m"  # of the networks in the table the nearest: Flux.1 and 3.5 large are not there
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.54, backbone="pocket-sd3"),)

    timestep: int = noise_level(500, "The released code takes the third of four steps, which is 500.")
    others: tuple[str, ...] = knob(
        ("background", "floor", "tree", "person", "grass", "face"),
        "Words that are no class and ride along; where one is the strongest there is background. These are the released"
        " code's; words that are asked for are left out.",
        label="Words that are no class",
        group="main",
    )
    layers: tuple[int, ...] = read_layers("15 to 18 of Flux.1, and all of Stable Diffusion 3.5")

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """A small world's words for what is no class."""
        stuff = ("sky", "grass", "water", "sand", "snow", "road", "bricks", "wood")
        return {"others": stuff} if checkpoint.is_small_world else {}

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        """One: all words ride along."""
        return 1

    def strip(self, subject: Subject, paint: Painter) -> tuple[Step, ...]:
        """Words, the share of the first, the shares of words that are no class, masks."""
        result = self.segment(subject.models, subject.scene, subject.classes)
        shares = [item for item in result.evidence if item.group == SHARE]
        others = [item for item in shares if item.label == "background"][:4]
        words = ", ".join(f"“{item.title.partition(':')[0]}”" for item in others)
        return (
            subject.picture_step(),
            Step(
                paint.heat_over(subject.scene.image, shares[0].map),
                f"{subject.names} ride along: how much “{subject.first}” is what a place shows",
                f"A heat map over the picture, brightest on the {subject.first}.",
            ),
            Step(
                paint.mosaic([paint.heat(item.map) for item in others]),
                f"So do words that are no class: {words} and others",
                "Four heat maps of words that are no class.",
            ),
            subject.mask_step(paint, result, "The likeliest wins; where it is no class there is background: the masks"),
        )  # fmt: skip

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedConceptAttention":
        stages, phrases = Stages(report), rows_of(classes)[0]
        with stages.stage("encoding the words"):
            if obstacle := models.obstacle("joint attention"):
                raise ValueError(obstacle)
            crossing_named(models.backbone, self.layers)  # refuses what the backbone does not have
            taken = {phrase.lower() for phrase in phrases}
            others = [word for word in self.others if word.lower() not in taken]
            states = query_states(models.backbone, [*phrases, *others])
            text = models.backbone.encode_text([""], [""]).with_riders(states)
        return PreparedConceptAttention(models, classes, self, text, tuple(others), timings=stages.timings)


@dataclass(frozen=True, eq=False)
class PreparedConceptAttention(Prepared):
    """The method with its words; `text` is the empty prompt with all words riding along, `others` the last of them."""

    method: ConceptAttention
    text: Text
    others: tuple[str, ...]

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        method, backbone, stages = self.method, self.models.backbone, Stages(report)
        phrases, owners = rows_of(self.classes)
        with stages.stage("encoding the picture"):
            _ = scene.latent
        with stages.stage("reading the network's attention"):
            sites = crossing_named(backbone, method.layers)
            trace = backbone.trace(scene.latent, self.text, method.timestep, Capture(outputs=sites), seed=scene.seed)
            shares = torch.stack([word_shares(*trace.outputs[site]) for site in sites]).mean(0)
        with stages.stage("scoring", 1.0):
            maps = shares.unflatten(-1, grid_at(trace.latent_hw, sites[0].stride))
            none = maps[len(phrases) :].amax(0) if self.others else torch.zeros_like(maps[0])
            scores = resize(torch.cat([none[None], best_of_each(maps, owners)]), scene.image.shape[:2])
        names = [*(self.names[owner] for owner in owners), *["background"] * len(self.others)]
        return Segmentation.from_scores(
            scene.image, self.names, scores, timings=stages.timings,
            evidence=lambda: tuple(
                Evidence.heat(f"{word}: {SHARE}", one, SHARE, name)
                for word, name, one in zip([*phrases, *self.others], names, maps, strict=True)
            ),
        )  # fmt: skip


def word_shares(places: Float[Tensor, "1 n e"], words: Float[Tensor, "1 r e"]) -> Float[Tensor, "r n"]:
    """How much each word is what a place shows: products of what both gather in a layer, in a softmax over the words."""
    return (words[0].float() @ places[0].float().mT).softmax(0)
