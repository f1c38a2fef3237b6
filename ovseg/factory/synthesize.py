"""Synthetic data sets: generated pictures with masks, in the layouts of PASCAL VOC and of COCO.

The files of a picture are written whole, its prompt last. A stopped run goes on after the last complete picture.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ovseg.backbones.base import Sampling
from ovseg.factory.orders import Order, order
from ovseg.files import alone_in, as_json, checksum, read_json, write_or_check_settings, write_whole
from ovseg.methods.base import Method
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.coco import coco_file
from ovseg.output.tables import Table
from ovseg.progress import Report, silent, within
from ovseg.types import BACKGROUND, Scene
from ovseg.words.classes import ClassWord

JPEG_QUALITY = 95
SHEET = 24  # pictures of the contact sheet
SEGMENTER: type[Method] = GroundedDiffusion
"""Says which pixels of what is drawn are which, unless somebody chooses."""


@dataclass(frozen=True)
class Synthesis:
    """A data set to be made."""

    models: Models  # the backbone that draws
    method: Method  # segments the pictures into the classes of their prompts
    classes: tuple[str, ...]  # words that prompts are made of; label k + 1 is class k
    count: int  # pictures
    sampling: Sampling  # how pictures are drawn
    pairs: float = 0.5  # share of prompts with two classes
    seed: int = 0  # of the first picture; the others follow

    def run(self, out: Path, report: Report = silent) -> None:
        """Make the pictures that are missing; then write the lists, the annotations, the card and the sheet.

        Raises:
            ValueError: the folder holds another data set, or cannot be written.
        """
        self._check(out)
        with alone_in(out):
            if prompt_path(out, self.count).exists():
                raise ValueError(
                    f"The folder {out} must be new or hold {self.count} pictures at most, but an earlier run made more: ask"
                    " for as many, or take another folder."
                )
            for number in range(self.count):
                if not prompt_path(out, number).exists():
                    what = f"picture {number + 1} of {self.count}"
                    report(what, number / self.count)
                    item = order(number, self.classes, self.pairs, self.seed)
                    self._make(out, item, within(report, number / self.count, (number + 1) / self.count, what))
            report("lists and annotations", 0.99)
            self._finish(out)

    def settings(self) -> dict[str, Any]:
        """All that the pictures and masks depend on, JSON-ready; without the count, which may grow."""
        masks = {"method": self.method.name, **asdict(self.method)}
        settings = {"classes": self.classes, "pairs": self.pairs, "seed": self.seed, "masks": masks}
        settings |= {"backbone": self.models.backbone.fingerprint, **self.sampling.described()}
        return json.loads(json.dumps(settings))

    def _check(self, out: Path) -> None:
        if self.count < 1:
            raise ValueError(f"A data set must have 1 picture or more, but got {self.count}.")
        order(0, self.classes, self.pairs, self.seed)
        self.models.backbone.timesteps(self.sampling)  # refuses too few steps, and too many
        write_or_check_settings(out, self.settings())

    def _make(self, out: Path, item: Order, report: Report) -> None:
        (drawn,) = self.models.backbone.generate(
            item.prompt, [item.seed], self.sampling, on_step=lambda done, total: report("drawing", 0.8 * done / total)
        )
        scene = Scene(drawn.image, drawn.latent, item.prompt, item.seed)
        classes = tuple(ClassWord((word,)) for word in item.words)
        result = self.method.segment(self.models, scene, classes, within(report, 0.8, 1.0))
        labels = np.array([0, *(self.classes.index(word) + 1 for word in item.words)], np.uint8)
        mask = view.indexed_png(labels[result.label_map], view.palette(len(self.classes) + 1))
        write_whole(out / "JPEGImages" / f"{name_of(item.number)}.jpg", view.jpeg(drawn.image, JPEG_QUALITY), lasting=True)
        write_whole(out / "SegmentationClass" / f"{name_of(item.number)}.png", mask, lasting=True)
        write_whole(prompt_path(out, item.number), as_json(asdict(item), None), lasting=True)

    def _finish(self, out: Path) -> None:
        names = [name_of(number) for number in range(self.count)]
        write_whole(out / "ImageSets" / "Segmentation" / "train.txt", ("\n".join(names) + "\n").encode())
        write_whole(out / "labels.txt", ("\n".join([BACKGROUND, *self.classes]) + "\n").encode())
        annotations = coco(out, self.classes, self.count)
        write_whole(out / "annotations.json", as_json(annotations, None))
        write_whole(out / "README.md", self._card(out, annotations).encode())
        write_whole(out / "sheet.png", view.png(preview(out, self.classes, min(self.count, SHEET))))

    def _card(self, out: Path, annotations: dict[str, Any]) -> str:
        """The data card: how the set was made, what it holds, and what it cannot be used for."""
        settings, counts = self.settings(), dict.fromkeys(self.classes, 0)
        for item in annotations["annotations"]:
            counts[self.classes[item["category_id"] - 1]] += 1
        empty = sum(1 for k in range(self.count) if not read_mask(out, k).any())
        return "\n".join([
            "# A synthetic segmentation data set", "",
            f"{self.count} generated pictures with masks of {len(self.classes)} classes. No picture and no mask was drawn,"
            " looked at or corrected by a person: both are what networks made of the prompts.", "",
            f"- Pictures: {self.models.checkpoint.title}, weights {settings['backbone']}, {settings['steps']} steps,"
            f" guidance {settings['guidance']}, seeds {self.seed} to {self.seed + self.count - 1}; {self.pairs:.0%} of the"
            " prompts name two classes.",
            f"- Masks: {self.method.title} ({self.method.paper.venue}, arXiv {self.method.paper.arxiv}),"
            f" {json.dumps(settings['masks'])}.",
            f"- Without any mask: {empty} of {self.count} pictures.",
            "- A class is in a picture's masks only if its prompt names it: what else is drawn counts as background.",
            "- Layout of PASCAL VOC 2012 (`JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation/train.txt`, label k is"
            " line k of `labels.txt`) and of COCO (`annotations.json`, run lengths); `prompts/` has the prompts.",
            "", Table(("class", "masks"), tuple(counts.items()), {}).markdown(),
        ])  # fmt: skip


def name_of(number: int) -> str:
    """The name of a picture's files."""
    return f"{number:07d}"


def prompt_path(out: Path, number: int) -> Path:
    """The file with a picture's order: classes, prompt and seed."""
    return out / "prompts" / f"{name_of(number)}.json"


def read_picture(out: Path, number: int) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of the set, RGB."""
    return np.asarray(Image.open(out / "JPEGImages" / f"{name_of(number)}.jpg").convert("RGB"))


def read_mask(out: Path, number: int) -> UInt8[np.ndarray, "h w"]:
    """The label map of a picture of the set; 0 is the background."""
    return np.asarray(Image.open(out / "SegmentationClass" / f"{name_of(number)}.png"))


def preview(out: Path, classes: Sequence[str], count: int) -> UInt8[np.ndarray, "H W 3"]:
    """The first pictures with their masks and prompts, as one sheet."""
    colours = view.palette(len(classes) + 1)
    opacity = np.array([0.0, *(0.6 for _ in classes)])
    pictures = [view.paint(read_picture(out, k), read_mask(out, k), colours, opacity) for k in range(count)]
    prompts = [read_json(prompt_path(out, k))["prompt"] for k in range(count)]
    return view.contact_sheet(pictures, prompts, columns=6)


def coco(out: Path, classes: Sequence[str], count: int) -> dict[str, Any]:
    """The annotations in COCO's format, one for each class of a picture. Picture `number` has the id `number` + 1."""
    pictures = ((f"JPEGImages/{name_of(number)}.jpg", read_mask(out, number)) for number in range(count))
    return coco_file(pictures, (BACKGROUND, *classes))


def digest(out: Path) -> str:
    """A checksum of a data set's pictures, masks and prompts, 12 digits."""
    parts = ("JPEGImages", "SegmentationClass", "prompts")
    return checksum((path for part in parts for path in (out / part).glob("[0-9]*.*")), out)
