"""The board: what Python packs for it, and what headless Chromium makes of that."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ovseg.demo.board import STEPS, board_picture, board_value, done, score_steps, two_best, waiting
from ovseg.types import Segmentation
from tests.board_page import LABELS, by_itself, by_threshold, picture


def pixels_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def unpacked(entry: dict, name: str) -> tuple[np.ndarray, np.ndarray]:
    pixels = pixels_of(entry[name]).astype(int)
    return pixels[..., 0], pixels[..., 1] * 256 + pixels[..., 2]


@pytest.mark.parametrize("own", [0.5, 0.4, 0.0, 1.0, 0.12345])
def test_a_packed_map_parts_at_every_threshold_as_the_scores_do(own: float) -> None:
    segmentation = by_threshold(40, 60, 0.0, own)
    labels, steps = unpacked(done("a", "A", segmentation), "best")
    for threshold in (own, *(k / 100 for k in range(101)), 0.333):
        expected = segmentation.with_threshold(threshold).label_map
        assert np.array_equal(np.where(steps > round(threshold * STEPS), labels, 0), expected), threshold


def test_scores_on_the_threshold_itself_are_background() -> None:
    scores = np.array([[[0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.7]]], np.float32)
    steps = score_steps(scores, 0.0, 1.0, 0.3)
    assert (steps > round(0.3 * STEPS)).tolist() == [[[False, True, True]]]


def test_a_background_with_its_own_score_is_packed_with_the_scores_range() -> None:
    segmentation = by_itself(40, 60)
    entry = done("a", "A", segmentation)
    labels, steps = unpacked(entry, "best")
    assert entry["threshold"] is None and np.array_equal(labels, segmentation.label_map)
    scores = entry["low"] + (entry["high"] - entry["low"]) * steps / STEPS
    assert np.abs(scores - segmentation.scores.max(0)).max() < 1e-4
    runner_up, steps = unpacked(entry, "runner_up")
    order = (-segmentation.scores).argsort(0, kind="stable")
    assert np.array_equal(runner_up, order[1])
    scores = entry["low"] + (entry["high"] - entry["low"]) * steps / STEPS
    assert np.abs(scores - np.take_along_axis(segmentation.scores, order[1:2], 0)[0]).max() < 1e-4


def test_one_class_over_a_threshold_has_no_runner_up() -> None:
    segmentation = Segmentation(picture(8, 12), ("background", "cat"), np.zeros((2, 8, 12), np.float32), threshold=0.5)
    assert done("a", "A", segmentation)["runner_up"] is None
    assert two_best(segmentation)[0].tolist() == np.ones((1, 8, 12)).tolist()


def test_the_legend_is_the_words_asked_for_and_then_what_was_found_besides() -> None:
    scene = board_picture(picture(40, 60), LABELS)
    value = board_value(scene, [waiting("w", "W", 3.0), done("a", "A", by_itself(40, 60))], "run")
    assert [item["label"] for item in value["legend"]] == [*LABELS, "sky"]
    assert value["asked"] == 4 and value["legend"][0]["hatch"] is None
    assert len({item["colour"] for item in value["legend"]}) == 5


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: board_picture(picture(4, 6), ("cat",)), "must begin with 'background'"),
        (lambda: board_picture(picture(4, 6), LABELS, np.zeros((6, 4), np.uint8)), r"shape \(4, 6\), but got \(6, 4\)"),
        (lambda: board_picture(picture(4, 6), LABELS, np.full((4, 6), 9, np.uint8)), r"below 4, or 255, but it holds \[9\]"),
        (lambda: board_value(board_picture(picture(4, 6), LABELS), [waiting("a", "A"), waiting("a", "B")], "r"), "once"),
        (lambda: score_steps(np.zeros((1, 2, 2), np.float32), 0.0, 1.0, 1.5), "between 0 and 1, but got 1.5"),
    ],
)
def test_what_does_not_fit_is_said(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
