"""Stable Diffusion 1.5's own configuration with random weights: the path a real checkpoint takes, at 512 px."""

from pathlib import Path

import numpy as np
import pytest

from ovseg.backbones.base import Capture
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.models import Models
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.networks import full_size_pipeline
from tests.self_attention import selves


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    return StableDiffusion(full_size_pipeline(tmp_path_factory.mktemp("tokenizer"), 64), "full", "cpu")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_classes_at_512_px_in_one_pass(full: StableDiffusion, tmp_path: Path) -> None:
    assert sum(p.numel() for p in full.unet.parameters()) == 859_520_964
    models = Models("pocket", device="cpu")
    models._backbone = full
    batches = []
    hook = full.unet.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].shape))
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    scene = from_image(models, image)
    assert scene.latent.shape == (1, 4, 56, 72)
    assert full.rows_per_pass((56, 72), Capture(states=selves(full, 1))) >= 2
    result = DiffSegmenter().segment(models, scene, parse_classes("cat, grass"))
    hook.remove()
    assert batches == [(2, 4, 56, 72)]
    assert result.scores().shape == (3, 375, 500) and np.isfinite(result.scores()).all()
    strides = {e.group for e in result.evidence}
    assert len(strides) == 7  # refined, fused, four strides, self-attention
