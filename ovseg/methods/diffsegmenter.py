"""Diffusion Model is Secretly a Training-free Open Vocabulary Semantic Segmenter.

Jinglong Wang, Xiawei Li, Jing Zhang, Qingyuan Xu, Qin Zhou, Qian Yu, Lu Sheng, Dong Xu.
IEEE Transactions on Image Processing 34 (2025); arXiv 2309.02773.

The network looks once at the noised picture for each class. The cross-attention of the class's words, averaged for each
resolution and fused, says roughly where the class is; one multiplication by the finest self-attention spreads it over whole
objects; a constant threshold decides on the background.

The mode "released" is the whole pipeline of the released code. It still differs from it in this:

- Only the conditional rows are run, all classes of a picture together: the same result for half the work or less.
- Noise and the sample of the codec's posterior are seeded by the scene; the code draws them without a seed.
- The squashed picture is rounded to 8 bits before it is encoded; the code keeps its fractions, in half precision.
- The word after a class is read with it wherever it ends in "ing"; the code's script for COCO reads the word after that one.
- Nouns come from another tagger than spaCy's; "hot dog" is one noun. The code keeps the filter's results in label files.
- A class may have several phrases: the highest of their maps counts at each place.
- The background's threshold is given; the released evaluation takes the best of 45 on the pictures that it reports. The
  protocol `diffsegmenter` does so too, and gives the prompt for Context and COCO, "a photography of" the class.
- A generated picture is encoded anew; the code segments given pictures alone.

The mode "suited" differs from "released" in this as well; the row of the backbone in `BACKBONES` may change more:

- Prompts end with the class; the code lets BLIP large go on with them, and reads a word in "ing" that follows (`continued`).
- All tokens of a phrase are read and emphasised; the code reads the last token, and emphasises the last word (`last_token`).
- A picture keeps its aspect and is resized with antialiasing; the code squashes it without (`squashed`).
- The mean of the codec's posterior is taken; the code draws a sample (`sampled`).
- All classes that are asked for are looked for; the code leaves out those that its filter does not find (`filtered`).
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.backbones.base import Backbone, Capture, Site, Text, Trace
from ovseg.backbones.phrases import filled
from ovseg.maths import maps
from ovseg.methods.base import Method, Network, Prepared
from ovseg.models import Models
from ovseg.progress import Report, Stages, silent
from ovseg.scene import latent_of
from ovseg.types import Affinity, Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord, check_prompt, rows_of
from ovseg.words.presence import look_as_released

FINEST = 1  # the stride whose self-attention refines


@dataclass(frozen=True)
class DiffSegmenter(Method):
    """Hyper-parameters with the values of the released code for Stable Diffusion 1.5."""

    name: ClassVar[str] = "diffsegmenter"
    title: ClassVar[str] = "DiffSegmenter"
    paper: ClassVar[Paper] = Paper(
        title="Diffusion Model is Secretly a Training-free Open Vocabulary Semantic Segmenter",
        authors="Jinglong Wang, Xiawei Li, Jing Zhang, Qingyuan Xu, Qin Zhou, Qian Yu, Lu Sheng, Dong Xu",
        venue="IEEE Transactions on Image Processing, 2025",
        arxiv="2309.02773",
        code="https://github.com/VCG-team/DiffSegmenter",
    )
    released: ClassVar[Mapping[str, object]] = MappingProxyType({
        "last_token": True, "continued": True, "captioner": "blip-large", "greedy": True, "squashed": True, "sampled": True,
        "filtered": True, "clip": "ViT-L-14-quickgelu/openai",
    })  # fmt: skip

    threshold: float = knob(
        0.5,
        "Constant score of the background: pixels where no class scores more are background. The released evaluation tries"
        " 0.30 to 0.74.",
        label="Background threshold",
        group="main",
        step=0.01,
    )
    timesteps: tuple[int, ...] = knob(
        (100,),
        "How much noise is added to the picture before the network looks at it, 0 to 999. The results of several levels are"
        " averaged. The released code uses 100 alone.",
        label="Noise levels",
        group="main",
        high=999,
    )
    draws: int = knob(
        1,
        "How many different noises are tried at each level; their results are averaged. The released code uses 1.",
        label="Noise samples",
        group="main",
        low=1,
        high=16,
        step=1,
    )
    stride_weights: tuple[float, ...] = knob(
        (0.1, 0.1, 0.5, 0.3),
        "How much the cross-attention of each resolution counts, from the finest to the coarsest. The released code's 0.1,"
        " 0.1, 0.5, 0.3 are for the 64, 32, 16 and 8 grids of Stable Diffusion.",
        label="Weights of the resolutions, finest first",
        high=100,
    )
    refinements: int = knob(
        1,
        "How often the maps are multiplied by the self-attention, which spreads them over whole objects. 0 leaves it out;"
        " the released code does it once.",
        label="Refinements by self-attention",
        group="main",
        high=5,
        step=1,
    )
    emphasis: float = knob(
        1.21,
        'How strongly the class word counts in its prompt; 1 leaves the prompt as it is. 1.21 is the "++" of the released'
        " code.",
        label="Emphasis of the class word",
        low=0.5,
        high=2,
        step=0.01,
    )
    prompt: str = knob(
        "a photograph of {}",
        "The prompt of each class; {} is replaced by the class. This is the released code's prompt for PASCAL VOC.",
        label="Prompt",
    )
    last_token: bool = knob(
        False,
        "Read the attention of the last token of a class name only, and emphasise its last word only, as the released code"
        " does. Otherwise all its tokens are averaged.",
        label="Last token only",
    )
    continued: bool = knob(
        False,
        'Let the captioner complete each prompt with what it sees, and read a following word that ends in "ing" together'
        " with the class. The released code does both.",
        label="Prompts completed by the captioner",
    )
    captioner: str = knob(
        "",
        "Which captioner completes the prompts and describes the picture to the filter: a name such as blip-large, or a"
        " folder. Empty for the one that goes with the backbone. The released code uses BLIP large.",
        label="Captioner",
    )
    greedy: bool = knob(
        False,
        "Complete a prompt with the likeliest word each time, up to 20 tokens in all, as the released code does. Otherwise"
        " the three likeliest sentences are kept while it grows.",
        label="Greedy completion",
    )
    squashed: bool = knob(
        False,
        "Squash the picture to the square that the backbone was trained on, as the released code does. Otherwise it keeps"
        " its aspect.",
        label="Picture squashed to a square",
    )
    sampled: bool = knob(
        False,
        "Draw the picture's latent from the distribution that the codec gives, as the released code does. Otherwise it is"
        " the mean of it.",
        label="Latent drawn at random",
    )
    filtered: bool = knob(
        False,
        "Leave out classes that neither CLIP nor two captions of the picture find, as the released label files do.",
        label="Classes filtered by CLIP and captions",
    )
    clip: str = knob(
        "",
        "Which CLIP the filter looks with, and in whose text network it compares words: what open_clip calls it. Empty for"
        " the one that goes with the backbone. The released code uses OpenAI's ViT-L/14.",
        label="CLIP of the filter",
    )

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        """The captioner and the CLIP, where prompts are completed or classes filtered."""
        networks: dict[str, Callable[[], Network]] = {}
        if self.continued or self.filtered:
            networks["captioner"] = lambda: models.captioner(self.captioner)
        if self.filtered:
            networks["clip"] = lambda: models.clip_named(self.clip)
        return networks

    @property
    def weight_of_strides(self) -> dict[int, float]:
        """For each stride of the latent grid how much it counts."""
        return {2**power: weight for power, weight in enumerate(self.stride_weights)}

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedDiffSegmenter":
        """Encode the prompts of all phrases.

        With `continued` the captioner looks at the picture to go on with a prompt, and with `filtered` the classes depend
        on it: the words are then encoded for each picture anew, and only the settings are checked here.

        Raises:
            ValueError: a setting is out of its range, a network cannot be loaded, or a phrase does not fit the text encoder.
        """
        self._check()
        stages = Stages(report)
        if self.continued or self.filtered:
            _ = [load() for load in self.helpers(models).values()]
            return PreparedDiffSegmenter(models, classes, self, None)
        with stages.stage("encoding the words"):
            text = self.encode(models, classes)
        return PreparedDiffSegmenter(models, classes, self, text, timings=stages.timings)

    def _check(self) -> None:
        if not self.timesteps:
            raise ValueError("timesteps must name at least one noise level, but it is empty.")
        if self.draws < 1 or self.refinements < 0:
            raise ValueError(
                f"draws must be 1 or more and refinements 0 or more, but got {self.draws} and {self.refinements}."
            )
        check_prompt(self.prompt)

    def encode(
        self, models: Models, classes: tuple[ClassWord, ...], image: UInt8[np.ndarray, "H W 3"] | None = None
    ) -> Text:
        """A row for each phrase of the classes, with the token columns to read.

        Args:
            image: the picture by which the captioner goes on with each prompt; the prompts end as they are without one.

        Raises:
            ValueError: a phrase does not fit the text encoder, or there is no captioner.
        """
        phrases, _ = rows_of(classes)
        prompts, starts = (list(part) for part in zip(*(filled(self.prompt, phrase) for phrase in phrases), strict=True))
        if image is not None:
            speaker = models.captioner(self.captioner)
            go_on = speaker.go_on if self.greedy else speaker.caption
            prompts = [shortened(models.backbone, go_on(image, prompt), prompt) for prompt in prompts]
        # The released code's "++" strengthens the last word of a class alone, as it reads its last token alone.
        emphasised = [phrase.split()[-1] for phrase in phrases] if self.last_token else phrases
        text = models.backbone.encode_text(prompts, phrases, self.emphasis, emphasised, starts=starts)
        spans = [span[-1:] if self.last_token else span for span in text.spans]
        if image is not None:
            stops = [start + len(phrase) for start, phrase in zip(starts, phrases, strict=True)]
            words, places = zip(*map(participle_at, prompts, stops), strict=True)
            after = models.backbone.encode_text(prompts, words, starts=places)
            more = [span[:1] if self.last_token else span for span in after.spans]
            spans = [own + other for own, other in zip(spans, more, strict=True)]
        return replace(text, spans=tuple(spans))

    def asked(self, models: Models, image: UInt8[np.ndarray, "H W 3"], classes: tuple[ClassWord, ...]) -> tuple[int, ...]:
        """The classes that are looked for, by their numbers: those that pass the filter, or all."""
        if not self.filtered:
            return tuple(range(len(classes)))
        seen = enumerate(look_as_released(models, image, classes, self.captioner, self.clip))
        return tuple(number for number, presence in seen if presence.present)

    def average(self, models: Models, scene: Scene, text: Text, stages: Stages) -> "Rows":
        """Trace every row at every timestep and draw, and average what comes of it."""
        backbone, finest = models.backbone, finest_sites(models.backbone)
        if self.refinements and not finest:
            raise ValueError("refinements must be 0 for a backbone without self-attention at stride 1, as this one is.")
        capture = Capture(phrases=backbone.strides, states=finest if self.refinements else ())
        parts = list(text.split(backbone.rows_per_pass(tuple(scene.latent.shape[-2:]), capture)))
        passes = [(t, draw) for t in self.timesteps for draw in range(self.draws)]
        done: list[Rows] = []
        for number, part in enumerate(parts):
            averaged = None
            for count, (timestep, draw) in enumerate(passes):
                share = (number * len(passes) + count) / (len(parts) * len(passes))
                with stages.stage("reading the network's attention", share):
                    trace = backbone.trace(scene.latent, part, timestep, capture, seed=scene.seed + draw)
                    rows = self.analyse(trace)
                    averaged = rows if averaged is None else averaged + rows
            done.append(averaged / len(passes))
        return Rows.join(done)

    def analyse(self, trace: Trace) -> "Rows":
        """Steps 8 to 13 of the method: what of each resolution, fused; where, by the finest self-attention."""
        per_stride = trace.phrases_by_stride()
        fused = maps.fuse_strides(per_stride, self.weight_of_strides, trace.latent_hw)
        refined = trace.spread(fused, FINEST, self.refinements) if self.refinements else fused
        return Rows(refined, fused, per_stride)


@dataclass(frozen=True, eq=False)
class PreparedDiffSegmenter(Prepared):
    """DiffSegmenter with encoded prompts; `text` is None where they or the classes depend on the picture."""

    method: DiffSegmenter
    text: Text | None

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment a scene into the classes and background.

        Raises:
            ValueError: a timestep is outside the noise schedule, or a setting does not fit the backbone.
        """
        method, models, stages, text = self.method, self.models, Stages(report), self.text
        asked, refined = tuple(range(len(self.classes))), method.refinements > 0
        if text is None:
            with stages.stage("choosing the classes"):
                asked = method.asked(models, scene.image, self.classes)
            with stages.stage("encoding the words"):
                chosen = tuple(self.classes[number] for number in asked)
                text = method.encode(models, chosen, scene.image if method.continued else None)
        with stages.stage("encoding the picture"):
            if method.squashed or method.sampled:
                latent = latent_of(models, scene.image, scene.seed, square=method.squashed, sample_posterior=method.sampled)
                scene = replace(scene, latent=latent)
            _ = scene.latent  # made here, so that the seconds are this stage's
        rows = method.average(models, scene, text, stages)
        with stages.stage("scoring", 1.0):
            phrases, owners = rows_of(tuple(self.classes[number] for number in asked))
            of_class = [[row for row, owner in enumerate(owners) if owner == k] for k in range(len(asked))]
            best = torch.stack([rows.refined[own].amax(0) for own in of_class])
            # Expanded first, then normalised: the order of the released code, and not the same on spiky maps.
            best = maps.normalise(maps.resize(best, scene.image.shape[:2]))
            scores = best.new_zeros(len(self.classes), *best.shape[1:])
            scores[list(asked)] = best
        return Segmentation.from_scores(
            scene.image, self.names, scores, self.method.threshold,
            evidence=lambda: (
                *rows.evidence(phrases, [self.names[asked[owner]] for owner in owners], was_refined=refined),
                *self_attention(models, scene, text, method.timesteps[0]),
            ),
            timings=stages.timings,
        )  # fmt: skip


def shortened(backbone: Backbone, continued: str, prompt: str) -> str:
    """A continued prompt without the last words that the text encoder does not take, of which a warning tells."""
    kept = continued
    while not backbone.fits(kept) and " " in kept[len(prompt) :]:
        kept = kept.rpartition(" ")[0]
    if kept != continued:
        warnings.warn(f"The captioner's prompt is too long and was shortened to {kept!r}.", stacklevel=2)
    return kept


def participle_at(prompt: str, stop: int) -> tuple[str, int]:
    """The word behind a phrase that ends before character `stop`, if it ends in "ing", and where it begins; else ("", stop).

    This is the released code's rule for what joins a class.
    """
    match = re.compile(r"\s+(\w+ing)(?!\w)", re.IGNORECASE).match(prompt, stop)
    return (match.group(1), match.start(1)) if match else ("", stop)


@dataclass(frozen=True)
class Rows:
    """Maps of some rows, one for each phrase: refined and fused, and of each stride."""

    refined: Float[Tensor, "b y x"]
    fused: Float[Tensor, "b y x"]
    per_stride: dict[int, Float[Tensor, "b _y _x"]]

    def __add__(self, other: "Rows") -> "Rows":
        strides = {s: m + other.per_stride[s] for s, m in self.per_stride.items()}
        return Rows(self.refined + other.refined, self.fused + other.fused, strides)

    def __truediv__(self, count: float) -> "Rows":
        return Rows(self.refined / count, self.fused / count, {s: m / count for s, m in self.per_stride.items()})

    @classmethod
    def join(cls, parts: list["Rows"]) -> "Rows":
        """Rows of several passes one after the other."""
        return cls(
            torch.cat([part.refined for part in parts]),
            torch.cat([part.fused for part in parts]),
            {stride: torch.cat([part.per_stride[stride] for part in parts]) for stride in parts[0].per_stride},
        )

    def evidence(self, phrases: list[str], labels: list[str], was_refined: bool) -> tuple[Evidence, ...]:
        """What the viewer may look at: for each row its maps, under its phrase and the name of its class."""
        items, rows = [], list(enumerate(zip(phrases, labels, strict=True)))
        for row, (phrase, label) in rows:
            if was_refined:
                items.append(_heat(f"{phrase}: refined", self.refined[row], "Refined by self-attention", label))
            items.append(_heat(f"{phrase}: fused", self.fused[row], "Cross-attention, fused", label))
        for per_row in self.per_stride.values():
            grid = "x".join(str(side) for side in per_row.shape[-2:])
            for row, (phrase, label) in rows:
                items.append(_heat(f"{phrase}: {grid}", per_row[row], f"{grid} grid", label))
        return tuple(items)


def _heat(title: str, values: Tensor, group: str, label: str) -> Evidence:
    return Evidence(title, "heat", map=values.float().cpu().numpy(), group=group, label=label)


def finest_sites(backbone: Backbone) -> tuple[Site, ...]:
    """The self-attention whose grid is the latent's, which the maps are multiplied by."""
    return tuple(site for site in backbone.sites if site.kind == "self" and site.stride == FINEST)


def self_attention(models: Models, scene: Scene, text: Text, timestep: int) -> Iterator[Evidence]:
    """What each place attends to in the pass of the first prompt, which is run again for it; nothing without such layers."""
    if sites := finest_sites(models.backbone):
        trace = models.backbone.trace(scene.latent, text[:1], timestep, Capture(states=sites), seed=scene.seed)
        layers = (tuple(part[0].half().cpu().numpy() for part in (s.query, s.key)) for s in trace.states.values())
        title = f"Self-attention from any point, with the prompt “{text.prompts[0]}”"
        yield Evidence(title, "affinity", group="Self-attention", affinity=Affinity(trace.latent_hw, tuple(layers)))
