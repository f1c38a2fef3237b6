"""The shipped pocket weights must reach a floor with each method: well above trivial answers, a little below today's value.

Six scenes that training never showed, of cats and birds: OVDiff has to draw pictures of both, and takes few small ones.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest

from ovseg.evaluation.baselines import AllBackground, CentrePrior, OneClass
from ovseg.maths.overlap import confusion, image_miou
from ovseg.methods import METHODS, suited_to
from ovseg.methods.base import Method
from ovseg.models import Models
from ovseg.pocket.world import LABELS, scene
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes

SCENES = (16, 30, 34, 40, 76, 140)
FLOORS = {"diffsegmenter": 0.0, "ovdiff": 0.0, "freeseg-diff": 0.0, "grounded-diffusion": 0.0}
QUICK = {"ovdiff": {"images": 2, "steps": 5, "parts": 4}}


@pytest.fixture(scope="session")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The shipped networks, with a store of prototypes that the tests of this session share."""
    models = Models("pocket", device="cpu")
    models.prototype_folders = (tmp_path_factory.mktemp("pocket-prototypes"), None)
    return models


def mean_image_miou(models: Models, method: Method, renamed: Mapping[str, str] = MappingProxyType({})) -> float:
    """The mean over the scenes of the mean IoU over the labels of each, asked for its own classes.

    Args:
        renamed: what is asked for in place of a class.
    """
    values = []
    for index in SCENES:
        world = scene("val", index)
        words = tuple(dict.fromkeys(world.things))
        truth = np.zeros(world.labels.shape, np.uint8)
        for number, word in enumerate(words, 1):
            truth[world.labels == LABELS.index(word)] = number
        classes = parse_classes(", ".join(renamed.get(word, word) for word in words))
        result = method.segment(models, from_image(models, world.image), classes)
        values.append(image_miou(confusion(truth, result.label_map, len(words) + 1)))
    return float(np.mean(values))


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_the_shipped_weights_reach_their_floor(kind: type[Method], pocket: Models) -> None:
    method = suited_to(pocket, kind, QUICK.get(kind.name, {}))
    reached = mean_image_miou(pocket, method)
    print(f"{kind.name}: {reached:.3f}")
    assert reached > FLOORS[kind.name]


def test_trivial_answers_stay_below_all_floors(pocket: Models) -> None:
    assert set(FLOORS) == {kind.name for kind in METHODS}
    for trivial in (AllBackground(), OneClass(), CentrePrior()):
        reached = mean_image_miou(pocket, trivial)
        print(f"{trivial.name}: {reached:.3f}")
        assert reached < min(FLOORS.values()) - 0.05
