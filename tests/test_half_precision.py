"""Half precision: as right as its digits allow, or an error in one sentence; never an empty picture."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from ovseg.backbones.base import Capture, Sampling, Text
from ovseg.backbones.layer_input import LayerInput, Projections
from ovseg.backbones.recording import Recorder
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.backbones.unet_layout import layout_of
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.models import Models
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.self_attention import selves

HALF = ("float16", "bfloat16")


def constant(value: float, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((1, 5, 64), value, dtype=dtype)


@pytest.mark.parametrize("value", [36, 200])
@torch.no_grad()
def test_a_product_that_is_too_large_for_half_precision_is_a_number(value: float) -> None:
    query, others = constant(value, torch.float16), torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0)).half()
    assert float((query.float() @ query.float().mT).max()) >= 82_944 and not (query @ query.mT).isfinite().all()
    layer = Attention(query_dim=64, heads=1, dim_head=64)
    same = torch.nn.Identity()
    projections = Projections(same, same, same, layer.to_out[0].weight, 1, layer.scale)
    attention = LayerInput(projections, query, query, (1, 5)).attention()
    assert torch.equal(attention.probabilities(), torch.full((1, 1, 5, 5), 0.2))
    spread = attention.spread(others.mT)
    mean = others.float().mean(1)[..., None].expand(-1, -1, 5)
    assert spread.dtype == torch.float32 and torch.allclose(spread, mean, atol=1e-3)
    assert torch.allclose(attention.maps(), torch.full((1, 1, 5, 5), 0.2), atol=2e-4)


@pytest.fixture(scope="module")
def second_generation() -> UNet2DConditionModel:
    """Stable Diffusion 2.1's layout, narrow: heads of 64 channels, as many as a block's width has, linear projections."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(64, 128, 256, 256), attention_head_dim=(1, 2, 4, 4), cross_attention_dim=32,
        use_linear_projection=True, upcast_attention=True, layers_per_block=1,
    ).eval()  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float16, 2e-2)])
@torch.no_grad()
def test_traced_equals_untraced_at_the_widths_of_stable_diffusion_2(
    second_generation: UNet2DConditionModel, dtype: torch.dtype, tolerance: float
) -> None:
    unet, layout = copy.deepcopy(second_generation).to(dtype), layout_of(second_generation)
    heads = {site.stride: unet.get_submodule(site.name).heads for site in layout.sites}
    assert heads == {1: 1, 2: 2, 4: 4, 8: 4} and all(unet.get_submodule(s.name).upcast_attention for s in layout.sites)
    latent, text = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((1, 4, 8, 16), (1, 7, 32)))
    plain = unet(latent.to(dtype), 100, encoder_hidden_states=text.to(dtype)).sample
    recorder = Recorder(layout, Capture(cross=(1, 2, 4, 8)), Text(("",), text.to(dtype), ((),)), (8, 16))
    with recorder.attached(unet):
        traced = unet(latent.to(dtype), 100, encoder_hidden_states=text.to(dtype)).sample
    assert plain.std() > 0.01 and torch.equal(traced, plain)
    cross = recorder.trace(100, latent).cross[layout.sites[1]]
    assert cross.shape == (1, 8, 16, 7) and torch.allclose(cross.sum(-1), torch.ones(1), atol=tolerance)


@pytest.mark.parametrize("dtype", HALF)
def test_a_method_in_half_precision_gives_nearly_the_same_scores(tiny_folder: Path, picture: np.ndarray, dtype: str) -> None:
    scores = []
    for models in (Models(str(tiny_folder), "cpu"), Models(str(tiny_folder), "cpu", dtype)):
        scene = from_image(models, picture)
        assert scene.latent.dtype == models.dtype
        method = DiffSegmenter(stride_weights=(0.0, 0.0, 0.0, 1.0), refinements=0)
        scores.append(method.segment(models, scene, parse_classes("cat")).scores()[1])
    assert np.isfinite(scores[1]).all() and np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("unet", "The network's attention and features"),
        ("sampling", "The generated latents"),
        ("text_encoder", "The text encoder's states"),
        ("vae", "The picture's latents"),
        ("vae decoder", "The pixels"),
    ],
)
def test_what_overflows_is_said(tiny_folder: Path, picture: np.ndarray, part: str, what: str) -> None:
    models = Models(str(tiny_folder), "cpu", "float16")
    backbone = models.backbone
    latent, text = torch.zeros(1, 4, 8, 8, dtype=torch.float16), backbone.encode_text(["a cat"], ["cat"])
    with torch.no_grad():
        if part == "unet":
            for site in (site for site in backbone.sites if site.kind == "self"):
                backbone.network.get_submodule(site.name).to_q.weight.fill_(float("inf"))
            calls = [
                lambda: backbone.trace(latent, text, 100, Capture(cross=(8,)), 0),
                lambda: backbone.trace(latent, text, 100, Capture(phrases=(8,)), 0),
                lambda: backbone.trace(latent, text, 100, Capture(states=selves(backbone, 1)), 0).spread(latent[:, 0], 1),
                lambda: backbone.trace(latent, text, 100, Capture(features=(1,)), 0),
                lambda: backbone.trace(latent, text, 100, Capture(queries=backbone.sites[:1]), 0),
            ]
        elif part == "sampling":
            backbone.network.conv_out.weight.fill_(float("inf"))
            calls = [lambda: backbone.generate("a cat", [0], Sampling(1, 1.0))]
        elif part == "text_encoder":
            next(p for n, p in backbone.pipeline.text_encoder.named_parameters() if "token" in n).fill_(float("inf"))
            calls = [lambda: backbone.encode_text(["a cat"], ["cat"])]
        elif part == "vae":
            backbone.vae.encoder.conv_in.weight.fill_(float("nan"))
            calls = [lambda: from_image(models, picture).latent]
        else:
            backbone.vae.decoder.conv_in.weight.fill_(float("nan"))
            calls = [lambda: backbone.decode(latent)]
    for call in calls:
        with pytest.raises(ValueError, match=rf"^{what} must be finite, but in float(16|32) some are not; please") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("forced", [True, False])
def test_the_codec_is_in_float32_where_its_configuration_forces_it(tiny_folder: Path, tmp_path: Path, forced: bool) -> None:
    folder = tmp_path / "pipeline"
    shutil.copytree(tiny_folder, folder)
    config = folder / "vae" / "config.json"
    said = f'"force_upcast": {str(forced).lower()}'
    config.write_text(config.read_text().replace('"force_upcast": true', said))
    assert said in config.read_text()
    for dtype in HALF:
        backbone = Models(str(folder), "cpu", dtype).backbone
        assert backbone.vae.dtype == (torch.float32 if forced else backbone.network.dtype) != torch.float64
        assert backbone.network.dtype == backbone.pipeline.text_encoder.dtype == getattr(torch, dtype)
        (made,) = backbone.generate("a cat", [1], Sampling(1, 1.0))
        assert made.latent.dtype == backbone.network.dtype and made.image.std() > 0
    weight = Models(str(folder), "cpu", "float16").backbone.vae.encoder.conv_in.weight
    exact = Models(str(folder), "cpu", "float32").backbone.vae.encoder.conv_in.weight
    assert torch.equal(weight.float(), exact) == forced  # not rounded to half on the way
    assert Models(str(folder), "cpu", "float64").backbone.vae.dtype == torch.float64


def test_a_folder_with_halves_alone_is_read_in_every_precision(tiny_folder: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder, dtype=torch.float16, safety_checker=None)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    for dtype in ("float32", "float16"):
        backbone = Models(str(tmp_path), "cpu", dtype).backbone
        assert isinstance(backbone, StableDiffusion) and backbone.network.dtype == getattr(torch, dtype)


def test_what_clip_and_dino_cannot_compute_is_said(clip_folder: Path, dino_folder: Path, picture: np.ndarray) -> None:
    from ovseg.pretrained.clip import Clip
    from ovseg.pretrained.dino import Dino

    clip, dino = Clip(f"local-dir:{clip_folder}"), Dino(str(dino_folder))
    with torch.no_grad():
        for model in (clip._model, dino._model):
            for weight in model.parameters():
                weight.fill_(float("nan"))
    for call in (
        lambda: clip.image_embeddings([picture]),
        lambda: clip.text_embeddings(["a cat"]),
        lambda: dino.keys([picture]),
    ):
        with pytest.raises(ValueError, match="must be finite, but in float32 some are not; please check the weights"):
            call()
