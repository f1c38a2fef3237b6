"""Protocol I of Grounded Diffusion: how well masks fit what was generated, for classes seen and not seen in training.

The truth is the output of a segmenter: of the detector that labelled the training, or of a judge that knows all classes. A
picture counts if the truth has all objects of its prompt. Its figure is the mean IoU of these objects, and the figure of a
group of prompts is the mean over the pictures that count; the paper's own averaging is not published. If a backbone seldom
draws two objects, few pictures count, so the mean over all objects that the truth has, in any picture, is given as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ovseg.backbones.base import Sampling
from ovseg.factory.orders import Order
from ovseg.factory.splits import find_split
from ovseg.files import as_json, as_npz, write_or_check_settings, write_whole
from ovseg.maths.maps import normalise, resize
from ovseg.maths.overlap import iou
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.models import Models
from ovseg.output.tables import Table
from ovseg.pretrained.detector import Detector
from ovseg.progress import Report, silent
from ovseg.types import Scene
from ovseg.words.classes import ClassWord, prompt_of

FIRST_SEED = 1_000_000  # of the pictures; those of the training should be others
GROUPS = {  # number of seen and of unseen classes in a prompt
    "one seen": (1, 0), "one unseen": (0, 1), "two seen": (2, 0), "seen + unseen": (1, 1), "two unseen": (0, 2),
}  # fmt: skip
HEAT_SHARE = 0.4  # share of the highest attribution, from which the baseline takes a place for the class (DAAM's value)


@dataclass(frozen=True)
class Sample:
    """A generated picture of the test: its order, its latent, and the cross-attention of each word of the order."""

    order: Order
    image: UInt8[np.ndarray, "H W 3"]
    latent: Float[np.ndarray, "1 c y x"]
    attribution: Float[np.ndarray, "words _y _x"]


@dataclass(frozen=True)
class GroundedGeneration:
    """The test of one module: `count` prompts in each group of its class split, drawn once and kept in the run's folder."""

    models: Models
    method: GroundedDiffusion
    split: str  # its name, or the path of a JSON file, as `find_split` reads them
    judges: Mapping[str, Detector]  # the segmenters whose output is the truth, by name
    sampling: Sampling  # how pictures are drawn
    count: int = 24

    def run(self, out: Path, report: Report = silent) -> dict[str, Any]:
        """Measure; writes `table.json` and `table.md`, and returns the table.

        Raises:
            ValueError: there is no such split or module, the split has too few classes for pairs, the count is below 1, or
                the folder's pictures were made with other settings.
        """
        split = find_split(self.split)
        if min(len(split.seen), len(split.unseen)) < 2:
            raise ValueError(f"The split must have 2 seen and 2 unseen classes, but {self.split} has fewer of one.")
        if self.count < 1:
            raise ValueError(f"There must be 1 picture or more in each group, but got {self.count}.")
        self.models.backbone.timesteps(self.sampling)  # refuses too few steps, and too many
        drawn_by = {"backbone": self.models.backbone.fingerprint, **self.sampling.described()}
        write_or_check_settings(out / "pictures", drawn_by)
        orders = {group: self._orders(number, group) for number, group in enumerate(GROUPS)}
        total, done, rows = sum(map(len, orders.values())), 0, []
        for group, group_orders in orders.items():
            samples = []
            for order in group_orders:
                report(f"{group}: {order.prompt}", done / total)
                samples.append(self._sample(out, order))
                done += 1
            rows += self._rows(group, samples)
        table = {"split": split.name, "module": self.method.module, "pictures": self.count, "rows": rows}
        write_whole(out / "table.json", as_json(table))
        write_whole(out / "table.md", as_markdown(table).encode())
        return table

    def _orders(self, group_number: int, group: str) -> list[Order]:
        split, orders = find_split(self.split), []
        for k in range(self.count):
            rng = np.random.default_rng([FIRST_SEED, group_number, k])
            pools = zip((split.seen, split.unseen), GROUPS[group], strict=True)
            words = [str(word) for pool, n in pools for word in rng.permutation(pool)[:n]]
            number = group_number * self.count + k
            orders.append(Order(number, tuple(words), prompt_of(words), FIRST_SEED + 1000 * group_number + k))
        return orders

    def _sample(self, out: Path, order: Order) -> Sample:
        path = out / "pictures" / f"{order.prompt.replace(' ', '_')}-{order.seed}.npz"
        if not path.exists():
            generate = partial(self.models.backbone.generate, order.prompt, [order.seed], self.sampling)
            drawn = [generate(word, start=order.start_of(number))[0] for number, word in enumerate(order.words)]
            kept = {
                "image": drawn[0].image, "latent": drawn[0].latent.cpu().float().numpy(),
                "attribution": np.stack([one.attribution.float().cpu().numpy() for one in drawn]),
            }  # fmt: skip
            write_whole(path, as_npz(kept), lasting=True)
        with np.load(path) as kept:
            return Sample(order, kept["image"], kept["latent"], kept["attribution"])

    def _rows(self, group: str, samples: list[Sample]) -> list[dict[str, Any]]:
        """One row for each judge and each source of masks."""
        made = {
            "Grounded Diffusion": [self._grounded(s) for s in samples],
            "cross-attention": [_from_attention(s) for s in samples],
        }
        rows = []
        for judge, detector in self.judges.items():
            truths = [detector.masks(s.image, s.order.words) for s in samples]
            for source, masks in made.items():
                ious = [
                    {word: iou(own[word], truth[word]) for word in s.order.words if word in truth}
                    for truth, own, s in zip(truths, masks, samples, strict=True)
                ]
                complete = [
                    float(np.mean(list(by_word.values())))
                    for by_word, s in zip(ious, samples, strict=True)
                    if len(by_word) == len(s.order.words)
                ]
                row = {"group": group, "masks": source, "judge": judge}
                row |= {"miou": float(np.mean(complete)) if complete else None, "counted": len(complete)}
                for name, words in (("seen", find_split(self.split).seen), ("unseen", find_split(self.split).unseen)):
                    row[name] = [value for by_word in ious for word, value in by_word.items() if word in words]
                rows.append(row)
        return rows

    def _grounded(self, sample: Sample) -> dict[str, np.ndarray]:
        """Masks by the grounding module."""
        latent = torch.from_numpy(sample.latent).to(self.models.device, self.models.dtype)
        scene = Scene(sample.image, latent, sample.order.prompt, sample.order.seed)
        classes = tuple(ClassWord((word,)) for word in sample.order.words)
        scores = self.method.segment(self.models, scene, classes).scores()
        return {word: scores[k] >= self.method.threshold for k, word in enumerate(sample.order.words, 1)}


def _from_attention(sample: Sample) -> dict[str, np.ndarray]:
    """The baseline's masks: where the word's attention is at least a share of its highest."""
    grown = resize(normalise(torch.from_numpy(sample.attribution)), sample.image.shape[:2]).numpy()
    return {word: heat >= HEAT_SHARE for word, heat in zip(sample.order.words, grown, strict=True)}


def as_markdown(table: Mapping[str, Any]) -> str:
    """The table for people: a row for each source of masks and each judge; a column for each group, and for all objects."""
    rows, objects = {}, {}
    for row in table["rows"]:
        figure = "-" if row["miou"] is None else f"{row['miou']:.1%} of {row['counted']}"
        rows.setdefault((row["masks"], row["judge"]), {})[row["group"]] = figure
        of_both = objects.setdefault((row["masks"], row["judge"]), {"seen": [], "unseen": []})
        for name, values in of_both.items():
            values += row[name]
    every = {key: [f"{np.mean(v):.1%} of {len(v)}" if v else "-" for v in own.values()] for key, own in objects.items()}
    cells = tuple((*key, *(figures[group] for group in GROUPS), *every[key]) for key, figures in rows.items())
    return (
        f"Split {table['split']}, {table['pictures']} pictures in each group; mean IoU over those in which the judge finds"
        " all objects, and how many these are; last, over every object that it finds.\n\n"
    ) + Table(("masks", "judge", *GROUPS, "seen objects", "unseen objects"), cells, {}).markdown()
