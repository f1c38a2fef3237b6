"""FreeSeg-Diff: Training-Free Open-Vocabulary Segmentation with Diffusion Models.

Corradini, Shukor, P. Couairon, G. Couairon, Scarselli, Cord; IJCNN 2025; arXiv 2403.20105.

A caption says which words may be in the picture. Clusters of the diffusion network's features say where things are. CLIP
gives each cluster a word, and a CRF or PAMR moves the edges to those of the picture. It has no threshold, and nothing is
trained.

The mode "released" is the whole pipeline of the released code, which runs on Stable Diffusion 1.4 (`--backbone sd14`). It
still differs from it in this:

- The paper's abstract speaks of BLIP-2; the mode captions with BLIP base, as the code does, with its beginning and its
  least and most tokens, but by another library and from other weights: the code's are LAVIS's, fine-tuned on the captions
  of COCO, and those of the hub are not. Which classes can be found hangs on it. `captioner="lavis-blip"` is LAVIS itself,
  with its own weights; it has to be installed and is never taken by itself. The run card names the captioner.
- The list of words is closed, as in the code's evaluation; the code's default joins the caption's words to the classes:
  `vocabulary="open"` is that list, with each adjective and noun by itself.
- Nouns come from another tagger than spaCy's, and an adjective votes for the noun that it stands before: spaCy's parser also
  finds one for "the dog is brown". A caption without nouns leaves every cluster without a class, in place of an error.
- k-means is seeded. Noise and the sample of the codec's posterior are seeded by the scene.
- A mask's refined probability is kept as its score, so that edges can be looked at. The CRF is our own: its probabilities
  are within 1.1e-4 of pydensecrf's.
- A class may have several phrases: the one that CLIP finds most likely counts for each cluster, and the one that is nearest
  to a noun of the caption for that noun.

The mode "suited" differs from "released" in this as well; the row of the backbone in `BACKBONES` may change more:

- The captioner and the CLIP are the backbone's (`captioner`, `clip`), and captions begin as they like and may be short
  (`beginning`, `least_tokens`).
- A picture keeps its aspect in the diffusion network, and CLIP's middle square is rounded to even (`squashed`). The latent
  is the mean of the codec's posterior (`sampled`).
- k-means is our own, which starts from other places (`algorithm`).
- Each thing of a caption counts once, by its last noun in its dictionary form (`every_vote`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ovseg.backbones import Checkpoint
from ovseg.backbones.base import Text
from ovseg.maths.maps import principal
from ovseg.methods.base import Method, Network, Prepared
from ovseg.methods.freeseg_diff import about, naming
from ovseg.methods.freeseg_diff.evaluation import ABLATIONS, PROTOCOL
from ovseg.methods.freeseg_diff.masks import refined, scores_of
from ovseg.methods.freeseg_diff.regions import clusters_of, features_of, masks_of, picture_of
from ovseg.methods.freeseg_diff.settings import Settings
from ovseg.methods.protocol import Protocol
from ovseg.methods.records import AblationRow, Floor, ShownRun
from ovseg.models import Models
from ovseg.pictures import resized, shrunk
from ovseg.progress import Report, Stages, silent
from ovseg.scene import POSTERIOR
from ovseg.types import Evidence, Paper, Scene, Segmentation
from ovseg.words.classes import ClassWord

SHOWN_SIDE = 448  # pixels of a cluster's picture in the evidence: twice what CLIP reads


@dataclass(frozen=True)
class FreeSegDiff(Settings, Method):
    """Caption, clusters, CLIP."""

    name: ClassVar[str] = "freeseg-diff"
    title: ClassVar[str] = "FreeSeg-Diff"
    evidence_steps: ClassVar[Mapping[str, str]] = {
        "CLIP": "Each cluster is cut out and named: the word whose text embedding has the largest cosine with CLIP's of it.",
        "Clusters": "Clusters of the features: masks that no class is known of yet.",
        "Features": "Features of the network at a noise level, as the colours of their three strongest components.",
    }
    finds_words: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("clip", "captioner")
    paper: ClassVar[Paper] = Paper(
        "FreeSeg-Diff: Training-Free Open-Vocabulary Segmentation with Diffusion Models",
        "Barbara Toniella Corradini, Mustafa Shukor, Paul Couairon, Guillaume Couairon, Franco Scarselli, Matthieu Cord",
        "IJCNN 2025",
        "2403.20105",
        "https://github.com/bcorrad/FreeSegDiff-release",
    )

    released_on: ClassVar[str] = "sd14"
    network_fields: ClassVar[tuple[str, ...]] = ("query_stride", "grid_stride")
    released: ClassVar[Mapping[str, object]] = {
        "captioner": "blip-base", "beginning": "a picture of ", "least_tokens": 10, "every_vote": True,
        "clip": "ViT-B-32-quickgelu/openai", "squashed": True, "sampled": True, "algorithm": "scikit-learn",
    }  # fmt: skip
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "best effort": {
            "timestep": 100, "draws": 4, "adaptive": True, "crop": "tight", "one_each": False, "ensemble": True,
        }
    }  # fmt: skip

    caption_use: ClassVar[str] = "reads its words from it"
    ablations: ClassVar[tuple[AblationRow, ...]] = ABLATIONS
    runs: ClassVar[tuple[ShownRun, ...]] = (ShownRun("freeseg-diff-captioned", labels="all"),)
    protocols: ClassVar[tuple[Protocol, ...]] = (PROTOCOL,)
    floors: ClassVar[tuple[Floor, ...]] = (Floor(0.8), Floor(0.75, backbone="pocket-sd3"))
    strip = about.strip

    @classmethod
    def suited(cls, checkpoint: Checkpoint) -> Mapping[str, object]:
        """The strides of the grids of 16 x 16 and 32 x 32 places, which the released code reads and clusters.

        What suits a small world was chosen on scenes that nothing was trained on (docs/pocket.md).
        """
        grids = {"query_stride": checkpoint.stride_of(16), "grid_stride": checkpoint.stride_of(32)}
        # Larger pictures gain nothing from finer edges: the masks come from a coarse grid.
        small = {"vocabulary": "open", "timestep": 200, "refinement": "pamr", "refine_side": checkpoint.side}
        last = {"layers": checkpoint.last_third, "timestep": 100, "clusters": 6} if checkpoint.joint else {}
        return grids | (small | last if checkpoint.is_small_world else {})

    def rows(self, models: Models, phrases: Sequence[str], image_hw: tuple[int, int]) -> int:
        return self.draws

    def crf_pixels(self, image_hw: tuple[int, int]) -> int:
        """Those of the copy on which edges are refined."""
        if self.refinement != "crf":
            return 0
        scale = min(1.0, self.refine_side / max(image_hw)) if self.refine_side else 1.0
        return math.prod(round(side * scale) for side in image_hw)

    def helpers(self, models: Models) -> dict[str, Callable[[], Network]]:
        networks: dict[str, Callable[[], Network]] = {"clip": lambda: models.clip_named(self.clip)}
        if self.words == "caption" or self.vocabulary == "open":
            networks["captioner"] = lambda: models.captioner(self.captioner)
        if self.features == "dino":
            networks["dino"] = lambda: models.dino
        return networks

    def prepare(self, models: Models, classes: tuple[ClassWord, ...], report: Report = silent) -> "PreparedFreeSegDiff":
        """Encode the phrases of the given classes: as CLIP is asked about them, and as they are compared with nouns.

        Which of them may be found, and which words join them, can depend on the caption: that is done for each picture.
        """
        self.check(models)
        stages = Stages(report)
        with stages.stage("encoding the words"):
            rows = naming.clip_rows(models, self, classes)
            by_caption = bool(classes) and self.words == "caption" and self.vocabulary == "closed"
            meanings = naming.meanings_of(models, classes) if by_caption else None
            nothing = models.backbone.encode_text([""], [""])
        return PreparedFreeSegDiff(models, classes, self, rows, meanings, nothing, timings=stages.timings)


@dataclass(frozen=True, eq=False)
class PreparedFreeSegDiff(Prepared):
    """FreeSeg-Diff with the encoded phrases of its classes.

    `clip_rows` are CLIP's unit vectors of all phrases, None without classes; `meanings` what the caption's nouns are
    compared with, None where no caption decides which of the classes may be found; `nothing` the empty prompt.
    """

    method: FreeSegDiff
    clip_rows: Float[Tensor, "n d"] | None
    meanings: Float[Tensor, "n e"] | None
    nothing: Text

    def segment(self, scene: Scene, report: Report = silent) -> Segmentation:
        """Segment a scene; without classes, into what the captioner sees."""
        method, models, image, stages = self.method, self.models, scene.image, Stages(report)
        with stages.stage("captioning", 0.0):
            candidates = self.candidates(scene)
        with stages.stage("reading the network's features", 0.2):
            if method.squashed:
                pixels = resized(image, models.backbone.square_hw())
                sample_seed = scene.seed + POSTERIOR if method.sampled else None
                scene = replace(scene, encoded=models.backbone.encode(pixels, sample_seed=sample_seed))
            features = features_of(models, method, scene, self.nothing)
        with stages.stage("clustering", 0.5):
            clusters = clusters_of(features, method, sum(candidates.allowed))
        with stages.stage("naming the clusters", 0.6):
            inside = masks_of(clusters, image.shape[:2])
            similar = self.similarity(self.pictures(image, inside), candidates)
            chosen = naming.assign(similar, candidates.allowed, method.one_each)
        with stages.stage("refining the edges", 0.8):
            named = [mask.float() for mask, name in zip(inside, chosen, strict=True) if name is not None]
            progress, longest = stages.progress("refining the edges", 0.8, 1.0), method.refine_side
            moved = iter(refined(image, named, method.refinement, models.device, longest, progress))
            masks = [mask.float() if name is None else next(moved) for mask, name in zip(inside, chosen, strict=True)]
            scores = scores_of(masks, chosen, len(candidates.names))

        def evidence() -> tuple[Evidence, ...]:
            seen = self.pictures(image, masks_of(clusters, image.shape[:2]))
            return *_maps(clusters, features, candidates.caption), *_looks(candidates, seen, similar, chosen)

        names = tuple(word.name for word in candidates.names)
        return Segmentation.from_scores(image, names, scores, evidence=evidence, timings=stages.timings)

    def pictures(
        self, image: UInt8[np.ndarray, "H W 3"], inside: Sequence[Bool[Tensor, "H W"]]
    ) -> list[UInt8[np.ndarray, "_h _w 3"]]:
        """What CLIP is shown of each cluster."""
        return [picture_of(image, mask.numpy(), self.method.crop == "tight") for mask in inside]

    def candidates(self, scene: Scene) -> naming.Candidates:
        """The names among which CLIP chooses; the scene is captioned where that decides and it has no caption."""
        method, classes = self.method, self.classes
        if classes and method.words == "classes" and method.vocabulary == "closed":
            return naming.Candidates(classes, (True,) * len(classes), "")
        caption = scene.caption
        if not caption:
            speaker = self.models.captioner(method.captioner)
            caption = speaker.describe(scene.image, method.beginning, method.least_tokens)
        if self.meanings is None:
            with_words = naming.with_released_words_of if method.every_vote else naming.with_words_of
            return with_words(caption, classes, all_allowed=method.words == "classes")
        nouns = naming.nouns_of(caption, method.every_vote)
        return naming.Candidates(classes, naming.spoken_of(self.models, classes, self.meanings, nouns), caption)

    def similarity(
        self, pictures: Sequence[UInt8[np.ndarray, "_h _w 3"]], candidates: naming.Candidates
    ) -> Float[np.ndarray, "names clusters"]:
        """CLIP's probabilities: a softmax over all names for each cluster's picture. The best phrase counts for a name."""
        if not candidates.names:
            return np.zeros((0, len(pictures)), np.float32)
        own = naming.clip_rows(self.models, self.method, candidates.names[len(self.classes) :])
        rows = torch.cat([part for part in (self.clip_rows, own) if part is not None])
        clip = self.models.clip_named(self.method.clip)
        seen = clip.image_embeddings(pictures, floored=self.method.squashed)
        logits = naming.best_of_phrases(clip.scale * seen @ rows.T, candidates.names)
        return logits.softmax(1).T.cpu().numpy()


def _looks(
    candidates: naming.Candidates,
    pictures: Iterable[UInt8[np.ndarray, "_h _w 3"]],
    similar: Float[np.ndarray, "names clusters"],
    chosen: tuple[int | None, ...],
) -> Iterator[Evidence]:
    """The picture that CLIP saw of each cluster, with the three names that fit it best (`similar`) and the one it got."""
    names = [word.name for word in candidates.names]
    for cluster, (picture, name) in enumerate(zip(pictures, chosen, strict=True)):
        best = np.argsort(-similar[:, cluster])[:3]
        ranked = ", ".join(f"{names[k]} {similar[k, cluster]:.0%}" for k in best) or "no words"
        given = "background" if name is None else names[name]
        title = f"Cluster {cluster + 1}: {given} (CLIP: {ranked})"
        yield Evidence(title, "images", images=(shrunk(picture, SHOWN_SIDE),), group="What CLIP sees", label=given)


def _maps(clusters: Int[Tensor, "y x"], features: Float[Tensor, "c y x"], caption: str) -> tuple[Evidence, ...]:
    said = f"Caption: {caption}" if caption else "No caption was needed"
    title, colours = "Features, their three strongest components", principal(features)
    return (
        Evidence(f"{said}. Clusters of the features", "regions", map=clusters.cpu().numpy(), group="Clusters"),
        Evidence(title, "images", images=(colours,), group="Features"),
    )
