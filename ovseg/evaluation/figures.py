"""The figures of a data set's confusion matrices, alike for a method's masks and for masks that are written already."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from ovseg.evaluation.datasets import Dataset, Sample
from ovseg.maths.overlap import IGNORED, dataset_miou, iou_per_label, pixel_accuracy
from ovseg.output.tables import Table
from ovseg.types import BACKGROUND
from ovseg.words.classes import ClassWord


def counted(dataset: Dataset, sample: Sample) -> UInt8[np.ndarray, "H W"]:
    """The truth of a sample, without background where the data set ignores it."""
    if dataset.background != "ignored":
        return sample.labels
    return np.where(sample.labels == 0, np.uint8(IGNORED), sample.labels)


def figures_of(
    dataset: Dataset, classes: Sequence[ClassWord], total: Integer[np.ndarray, "k k"], per_image: Sequence[float]
) -> dict[str, Any]:
    """Dataset mIoU, mean per-image mIoU, pixel accuracy, and IoU by label; background counts where the data set scores it.

    Args:
        total: the confusion matrix of all pictures.
        per_image: the mean IoU of each; NaN where it holds nothing that counts.
    """
    scored = np.arange(len(total)) >= (0 if dataset.background == "scored" else 1)
    labels = (BACKGROUND, *(word.name for word in classes))
    ious = zip(labels, iou_per_label(total), scored, strict=True)
    return {
        "miou": dataset_miou(total, scored), "mean_image_miou": float(np.nanmean(per_image)),
        "pixel_accuracy": pixel_accuracy(total),
        "iou": {label: float(value) for label, value, counts in ious if counts and not np.isnan(value)},
    }  # fmt: skip


def figures_markdown(table: Mapping[str, Any]) -> str:
    """Such figures as two tables in Markdown, in percent."""
    figures = tuple(f"{table[key]:.1%}" for key in ("miou", "mean_image_miou", "pixel_accuracy"))
    whole = Table(("dataset mIoU", "mean per-image mIoU", "pixel accuracy"), (figures,), {})
    each = Table(("label", "IoU"), tuple((label, f"{value:.1%}") for label, value in table["iou"].items()), {})
    return f"{whole.markdown()}\n{each.markdown()}"
