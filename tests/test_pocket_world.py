import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ovseg.__main__ import main
from ovseg.pocket.captions import SYNONYMS
from ovseg.pocket.placing import LEAST_VISIBLE
from ovseg.pocket.sprites import load_sprites
from ovseg.pocket.textures import STUFF
from ovseg.pocket.tokenizer import build_tokenizer, world_words
from ovseg.pocket.world import LABELS, THINGS, scene

# What these scenes were when the world was made; a change of any pixel anywhere makes all trained weights and figures void.
FINGERPRINTS = {
    ("train", 0): "7630f3e92af2aa6f",
    ("train", 12345): "d461939324201556",
    ("val", 0): "e04811d770bfd95e",
    ("val", 77): "f76be0da731dec97",
    ("novel", 3): "fe2e623ba3237eb2",
}


def fingerprint(split: str, index: int) -> str:
    item = scene(split, index)
    content = item.image.tobytes() + item.labels.tobytes() + item.instances.tobytes() + item.caption.encode()
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("split, index", FINGERPRINTS)
def test_a_scene_is_the_same_everywhere(split: str, index: int) -> None:
    assert fingerprint(split, index) == FINGERPRINTS[split, index]


def test_scenes_differ_between_indices_and_splits() -> None:
    prints = {fingerprint(split, index) for split in ("train", "val", "novel") for index in range(10)}
    assert len(prints) == 30


def test_novel_sprites_never_appear_in_training_or_validation() -> None:
    novel = {s.key for sprites in load_sprites().values() for s in sprites if s.novel}
    assert len(novel) > 20
    for split in ("train", "val"):
        assert not novel & {key for index in range(400) for key in scene(split, index, size=32).sprites}
    assert {key for index in range(200) for key in scene("novel", index, size=32).sprites} <= novel


def test_held_out_share_is_about_one_in_five() -> None:
    for thing, sprites in load_sprites().items():
        assert sum(s.novel for s in sprites) == len(sprites) // 5, thing
        assert any(not s.novel for s in sprites)


@pytest.mark.parametrize("split", ["train", "val", "novel"])
def test_masks_and_captions_tell_what_is_there(split: str) -> None:
    for index in range(40):
        item = scene(split, index)
        assert item.image.shape == (128, 128, 3) and item.image.dtype == np.uint8
        present = {LABELS[k] for k in np.unique(item.labels)}
        assert present <= set(item.things) | set(item.stuff)
        assert set(item.things) <= present
        assert (item.instances > 0).tolist() == (item.labels < len(THINGS)).tolist()
        for number, thing in enumerate(item.things, 1):
            assert set(item.labels[item.instances == number]) == {THINGS.index(thing)}
            spoken = {thing, *SYNONYMS.get(thing, ())}
            assert any(word in item.caption or word[:-1] in item.caption for word in spoken) or "people" in item.caption


def test_every_label_occurs_and_most_things_stay_visible() -> None:
    items = [scene("train", index, size=64) for index in range(600)]
    assert {LABELS[k] for item in items for k in np.unique(item.labels)} == set(LABELS)
    assert {len(item.things) for item in items} == {1, 2, 3}
    assert LEAST_VISIBLE > 0.5


def test_a_scene_can_be_drawn_at_another_size() -> None:
    small, large = scene("val", 5, 128), scene("val", 5, 256)
    assert large.image.shape == (256, 256, 3)
    assert (small.things, small.stuff, small.caption) == (large.things, large.stuff, large.caption)
    agree = np.mean(large.labels[::2, ::2] == small.labels)
    assert agree > 0.97


@pytest.mark.parametrize("name", STUFF)
def test_textures_are_colours(name: str) -> None:
    picture = STUFF[name](np.random.default_rng(1), 48)
    assert picture.shape == (48, 48, 3) and picture.dtype == np.float32
    assert picture.min() >= 0 and picture.max() <= 1.001 and picture.std() > 0.01


@pytest.mark.parametrize("split, index, message", [("test", 0, "train, val, novel"), ("val", -1, "0 or more")])
def test_bad_scenes_are_refused(split: str, index: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene(split, index)


def test_world_words_are_the_tokens_of_clip(tmp_path: Path) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    ours, clips = build_tokenizer(tmp_path), SimpleTokenizer()
    for word in world_words():
        assert ours.tokenize(word) == [clips.decoder[k] for k in clips.encode(word)], word
    assert ours.decode(ours("xylophone").input_ids, skip_special_tokens=True).strip() == "xylophone"


def test_scenes_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["scenes", "--split", "val", "--count", "3", "--out", str(tmp_path)]) == 0
    about = json.loads((tmp_path / "captions.json").read_text())
    assert list(about) == ["val-000000", "val-000001", "val-000002"]
    assert {p.name for p in tmp_path.glob("val-000001*")} == {
        "val-000001.png", "val-000001-labels.png", "val-000001-instances.png"
    }  # fmt: skip
    assert (tmp_path / "sheet.png").exists()
    assert main(["scenes", "--split", "all", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("ovseg: The split must be one of")


def test_zoom_enlarges_the_things_and_nothing_else() -> None:
    plain, large = (scene("train", 5, 64, zoom) for zoom in (1.0, 1.4))
    assert plain.things == large.things and plain.caption == large.caption
    assert np.count_nonzero(large.instances) > 1.2 * np.count_nonzero(plain.instances)
