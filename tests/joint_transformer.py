"""A tiny network with joint attention, of the real classes of Stable Diffusion 3, with random weights."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

LAYERS, HEADS = 3, 2


def build_joint_pipeline(tiny: Path) -> StableDiffusion3Pipeline:
    """Pictures of 64 px; the text encoders have different widths, one of them narrower than what they are joined to.

    Args:
        tiny: the folder of the tiny pipeline with a U-Net, whose tokenizer is used.
    """
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(tiny / "tokenizer")
    common = CLIPTextModel.from_pretrained(tiny / "text_encoder").config.to_dict()
    encoders = [
        CLIPTextModelWithProjection(CLIPTextConfig(**common | {"hidden_size": width, "projection_dim": 8}))
        for width in (16, 24)
    ]
    transformer = SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, out_channels=4, num_layers=LAYERS, attention_head_dim=12,
        num_attention_heads=HEADS, joint_attention_dim=48, caption_projection_dim=24, pooled_projection_dim=16,
        pos_embed_max_size=32, dual_attention_layers=(1,), qk_norm="rms_norm",
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8, layers_per_block=1, shift_factor=0.1,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae.eval(),
        text_encoder=encoders[0].eval(), tokenizer=tokenizer, text_encoder_2=encoders[1].eval(), tokenizer_2=tokenizer,
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
