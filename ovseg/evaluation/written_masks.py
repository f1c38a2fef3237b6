"""Figures of masks that are already written, by whatever program: no network is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg.evaluation.datasets import Dataset, Sample
from ovseg.evaluation.figures import counted, figures_markdown, figures_of
from ovseg.files import as_json, write_whole
from ovseg.maths.overlap import confusion, image_miou
from ovseg.pictures import read_values
from ovseg.progress import Report, silent


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
        classes, matrices = self.dataset.classes(), []
        for index in range(self.count):
            report(f"{self.dataset.name} {index + 1}/{self.count}", index / self.count)
            sample = self.dataset.sample(index)
            matrices.append(confusion(counted(self.dataset, sample), self._mask(sample), len(classes) + 1))
        figures = figures_of(self.dataset, classes, np.sum(matrices, axis=0), [image_miou(one) for one in matrices])
        table = {"dataset": self.dataset.name, "count": self.count, "masks": self.folder.name, **figures}
        write_whole(out / "table.json", as_json(table))
        write_whole(out / "table.md", written_markdown(table).encode())
        return table

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
    first = f"Masks of the folder {table['masks']} on {table['dataset']}, {table['count']} pictures."
    return f"{first}\n\n{figures_markdown(table)}"
