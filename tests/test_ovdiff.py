"""OVDiff on tiny networks of random weights: its offline steps by hand, the store, and the whole of it."""

import itertools
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.__main__ import main
from ovseg.backbones import counting
from ovseg.methods.ovdiff import cost, evidence, prefilter, support
from ovseg.methods.ovdiff.features import Extractor
from ovseg.methods.ovdiff.matching import PrototypeTable, Source, sources_of
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.methods.ovdiff.prefilter import Things, chosen_classes, which_are_stuff
from ovseg.methods.ovdiff.prototypes import _side, make_prototypes, prototypes_of, ship
from ovseg.methods.ovdiff.store import NOWHERE, Prototypes, Side, Store, SupportImage, Trimap, store_of
from ovseg.methods.ovdiff.support import LIKELY, UNLIKELY, masks_by_otsu, masks_by_proposals, stretched, two_thresholds
from ovseg.methods.ovdiff.word_folder import describe, read
from ovseg.models import Models
from ovseg.pocket.world import scene
from ovseg.progress import StoppedError
from ovseg.types import Scene
from ovseg.words.classes import parse_classes
from ovseg.words.stuff import is_stuff
from tests.networks import stop_at, with_folder


def test_it_asks_for_the_networks_that_its_settings_read(models: Models) -> None:
    asked = {
        (masks, extractors): sorted(OVDiff(masks=masks, extractors=extractors, prefilter=False).helpers(models))
        for masks in ("otsu", "maskcut") for extractors in (("diffusion",), ("diffusion", "dino"), ("clip",))
    }  # fmt: skip
    assert list(asked.values()) == [[], ["dino"], ["clip"], ["dino"], ["dino"], ["clip", "dino"]]


SMALL = OVDiff(images=3, steps=1, parts=2, masks="otsu", sites="0, 2-3", short_side=0, windows=())
CLASSES = parse_classes("cat, dog, sky")


@pytest.fixture(scope="module")
def drawn(with_clip: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with what is made of some classes: read, and not changed."""
    models = with_folder(with_clip, tmp_path_factory.mktemp("drawn"))
    for word in ("cat", "dog", "sky", "bus"):
        make_prototypes(models, SMALL, word)
    return models.prototype_folders[0]


@pytest.fixture
def models(with_store: Models, drawn: Path) -> Models:
    """The tiny networks with a copy of that store."""
    shutil.copytree(drawn, with_store.prototype_folders[0])
    return with_store


def features_of(models: Models, settings: OVDiff, name: str, image: np.ndarray, seed: int) -> torch.Tensor:
    (features,) = Extractor.of(models, settings, name).features([image], seed)
    return features


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((10, 12), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_the_best_proposal_is_foreground_and_the_worst_with_pixels_left_is_background() -> None:
    attribution = np.full((10, 12), 0.1)
    attribution[2:6, 2:6], attribution[8:, :] = 0.9, 0.3
    found = masks_by_proposals([box(2, 2, 6, 6), box(3, 3, 5, 5), box(8, 0, 10, 12)], attribution)
    # The inner box is as good as the outer one, which comes first; what no mask covers is worst.
    assert np.array_equal(found.foreground, box(2, 2, 6, 6))
    rest = ~(box(2, 2, 6, 6) | box(8, 0, 10, 12))
    assert found.background.any() and not (found.background & ~rest).any() and found.background.sum() < rest.sum()
    nothing = masks_by_proposals([], attribution)
    assert np.array_equal(nothing.foreground, attribution > LIKELY)
    assert np.array_equal(nothing.background, attribution < UNLIKELY)
    everything = masks_by_proposals([np.ones((10, 12), bool)], attribution)
    assert everything.foreground.all() and not everything.background.any()


def test_thresholds_part_three_heaps() -> None:
    rng = np.random.default_rng(0)
    heaps = [rng.normal(middle, 0.03, 400).clip(0, 1) for middle in (0.1, 0.5, 0.9)]
    low, high = two_thresholds(np.concatenate(heaps))
    assert 0.18 < low < 0.42 and 0.57 < high < 0.82
    assert two_thresholds(np.zeros(9)) == (UNLIKELY, LIKELY)
    values = rng.random(300)
    low, high = two_thresholds(values)
    edges = np.linspace(0, 1, 65)
    centres = (np.digitize(values, edges[1:-1]) + 0.5) / 64

    def spread(first: float, second: float) -> float:
        parts = (centres[centres < first], centres[(centres >= first) & (centres < second)], centres[centres >= second])
        return sum(part.var() * len(part) for part in parts if len(part))

    best = min(spread(*pair) for pair in itertools.combinations(edges[1:-1], 2))
    assert spread(low, high) == pytest.approx(best)
    masks = masks_by_otsu([heaps[0].reshape(20, 20), heaps[2].reshape(20, 20)])
    assert masks[0].background.mean() > 0.4 and not masks[0].foreground.any() and masks[1].foreground.mean() > 0.4


def test_attribution_is_stretched_to_the_picture() -> None:
    grown = stretched(np.array([[0.2, 0.4], [0.3, 0.2]], np.float16), (8, 6))
    assert grown.shape == (8, 6) and grown.min() == 0 and grown.max() == 1 and grown[0, -1] == 1
    assert not stretched(np.full((2, 2), 0.3, np.float16), (4, 4)).any()


def test_prototypes_are_means_of_places_of_pictures_and_of_clusters() -> None:
    torch.manual_seed(0)
    features = [torch.randn(5, 4, 6) for _ in range(3)]
    inside = np.zeros((4, 6), bool)
    inside[1:3, 1:4] = True
    nothing = np.zeros((4, 6), bool)
    masks = [Trimap(inside, nothing), Trimap(nothing, inside), Trimap(~inside, nothing)]
    made = prototypes_of(iter(features), masks, parts=2)
    first, third = features[0][:, 1:3, 1:4].flatten(1).T, features[2][:, ~torch.from_numpy(inside)].T
    rows = torch.cat([first, third])
    vectors = torch.from_numpy(made.foreground.vectors.astype(np.float32))
    expected = torch.stack([rows.mean(0), first.mean(0), third.mean(0)])
    assert vectors.shape == (5, 5) and torch.allclose(vectors[:3], expected, atol=1e-3)
    assert made.foreground.pictures[1:3].tolist() == [0, 2] and made.foreground.parts == 2
    regions = made.foreground.regions
    assert (regions[1] == NOWHERE).all() and set(np.unique(regions[0])) <= {0, 1, NOWHERE}
    for row in (3, 4):
        place, picture = made.foreground.places_at(row), made.foreground.pictures[row]
        assert place.any() and (regions[picture][place] == made.foreground.part_at(row)).all()
        everywhere = torch.cat([f[:, torch.from_numpy(r == row - 3)].T for f, r in zip(features, regions, strict=True)])
        assert torch.allclose(vectors[row], everywhere.mean(0), atol=1e-3)
    assert made.foreground.part_at(2) is None and (made.foreground.places_at(1) == inside).all()
    assert set(made.background.pictures.tolist()) == {1}  # a picture without foreground gives background, too
    skipped = prototypes_of(iter(features), masks, parts=2, skip_empty=True)
    assert skipped.background.vectors.shape == (0, 5)


def side(seed: int) -> Side:
    rng = np.random.default_rng(seed)
    return Side(
        rng.normal(size=(4, 3)).astype(np.float16), np.array([0, 0, 1, 1], np.int32), 1,
        rng.integers(0, 2, (2, 3, 3), dtype=np.uint8),
    )  # fmt: skip


def test_a_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    store, made_by = Store(tmp_path / "s"), {"images": 2, "windows": [1, 2]}
    assert store.read_pictures("cat", made_by) == () and store.read_masks("cat", made_by) is None
    pictures = [SupportImage(scene("val", k, 64).image, np.full((4, 4), k, np.float16)) for k in range(3)]
    store.add_pictures("cat", made_by, pictures[:2])
    store.add_pictures("cat", made_by, pictures[2:])
    assert all(
        np.array_equal(a.image, b.image) and np.array_equal(a.attribution, b.attribution)
        for a, b in zip(store.read_pictures("cat", made_by), pictures, strict=True)
    )
    mask = Trimap(box(0, 0, 3, 3), box(6, 6, 9, 9))
    store.write_masks("cat", made_by, [mask])
    assert np.array_equal(store.read_masks("cat", made_by)[0].background, mask.background)
    kept = Prototypes(side(0), side(1))
    store.write_prototypes("cat", "dino", made_by, kept)
    again = store.read_prototypes("cat", "dino", made_by)
    for name in ("vectors", "pictures", "regions", "parts"):
        assert np.array_equal(getattr(again.background, name), getattr(kept.background, name))
    assert store.read_prototypes("cat", "clip", made_by) is None and store.read_prototypes("dog", "dino", made_by) is None
    assert store.read_prototypes("cat", "dino", made_by | {"images": 3}) is None
    assert [header["kind"] for _, header in store.files()] == ["dino", "masks", "pictures"]
    assert Store(tmp_path / "other", shipped=tmp_path / "s").read_masks("cat", made_by) is not None
    assert not list(tmp_path.rglob("*.partial"))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    store, made_by = Store(tmp_path), {"images": 2}
    store.write_prototypes("cat", "dino", made_by, Prototypes(side(0), side(1)))
    ((path, _),) = store.files()
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        store.read_prototypes("cat", "dino", made_by)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="content was changed"):
        store.read_prototypes("cat", "dino", made_by)
    path.write_bytes(whole.replace(b"ovseg prototypes 1", b"ovseg prototypes 0"))
    with pytest.raises(ValueError, match="must be of the format 'ovseg prototypes 1', but are of 'ovseg prototypes 0'"):
        describe(path)
    path.write_bytes(whole)
    assert read(path) and describe(path)["word"] == "cat"
    with pytest.raises(ValueError, match="but their word is another"):
        read(path, {"word": "dog"})


def test_segmenting_makes_prototypes_once(with_store: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[str] = []
    result = SMALL.segment(with_store, wide, CLASSES, lambda stage, share: stages.append(stage))
    assert result.labels == ("background", "cat", "dog", "sky") and result.scores().shape == (4, 80, 128)
    assert result.threshold is None and np.isfinite(result.scores()).all() and result.scores().max() <= 1 + 1e-5
    assert any(stage.startswith("class 2 of 3, image 1 to 3 of 3") for stage in stages)
    monkeypatch.setattr(type(with_store.backbone), "generate", lambda *_, **__: pytest.fail("pictures are drawn again"))
    again = SMALL.segment(with_store, wide, CLASSES)
    assert np.array_equal(result.scores(), again.scores())
    neighbours = next(item.neighbours for item in result.evidence if item.kind == "neighbours")
    assert neighbours.nearest.shape == neighbours.closeness.shape and neighbours.nearest.max() < len(neighbours.titles)
    assert (np.diff(neighbours.closeness, axis=-1) <= 1e-6).all()
    assert len(neighbours.titles) == len(neighbours.picture_of) == len(neighbours.places) == neighbours.nearest.max() + 1
    assert max(neighbours.picture_of) < len(neighbours.pictures) and all(place.any() for place in neighbours.places)
    with_pamr = replace(SMALL, refinement="pamr").segment(with_store, wide, CLASSES)
    assert with_pamr.scores().shape == result.scores().shape and not np.array_equal(with_pamr.scores(), result.scores())


def test_of_many_classes_only_what_is_nearest_somewhere_is_kept(
    models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "SHEETS", 1)
    method = replace(SMALL, extractors=("dino",), prefilter=False)
    sheet, nearest = method.segment(models, wide, CLASSES).evidence
    assert (sheet.kind, nearest.kind) == ("images", "neighbours")
    neighbours = nearest.neighbours
    assert set(neighbours.picture_of) == set(range(len(neighbours.pictures)))
    most = sheet.label
    shares = [np.isin(neighbours.nearest, [k for k, t in enumerate(neighbours.titles) if t.startswith(word)]).sum()
              for word in ("cat", "dog", "sky")]  # fmt: skip
    assert ("cat", "dog", "sky")[int(np.argmax(shares))] == most


def test_a_stopped_build_goes_on_where_it_was(with_store: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "BATCH", 1)
    with pytest.raises(StoppedError):
        make_prototypes(with_store, SMALL, "cat", stop_at("image 3", StoppedError))
    settings = SMALL.made_by(with_store, "pictures")
    begun = store_of(with_store).read_pictures("cat", settings)
    assert len(begun) == 2
    stages: list[str] = []
    make_prototypes(with_store, SMALL, "cat", lambda stage, share: stages.append(stage))
    assert not any(stage.startswith(("image 1 ", "image 2 ")) for stage in stages)
    assert np.array_equal(store_of(with_store).read_pictures("cat", settings)[1].image, begun[1].image)
    fewer = make_prototypes(with_store, replace(SMALL, images=2), "cat")
    assert fewer["dino"].foreground.regions.shape[0] == 2


def test_what_ships_takes_no_drawing_and_still_shows_its_pictures(
    models: Models, wide: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = replace(SMALL, prefilter=False)
    drawn = method.segment(models, wide, CLASSES)
    shown = drawn.evidence
    folder = tmp_path / "shipped"
    words = [phrase for cls in CLASSES for phrase in cls.phrases]
    ship(models, method, ["tree"], folder)
    ship(models, method, words, folder)
    kinds = [(header["word"], header["kind"]) for _, header in Store(folder).files()]
    assert sorted(kinds) == sorted((word, kind) for word in words for kind in (*method.extractors, "sheet"))
    models.prototype_folders = (tmp_path / "empty", folder)
    monkeypatch.setattr(type(models.backbone), "generate", lambda *_, **__: pytest.fail("pictures are drawn"))
    result = method.segment(models, wide, CLASSES)
    assert np.array_equal(result.scores(), drawn.scores()) and not (tmp_path / "empty").exists()
    assert [item.title for item in result.evidence] == [item.title for item in shown]
    for ours, exact in zip(result.evidence, shown, strict=True):
        for a, b in zip(ours.images, exact.images, strict=True):
            assert a.shape == b.shape and np.abs(a.astype(int) - b).mean() < 12
            assert ((a == 0).all(-1) == (b == 0).all(-1)).mean() > 0.9
        if ours.neighbours:
            assert all(np.array_equal(a, b) for a, b in zip(ours.neighbours.places, exact.neighbours.places, strict=True))


def test_support_images_are_shown_where_their_masks_are_gone(models: Models, wide: Scene) -> None:
    result = replace(SMALL, prefilter=False).segment(models, wide, CLASSES)
    for path in models.prototype_folders[0].glob("*.masks.safetensors"):
        path.unlink()
    assert [(item.kind, len(item.images)) for item in result.evidence if item.images] == [("images", 3)] * 3
    assert any(item.kind == "neighbours" for item in result.evidence)
    drawn = store_of(models).read_pictures("sky", SMALL.made_by(models, "pictures"))
    sky = next(item for item in result.evidence if item.label == "sky")
    assert all(np.array_equal(ours, exact.image) for ours, exact in zip(sky.images, drawn, strict=True))


def test_regions_that_were_kept_before_they_were_packed_are_read(tmp_path: Path) -> None:
    store, kept = Store(tmp_path), Prototypes(side(0), side(1))
    packed = read(store.write_prototypes("cat", "dino", {}, kept))
    older = {name: tensor for name, tensor in packed.items() if not name.endswith("shape")}
    older |= {f"{name}/regions": getattr(kept, name).regions for name in ("foreground", "background")}
    store.write("cat", "dino", {}, older)
    assert np.array_equal(store.read_prototypes("cat", "dino", {}).background.regions, kept.background.regions)


def ground(*vectors: tuple[float, float]) -> Side:
    """Prototypes in two dimensions: their mean, the first picture's, and the rest are parts."""
    rows = np.array(vectors, np.float16)
    return Side(rows, np.zeros(len(rows), np.int32), max(len(rows) - 2, 0), np.zeros((1, 1, 1), np.uint8))


def test_nearest_prototypes_worked_out_by_hand() -> None:
    """Prototypes of any length against four places: the highest cosine of each class, and of all backgrounds."""
    sources = [
        Source(0, "cat", 0, "foreground", ground((3, 4), (30, 40), (np.inf, 1))),
        Source(1, "sky", 1, "foreground", ground((0, -7))),
        Source(2, "dog", 2, "foreground", ground((-2, 0))),
        Source(0, "cat", 0, "background", ground((0.5, 0), (0.1, -2))),
        Source(2, "dog", 2, "background", ground((0, 9))),
    ]
    table = PrototypeTable.of(sources)
    assert table.labels.tolist() == [1, 1, 2, 3, 0, 0, 0]  # what half precision cannot hold is left out
    assert torch.allclose(table.vectors.norm(dim=1), torch.ones(7))
    places = torch.tensor([[[5.0, 0.0, 0.0, -3.0]], [[0.0, 0.2, -1.0, 4.0]]])  # east, north, south, and (-0.6, 0.8)
    best = table.best_of_each(places, 3)[:, 0]
    south = 2 / np.hypot(0.1, 2)
    expected = [[1, 1, south, 0.8], [0.6, 0.8, -0.8, 0.28], [0, -1, 1, -0.8], [-1, 0, 0, 0.6]]
    assert np.allclose(best, expected, atol=1e-3)
    # Sky is stuff: the cat's background that points south as the sky does is left out, and nothing else.
    seen = table.without_hidden_stuff((False, True, False), 0.85)
    assert seen.labels.tolist() == [1, 1, 2, 3, 0, 0]
    assert np.allclose(seen.best_of_each(places, 3)[0, 0], [1, 1, 0, 0.8], atol=1e-3)
    assert table.without_hidden_stuff((False, False, True), 0.85).labels.tolist() == table.labels.tolist()
    # Of sky and dog alone: the dog is the second label, and the cat's background is not there.
    few = table.of_classes((1, 2), 3)
    assert few.labels.tolist() == [1, 2, 0] and [source.phrase for source, _ in few.origin] == ["sky", "dog", "dog"]
    assert PrototypeTable.of(sources, means_only=True).labels.tolist() == [1, 2, 3, 0, 0]


def test_what_prototypes_cost_is_said_in_minutes(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "cost_of", lambda *_: cost.BuildCost(1, 2, 3e12, 600.0))
    said = cost.build_cost(models, OVDiff(images=4), 5)
    assert said.startswith("5 classes of 4 images: 1 rows") and "2 for features; 3.0 TFLOP, about 10.0 minutes on" in said


def test_the_mean_is_shown_by_the_picture_that_is_most_like_it() -> None:
    rows = [torch.tensor([[10.0, 1.0]]), torch.tensor([[1.0, 3.0]]).repeat(5, 1)]  # both means have cosines with all rows'
    inside = torch.tensor([[[True, False, False, False, False]], [[True] * 5]])
    side = _side(rows, inside, 2, by_library=False)
    assert side.pictures[:3].tolist() == [1, 0, 1] and sorted(side.pictures[3:].tolist()) == [0, 1]


def test_rows_of_prototypes_are_counted_from_one() -> None:
    side = Side(np.eye(5, dtype=np.float16), np.array([2, 1, 2, 1, 2], np.int32), 2, np.zeros((3, 1, 1), np.uint8))
    assert [side.kind_at(row) for row in range(5)] == ["mean", "picture 2", "picture 3", "part 1", "part 2"]


def test_what_a_place_is_nearest_to_has_rows_and_columns() -> None:
    """A picture that is wider than high: its places are asked for by row, then column."""
    cat = Side(np.eye(3, dtype=np.float16), np.array([1, 0, 1], np.int32), 1, np.array([[[0, 255]], [[255, 0]]], np.uint8))
    table = PrototypeTable.of([Source(4, "kitten", 2, "foreground", cat)])
    features = torch.zeros(3, 2, 4)
    features[2] = 7  # of any length
    features[:, 0, 1], features[:, 1, 3] = torch.tensor([0.96, 0, 0.28]), torch.tensor([0, 0.8, 0.6])
    nearest = evidence.Nearest.of(table, features)
    assert nearest.rows.shape == nearest.cosines.shape == (2, 4, 3)
    assert nearest.rows[0, 1].tolist() == [0, 2, 1] and nearest.rows[1, 3].tolist() == [1, 2, 0]
    assert nearest.rows[0, 0, 0] == nearest.rows[1, 2, 0] == 2 and nearest.cosines[1, 3, 0] == pytest.approx(0.8)
    assert nearest.times(5).tolist() == [0, 0, 0, 0, 24] and nearest.pictures() == [(4, 0), (4, 1)]
    pictures = {(4, k): np.full((2, 2, 3), k, np.uint8) for k in (0, 1)}
    neighbours = nearest.neighbours(pictures)
    assert neighbours.titles == ("kitten, mean", "kitten, picture 1", "kitten, part 1") and neighbours.picture_of == (
        1,
        0,
        1,
    )
    assert (
        neighbours.nearest[0, 1, 0] == 0
        and neighbours.nearest[1, 3, 0] == 1
        and neighbours.closeness[0, 1, 0] == pytest.approx(0.96)
    )
    assert [place.tolist() for place in neighbours.places] == [[[False, True]], [[True, False]], [[False, True]]]


def test_layers_are_those_that_are_named_in_the_order_of_the_names(models: Models, wide: Scene) -> None:
    """The features of several layers are those of each one after the other; the noise level and its seed decide them."""

    def features(sites: str, timestep: int = 200, seed: int = 0) -> torch.Tensor:
        return features_of(models, replace(SMALL, sites=sites, timestep=timestep), "diffusion", wide.image, seed)

    first, third = features("0"), features("2")
    assert torch.allclose(features("0, 2"), torch.cat([first, third]), atol=1e-5)
    assert torch.allclose(features("2, 0"), torch.cat([third, first]), atol=1e-5)
    assert not torch.allclose(first, features("0", timestep=20), atol=1e-3)
    assert not torch.allclose(first, features("0", seed=1), atol=1e-3)


def table_of(models: Models, method: OVDiff, stuff: tuple[bool, ...] = (False,) * 3, asked: tuple[int, ...] = (0, 1, 2)):
    """The table of DINO's prototypes of `CLASSES`, or of those of them that are asked for."""
    prototypes = [make_prototypes(models, method, word.name) for word in CLASSES]
    sources = sources_of("dino", prototypes, [word.name for word in CLASSES], range(3))
    return method.table([source for source in sources if source.owner in asked], stuff)


def backgrounds_of(table: PrototypeTable) -> set[int]:
    """The classes whose background is in a table."""
    return {source.owner for source, _ in table.origin if source.ground == "background"}


def test_few_cosines_at_once_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(23, 6, generator=rng), torch.arange(23) * 4 // 23
    source = Source(0, "cat", 0, "foreground", ground((1, 0)))
    table = PrototypeTable(torch.nn.functional.normalize(rows, dim=1), labels.roll(6), tuple((source, k) for k in range(23)))
    features = torch.randn(6, 4, 5, generator=rng)
    cosines = torch.einsum("nd,dyx->nyx", table.vectors, torch.nn.functional.normalize(features, dim=0))
    monkeypatch.setattr("ovseg.methods.ovdiff.matching.MOST_COSINES", 7 * 20)  # seven of the rows at all places
    by_class = torch.stack([cosines[table.labels == label].amax(0) for label in range(4)])
    assert torch.allclose(table.best_of_each(features, 3), by_class, atol=1e-6)
    numbers, values = table.nearest(features, 5)
    expected = cosines.topk(5, 0)
    assert torch.equal(numbers, expected.indices) and torch.allclose(values, expected.values, atol=1e-6)


def test_stuff_gives_no_background_and_takes_what_looks_like_it(models: Models) -> None:
    assert which_are_stuff(models, CLASSES) == (False, False, True)
    plain = table_of(models, replace(SMALL, stuff_filter=False), (False, False, True))
    assert backgrounds_of(plain) == {0, 1}
    first = table_of(models, replace(SMALL, stuff_filter=False), (True, False, False))
    assert backgrounds_of(first) == {1, 2}
    filtered = table_of(models, replace(SMALL, stuff_cosine=-1.0), (False, False, True))
    assert not (filtered.labels == 0).any() and (filtered.labels > 0).sum() == (plain.labels > 0).sum()
    means = table_of(models, replace(SMALL, kinds="mean", stuff_filter=False))
    assert len(means.labels) <= 6 and not (table_of(models, replace(SMALL, background="none")).labels == 0).any()


def test_words_outside_the_table_are_what_the_nearest_word_is(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_stuff("sky") and is_stuff("Cat") is False and is_stuff("gizmo") is None
    assert which_are_stuff(models, parse_classes("cat, gizmo"))[0] is False
    # The first phrase that the table holds decides, wherever it stands.
    assert which_are_stuff(models, parse_classes("gizmo|sky|cat, widget|dog|grass")) == (True, False)
    monkeypatch.setattr(prefilter, "STUFF", frozenset({"gizmo", "slime"}))
    monkeypatch.setattr(prefilter, "THINGS", frozenset({"widget", "gadget"}))
    assert which_are_stuff(models, parse_classes("gizmo, widget, slime")) == (True, False, True)


def test_clip_chooses_the_subset_whose_words_fit_best(models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = parse_classes("cat, dog, sky, bus, house, person, flower, sheep, bicycle")
    stuff = tuple(word.name == "sky" for word in classes)
    chosen = chosen_classes(models, wide.image, classes, stuff, Things.of(models, classes, stuff))
    assert 2 in chosen and len(chosen) >= 2
    seen, things = models.clip.image_embeddings([wide.image])[0], [k for k in range(9) if k != 2]

    def fit(text: str) -> float:
        return float(models.clip.text_embeddings([text])[0] @ seen)

    likely = torch.tensor([fit(f"a {classes[k].name}") for k in things]).softmax(0)
    passed = [k for k, p in zip(things, likely, strict=True) if p >= 1 / 8]
    assert len(passed) >= 3
    subsets = [s for size in range(1, len(passed) + 1) for s in itertools.combinations(passed, size)]
    best = max(subsets, key=lambda s: fit(" and ".join(f"a {classes[k].name}" for k in s)))
    assert chosen == tuple(sorted({*best, 2}))
    # A class goes by its best phrase: one that fits less beside it changes nothing, in either order.
    fillers = ("train", "apple", "bottle", "tree", "boat")
    least = min(fillers, key=lambda word: fit(f"a {word}"))
    assert all(fit(f"a {least}") < fit(f"a {classes[k].name}") for k in best)
    plain, sentences = models.clip.subset_embeddings, []
    monkeypatch.setattr(models.clip, "subset_embeddings", lambda texts: (sentences.extend(texts), plain(texts))[1])
    for pair in ("{0}|{1}", "{1}|{0}"):
        words = [pair.format(least, word.name) if k == best[0] else word.name for k, word in enumerate(classes)]
        renamed = parse_classes(", ".join(words))
        assert chosen_classes(models, wide.image, renamed, stuff, Things.of(models, renamed, stuff)) == chosen
    assert sentences and not any(least in sentence for sentence in sentences)


def test_kept_subsets_choose_as_those_that_are_encoded(models: Models, wide: Scene) -> None:
    classes = parse_classes("cat|kitten, dog, sky, bus, house|cottage")
    stuff = tuple(word.name == "sky" for word in classes)
    kept = Things.of(models, classes, stuff)
    assert len(kept.subsets) == 3 * 2 * 2 * 3 - 1
    for prompt in ("a cat", "a kitten and a bus", "a cat and a dog and a bus and a cottage"):
        assert torch.allclose(kept.subsets[prompt], models.clip.text_embeddings([prompt])[0], atol=1e-5)
    for index in range(3):
        image = scene("val", index).image
        chosen = chosen_classes(models, image, classes, stuff, kept)
        assert chosen == chosen_classes(models, image, classes, stuff, Things(kept.rows, {}))
    many = parse_classes("cat, dog, bus, house, person, flower, sheep, bicycle")
    assert Things.of(models, many, (False,) * 8).subsets == {}


def test_the_nearest_phrase_of_a_class_counts(models: Models, wide: Scene) -> None:
    method = replace(SMALL, extractors=("dino",), prefilter=False)
    apart = method.segment(models, wide, parse_classes("dog, cat, bus")).scores()
    both = method.segment(models, wide, parse_classes("dog|cat, bus"))
    assert np.allclose(both.scores()[[0, 2]], apart[[0, 3]], atol=1e-6)
    # The highest of the phrases is taken on the grid of the features, so that it is no less after expanding.
    assert (both.scores()[1] >= apart[1:3].max(0) - 1e-6).all() and both.scores()[1].max() < apart[1:3].max() + 0.01
    assert all((both.scores()[1] > apart[k] + 1e-3).any() for k in (1, 2))
    titles = next(item.neighbours for item in both.evidence if item.kind == "neighbours").titles
    assert {title.split(",")[0].removesuffix(" (background)") for title in titles} == {"dog", "cat", "bus"}
    assert {item.label for item in both.evidence if item.kind == "images"} == {"dog", "bus"}


def test_only_the_prefilter_leaves_classes_out(models: Models, wide: Scene) -> None:
    classes = parse_classes("cat, dog, bus")
    for settings, left_out in (({"prefilter": True}, True), ({"prefilter": False}, False)):
        method = replace(SMALL, extractors=("dino",), images=2, **settings)
        scores = method.segment(models, wide, classes).scores()
        assert bool((scores[1:] == -1).all((1, 2)).any()) is left_out


def test_two_who_ask_for_a_class_at_once_make_it_once(with_store: Models) -> None:
    heard, begun, go_on = [], threading.Event(), threading.Event()

    def first(stage: str, share: float) -> None:
        begun.set()
        assert go_on.wait(60)

    def second(stage: str, share: float) -> None:
        heard.append(stage)
        go_on.set()

    method = replace(SMALL, extractors=("dino",))
    with ThreadPoolExecutor(2) as pool, counting() as here:
        one = pool.submit(make_prototypes, with_store, method, "cat", first)
        assert begun.wait(60)
        two = make_prototypes(with_store, method, "cat", second)
    assert set(heard) == {"another process makes cat"} and here.passes == 0, "the second one draws nothing"
    assert np.array_equal(one.result()["dino"].foreground.vectors, two["dino"].foreground.vectors)


def test_who_waits_for_a_class_can_stop_waiting(with_store: Models) -> None:
    method = replace(SMALL, extractors=("dino",))
    held = store_of(with_store).being_made("cat", method.made_by(with_store, "pictures"), lambda: None)
    with held, pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(1) as pool:
        pool.submit(make_prototypes, with_store, method, "cat", stop_at("")).result(60)
    assert make_prototypes(with_store, method, "cat")


def test_a_class_whose_pictures_show_nothing_says_so(models: Models) -> None:
    settings = SMALL.made_by(models, "pictures")
    flat = [SupportImage(np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32), np.float16)) for _ in range(3)]
    store_of(models).add_pictures("ghost", settings, flat)
    with pytest.raises(ValueError, match="none of 3 of 'ghost' does"):
        make_prototypes(models, SMALL, "ghost")


def test_settings_that_decide_nothing_share_their_files(models: Models) -> None:
    made_by = [SMALL.made_by(models, kind) for kind in ("pictures", "masks", "dino", "diffusion")]
    assert all(json.dumps(one) for one in made_by)
    other = replace(SMALL, timestep=50, short_side=448, windows=(448,), prefilter=False)
    assert [other.made_by(models, kind) for kind in ("pictures", "masks", "dino")] == made_by[:3]
    assert other.made_by(models, "diffusion") != made_by[3]
    assert replace(SMALL, images=2).made_by(models, "pictures") == made_by[0]


def test_prototypes_command(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVSEG_PROTOTYPES", str(tmp_path / "kept"))
    settings = ["steps=1", "parts=2", "masks=otsu", "extractors=diffusion", "sites=0"]
    network = ["--backbone", models.name, "--device", "cpu"]
    assert main(["prototypes", "build", "cat", "dog", "--images", "2", "--set", *settings, *network]) == 0
    said = capsys.readouterr().out
    assert "2 classes of 2 images: 8 rows of the U-Net to draw them, 4 for features" in said and "TFLOP" in said
    assert "dog: prototypes of foreground + background: diffusion" in said
    assert main(["prototypes", "verify", *network]) == 0
    assert "6 files in" in capsys.readouterr().out
    path = next((tmp_path / "kept").glob("*.diffusion.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert main(["prototypes", "list", *network]) == 0 and main(["prototypes", "verify", *network]) == 2
    assert "content was changed" in capsys.readouterr().err
    build = ["prototypes", "build", "cat", "dog", "--images", "2", "--set", *settings, *network]
    assert main(build) == 2 and "content was changed" in capsys.readouterr().err
    assert main([*build, "--repair"]) == 0 and "damaged diffusion are made again" in capsys.readouterr().out
    assert main(["prototypes", "verify", *network]) == 0
    assert "6 files in" in capsys.readouterr().out
