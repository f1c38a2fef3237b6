"""What lies beside a method's masks: its controls (empty prompt, exchanged words, random weights, centre prior), and clicks
that correct them: a place's self-attention is added to a class or taken away, under a title of its own.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ovseg.compare import Entry
from ovseg.compare.correction import BY_HAND, Mark, attention_in, corrected
from ovseg.demo.control_views import asked_of, controls_html
from ovseg.demo.picture import Picture, of_scene
from ovseg.demo.run import Results
from ovseg.evaluation.controls import CONTROLS, run_controls
from ovseg.methods import DiffSegmenter, FreeSegDiff, OVDiff, suited_to
from ovseg.models import Models
from ovseg.output import view
from ovseg.progress import silent
from ovseg.scene import from_image
from ovseg.types import Segmentation
from ovseg.words.classes import parse_classes
from tests.networks import run_of


@pytest.fixture(scope="module")
def pocket() -> Models:
    return Models("pocket", "cpu")


@pytest.fixture(scope="module")
def results(pocket: Models) -> Results:
    """DiffSegmenter of the shipped network on a scene."""
    picture = of_scene(4479)
    return run_of(pocket, [suited_to(pocket, DiffSegmenter)], picture, picture.words)


def test_a_method_beats_all_of_its_controls(pocket: Models, results: Results) -> None:
    scene = from_image(pocket, results.picture.image)
    made = list(run_controls(pocket, suited_to(pocket, DiffSegmenter), scene, results.classes))
    assert [one.title for one in made] == list(CONTROLS) and all(isinstance(one, Entry) for one in made)
    comparison = replace(results.comparison, entries=(*results.comparison.entries, *made))
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


def test_the_page_shows_them_beside_the_mask(with_clip: Models, picture: np.ndarray) -> None:
    methods = [DiffSegmenter(refinements=0, threshold=0.3)]
    results = run_of(with_clip, methods, Picture(picture), seed=5)
    controls = asked_of(results, None)
    assert controls.variant.method == methods[0] and controls.seed == 5 and controls.work(with_clip).rows == 8
    made = controls.run(with_clip, silent)
    shown = controls_html(results, results.comparison.entries[0].title, made)
    assert shown.count("<figure>") == 1 + len(CONTROLS) and "IoU" not in shown
    with pytest.raises(ValueError, match="press Run"):
        asked_of(None, None)


def test_a_mark_moves_its_class_where_the_place_attends_to(results: Results) -> None:
    (entry,), picture = results.comparison.entries, results.picture
    truth = results.comparison.truth.label_map == 1
    attention = attention_in([entry])
    # The place of the first class that is most surely missed: adding it there gains, taking it away loses.
    missed = truth & (entry.segmentation.label_map != 1)
    score = np.where(missed, -entry.segmentation.scores()[1], -np.inf)
    y, x = (float(value) for value in np.array(np.unravel_index(score.argmax(), score.shape)) / score.shape)
    label = entry.segmentation.labels[1]
    more, less = (corrected(entry, attention, [Mark(label, x, y, adds)]) for adds in (True, False))
    row = view.affinity_at(attention, x, y)
    grown = torch.nn.functional.interpolate(torch.from_numpy(row / row.max())[None, None], score.shape, mode="bilinear")[
        0, 0
    ]
    before = entry.segmentation.scores()
    inside = (before[1] < 0.35).nonzero()  # not clipped
    assert np.allclose(
        (more.segmentation.scores()[1] - before[1])[inside], 0.6 * (before.max() - before.min()) * grown[inside], atol=1e-5
    )
    assert np.array_equal(more.segmentation.scores()[2:], before[2:])
    free = Segmentation(picture.image, entry.segmentation.labels, 10 * before)  # no threshold: scores of any size
    moved = corrected(replace(entry, segmentation=free), attention, [Mark(label, x, y, True)]).segmentation.scores()[1]
    assert np.allclose(moved - 10 * before[1], 6 * (before.max() - before.min()) * grown.numpy(), atol=1e-4)
    found = [np.count_nonzero(missed & (one.segmentation.label_map == 1)) for one in (less, entry, more)]
    assert found[0] == found[1] == 0 < found[2]
    assert more.title == "DiffSegmenter" + BY_HAND and np.array_equal(picture.image, more.segmentation.image)


def test_it_is_marked_everywhere_and_taken_back(results: Results) -> None:
    mark = Mark(results.comparison.classes[0], 0.4, 0.5, True)
    made = results.with_marks("DiffSegmenter", (mark,))
    assert [entry.title for entry in made.comparison.entries] == ["DiffSegmenter", "DiffSegmenter" + BY_HAND]
    assert [entry["title"] for entry in made.drawn] == ["DiffSegmenter", "DiffSegmenter" + BY_HAND]
    plain, card = made.cards["DiffSegmenter"], made.cards["DiffSegmenter" + BY_HAND]
    assert card["corrected by hand"] == [{"label": mark.label, "x": 0.4, "y": 0.5, "adds": True}]
    assert "corrected by hand" not in plain and plain == results.cards["DiffSegmenter"]
    twice = made.with_marks("DiffSegmenter", (mark, mark))
    assert len(twice.comparison.entries) == 2 and len(twice.cards["DiffSegmenter" + BY_HAND]["corrected by hand"]) == 2
    back = twice.with_marks("DiffSegmenter", ())
    assert back.comparison.entries == results.comparison.entries and back.cards == results.cards


def test_what_cannot_be_corrected_says_so(results: Results, with_clip: Models, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="A mark must be of one of car, cat, but got 'dog'"):
        results.with_marks("DiffSegmenter", (Mark("dog", 0.5, 0.5, True),))
    others = run_of(with_clip, [suited_to(with_clip, FreeSegDiff)], Picture(picture), caption="a cat")
    with pytest.raises(ValueError, match="but none of these does"):
        others.with_marks(others.comparison.entries[0].title, (Mark("cat", 0.5, 0.5, True),))
