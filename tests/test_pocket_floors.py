"""The bundle that ships: what plain diffusers makes of it, what it weighs, and floors for each method.

Floors are a little below today's values, on six scenes that training never showed, of cats and birds: OVDiff has to draw
pictures of both, and takes few of few steps. They are well above trivial answers (background everywhere 0.37, a class in
the centre 0.45).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from ovseg.assets import ASSETS, SHIPPED
from ovseg.backbones import BACKBONES
from ovseg.backbones.loading import parts_left_out
from ovseg.evaluation.baselines import AllBackground, CentrePrior, OneClass
from ovseg.maths.overlap import confusion, image_miou
from ovseg.methods import METHODS, DiffSegmenter, OVDiff, obstacle_to, suited_to
from ovseg.methods.base import Method
from ovseg.methods.records import Floor
from ovseg.models import Models
from ovseg.pocket.train_judge import Judge, accuracy_on
from ovseg.pocket.world import LABELS, scene
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes

SCENES = (16, 30, 34, 40, 76, 140)
FLOORS = [(kind, floor) for kind in METHODS for floor in kind.floors]
SHIP = SHIPPED.split(",")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Models]:
    """The shipped networks by their names, each with a store of prototypes that the tests of this session share."""
    both = {name: Models(name, device="cpu") for name in SHIP}
    for name, models in both.items():
        models.prototype_folders = (tmp_path_factory.mktemp(f"prototypes-of-{name}"), None)
    return both


@pytest.fixture(scope="session")
def pocket(shipped: dict[str, Models]) -> Models:
    """The U-Net that ships."""
    return shipped["pocket"]


def mean_image_miou(models: Models, method: Method) -> float:
    """The mean over the scenes of the mean IoU over the labels of each, asked for its own classes."""
    values = []
    for index in SCENES:
        world = scene("val", index)
        words = tuple(dict.fromkeys(world.things))
        truth = np.zeros(world.labels.shape, np.uint8)
        for number, word in enumerate(words, 1):
            truth[world.labels == LABELS.index(word)] = number
        classes = parse_classes(", ".join(words))
        result = method.segment(models, from_image(models, world.image), classes)
        labels = np.where(result.label_map > len(words), 0, result.label_map)  # words of a caption are no classes here
        values.append(image_miou(confusion(truth, labels.astype(np.uint8), len(words) + 1)))
    return float(np.mean(values))


@pytest.mark.parametrize(("kind", "floor"), FLOORS, ids=[f"{kind.name} {floor.backbone}" for kind, floor in FLOORS])
def test_the_shipped_weights_reach_their_floor(kind: type[Method], floor: Floor, shipped: dict[str, Models]) -> None:
    models = shipped[floor.backbone]
    assert mean_image_miou(models, suited_to(models, kind, floor.settings)) > floor.mean_image_miou


def test_every_method_has_a_floor_on_every_network_that_ships_and_that_it_runs_on(shipped: dict[str, Models]) -> None:
    kinds = [kind for kind in METHODS if not kind.yardstick]  # which look at the picture without these networks
    runs = {(kind, name) for kind in kinds for name, models in shipped.items() if not obstacle_to(models, kind)}
    without = {(kind.name, name) for kind, name in runs - {(kind, floor.backbone) for kind, floor in FLOORS}}
    assert not without, without


def test_self_attention_makes_the_maps_better(pocket: Models) -> None:
    """The paper's refinement, at the grid that suits these weights; without it, at the threshold that then is best."""
    without = suited_to(pocket, DiffSegmenter, {"refinements": 0, "threshold": 0.35})
    assert mean_image_miou(pocket, without) < mean_image_miou(pocket, suited_to(pocket, DiffSegmenter)) - 0.02


@pytest.mark.parametrize("name", SHIP)
def test_every_word_of_the_world_ships_with_its_prototypes(name: str, tmp_path: Path) -> None:
    """So OVDiff's first run draws nothing; its support images are looked at on the sheets that ship."""
    models = Models(name, device="cpu")
    models.prototype_folders = (tmp_path, models.prototype_folders[1])
    method = suited_to(models, OVDiff)
    assert method.undrawn(models, LABELS) == ()
    item = scene("val", 16)
    result = method.segment(models, from_image(models, item.image), parse_classes(", ".join(set(item.things))))
    assert {"images", "neighbours"} == {part.kind for part in result.evidence} and not list(tmp_path.iterdir())


def test_trivial_answers_stay_below_the_floors(pocket: Models) -> None:
    weakest, *others = sorted(floor.mean_image_miou for _, floor in FLOORS)  # ConceptAttention on the small transformer
    for trivial in (AllBackground(), OneClass(), CentrePrior()):
        assert mean_image_miou(pocket, trivial) < min(weakest - 0.08, min(others) - 0.15)


@pytest.mark.parametrize("name", SHIP)
def test_plain_diffusers_loads_it_and_draws(name: str) -> None:
    row = BACKBONES[name]
    pipeline = DiffusionPipeline.from_pretrained(row.source, **parts_left_out(Path(row.source)) if row.joint else {})
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a photo of a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert picture.size == (128, 128) and np.asarray(picture).std() > 5


def test_assets_are_light() -> None:
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 82 * 2**20
    assert max(sizes.values()) < 10_000_000


def test_what_was_trained_is_written_down() -> None:
    trained = json.loads((ASSETS / "pocket" / "training.json").read_text())
    assert all(entry["samples"] > 0 and entry["minutes"] > 0 for entry in trained)
    assert [entry["part"] for entry in trained][:2] == ["codec", "clip"]


def test_the_page_knows_the_words_of_the_world() -> None:
    assert tuple(word.name for word in parse_classes(BACKBONES["pocket"].classes)) == LABELS


def test_the_judge_knows_real_scenes() -> None:
    """A floor again: how good it is, the card says."""
    figures = accuracy_on(Judge(ASSETS / "pocket" / "judge"), "val", 48)
    assert figures["precision"] > 0.85 and figures["recall"] > 0.75
