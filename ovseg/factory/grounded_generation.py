"""Protocol I of Grounded Diffusion: how well masks fit what was generated, for classes seen and not seen in training.

Truth is what a segmenter finds in the picture: the detector that labelled the training, and a stronger judge that knows
all classes. A picture counts where the truth has all objects of its prompt; its figure is the mean IoU of these, the set's
is the mean over such pictures. The paper's own averaging is not published. Where a backbone seldom draws two objects, few
pictures count, so beside it stands the mean over every object that the truth finds, in whatever picture.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovseg.factory.orders import Order
from ovseg.factory.splits import seen_of, unseen_of
from ovseg.files import write_or_check_settings, write_whole
from ovseg.maths.maps import normalise, resize
from ovseg.maths.overlap import iou
from ovseg.methods.grounded_diffusion import GroundedDiffusion
from ovseg.models import Models
from ovseg.pretrained.detector import Detector
from ovseg.progress import Report, silent
from ovseg.types import Scene
from ovseg.words.classes import ClassWord, prompt_of

GROUPS = {  # how many seen and unseen classes are in a prompt
    "one seen": (1, 0), "one unseen": (0, 1), "two seen": (2, 0), "seen + unseen": (1, 1), "two unseen": (0, 2),
}  # fmt: skip
HEAT_SHARE = 0.4  # of the strongest attribution, from which the baseline calls a place the class (DAAM's value)


@dataclass(frozen=True)
class Sample:
    """A generated picture of the test: its order, latent, and where each word was looked at (n, y, x)."""

    order: Order
    image: np.ndarray
    latent: np.ndarray
    attribution: np.ndarray


@dataclass(frozen=True)
class GroundedGeneration:
    """The test of one module: `count` prompts in each group of its class split, drawn once and kept in the run's folder.

    Args:
        judges: who says what the pictures show, by name.
        first_seed: of the pictures; it should be none of the training's.
        steps: of sampling; those of the backbone if not given.
    """

    models: Models
    method: GroundedDiffusion
    split: str
    judges: Mapping[str, Detector]
    count: int = 24
    first_seed: int = 1_000_000
    steps: int | None = None

    def run(self, out: Path, report: Report = silent) -> dict[str, Any]:
        """Measure; writes `table.json` and `table.md`, and returns the table.

        Raises:
            ValueError: there is no such split or module, the count is below 1, or the folder holds pictures drawn otherwise.
        """
        if self.count < 1:
            raise ValueError(f"There must be 1 picture or more in each group, but got {self.count}.")
        drawn_by = {"backbone": self.models.backbone.fingerprint, **asdict(self.models.checkpoint.sampling(self.steps))}
        write_or_check_settings(out / "pictures", drawn_by)
        orders = {group: self._orders(number, group) for number, group in enumerate(GROUPS)}
        total, done, rows = sum(map(len, orders.values())), 0, []
        for group, wanted in orders.items():
            samples = []
            for one in wanted:
                report(f"{group}: {one.prompt}", done / total)
                samples.append(self._sample(out, one))
                done += 1
            rows += self._rows(group, samples)
        table = {"split": self.split, "module": self.method.module, "pictures": self.count, "rows": rows}
        write_whole(out / "table.json", (json.dumps(table, indent=2) + "\n").encode())
        write_whole(out / "table.md", as_markdown(table).encode())
        return table

    def _orders(self, group_number: int, group: str) -> list[Order]:
        seen, unseen = seen_of(self.split), unseen_of(self.split)
        orders = []
        for k in range(self.count):
            rng = np.random.default_rng([self.first_seed, group_number, k])
            words = [
                str(w) for pool, n in zip((seen, unseen), GROUPS[group], strict=True) for w in rng.permutation(pool)[:n]
            ]
            number = group_number * self.count + k
            orders.append(Order(number, tuple(words), prompt_of(words), self.first_seed + 1000 * group_number + k))
        return orders

    def _sample(self, out: Path, wanted: Order) -> Sample:
        path = out / "pictures" / f"{wanted.prompt.replace(' ', '_')}-{wanted.seed}.npz"
        if not path.exists():
            sampling = self.models.checkpoint.sampling(self.steps)
            drawn = [
                self.models.backbone.generate(wanted.prompt, [wanted.seed], sampling, phrase=word)[0]
                for word in wanted.words
            ]
            kept = {
                "image": drawn[0].image, "latent": drawn[0].latent.cpu().float().numpy(),
                "attribution": np.stack([one.attribution.float().cpu().numpy() for one in drawn]),
            }  # fmt: skip
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **kept)
            write_whole(path, buffer.getvalue())
        with np.load(path) as kept:
            return Sample(wanted, kept["image"], kept["latent"], kept["attribution"])

    def _rows(self, group: str, samples: list[Sample]) -> list[dict[str, Any]]:
        """One row for each judge and each way to masks."""
        said = {"Grounded Diffusion": [self._grounded(s) for s in samples], "cross-attention": [_heated(s) for s in samples]}
        rows = []
        for judge, detector in self.judges.items():
            truths = [detector.masks(s.image, s.order.words) for s in samples]
            for what, masks in said.items():
                overlaps = [
                    {word: iou(mine[word], truth[word]) for word in s.order.words if word in truth}
                    for truth, mine, s in zip(truths, masks, samples, strict=True)
                ]
                whole = [
                    float(np.mean(list(found.values())))
                    for found, s in zip(overlaps, samples, strict=True)
                    if len(found) == len(s.order.words)
                ]
                row = {"group": group, "masks": what, "judge": judge}
                row |= {"miou": float(np.mean(whole)) if whole else None, "counted": len(whole)}
                for name, words in (("seen", seen_of(self.split)), ("unseen", unseen_of(self.split))):
                    row[name] = [value for found in overlaps for word, value in found.items() if word in words]
                rows.append(row)
        return rows

    def _grounded(self, sample: Sample) -> dict[str, np.ndarray]:
        latent = torch.from_numpy(sample.latent).to(self.models.device, self.models.dtype)
        scene = Scene(sample.image, latent, sample.order.prompt, sample.order.seed)
        found = self.method.segment(self.models, scene, tuple(ClassWord((word,)) for word in sample.order.words))
        return {word: found.scores[k] >= self.method.threshold for k, word in enumerate(sample.order.words, 1)}


def _heated(sample: Sample) -> dict[str, np.ndarray]:
    """The baseline's masks: where attribution is above a share of its highest."""
    grown = resize(normalise(torch.from_numpy(sample.attribution)), sample.image.shape[:2]).numpy()
    return {word: heat >= HEAT_SHARE for word, heat in zip(sample.order.words, grown, strict=True)}


def as_markdown(table: Mapping[str, Any]) -> str:
    """The table for people: a row for each way to masks and each judge, a column for each group, and for every object."""
    rows, objects = {}, {}
    for row in table["rows"]:
        figure = "-" if row["miou"] is None else f"{row['miou']:.1%} of {row['counted']}"
        rows.setdefault((row["masks"], row["judge"]), {})[row["group"]] = figure
        found = objects.setdefault((row["masks"], row["judge"]), {"seen": [], "unseen": []})
        for name, values in found.items():
            values += row[name]
    lines = [
        f"Split {table['split']}, {table['pictures']} pictures in each group; mean IoU over those in which the judge finds"
        " all objects, and how many these are; last, over every object that it finds.", "",
        "| masks | judge | " + " | ".join(GROUPS) + " | seen objects | unseen objects |", "|---" * (4 + len(GROUPS)) + "|",
    ]  # fmt: skip
    for (masks, judge), figures in rows.items():
        every = [f"{np.mean(v):.1%} of {len(v)}" if v else "-" for v in objects[masks, judge].values()]
        lines.append(f"| {masks} | {judge} | " + " | ".join([*(figures[group] for group in GROUPS), *every]) + " |")
    return "\n".join(lines) + "\n"
