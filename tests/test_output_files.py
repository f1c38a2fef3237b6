import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy.ndimage import gaussian_filter

from ovseg.compare import read_legend
from ovseg.files import run_folder
from ovseg.methods import DiffSegmenter, FreeSegDiff, GroundedDiffusion, Method, OVDiff
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.coco import annotations_of, coco_file, polygons, rle
from ovseg.output.files import PARTS, Result, files_of, slug, zip_of
from ovseg.output.run_card import weights_of
from ovseg.types import Evidence, EvidenceOnDemand, Neighbours, Segmentation
from tests.networks import with_traits

LABELS = ("background", "traffic light", "Zebra/foal", "cat")


def evidence() -> tuple[Evidence, ...]:
    rng = np.random.default_rng(1)
    picture, places = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (np.eye(2, dtype=bool), ~np.eye(2, dtype=bool))
    neighbours = Neighbours(
        np.zeros((2, 3, 1), int), np.full((2, 3, 1), 0.5, np.float32), ("cat, mean", "cat, 1"), (picture,), (0, 0), places
    )
    return (
        Evidence("cat: fused", "heat", map=rng.random((4, 6)).astype(np.float32), group="Fused", label="cat"),
        Evidence("looks", "images", images=(picture, picture[:3])),
        Evidence("nearest", "neighbours", neighbours=neighbours),
    )


def result(seed: int = 0) -> Result:
    """A picture that is not square, with classes in islands and with holes; the zebra is found nowhere."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    scores = np.stack([gaussian_filter(rng.random((40, 56)), 2) for _ in LABELS]).astype(np.float32)
    scores[2] = 0
    made = Segmentation(image, LABELS, scores, on_demand=EvidenceOnDemand(evidence), threshold=0.5)
    return Result(made, {"seed": 3, "method": {"name": "none"}})


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_every_file_holds_the_same_pixels() -> None:
    given = result()
    label_map, files = given.segmentation.label_map, dict(files_of(given))
    assert sorted(np.unique(label_map)) == [0, 1, 3]
    assert np.array_equal(np.asarray(opened(files["mask.png"])), label_map)
    assert np.array_equal(np.asarray(opened(files["picture.png"])), given.segmentation.image)
    assert np.array_equal(np.asarray(opened(files["overlay.png"])), view.overlay(given.segmentation))
    assert sorted(name for name in files if name.startswith("classes/")) == [
        "classes/01-traffic-light.png",
        "classes/03-cat.png",
    ]
    for label, name in ((1, "01-traffic-light"), (3, "03-cat")):
        inside = label_map == label
        assert np.array_equal(np.asarray(opened(files[f"classes/{name}.png"])), inside)
        cut = np.asarray(opened(files[f"cutouts/{name}.png"]))
        assert np.array_equal(cut[..., 3], np.where(inside, 255, 0))
        assert np.array_equal(cut[inside][:, :3], given.segmentation.image[inside]) and not cut[~inside].any()
    with np.load(io.BytesIO(files["scores.npz"])) as kept:
        assert np.array_equal(kept["scores"].argmax(0), label_map) and kept["scores"].dtype == np.float32
        assert kept["labels"].tolist() == list(LABELS) and kept["threshold"] == 0.5 and "argmax" in str(kept["README"])
    assert json.loads(files["run.json"]) == given.card


def write_files(given: Result, folder: Path, parts: tuple[str, ...] = ("masks",)) -> list[Path]:
    with run_folder(folder) as run:
        return run.write(files_of(given, parts))


def test_pycocotools_reads_both_coco_files(tmp_path: Path) -> None:
    given = result()
    label_map = given.segmentation.label_map
    write_files(given, tmp_path, ("coco",))
    for name in ("coco.json", "coco-polygons.json"):
        coco = COCO(tmp_path / name)
        assert coco.imgs[1] | {"id": 0} == {"id": 0, "file_name": "picture.png", "height": 40, "width": 56}
        assert {c["id"]: c["name"] for c in coco.dataset["categories"]} == dict(list(enumerate(LABELS))[1:])
        assert [item["category_id"] for item in coco.dataset["annotations"]] == [1, 3]
        for item in coco.dataset["annotations"]:
            inside = label_map == item["category_id"]
            assert np.array_equal(coco.annToMask(item), inside) and item["area"] == inside.sum()
            rows, columns = np.nonzero(inside)
            left, top, width, height = item["bbox"]
            assert (left, left + width) == (columns.min(), columns.max() + 1)
            assert (top, top + height) == (rows.min(), rows.max() + 1)


@pytest.mark.parametrize("seed", range(12))
def test_polygons_and_run_lengths_are_exactly_the_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 2).tolist())
    noise = rng.random(shape)
    inside = noise > 0.45 if seed % 2 else gaussian_filter(noise, 1.5) > 0.5
    inside[0, 0] = True
    assert np.array_equal(coco_mask.decode(rle(inside)), inside)
    found = polygons(inside)
    back = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(found, *shape)))
    assert np.array_equal(back.astype(bool), inside)


def test_a_polygon_runs_along_the_edges_of_pixels() -> None:
    inside = np.zeros((4, 6), bool)
    inside[1:3, 2:5] = True
    assert polygons(inside) == [[2, 1, 5, 1, 5, 3, 2, 3]]
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    (with_hole,) = polygons(ring)
    assert with_hole[:10] == [0, 0, 3, 0, 3, 3, 0, 3, 0, 0] and with_hole[-2:] == [0, 0]
    corner = np.eye(2, dtype=bool)
    assert polygons(corner) == [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]
    assert polygons(np.zeros((2, 2), bool)) == []


def test_one_coco_file_numbers_the_annotations_of_several_pictures() -> None:
    maps = [np.array([[0, 1], [2, 2]], np.uint8), np.array([[2]], np.uint8)]
    made = coco_file([("a.png", maps[0]), ("b.png", maps[1])], ("background", "cat", "dog"))
    assert [(a["id"], a["image_id"], a["category_id"]) for a in made["annotations"]] == [(1, 1, 1), (2, 1, 2), (3, 2, 2)]
    assert [(i["id"], i["file_name"], i["height"], i["width"]) for i in made["images"]] == [
        (1, "a.png", 2, 2), (2, "b.png", 1, 1),
    ]  # fmt: skip
    assert annotations_of(maps[0], 7, 9)[0]["id"] == 9


def test_evidence_is_kept_with_a_reading_help() -> None:
    given = result()
    with np.load(io.BytesIO(dict(files_of(given, ("evidence",)))["evidence.npz"])) as kept:
        items = given.segmentation.evidence
        assert kept["titles"].tolist() == [item.title for item in items] == ["cat: fused", "looks", "nearest"]
        assert kept["kinds"].tolist() == ["heat", "images", "neighbours"] and kept["labels"].tolist() == ["cat", "", ""]
        assert np.array_equal(kept["000_map"], items[0].map)
        assert np.array_equal(kept["001_image_1"], items[1].images[1])
        assert np.array_equal(kept["002_nearest"], items[2].neighbours.nearest)
        assert np.array_equal(kept["002_places_1"], items[2].neighbours.places[1])
        assert kept["002_titles"].tolist() == ["cat, mean", "cat, 1"] and kept["002_picture_of"].tolist() == [0, 0]
        assert "NNN_map" in str(kept["README"])


def test_folder_and_zip_hold_the_same_files(tmp_path: Path) -> None:
    given = result()
    written = write_files(given, tmp_path, ("all",))
    with zipfile.ZipFile(io.BytesIO(zip_of(given, ("all",)))) as archive:
        assert sorted(archive.namelist()) == sorted(str(path.relative_to(tmp_path)) for path in written)
        for path in written:
            if path.suffix != ".npz":  # which keeps the hour
                assert archive.read(str(path.relative_to(tmp_path))) == path.read_bytes()
        assert archive.testzip() is None
    assert {path.name for path in written} >= {"README.txt", "run.json", "coco.json", "evidence.npz", "legend.json"}


def test_a_zip_of_several_results_has_a_folder_for_each() -> None:
    with zipfile.ZipFile(io.BytesIO(zip_of({"1-one": result(), "2-two": result(1)}, ("masks",)))) as archive:
        names = set(archive.namelist())
        first, second = (np.asarray(opened(archive.read(f"{folder}/mask.png"))) for folder in ("1-one", "2-two"))
    assert names == {
        f"{folder}/{name}"
        for folder in ("1-one", "2-two")
        for name in ("overlay.png", "mask.png", "legend.json", "run.json", "README.txt")
    }
    assert np.array_equal(second, result(1).segmentation.label_map) and not np.array_equal(first, second)


def test_colours_of_files_follow_the_common_list(tmp_path: Path) -> None:
    given = result()
    order = ("background", "cat", "dog", "traffic light", "Zebra/foal")
    write_files(Result(given.segmentation, {}, order), tmp_path)
    mask = Image.open(tmp_path / "mask.png")
    assert np.array_equal(np.asarray(mask), given.segmentation.label_map)
    assert read_legend(tmp_path / "legend.json") == dict(enumerate(LABELS))
    expected = view.palette_for(given.segmentation.image, 5)[[0, 3, 4, 1]]
    assert mask.getpalette()[:12] == expected.ravel().tolist()
    colours = [entry["colour"] for entry in json.loads((tmp_path / "legend.json").read_text())]
    assert colours == ["#" + bytes(colour).hex() for colour in expected]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "overlay.png")), view.overlay(given.segmentation, order=order))


def test_scores_as_pictures_of_16_bits() -> None:
    given = result()
    scores, files = given.segmentation.scores(), dict(files_of(given, ("score-pictures",)))
    ends = json.loads(files["scores/range.json"])
    for number, name in enumerate(("00-background", "01-traffic-light", "02-zebra-foal", "03-cat")):
        picture = opened(files[f"scores/{name}.png"])
        assert picture.mode == "I;16" and picture.size == (56, 40)
        step = (ends["65535"] - ends["0"]) / 65535
        assert np.abs(ends["0"] + np.asarray(picture) * step - scores[number]).max() < 0.51 * step


def test_only_what_is_asked_for_is_made() -> None:
    for part in PARTS:
        names = [name for name, _ in files_of(result(), (part,))]
        assert names[-2:] == ["run.json", "README.txt"] and len(names) > 2
    with pytest.raises(
        ValueError, match="files must be one of masks, classes, cutouts, coco, scores, score-pictures, evidence, but got"
    ):
        list(files_of(result(), ("magic",)))


def test_names_become_parts_of_file_names() -> None:
    assert slug("DiffSegmenter, draws 2") == "diffsegmenter-draws-2" and slug("Zebra/foal: ..") == "zebra-foal"


@pytest.mark.parametrize(
    "method, networks",
    [
        (DiffSegmenter(), ()),
        (DiffSegmenter(continued=True), ("captioner",)),
        (OVDiff(), ("clip", "dino")),
        (FreeSegDiff(), ("clip", "captioner")),
        (FreeSegDiff(features="dino"), ("clip", "captioner", "dino")),
        (GroundedDiffusion(), ("grounding",)),
    ],
)
def test_the_card_names_the_weights_of_every_network_that_ran(
    with_clip: Models, method: Method, networks: tuple[str, ...]
) -> None:
    own = {"clip": with_clip.clip, "dino": with_clip.dino, "captioner": with_clip.captioner()}
    own["grounding"] = with_clip.grounding("S1")
    assert weights_of(with_clip, method) == {"backbone": with_clip.backbone.fingerprint} | {
        name: own[name].fingerprint for name in networks
    }
    assert len({network.fingerprint for network in own.values()}) == 4


def test_a_captioner_counts_where_it_was_asked(with_clip: Models) -> None:
    fresh = with_traits(with_clip)
    assert set(weights_of(fresh, FreeSegDiff())) == {"backbone", "clip"}  # nothing was captioned: not loaded for its name
    expected = fresh.captioner().fingerprint
    assert weights_of(fresh, DiffSegmenter(), "")["captioner"] == weights_of(fresh, FreeSegDiff())["captioner"] == expected
    assert "captioner" not in weights_of(fresh, DiffSegmenter())
