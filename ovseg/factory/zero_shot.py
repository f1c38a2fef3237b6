"""Protocol II of Grounded Diffusion in miniature: what a standard segmenter learns from generated pictures and masks.

A small UperNet is trained on a synthetic data set of all classes, on real pocket scenes of the seen classes, or on both. It
is tested on real scenes with all classes: mean IoU of the seen classes, of the unseen ones, and the harmonic mean of the two
(models A to D in the paper's table of zero-shot segmentation; the paper trains a MaskFormer).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.factory.splits import find_split
from ovseg.factory.synthesize import prompt_path, read_mask, read_picture
from ovseg.files import as_json, read_json, read_text, write_whole
from ovseg.output.tables import Table
from ovseg.pocket.train_segmenter import Masked, iou_of_labels, real_scenes, train_segmenter
from ovseg.pocket.training import Budget
from ovseg.pocket.world import THINGS
from ovseg.pretrained.detector import SemanticDetector
from ovseg.progress import Report, silent

STUDENTS = {  # the sets that each is trained on: synthetic pictures of one class, of two, real scenes of the seen classes
    "A: synthetic, one object": ("one",),
    "B: synthetic, two objects": ("two",),
    "C: synthetic, both": ("one", "two"),
    "D: real seen + synthetic": ("one", "two", "real"),
    "real seen alone": ("real",),
}
MASKED_SHARE = 0.01  # share of a picture that masks must cover for the picture to be trained on


@dataclass(frozen=True)
class ZeroShot:
    """The five students of one class split."""

    split: str  # its name, or the path of a JSON file, as `find_split` reads them
    data: Path  # folder of a synthetic data set, with masks by a module that was trained on this split
    budget: Budget  # the minutes of each student, and the real scenes; its size is that of the synthetic pictures

    def run(self, out: Path, report: Report = silent) -> dict[str, Any]:
        """Train what is missing and test; writes `table.json` and `table.md`, and returns the table.

        Raises:
            ValueError: there is no such split, or a class of it or of the data set is no thing of the pocket world.
        """
        split = find_split(self.split)
        strange = [word for word in split.classes if word not in THINGS]
        if strange:
            raise ValueError(f"The split's classes must be things of the pocket world, but {strange[0]!r} is none.")
        sets, rows = self._sets(), []
        for number, (name, parts) in enumerate(STUDENTS.items()):
            report(name, number / len(STUDENTS))
            folder = out / name.partition(":")[0].replace(" ", "-")
            data = [sets[part] for part in parts]
            if not (folder / "segmenter").is_dir():
                train_segmenter(data, THINGS, folder, self.budget)
            student = SemanticDetector(str(folder / "segmenter"), self.budget.device)
            ious = iou_of_labels(student, THINGS, "val", self.budget.tested)
            means = [float(np.mean([ious[n] for n in names if n in ious])) for names in (split.seen, split.unseen)]
            rows.append(
                {"student": name, "pictures": sum(map(len, data)), "seen": means[0], "unseen": means[1],
                 "harmonic_mean": 2 * means[0] * means[1] / max(sum(means), 1e-9)}
            )  # fmt: skip
        table = {"split": split.name, "minutes": self.budget.minutes, "count": self.budget.tested, "rows": rows}
        write_whole(out / "table.json", as_json(table))
        write_whole(out / "table.md", as_markdown(table).encode())
        return table

    def _sets(self) -> dict[str, Masked]:
        (one, two), seen = synthetic_sets(self.data), find_split(self.split).seen
        real = real_scenes(replace(self.budget, size=one.images.shape[1]), seen)
        return {"one": one, "two": two, "real": Masked(real.images, numbers_of(seen)[real.labels])}


def synthetic_sets(data: Path) -> tuple[Masked, Masked]:
    """The pictures of a synthetic data set with one class, and those with two; labels are those of the world's things.

    Pictures with hardly any mask are left out: the module missed what they show.

    Raises:
        ValueError: there is no data set, a class is no thing of the world, or there is no picture of one of the two kinds.
    """
    if not (data / "annotations.json").is_file():
        raise ValueError(f"A finished data set must be in {data}, but it has no annotations.json: run `synthesize` first.")
    names = read_text(data / "labels.txt").splitlines()[1:]
    unknown = [name for name in names if name not in THINGS]
    if unknown:
        raise ValueError(f"The classes must be things of the pocket world, but {unknown[0]!r} is none.")
    numbers = numbers_of(names)
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {1: [], 2: []}
    for number in range(len(read_text(data / "ImageSets" / "Segmentation" / "train.txt").splitlines())):
        words, mask = read_json(prompt_path(data, number))["words"], read_mask(data, number)
        if np.mean(mask > 0) >= MASKED_SHARE:
            parts[len(words)].append((read_picture(data, number), numbers[mask]))
    if not parts[1] or not parts[2]:
        raise ValueError(f"The data set {data} must hold masked pictures of one class and of two, but it lacks one kind.")
    one, two = (Masked(*(np.stack(column) for column in zip(*pairs, strict=True))) for pairs in parts.values())
    return one, two


def numbers_of(names: Sequence[str]) -> UInt8[np.ndarray, " labels"]:
    """A table from labels of these names to labels of all things; 0 is the background in both."""
    return np.array([0, *(THINGS.index(name) + 1 for name in names)], np.uint8)


def as_markdown(table: Mapping[str, Any]) -> str:
    """The table for people, in percent."""
    figures = ("seen", "unseen", "harmonic_mean")
    rows = tuple((row["student"], row["pictures"], *(f"{row[key]:.1%}" for key in figures)) for row in table["rows"])
    return (
        f"Split {table['split']}, {table['minutes']:g} minutes of training each, tested on {table['count']} real pocket-val"
        " scenes; mean IoU of the things.\n\n"
    ) + Table(("student", "pictures", "seen", "unseen", "harmonic mean"), rows, {}).markdown()
