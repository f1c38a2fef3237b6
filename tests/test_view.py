import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.layer_attention import LayerAttention
from ovseg.output import view
from ovseg.types import Evidence, Neighbours, Segmentation
from tests.needs import need


def segmentation(scores: list) -> Segmentation:
    values = np.array(scores, np.float32)
    image = np.full((*values.shape[1:], 3), 100, np.uint8)
    return Segmentation(image, ("background", "cat", "dog")[: len(values)], values, threshold=0.5)


TWO = segmentation([[[0.5, 0.5, 0.5]], [[0.9, 0.2, 0.1]], [[0.1, 0.8, 0.2]]])


# What colour-blind eyes see of linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of
# Color Vision Deficiency", IEEE TVCG 15 (2009), severity 1.0.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])


def lab_of(colours: np.ndarray, vision: str) -> np.ndarray:
    """CIELAB (D65) of sRGB colours as this vision sees them."""
    srgb = colours / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(VISIONS[vision]).T).clip(0, 1)
    xyz = seen @ TO_XYZ.T / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


def least_distance(colours: np.ndarray, vision: str) -> float:
    lab = lab_of(colours.astype(float), vision)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
    return float(distances[np.triu_indices(len(colours), 1)].min())


def test_the_measure_of_colours_knows_black_white_and_confusion() -> None:
    assert least_distance(np.array([[0, 0, 0], [255, 255, 255]]), "normal") == pytest.approx(100, abs=0.1)
    red_and_olive = np.array([[163, 20, 20], [98, 90, 0]])
    assert least_distance(red_and_olive, "normal") > 3 * least_distance(red_and_olive, "deuteranopia")


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("labels, least", [(3, 55), (4, 33), (6, 20), (11, 15)])
def test_colours_are_told_apart_by_every_eye(vision: str, labels: int, least: float) -> None:
    # A difference of 2.3 is just noticed side by side (Mahy et al. 1994); background's black is among the labels.
    assert least_distance(view.palette(labels), vision) >= least


def test_colours_differ_for_as_many_labels_as_a_picture_may_have() -> None:
    colours = view.palette(255)
    assert len({tuple(c) for c in colours.tolist()}) == 255
    assert colours[0].tolist() == [0, 0, 0]
    assert np.array_equal(view.palette(10), colours[:10])


def test_after_ten_labels_the_lightness_changes() -> None:
    colours = view.palette(31)
    lightness = lab_of(colours.astype(float), "normal")[:, 0]
    assert (lightness[11:21] > lightness[1:11] + 1).all() and (lightness[21:31] < lightness[1:11] - 4).all()


def test_a_class_has_its_colour_and_hatching_whatever_the_order_of_labels() -> None:
    order = ("background", "dog", "bird", "cat")
    assert view.indices_in(order, TWO.labels).tolist() == [0, 3, 1]
    colours = view.palette_for(TWO.image, 4)
    assert [e["colour"] for e in view.legend(TWO, order)] == ["#" + bytes(colours[k]).hex() for k in (0, 3, 1)]
    out = view.overlay(TWO, opacity=1, order=order, outlined=False)
    assert out[0].tolist() == [colours[3].tolist(), colours[1].tolist(), [100, 100, 100]]
    with pytest.raises(ValueError, match="Each label must be one of background, cat, but got 'dog'"):
        view.indices_in(("background", "cat"), TWO.labels)


def test_hatching_tells_labels_apart_without_colours() -> None:
    lines = [view.hatch(label, (60, 80)) for label in range(10)]
    assert not lines[0].any() and np.array_equal(lines[9], lines[1])
    assert all(0.1 < one.mean() < 0.6 for one in lines[1:9])
    assert all((a != b).mean() > 0.1 for k, a in enumerate(lines[1:9]) for b in lines[k + 2 : 9])
    # 80 pixels: a line of 2 every 6. Label 1: x + y modulo 6; label 2: x - y; label 3: rows; label 4: columns.
    assert lines[1][0, :7].tolist() == [True] * 2 + [False] * 4 + [True] and lines[1][1, 5] and not lines[1][2, 0]
    assert lines[2][5, 5:11].tolist() == [True] * 2 + [False] * 4
    assert lines[3][:, 0].tolist() == [y % 6 < 2 for y in range(60)]
    assert lines[4][0].tolist() == [x % 6 < 2 for x in range(80)]
    assert view.hatch_size((300, 512)) == (14, 4) and view.hatch_size((2000, 100)) == (56, 14)


STATIC = Path(__file__).resolve().parents[1] / "ovseg" / "demo" / "static"


@pytest.mark.parametrize("longer", [90, 512])
def test_the_browser_draws_the_same_lines(tmp_path: Path, longer: int) -> None:
    need(shutil.which("node"), "Node", "apt-get install nodejs npm")
    for name in ("board-paint.js", "board-maps.js"):
        shutil.copy(STATIC / name, tmp_path / name)
    (tmp_path / "package.json").write_text('{"type": "module"}')  # so that node takes them as the browser does
    step, thick = view.hatch_size((longer // 2, longer))
    code = (
        f'import {{hatchTile}} from "./board-paint.js"; const hatches = [...Array({view.HATCHINGS}).keys()];'
        f"console.log(JSON.stringify(hatches.map((hatch) => [...hatchTile(hatch, [{step}, {thick}]).pixels])))"
    )
    (tmp_path / "print.js").write_text(code)
    done = subprocess.run(["node", "print.js"], cwd=tmp_path, capture_output=True, text=True, check=True)
    tiles = json.loads(done.stdout)
    assert len(tiles) == view.HATCHINGS
    for label, tile in enumerate(tiles, 1):
        ours = view.hatch(label, (2 * step, 2 * step), (step, thick))
        assert np.array_equal(np.array(tile, bool).reshape(2 * step, -1), ours), label


def test_overlay_draws_lines_on_demand() -> None:
    scores = np.zeros((3, 60, 80), np.float32)
    scores[1, :, :40], scores[0, :, 40:] = 1, 1
    half = segmentation(scores.tolist())
    plain, lined = (view.overlay(half, opacity=1, hatched=hatched, outlined=False) for hatched in (False, True))
    differs = (plain != lined).any(-1)
    assert np.array_equal(differs[:, :40], view.hatch(1, (60, 80))[:, :40]) and not differs[:, 40:].any()
    assert np.array_equal(view.overlay(half, hidden={"cat"}, hatched=True), half.image)
    brightness = lined[:, :40].astype(int).sum(-1)
    assert abs(int(brightness[differs[:, :40]].mean()) - int(brightness[~differs[:, :40]].mean())) > 90


def test_errors_are_coloured_over_a_grey_picture() -> None:
    image = np.full((1, 5, 3), (200, 100, 50), np.uint8)
    out = view.error_picture(image, np.array([[0, 1, 2, 3, 255]], np.uint8), opacity=1)
    assert np.array_equal(out[0, 1:4], view.ERROR_COLOURS[1:])
    assert out[0, 0].tolist() == out[0, 4].tolist() == [int((0.299 * 200 + 0.587 * 100 + 0.114 * 50) * 0.65)] * 3
    for vision in VISIONS:
        assert least_distance(view.ERROR_COLOURS, vision) > 20


def test_an_outline_is_the_edge_of_a_class_and_the_places_beside_it() -> None:
    labels = np.zeros((5, 6), int)
    labels[1:4, 1:4], labels[2, 4] = 2, 1
    edge, halo = view.outline(labels)
    assert edge.astype(int).tolist() == [[0] * 6, [0, 1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0], [0] * 6]
    assert halo.tolist() == [
        [0, 2, 2, 2, 0, 0],
        [2, 0, 0, 0, 2, 0],
        [2, 0, 0, 0, 0, 1],
        [2, 0, 0, 0, 2, 0],
        [0, 2, 2, 2, 0, 0],
    ]
    wide, _ = view.outline(np.pad(np.ones((500, 500), int), 50))
    assert wide.sum() == 500**2 - 496**2  # two pixels wide where the picture has 600


def test_colours_of_a_picture_lie_far_from_its_pixels_and_from_each_other() -> None:
    for colour in view.DISTINCT:
        image = np.full((40, 60, 3), colour, np.uint8)
        colours = view.palette_for(image, 4)
        assert list(colour) not in colours.tolist() and list(colour) == view.hues_for(image)[-1].tolist()
        assert least_distance(colours[1:], "normal") > 30
    assert sorted(view.hues_for(image).tolist()) == sorted(map(list, view.DISTINCT))


@pytest.mark.parametrize("label", range(1, 11))
def test_lines_stand_out_on_their_colour(label: int) -> None:
    colours = view.palette(11)[label : label + 1]
    both = np.concatenate([colours, view.hatch_colours(colours)])
    lightness = lab_of(both.astype(float), "normal")[:, 0]
    assert abs(lightness[0] - lightness[1]) > 20


def test_overlay_mixes_class_colours_and_leaves_background() -> None:
    colours = view.palette_for(TWO.image, 3).astype(float)
    out = view.overlay(TWO, opacity=0.5, outlined=False)
    assert out[0, 2].tolist() == [100, 100, 100]
    assert np.allclose(out[0, 0], (100 + colours[1]) / 2, atol=1)
    assert view.overlay(TWO, hidden={"cat"})[0, 0].tolist() == [100, 100, 100]
    assert np.array_equal(view.overlay(TWO, opacity=0, outlined=False), TWO.image)


def test_legend_says_what_covers_how_much() -> None:
    assert [(e["label"], round(e["share"], 3)) for e in view.legend(TWO)] == [
        ("background", 0.333),
        ("cat", 0.333),
        ("dog", 0.333),
    ]


def test_indexed_png_holds_label_indices() -> None:
    picture = Image.open(io.BytesIO(view.indexed_png(TWO.label_map, view.palette(3))))
    assert picture.mode == "P" and np.asarray(picture).tolist() == [[1, 2, 0]]


def test_a_mark_is_a_square_around_its_place() -> None:
    white = view.marked(np.zeros((65, 129, 3), np.uint8), 0.5, 0.25).all(-1)
    assert white[14:19, 62:67].all() and np.count_nonzero(white) == 25


def test_heat_goes_from_dark_to_bright_and_lies_over_a_picture() -> None:
    colours = view.heat(np.array([[0.0, 5.0, 10.0]])).astype(int).sum(-1)[0]
    assert colours[0] < colours[1] < colours[2]
    assert (view.heat(np.full((2, 2), 3.0)) == view.heat(np.zeros((2, 2)))).all()
    assert (view.heat(np.arange(len(view.HEAT))[None])[0] == view.HEAT).all()
    image = np.zeros((30, 50, 3), np.uint8)
    out = view.heat_overlay(image, np.eye(4, 6))
    assert out.shape == image.shape and out.dtype == np.uint8


@pytest.mark.parametrize("x, y, place", [(0.0, 0.0, 0), (0.99, 0.1, 1), (0.4, 1.0, 2), (1.0, 1.0, 3)])
def test_affinity_is_read_at_the_point(x: float, y: float, place: int) -> None:
    seen = view.affinity_at(Evidence("a", "affinity", affinity=to_itself()), x, y)
    assert seen.ravel().tolist() == [float(k == place) for k in range(4)]


def to_itself() -> LayerAttention:
    """Two rows of two places, each of which attends to itself alone."""
    own = torch.eye(4)[None, None]
    return LayerAttention(200 * own, own, (2, 2))


def test_points_outside_and_other_evidence_are_refused() -> None:
    with pytest.raises(ValueError, match="within the picture"):
        view.affinity_at(Evidence("a", "affinity", affinity=to_itself()), 1.5, 0)
    with pytest.raises(ValueError, match='must be an "affinity" map'):
        view.affinity_at(Evidence("a", "heat", map=np.zeros((2, 2))), 0.5, 0)


def test_contact_sheet_holds_pictures_of_any_shape() -> None:
    sheet = view.contact_sheet([np.zeros((10, 40, 3), np.uint8)] * 5, ["a very long caption " * 9] * 5, columns=3, cell=64)
    assert sheet.shape == (2 * (16 + 20 + 8) + 8, 3 * 72 + 8, 3)
    grey = view.contact_sheet([np.full((16, 64, 3), 10 * k, np.uint8) for k in range(1, 6)], columns=3, cell=64)
    corners = [(8 + 24 * row, 8 + 72 * column) for row in range(2) for column in range(3)]
    assert [[*np.unique(grey[y : y + 16, x : x + 64])] for y, x in corners] == [[10], [20], [30], [40], [50], [255]]


def test_oklab_knows_the_primaries_as_published() -> None:
    red, green, blue = (0.628, 0.2249, 0.1258), (0.8664, -0.2339, 0.1795), (0.452, -0.0325, -0.3115)
    white, primaries = view._oklab(np.full((1, 3), 255)), view._oklab(255 * np.eye(3))
    assert np.allclose(white, [[1, 0, 0]], atol=1e-3) and np.allclose(primaries, [red, green, blue], atol=2e-3)


@pytest.mark.parametrize("kind, picture", [("heat", True), ("regions", True), ("images", True), ("affinity", False)])
def test_evidence_becomes_a_picture_if_it_is_one(kind: str, picture: bool) -> None:
    image = np.zeros((8, 12, 3), np.uint8)
    map_ = np.arange(6).reshape(2, 3) if kind == "regions" else np.random.default_rng(0).random((2, 3))
    shown = view.evidence_picture(Evidence("a", kind, map=map_, images=(image,)), image)
    assert (shown is not None) == picture


def test_neighbours_of_a_point_come_with_their_place_lit() -> None:
    places = (np.array([[True, False], [False, False]]), np.array([[False, False], [False, True]]))
    pictures = (np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 3), 100, np.uint8))
    nearest = np.array([[[0, 1], [1, 0]]])
    neighbours = Neighbours(
        nearest, np.array([[[0.9, 0.2], [0.8, 0.1]]]), ("cat, mean", "dog, part 2"), pictures, (0, 1), places
    )
    (first, title), (second, _) = view.neighbours_at(neighbours, 0.9, 0.5)
    assert title == "dog, part 2: 0.800" and first[3, 3, 0] == 100 and first[0, 0, 0] == 25 and second[0, 0, 0] == 200
    with pytest.raises(ValueError, match="must lie within the picture"):
        view.neighbours_at(neighbours, 1.5, 0)
