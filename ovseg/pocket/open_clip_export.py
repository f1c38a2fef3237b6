"""A `transformers` CLIP as a folder that open_clip loads by `local-dir:`."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from ovseg.files import as_json, write_whole

_BLOCK = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}  # fmt: skip
_REST = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "logit_scale": "logit_scale",
}


def _names(model: CLIPModel) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """For each of open_clip's weights its name, the names of ours that it holds one below the other, and whether turned.

    In open_clip query, key and value are one matrix, and projections are multiplied from the other side.
    """
    yield from ((theirs, (ours,), False) for ours, theirs in _REST.items())
    yield from (("text_projection", ("text_projection.weight",), True), ("visual.proj", ("visual_projection.weight",), True))
    for tower, blocks in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
        config = model.config.text_config if tower == "text_model" else model.config.vision_config
        for layer, kind in itertools.product(range(config.num_hidden_layers), ("weight", "bias")):
            ours, theirs = f"{tower}.encoder.layers.{layer}", f"{blocks}.resblocks.{layer}"
            yield f"{theirs}.attn.in_proj_{kind}", tuple(f"{ours}.self_attn.{part}_proj.{kind}" for part in "qkv"), False
            yield from ((f"{theirs}.{other}.{kind}", (f"{ours}.{name}.{kind}",), False) for name, other in _BLOCK.items())


def open_clip_weights(model: CLIPModel) -> dict[str, Tensor]:
    """The model's weights by open_clip's names."""
    state, weights = model.state_dict(), {}
    for theirs, ours, turned in _names(model):
        tensor = state[ours[0]] if len(ours) == 1 else torch.cat([state[name] for name in ours])
        weights[theirs] = (tensor.T if turned else tensor).contiguous().clone()
    return weights


def load_open_clip(model: CLIPModel, folder: Path) -> None:
    """Load the weights of `export_open_clip` into a model of the same sizes."""
    given, state = load_file(folder / "open_clip_model.safetensors"), model.state_dict()
    for theirs, ours, turned in _names(model):
        tensor = given[theirs].T if turned else given[theirs]
        for name, part in zip(ours, (tensor,) if len(ours) == 1 else tensor.chunk(len(ours)), strict=True):
            state[name].copy_(part)


def open_clip_config(model: CLIPModel, tokenizer: CLIPTokenizer) -> dict:
    """The content of `open_clip_config.json` for this model."""
    text, vision = model.config.text_config, model.config.vision_config
    return {
        "model_cfg": {
            "embed_dim": model.config.projection_dim,
            "quick_gelu": True,
            "vision_cfg": {
                "image_size": vision.image_size,
                "layers": vision.num_hidden_layers,
                "width": vision.hidden_size,
                "head_width": vision.hidden_size // vision.num_attention_heads,
                "patch_size": vision.patch_size,
                "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            },
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": len(tokenizer),
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "layers": text.num_hidden_layers,
                "mlp_ratio": text.intermediate_size / text.hidden_size,
                # Any name makes open_clip load the tokenizer of the folder. "eos" pools at the token that ends the prompt.
                "hf_tokenizer_name": "pocket",
                "pool_type": "eos",
                "eos_id": tokenizer.eos_token_id,
            },
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def export_open_clip(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write weights, configuration and tokenizer; open_clip loads them as the model "local-dir:FOLDER"."""
    write_whole(folder / "open_clip_config.json", as_json(open_clip_config(model, tokenizer)))
    weights = {name: tensor.to(dtype) for name, tensor in open_clip_weights(model).items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    tokenizer.save_pretrained(folder)
