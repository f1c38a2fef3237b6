"""Metrics from confusion matrices. Rows are the truth, columns the prediction; pixels of 255 in the truth are left out."""

import numpy as np
from jaxtyping import Float, Int64, Integer

IGNORED = 255


def confusion(
    truth: Integer[np.ndarray, "H W"], predicted: Integer[np.ndarray, "H W"], count: int
) -> Int64[np.ndarray, "k k"]:
    """Pixels of each true label by predicted label.

    Args:
        count: number of labels; every value but `IGNORED` must be below it.

    Raises:
        ValueError: the maps differ in shape, or hold a label that does not exist.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"The prediction must have the truth's shape {truth.shape}, but got {predicted.shape}.")
    counted = truth != IGNORED
    true, guess = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    highest = max(true.max(initial=0), guess.max(initial=0))
    if highest >= count:
        raise ValueError(f"Labels must be below {count}, but got {highest}.")
    return np.bincount(true * count + guess, minlength=count * count).reshape(count, count)


def iou_per_label(matrix: Integer[np.ndarray, "k k"]) -> Float[np.ndarray, "k"]:
    """Intersection over union of each label; NaN for a label that neither truth nor prediction has."""
    intersection = np.diagonal(matrix).astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - intersection
    return np.divide(intersection, union, out=np.full(len(matrix), np.nan), where=union > 0)


def dataset_miou(matrices: Integer[np.ndarray, "n k k"]) -> float:
    """The standard mIoU: counts summed over all pictures, IoU per label, mean over the labels that occur."""
    return float(np.nanmean(iou_per_label(matrices.sum(0))))


def mean_image_miou(matrices: Integer[np.ndarray, "n k k"]) -> float:
    """The per-image metric of FreeSeg-Diff's code: mean IoU over the labels of a picture's truth, then over pictures."""
    per_image = [iou_per_label(matrix)[matrix.sum(1) > 0].mean() for matrix in matrices if matrix.any()]
    return float(np.mean(per_image))


def pixel_accuracy(matrices: Integer[np.ndarray, "n k k"]) -> float:
    """Share of counted pixels whose label is right."""
    total = matrices.sum(0)
    return float(np.trace(total) / total.sum())
