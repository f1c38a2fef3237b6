"""Controls of a method: empty prompt, exchanged words, random weights, centre prior."""

import numpy as np
import pytest
import torch

from ovseg.compare import Comparison, Entry, Failure, Variant, run_variant
from ovseg.demo.control_views import asked_of, controls_html
from ovseg.demo.picture import Picture, of_scene
from ovseg.demo.run import RunRequest, run, titled
from ovseg.evaluation.controls import CONTROLS, run_controls
from ovseg.methods import DiffSegmenter, OVDiff, suited_to
from ovseg.models import Models
from ovseg.progress import silent
from ovseg.scene import from_image
from ovseg.server.durations import Durations
from ovseg.words.classes import parse_classes


@pytest.fixture(scope="module")
def outcomes() -> tuple[Comparison, list[Entry | Failure]]:
    """DiffSegmenter of the shipped network on a scene, and its controls."""
    models, picture = Models("pocket", "cpu"), of_scene(4479)
    classes, scene = parse_classes(picture.words), from_image(models, picture.image)
    method = suited_to(models, DiffSegmenter)
    entry = run_variant(models, scene, classes, Variant("DiffSegmenter", method))
    made = list(run_controls(models, method, scene, classes))
    entries = (entry, *(one for one in made if isinstance(one, Entry)))
    return Comparison(picture.image, entry.segmentation.labels[1:], entries, truth=picture.truth_of(classes)), made


def test_a_method_beats_all_of_its_controls(outcomes: tuple[Comparison, list[Entry | Failure]]) -> None:
    comparison, made = outcomes
    assert [one.title for one in made] == list(CONTROLS) and all(isinstance(one, Entry) for one in made)
    own, *others = (comparison.mean_iou(entry) for entry in comparison.entries)
    assert own > 0.7 and max(others) < own - 0.2, others


def test_each_control_is_what_it_says(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovseg.evaluation.controls.SEED", 1)  # this network was itself made by another seed
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    classes, scene, method = parse_classes("cat, dog"), from_image(models, image), DiffSegmenter(refinements=0)
    empty, exchanged, random, centre = run_controls(models, method, scene, classes)
    plain = method.segment(models, scene, classes).scores()
    # The two prompts say the same and are read at the same tokens, so that one class is where the other is.
    blind = empty.segmentation.scores()
    assert np.abs(blind[1] - blind[2]).mean() < 1e-4 < 0.01 < np.abs(plain[1] - plain[2]).mean()
    assert np.allclose(exchanged.segmentation.scores()[1:], plain[[2, 1]], atol=1e-5)
    assert exchanged.segmentation.labels == ("background", "cat", "dog")
    again = models.backbone.untrained(0).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in models.backbone.untrained(0).network.state_dict().items())
    assert not np.allclose(random.segmentation.scores(), plain)
    assert centre.segmentation.scores()[1, 24, 32] > 0.9
    assert np.allclose(method.segment(models, scene, classes).scores(), plain, atol=1e-5)  # the network is as it was


def test_what_cannot_be_controlled_says_why(models: Models) -> None:
    scene = from_image(models, np.zeros((48, 48, 3), np.uint8))
    method = OVDiff(extractors=("diffusion",), images=2, steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OVDiff, "undrawn", lambda self, networks, phrases: phrases)
        _, exchanged, random, _ = run_controls(models, method, scene, parse_classes("cat"))
    assert "two classes or more" in exchanged.sentence and "draw pictures of each class first" in random.sentence


def test_the_page_shows_them_beside_the_mask(with_clip: Models) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    variants = titled(with_clip, [DiffSegmenter(refinements=0, threshold=0.3)])
    asked = RunRequest(Picture(image), "cat, dog", "", "", variants, 5)
    results = run(with_clip, asked, Durations(), silent, lambda part: None)
    controls = asked_of(results, None)
    assert controls.variant == variants[0] and controls.seed == 5 and controls.work(with_clip).rows == 8
    made = controls.run(with_clip, silent)
    shown = controls_html(results, results.comparison.entries[0].title, made)
    assert shown.count("<figure>") == 1 + len(CONTROLS) and "IoU" not in shown
    with pytest.raises(ValueError, match="press Run"):
        asked_of(None, None)
