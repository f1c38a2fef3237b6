"""Diffusion Model is Secretly a Training-free Open Vocabulary Semantic Segmenter.

Jinglong Wang, Xiawei Li, Jing Zhang, Qingyuan Xu, Qin Zhou, Qian Yu, Lu Sheng, Dong Xu.
IEEE Transactions on Image Processing 34 (2025); arXiv 2309.02773.

One noised pass per class: the cross-attention of the class's words says what, averaged per resolution and fused; the
finest self-attention says where, by one multiplication; a constant threshold is the background.

Differs from the paper and its released code:

- Only the conditional rows are run, all classes of a picture together: the same result for half the work or less.
- All sub-tokens of a phrase are averaged; the code reads the last one only (`last_token` does so too).
- Noise is seeded by the scene; several noise draws can be averaged.
- The picture's aspect is kept; `scene.from_image(square=True, sample_posterior=True)` squashes and samples as the code does.
- A class may have several phrases: the highest of their maps counts at every place.
- The background's threshold is given; the released evaluation takes the best of 45 on the test set.
- Prompts are not continued by a captioner unless `continued` says so; the released code does it with BLIP large.
"""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ovseg.backbones.base import Capture, Text, Trace
from ovseg.maths import maps
from ovseg.methods.base import Method
from ovseg.models import Models
from ovseg.progress import Report, Stages, silent
from ovseg.types import Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord, check_prompt, rows_of

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

    threshold: float = knob(0.5, "Score of the background; the code's evaluation sweeps 0.30 to 0.74.", step=0.01)
    timesteps: tuple[int, ...] = knob((100,), "Noise levels, 0 to 999, whose results are averaged; the code uses 100 alone.")
    draws: int = knob(1, "Noise samples averaged at each timestep; the code uses 1.", low=1, high=16, step=1)
    stride_weights: tuple[float, ...] = knob(
        (0.1, 0.1, 0.5, 0.3),
        "Weights of the cross-attention at strides 1, 2, 4, 8 of the latent grid; the code's 0.1, 0.1, 0.5, 0.3"
        " are those of the 64, 32, 16 and 8 grids.",
    )
    refinements: int = knob(
        1, "Times that the self-attention is applied; the code applies it once, 0 leaves it out.", low=0, high=5, step=1
    )
    emphasis: float = knob(
        1.21, 'Weight of the class words in the prompt; 1.21 is the code\'s "++".', low=0.5, high=2, step=0.01
    )
    prompt: str = knob("a photograph of {}", "Prompt of each class; {} is the class. The released code's VOC stem.")
    last_token: bool = knob(False, "Read the last sub-token of a phrase only, as the released code does.")
    continued: bool = knob(
        False, "Let the captioner go on with each prompt, and read a participle after the class too; the code does both."
    )

    def segment(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...], report: Report = silent) -> Segmentation:
        """Segment a scene into the classes and background.

        Raises:
            ValueError: a setting is out of its range, or a phrase does not fit the text encoder.
        """
        self._check()
        stages = Stages(report)
        with stages.stage("encoding the words"):
            text, owners = self._encode(models, scene, classes)
        rows = self._average(models, scene, text, stages)
        with stages.stage("scoring", 1.0):
            names = tuple(word.name for word in classes)
            of_class = [[row for row, owner in enumerate(owners) if owner == k] for k in range(len(classes))]
            scores = torch.stack([rows.refined[own].amax(0) for own in of_class])
            # Expanded first, then normalised: the order of the released code, and not the same on spiky maps.
            scores = maps.normalise(maps.resize(scores, scene.image.shape[:2]))
            evidence = rows.evidence(names, [own[0] for own in of_class], was_refined=self.refinements > 0)
        return Segmentation.from_scores(
            scene.image, names, scores, self.threshold, evidence=evidence, timings=stages.timings
        )

    def _check(self) -> None:
        if not self.timesteps:
            raise ValueError("timesteps must name at least one noise level, but it is empty.")
        if self.draws < 1 or self.refinements < 0:
            raise ValueError(
                f"draws must be 1 or more and refinements 0 or more, but got {self.draws} and {self.refinements}."
            )
        check_prompt(self.prompt)

    def _encode(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> tuple[Text, list[int]]:
        """One row per phrase with the token columns to read, and the index of the class that each row belongs to."""
        phrases, owners = rows_of(classes)
        prompts = [self.prompt.replace("{}", phrase) for phrase in phrases]
        if self.continued:
            prompts = [models.captioner().caption(scene.image, prompt) for prompt in prompts]
        # The released code's "++" strengthens the last word of a class alone, as it reads its last token alone.
        emphasised = [phrase.split()[-1] for phrase in phrases] if self.last_token else phrases
        text = models.backbone.encode_text(prompts, phrases, self.emphasis, emphasised)
        spans = [span[-1:] if self.last_token else span for span in text.spans]
        if self.continued:
            after = [participle_after(prompt, phrase) for prompt, phrase in zip(prompts, phrases, strict=True)]
            more = [span[:1] if self.last_token else span for span in models.backbone.encode_text(prompts, after).spans]
            spans = [own + other for own, other in zip(spans, more, strict=True)]
        return replace(text, spans=tuple(spans)), owners

    def _average(self, models: Models, scene: Scene, text: Text, stages: Stages) -> "Rows":
        """Trace every row at every timestep and draw, and average what comes of it."""
        backbone = models.backbone
        capture = Capture(cross=backbone.strides, self_attention=(FINEST,))
        parts = list(text.split(backbone.rows_per_pass(tuple(scene.latent.shape[-2:]), capture)))
        passes = [(t, draw) for t in self.timesteps for draw in range(self.draws)]
        done: list[Rows] = []
        for number, part in enumerate(parts):
            averaged = None
            for count, (timestep, draw) in enumerate(passes):
                share = (number * len(passes) + count) / (len(parts) * len(passes))
                with stages.stage("reading the network's attention", share):
                    trace = backbone.trace(scene.latent, part, timestep, capture, seed=scene.seed + draw)
                    rows = self._analyse(trace)
                    averaged = rows if averaged is None else averaged + rows
            done.append(averaged / len(passes))
        return Rows.join(done, [len(part.prompts) for part in parts])

    def _analyse(self, trace: Trace) -> "Rows":
        """Steps 8 to 13 of the method: what of each resolution, fused; where, by the finest self-attention."""
        per_stride = {s: maps.phrase_maps(cross, trace.text.spans) for s, cross in trace.cross_by_stride().items()}
        weights = {2**power: weight for power, weight in enumerate(self.stride_weights)}
        fused = maps.fuse_strides(per_stride, weights, trace.latent_hw)
        affinity = trace.self_attention.get(FINEST)
        if self.refinements and affinity is None:
            raise ValueError("refinements must be 0 for a backbone without self-attention at stride 1, as this one is.")
        refined = maps.propagate(affinity, fused, self.refinements) if self.refinements else fused
        return Rows(refined, fused, per_stride, None if affinity is None else affinity.mean(0))


def participle_after(prompt: str, phrase: str) -> str:
    """The word that follows a phrase if it ends in "ing", else "" (the released code's rule for what joins a class)."""
    found = re.search(rf"(?<!\w){re.escape(phrase)}\s+(\w+ing)(?!\w)", prompt, re.IGNORECASE)
    return found.group(1) if found else ""


@dataclass(frozen=True)
class Rows:
    """Maps of some rows: refined and fused (b, y, x), per stride, and the rows' mean self-attention (n, n)."""

    refined: Tensor
    fused: Tensor
    per_stride: dict[int, Tensor]
    affinity: Tensor | None

    def __add__(self, other: "Rows") -> "Rows":
        strides = {s: m + other.per_stride[s] for s, m in self.per_stride.items()}
        affinity = None if self.affinity is None else self.affinity + other.affinity
        return Rows(self.refined + other.refined, self.fused + other.fused, strides, affinity)

    def __truediv__(self, count: float) -> "Rows":
        strides = {s: m / count for s, m in self.per_stride.items()}
        affinity = None if self.affinity is None else self.affinity / count
        return Rows(self.refined / count, self.fused / count, strides, affinity)

    @classmethod
    def join(cls, parts: list["Rows"], counts: list[int]) -> "Rows":
        """Rows of several passes one after the other; the self-attention is the mean over all rows."""
        affinity = None
        if parts[0].affinity is not None:
            affinity = sum(part.affinity * count for part, count in zip(parts, counts, strict=True)) / sum(counts)
        return cls(
            torch.cat([part.refined for part in parts]),
            torch.cat([part.fused for part in parts]),
            {stride: torch.cat([part.per_stride[stride] for part in parts]) for stride in parts[0].per_stride},
            affinity,
        )

    def evidence(self, names: tuple[str, ...], rows: list[int], was_refined: bool) -> tuple[Evidence, ...]:
        """What the viewer may look at, for one row per class (its first phrase's)."""
        items = []
        for name, row in zip(names, rows, strict=True):
            if was_refined:
                items.append(_heat(f"{name}: refined", self.refined[row], "Refined by self-attention", name))
            items.append(_heat(f"{name}: fused", self.fused[row], "Cross-attention, fused", name))
        for per_row in self.per_stride.values():
            grid = "x".join(str(side) for side in per_row.shape[-2:])
            for name, row in zip(names, rows, strict=True):
                items.append(_heat(f"{name}: {grid}", per_row[row], f"{grid} grid", name))
        if self.affinity is not None:
            y, x = self.refined.shape[-2:]
            square = self.affinity.reshape(y, x, y, x).cpu().numpy().astype(np.float16)
            items.append(Evidence("Self-attention from any point", "affinity", map=square, group="Self-attention"))
        return tuple(items)


def _heat(title: str, values: Tensor, group: str, label: str) -> Evidence:
    return Evidence(title, "heat", map=values.float().cpu().numpy(), group=group, label=label)
