"""Diffusion Models for Open-Vocabulary Segmentation.

Laurynas Karazija, Iro Laina, Andrea Vedaldi, Christian Rupprecht; ECCV 2024; arXiv 2306.09316.

The diffusion network draws pictures of each class. Its attention says where the class is in them; features of these places
become prototypes of the class, and features of the surroundings prototypes of the background: means of all pictures, of each
picture, and of parts. Each pixel of a picture gets the class of its nearest prototype, or background.

The mode "released" is the whole pipeline of the released code. It still differs from it in this:

- CutLER, which finds the objects in support images, is licensed for non-commercial use alone: the mode asks for a copy of
  your own (`OVSEG_CUTLER`) and says so where there is none.
- Each support image has a seed of its own, from 42 on; the code draws a batch of eight from one sequence that begins at 42.
- At test time noise is seeded for each picture; in the code it depends on the order of pictures.
- DINO's weights of the hub say 1e-12 for what is added to a variance; the code has 1e-6. Keys change by less than 1e-5.
- Support images are kept without loss, in 8 bits, as the code's PNG files; their masks and attention in files of our own.
- Classes are filtered before they are compared, not after: the same result for less work.
- A class may have several phrases, each with support images and prototypes of its own: the nearest counts at each place.
- The code covers PASCAL VOC alone. Names of other data sets go through its maps of names (the protocol `ovdiff`).

The mode "suited" differs from "released" in this as well; the row of the backbone in `BACKBONES` may change more:

- Objects are found by MaskCut on DINO's keys (`masks`).
- A support image in which the class was not found still gives background (`skip_empty` too).
- Pictures and windows keep their aspect in the diffusion network (`squashed`), and their latent is the mean of the codec's
  posterior (`sampled`).
- CLIP is the backbone's (`clip`), sees pictures at its own resolution (`clip_sides`) and with its own colour statistics
  (`imagenet`).
- DINO sees pictures at any length (`dino_longest`).
- The pre-filter sees the middle square of a picture and names classes in their order (`prefilter_released`).
- Windows are resized smoothly, in 8 bits, and DINO sees sides that are no multiple of its patch resized to the nearest
  (`plain`; the code resizes bilinearly without antialiasing, cuts the rest off for DINO and stretches its map).
- Support images are drawn to no noise at all, and attention is averaged over heads before it is resized (`drawn_released`).
- An empty mask never competes (`skip_empty`; in the code it scores not-a-number, and takes every pixel).
- K-means is our own, from other random numbers, and prototypes are kept in half precision (`by_library`).
- What is stuff is said by a reviewed table, and for other words by the nearest word of it (`stuff`).
- A window as large as the picture is left out (`windows_always`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones import Checkpoint
from ovseg.maths.maps import resize
from ovseg.maths.refine import pamr
from ovseg.methods.base import Method, Network, Prepared
from ovseg.methods.ovdiff import about, cost
from ovseg.methods.ovdiff.evaluation import ABLATIONS, PROTOCOL
from ovseg.methods.ovdiff.evidence import evidence_of
from ovseg.methods.ovdiff.features import Extractor, resized
from ovseg.methods.ovdiff.matching import PrototypeTable, Source, compare, count_boxes, sources_of, working_hw
from ovseg.methods.ovdiff.prefilter import Things, chosen_classes, which_are_stuff
from ovseg.methods.ovdiff.prototypes import make_prototypes
from ovseg.methods.ovdiff.random_prototypes import keep_random_prototypes
from ovseg.methods.ovdiff.settings import Settings
from ovseg.methods.ovdiff.store import store_of
from ovseg.methods.protocol import Protocol
from ovseg.methods.records import AblationRow, Floor, ShownRun
from ovseg.models import Models
from ovseg.pretrained.proposals import CutlerWeights
from ovseg.progress import Report, Stages, silent, within
from ovseg.reading.layers import last_in_a_row
from ovseg.types import Paper, Scene, Segmentation
from ovseg.words.classes import ClassWord, rows_of

RELEASED_LAYERS = 16  # cross-attention layers of Stable Diffusion, among which the released code chooses
SMALL_WORLD = {
    "images": 16, "steps": 10, "guidance": 6.0, "masks": "otsu", "extractors": ("diffusion", "clip"), "parts": 16,
    "prefilter": False, "refinement": "pamr",
}  # fmt: skip
FEW = {"images": 2, "steps": 5, "parts": 4}  # with which its floors are quick to measure


@dataclass(frozen=True)
class OVDiff(Settings, Method):
    """Support sets and nearest prototypes, with the values of the released code for Stable Diffusion 1.5."""

    name: ClassVar[str] = "ovdiff"
    title: ClassVar[str] = "OVDiff"
    evidence_steps: ClassVar[Mapping[str, str]] = {
        "Support images": "The support set: pictures that the network draws of the class, with what attention finds of it.",
    }
    needs: ClassVar[tuple[str, ...]] = ("clip", "dino")
    preparing_share: ClassVar[float] = 0.5
    paper: ClassVar[Paper] = Paper(
        title="Diffusion Models for Open-Vocabulary Segmentation",
        authors="Laurynas Karazija, Iro Laina, Andrea Vedaldi, Christian Rupprecht",
        venue="ECCV 2024",
        arxiv="2306.09316",
        code="https://github.com/karazijal/sdov",
    )

    released: ClassVar[Mapping[str, object]] = {
        "masks": "cutler", "skip_empty": True, "squashed": True, "sampled": True, "clip": "ViT-B-16-quickgelu/openai",
        "clip_sides": (448, 512), "imagenet": True, "dino_longest": 800, "stuff": "released", "prefilter_released": True,
        "windows_always": True, "plain": True, "drawn_released": True, "by_library": True,
    }  # fmt: skip
    withheld: ClassVar[Mapping[str, str]] = {
        "masks": "CutLER's code and weights are licensed for non-commercial use alone and do not come with this project: put"
        " a copy of your own where OVSEG_CUTLER says, or take MaskCut's masks with --set masks=maskcut.",
    }  # fmt: skip

    draws_first: ClassVar[bool] = True
    short: ClassVar[Mapping[str, object]] = {
        "images": 1, "steps": 2, "parts": 2, "windows": (), "masks": "otsu", "prefilter": False,
    }  # fmt: skip
    ablations: ClassVar[tuple[AblationRow, ...]] = ABLATIONS
    runs: ClassVar[tuple[ShownRun, ...]] = (ShownRun("ovdiff-variants", of_ablations=True),)
    protocols: ClassVar[tuple[Protocol, ...]] = (PROTOCOL,)
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.88, FEW), Floor(0.9, FEW, backbone="pocket-sd3"))
    strip = about.strip

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The last layers with about 16 x 16 places, the form of its captions, and no windows of what is small itself.

        What suits a small world was chosen on scenes that nothing was trained on (docs/pocket.md).
        """
        first, last = last_in_a_row(checkpoint.cross_strides, checkpoint.stride_of(16))
        layers = len(checkpoint.cross_strides)
        small = SMALL_WORLD | ({"sites": str(layers - 1), "timestep": 100} if checkpoint.joint else {})
        return (
            ({} if layers == RELEASED_LAYERS else {"sites": f"{first}-{last}"})
            | ({"prompt": checkpoint.template, "negative": ""} if checkpoint.template else {})
            | ({"short_side": checkpoint.side, "windows": ()} if checkpoint.side < min(cls.windows) else {})
            | (small if checkpoint.is_small_world else {})
        )

    @classmethod
    def stand_ins(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The backbone's own CLIP at its own size, DINO's cuts, and all layers, where it cannot have the released ones."""
        layers = len(checkpoint.cross_strides)
        return (
            super().stand_ins(checkpoint)
            | ({"clip_sides": (0, 0), "masks": "maskcut"} if checkpoint.own_networks else {})
            | ({} if layers == RELEASED_LAYERS else {"sites": f"0-{layers - 1}"})
        )

    @property
    def reads_latent(self) -> bool:
        """No: windows are encoded one by one."""
        return False

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        networks: dict[str, Callable[[], Network]] = {}
        if self.prefilter or "clip" in self.extractors:
            networks["clip"] = lambda: models.clip_named(self.clip)
        if self.masks == "maskcut" or "dino" in self.extractors:
            networks["dino"] = lambda: models.dino
        if self.masks == "cutler":
            networks["cutler"] = CutlerWeights
        return networks

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        """A row for each window and the whole picture; and two for each step of a support image, one for its features."""
        reads = "diffusion" in self.extractors
        windows = count_boxes(self, working_hw(self, image_hw)) + 1
        return len(self.undrawn(models, phrases)) * self.images * (2 * self.steps + reads) + windows * reads

    def scored_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return working_hw(self, image_hw)

    def undrawn(self, models: Models, phrases: Sequence[str]) -> tuple[str, ...]:
        """Those of which an extractor has no prototypes in the store yet."""
        store, made_by = store_of(models), {e: self.made_by(models, e) for e in self.extractors}
        return tuple(p for p in phrases if not all(store.holds(p, e, described) for e, described in made_by.items()))

    def drawing_seconds(self, models: Models, phrases: int) -> float:
        return cost.cost_of(models, self, phrases).seconds

    def drawing(self, images: int) -> "OVDiff":
        return replace(self, images=images)

    def draw(self, models: Models, phrase: str, report: Report = silent) -> None:
        make_prototypes(models, self, phrase, report)

    def pretend_drawn(self, models: Models, phrases: Sequence[str]) -> None:
        keep_random_prototypes(models, self, phrases)

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedOVDiff":
        """Put the prototypes of all phrases into tables; those that are not in the store are made first."""
        self.check()
        stages, (phrases, owners) = Stages(report), rows_of(classes)
        with stages.stage("preparing the classes"):
            prototypes = [
                make_prototypes(models, self, phrase, report_on_class(report, number, len(phrases)))
                for number, phrase in enumerate(phrases)
            ]
            stuff = which_are_stuff(models, classes, self.stuff)
            tables = {e: self.table(sources_of(e, prototypes, phrases, owners), stuff) for e in self.extractors}
            things = Things.of(models, classes, stuff, self.clip) if self.prefilter else None
            extractors = tuple(Extractor.of(models, self, extractor) for extractor in self.extractors)
        on_device = {extractor: table.to(models.device) for extractor, table in tables.items()}
        return PreparedOVDiff(models, classes, self, on_device, stuff, things, extractors, timings=stages.timings)

    def table(self, sources: Sequence[Source], stuff: Sequence[bool]) -> PrototypeTable:
        """All prototypes of these sources that are compared, as unit vectors in one matrix.

        Stuff, which `stuff` says of each class, gives no background: around it there is more of it.
        """
        used = [
            source
            for source in sources
            if source.ground == "foreground" or (self.background == "prototypes" and not stuff[source.owner])
        ]
        table = PrototypeTable.of(used, means_only=self.kinds == "mean")
        return table.without_hidden_stuff(stuff, self.stuff_cosine) if self.stuff_filter else table


@dataclass(frozen=True, eq=False)
class PreparedOVDiff(Prepared):
    """OVDiff with the prototypes of its classes.

    `tables` hold them by extractor, `stuff` says which classes are stuff, and `things` are CLIP's vectors of the others;
    None where no class is left out.
    """

    method: OVDiff
    tables: Mapping[str, PrototypeTable]
    stuff: tuple[bool, ...]
    things: Things | None
    extractors: tuple[Extractor, ...]

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        method, models, classes, stages = self.method, self.models, self.classes, Stages(report)
        with stages.stage("choosing the classes", 0.0):
            asked = tuple(range(len(classes)))
            if self.things is not None:
                asked = chosen_classes(
                    models, scene.image, classes, self.stuff, self.things,
                    clip=method.clip, as_released=method.prefilter_released,
                )  # fmt: skip
            tables = {e: table.of_classes(asked, len(classes)) for e, table in self.tables.items()}
        with stages.stage("comparing pixels with prototypes", 0.2):
            refined, whole = compare(self.extractors, method, scene.image, tables, count=len(asked), seed=scene.seed)
        scores = torch.full((len(classes) + 1, *refined.shape[1:]), -1.0)
        with stages.stage("refining the edges", 0.8):
            if method.refinement == "pamr":
                image = np.array(resized(scene.image, tuple(refined.shape[1:])))
                pixels = torch.from_numpy(image).to(models.device).permute(2, 0, 1).float()
                progress = stages.progress("refining the edges", 0.8, 1.0)
                refined = pamr(pixels, refined.to(models.device), progress=progress).cpu()
            scores[[0, *(k + 1 for k in asked)]] = refined
            if method.background == "prototypes":
                scores = with_background(scores, scene.image.shape[:2])
        phrases, owners = rows_of(classes)
        compared_phrases = {n: (phrases[n], self.names[k]) for n, k in enumerate(owners) if k in asked}
        return Segmentation.from_scores(
            scene.image, self.names, scores, timings=stages.timings,
            evidence=lambda: evidence_of(models, method, compared_phrases, tables, whole),
        )  # fmt: skip


def with_background(scores: Float[Tensor, "labels h w"], image_hw: tuple[int, int]) -> Float[Tensor, "labels _h _w"]:
    """Background is 0, and so the best, where no score is above it in the picture; scores are not changed otherwise."""
    if bool((scores.amax(0) > 0).all()):
        return scores
    scores = resize(scores[None], image_hw)[0].clone()
    scores[0].masked_fill_(scores.amax(0) <= 0, 0.0)
    return scores


def report_on_class(report: Report, number: int, count: int) -> Report:
    """A report on one of several classes, which says which one it is."""
    return within(report, number / count, (number + 1) / count, f"class {number + 1} of {count}")
