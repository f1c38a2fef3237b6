"""How well masks and label maps agree: the IoU of two masks, and the metrics of a confusion matrix.

Rows of a confusion matrix are the true labels, columns the predicted ones; pixels of 255 in the truth are not counted. Row
and column 0 belong to the background. A protocol that does not score the background leaves row 0 empty, and its IoU must
then not be averaged: the argument `scored` says which labels are.
"""

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

IGNORED = 255


def iou(one: Bool[np.ndarray, "*shape"], other: Bool[np.ndarray, "*shape"]) -> float:
    """Intersection over union of two masks, 0 to 1; 0 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def confusion(
    truth: Integer[np.ndarray, "H W"], predicted: Integer[np.ndarray, "h w"], count: int
) -> Int64[np.ndarray, "k k"]:
    """The confusion matrix of one picture: how many pixels of each true label have each predicted label.

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


def iou_per_label(matrix: Integer[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """Intersection over union of each label; NaN for a label that neither truth nor prediction has."""
    intersection = np.diagonal(matrix).astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - intersection
    return np.divide(intersection, union, out=np.full(len(matrix), np.nan), where=union > 0)


def dataset_miou(total: Integer[np.ndarray, "k k"], scored: Bool[np.ndarray, " k"] | None = None) -> float:
    """The standard mIoU: of all pictures' summed counts, the mean IoU over the labels that occur, or over some of them."""
    ious = iou_per_label(total)
    return float(np.nanmean(ious if scored is None else ious[scored]))


def image_miou(matrix: Integer[np.ndarray, "k k"]) -> float:
    """Mean IoU over the labels of one picture's truth; NaN where nothing is counted.

    Its mean over pictures is the metric of FreeSeg-Diff's code, and not comparable to `dataset_miou`.
    """
    present = matrix.sum(1) > 0
    return float(iou_per_label(matrix)[present].mean()) if present.any() else float("nan")


def pixel_accuracy(total: Integer[np.ndarray, "k k"]) -> float:
    """Share of counted pixels whose label is right, of the sum of the pictures' matrices."""
    return float(np.trace(total) / total.sum())
