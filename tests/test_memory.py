"""How much memory the full-size network takes, counted on tensors that have shapes and no numbers."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode

from ovseg.backbones.base import Text
from ovseg.backbones.counting import counting
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.backbones.unet_layout import layout_of
from ovseg.maths.live_memory import LiveMemory
from ovseg.methods import DiffSegmenter
from ovseg.models import Models
from ovseg.progress import Stages, silent
from ovseg.types import Scene


def full_size_network() -> StableDiffusion:
    """Stable Diffusion 1.5's U-Net as a backbone that can trace; its codec and its text encoder are not needed here."""
    backbone = object.__new__(StableDiffusion)
    vars(backbone).update(name="full", fingerprint="no numbers", device=torch.device("cpu"), _there="")
    backbone.network = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
    backbone.layout, backbone._lock = layout_of(backbone.network), threading.RLock()
    backbone.pipeline = SimpleNamespace(scheduler=DDIMScheduler())
    return backbone


@torch.no_grad()
def test_five_classes_take_70_mb_more_than_the_plain_pass_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """In half precision at 512 px; each row keeps 13 MB of what five layers were given, and its attention to the phrase."""
    for module in ("layer_input", "diffusers_backbone"):  # numbers that are not there are not looked at
        monkeypatch.setattr(f"ovseg.backbones.{module}.check_finite", lambda *_: None)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            models = Models("pocket", device="cpu")
            models._backbone = backbone = full_size_network()
            latent, states = torch.zeros(1, 4, 64, 64), torch.zeros(5, 77, 768)
            with LiveMemory() as plain:
                backbone.unet(latent.expand(5, -1, -1, -1), 100, encoder_hidden_states=states)
            text = Text(("a cat",) * 5, states, ((2,),) * 5)
            scene = Scene(np.zeros((512, 512, 3), np.uint8), latent)
            with LiveMemory() as traced, counting() as count:
                DiffSegmenter(refinements=2).average(models, scene, text, Stages(silent))
    finally:
        torch.set_default_dtype(before)
    assert (count.passes, count.rows) == (1, 5)
    assert plain.peak > 200e6 and 5 * 13e6 - 30e6 < traced.peak - plain.peak <= 70e6


def test_live_memory_is_what_is_held_at_one_time() -> None:
    kept = torch.zeros(1000)
    with LiveMemory() as memory:
        one = kept.double()  # 8 kB
        view = one.reshape(10, 100), kept[:10]  # nothing new
        two = one + 1
        del one, view
        three = two * 2
        del two
        four = three + 1
    assert memory.peak == 16_000 and memory.now == 16_000
    del three, four
    assert memory.now == 0
