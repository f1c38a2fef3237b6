"""Protocol II of Grounded Diffusion in miniature: what a standard segmenter learns from generated pictures and masks.

A small UperNet is trained on a synthetic data set of all classes, on real pocket scenes of the seen classes, or on both,
and tested on real scenes with all classes: IoU of the seen, of the unseen, and their harmonic mean (the paper's table of
zero-shot segmentation, models A to D; it trains a MaskFormer).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovseg.factory.splits import seen_of, unseen_of
from ovseg.factory.synthesize import prompt_path, read_mask, read_picture
from ovseg.files import write_whole
from ovseg.pocket.train_segmenter import Masked, iou_of_things, real_scenes, train_segmenter
from ovseg.pocket.world import THINGS
from ovseg.pretrained.detector import SemanticDetector
from ovseg.progress import Report, silent

STUDENTS = {  # what each is trained on: synthetic pictures of one class, of two, and real ones of the seen classes
    "A: synthetic, one object": ("one",),
    "B: synthetic, two objects": ("two",),
    "C: synthetic, both": ("one", "two"),
    "D: real seen + synthetic": ("one", "two", "real"),
    "real seen alone": ("real",),
}
MASKED_SHARE = 0.01  # of a picture, that has to be a class for the picture to teach


@dataclass(frozen=True)
class ZeroShot:
    """The five students of one class split.

    Args:
        data: a folder that `synthesize` made, with masks of a module that was trained on this split.
        root: where the real scenes are rendered, and kept.
        minutes: of training, each student.
        count: real scenes of the test.
    """

    split: str
    data: Path
    root: Path
    minutes: float
    count: int = 256
    scenes: int = 24000
    device: str = "cpu"

    def run(self, out: Path, report: Report = silent) -> dict[str, Any]:
        """Train what is missing and test; writes `table.json` and `table.md`, and returns the table.

        Raises:
            ValueError: there is no such split, or the data set is not one of the pocket world's things.
        """
        seen, unseen, sets = seen_of(self.split), unseen_of(self.split), self._sets()
        rows = []
        for number, (name, parts) in enumerate(STUDENTS.items()):
            report(name, number / len(STUDENTS))
            folder = out / name.partition(":")[0].replace(" ", "-")
            data = [sets[part] for part in parts]
            if not (folder / "segmenter").is_dir():
                train_segmenter(data, THINGS, folder, self.minutes, self.device)
            found = iou_of_things(SemanticDetector(str(folder / "segmenter"), self.device), THINGS, "val", self.count)
            means = [float(np.mean([found[n] for n in names if n in found])) for names in (seen, unseen)]
            rows.append(
                {"student": name, "pictures": sum(map(len, data)), "seen": means[0], "unseen": means[1],
                 "harmonic_mean": 2 * means[0] * means[1] / max(sum(means), 1e-9)}
            )  # fmt: skip
        table = {"split": self.split, "minutes": self.minutes, "count": self.count, "rows": rows}
        write_whole(out / "table.json", (json.dumps(table, indent=2) + "\n").encode())
        write_whole(out / "table.md", as_markdown(table).encode())
        return table

    def _sets(self) -> dict[str, Masked]:
        (one, two), seen = synthetic_sets(self.data), seen_of(self.split)
        real = real_scenes(self.root, seen, self.scenes, one.images.shape[1])
        return {"one": one, "two": two, "real": Masked(real.images, numbers_of(seen)[real.labels])}


def synthetic_sets(data: Path) -> tuple[Masked, Masked]:
    """A synthetic data set with the world's things as labels: its pictures of one class, and those of two.

    Pictures whose masks are empty are left out: the module missed what they show.

    Raises:
        ValueError: there is none, a class is no thing of the world, or no picture teaches anything.
    """
    if not (data / "annotations.json").is_file():
        raise ValueError(f"A finished data set must be in {data}, but it has no annotations.json: run `synthesize` first.")
    names = (data / "labels.txt").read_text().splitlines()[1:]
    unknown = [name for name in names if name not in THINGS]
    if unknown:
        raise ValueError(f"The classes must be things of the pocket world, but {unknown[0]!r} is none.")
    numbers = numbers_of(names)
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {1: [], 2: []}
    for number in range(len((data / "ImageSets" / "Segmentation" / "train.txt").read_text().splitlines())):
        words, mask = json.loads(prompt_path(data, number).read_text())["words"], read_mask(data, number)
        if np.mean(mask > 0) >= MASKED_SHARE:
            parts[len(words)].append((read_picture(data, number), numbers[mask]))
    if not parts[1] or not parts[2]:
        raise ValueError(f"The data set {data} must hold masked pictures of one class and of two, but it lacks one kind.")
    one, two = (Masked(*(np.stack(column) for column in zip(*pairs, strict=True))) for pairs in parts.values())
    return one, two


def numbers_of(names: Sequence[str]) -> np.ndarray:
    """From labels of some names, 0 for the background, to labels of all things."""
    return np.array([0, *(THINGS.index(name) + 1 for name in names)], np.uint8)


def as_markdown(table: Mapping[str, Any]) -> str:
    """The table for people, in percent."""
    lines = [
        f"Split {table['split']}, {table['minutes']:g} minutes of training each, tested on {table['count']} real pocket-val"
        " scenes; mean IoU of the things.",
        "", "| student | pictures | seen | unseen | harmonic mean |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in table["rows"]:
        figures = " | ".join(f"{row[key]:.1%}" for key in ("seen", "unseen", "harmonic_mean"))
        lines.append(f"| {row['student']} | {row['pictures']} | {figures} |")
    return "\n".join(lines) + "\n"
