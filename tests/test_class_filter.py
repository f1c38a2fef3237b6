"""Words from pictures: captions that give the classes, and the filter that says which classes seem to be there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg.__main__ import main
from ovseg.backbones.base import word_states
from ovseg.models import Models
from ovseg.pocket.world import scene
from ovseg.words.class_filter import asked_for, look_for, nearest_noun
from ovseg.words.classes import parse_classes
from tests.networks import with_traits


def names(classes: tuple) -> list[str]:
    return [word.name for word in classes]


def test_typed_words_are_taken_and_captions_fill_in(with_clip: Models, picture: np.ndarray) -> None:
    classes, said = asked_for(with_clip, picture, "cat, dog|puppy")
    assert names(classes) == ["cat", "dog"] and said == ""
    classes, said = asked_for(with_clip, picture, " ", caption=" a red bus on a white background ")
    assert names(classes) == ["red bus"] and said == "a red bus on a white background"
    own = with_clip.captioner().caption(picture)
    assert asked_for(with_clip, picture, "", finds_words=True) == ((), own)
    assert asked_for(with_clip, picture, "cat", finds_words=True)[1] == own
    with pytest.raises(ValueError, match=r'Classes must be typed here, .*: the caption "very quickly" names nothing'):
        asked_for(with_clip, picture, "", caption="very quickly")
    with pytest.raises(ValueError, match="captioner must be one of"):
        asked_for(with_clip, picture, "", captioner="gpt")


def test_the_filter_keeps_the_best_and_what_comes_near(with_clip: Models, picture: np.ndarray) -> None:
    classes = parse_classes("cat, dog, sky, grass, bus")
    cosines = with_clip.clip.similarity([picture], [f"A photo of a {word.name}" for word in classes])[0]
    best = int(cosines.argmax())
    alone = filtered(with_clip, 1.0, picture, classes)
    assert [item.present for item in alone] == [k == best for k in range(5)]
    assert [item.clip_score for item in alone] == pytest.approx((cosines / cosines.max()).tolist(), abs=1e-5)
    assert all(item.caption_score == 0 for item in alone)
    heard = filtered(with_clip, 1.0, picture, classes, "a bus under a sky")
    assert {item.name for item in heard if item.caption_score == pytest.approx(1, abs=1e-5)} == {"bus", "sky"}
    assert all(item.present for item in heard if item.name in ("bus", "sky"))


def test_the_filter_follows_the_backbones_ratio() -> None:
    """On the shipped CLIP: the logits of random weights are negative, and the ratio does not matter there."""
    models, picture, classes = Models("pocket", device="cpu"), scene("val", 3).image, parse_classes("cat, dog, sky, bus")
    cosines = models.clip.similarity([picture], [f"A photo of a {word.name}" for word in classes])[0]
    ranked = cosines.sort(descending=True).values.tolist()
    assert ranked[1] > 0
    for ratio, count in (((ranked[0] + ranked[1]) / 2 / ranked[0], 1), ((ranked[1] + ranked[2]) / 2 / ranked[0], 2)):
        models.checkpoint = replace(models.checkpoint, clip_ratio=ratio)
        present = [item.present for item in look_for(models, picture, classes)]
        assert present == [value >= ranked[count - 1] for value in cosines.tolist()]


def filtered(models: Models, ratio: float, picture: np.ndarray, classes: tuple, caption: str = "") -> tuple:
    return look_for(with_traits(models, clip_ratio=ratio), picture, classes, caption)


def test_words_are_the_mean_of_their_own_tokens(with_clip: Models) -> None:
    states = word_states(with_clip.backbone, ["potted plant", "cat"])
    text = with_clip.backbone.encode_text(["potted plant"], ["potted plant"])
    mean = text.embeddings[0, list(text.spans[0])].mean(0)
    assert torch.allclose(states[0], mean / mean.norm(), atol=1e-6)
    assert nearest_noun(with_clip.clip.word_states, parse_classes("cat, dog"), []) == [0, 0]


def test_segment_command_without_classes(
    picture: np.ndarray, network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    command = ["segment", str(tmp_path / "a.png"), *network, "--out", str(tmp_path)]
    assert main([*command, "--caption", "a cat and a dog"]) == 0
    assert "cat" in (said := capsys.readouterr().out) and "dog" in said
