"""iSeg: An Iterative Refinement-based Framework for Training-free Segmentation.

Lin Sun, Jiale Cao, Jin Xie, Fahad Shahbaz Khan, Yanwei Pang; arXiv 2409.03209.

The network looks once, with all words in one sentence and words for what is no class behind them. The maps of two grids are
spread many times along the finest self-attention, whose entropy is lowered first: what a place attends to weakly falls to
nothing, so that many rounds do not wash out.

The mode "released" has the settings of the released code on Stable Diffusion 2.1. It still differs from it in this:

- All heads of the two grids of cross-attention are averaged, as the code does for Context and COCO; for VOC it takes 50 of
  them by number.
- The places are not clustered by what they attend to before the maps are spread.
- The last layer of the finest self-attention is read with the heads whose numbers are given; which those are has a meaning
  on one checkpoint alone, so the mode "suited" takes the mean of all.
- The classes are those that are asked for; the code takes what a CLIP finds in the picture.
- Each map is stretched to 0 ... 1 before the decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar, Literal

from ovseg.backbones import Checkpoint
from ovseg.backbones.base import Backbone, Text
from ovseg.maths.maps import of_strides
from ovseg.methods.knobs import grid_weights, refining_stride
from ovseg.methods.reader import Reader
from ovseg.methods.records import Floor
from ovseg.reading.prompts import Sentence, all_in_one, as_few, owners_of
from ovseg.reading.recipe import Recipe, told
from ovseg.types import Paper, knob


@dataclass(frozen=True)
class ISeg(Reader):
    """One pass for all words, and many rounds of self-attention with lowered entropy."""

    name: ClassVar[str] = "iseg"
    title: ClassVar[str] = "iSeg"
    paper: ClassVar[Paper] = Paper(
        title="iSeg: An Iterative Refinement-based Framework for Training-free Segmentation",
        authors="Lin Sun, Jiale Cao, Jin Xie, Fahad Shahbaz Khan, Yanwei Pang",
        venue="arXiv, 2024",
        arxiv="2409.03209",
        code="https://github.com/linsun449/iseg.code",
    )
    released: ClassVar[Mapping[str, object]] = {"heads_read": (1, 2)}
    released_on: ClassVar[str] = "sd21"
    network_fields: ClassVar[tuple[str, ...]] = ("heads_read", "stride_weights", "refine_stride")
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.83), Floor(0.8, backbone="pocket-sd3"))

    background: Literal["left-over", "threshold"] = knob(
        "left-over",
        "The background's score: the square of what the best class leaves of 1, as the released code does on VOC and"
        " Context, or a threshold, as on COCO.",
        label="Background",
        group="main",
    )
    least: float = knob(
        0.45,
        "Score that a pixel needs to belong to a class, where the background is a threshold. The released code uses 0.45.",
        label="Threshold, where it is one",
    )
    stride_weights: tuple[float, ...] = grid_weights(
        (0.0, 0.3, 0.7, 0.0), "; the released code's 0.3 and 0.7 are for the 32 and 16 grids of Stable Diffusion."
    )
    rounds: int = knob(
        8,
        "How often the maps are multiplied by the self-attention. The released code: 8 on VOC, 5 on Context, 10 on COCO.",
        label="Rounds of self-attention",
        group="main",
        low=1,
        high=20,
    )
    strength: float = knob(
        0.015,
        "How far the entropy of the self-attention is lowered. The released code uses 0.015 on VOC, 0.002 on Context, 0.2 on"
        " COCO.",
        label="Strength of the entropy step",
        group="main",
        step=0.001,
    )
    refine_stride: int = refining_stride("Which grid of self-attention is read: 1 is the finest, as in the released code.")
    heads_read: tuple[int, ...] = knob(
        (),
        "Numbers of the heads of self-attention that are read, counted from 0; all if none is named. The released code reads"
        " 1 and 2 of five on Stable Diffusion 2.1.",
        label="Heads that are read",
        high=99,
    )
    emphasis: float = knob(
        1.6,
        "What the states of the class words are multiplied by. The released code uses 1.6; 1 leaves them.",
        label="Emphasis of the class words",
        low=0.5,
        high=3,
    )
    others: tuple[str, ...] = knob(
        ("other object", "background"),
        'Words that are no class, behind the classes in the sentence. The released code has "other object and background"'
        " and a list of stuff.",
        label="Words that are no class",
    )
    prompt: str = knob("a photograph of {}", "The sentence; {} is replaced by the list of words.", label="Sentence")

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The grids by what they tell, and all heads; a small world's self-attention is too weak for many rounds."""
        if checkpoint.grid_weights == Checkpoint.grid_weights:
            return {}
        own = {
            "heads_read": (), "stride_weights": checkpoint.grid_weights, "refine_stride": checkpoint.finest_stride,
        }  # fmt: skip
        small = {"prompt": checkpoint.template, "others": ("sky", "grass"), "emphasis": 1.0, "rounds": 1}
        small |= {"timestep": 500} if checkpoint.joint else {}
        return own | (small if checkpoint.is_small_world else {})

    def recipe(self) -> Recipe:
        return Recipe(
            weights=of_strides(self.stride_weights), scale="places",
            refine="entropy", stride=self.refine_stride, times=self.rounds, strength=self.strength,
            heads_read=self.heads_read, background=self.background, threshold=self.least,
        )  # fmt: skip

    def sentences(self, backbone: Backbone, phrases: Sequence[str]) -> tuple[Sentence, ...]:
        return as_few(backbone, lambda some: all_in_one(self.prompt, some, self.others), phrases)

    def encode(self, backbone: Backbone, sentences: Sequence[Sentence]) -> Text:
        """The sentences, the states of the class words multiplied."""
        text = told(backbone, sentences)
        if self.emphasis == 1:
            return text
        states, owners = text.embeddings.clone(), owners_of(sentences, count())
        for row, span, owner in zip(text.slots[0], text.spans, owners, strict=True):
            if owner >= 0:
                states[row, text.columns(row, span)] *= self.emphasis
        return replace(text, embeddings=states)
