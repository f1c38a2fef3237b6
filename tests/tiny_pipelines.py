"""Tiny networks of each family, of the real classes and from the published configurations, with random weights."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ovseg.doctor.pipelines import PIPELINES, write_pipeline
from ovseg.doctor.published import Scale

LAYERS = 3  # of the networks with joint attention
CODEC = {
    "block_out_channels": [8, 16], "down_block_types": ["DownEncoderBlock2D"] * 2, "layers_per_block": 1,
    "up_block_types": ["UpDecoderBlock2D"] * 2, "latent_channels": 4,
}  # fmt: skip
JOINT = {"num_layers": LAYERS, "in_channels": 4, "out_channels": 4, "sample_size": 32, "pos_embed_max_size": 32}
OWN = {  # what is tiny of each besides widths; pictures of 64 px
    "sd35m": {"transformer": {**JOINT, "dual_attention_layers": [1]}},
    "klein": {
        "transformer": {"num_layers": 2, "num_single_layers": 2, "in_channels": 16, "joint_attention_dim": 48},
        "text_encoder": {"vocab_size": 600, "hidden_size": 16, "intermediate_size": 32},
    },
}  # fmt: skip
WORDS = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")


def write_tiny(name: str, tiny: Path, folder: Path) -> Path:
    """The pipeline of this name in a folder: four places of a picture are one of its latent, two along each side.

    Args:
        tiny: the folder of the tiny pipeline with a U-Net, whose tokenizer is used where words are CLIP's.
    """
    torch.manual_seed(0)
    published = PIPELINES[name](Scale(16, 1))
    words = json.loads((tiny / "text_encoder" / "config.json").read_text())
    clip = {part: {key: words[key] for key in WORDS} for part in ("text_encoder", "text_encoder_2")}
    own = {"vae": CODEC, "unet": {"sample_size": 32}, **clip, **OWN.get(name, {})}
    parts = {part: config | own.get(part, {}) for part, config in published.parts.items()}
    copied = {part: (kind, partial(shutil.copytree, tiny / "tokenizer")) for part, (kind, _) in published.tokenizers.items()}
    tokenizers = published.tokenizers if name == "klein" else copied
    index = published.index | ({"is_distilled": False} if name == "klein" else {})  # so that it is guided, too
    write_pipeline(folder, replace(published, parts=parts, tokenizers=tokenizers, index=index), torch.float32)
    return folder
