"""A `transformers` CLIP as a folder that open_clip loads by `local-dir:`."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

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


def open_clip_weights(model: CLIPModel) -> dict[str, Tensor]:
    """The model's weights by open_clip's names; there, query, key and value are one matrix."""
    state = model.state_dict()
    weights = {theirs: state[ours] for ours, theirs in _REST.items()}
    weights["text_projection"] = state["text_projection.weight"].T
    weights["visual.proj"] = state["visual_projection.weight"].T
    for tower, blocks in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
        config = model.config.text_config if tower == "text_model" else model.config.vision_config
        for layer in range(config.num_hidden_layers):
            ours, theirs = f"{tower}.encoder.layers.{layer}", f"{blocks}.resblocks.{layer}"
            for kind in ("weight", "bias"):
                parts = [state[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                weights[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(parts)
                for name, other in _BLOCK.items():
                    weights[f"{theirs}.{other}.{kind}"] = state[f"{ours}.{name}.{kind}"]
    return {name: tensor.contiguous().clone() for name, tensor in weights.items()}


def load_open_clip(model: CLIPModel, folder: Path) -> None:
    """Load the weights of `export_open_clip` into a model of the same sizes."""
    given, state = load_file(folder / "open_clip_model.safetensors"), {}
    for theirs, like in open_clip_weights(model).items():
        state[theirs] = given[theirs].to(like)
    for ours, theirs in _REST.items():
        model.get_parameter(ours).data.copy_(state[theirs])
    model.text_projection.weight.data.copy_(state["text_projection"].T)
    model.visual_projection.weight.data.copy_(state["visual.proj"].T)
    for tower, blocks in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
        for layer, block in enumerate(getattr(model, tower).encoder.layers):
            for kind in ("weight", "bias"):
                parts = state[f"{blocks}.resblocks.{layer}.attn.in_proj_{kind}"].chunk(3)
                for part, values in zip("qkv", parts, strict=True):
                    block.get_parameter(f"self_attn.{part}_proj.{kind}").data.copy_(values)
                for name, other in _BLOCK.items():
                    block.get_parameter(f"{name}.{kind}").data.copy_(state[f"{blocks}.resblocks.{layer}.{other}.{kind}"])


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
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.to(dtype) for name, tensor in open_clip_weights(model).items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(open_clip_config(model, tokenizer), indent=2) + "\n")
    tokenizer.save_pretrained(folder)
