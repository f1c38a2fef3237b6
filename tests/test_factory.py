"""Triplets, what is trained on them, and synthetic data sets, on tiny real networks."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from ovseg.__main__ import main
from ovseg.factory import notes, synthesize, triplets
from ovseg.factory.orders import order
from ovseg.factory.splits import UNSEEN, find_split
from ovseg.factory.synthesize import Synthesis, coco, digest, read_mask, read_picture
from ovseg.factory.train_grounding import TripletBatches, grounding_loss, size_for, train_grounding
from ovseg.factory.triplets import Factory, TripletSet, index, shard_path
from ovseg.factory.zero_shot import synthetic_sets
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.models import Models
from ovseg.pocket.train_segmenter import real_scenes
from ovseg.pocket.training import Budget
from ovseg.pocket.world import THINGS, scene
from ovseg.pretrained.detector import Detector, Instance, load_detector
from ovseg.pretrained.grounding import Grounding, step_features
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.forked import torchrun
from tests.networks import stop_at
from tests.triplet_items import read_shard

CLASSES = ("cat", "dog", "apple")


class Halves(Detector):
    """Finds a cat in the left half of every picture, a dog in the right half and another, less sure, in the left one."""

    def __init__(self) -> None:
        self.source, self.labels_, self.asked = "halves", CLASSES, 0

    labels = property(lambda self: self.labels_)
    fingerprint = "halves"

    def instances(self, image: np.ndarray) -> tuple[Instance, ...]:
        left = np.zeros(image.shape[:2], bool)
        left[:, : image.shape[1] // 2] = True
        self.asked += 1
        return (Instance("cat", 0.9, left), Instance("dog", 0.8, ~left), Instance("dog", 0.7, left))


@pytest.fixture
def factory(with_clip: Models, monkeypatch: pytest.MonkeyPatch) -> Factory:
    monkeypatch.setattr(triplets, "SHARD", 3)
    return Factory(with_clip, Halves(), CLASSES, 5, with_clip.checkpoint.sampling(), pairs=0.5, seed=7)


@pytest.fixture(scope="module")
def whole(with_clip: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What that factory makes: read, and not changed."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triplets, "SHARD", 3)
        Factory(with_clip, Halves(), CLASSES, 5, with_clip.checkpoint.sampling(), pairs=0.5, seed=7).run(folder)
    return folder


@pytest.fixture
def made(whole: Path, tmp_path: Path) -> Path:
    """The same, for one test alone."""
    return shutil.copytree(whole, tmp_path / "made")


def test_splits_are_those_of_the_papers() -> None:
    assert all(set(hidden) < set(THINGS) for hidden in UNSEEN.values())
    for split in UNSEEN:
        seen, unseen = find_split(split).seen, find_split(split).unseen
        assert not set(seen) & set(unseen) and len(seen) + len(unseen) == 24
    with pytest.raises(ValueError, match="class split must be one of S1, S2, S3, ZS3"):
        find_split("S9")


def test_orders_are_a_function_of_the_number() -> None:
    orders = [order(k, CLASSES, 0.5, 3) for k in range(200)]
    assert orders == [order(k, CLASSES, 0.5, 3) for k in range(200)]
    assert 70 < sum(len(one.words) == 2 for one in orders) < 130
    assert sum(len(order(k, CLASSES, 0.1, 3).words) == 2 for k in range(200)) < 40
    assert [one.seed for one in orders[:3]] == [3, 4, 5] and orders != [order(k, CLASSES, 0.5, 4) for k in range(200)]
    assert all(len(set(one.words)) == len(one.words) for one in orders)
    assert any(one.prompt == "a photograph of an apple and a cat" for one in orders)
    assert {word for one in orders for word in one.words} == set(CLASSES)
    with pytest.raises(ValueError, match="two for pairs"):
        order(0, ("cat",), 0.5, 0)
    with pytest.raises(ValueError, match="share of pairs"):
        order(0, CLASSES, 2.0, 0)


def test_triplets_hold_what_was_drawn_and_found(factory: Factory, made: Path) -> None:
    counts = index(made, 5)
    items = [item for shard in range(2) for item in read_shard(shard_path(made, shard))]
    assert [item.order for item in items] == [order(k, CLASSES, 0.5, 7) for k in range(5)]
    assert not list((made / "items").iterdir())
    for item in items:
        assert item.detected == tuple(word for word in item.order.words if word != "apple")
        if "dog" in item.detected:  # both of its instances together
            assert item.masks[item.detected.index("dog")].all()
    missed = sum("apple" in item.order.words for item in items)
    assert counts == {"items": 5, "words": sum(len(i.order.words) for i in items), "missed": missed} and missed
    data = TripletSet(made)
    assert len(data) == sum(bool(item.detected) for item in items)
    first = next(item for item in items if item.detected)
    assert np.array_equal(data.image(0), first.image) and np.array_equal(data.masks(0), first.masks)
    latent = torch.from_numpy(first.latent)[None].float()
    again = step_features(factory.models.backbone, latent, first.order.prompt, 1, first.order.seed)
    for stride, maps in data.features(0).items():
        assert np.allclose(maps, again[stride][0].numpy(), atol=0.05)
    elsewhere = replace(first.order, prompt="a photo of a boat")  # the prompt and the noise's seed count
    for changed in (elsewhere, replace(first.order, seed=first.order.seed + 1)):
        other = step_features(factory.models.backbone, latent, changed.prompt, 1, changed.seed)
        assert not any(torch.equal(other[stride], maps) for stride, maps in again.items())
    rows = pq.read_table(made / "index.parquet").to_pylist()
    assert [row["prompt"] for row in rows] == [item.order.prompt for item in items]


def test_single_instances_and_latents_alone(factory: Factory, tmp_path: Path) -> None:
    replace(factory, single=True, features=False, count=8).run(tmp_path)
    index(tmp_path, 8)
    data = TripletSet(tmp_path)
    assert any("dog" in row["detected"] for row in data.rows)
    assert data.strides == ()
    for k in range(len(data)):
        words = data.rows[k]["detected"]
        if "dog" in words:
            assert data.masks(k)[words.index("dog")].mean() == 0.5
    features, _, _ = TripletBatches(data, factory.models).draw(0, "cpu")
    assert set(features) == {1, 2, 4, 8}


def test_a_killed_run_loses_the_item_in_hand_alone(factory: Factory, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        factory.run(tmp_path / "parts", stop_at("triplet 3 of 5"))
    assert len(list((tmp_path / "parts" / "items").iterdir())) == 2
    before = factory.detector.asked
    factory.run(tmp_path / "parts")
    assert factory.detector.asked - before == 3
    for shard in range(2):
        a, b = (shard_path(part, shard).read_bytes() for part in (whole, tmp_path / "parts"))
        assert a == b
    replace(factory, count=6, features=False).run(tmp_path / "grown")
    assert index(tmp_path / "grown", 6)["items"] == 6


def test_torchruns_processes_make_what_one_makes(network: list[str], detector_folder: Path, tmp_path: Path) -> None:
    asked = ["triplets", *network, "--split", "S1", "--count", "3", "--steps", "1", "--latents"]
    asked += ["--detector", str(detector_folder), "--out"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triplets, "SHARD", 2)
        assert torchrun(2, partial(main, [*asked, str(tmp_path / "two")])) == {}
        assert main([*asked, str(tmp_path / "one")]) == 0
    for part in ("index.parquet", "shards/00000.safetensors", "shards/00001.safetensors"):
        assert (tmp_path / "two" / part).read_bytes() == (tmp_path / "one" / part).read_bytes()


def test_damage_is_named(factory: Factory, made: Path) -> None:
    with pytest.raises(ValueError, match=r"no index\.parquet"):
        TripletSet(made)
    index(made, 5)
    with pytest.raises(ValueError, match="must be new or hold the same"):
        replace(factory, seed=8).run(made)
    with pytest.raises(ValueError, match="ones that the detector finds"):
        replace(factory, classes=("cat", "unicorn")).run(made / "other")
    path = shard_path(made, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(ValueError, match=f"{path.name} must be as it was indexed"):
        TripletSet(made)
    path.write_bytes(whole[:100])
    with pytest.raises(ValueError, match=f"{path.name} must be a whole safetensors file"):
        index(made, 5)
    path.unlink()
    with pytest.raises(ValueError, match=r"00001\.safetensors is missing"):
        index(made, 5)


def test_a_flipped_byte_is_seen_and_never_blessed(factory: Factory, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard_path(made, 0)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes(flipped)
    for indexed_before in (False, True):
        path.write_bytes(flipped)
        for _ in range(2):
            with pytest.raises(ValueError, match=r"00000\.safetensors must be as it was written, but was changed"):
                index(made, 5)
        assert (made / "index.parquet").exists() == indexed_before
        path.write_bytes(whole)  # the time is another, the content is not
        assert index(made, 5)["items"] == 5
    with monkeypatch.context() as patch:
        patch.setattr(notes, "file_checksum", lambda path: pytest.fail("read a shard that is as it was"))
        index(made, 5)
    path.write_bytes(flipped)
    path.unlink()
    factory.run(made)
    assert path.read_bytes() == whole and index(made, 5)["items"] == 5


@pytest.mark.usefixtures("factory")
def test_a_set_without_notes_is_held_against_its_index(made: Path) -> None:
    index(made, 5)
    shutil.rmtree(made / "notes")
    path = shard_path(made, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"00001\.safetensors must be as it was written"):
        index(made, 5)


def test_a_stop_between_a_shard_and_its_note_loses_nothing(factory: Factory, whole: Path, tmp_path: Path) -> None:
    items, stopped = tmp_path / "items", tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        factory.run(items)
    shutil.copytree(items, stopped)
    shutil.rmtree(stopped / "notes")
    shard_path(stopped, 0).write_bytes(b"what a stop has left")
    factory.run(stopped)
    index(stopped, 5)
    for shard in range(2):
        assert shard_path(stopped, shard).read_bytes() == shard_path(whole, shard).read_bytes()


def test_what_was_planted_beside_the_files_of_a_data_set_changes_nothing(
    with_clip: Models, grounding_folder: Path, tmp_path: Path
) -> None:
    task = Synthesis(with_clip, GroundedDiffusion(module="S1"), ("cat", "dog"), 2, with_clip.checkpoint.sampling(), seed=3)
    task.run(tmp_path)
    before = digest(tmp_path)
    for part in ("JPEGImages", "SegmentationClass", "prompts"):
        (tmp_path / part / ".0000000.json.partial").write_text("planted")
    task.run(tmp_path)
    assert digest(tmp_path) == before


def test_the_module_learns_from_triplets_and_is_loaded_again(factory: Factory, made: Path, tmp_path: Path) -> None:
    index(made, 5)
    assert train_grounding(factory.models, made, "S1", Budget(tmp_path, 0.03), 2e-3)
    loaded = Grounding(tmp_path / "grounding-S1" / "module")
    assert loaded.training["seen"] == ["cat", "dog"] and loaded.training["backbone"] == factory.models.backbone.fingerprint
    data = TripletSet(made)
    batches = TripletBatches(data, factory.models)
    features, words, masks = batches.draw(0, "cpu")
    looked = loaded.look({s: maps[:1] for s, maps in features.items()}, words[0], apart=False)
    assert looked.logits.shape[0] == words.shape[1] and looked.attention.sum((1, 2)) == pytest.approx(1, abs=1e-4)
    torch.manual_seed(0)
    fresh = type(loaded.module)(loaded.module.size)
    assert grounding_loss(loaded.module, features, words, masks) < grounding_loss(fresh, features, words, masks)


def test_what_the_detector_sees_unasked_is_not_trained_on(factory: Factory, tmp_path: Path) -> None:
    """It finds a dog in every picture; a split without dogs has no mask of one, and the module no word for it."""
    knows_all = Halves()
    knows_all.labels_ = THINGS
    replace(factory, detector=knows_all, classes=find_split("S1").seen, count=16, features=False).run(tmp_path)
    index(tmp_path, 16)
    data = TripletSet(tmp_path)
    assert {word for row in data.rows for word in row["detected"]} == {"cat"}
    assert TripletBatches(data, factory.models).words == ["cat"]


def test_a_detector_is_trained_on_scenes_of_seen_things_alone(tmp_path: Path) -> None:
    seen, hidden = find_split("S1").seen, set(find_split("S1").unseen)
    budget = Budget(tmp_path, 1, scenes=40, size=32)
    data = real_scenes(budget, seen)
    scenes = [scene("train", index, 32) for index in range(40)]
    kept = [item for item in scenes if not set(item.things) & hidden]
    assert 0 < len(kept) < 40 and np.array_equal(data.images, np.stack([item.image for item in kept]))
    for labels, item in zip(data.labels, kept, strict=True):
        for number, thing in enumerate(seen, 1):
            assert np.array_equal(labels == number, item.labels == THINGS.index(thing))


def test_size_follows_the_backbone() -> None:
    assert size_for({8: 15_360, 4: 14_080, 2: 8_320, 1: 5_120}, 768).model == 512
    assert size_for({4: 1344, 2: 880, 1: 576}, 128).model == 128
    lone, large = size_for({2: 2304}, 512), size_for({2: 73_728}, 4096)
    assert (lone.model, lone.fused, large.model, large.fused) == (128, {2: 64}, 512, {2: 128})


@pytest.fixture(scope="module")
def data_set(with_clip: Models) -> Synthesis:
    return Synthesis(with_clip, GroundedDiffusion(threshold=0.3), ("cat", "dog"), 4, with_clip.checkpoint.sampling(), seed=2)


@pytest.fixture(scope="module")
def out(data_set: Synthesis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of that set: read, and not changed."""
    folder = tmp_path_factory.mktemp("set")
    data_set.run(folder)
    return folder


def test_a_synthetic_set_is_voc_and_coco(out: Path) -> None:
    names = (out / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    assert len(names) == 4 and (out / "labels.txt").read_text().split() == ["background", "cat", "dog"]
    annotations = json.loads((out / "annotations.json").read_text())
    assert annotations == json.loads(json.dumps(coco(out, ("cat", "dog"), 4))) and annotations["annotations"]
    assert [image["file_name"] for image in annotations["images"]] == [f"JPEGImages/{name}.jpg" for name in names]
    for item in annotations["annotations"]:
        (image,) = (image for image in annotations["images"] if image["id"] == item["image_id"])
        mask = read_mask(out, names.index(Path(image["file_name"]).stem)) == item["category_id"]
        assert np.array_equal(coco_mask.decode(item["segmentation"]), mask) and item["area"] == mask.sum()
        x, y, w, h = item["bbox"]
        inside = mask[y : y + h, x : x + w]
        assert inside.shape == (h, w) and inside.sum() == mask.sum()
        assert inside[[0, -1]].any(1).all() and inside[:, [0, -1]].any(0).all()  # not larger than the mask
    for number in range(4):
        words = json.loads(synthesize.prompt_path(out, number).read_text())["words"]
        allowed = {0, *(("cat", "dog").index(word) + 1 for word in words)}
        assert set(np.unique(read_mask(out, number))) <= allowed
    assert "No picture and no mask was drawn" in (out / "README.md").read_text()
    assert Image.open(out / "sheet.png").width > 100


def test_a_box_is_left_top_width_height(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:5, 10:24] = 1
    path = tmp_path / "SegmentationClass" / f"{synthesize.name_of(0)}.png"
    path.parent.mkdir()
    Image.fromarray(mask).save(path)
    assert [item["bbox"] for item in coco(tmp_path, ("cat",), 1)["annotations"]] == [[10, 2, 14, 3]]


def test_each_picture_is_drawn_from_its_own_prompt_and_seed(data_set: Synthesis, with_clip: Models, out: Path) -> None:
    sampling = with_clip.checkpoint.sampling(None)
    items = [order(number, data_set.classes, data_set.pairs, data_set.seed) for number in range(4)]
    drawn = [with_clip.backbone.generate(item.prompt, [item.seed], sampling)[0].image.astype(float) for item in items]
    written = [read_picture(out, number) for number in range(4)]
    errors = np.array([[np.abs(picture - other).mean() for other in drawn] for picture in written])  # JPEG alters a little
    assert errors.argmin(1).tolist() == [0, 1, 2, 3]


def test_a_stopped_synthesis_goes_on(data_set: Synthesis, out: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        data_set.run(tmp_path / "parts", stop_at("picture 3 of 4"))
    data_set.run(tmp_path / "parts")
    assert digest(out) == digest(tmp_path / "parts")
    with pytest.raises(ValueError, match="must be new or hold the same"):
        replace(data_set, seed=3).run(tmp_path / "parts")


def test_a_set_without_masks_teaches_nothing(data_set: Synthesis, tmp_path: Path) -> None:
    replace(data_set, method=GroundedDiffusion(threshold=1.0)).run(tmp_path)
    with pytest.raises(ValueError, match="lacks one kind"):
        synthetic_sets(tmp_path)
    with pytest.raises(ValueError, match=r"no annotations\.json"):
        synthetic_sets(tmp_path / "nowhere")


def test_words_alone_and_together(with_clip: Models, picture: np.ndarray) -> None:
    scene, classes = from_image(with_clip, picture, caption="a photo of a pet"), parse_classes("cat, dog|puppy")
    together = GroundedDiffusion().segment(with_clip, scene, classes)
    alone = GroundedDiffusion(words="alone").segment(with_clip, scene, classes)
    one = GroundedDiffusion(words="alone").segment(with_clip, scene, classes[:1])
    assert together.threshold == 0.5 and np.allclose(alone.scores()[1], one.scores()[1], atol=1e-5)
    assert not np.allclose(alone.scores(), together.scores(), atol=1e-6)
    assert {e.group for e in together.evidence} == {"Features", "Logits", "Queries"}
    assert len([e for e in together.evidence if e.group == "Features"]) == 4
    with pytest.raises(ValueError, match="A grounding module must be in"):
        GroundedDiffusion(module="S7").segment(with_clip, scene, classes)


def test_a_module_of_another_backbone_is_refused(with_clip: Models, grounding_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((grounding_folder / "S1" / name).read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["training"]["backbone"] = "another"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="must be trained on this backbone"):
        with_clip.grounding(str(folder))


def test_a_segmenter_as_a_detector(detector_folder: Path, picture: np.ndarray, tmp_path: Path) -> None:
    detector = load_detector(str(detector_folder))
    assert detector.labels[0] == "background" and detector.knows("Aeroplane") and not detector.knows("unicorn")
    scores = [item.score for item in detector.instances(picture)]
    assert scores == sorted(scores, reverse=True)
    assert detector.probabilities([picture]).shape == (1, 25, 60, 90)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="must be a maskformer, mask2former, oneformer, segformer, upernet"):
        load_detector(str(tmp_path))
