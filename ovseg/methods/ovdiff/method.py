"""Diffusion Models for Open-Vocabulary Segmentation.

Laurynas Karazija, Iro Laina, Andrea Vedaldi, Christian Rupprecht; ECCV 2024; arXiv 2306.09316.

The diffusion network draws pictures of each class; where it looked for the class's words, and what stood around it, become
prototypes: mean, image and part vectors of the class and of its background. A pixel is what its nearest prototype is of.
Defaults are the released code's.

Differs from the paper and its released code:
- Objects are found by MaskCut on DINO's keys; the code uses CutLER, whose weights are not free for commercial use
  (`masks="cutler"` takes a copy of one's own).
- An empty mask never competes for foreground or background (in the code it scores not-a-number).
- Noise is seeded for each picture; in the code, at test time, it depends on the order of pictures.
- Pictures and crops keep their aspect in the diffusion network and DINO; the code squashes them for the first.
- CLIP sees pictures with its own colour statistics and at its own resolution; the code takes ImageNet's, and more patches.
- Classes are filtered before they are compared, not after: the same result for less work.
- Attention is averaged over heads before it is resized, not after.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ovseg.backbones import Capture, Site
from ovseg.backbones.base import Sampling, word_states
from ovseg.maths.maps import resize, window_starts
from ovseg.maths.refine import pamr
from ovseg.methods.base import Method
from ovseg.methods.ovdiff.matching import Table
from ovseg.methods.ovdiff.prototypes import Drawn, Mask, Prototypes, Side, store_of
from ovseg.methods.ovdiff.support import masks_by_otsu, masks_by_proposals, prototypes_of, shaded, stretched
from ovseg.models import Models
from ovseg.progress import Report, Stages, silent
from ovseg.types import Evidence, Paper, Scene, Segmentation, knob
from ovseg.words.classes import ClassWord, check_prompt
from ovseg.words.stuff import STUFF, THINGS, is_stuff

NOISE_SEED = 43  # of the noise on support images; the code's
MOST_CANDIDATES = 10  # classes whose subsets are tried; the code's
BATCH = 8  # pictures drawn together; the code's
DRAWN, MASKED = 0.7, 0.85  # of the progress of a class
SHOWN = 5  # prototypes named for each place
SHEETS = 12  # classes whose support images are shown
EXTRACTORS = {  # and what names each one's weights
    "diffusion": lambda models: models.backbone.fingerprint,
    "dino": lambda models: models.dino.fingerprint,
    "clip": lambda models: models.clip.fingerprint,
}


@dataclass(frozen=True)
class OVDiff(Method):
    """Support sets and nearest prototypes, with the values of the released code for Stable Diffusion 1.5."""

    name: ClassVar[str] = "ovdiff"
    title: ClassVar[str] = "OVDiff"
    needs: ClassVar[tuple[str, ...]] = ("clip", "dino")
    paper: ClassVar[Paper] = Paper(
        title="Diffusion Models for Open-Vocabulary Segmentation",
        authors="Laurynas Karazija, Iro Laina, Andrea Vedaldi, Christian Rupprecht",
        venue="ECCV 2024",
        arxiv="2306.09316",
        code="https://github.com/karazijal/sdov",
    )

    images: int = knob(32, "Support images of each class; the code's 32, the paper's table 64.", low=1, high=128, step=1)
    prompt: str = knob("A good picture of a {}", "Prompt of the support images; {} is the class.")
    negative: str = knob(
        "text, low quality, blurry, cartoon, meme, low resolution, bad, poor, faded", "What support images shall not be."
    )
    steps: int = knob(30, "Sampling steps of a support image.", low=1, high=100, step=1)
    guidance: float = knob(8.0, "Classifier-free guidance of the support images.", low=1, high=20, step=0.5)
    first_seed: int = knob(42, "Seed of the first support image; the others follow.", low=0, high=9999, step=1)
    masks: Literal["maskcut", "otsu", "cutler"] = knob(
        "maskcut", "How objects are found in support images: cuts of DINO's keys, thresholds on the attention, or CutLER."
    )
    extractors: tuple[str, ...] = knob(("diffusion", "dino", "clip"), "Networks whose features are compared: some of these.")
    sites: str = knob("0, 6-12, 15", "Cross-attention layers whose queries are the diffusion features, counted from 0.")
    timestep: int = knob(200, "Noise level of the diffusion features.", low=0, high=999, step=1)
    parts: int = knob(32, "Part prototypes of each class and of its background.", low=1, high=128, step=1)
    kinds: Literal["all", "mean"] = knob("all", "Prototypes that are compared: all, or the mean of each class alone.")
    background: Literal["prototypes", "none"] = knob(
        "prototypes", "Whether the surroundings in support images speak for background; without, there is none."
    )
    stuff_filter: bool = knob(True, "Leave out background prototypes that look like a stuff class that is asked for.")
    stuff_cosine: float = knob(0.85, "Cosine from which they do.", low=0.5, high=1, step=0.01)
    prefilter: bool = knob(True, "Let CLIP choose the classes that a picture holds before pixels are compared.")
    short_side: int = knob(448, "Pixels of the picture's shorter side; 0 takes it as it is.", low=0, high=1024, step=32)
    windows: tuple[int, ...] = knob((448, 336), "Sides of the windows that are looked at beside the whole picture.")
    window_stride: int = knob(224, "Pixels from one window to the next.", low=32, high=1024, step=32)
    refinement: Literal["none", "pamr"] = knob("none", "PAMR moves the edges; the paper reports both.")

    def segment(self, models: Models, scene: Scene, classes: tuple[ClassWord, ...], report: Report = silent) -> Segmentation:
        """Segment a scene into the classes and background; prototypes that are not in the store are made first.

        Raises:
            ValueError: a setting is out of its range, a network cannot be loaded, or a class's pictures show nothing of it.
        """
        self.check()
        stages = Stages(report)
        with stages.stage("preparing the classes"):
            begun = part_of(report, 0.0, 0, 2)
            kept = [
                self.prepare(models, word.name, told_of(begun, number, len(classes))) for number, word in enumerate(classes)
            ]
        with stages.stage("choosing the classes", 0.5):
            stuff = self._stuff(models, classes)
            asked = self._chosen(models, scene.image, classes, stuff)
        with stages.stage("comparing pixels with prototypes", 0.6):
            tables = {e: self._table([kept[k][e] for k in asked], [stuff[k] for k in asked]) for e in self.extractors}
            compared, nearest = self._compare(models, scene, tables, len(asked) + 1)
        scores = torch.full((len(classes) + 1, *compared.shape[1:]), -1.0)
        with stages.stage("refining the edges", 0.9):
            scores[[0, *(k + 1 for k in asked)]] = self._refined(models, scene.image, compared)
        names = tuple(word.name for word in classes)
        evidence = self._evidence(models, [names[k] for k in asked], tables, nearest)
        return Segmentation.from_scores(scene.image, names, scores, evidence=evidence, timings=stages.timings)

    def prepare(self, models: Models, word: str, report: Report = silent) -> dict[str, Prototypes]:
        """The prototypes of a class in every extractor: from the store, or made and kept there.

        Raises:
            ValueError: a file of the store is damaged, or no picture of the class shows it.
        """
        kept = {e: store_of(models).read_prototypes(word, e, self._settings(models, e)) for e in self.extractors}
        missing = [extractor for extractor, found in kept.items() if found is None]
        if not missing:
            return kept
        pictures = self._pictures(models, word, report)
        masks = self._masks(models, word, pictures, report)
        if not any(mask.foreground.any() for mask in masks):
            raise ValueError(
                f"The pictures of a class must show it somewhere, but none of {len(pictures)} of {word!r} does."
            )
        for number, extractor in enumerate(missing):
            told = part_of(report, MASKED, number, len(missing))
            found = prototypes_of(self._each(models, extractor, pictures, told), masks, self.parts)
            store_of(models).write_prototypes(word, extractor, self._settings(models, extractor), found)
            kept[extractor] = found
        return kept

    def repair(self, models: Models, word: str) -> tuple[str, ...]:
        """Delete what is damaged of a class's files, so that `prepare` makes it again; the names of what was deleted."""
        kinds = ("pictures", "masks", *self.extractors)
        return tuple(kind for kind in kinds if store_of(models).drop_damaged(word, kind, self._settings(models, kind)))

    def check(self) -> None:
        """Pass if the settings are in their ranges.

        Raises:
            ValueError: one is not.
        """
        unknown = [name for name in self.extractors if name not in EXTRACTORS]
        if unknown or not self.extractors:
            raise ValueError(f"extractors must be some of {', '.join(EXTRACTORS)}, but got {', '.join(self.extractors)!r}.")
        check_prompt(self.prompt)
        if min(self.images, self.parts, self.steps, self.window_stride) < 1 or min(self.windows, default=1) < 1:
            raise ValueError("images, parts, steps, windows and window_stride must be 1 or more.")

    def _settings(self, models: Models, kind: str) -> dict[str, Any]:
        """All that decides the pictures, the masks, or an extractor's prototypes."""
        told: dict[str, Any] = {
            name: getattr(self, name) for name in ("prompt", "negative", "steps", "guidance", "first_seed")
        }
        told["backbone"] = models.backbone.fingerprint
        if kind == "pictures":
            return told
        told |= {"images": self.images, "masks": self.masks}
        if self.masks == "maskcut":
            told["dino"] = models.dino.fingerprint
        if kind == "masks":
            return told
        told |= {"parts": self.parts, "network": EXTRACTORS[kind](models)}
        return told | ({"sites": self.sites, "timestep": self.timestep} if kind == "diffusion" else {})

    def _pictures(self, models: Models, word: str, report: Report) -> tuple[Drawn, ...]:
        """The support images, of which those that the store has are not drawn again; kept batch by batch."""
        settings = self._settings(models, "pictures")
        pictures = list(store_of(models).read_pictures(word, settings, self.images))
        prompt = self.prompt.replace("{}", word)
        sampling = Sampling(self.steps, self.guidance, self.negative, dpm_solver=True)
        while len(pictures) < self.images:
            count = min(BATCH, self.images - len(pictures))

            def drawn(step: int, steps: int, done: int = len(pictures), count: int = count) -> None:
                share = (done + count * step / steps) / self.images
                report(f"image {done + 1} to {done + count} of {self.images}", DRAWN * share)

            seeds = [self.first_seed + len(pictures) + k for k in range(count)]
            for made in models.backbone.generate(prompt, seeds, sampling, phrase=word, on_step=drawn):
                pictures.append(Drawn(made.image, made.attribution.cpu().numpy().astype(np.float16)))
            store_of(models).write_pictures(word, settings, pictures)
        return tuple(pictures)

    def _masks(self, models: Models, word: str, pictures: Sequence[Drawn], report: Report) -> tuple[Mask, ...]:
        """Foreground and background of each support image."""
        settings = self._settings(models, "masks")
        found = store_of(models).read_masks(word, settings)
        if found is not None:
            return found
        maps = [stretched(item.attribution, item.image.shape[:2]) for item in pictures]
        if self.masks == "otsu":
            masks = masks_by_otsu(maps)
        else:
            propose, masks = models.proposals(self.masks), []
            for number, (item, attribution) in enumerate(zip(pictures, maps, strict=True)):
                report(f"masks of image {number + 1} of {len(pictures)}", DRAWN + (MASKED - DRAWN) * number / len(pictures))
                masks.append(masks_by_proposals(propose(item.image), attribution))
        store_of(models).write_masks(word, settings, masks)
        return tuple(masks)

    def _each(self, models: Models, extractor: str, pictures: Sequence[Drawn], report: Report) -> Iterator[Tensor]:
        for number, item in enumerate(pictures):
            report(f"{extractor} features of image {number + 1} of {len(pictures)}", number / len(pictures))
            yield self._features(models, extractor, item.image, NOISE_SEED)

    def _features(self, models: Models, extractor: str, image: np.ndarray, seed: int) -> Tensor:
        """Features (d, y, x) of a picture or crop."""
        if extractor == "dino":
            return models.dino.keys([image])[0]
        if extractor == "clip":
            return models.clip.dense([image], "keys", layer=-2)[0]
        backbone = models.backbone
        latent = backbone.encode(_resized(image, backbone.working_hw(image.shape[:2])))
        sites = self._sites(models)
        trace = backbone.trace(latent, backbone.encode_text([""], [""]), self.timestep, Capture(queries=sites), seed)
        return torch.cat([resize(trace.queries[site].float(), trace.latent_hw) for site in sites], 1)[0]

    def _sites(self, models: Models) -> tuple[Site, ...]:
        """The cross-attention of `sites`, counted in the order of computing."""
        crossing = [site for site in models.backbone.sites if site.kind == "cross"]
        numbers = parse_numbers(self.sites)
        if not numbers or max(numbers) >= len(crossing):
            raise ValueError(f"sites must name some of 0 to {len(crossing) - 1} on this backbone, but got {self.sites!r}.")
        return tuple(crossing[number] for number in numbers)

    def _stuff(self, models: Models, classes: tuple[ClassWord, ...]) -> list[bool]:
        """Which classes are stuff: by the reviewed table, else as the word of the table that is most alike is."""
        known = [is_stuff(word.name) for word in classes]
        if None not in known:
            return known
        words = sorted(STUFF | THINGS)
        alike = word_states(models.backbone, [word.name for word in classes]) @ word_states(models.backbone, words).T
        return [is_stuff(words[int(row.argmax())]) if told is None else told for told, row in zip(known, alike, strict=True)]

    def _chosen(self, models: Models, image: np.ndarray, classes: tuple[ClassWord, ...], stuff: list[bool]) -> list[int]:
        """The classes that are compared at all: stuff, and the subset of things whose words fit the picture best."""
        things = [k for k in range(len(classes)) if not stuff[k]]
        if not self.prefilter or len(things) < 2:
            return list(range(len(classes)))
        seen = models.clip.image_embeddings([image])
        cosines = (seen @ models.clip.text_embeddings([f"a {classes[k].name}" for k in things]).T)[0].cpu()
        likely = cosines.softmax(0)
        order = likely.argsort(descending=True, stable=True).tolist()
        passed = [k for k in order if likely[k] >= 1 / len(things)][:MOST_CANDIDATES] or order[:MOST_CANDIDATES]
        names = [things[k] for k in sorted(passed)]
        subsets = [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]
        texts = models.clip.subset_embeddings([" and ".join(f"a {classes[k].name}" for k in s) for s in subsets])
        best = subsets[int((texts @ seen[0]).argmax())]
        return [k for k in range(len(classes)) if stuff[k] or k in best]

    def _table(self, kept: Sequence[Prototypes], stuff: Sequence[bool]) -> Table:
        """All prototypes of the classes that are compared, as unit vectors in one matrix."""
        sides: list[tuple[int, str, Side]] = [(k, "foreground", item.foreground) for k, item in enumerate(kept)]
        if self.background == "prototypes":
            sides += [(k, "background", item.background) for k, item in enumerate(kept) if not stuff[k]]
        table = Table.of(sides, means_only=self.kinds == "mean")
        if not self.stuff_filter or not any(stuff):
            return table
        of_stuff = torch.tensor([owner > 0 and stuff[owner - 1] for owner in table.owner.tolist()])
        alike = (table.vectors @ table.vectors[of_stuff].T).amax(1)
        return table.only((table.owner > 0) | (alike <= self.stuff_cosine))

    def _compare(
        self, models: Models, scene: Scene, tables: dict[str, Table], labels: int
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """The mean cosine (labels, h, w) over crops and extractors, and what is nearest on the whole picture."""
        picture = self._working(scene.image)
        total = torch.zeros(labels, *picture.shape[:2])
        weight, nearest = torch.zeros(picture.shape[:2]), {}
        for rows, columns in (*self._boxes(picture.shape[:2]), (slice(None), slice(None))):
            crop = np.ascontiguousarray(picture[rows, columns])
            for extractor, table in tables.items():
                features = F.normalize(self._features(models, extractor, crop, scene.seed), dim=0)
                cosines = torch.einsum("nd,dyx->nyx", table.vectors.to(features.device), features).cpu()
                best = table.best_of_each(cosines, labels)
                total[:, rows, columns] += resize(best[None], crop.shape[:2])[0]
                weight[rows, columns] += 1
                nearest[extractor] = cosines.topk(min(SHOWN, len(cosines)), 0)  # the whole picture comes last
        return total / weight, nearest

    def _working(self, image: np.ndarray) -> np.ndarray:
        if not self.short_side:
            return image
        scale = self.short_side / min(image.shape[:2])
        return _resized(image, tuple(round(side * scale) for side in image.shape[:2]))

    def _boxes(self, hw: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
        for side in self.windows:
            if side < max(hw):
                for top in window_starts(hw[0], side, self.window_stride):
                    for left in window_starts(hw[1], side, self.window_stride):
                        yield slice(top, top + side), slice(left, left + side)

    def _refined(self, models: Models, image: np.ndarray, scores: Tensor) -> Tensor:
        if self.refinement == "none":
            return scores
        height, width = scores.shape[1:]
        pixels = torch.from_numpy(np.array(_resized(image, (height, width)))).to(models.device).permute(2, 0, 1).float()
        return pamr(pixels, scores.to(models.device)).cpu()

    def _evidence(
        self, models: Models, names: list[str], tables: dict[str, Table], nearest: dict[str, tuple[Tensor, Tensor]]
    ) -> tuple[Evidence, ...]:
        """Support images and what claims each place, from the store; nothing is drawn for them.

        Of many classes, the sheets of those that claim most; and only pictures that claim something are kept.
        """
        rows = {extractor: found[1].permute(1, 2, 0).numpy() for extractor, found in nearest.items()}
        claims = np.zeros(len(names), int)
        for extractor, table in tables.items():
            claims += np.bincount(table.classes[rows[extractor].ravel()], minlength=len(names))
        most = np.argsort(-claims, kind="stable")[:SHEETS]
        claiming = set().union(*(table.shown_by(rows[extractor]) for extractor, table in tables.items()))
        items, pictures = [], {}
        for number, name in enumerate(names):
            needed = sorted(picture for owner, picture in claiming if owner == number)
            if number not in most and not needed:
                continue
            drawn = store_of(models).read_pictures(name, self._settings(models, "pictures"), self.images)
            if len(drawn) < self.images:  # prototypes alone were shipped, or pictures were deleted
                return ()
            pictures |= {(number, picture): drawn[picture].image for picture in needed}
            if number in most:
                masks = store_of(models).read_masks(name, self._settings(models, "masks")) or ()
                shown = tuple(shaded(item.image, mask) for item, mask in zip(drawn, masks, strict=False))
                items.append(Evidence(f"{name}: support images", "images", images=shown, group="Support images", label=name))
        for extractor, table in tables.items():
            mine = {key: pictures[key] for key in sorted(table.shown_by(rows[extractor]))}
            closeness = nearest[extractor][0].permute(1, 2, 0).numpy()
            told = table.claims(names, mine, rows[extractor], closeness)
            items.append(Evidence(f"What claims a place, by {extractor}", "claims", claims=told, group=extractor))
        return tuple(items)


def parse_numbers(text: str) -> tuple[int, ...]:
    """ "0, 6-8" as (0, 6, 7, 8).

    Raises:
        ValueError: it is no such list.
    """
    numbers: list[int] = []
    for entry in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", entry)
        if not found:
            raise ValueError(f"sites must be numbers and ranges such as 0, 6-12, 15, but got {text!r}.")
        numbers += range(int(found[1]), int(found[2] or found[1]) + 1)
    return tuple(numbers)


def told_of(report: Report, number: int, count: int) -> Report:
    """A report on one of several classes."""
    part = part_of(report, 0.0, number, count)
    return lambda stage, share: part(f"class {number + 1} of {count}, {stage}", share)


def part_of(report: Report, begun: float, number: int, count: int) -> Report:
    """A report on one of `count` equal steps that follow when the share `begun` is done."""
    return lambda stage, share: report(stage, begun + (1 - begun) * (number + share) / count)


def _resized(image: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.LANCZOS))
