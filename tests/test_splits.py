"""Class splits: what they hold, which ones a backbone offers, splits of one's own, and the words of a COCO detector."""

import json
from pathlib import Path

import numpy as np
import pytest

from ovseg.__main__ import build_parser, main
from ovseg.factory.splits import COCO, COCO_UNSEEN, SPLITS, UNSEEN, VOC, find_split, splits_for
from ovseg.pocket.world import THINGS
from ovseg.pretrained.detector import Detector, Instance, plain
from tests.triplet_items import read_shard

VOC_NAMES = (  # of the data set's files
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
COCO_NAMES = (  # the same classes in COCO's words
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog", "horse",
    "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
)  # fmt: skip


class Labelled(Detector):
    """Finds each of its labels everywhere."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.own = labels

    labels = property(lambda self: self.own)

    def instances(self, image: np.ndarray) -> tuple[Instance, ...]:
        return tuple(Instance(label, 0.9, np.ones(image.shape[:2], bool)) for label in self.own)


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_a_split_parts_its_classes(split: object) -> None:
    assert set(split.unseen) < set(split.classes) and len(set(split.classes)) == len(split.classes)
    assert set(split.seen) == set(split.classes) - set(split.unseen)
    expected = {"coco-65-15": (65, 15), "S3": (20, 4)}.get(split.name, (19, 5) if split.name in UNSEEN else (15, 5))
    assert (len(split.seen), len(split.unseen)) == expected
    assert split.classes == {"S": THINGS, "Z": THINGS, "v": VOC, "c": COCO}[split.name[0]]


def test_vocs_splits_are_those_of_the_released_code() -> None:
    assert VOC == VOC_NAMES
    assert set(find_split("voc-S1").unseen) == {"tvmonitor", "car", "dog", "sofa", "train"}
    assert set(find_split("voc-S2").unseen) == {"horse", "motorbike", "person", "pottedplant", "sheep"}
    assert set(find_split("voc-S3").unseen) == {"bus", "cat", "chair", "cow", "diningtable"}
    assert set(find_split("voc-ZS3").unseen) == {"pottedplant", "sheep", "sofa", "train", "tvmonitor"}
    assert {"aeroplane", "diningtable", "pottedplant"} <= set(find_split("voc-S1").seen)


def test_cocos_split_is_the_widely_used_one() -> None:
    assert len(COCO) == 80 and set(COCO_NAMES) <= set(COCO)
    hidden = (
        "airplane, train, parking meter, cat, bear, suitcase, frisbee, snowboard, fork, sandwich, hot dog, toilet, mouse"
    )
    assert set(COCO_UNSEEN) == {*hidden.split(", "), "toaster", "hair drier"}


def test_a_backbone_offers_what_it_can_draw(tiny_folder: Path) -> None:
    assert splits_for("pocket") == ("S1", "S2", "S3", "ZS3")
    assert splits_for("sd15") == splits_for("sd21") == ("voc-S1", "voc-S2", "voc-S3", "voc-ZS3", "coco-65-15")
    assert splits_for(str(tiny_folder)) == tuple(SPLITS)
    with pytest.raises(ValueError, match=r"must be one of S1, S2, S3, ZS3, or a JSON file .*, but got 'voc-S1'"):
        find_split("voc-S1", splits_for("pocket"))


@pytest.mark.parametrize("command", ["triplets", "grounded-generation", "synthesize", "train"])
def test_help_names_every_split(command: str) -> None:
    (action,) = (action for action in build_parser(command)._actions if action.choices)
    said = " ".join(action.choices[command].format_help().split())
    assert all(name in said.replace("- ", "-") for name in SPLITS) and '"seen"' in said


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"seen": ["cat"]}', "with these two lists and nothing else"),
        ('["cat"]', "with these two lists and nothing else"),
        ('{"seen": ["cat"], "unseen": []}', "'unseen' of the class split .* must hold one word or more"),
        ('{"seen": "cat", "unseen": ["dog"]}', "'seen' of the class split .* must hold one word or more"),
        ('{"seen": ["cat", 3], "unseen": ["dog"]}', "'seen' of the class split .* must hold one word or more"),
        ('{"seen": ["cat", "dog"], "unseen": ["dog"]}', r"mean the same: \['dog', 'dog'\]"),
        ('{"seen": ["tv"], "unseen": ["tvmonitor"]}', r"mean the same: \['tv', 'tvmonitor'\]"),
        ('{"seen": ["cat"', "reading .* failed"),
    ],
)
def test_a_wrong_file_is_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        find_split(str(path))


def test_a_file_has_a_name_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json failed"):
        find_split(str(tmp_path / "none.json"))
    (tmp_path / "S1.json").write_text('{"seen": ["cat"], "unseen": ["dog"]}')
    with pytest.raises(ValueError, match="must have a name of its own"):
        find_split(str(tmp_path / "S1.json"))


def test_a_split_of_ones_own_is_drawn(tiny_folder: Path, detector_folder: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "pets.json", tmp_path / "set"
    path.write_text(json.dumps({"seen": ["cat", "potted  plant"], "unseen": ["dog"]}))
    split = find_split(str(path))
    assert (split.name, split.seen, split.unseen) == ("pets", ("cat", "potted plant"), ("dog",))
    assert (find_split(split.source).seen, find_split(split.source).unseen) == (split.seen, split.unseen)
    network = ["--backbone", str(tiny_folder), "--device", "cpu", "--detector", str(detector_folder)]
    made = ["triplets", *network, "--split", str(path), "--count", "8", "--steps", "1", "--latents", "--out", str(out)]
    assert main(made) == 0
    items = [item for shard in sorted((out / "shards").iterdir()) for item in read_shard(shard)]
    assert {word for item in items for word in item.order.words} == set(split.seen)


@pytest.mark.parametrize("own, other", [(VOC_NAMES, COCO_NAMES), (COCO_NAMES, VOC_NAMES)], ids=["VOC's", "COCO's"])
def test_a_detector_knows_the_other_data_sets_words(own: tuple[str, ...], other: tuple[str, ...]) -> None:
    detector = Labelled(own)
    assert all(detector.knows(word) for word in other)
    found = detector.masks(np.zeros((4, 4, 3), np.uint8), other)
    assert set(found) == set(other)
    for mine, theirs in zip(own, other, strict=True):  # and each by its own class alone
        assert set(Labelled((mine,)).masks(np.zeros((4, 4, 3), np.uint8), other)) == {theirs}


def test_cocos_words_stay_apart() -> None:
    assert len({plain(word) for word in COCO}) == 80 and len({plain(word) for word in VOC}) == 20
    for written in ("Hair dryer", "cellphone", "doughnut", "tv/monitor", "potted-plant", "traffic_light"):
        assert Labelled(COCO).knows(written)
