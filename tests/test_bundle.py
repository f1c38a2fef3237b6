"""The bundle that ships: what plain diffusers makes of it, and what it weighs."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from ovseg.assets import ASSETS
from ovseg.backbones import BACKBONES
from ovseg.evaluation.benchmark import Benchmark
from ovseg.evaluation.datasets import PocketDataset
from ovseg.methods import DiffSegmenter, suited_to
from ovseg.models import Models
from ovseg.pocket.train_judge import Judge, accuracy_on
from ovseg.pocket.world import LABELS
from ovseg.scene import from_prompt
from ovseg.words.classes import parse_classes


def test_plain_diffusers_loads_it_and_draws() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(BACKBONES["pocket"].source)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a photo of a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert picture.size == (128, 128) and np.asarray(picture).std() > 5


def test_assets_are_light() -> None:
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 56 * 2**20
    assert max(sizes.values()) < 10_000_000


def test_what_was_trained_is_written_down() -> None:
    trained = json.loads((ASSETS / "pocket" / "training.json").read_text())
    assert all(entry["samples"] > 0 and entry["minutes"] > 0 for entry in trained)
    assert [entry["part"] for entry in trained][:2] == ["codec", "clip"]


def test_the_page_knows_the_words_of_the_world() -> None:
    assert tuple(word.name for word in parse_classes(BACKBONES["pocket"].classes)) == LABELS


def test_things_of_unseen_scenes_are_found(tmp_path: Path) -> None:
    """A floor that says that weights and settings belong together, not a figure: those are in docs/pocket.md."""
    models = Models("pocket", device="cpu")
    task = Benchmark(models, suited_to(models, DiffSegmenter), PocketDataset("val"), 8)
    assert task.run(tmp_path)["mean_image_miou"] > 0.5


def test_a_generated_scene_is_seeded_and_segments() -> None:
    models = Models("pocket", device="cpu")
    scene = from_prompt(models, "a photo of a cat on grass", seed=1, steps=2)
    again = from_prompt(models, "a photo of a cat on grass", seed=1, steps=2)
    assert np.array_equal(scene.image, again.image)
    result = suited_to(models, DiffSegmenter).segment(models, scene, parse_classes("cat, grass"))
    assert result.scores().shape == (3, 128, 128)


def test_the_judge_knows_real_scenes() -> None:
    """A floor again: how good it is, the card says."""
    figures = accuracy_on(Judge(ASSETS / "pocket" / "judge"), "val", 48)
    assert figures["precision"] > 0.85 and figures["recall"] > 0.75
