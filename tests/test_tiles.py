"""Large pictures in tiles: blended without seams, and what a tile does not hold is not found in it."""

from dataclasses import replace

import numpy as np
import pytest

from ovseg.methods import DiffSegmenter, suited_to
from ovseg.methods.tiles import blended, boxes_of, in_range_of, in_tiles, looked_at_hw, rows_of_labels, window
from ovseg.models import Models
from ovseg.progress import Report, silent
from ovseg.scene import from_image
from ovseg.types import Scene, Segmentation
from ovseg.words.classes import parse_classes

LABELS = ("background", "red", "green")
PICTURE = np.zeros((70, 150, 3), np.uint8)
PICTURE[10:30, 120:140] = 255, 0, 0


def by_colour(scene: Scene, report: Report = silent) -> Segmentation:
    """Scores that are the colours of the picture."""
    report("looking", 0.5)
    scores = np.stack([np.full(scene.image.shape[:2], 0.5), *(scene.image[..., k] / 255 for k in range(2))])
    return Segmentation(scene.image, LABELS, scores.astype(np.float32), timings={"looking": 1.0}, threshold=0.5)


def stretched(scene: Scene, report: Report = silent) -> Segmentation:
    """The same, each class stretched to 0 ... 1 over the picture; with a little noise, which then is all there is."""
    noise = np.random.default_rng(0).random(scene.image.shape[:2]) / 100
    made = by_colour(scene)
    rows = [(row + noise - (row + noise).min()) / np.ptp(row + noise) for row in made.scores()[1:]]
    return replace(made, own=np.stack([made.scores()[0], *rows]).astype(np.float32))


def test_tiles_cover_the_picture_and_overlap(models: Models) -> None:
    boxes = boxes_of((70, 150), 64)
    counts = np.zeros((70, 150), int)
    for box in boxes:
        counts[box] += 1
    assert len(boxes) == 6 and counts.min() == 1 and counts.max() == 4
    assert [(rows.stop, columns.stop) for rows, columns in boxes] == [(h, w) for h in (64, 70) for w in (64, 112, 150)]
    assert looked_at_hw((70, 150), 64, stretched=True) == [(70, 150), *[(64, 64)] * 6]
    assert looked_at_hw((70, 150), 64, stretched=False) == [(64, 64)] * 6
    assert looked_at_hw((20, 150), 64, stretched=False)[0] == (20, 64)
    assert looked_at_hw((70, 150), 150, stretched=True) == looked_at_hw((70, 150), 0, stretched=True) == [(70, 150)]
    with pytest.raises(ValueError, match="side of 32 pixels or more, but got 31"):
        in_tiles(models, by_colour, from_image(models, PICTURE), side=31)


def test_one_tile_is_the_picture_itself(models: Models) -> None:
    method, scene, classes = DiffSegmenter(), from_image(models, PICTURE), parse_classes("cat, dog")
    whole = method.segment(models, scene, classes)
    assert np.array_equal(replace(method, tile_side=150).segment(models, scene, classes).scores(), whole.scores())
    assert not np.array_equal(replace(method, tile_side=100).segment(models, scene, classes).scores(), whole.scores())


def test_scores_that_know_no_place_come_back_as_they_are(models: Models) -> None:
    """Blending weighs: what each tile says of a pixel alike is what comes of it, and a class in one tile is found there."""
    shares: list[float] = []
    made = in_tiles(models, by_colour, from_image(models, PICTURE), lambda _, share: shares.append(share), side=64)
    plain = by_colour(from_image(models, PICTURE))
    assert np.allclose(made.scores(), plain.scores(), atol=1e-6) and made.threshold == 0.5
    assert np.array_equal(made.label_map, plain.label_map) and (made.label_map == 1).sum() == 400
    assert made.timings == {"looking": 6.0} and shares == sorted(shares) and len(shares) == 6
    (tiles,) = made.evidence
    assert tiles.map.shape == (70, 150) and set(np.unique(tiles.map)) == set(range(6)) and tiles.map[0, 0] == 0


def test_edges_are_smooth() -> None:
    """Two tiles that disagree: from one to the other the score rises without a step."""
    boxes = [(slice(0, 40), slice(0, 40)), (slice(0, 40), slice(30, 70))]
    scores, most = blended((1, 40, 70), boxes, [np.zeros((1, 40, 40), np.float32), np.ones((1, 40, 40), np.float32)])
    row = scores[0, 20]
    assert (row[:30] == 0).all() and (row[40:] == 1).all() and np.diff(row).min() >= 0 and np.diff(row).max() < 0.25
    assert (most[:, :35] == 0).all() and (most[:, 35:] == 1).all()
    assert window(5, 9).min() > 0 and window(5, 9).argmax() == 2 * 9 + 4


def test_a_stretched_class_is_found_only_where_the_whole_picture_has_it(models: Models) -> None:
    scene = from_image(models, PICTURE)
    alone = in_tiles(models, stretched, scene, side=64).label_map
    assert (alone[:, :60] > 0).any()  # noise, stretched to 0 ... 1 in tiles without anything
    made = in_tiles(models, stretched, scene, side=64, stretched=True)
    assert np.array_equal(made.label_map == 1, stretched(scene).label_map == 1)
    assert made.timings == {"looking": 7.0}
    flat, own = np.full((1, 4, 6), 0.25, np.float32), np.random.default_rng(1).random((1, 4, 6), np.float32)
    assert (in_range_of(own, flat) == 0.25).all() and (in_range_of(flat, own) == own.min()).all()
    assert np.allclose([in_range_of(own, 2 * own).min(), in_range_of(own, 2 * own).max()], [2 * own.min(), 2 * own.max()])


def test_a_word_that_one_tile_alone_names_has_a_row(models: Models) -> None:
    def naming(scene: Scene, report: Report = silent) -> Segmentation:
        made = by_colour(scene)
        if not scene.image.any():
            return made
        extra = np.concatenate([made.scores(), 2 * made.scores()[1:2]])
        return Segmentation(scene.image, (*LABELS, "rose"), extra, threshold=0.5)

    shifted = replace(by_colour(from_image(models, PICTURE)), own=by_colour(from_image(models, PICTURE)).scores() + 2)
    assert (rows_of_labels(shifted, ("rose",)) == 2).all()  # as sure as what is surely not there
    made = in_tiles(models, naming, from_image(models, PICTURE), side=64)
    assert made.labels == (*LABELS, "rose")
    assert np.array_equal(made.label_map == 3, PICTURE[..., 0] > 0)


def test_methods_say_whether_they_stretch(models: Models) -> None:
    from ovseg.methods import METHODS

    assert {kind.name for kind in METHODS if suited_to(models, kind).stretched} == {
        "diffsegmenter", "goca", "iseg", "fa-seg", "seg4diff",
    }  # fmt: skip
