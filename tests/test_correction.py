"""Correcting by clicks: a place's self-attention is added to a class or taken away, under a title of its own."""

import numpy as np
import pytest
import torch

from ovseg.compare.correction import BY_HAND, Mark, attention_in, corrected
from ovseg.demo.picture import Picture, of_scene
from ovseg.demo.run import Results, RunRequest, run, titled
from ovseg.methods import DiffSegmenter, FreeSegDiff, suited_to
from ovseg.models import Models
from ovseg.output import view
from ovseg.progress import silent
from ovseg.server.durations import Durations


@pytest.fixture(scope="module")
def results() -> Results:
    models, picture = Models("pocket", "cpu"), of_scene(4479)
    asked = RunRequest(picture, picture.words, "", "", titled(models, [suited_to(models, DiffSegmenter)]), 0)
    return run(models, asked, Durations(), silent, lambda part: None)


def test_a_mark_moves_its_class_where_the_place_attends_to(results: Results) -> None:
    (entry,), picture = results.comparison.entries, results.picture
    truth = results.truth == 1
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
    asked = RunRequest(Picture(picture), "cat, dog", "a cat", "", titled(with_clip, [suited_to(with_clip, FreeSegDiff)]), 0)
    others = run(with_clip, asked, Durations(), silent, lambda part: None)
    with pytest.raises(ValueError, match="but none of these does"):
        others.with_marks(others.comparison.entries[0].title, (Mark("cat", 0.5, 0.5, True),))
