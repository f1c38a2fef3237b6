"""FreeSeg-Diff: Training-Free Open-Vocabulary Segmentation with Diffusion Models.

Corradini, Shukor, P. Couairon, G. Couairon, Scarselli, Cord; IJCNN 2025; arXiv 2403.20105.

A caption says which words may occur, clusters of the diffusion network's features say where things are, CLIP says which
cluster is which word, and a CRF or PAMR moves the edges to those of the picture. The defaults are the released code's.

Differs from the paper:
- The released code captions with BLIP base, its abstract speaks of BLIP-2: the captioner is the backbone's, or one by name.
- Nouns come from another tagger; a caption without nouns leaves every cluster without a class, in place of an error.
- k-means is seeded.
- A mask's refined probability is kept as its score, so that edges can be looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.backbones import Capture
from ovseg.maths.cluster import agglomerate, kmeans
from ovseg.maths.maps import box_of, principal, resize
from ovseg.maths.refine import dense_crf, pamr
from ovseg.methods.base import Method
from ovseg.models import Models
from ovseg.pretrained.templates import TEMPLATES
from ovseg.progress import Report, Stages, silent
from ovseg.types import Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord
from ovseg.words.nouns import NounPhrase, classes_of, noun_phrases

CERTAINTY = 0.9  # what the CRF takes a mask's label for; the released code's setting


@dataclass(frozen=True)
class Candidates:
    """The names that CLIP chooses among (`names`), those that may be given to a cluster, and the caption behind them."""

    names: tuple[ClassWord, ...]
    allowed: tuple[bool, ...]
    caption: str


@dataclass(frozen=True)
class FreeSegDiff(Method):
    """Caption, clusters, CLIP. Defaults are the released code's; it has no thresholds and nothing is trained."""

    name: ClassVar[str] = "freeseg-diff"
    title: ClassVar[str] = "FreeSeg-Diff"
    names_itself: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("clip", "captioner")
    paper: ClassVar[Paper] = Paper(
        "FreeSeg-Diff: Training-Free Open-Vocabulary Segmentation with Diffusion Models",
        "Barbara Toniella Corradini, Mustafa Shukor, Paul Couairon, Guillaume Couairon, Franco Scarselli, Matthieu Cord",
        "IJCNN 2025",
        "2403.20105",
        "https://github.com/bcorrad/FreeSegDiff-release",
    )

    words: Literal["caption", "classes"] = knob(
        "caption", "Which of the given classes may be found: those that the caption speaks of, or all. The code: caption."
    )
    vocabulary: Literal["closed", "open"] = knob(
        "closed", "Closed: the given classes alone. Open: the caption's own words join them. Without classes always open."
    )
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({
        "best effort": {
            "timestep": 100, "draws": 4, "adaptive": True, "crop": "tight", "one_each": False, "ensemble": True,
        }
    })  # fmt: skip

    features: Literal["diffusion", "clip", "dino", "pixels"] = knob(
        "diffusion",
        "What is clustered: the diffusion network's queries, as in the code; CLIP's or DINO's keys; the picture.",
    )
    timestep: int = knob(0, "Noise level of the one pass; the code uses 0.", low=0, high=999, step=1)
    draws: int = knob(1, "Noise samples over which the features are averaged; the code uses 1.", low=1, high=16, step=1)
    query_stride: int = knob(
        4, "Stride of the cross-attention whose queries are the features: 16 x 16 of 64 x 64.", low=1, high=8, step=1
    )
    grid_stride: int = knob(2, "Stride at which they are clustered: 32 x 32 of 64 x 64.", low=1, high=8, step=1)
    clusters: int = knob(4, "Number of clusters; the code uses 4.", low=2, high=20, step=1)
    adaptive: bool = knob(False, "As many clusters as candidate words and two more, in place of a fixed number.")
    algorithm: Literal["k-means", "agglomerative"] = knob("k-means", "The code uses k-means, and offers the other.")
    crop: Literal["whole", "tight"] = knob(
        "whole", "What CLIP sees of a cluster: the whole picture, black outside it, or the box around it. The code: whole."
    )
    template: str = knob("{}", "CLIP's prompt for a word; the code uses the bare name.")
    ensemble: bool = knob(False, "The mean of seven of CLIP's own templates in place of that prompt.")
    one_each: bool = knob(True, "At most one cluster for each class, as in the code; otherwise a class may have several.")
    refinement: Literal["crf", "pamr", "none"] = knob("crf", "What moves the edges; the code uses a CRF, one for each mask.")

    def segment(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...], report: Report = silent) -> Segmentation:
        """Segment a scene; without classes, into what the captioner sees.

        Raises:
            ValueError: a setting is out of its range, or a network cannot be loaded.
        """
        self._check(models)
        stages = Stages(report)
        with stages.stage("captioning", 0.0):
            candidates = self._candidates(models, scene, classes)
        with stages.stage("reading the network's features", 0.2):
            features = self._features(models, scene)
        with stages.stage("clustering", 0.5):
            regions = self._regions(features, sum(candidates.allowed))
        image_hw = scene.image.shape[:2]
        grown = F.interpolate(regions[None, None].float(), image_hw, mode="nearest")[0, 0].long().cpu()
        with stages.stage("naming the clusters", 0.6):
            pictures = [self._picture(scene.image, (grown == k).numpy()) for k in range(int(grown.max()) + 1)]
            similar = self._similarity(models, pictures, candidates)
            chosen = assign(similar, candidates.allowed, self.one_each)
        with stages.stage("refining the edges", 0.8):
            scores = self._scores(scene.image, grown, chosen, len(candidates.names), models.device)
        names = tuple(word.name for word in candidates.names)
        evidence = self._evidence(candidates, regions, features, pictures, similar, chosen)
        return Segmentation.from_scores(scene.image, names, scores, evidence=evidence, timings=stages.timings)

    def _check(self, models: Models) -> None:
        if self.template.count("{}") != 1:
            raise ValueError(f"The template must hold {{}} once, where the word goes, but got {self.template!r}.")
        if self.draws < 1 or self.clusters < 1:
            raise ValueError(f"draws and clusters must be 1 or more, but got {self.draws} and {self.clusters}.")
        if self.query_stride not in models.backbone.strides:
            known = ", ".join(map(str, models.backbone.strides))
            raise ValueError(f"query_stride must be one of this backbone's, {known}, but got {self.query_stride}.")
        if self.grid_stride < 1:
            raise ValueError(f"grid_stride must be 1 or more, but got {self.grid_stride}.")

    def _candidates(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...]) -> Candidates:
        if classes and self.words == "classes" and self.vocabulary == "closed":
            return Candidates(classes, (True,) * len(classes), "")
        caption = scene.caption or models.captioner().caption(scene.image)
        found = noun_phrases(caption)
        if classes and self.vocabulary == "closed":
            return Candidates(classes, spoken_of(models, classes, found), caption)
        # Among the caption's own words a given class stands for itself alone, not for whatever comes nearest to it.
        names = {phrase.described: {phrase.described, phrase.name, phrase.head} for phrase in found}
        heard = tuple(
            self.words == "classes" or any(said & set(word.phrases) for said in names.values()) for word in classes
        )
        taken = {phrase for word in classes for phrase in word.phrases}
        own = tuple(word for word in classes_of(caption) if not names[word.name] & taken)
        return Candidates((*classes, *own), heard + (True,) * len(own), caption)

    def _features(self, models: Models, scene: Scene) -> Tensor:
        """What is clustered (channels, y, x), on the grid of `grid_stride`."""
        hw = tuple(max(1, round(side / self.grid_stride)) for side in scene.latent.shape[-2:])
        if self.features == "diffusion":
            found = self._queries(models, scene)
        elif self.features == "clip":
            found = models.clip.dense([scene.image], "keys")[0]
        elif self.features == "dino":
            found = models.dino.keys([scene.image])[0]
        else:
            pixels = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float()
            return F.interpolate(pixels, hw, mode="area")[0].to(models.device)
        return resize(found[None], hw)[0]

    def _queries(self, models: Models, scene: Scene) -> Tensor:
        """Queries (channels, y, x) of every cross-attention at `query_stride`, one after the other."""
        backbone = models.backbone
        sites = tuple(s for s in backbone.sites if s.stride == self.query_stride and s.kind == "cross")
        text, total = backbone.encode_text([""], [""]), 0.0
        for draw in range(self.draws):
            trace = backbone.trace(scene.latent, text, self.timestep, Capture(queries=sites), scene.seed + draw)
            total = total + torch.cat([queries[0] for queries in trace.queries.values()]) / self.draws
        return total.float()

    def _regions(self, features: Tensor, words: int) -> Tensor:
        """The cluster (y, x) of each place, numbered from 0."""
        points = features.flatten(1).T
        count = words + 2 if self.adaptive else self.clusters
        labels = kmeans(points, count)[0] if self.algorithm == "k-means" else agglomerate(points, count)
        return labels.reshape(features.shape[1:])

    def _picture(self, image: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """The picture, black outside a cluster; cut to its box if wished."""
        shown = np.where(inside[..., None], image, 0).astype(np.uint8)
        if self.crop == "whole" or not inside.any():
            return shown
        return np.ascontiguousarray(shown[box_of(inside)])

    def _similarity(self, models: Models, pictures: list[np.ndarray], candidates: Candidates) -> np.ndarray:
        """CLIP's probabilities (names, clusters): a softmax over all names for each cluster's picture."""
        if not candidates.names:
            return np.zeros((0, len(pictures)), np.float32)
        templates = TEMPLATES if self.ensemble else [self.template]
        return models.clip.probabilities(pictures, [word.name for word in candidates.names], templates).T.cpu().numpy()

    def _scores(
        self, image: np.ndarray, regions: Tensor, chosen: tuple[int | None, ...], count: int, device: torch.device
    ) -> Tensor:
        """Background and one score per name (count + 1, H, W): refined masks in cluster order, none over another."""
        scores = torch.zeros(count + 1, *regions.shape)
        painted = torch.zeros(regions.shape, dtype=torch.bool)
        for cluster, name in enumerate(chosen):
            if name is None:
                continue
            mask = self._refined(image, (regions == cluster).float(), device).masked_fill(painted, 0)
            scores[name + 1] = torch.maximum(scores[name + 1], mask)
            painted |= mask > 0.5
        scores[0] = 1 - scores[1:].amax(0) if count else 1.0
        return scores

    def _refined(self, image: np.ndarray, mask: Tensor, device: torch.device) -> Tensor:
        """A mask (H, W) as probabilities."""
        pixels = torch.from_numpy(image).to(device).permute(2, 0, 1).float()
        if self.refinement == "crf":
            likely = torch.where(mask.to(device) > 0.5, CERTAINTY, 1 - CERTAINTY)
            return dense_crf(pixels, -torch.stack([1 - likely, likely]).log())[1].cpu()
        return pamr(pixels, mask[None].to(device))[0].cpu() if self.refinement == "pamr" else mask

    def _evidence(
        self, candidates: Candidates, regions: Tensor, features: Tensor, pictures: list[np.ndarray], similar: np.ndarray,
        chosen: tuple[int | None, ...],
    ) -> tuple[Evidence, ...]:  # fmt: skip
        said = f"Caption: {candidates.caption}" if candidates.caption else "No caption was needed"
        items = [
            Evidence(f"{said}. Clusters of the features", "regions", map=regions.cpu().numpy(), group="Clusters"),
            Evidence(
                "Features, their three strongest components", "images", images=(principal(features),), group="Features"
            ),
        ]
        names = [word.name for word in candidates.names]
        for cluster, picture in enumerate(pictures):
            best = np.argsort(-similar[:, cluster])[:3]
            ranked = ", ".join(f"{names[k]} {similar[k, cluster]:.0%}" for k in best) or "no words"
            given = "background" if chosen[cluster] is None else names[chosen[cluster]]
            title = f"Cluster {cluster + 1}: {given} (CLIP: {ranked})"
            items.append(Evidence(title, "images", images=(picture,), group="What CLIP sees", label=given))
        return tuple(items)


def spoken_of(models: Models, classes: tuple[ClassWord, ...], found: tuple[NounPhrase, ...]) -> tuple[bool, ...]:
    """Which classes the caption's nouns mean (the released code's closed vocabulary).

    Words and classes are means of the text encoder's states; each noun proposes the class of the smallest correlation
    distance, and nouns whose distance is above the mean of these are not heard.
    """
    nouns = list(dict.fromkeys(phrase.head for phrase in found))
    if not nouns:
        return (False,) * len(classes)
    words = _correlatable(_states(models, nouns))
    # A class of several words is the mean of theirs.
    named = torch.stack([_states(models, [f"A photo of {w}" for w in word.name.split()]).mean(0) for word in classes])
    distances = 1 - words @ _correlatable(named).T
    nearest, proposed = distances.min(1)
    heard = {int(k) for k in proposed[nearest <= nearest.mean() + 1e-6]}
    return tuple(k in heard for k in range(len(classes)))


def _states(models: Models, prompts: list[str]) -> Tensor:
    """The mean of each prompt's token states, padding included (n, d)."""
    return models.backbone.encode_text(prompts, [""] * len(prompts)).embeddings.float().mean(1)


def _correlatable(rows: Tensor) -> Tensor:
    return F.normalize(rows - rows.mean(1, keepdim=True), dim=1)


def assign(similar: np.ndarray, allowed: tuple[bool, ...], one_each: bool) -> tuple[int | None, ...]:
    """The name that each cluster gets, or None, from probabilities (names, clusters).

    Names that are not allowed are out; with `one_each` a name speaks only for its best cluster; then every cluster takes
    the best of what is left.
    """
    left = np.where(np.array(allowed, bool)[:, None], similar, 0)
    if one_each and len(left):
        best = left.argmax(1)
        left = np.where(np.arange(left.shape[1])[None] == best[:, None], left, 0)
    return tuple(int(column.argmax()) if column.size and column.max() > 0 else None for column in left.T)
