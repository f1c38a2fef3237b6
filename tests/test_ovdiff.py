"""OVDiff on tiny networks of random weights: its offline steps by hand, the store, and the whole of it."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.__main__ import main
from ovseg.methods import ovdiff
from ovseg.methods.ovdiff.method import OVDiff, parse_numbers
from ovseg.methods.ovdiff.prototypes import NOWHERE, Drawn, Mask, Prototypes, Side, Store, describe, read
from ovseg.methods.ovdiff.support import (
    LIKELY,
    UNLIKELY,
    masks_by_otsu,
    masks_by_proposals,
    prototypes_of,
    stretched,
    two_thresholds,
)
from ovseg.models import Models
from ovseg.pocket.world import scene
from ovseg.progress import StoppedError
from ovseg.scene import from_image
from ovseg.types import Scene
from ovseg.words.classes import parse_classes
from ovseg.words.stuff import is_stuff

SMALL = OVDiff(images=3, steps=1, parts=2, masks="otsu", sites="0, 2-3", short_side=0, windows=())
CLASSES = parse_classes("cat, dog, sky")


@pytest.fixture
def models(with_clip: Models, tmp_path: Path) -> Models:
    """The tiny networks with a store of their own."""
    models = Models(with_clip.name, device="cpu")
    models.checkpoint, models.prototype_folders = with_clip.checkpoint, (tmp_path / "store", None)
    return models


@pytest.fixture
def wide(models: Models) -> Scene:
    return from_image(models, scene("val", 1).image[:80], seed=2)


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
    masks = [Mask(inside, nothing), Mask(nothing, nothing), Mask(~inside, nothing)]
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
        place, picture = made.foreground.place_of(row), made.foreground.pictures[row]
        assert place.any() and (regions[picture][place] == made.foreground.part_of(row)).all()
        everywhere = torch.cat([f[:, torch.from_numpy(r == row - 3)].T for f, r in zip(features, regions, strict=True)])
        assert torch.allclose(vectors[row], everywhere.mean(0), atol=1e-3)
    assert made.foreground.part_of(2) is None and (made.foreground.place_of(1) == inside).all()
    assert made.background.vectors.shape == (0, 5)


def side(seed: int) -> Side:
    rng = np.random.default_rng(seed)
    return Side(
        rng.normal(size=(4, 3)).astype(np.float16), np.array([0, 0, 1, 1], np.int32), 1,
        rng.integers(0, 2, (2, 3, 3), dtype=np.uint8),
    )  # fmt: skip


def test_a_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    store, made_by = Store(tmp_path / "s"), {"images": 2, "windows": [1, 2]}
    assert store.read_pictures("cat", made_by) == () and store.read_masks("cat", made_by) is None
    pictures = [Drawn(scene("val", k, 64).image, np.full((4, 4), k, np.float16)) for k in range(3)]
    store.write_pictures("cat", made_by, pictures[:2])
    store.write_pictures("cat", made_by, pictures)
    assert all(
        np.array_equal(a.image, b.image) and np.array_equal(a.attribution, b.attribution)
        for a, b in zip(store.read_pictures("cat", made_by), pictures, strict=True)
    )
    mask = Mask(box(0, 0, 3, 3), box(6, 6, 9, 9))
    store.write_masks("cat", made_by, [mask])
    assert np.array_equal(store.read_masks("cat", made_by)[0].background, mask.background)
    kept = Prototypes(side(0), side(1))
    store.write_prototypes("cat", "dino", made_by, kept)
    again = store.read_prototypes("cat", "dino", made_by)
    for name in ("vectors", "pictures", "regions", "parts"):
        assert np.array_equal(getattr(again.background, name), getattr(kept.background, name))
    assert store.read_prototypes("cat", "clip", made_by) is None and store.read_prototypes("dog", "dino", made_by) is None
    assert store.read_prototypes("cat", "dino", made_by | {"images": 3}) is None
    assert [told["kind"] for _, told in store.files()] == ["dino", "masks", "pictures"]
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


def test_segmenting_makes_prototypes_once(models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    result = SMALL.segment(models, wide, CLASSES, lambda stage, share: told.append(stage))
    assert result.labels == ("background", "cat", "dog", "sky") and result.scores.shape == (4, 80, 128)
    assert result.threshold is None and np.isfinite(result.scores).all() and result.scores.max() <= 1 + 1e-5
    assert any(stage.startswith("class 2 of 3, image 1 to 3 of 3") for stage in told)
    monkeypatch.setattr(type(models.backbone), "generate", lambda *_, **__: pytest.fail("pictures are drawn again"))
    again = SMALL.segment(models, wide, CLASSES)
    assert np.array_equal(result.scores, again.scores)
    claims = next(item.claims for item in result.evidence if item.kind == "claims")
    assert claims.nearest.shape == claims.closeness.shape and claims.nearest.max() < len(claims.titles)
    assert (np.diff(claims.closeness, axis=-1) <= 1e-6).all()
    assert len(claims.titles) == len(claims.picture_of) == len(claims.places) == claims.nearest.max() + 1
    assert max(claims.picture_of) < len(claims.pictures) and all(place.any() for place in claims.places)
    with_pamr = replace(SMALL, refinement="pamr").segment(models, wide, CLASSES)
    assert with_pamr.scores.shape == result.scores.shape and not np.array_equal(with_pamr.scores, result.scores)


def test_of_many_classes_only_what_claims_is_kept(models: Models, wide: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ovdiff, "SHEETS", 1)
    method = replace(SMALL, extractors=("dino",), prefilter=False)
    evidence = method.segment(models, wide, CLASSES).evidence
    assert [item.kind for item in evidence] == ["images", "claims"]
    claims = evidence[1].claims
    assert set(claims.picture_of) == set(range(len(claims.pictures)))
    most = evidence[0].label
    shares = [np.isin(claims.nearest, [k for k, t in enumerate(claims.titles) if t.startswith(word)]).sum()
              for word in ("cat", "dog", "sky")]  # fmt: skip
    assert ("cat", "dog", "sky")[int(np.argmax(shares))] == most


def test_a_stopped_build_goes_on_where_it_was(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ovdiff, "BATCH", 1)

    def stop_at_the_third(stage: str, share: float) -> None:
        if stage.startswith("image 3"):
            raise StoppedError

    with pytest.raises(StoppedError):
        SMALL.prepare(models, "cat", stop_at_the_third)
    settings = SMALL._settings(models, "pictures")
    begun = store_of(models).read_pictures("cat", settings)
    assert len(begun) == 2
    told: list[str] = []
    SMALL.prepare(models, "cat", lambda stage, share: told.append(stage))
    assert not any(stage.startswith(("image 1 ", "image 2 ")) for stage in told)
    assert np.array_equal(store_of(models).read_pictures("cat", settings)[1].image, begun[1].image)
    fewer = replace(SMALL, images=2).prepare(models, "cat", lambda stage, share: None)
    assert fewer["dino"].foreground.regions.shape[0] == 2


def test_filtering_before_and_after_comparing_is_the_same(models: Models, wide: Scene) -> None:
    kept = [SMALL.prepare(models, word.name)["dino"] for word in CLASSES]
    features = torch.nn.functional.normalize(SMALL._features(models, "dino", wide.image, 0), dim=0)
    every, some = SMALL._table(kept, [False] * 3), SMALL._table([kept[0], kept[2]], [False] * 2)
    all_scores = every.best_of_each(torch.einsum("nd,dyx->nyx", every.vectors, features), 4)
    few_scores = some.best_of_each(torch.einsum("nd,dyx->nyx", some.vectors, features), 3)
    assert torch.allclose(all_scores[[1, 3]], few_scores[1:], atol=1e-6)
    own = torch.tensor([item[1] == "background" and item[0] in (0, 2) for item in every.origin])
    assert torch.allclose(torch.einsum("nd,dyx->nyx", every.vectors[own], features).amax(0), few_scores[0], atol=1e-6)


def test_stuff_gives_no_background_and_takes_what_looks_like_it(models: Models) -> None:
    kept = [SMALL.prepare(models, word.name)["dino"] for word in CLASSES]
    assert SMALL._stuff(models, CLASSES) == [False, False, True]
    plain, filtered = replace(SMALL, stuff_filter=False)._table(kept, [False, False, True]), None
    backgrounds = {item[0] for item in plain.origin if item[1] == "background"}
    assert backgrounds == {0, 1}
    first = replace(SMALL, stuff_filter=False)._table(kept, [True, False, False])
    assert {item[0] for item in first.origin if item[1] == "background"} == {1, 2}
    filtered = replace(SMALL, stuff_cosine=-1.0)._table(kept, [False, False, True])
    assert not (filtered.owner == 0).any() and (filtered.owner > 0).sum() == (plain.owner > 0).sum()
    means = replace(SMALL, kinds="mean", stuff_filter=False)._table(kept, [False] * 3)
    assert len(means.owner) <= 6 and not (replace(SMALL, background="none")._table(kept, [False] * 3).owner == 0).any()


def test_words_outside_the_table_are_what_the_nearest_word_is(models: Models) -> None:
    assert is_stuff("sky") and is_stuff("Cat") is False and is_stuff("gizmo") is None
    assert SMALL._stuff(models, parse_classes("cat, gizmo"))[0] is False
    assert SMALL._stuff(models, parse_classes("gizmo"))[0] in (True, False)


def test_clip_chooses_the_subset_whose_words_fit_best(models: Models, wide: Scene) -> None:
    classes = parse_classes("cat, dog, sky, bus, house")
    stuff = [False, False, True, False, False]
    chosen = SMALL._chosen(models, wide.image, classes, stuff)
    assert 2 in chosen and len(chosen) >= 2
    seen = models.clip.image_embeddings([wide.image])[0]
    names = [classes[k].name for k in (0, 1, 3, 4)]
    cosines = models.clip.text_embeddings([f"a {name}" for name in names]) @ seen
    passed = [k for k, p in zip((0, 1, 3, 4), cosines.softmax(0), strict=True) if p >= 0.25]
    best = max(
        (s for size in range(1, len(passed) + 1) for s in itertools.combinations(passed, size)),
        key=lambda s: float(models.clip.text_embeddings([" and ".join(f"a {classes[k].name}" for k in s)])[0] @ seen),
    )
    assert chosen == sorted({*best, 2})
    assert replace(SMALL, prefilter=False)._chosen(models, wide.image, classes, stuff) == [0, 1, 2, 3, 4]


def test_windows_are_averaged_with_the_whole(models: Models, wide: Scene) -> None:
    method = replace(SMALL, extractors=("dino",), windows=(48,), window_stride=32, short_side=64)
    boxes = list(method._boxes((64, 102)))
    assert len(boxes) == 2 * 3 and all(rows.stop <= 64 and columns.stop <= 102 for rows, columns in boxes)
    result = method.segment(models, wide, CLASSES)
    assert result.scores.shape == (4, 80, 128) and np.isfinite(result.scores).all()


def test_wrong_settings_are_one_sentence(models: Models, wide: Scene) -> None:
    assert parse_numbers("0, 6-8,15") == (0, 6, 7, 8, 15)
    for settings, sentence in (
        ({"extractors": ("dino", "magic")}, "extractors must be some of diffusion, dino, clip, but got 'dino, magic'"),
        ({"prompt": "a cat"}, r"must hold \{\} once"),
        ({"images": 0}, "must be 1 or more"),
        ({"sites": "0-99"}, r"sites must name some of 0 to \d+ on this backbone"),
        ({"sites": "all"}, "sites must be numbers and ranges"),
        ({"masks": "cutler"}, "CutLER needs its folder"),
    ):
        with pytest.raises(ValueError, match=sentence):
            replace(SMALL, **settings).segment(models, wide, CLASSES)


def test_a_class_whose_pictures_show_nothing_says_so(models: Models) -> None:
    settings = SMALL._settings(models, "pictures")
    flat = [Drawn(np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32), np.float16)) for _ in range(3)]
    store_of(models).write_pictures("ghost", settings, flat)
    with pytest.raises(ValueError, match="none of 3 of 'ghost' does"):
        SMALL.prepare(models, "ghost")


def test_settings_that_decide_nothing_share_their_files(models: Models) -> None:
    told = [SMALL._settings(models, kind) for kind in ("pictures", "masks", "dino", "diffusion")]
    assert all(json.dumps(one) for one in told)
    other = replace(SMALL, timestep=50, short_side=448, windows=(448,), prefilter=False)
    assert [other._settings(models, kind) for kind in ("pictures", "masks", "dino")] == told[:3]
    assert other._settings(models, "diffusion") != told[3]
    assert replace(SMALL, images=2)._settings(models, "pictures") == told[0]


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
    assert main(["prototypes", "build", *network]) == 2 and "Classes must be named" in capsys.readouterr().err
