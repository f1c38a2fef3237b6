"""Diffusion Model is Secretly a Training-free Open Vocabulary Semantic Segmenter.

Jinglong Wang, Xiawei Li, Jing Zhang, Qingyuan Xu, Qin Zhou, Qian Yu, Lu Sheng, Dong Xu.
IEEE Transactions on Image Processing 34 (2025); arXiv 2309.02773.

The network looks once at the noised picture for each class. The cross-attention of the class's words, averaged for each
resolution and fused, says roughly where the class is; one multiplication by the finest self-attention spreads it over whole
objects; a constant threshold decides on the background.

The mode "released" is the whole pipeline of the released code. It still differs from it in this:

- Only the conditional rows are run, all classes of a picture together: the same result for half the work or less.
- Noise and the sample of the codec's posterior are seeded by the scene; the code draws them without a seed.
- Quotes and parentheses of a continued prompt are text; the code's library for emphasis takes them for its own syntax,
  which changes the states of such a prompt by as much as their own size. It is left so: the caption means them as text.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import UInt8

from ovseg.attention.spreading import affinity_evidence, spreading_sites
from ovseg.backbones import Checkpoint
from ovseg.backbones.base import Backbone, Capture, Site, Text, Trace, grid_at
from ovseg.backbones.phrases import filled
from ovseg.backbones.trace import mean_by_stride
from ovseg.maths import maps
from ovseg.methods.base import Method, Network, Prepared
from ovseg.methods.diffsegmenter import about
from ovseg.methods.diffsegmenter.evaluation import ABLATIONS, PROTOCOL
from ovseg.methods.diffsegmenter.rows import Rows
from ovseg.methods.diffsegmenter.settings import Settings
from ovseg.methods.protocol import Protocol
from ovseg.methods.records import AblationRow, Floor, ShownRun
from ovseg.models import Models
from ovseg.progress import Report, Stages, silent
from ovseg.reading.recipe import crossing_named
from ovseg.scene import latent_of
from ovseg.types import Paper, Scene, Segmentation
from ovseg.words.class_filter import look_as_released
from ovseg.words.classes import ClassWord, rows_of


@dataclass(frozen=True)
class DiffSegmenter(Settings, Method):
    """One pass for each class: cross-attention says what, self-attention says where."""

    name: ClassVar[str] = "diffsegmenter"
    title: ClassVar[str] = "DiffSegmenter"
    evidence_steps: ClassVar[Mapping[str, str]] = {
        "Refined": "The fused map times the self-attention, A_self A: each place takes what the places it looks at have.",
        "fused": "A: the weighted sum of the word's cross-attention over the grids, softmax(Q K^T / sqrt(d)) of its tokens.",
        "grid": "Cross-attention of the word's tokens on this grid, averaged over heads and layers.",
        "Self-attention": "Self-attention of one place: a row of softmax(Q K^T / sqrt(d)).",
    }
    paper: ClassVar[Paper] = Paper(
        title="Diffusion Model is Secretly a Training-free Open Vocabulary Semantic Segmenter",
        authors="Jinglong Wang, Xiawei Li, Jing Zhang, Qingyuan Xu, Qin Zhou, Qian Yu, Lu Sheng, Dong Xu",
        venue="IEEE Transactions on Image Processing, 2025",
        arxiv="2309.02773",
        code="https://github.com/VCG-team/DiffSegmenter",
    )
    released: ClassVar[Mapping[str, object]] = {
        "last_token": True, "continued": True, "captioner": "blip-large", "greedy": True, "squashed": True, "sampled": True,
        "filtered": True, "clip": "ViT-L-14-quickgelu/openai",
    }  # fmt: skip

    rows_alone: ClassVar[bool] = True
    ablations: ClassVar[tuple[AblationRow, ...]] = ABLATIONS
    runs: ClassVar[tuple[ShownRun, ...]] = (ShownRun("diffsegmenter-filtered", labels="clip-caption"),)
    protocols: ClassVar[tuple[Protocol, ...]] = (PROTOCOL,)
    label_source: ClassVar[str] = "released-filter"
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.81), Floor(0.82, backbone="pocket-sd3"))
    strip = about.strip

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The grids by what they tell, refined at the finest that does; a known form of captions is the prompt.

        What suits a small world was chosen on scenes that nothing was trained on (docs/pocket.md).
        """
        small = {"threshold": 0.55, "timesteps": (400,)} if checkpoint.joint else {"threshold": 0.45}
        return (
            {"stride_weights": checkpoint.grid_weights, "refine_stride": checkpoint.finest_stride}
            | ({"prompt": checkpoint.template} if checkpoint.template else {})
            | ({"emphasis": 1.0} if checkpoint.one_token_words else {})
            | (small if checkpoint.is_small_world else {})
        )

    @property
    def stretched(self) -> bool:
        return True

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        return len(self.timesteps) * self.draws * len(phrases)

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        networks: dict[str, Callable[[], Network]] = {}
        if self.continued or self.filtered:
            networks["captioner"] = lambda: models.captioner(self.captioner)
        if self.filtered:
            networks["clip"] = lambda: models.clip_named(self.clip)
        return networks

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedDiffSegmenter":
        """Encode the prompts of all phrases.

        With `continued` the captioner looks at the picture to go on with a prompt, and with `filtered` the classes depend
        on it: the words are then encoded for each picture anew, and only the settings are checked here.
        """
        self.check()
        stages = Stages(report)
        if self.continued or self.filtered:
            _ = [load() for load in self.helpers(models).values()]
            return PreparedDiffSegmenter(models, classes, self, None)
        with stages.stage("encoding the words"):
            text = self.encode(models, classes)
        return PreparedDiffSegmenter(models, classes, self, text, timings=stages.timings)

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
        backbone = models.backbone
        refining = spreading_sites(backbone, self.refine_stride) if self.refinements else ()
        crossing = crossing_named(backbone, self.layers)
        capture = Capture(phrases=tuple(sorted({site.stride for site in crossing})), states=refining)
        parts = list(text.split(backbone.rows_per_pass(tuple(scene.latent.shape[-2:]), capture)))
        passes = [(t, draw) for t in self.timesteps for draw in range(self.draws)]
        done: list[Rows] = []
        for number, part in enumerate(parts):
            total = None
            for count, (timestep, draw) in enumerate(passes):
                share = (number * len(passes) + count) / (len(parts) * len(passes))
                with stages.stage("reading the network's attention", share):
                    trace = backbone.trace(scene.latent, part, timestep, capture, seed=scene.seed + draw)
                    rows = self.analyse(trace, crossing)
                    total = rows if total is None else Rows.combined([total, rows], sum)
            done.append(Rows.combined([total], lambda one: one[0] / len(passes)))
        return Rows.combined(done, torch.cat)

    def analyse(self, trace: Trace, crossing: Sequence[Site]) -> "Rows":
        """Steps 8 to 13 of the method: what of each resolution, fused; where, by the self-attention at `refine_stride`."""
        per_stride = mean_by_stride({site: trace.phrases[site] for site in crossing})
        fused = maps.fuse_strides(per_stride, maps.of_strides(self.stride_weights), trace.latent_hw)
        if not self.refinements:
            return Rows(fused, fused, per_stride)
        grid = grid_at(trace.latent_hw, self.refine_stride)
        spread = trace.spread(maps.pooled(fused, grid), self.refine_stride, self.refinements)
        return Rows(maps.resize(spread, trace.latent_hw), fused, per_stride)


@dataclass(frozen=True, eq=False)
class PreparedDiffSegmenter(Prepared):
    """DiffSegmenter with encoded prompts; `text` is None where they or the classes depend on the picture."""

    method: DiffSegmenter
    text: Text | None

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
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
                scene = replace(scene, encoded=latent)
            _ = scene.latent  # made here, so that the seconds are this stage's
        rows = method.average(models, scene, text, stages)
        with stages.stage("scoring", 1.0):
            phrases, owners = rows_of(tuple(self.classes[number] for number in asked))
            # Expanded first, then normalised: the order of the released code, and not the same on spiky maps.
            best = maps.normalise(maps.resize(maps.best_of_each(rows.refined, owners), scene.image.shape[:2]))
            scores = best.new_zeros(len(self.classes), *best.shape[1:])
            scores[list(asked)] = best
        return Segmentation.from_scores(
            scene.image, self.names, scores, self.method.threshold,
            evidence=lambda: (
                *rows.evidence(phrases, [self.names[asked[owner]] for owner in owners], was_refined=refined),
                *affinity_evidence(models, scene, text, method.timesteps[0], method.refine_stride),
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
