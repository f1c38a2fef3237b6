"""FreeSeg-Diff on tiny networks of random weights: its steps one by one, and the whole of it."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from ovseg.maths import refine
from ovseg.methods import modes_of
from ovseg.methods.freeseg_diff.masks import refined, scores_of
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.freeseg_diff.naming import assign, meanings_of, nouns_of, spoken_of
from ovseg.methods.freeseg_diff.regions import features_of
from ovseg.models import Models
from ovseg.reading.recipe import crossing_of
from ovseg.scene import from_image
from ovseg.types import Scene
from ovseg.words.classes import parse_classes

CLASSES = parse_classes("cat, dog, potted plant")


def test_clusters_get_names_as_the_released_rule_says() -> None:
    similar = np.array([[0.6, 0.5, 0.1], [0.3, 0.4, 0.2], [0.1, 0.1, 0.7]])
    assert assign(similar, (True, True, True), one_each=True) == (0, 1, 2)
    assert assign(similar, (True, False, True), one_each=True) == (0, None, 2)
    assert assign(similar, (True, False, False), one_each=False) == (0, 0, 0)
    assert assign(similar, (False, False, False), one_each=False) == (None, None, None)
    # Two names whose best cluster is the same one: the better takes it, the other speaks for none.
    assert assign(np.array([[0.9, 0.1], [0.8, 0.7]]), (True, True), one_each=True) == (0, None)
    assert assign(np.zeros((0, 2)), (), one_each=True) == (None, None)


def test_masks_of_clusters_become_scores_worked_out_by_hand() -> None:
    masks = [torch.tensor([[value]]) for value in (0.9, 0.8, 0.3, 0.7)]
    # The second mask is of the same name, the third of another and too weak to keep the place, the last comes too late.
    assert scores_of(masks, (1, 1, 0, 0), 2).flatten().tolist() == pytest.approx([0.1, 0.0, 0.9])
    # Nobody has the place before the third; 0.3 does not take it.
    assert scores_of(masks, (None, None, 0, 1), 2).flatten().tolist() == pytest.approx([0.3, 0.3, 0.7])
    side_by_side = [torch.tensor([[0.9, 0.6, 0.0]]), torch.tensor([[0.0, 0.9, 0.4]])]
    scores = scores_of(side_by_side, (0, 1), 2)
    assert scores[:, 0].T.flatten().tolist() == pytest.approx([0.1, 0.9, 0.0, 0.4, 0.6, 0.0, 0.6, 0.0, 0.4])
    assert scores_of(masks, (None,) * 4, 0).flatten().tolist() == [1.0]


def test_only_classes_that_the_caption_speaks_of_may_be_found(with_clip: Models) -> None:
    meanings = meanings_of(with_clip, CLASSES)
    assert spoken_of(with_clip, CLASSES, meanings, nouns_of("a photo of a cat", False)) == (True, False, False)
    assert spoken_of(with_clip, CLASSES, meanings, nouns_of("running quickly", False)) == (False, False, False)


def test_nouns_that_are_farther_than_the_mean_are_not_heard(with_clip: Models) -> None:
    # A noun that is a class itself is nearest; one that is none lies farther than the mean of the two.
    for text, heard in (("a photo of a cat and a zebra", (True, False, False)), ("a dog and a zebra", (False, True, False))):
        assert spoken_of(with_clip, CLASSES, meanings_of(with_clip, CLASSES), nouns_of(text, False)) == heard


def test_the_best_phrase_of_a_class_speaks_for_it(with_clip: Models, wide: Scene) -> None:
    for text in ("sofa|cat, dog", "cat|sofa, dog"):
        classes, nouns = parse_classes(text), nouns_of("a photo of a cat", False)
        assert spoken_of(with_clip, classes, meanings_of(with_clip, classes), nouns) == (True, False)
    method, clip, words = FreeSegDiff(words="classes"), with_clip.clip, ["sofa", "cat", "dog"]
    logits = clip.scale * (clip.image_embeddings([wide.image]) @ clip.class_embeddings(words, ["{}"]).T)[0]
    best, worst = int(logits.argmax()), int(logits.argmin())
    between = ({0, 1, 2} - {best, worst}).pop()
    prepared = method.prepare(with_clip, parse_classes(f"{words[worst]}|{words[best]}, {words[between]}"))
    similar = prepared.similarity([wide.image], prepared.candidates(wide))
    assert np.allclose(similar[:, 0], logits[[best, between]].softmax(0), atol=1e-6)
    assert assign(similar, (True, True), one_each=False) == (0,)


@pytest.mark.parametrize(("refinement", "crop"), [("crf", "whole"), ("pamr", "tight"), ("none", "whole"), ("none", "tight")])
def test_every_class_has_a_cluster_at_most(with_clip: Models, wide: Scene, refinement: str, crop: str) -> None:
    method = FreeSegDiff(words="classes", refinement=refinement, crop=crop)
    result = method.segment(with_clip, wide, CLASSES)
    assert result.labels == ("background", "cat", "dog", "potted plant") and result.threshold is None
    assert result.scores().shape == (4, 80, 128) and np.isfinite(result.scores()).all()
    assert 2 <= len(np.unique(result.label_map)) <= 4
    again = method.segment(with_clip, wide, CLASSES)
    assert np.array_equal(result.scores(), again.scores())
    titles = [item.title for item in result.evidence]
    assert titles[0].startswith("No caption was needed") and sum(t.startswith("Cluster ") for t in titles) == 4
    for title in titles:  # names in the order of their probabilities
        shares = [int(share) for share in re.findall(r"(\d+)%", title)]
        assert shares == sorted(shares, reverse=True) and len(shares) == 3 * title.startswith("Cluster ")
    if refinement == "none":
        regions = torch.from_numpy(result.evidence[0].map)[None, None].float()
        grown = torch.nn.functional.interpolate(regions, (80, 128), mode="nearest")[0, 0].numpy()
        assert all(len(np.unique(result.label_map[grown == k])) == 1 for k in range(4))


def test_a_mask_keeps_to_the_edges_of_the_picture() -> None:
    image = np.zeros((24, 40, 3), np.uint8)
    image[:, 20:] = 255
    mask = torch.zeros(24, 40)
    mask[:, 23:] = 1
    for by in ("crf", "pamr"):
        (moved,) = refined(image, [mask], by, torch.device("cpu"))
        assert torch.equal(moved.gt(0.5).any(0), torch.arange(40) >= 20), by
    assert refined(image, [mask], "none", torch.device("cpu")) == [mask]


@pytest.mark.parametrize("by", ["crf", "pamr"])
def test_masks_are_refined_one_by_one_on_one_lattice(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    halves, built, shares = [torch.zeros(16, 20) for _ in range(3)], [], []
    for number, mask in enumerate(halves):
        mask[:, : 5 + 5 * number] = 1
    alone = [refined(image, [mask], by, torch.device("cpu"))[0] for mask in halves]
    build = refine.Lattice.__init__
    monkeypatch.setattr(refine.Lattice, "__init__", lambda self, features: built.append(build(self, features)))
    together = refined(image, halves, by, torch.device("cpu"), progress=shares.append)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert len(built) == (2 if by == "crf" else 0)
    assert shares == pytest.approx([number / 30 for number in range(30)])  # three masks, ten iterations each
    assert refined(image, [], by, torch.device("cpu")) == []


def test_without_classes_the_caption_gives_the_words(with_clip: Models, wide: Scene) -> None:
    said = replace(wide, caption="a photo of a brown dog and a traffic light")
    result = FreeSegDiff(refinement="none").segment(with_clip, said, ())
    assert result.labels == ("background", "brown dog", "traffic light")
    joined = FreeSegDiff(refinement="none", vocabulary="open").segment(with_clip, said, parse_classes("sofa"))
    assert joined.labels == ("background", "sofa", "brown dog", "traffic light")
    assert 1 not in joined.label_map  # the caption does not speak of it
    method = FreeSegDiff(vocabulary="open")
    candidates = method.prepare(with_clip, parse_classes("dog|puppy, sofa")).candidates(said)
    assert [word.name for word in candidates.names] == ["dog", "sofa", "traffic light"]
    assert candidates.allowed == (True, False, True)
    captioned = FreeSegDiff(refinement="none").segment(with_clip, wide, ())
    assert captioned.evidence[0].title.startswith("Caption: ")


def test_nothing_to_say_is_all_background(with_clip: Models, wide: Scene) -> None:
    for classes in ((), CLASSES):
        result = FreeSegDiff().segment(with_clip, replace(wide, caption="running quickly"), classes)
        assert result.label_map.max() == 0 and result.shares["background"] == 1


def test_a_picture_of_one_colour_and_more_clusters_than_places(with_clip: Models) -> None:
    plain = from_image(with_clip, np.full((64, 64, 3), 200, np.uint8))
    result = FreeSegDiff(words="classes", clusters=20).segment(with_clip, plain, CLASSES)
    assert result.scores().shape == (4, 64, 64) and np.isfinite(result.scores()).all()
    coarse = FreeSegDiff(words="classes", clusters=20, grid_stride=8).segment(with_clip, plain, CLASSES)
    assert len(np.unique(coarse.evidence[0].map)) <= 16
    adaptive = FreeSegDiff(words="classes", adaptive=True, algorithm="agglomerative").segment(with_clip, plain, CLASSES)
    assert len(np.unique(adaptive.evidence[0].map)) == 5


def test_the_network_stops_after_the_last_query_that_is_read(with_clip: Models, wide: Scene) -> None:
    unet, ran = with_clip.backbone.network, []
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs, name=name: ran.append(name))
        for name, module in unet.named_modules()
        if name.count(".") <= 3
    ]
    try:
        FreeSegDiff(words="classes", refinement="none").segment(with_clip, wide, CLASSES)
    finally:
        for hook in hooks:
            hook.remove()
    assert "up_blocks.1" in ran and "up_blocks.1.attentions.2" in ran
    assert not any(name.startswith(("up_blocks.2", "up_blocks.3", "conv_out")) for name in ran)


@pytest.mark.parametrize("features", ["diffusion", "clip", "dino", "pixels"])
def test_what_is_clustered_can_be_exchanged(with_clip: Models, wide: Scene, features: str) -> None:
    method = FreeSegDiff(features=features, words="classes", refinement="none", clusters=3)
    found = features_of(with_clip, method, wide, with_clip.backbone.encode_text([""], [""]))
    assert found.shape[1:] == tuple(side // 2 for side in wide.latent.shape[-2:])
    assert {"diffusion": 2 * 16, "clip": 192, "dino": 24, "pixels": 3}[features] <= found.shape[0]
    assert len(np.unique(method.segment(with_clip, wide, CLASSES).evidence[0].map)) == 3


def test_the_layers_that_are_named_are_clustered_whatever_their_grids(with_clip: Models, wide: Scene) -> None:
    nothing, crossing = with_clip.backbone.encode_text([""], [""]), crossing_of(with_clip.backbone)
    at_stride = tuple(k for k, site in enumerate(crossing) if site.stride == 2)
    read = partial(features_of, with_clip, scene=wide, nothing=nothing)
    every = read(settings=FreeSegDiff(query_stride=2))
    assert torch.equal(every, read(settings=FreeSegDiff(query_stride=4, layers=at_stride)))
    alone = [read(settings=FreeSegDiff(layers=(k,))) for k in (at_stride[-1], len(crossing) - 1)]
    assert torch.equal(every[-len(alone[0]) :], alone[0]) and crossing[-1].stride == 1
    both = read(settings=FreeSegDiff(layers=(at_stride[-1], len(crossing) - 1)))
    assert len(both) == sum(map(len, alone)) and torch.equal(both[: len(alone[0])], alone[0])


def test_best_effort_gives_a_class_several_clusters(with_clip: Models, wide: Scene) -> None:
    modes = modes_of(with_clip, FreeSegDiff)
    assert list(modes) == ["suited", "released", "best effort"] and modes["released"] == FreeSegDiff.as_released()
    result = replace(modes["best effort"], words="classes", refinement="none").segment(with_clip, wide, CLASSES)
    given = [item.label for item in result.evidence if item.group == "What CLIP sees"]
    assert len(given) == len(CLASSES) + 2 and "background" not in given


def test_a_large_picture_is_refined_on_a_small_copy() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, 48:] = 200
    mask = torch.zeros(64, 96)
    mask[:, 44:] = 1
    cpu = torch.device("cpu")
    (small,), (large,) = refined(image[::2, ::2], [mask[::2, ::2]], "pamr", cpu), refined(image, [mask], "pamr", cpu, 48)
    assert large.shape == (64, 96) and float((large[::2, ::2] - small).abs().mean()) < 0.03
    assert bool((large[:, 52:] > 0.5).all()) and bool((large[:, :40] < 0.5).all())
    assert torch.equal(refined(image, [mask], "pamr", cpu, 96)[0], refined(image, [mask], "pamr", cpu)[0])
    assert refined(image, [mask], "none", cpu, 48) == [mask]
