"""DiffSegmenter against what its published code answers on seeded weights (`tests/oracles/README.md`)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from ovseg.backbones.base import Text
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.models import Models
from ovseg.pocket.bundle import build_pipeline
from ovseg.types import Scene
from ovseg.words.classes import parse_classes

ORACLES = Path(__file__).parent / "oracles"


def test_the_published_steps_give_the_published_scores(
    models: Models, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(ORACLES / "diffsegmenter.safetensors")
    unet = UNet2DConditionModel.from_config(json.loads((ORACLES / "diffsegmenter_unet.json").read_text()))
    unet.load_state_dict({name.removeprefix("unet."): w.float() for name, w in tensors.items() if name.startswith("unet.")})
    other = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None, requires_safety_checker=False)
    pipeline = build_pipeline(other.vae, other.text_encoder, other.tokenizer, unet.eval())
    backbone = StableDiffusion(pipeline, "oracle", "cpu")
    # The oracle's own text states and noise, which come from an encoder and a random sequence that are not here.
    text = Text(("a photograph of traffic light",), tensors["embeddings"], ((4, 5),))
    monkeypatch.setattr(backbone, "encode_text", lambda *_, **__: text)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: tensors["noise"])
    monkeypatch.setattr(type(models), "backbone", property(lambda _: backbone))
    scene = Scene(np.zeros((90, 120, 3), np.uint8), tensors["latent"])
    result = DiffSegmenter(last_token=True).segment(models, scene, parse_classes("traffic light"))
    assert result.scores()[1].shape == (90, 120)
    assert np.abs(result.scores()[1] - tensors["scores"].numpy()).max() < 1e-4
    assert np.array_equal(result.label_map == 1, result.scores()[1] > 0.5)
