"""Overlap of masks and boxes around them, worked out by hand; the metrics of confusion matrices are in test_evaluation."""

import numpy as np
import pytest

from ovseg.maths.maps import box_of
from ovseg.maths.overlap import confusion, iou


def test_iou_worked_out_by_hand() -> None:
    one, other = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    one[1:3, 1:5] = True  # 8 pixels
    other[2:4, 2:5] = True  # 6 pixels, 3 of them shared
    assert iou(one, other) == iou(other, one) == 3 / 11
    assert iou(one, one) == 1 and iou(one, ~one) == 0
    assert iou(np.zeros((2, 3), bool), np.zeros((2, 3), bool)) == 0


def test_rows_of_a_confusion_matrix_are_the_truth_and_255_is_not_counted() -> None:
    truth = np.array([[0, 1, 1], [2, 255, 255]], np.uint8)
    predicted = np.array([[0, 2, 1], [2, 0, 2]], np.uint8)
    assert confusion(truth, predicted, 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="Labels must be below 2, but got 2"):
        confusion(truth, predicted, 2)
    with pytest.raises(ValueError, match=r"must have the truth's shape \(2, 3\), but got \(3, 2\)"):
        confusion(truth, predicted.T, 3)


def test_a_box_is_rows_then_columns() -> None:
    inside = np.zeros((5, 9), bool)
    inside[1, 7] = inside[3, 2] = True
    assert box_of(inside) == (slice(1, 4), slice(2, 8))
    assert inside[box_of(np.zeros((5, 9), bool))].size == 0
