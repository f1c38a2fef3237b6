import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from ovseg.progress import Stages, duration, with_time_left, within
from ovseg.types import Evidence, Segmentation, named

IMAGE = np.zeros((2, 4, 3), np.uint8)


def test_scores_expand_to_the_image_and_labels_follow_from_them() -> None:
    scores = torch.tensor([[[0.2, 0.9]], [[0.6, 0.1]]])
    result = Segmentation.from_scores(IMAGE, ("cat", "dog"), scores, threshold=0.5)
    assert result.labels == ("background", "cat", "dog")
    assert result.scores().shape == (3, 2, 4)
    assert result.label_map.tolist() == [[2, 0, 1, 1], [2, 0, 1, 1]]
    assert result.shares == {"background": 0.25, "cat": 0.5, "dog": 0.25}


def test_equal_scores_go_to_the_earlier_label() -> None:
    result = Segmentation.from_scores(IMAGE, ("cat", "dog"), torch.full((2, 1, 2), 0.5), threshold=0.5)
    assert (result.label_map == 0).all()
    assert (result.with_threshold(0.4).label_map == 1).all()


def test_an_entry_that_a_table_lacks_is_one_sentence() -> None:
    assert named({"a": 1, "b": 2}, "letter", "b") == 2
    with pytest.raises(ValueError, match="The letter must be one of a, b, but got 'c'"):
        named({"a": 1, "b": 2}, "letter", "c")


def test_stages_add_up_and_are_reported_as_they_begin() -> None:
    calls: list[tuple[str, float]] = []
    stages = Stages(lambda stage, share: calls.append((stage, share)))
    for share in (0.1, 0.5):
        with stages.stage("tracing", share):
            calls.append(("work", 0.0))
            sum(range(300_000))
    first = dict(stages.timings)
    with stages.stage("tracing"):
        pass  # next to nothing is added
    assert calls[:3] == [("tracing", 0.1), ("work", 0.0), ("tracing", 0.5)] and calls[4] == ("tracing", 0.0)
    assert list(stages.timings) == ["tracing"] and stages.timings["tracing"] > first["tracing"] > 0


def test_moving_the_threshold_changes_the_background_alone() -> None:
    result = Segmentation.from_scores(IMAGE, ("cat",), torch.tensor([[[0.2, 0.9]]]), threshold=0.5)
    moved = result.with_threshold(0.1)
    assert np.array_equal(moved.scores()[1:], result.scores()[1:])
    assert (moved.label_map == 1).all()
    assert result.with_threshold(0.95).shares["background"] == 1.0


def test_a_class_may_have_a_threshold_of_its_own() -> None:
    scores = torch.tensor([[[0.2, 0.9]], [[0.6, 0.8]]])
    result = Segmentation.from_scores(IMAGE, ("cat", "dog"), scores, threshold=0.5)
    plain = result.scores()
    for name, threshold in (("cat", 0.3), ("dog", 0.79)):
        moved = result.with_class_thresholds({name: threshold})
        number = result.labels.index(name)
        alone = replace(moved, own=moved.scores()[[0, number]], labels=("background", name))
        assert np.array_equal(alone.label_map == 1, plain[number] > np.float32(threshold))
        others = [k for k in range(3) if k != number]
        assert np.array_equal(moved.scores()[others], plain[others]) and moved.threshold == 0.5
    assert result.label_map[0].tolist() == [2, 2, 2, 1]  # of two that are above theirs the one that is further above wins
    assert result.with_class_thresholds({"cat": 0.8, "dog": 0.5}).label_map[0].tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match="must be one of cat, dog, but got 'cow'"):
        result.with_class_thresholds({"cow": 0.3})
    with pytest.raises(ValueError, match="must be a threshold, but it has its own"):
        Segmentation.from_scores(IMAGE, ("cat",), scores).with_class_thresholds({"cat": 0.3})


def test_a_method_may_score_the_background_itself() -> None:
    scores = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]])
    result = Segmentation.from_scores(IMAGE, ("cat",), scores)
    assert result.label_map[0].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="must be a threshold"):
        result.with_threshold(0.5)


@pytest.mark.parametrize(
    "labels, shape, message",
    [
        (("cat",), (1, 2, 4), "must be 'background'"),
        (("background", "cat"), (3, 2, 4), r"must have shape \(2, 2, 4\), but got \(3, 2, 4\)"),
        (("background",), (2, 2, 4), "must have shape"),
    ],
)
def test_a_wrong_segmentation_cannot_be_built(labels: tuple, shape: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segmentation(IMAGE, labels, np.zeros(shape, np.float32))


def test_a_part_of_longer_work_says_which_it_is() -> None:
    said: list[tuple[str, float]] = []
    within(lambda *told: said.append(told), 0.5, 1.0, "picture 2 of 2")("drawing", 0.5)
    within(lambda *told: said.append(told), 0.0, 0.5)("drawing", 1.0)
    assert said == [("picture 2 of 2, drawing", 0.75), ("drawing", 0.5)]


def test_the_time_left_follows_what_this_run_has_done() -> None:
    stages: list[str] = []
    clock = iter([0.0, 0.0, 4.0, 8.0, 100.0])
    report = with_time_left(lambda stage, share: stages.append(stage), lambda: next(clock))
    for stage, share in (("begun", 0.5), ("soon", 0.6), ("later", 0.7), ("done", 1.0)):
        report(stage, share)
    assert stages == ["begun", "soon", "later, 12 s left", "done"]
    assert [duration(s) for s in (5, 184, 3720)] == ["5 s", "3 min 4 s", "1 h 2 min"]


def counted() -> tuple[list[int], Segmentation]:
    """A segmentation, and a list that grows by one each time its evidence is made."""
    made: list[int] = []

    def make() -> tuple[Evidence, ...]:
        time.sleep(0.02)  # long enough for other threads to ask meanwhile
        made.append(1)
        return (Evidence("seen", "heat", map=np.ones((2, 2), np.float32)),)

    return made, Segmentation.from_scores(IMAGE, ("cat",), torch.zeros(1, 1, 2), threshold=0.5, evidence=make)


def test_evidence_is_made_at_the_first_look_and_once() -> None:
    made, result = counted()
    assert result.label_map.shape == (2, 4) and result.shares and repr(result) and not made
    moved = replace(result.with_threshold(0.1), timings={"all": 1.0})
    assert not made
    with ThreadPoolExecutor(6) as pool:
        looks = list(pool.map(lambda one: one.evidence, (result, moved) * 3))
    assert len(made) == 1 and len(looks) == 6 and all(look is looks[0] for look in looks)
    assert [item.title for item in looks[0]] == ["seen"]
    assert Segmentation(IMAGE, ("background",), np.zeros((1, 2, 4), np.float32)).evidence == ()


def test_evidence_goes_along_to_another_process() -> None:
    made, result = counted()
    sent = pickle.loads(pickle.dumps(result))
    assert len(made) == 1 and np.array_equal(sent.scores(), result.scores()) and sent.threshold == 0.5
    assert [item.title for item in sent.evidence] == ["seen"] and (sent.evidence[0].map == 1).all()
    assert pickle.loads(pickle.dumps(sent)).evidence[0].title == "seen" and len(made) == 1


def test_evidence_that_could_not_be_made_is_tried_again() -> None:
    answers = iter([ValueError("gone"), (Evidence("back", "heat"),)])

    def make() -> tuple[Evidence, ...]:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    result = Segmentation.from_scores(IMAGE, ("cat",), torch.zeros(1, 1, 2), threshold=0.5, evidence=make)
    with pytest.raises(ValueError, match="gone"):
        _ = result.evidence
    assert result.evidence[0].title == "back"
