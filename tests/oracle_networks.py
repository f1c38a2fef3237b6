"""The seeded tiny networks and pictures of `tests/oracles/README.md`, as the package loads them."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, ViTConfig, ViTImageProcessor, ViTModel

from ovseg.doctor.vocabularies import write_clip_vocabulary
from ovseg.models import Models
from ovseg.pretrained.clip import IMAGENET

ORACLES = Path(__file__).parent / "oracles"
SHARP = ("to_q", "to_k", ".query", ".key", "q_proj", "k_proj")
CLIP = {
    "embed_dim": 32, "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 3, "width": 64, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}  # fmt: skip
CLIP_COLOURS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


def answers(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file of answers."""
    with np.load(ORACLES / f"{name}.npz") as file:
        return dict(file)


def fill(network: nn.Module, seed: int) -> nn.Module:
    """Weights by the one rule of the README."""
    drawn = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for name in sorted(state):
        tensor = state[name]
        if tensor.is_floating_point():
            r = torch.randn(tensor.shape, generator=drawn)
            if tensor.ndim > 1 and ("embed" in name or name.endswith("cls_token")):
                r = 0.5 * r
            elif tensor.ndim > 1:
                r = r / math.sqrt(tensor[0].numel()) * (2 if any(part in name for part in SHARP) else 1)
            elif name.endswith("logit_scale"):
                r = torch.full_like(r, math.log(100))
            else:
                r = 1 + 0.1 * r if name.rpartition(".")[2] == "weight" and tensor.ndim == 1 else 0.1 * r
            tensor.copy_(r)
    network.load_state_dict(state)
    return network.eval()


def total(network: nn.Module) -> float:
    """The sum of absolute values of all weights, to check them by."""
    return float(sum(t.double().abs().sum() for t in network.state_dict().values() if t.is_floating_point()))


def write_pipeline(folder: Path, latent_side: int) -> Path:
    """The diffusion network, its codec and its text encoder."""
    write_clip_vocabulary(folder / "vocabulary")
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=latent_side, block_out_channels=(32, 32, 64, 64), layers_per_block=2, norm_num_groups=8,
        cross_attention_dim=32, attention_head_dim=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=fill(vae, 2), text_encoder=fill(CLIPTextModel(text), 3), unet=fill(unet, 1), scheduler=scheduler,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "vocabulary"), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "pipeline")  # fmt: skip
    return folder / "pipeline"


def write_clip(folder: Path) -> Path:
    """OpenAI's class of CLIP, as open_clip loads it."""
    folder.mkdir()
    network = fill(open_clip.CLIP(**CLIP, output_dict=False), 4)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    colours = {**CLIP_COLOURS, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": colours}))
    return folder


def write_dino(folder: Path) -> Path:
    """DINO's vision transformer."""
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=224, patch_size=8
    )
    fill(ViTModel(config, add_pooling_layer=False), 5).save_pretrained(folder)
    ViTImageProcessor(image_mean=IMAGENET["mean"], image_std=IMAGENET["std"]).save_pretrained(folder)
    return folder


def networks_in(folder: Path) -> Callable[[int], Models]:
    """Writes the networks to a folder, and gives them by the side of the latents."""
    clip, dino, made = write_clip(folder / "clip"), write_dino(folder / "dino"), {}

    def of(latent_side: int) -> Models:
        if latent_side not in made:
            made[latent_side] = write_pipeline(folder / f"sd{latent_side}", latent_side)
        models = Models(str(made[latent_side]), device="cpu")
        models.checkpoint = replace(models.checkpoint, clip=f"local-dir:{clip}", dino=str(dino))
        models.prototype_folders = (folder / "prototypes", None)
        return models

    return of


def enlarged(small: np.ndarray, h: int, w: int) -> np.ndarray:
    """A small picture at another size, smooth."""
    return np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC))


def picture(h: int, w: int, seed: int) -> np.ndarray:
    """The README's `picture`."""
    return enlarged(np.random.default_rng(seed).integers(0, 256, (h // 12, w // 12, 3), np.uint8), h, w)


def noise(h: int, w: int, seed: int) -> np.ndarray:
    """The README's `noise`."""
    return enlarged(np.random.default_rng(seed).integers(0, 256, (h // 16 + 1, w // 16 + 1, 3), np.uint8), h, w)


def any_picture(h: int, w: int, seed: int) -> np.ndarray:
    """The README's `any`."""
    drawn = np.random.default_rng(seed)
    side = drawn.integers(2, 40)
    return enlarged(drawn.integers(0, 256, (side, side, 3), np.uint8), h, w)


def bits(packed: np.ndarray, *shape: int) -> np.ndarray:
    """Masks of a file."""
    return np.unpackbits(packed)[: math.prod(shape)].reshape(shape).astype(bool)
