import io

import numpy as np
import pytest
from PIL import Image

from ovseg.output import view
from ovseg.types import Claims, Evidence, Segmentation


def segmentation(scores: list) -> Segmentation:
    values = np.array(scores, np.float32)
    image = np.full((*values.shape[1:], 3), 100, np.uint8)
    return Segmentation(image, ("background", "cat", "dog")[: len(values)], values, threshold=0.5)


TWO = segmentation([[[0.5, 0.5, 0.5]], [[0.9, 0.2, 0.1]], [[0.1, 0.8, 0.2]]])


def test_colours_differ_for_as_many_labels_as_a_picture_may_have() -> None:
    colours = view.palette(60)
    assert len({tuple(c) for c in colours.tolist()}) == 60
    assert colours[0].tolist() == [0, 0, 0]
    assert np.array_equal(view.palette(10), colours[:10])


def test_overlay_mixes_class_colours_and_leaves_background() -> None:
    colours = view.palette(3).astype(float)
    out = view.overlay(TWO, opacity=0.5)
    assert out[0, 2].tolist() == [100, 100, 100]
    assert np.allclose(out[0, 0], (100 + colours[1]) / 2, atol=1)
    assert view.overlay(TWO, hidden={"cat"})[0, 0].tolist() == [100, 100, 100]
    assert np.array_equal(view.overlay(TWO, opacity=0), TWO.image)


def test_legend_says_what_covers_how_much() -> None:
    assert [(e["label"], round(e["share"], 3)) for e in view.legend(TWO)] == [
        ("background", 0.333),
        ("cat", 0.333),
        ("dog", 0.333),
    ]


def test_indexed_png_holds_label_indices() -> None:
    picture = Image.open(io.BytesIO(view.indexed_png(TWO.label_map, 3)))
    assert picture.mode == "P" and np.asarray(picture).tolist() == [[1, 2, 0]]


def test_heat_goes_from_dark_to_bright() -> None:
    colours = view.heat(np.array([[0.0, 5.0, 10.0]])).astype(int).sum(-1)[0]
    assert colours[0] < colours[1] < colours[2]
    assert (view.heat(np.full((2, 2), 3.0)) == view.heat(np.zeros((2, 2)))).all()


def test_heat_overlay_has_the_pictures_shape() -> None:
    image = np.zeros((30, 50, 3), np.uint8)
    out = view.heat_overlay(image, np.eye(4, 6))
    assert out.shape == image.shape and out.dtype == np.uint8


@pytest.mark.parametrize("x, y, place", [(0.0, 0.0, 0), (0.99, 0.1, 1), (0.4, 1.0, 2), (1.0, 1.0, 3)])
def test_affinity_is_read_at_the_point(x: float, y: float, place: int) -> None:
    rows = np.eye(4, dtype=np.float16).reshape(2, 2, 2, 2)
    seen = view.affinity_at(Evidence("a", "affinity", map=rows), x, y)
    assert seen.ravel().tolist() == [float(k == place) for k in range(4)]


def test_points_outside_and_other_evidence_are_refused() -> None:
    with pytest.raises(ValueError, match="within the picture"):
        view.affinity_at(Evidence("a", "affinity", map=np.zeros((2, 2, 2, 2))), 1.5, 0)
    with pytest.raises(ValueError, match='must be an "affinity" map'):
        view.affinity_at(Evidence("a", "heat", map=np.zeros((2, 2))), 0.5, 0)


def test_contact_sheet_holds_pictures_of_any_shape() -> None:
    sheet = view.contact_sheet([np.zeros((10, 40, 3), np.uint8)] * 5, ["a very long caption " * 9] * 5, columns=3, cell=64)
    assert sheet.shape == (2 * (16 + 20 + 8) + 8, 3 * 72 + 8, 3)


@pytest.mark.parametrize("kind, picture", [("heat", True), ("regions", True), ("images", True), ("affinity", False)])
def test_evidence_becomes_a_picture_if_it_is_one(kind: str, picture: bool) -> None:
    image = np.zeros((8, 12, 3), np.uint8)
    map_ = np.arange(6).reshape(2, 3) if kind == "regions" else np.random.default_rng(0).random((2, 3))
    shown = view.evidence_picture(Evidence("a", kind, map=map_, images=(image,)), image)
    assert (shown is not None) == picture


def test_claims_of_a_point_come_with_their_place_lit() -> None:
    places = (np.array([[True, False], [False, False]]), np.array([[False, False], [False, True]]))
    pictures = (np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 3), 100, np.uint8))
    nearest = np.array([[[0, 1], [1, 0]]])
    claims = Claims(nearest, np.array([[[0.9, 0.2], [0.8, 0.1]]]), ("cat, mean", "dog, part 2"), pictures, (0, 1), places)
    (first, title), (second, _) = view.claims_at(claims, 0.9, 0.5)
    assert title == "dog, part 2: 0.800" and first[3, 3, 0] == 100 and first[0, 0, 0] == 25 and second[0, 0, 0] == 200
    with pytest.raises(ValueError, match="must lie within the picture"):
        view.claims_at(claims, 1.5, 0)
