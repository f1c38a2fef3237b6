"""Figures of masks that are already written, by whatever program: no network is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.evaluation.datasets import Dataset, Sample
from ovseg.files import as_json, write_whole
from ovseg.maths.overlap import IGNORED, confusion, dataset_miou, image_miou, iou_per_label, pixel_accuracy
from ovseg.pictures import read_values
from ovseg.progress import Report, silent
from ovseg.types import BACKGROUND


@dataclass(frozen=True)
class WrittenMasks:
    """Masks of the first `count` samples of a data set, a file NAME.png for each in a folder.

    Pixels hold the data set's labels: 0 is background, k the k-th class. Where the data set does not score background,
    pixels of background count as none of the classes.
    """

    dataset: Dataset
    folder: Path
    count: int

    def table(self, out: Path, report: Report = silent) -> dict[str, Any]:
        """Write `table.json` and `table.md` and return the table.

        Raises:
            ValueError: a mask is missing, has another size than its picture, or holds a label that does not exist.
        """
        size, matrices = len(self.dataset.classes()) + 1, []
        for index in range(self.count):
            report(f"{self.dataset.name} {index + 1}/{self.count}", index / self.count)
            sample = self.dataset.sample(index)
            matrices.append(confusion(self._truth(sample), self._mask(sample), size))
        total = np.sum(matrices, axis=0)
        scored = np.arange(size) >= (0 if self.dataset.background == "scored" else 1)
        labels = (BACKGROUND, *(word.name for word in self.dataset.classes()))
        ious = iou_per_label(total)
        table = {
            "dataset": self.dataset.name, "count": self.count, "masks": self.folder.name,
            "miou": dataset_miou(total, scored), "mean_image_miou": float(np.nanmean([image_miou(one) for one in matrices])),
            "pixel_accuracy": pixel_accuracy(total),
            "iou": {
                label: float(value) for label, value, counts in zip(labels, ious, scored, strict=True)
                if counts and not np.isnan(value)
            },
        }  # fmt: skip
        write_whole(out / "table.json", as_json(table))
        write_whole(out / "table.md", written_markdown(table).encode())
        return table

    def _truth(self, sample: Sample) -> UInt8[np.ndarray, "H W"]:
        return (
            sample.labels if self.dataset.background != "ignored" else np.where(sample.labels == 0, IGNORED, sample.labels)
        )

    def _mask(self, sample: Sample) -> UInt8[np.ndarray, "H W"]:
        path = self.folder / f"{sample.name}.png"
        if not path.is_file():
            raise ValueError(f"The mask of {sample.name} must be {path}, but there is no such file.")
        mask = read_values(path, f"The mask {path}", sample.labels.shape)
        if mask.max() > (most := len(self.dataset.classes())):
            raise ValueError(f"The mask {path} must hold labels of 0 to {most}, but holds {mask.max()}.")
        return mask


def written_markdown(table: Mapping[str, Any]) -> str:
    """The table as Markdown, in percent."""
    lines = [
        f"Masks of the folder {table['masks']} on {table['dataset']}, {table['count']} pictures.", "",
        "| dataset mIoU | mean per-image mIoU | pixel accuracy |", "|---|---|---|",
        f"| {table['miou']:.1%} | {table['mean_image_miou']:.1%} | {table['pixel_accuracy']:.1%} |", "",
        "| label | IoU |", "|---|---|", *(f"| {label} | {value:.1%} |" for label, value in table["iou"].items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
