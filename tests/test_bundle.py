"""The bundle that ships: what plain diffusers makes of it, and what it weighs."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from ovseg.assets import ASSETS
from ovseg.backbones import BACKBONES
from ovseg.methods import DiffSegmenter, suited_to
from ovseg.models import Models
from ovseg.pocket.world import LABELS
from ovseg.scene import from_image, from_prompt, read_image
from ovseg.vocabulary import parse_classes


def test_plain_diffusers_loads_it_and_draws() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(BACKBONES["pocket"].source)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a photo of a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert picture.size == (128, 128) and np.asarray(picture).std() > 5


def test_assets_are_light() -> None:
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 48 * 2**20
    assert max(sizes.values()) < 10_000_000


def test_what_was_trained_is_written_down() -> None:
    trained = json.loads((ASSETS / "pocket" / "training.json").read_text())
    assert all(entry["samples"] > 0 and entry["minutes"] > 0 for entry in trained.values())


def test_the_page_knows_the_words_of_the_world() -> None:
    assert tuple(word.name for word in parse_classes(BACKBONES["pocket"].classes)) == LABELS


@pytest.mark.parametrize("name, word", [("boat-bird", "water"), ("sheep-house", "grass")])
def test_stuff_of_the_examples_is_found(name: str, word: str) -> None:
    """A floor for the shipped weights, not a figure: the stuff of a scene that they were not trained on."""
    models = Models("pocket", device="cpu")
    scene = from_image(models, read_image(ASSETS / "examples" / f"{name}.png"))
    method = suited_to(models, DiffSegmenter)
    result = method.segment(models, scene, parse_classes(f"{word}, {name.replace('-', ', ')}"))
    assert result.shares[word] > 0.2


def test_a_generated_scene_is_seeded_and_segments() -> None:
    models = Models("pocket", device="cpu")
    scene = from_prompt(models, "a photo of a cat on grass", seed=1, steps=4)
    again = from_prompt(models, "a photo of a cat on grass", seed=1, steps=4)
    assert np.array_equal(scene.image, again.image)
    result = suited_to(models, DiffSegmenter).segment(models, scene, parse_classes("cat, grass"))
    assert result.scores.shape == (3, 128, 128)
