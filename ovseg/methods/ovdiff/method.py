"""Diffusion Models for Open-Vocabulary Segmentation.

Laurynas Karazija, Iro Laina, Andrea Vedaldi, Christian Rupprecht; ECCV 2024; arXiv 2306.09316.

The diffusion network draws pictures of each class. Its attention says where the class is in them; features of these places
become prototypes of the class, and features of the surroundings prototypes of the background: means of all pictures, of each
picture, and of parts. Each pixel of a picture gets the class of its nearest prototype, or background. Defaults are the
released code's.

Differs from the paper and its released code:
- Objects are found by MaskCut on DINO's keys; the code uses CutLER, whose weights are not free for commercial use
  (`masks="cutler"` takes a copy of one's own).
- An empty mask never competes for foreground or background (in the code it scores not-a-number).
- Noise is seeded for each picture; in the code, at test time, it depends on the order of pictures.
- Pictures and crops keep their aspect in the diffusion network and DINO; the code squashes them for the first.
- CLIP sees pictures with its own colour statistics and at its own resolution; the code takes ImageNet's, and more patches.
- Classes are filtered before they are compared, not after: the same result for less work.
- Attention is averaged over heads before it is resized, not after.
- A class may have several phrases, each with support images and prototypes of its own: the nearest counts at each place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.maths.refine import pamr
from ovseg.methods.base import Method, Prepared
from ovseg.methods.ovdiff.evidence import evidence_of
from ovseg.methods.ovdiff.features import resized
from ovseg.methods.ovdiff.matching import Source, Table, compare, sources_of
from ovseg.methods.ovdiff.prefilter import chosen_classes, thing_rows, which_are_stuff
from ovseg.methods.ovdiff.prototypes import make_prototypes
from ovseg.methods.ovdiff.settings import Settings
from ovseg.models import Models
from ovseg.progress import Report, Stages, silent, within
from ovseg.types import Paper, Scene, Segmentation
from ovseg.words.classes import ClassWord, rows_of


@dataclass(frozen=True)
class OVDiff(Settings, Method):
    """Support sets and nearest prototypes, with the values of the released code for Stable Diffusion 1.5."""

    name: ClassVar[str] = "ovdiff"
    title: ClassVar[str] = "OVDiff"
    needs: ClassVar[tuple[str, ...]] = ("clip", "dino")
    preparing_share: ClassVar[float] = 0.5
    paper: ClassVar[Paper] = Paper(
        title="Diffusion Models for Open-Vocabulary Segmentation",
        authors="Laurynas Karazija, Iro Laina, Andrea Vedaldi, Christian Rupprecht",
        venue="ECCV 2024",
        arxiv="2306.09316",
        code="https://github.com/karazijal/sdov",
    )

    @property
    def networks(self) -> tuple[str, ...]:
        """Those whose features are compared, CLIP for the pre-filter, and DINO for MaskCut."""
        used = {*self.extractors} - {"diffusion"}
        used |= {"clip"} if self.prefilter else set()
        used |= {"dino"} if self.masks == "maskcut" else set()
        return tuple(sorted(used))

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedOVDiff":
        """Put the prototypes of all phrases into tables; those that are not in the store are made first.

        Raises:
            ValueError: a setting is out of its range, a network cannot be loaded, or a phrase's pictures show nothing of it.
        """
        self.check()
        stages, (phrases, owners) = Stages(report), rows_of(classes)
        with stages.stage("preparing the classes"):
            prototypes = [
                make_prototypes(models, self, phrase, report_on_class(report, number, len(phrases)))
                for number, phrase in enumerate(phrases)
            ]
            stuff = which_are_stuff(models, classes)
            tables = {e: self.table(sources_of(e, prototypes, phrases, owners), stuff) for e in self.extractors}
            rows = thing_rows(models, classes, stuff) if self.prefilter else None
        on_device = {extractor: table.to(models.device) for extractor, table in tables.items()}
        return PreparedOVDiff(models, classes, self, on_device, stuff, rows, timings=stages.timings)

    def table(self, sources: Sequence[Source], stuff: Sequence[bool]) -> Table:
        """All prototypes of these sources that are compared, as unit vectors in one matrix.

        Stuff gives no background: around it there is more of it.

        Args:
            stuff: which classes are stuff.
        """
        used = [
            source
            for source in sources
            if source.ground == "foreground" or (self.background == "prototypes" and not stuff[source.owner])
        ]
        table = Table.of(used, means_only=self.kinds == "mean")
        return table.without_hidden_stuff(stuff, self.stuff_cosine) if self.stuff_filter else table


@dataclass(frozen=True, eq=False)
class PreparedOVDiff(Prepared):
    """OVDiff with the prototypes of its classes.

    `tables` hold them by extractor, `stuff` says which classes are stuff, and `things` are CLIP's vectors of the phrases
    of the others; None where no class is left out.
    """

    method: OVDiff
    tables: Mapping[str, Table]
    stuff: tuple[bool, ...]
    things: Float[Tensor, "n d"] | None

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment a scene into the classes and background."""
        method, models, classes, stages = self.method, self.models, self.classes, Stages(report)
        with stages.stage("choosing the classes", 0.0):
            asked = tuple(range(len(classes)))
            if self.things is not None:
                asked = chosen_classes(models, scene.image, classes, self.stuff, self.things)
            tables = {e: table.of_classes(asked, len(classes)) for e, table in self.tables.items()}
        with stages.stage("comparing pixels with prototypes", 0.2):
            compared = compare(models, method, scene.image, tables, count=len(asked), seed=scene.seed)
        scores = torch.full((len(classes) + 1, *compared.scores.shape[1:]), -1.0)
        with stages.stage("refining the edges", 0.8):
            refined = _by_pamr(models, scene.image, compared.scores) if method.refinement == "pamr" else compared.scores
            scores[[0, *(k + 1 for k in asked)]] = refined
        phrases, owners = rows_of(classes)
        compared_phrases = {n: (phrases[n], self.names[k]) for n, k in enumerate(owners) if k in asked}
        return Segmentation.from_scores(
            scene.image, self.names, scores, timings=stages.timings,
            evidence=lambda: evidence_of(models, method, compared_phrases, tables, compared.whole),
        )  # fmt: skip


def _by_pamr(models: Models, image: np.ndarray, scores: Tensor) -> Tensor:
    pixels = torch.from_numpy(np.array(resized(image, tuple(scores.shape[1:])))).to(models.device).permute(2, 0, 1).float()
    return pamr(pixels, scores.to(models.device)).cpu()


def report_on_class(report: Report, number: int, count: int) -> Report:
    """A report on one of several classes, which says which one it is."""
    part = within(report, number / count, (number + 1) / count)
    return lambda stage, share: part(f"class {number + 1} of {count}, {stage}", share)
