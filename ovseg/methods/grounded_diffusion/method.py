"""Open-vocabulary Object Segmentation with Diffusion Models (Grounded Diffusion).

Ziyi Li, Qinye Zhou, Xiaoyun Zhang, Ya Zhang, Yanfeng Wang, Weidi Xie; ICCV 2023; arXiv 2301.05221.

A small trained module reads the network's features near the end of a generation, and gives a mask for any word. It is
trained on some classes only; it can find others because the network's features and its text encoder know them.

The mode "released" is the whole pipeline of the released code: pictures by 50 steps of DDIM at guidance 5, as its training
draws them, the surest instance of the detector as the mask of a class, and in the way of its test script one word at a time
and features normalised by the picture's own statistics. It still differs from it in this:

- The features are those of one pass on the finished latent, noised to the capture step, not of the sampler's own last
  step: the noise of step 1 has a standard deviation of 0.03. So a given picture is segmented as a generated one is.
- The test script draws at guidance 7.5, and its user gives the prompt; the mode keeps the 5 of the training.
- The query's sentence is always the module's own; the code takes a word of the visitor's prompt for it.
- The vectors of the module's spectral norm stand still: a picture's masks do not depend on what was segmented before.
- Triplets are made once and trained on many times; the code makes one for each step of training. Its detector is a Mask
  R-CNN with a Swin-S, which sees red and blue swapped; here it is any segmenter that `transformers` loads, with its own
  colours.
- Several words of a picture have one mask each, from which the likeliest counts at each place; the script shows one mask.

The mode "suited" differs from "released" in this as well:

- The words of a picture are looked at together, and each sees the others, as in the code's training (`words`).
- Features are normalised by the statistics of the training (`statistics`).
- Pictures are drawn with the sampler, the steps and the guidance that suit the backbone (`steps`, `guidance`, `ddim`).
- The mask of a class in training is all of its instances (`top_instance`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import Sampling, Text, query_states
from ovseg.maths.maps import best_of_each, principal
from ovseg.methods.base import Method, Network, Prepared
from ovseg.methods.knobs import background_threshold, noise_level
from ovseg.methods.records import Floor
from ovseg.methods.strips import Painter, Step, Subject
from ovseg.models import Models
from ovseg.pretrained.grounding import QUERY, Grounding, WordMaps, features_of_pair, sentence_pair
from ovseg.progress import Report, Stages, silent
from ovseg.scene import from_prompt
from ovseg.types import BACKGROUND, Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord, indefinite, prompt_of, rows_of

DRAWN_SEED = 2  # of the picture that is drawn for the strip
DRAWN_ON = "road"  # in that picture


@dataclass(frozen=True)
class GroundedDiffusion(Method):
    """The grounding module on one pass, with the values of the released code."""

    name: ClassVar[str] = "grounded-diffusion"
    title: ClassVar[str] = "Grounded Diffusion"
    evidence_steps: ClassVar[Mapping[str, str]] = {
        "Features": "Features of the network's levels, fused by the grounding module: its values and keys.",
        "Logits": "Logits of the word: the product of its mask embedding and the features; a sigmoid makes scores of them.",
        "Queries": "Where the word's text embedding, the query, looks in the features: attention of the grounding module.",
    }
    needs: ClassVar[tuple[str, ...]] = ("grounding",)
    paper: ClassVar[Paper] = Paper(
        title="Open-vocabulary Object Segmentation with Diffusion Models",
        authors="Ziyi Li, Qinye Zhou, Xiaoyun Zhang, Ya Zhang, Yanfeng Wang, Weidi Xie",
        venue="ICCV 2023",
        arxiv="2301.05221",
        code="https://github.com/Lipurple/Grounded-Diffusion",
    )

    released: ClassVar[Mapping[str, object]] = {
        "words": "alone", "steps": 50, "guidance": 5.0, "ddim": True, "top_instance": True,
        "statistics": "picture",
    }  # fmt: skip

    caption_use: ClassVar[str] = "takes it for the prompt"
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.77), Floor(0.82, backbone="pocket-sd3"))

    threshold: float = background_threshold(
        0.5, "Probability that a pixel needs to belong to a class. The released code uses 0.5."
    )
    timestep: int = noise_level(1, "The released code uses 1; a figure of the paper finds 5 best.")
    module: str = knob(
        "S1",
        "Which trained module is used: the name of the class split that it was trained on, or the path of a folder.",
        label="Trained module",
        kind="grounding",
        group="main",
    )
    words: Literal["together", "alone"] = knob(
        "together",
        "Whether the module looks at all words of a picture together, as in the released code's training, or at each word"
        " alone, as in its test script.",
        label="Words",
    )
    statistics: Literal["training", "picture"] = knob(
        "training",
        "Whether the module normalises features by the means and deviations that it learned in training, or by the picture's"
        " own, as the released code does, which never leaves training mode.",
        label="Normalised by",
    )
    steps: int = knob(
        0,
        "How many steps the sampler takes for pictures that are drawn for this method, in the commands triplets, synthesize"
        " and grounded-generation; 0 for what suits the backbone. The released code takes 50.",
        label="Sampling steps",
        high=1000,
    )
    guidance: float = knob(
        0.0,
        "How closely these pictures follow their prompt; 0 for what suits the backbone. The released code trains with 5.",
        label="Guidance",
        high=20,
        step=0.5,
    )
    ddim: bool = knob(
        False,
        "Draw these pictures by DDIM, as the released code does. Otherwise by the sampler that the backbone came with.",
        label="Pictures drawn by DDIM",
    )
    top_instance: bool = knob(
        False,
        "In training, take the surest instance of the detector for the mask of a class, as the released code does. Otherwise"
        " all of its instances.",
        label="Surest instance alone",
    )

    def sampling(self, models: Models, steps: int | None = None) -> Sampling:
        """How pictures are drawn for this method; in `steps` steps, if given, in place of its own."""
        own = self.steps or None  # 0 stands for what suits the backbone
        suited = models.checkpoint.sampling(own if steps is None else steps, self.guidance or None)
        return replace(suited, ddim=self.ddim)

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        """A row without the sentence and one with it, whatever the words are."""
        return 2

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        return {"grounding": lambda: models.grounding(self.module)}

    def strip(self, subject: Subject, paint: Painter) -> tuple[Step, ...]:
        """A picture drawn from a prompt, its features fused, what the word's query looked at, its mask; then the scene's."""
        models, word = subject.models, subject.classes[-1]
        prompt = f"a photo of {indefinite(word.name)} on {DRAWN_ON}"
        drawn = from_prompt(models, prompt, DRAWN_SEED)
        result = self.segment(models, drawn, (word,))
        finest = [item for item in result.evidence if item.group == "Features"][-1]
        order = (BACKGROUND, *(known.name for known in subject.classes))
        (looked,) = (item for item in result.evidence if item.group == "Queries")
        return (
            Step(drawn.image, f"Drawn from the prompt “{prompt}”", f"A generated picture of {indefinite(word.name)}."),
            Step(
                finest.images[0], "Features of all resolutions, fused; three strongest components as colours",
                f"A picture in false colours, in which the {word.name} stands out.",
            ),
            Step(
                paint.heat_over(drawn.image, looked.map), f"Where the query “{word.name}” looks, in squares of 4 x 4 places",
                f"A heat map over the picture, bright in a few places of the {word.name}.",
            ),
            Step(
                paint.masks(result, order=order), "The word's vector times the features: the mask",
                f"The {word.name} under one colour.",
            ),
            subject.mask_step(
                paint, self.segment(models, subject.scene, subject.classes), "The same module on a picture that is given"
            ),
        )  # fmt: skip

    def prepare(
        self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent
    ) -> "PreparedGroundedDiffusion":
        stages, (phrases, _) = Stages(report), rows_of(classes)
        with stages.stage("encoding the words"):
            module = models.grounding(self.module)
            states = query_states(models.backbone, phrases, QUERY)
            sentence = prompt_of([word.name for word in classes])
            uncaptioned = sentence_pair(models.backbone, sentence) if models.backbone.fits(sentence) else None
        return PreparedGroundedDiffusion(models, classes, self, module, states, uncaptioned, timings=stages.timings)


@dataclass(frozen=True, eq=False)
class PreparedGroundedDiffusion(Prepared):
    """Grounded Diffusion with its module, the text encoder's state of each phrase, and the sentence that stands in for a
    scene's caption where it has none; None where that is too long."""

    method: GroundedDiffusion
    module: Grounding
    states: Float[Tensor, "n d"]
    uncaptioned: Text | None

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        method, stages, (phrases, owners) = self.method, Stages(report), rows_of(self.classes)
        with stages.stage("reading the network's features"):
            backbone = self.models.backbone
            pair = None if scene.caption else self.uncaptioned
            pair = pair or sentence_pair(backbone, scene.caption or prompt_of(self.names))
            features = features_of_pair(backbone, scene.latent, pair, method.timestep, scene.seed)
        with stages.stage("finding the words", 0.7):
            alone, own = method.words == "alone", method.statistics == "picture"
            word_maps = self.module.look(features, self.states, alone, own)
        likely = word_maps.logits.sigmoid()
        return Segmentation.from_scores(
            scene.image, self.names, best_of_each(likely, owners), method.threshold,
            evidence=lambda: _evidence(word_maps, phrases, [self.names[owner] for owner in owners]), timings=stages.timings,
        )  # fmt: skip


def _evidence(maps: WordMaps, phrases: list[str], names: list[str]) -> tuple[Evidence, ...]:
    """The fused features as colours, and for each phrase its logits and the attention of its query."""
    items = [
        Evidence(
            f"Fused down to {level.shape[1]} x {level.shape[2]}: the three strongest components", "images",
            images=(principal(level),), group="Features",
        )
        for level in maps.levels
    ]  # fmt: skip
    for phrase, name, logits, attention in zip(phrases, names, maps.logits, maps.attention, strict=True):
        items.append(Evidence.heat(f"{phrase}: logits", logits, "Logits", name))
        items.append(Evidence.heat(f"{phrase}: attention of its query", attention, "Queries", name))
    return tuple(items)
