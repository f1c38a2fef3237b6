"""Pipelines of today from the configurations of their repositories, at full size or narrow, with random weights.

What real weights know is not in them; that they are read, and run, can be seen. Of a folder with configurations alone the
same can be made.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, PreTrainedModel

from ovseg.backbones import pipeline_class_of
from ovseg.backbones.loading import T5, Configs, configs_of
from ovseg.doctor.published import Scale, built, clip_pictures, write_json
from ovseg.doctor.vocabularies import write_clip_vocabulary, write_qwen_vocabulary
from ovseg.files import read_json

NAMES = {"_library", "_class_name"}  # in a part's configuration: which class it is of


@dataclass(frozen=True)
class Published:
    """A pipeline without weights.

    Args:
        parts: what each network and the scheduler is configured with, with `_library` and `_class_name`.
        tokenizers: for each its class, and what writes its files into a folder.
        index: what else `model_index.json` says.
    """

    kind: str
    parts: Configs
    tokenizers: Mapping[str, tuple[str, Callable[[Path], None]]]
    index: Mapping[str, Any] = field(default_factory=dict)


def write_pipeline(folder: Path, published: Published, dtype: torch.dtype) -> None:
    """Write a pipeline with random weights, one part after the other, so that a large one fits."""
    index: dict[str, Any] = {"_class_name": published.kind, "_diffusers_version": "0.35.0", **published.index}
    for part, config in published.parts.items():
        index[part] = [config["_library"], config["_class_name"]]
        if part == "scheduler":
            written = {name: value for name, value in config.items() if name != "_library"}
            write_json(folder / part / "scheduler_config.json", written)
        else:
            network_of(config, dtype).save_pretrained(folder / part)
    for part, (kind, write) in published.tokenizers.items():
        index[part] = ["transformers", kind]
        write(folder / part)
    write_json(folder / "model_index.json", index)


def network_of(config: Mapping[str, Any], dtype: torch.dtype) -> torch.nn.Module:
    """A network of random weights, made in the precision of its file."""
    kind = getattr(import_module(config["_library"]), config["_class_name"])
    values = {name: value for name, value in config.items() if name not in NAMES}
    if not issubclass(kind, PreTrainedModel):
        return built(kind.from_config, {"config": values}, dtype)
    return built(kind, {"config": AutoConfig.for_model(**{"model_type": kind.config_class.model_type} | values)}, dtype)


def of_folder(folder: Path) -> Published:
    """A pipeline that lies in a folder, of which configurations and tokenizers are read, and no weights.

    Raises:
        ValueError: there is none.
    """
    configs, index = configs_of(folder, {}), read_json(folder / "model_index.json")
    tokenizers = {
        part: (named[1], partial(shutil.copytree, folder / part))
        for part, named in index.items()
        if part.startswith("tokenizer") and isinstance(named, list) and None not in named
    }
    more = {name: value for name, value in index.items() if not isinstance(value, list) and not name.startswith("_")}
    return Published(pipeline_class_of(folder), configs, tokenizers, more)


def _clip(scale: Scale, width: int, layers: int, *, projection: int, act: str, kind: str) -> dict[str, Any]:
    wide = scale.width(width)
    return {
        "_library": "transformers", "_class_name": kind, "vocab_size": 49408, "hidden_size": wide,
        "intermediate_size": 4 * wide, "num_hidden_layers": scale.depth(layers) + (scale.layers < layers),
        "num_attention_heads": max(1, scale.width(width // 64)), "projection_dim": scale.width(projection),
        "hidden_act": act, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
    }  # fmt: skip


CLIP_TOKENIZERS = {
    "tokenizer": ("CLIPTokenizer", write_clip_vocabulary),
    "tokenizer_2": ("CLIPTokenizer", lambda folder: write_clip_vocabulary(folder, "!")),
}


def _clips(scale: Scale, first: str) -> Configs:
    """CLIP-L and OpenCLIP bigG, as both XL and Stable Diffusion 3 read prompts."""
    second = _clip(scale, 1280, 32, projection=1280, act="gelu", kind="CLIPTextModelWithProjection")
    return {"text_encoder": _clip(scale, 768, 12, projection=768, act="quick_gelu", kind=first), "text_encoder_2": second}


def _codec(scale: Scale, kind: str = "AutoencoderKL") -> dict[str, Any]:
    return {
        "_library": "diffusers", "_class_name": kind, "block_out_channels": [scale.width(w) for w in (128, 256, 512, 512)],
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4, "layers_per_block": 2,
        "norm_num_groups": scale.groups,
    }  # fmt: skip


def _steps(kind: str) -> dict[str, Any]:
    """A scheduler of noise that is added step by step, as all of Stable Diffusion before 3 has it."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return {"_library": "diffusers", "_class_name": kind, **betas}


def _euler(kind: str, spacing: str) -> dict[str, Any]:
    return _steps(f"Euler{kind}DiscreteScheduler") | {"timestep_spacing": spacing}


FLOW = {"_library": "diffusers", "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


def _unet(scale: Scale, channels: tuple[int, ...]) -> dict[str, Any]:
    return {
        "_library": "diffusers", "_class_name": "UNet2DConditionModel", "sample_size": 64, "norm_num_groups": scale.groups,
        "block_out_channels": [scale.width(width) for width in channels],
    }  # fmt: skip


def _xl(scale: Scale, scheduler: dict[str, Any], own: Mapping[str, Any]) -> Published:
    def depth(layers: Any) -> Any:
        return [depth(each) for each in layers] if isinstance(layers, (list, tuple)) else scale.depth(layers)

    clips, sizes = _clips(scale, "CLIPTextModel"), scale.width(256)
    words = [clips[name]["hidden_size"] for name in ("text_encoder", "text_encoder_2")]
    settings: dict[str, Any] = {
        "sample_size": 128, "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"], "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": [max(2, scale.width(heads)) for heads in (5, 10, 20)], "cross_attention_dim": sum(words),
        "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": sizes,
        "projection_class_embeddings_input_dim": words[1] + 6 * sizes, **own,
    }  # fmt: skip
    for name in ("transformer_layers_per_block", "reverse_transformer_layers_per_block"):
        settings |= {name: depth(settings[name])} if name in settings else {}
    parts = {"unet": _unet(scale, (320, 640, 1280)) | settings, "vae": _codec(scale) | {"scaling_factor": 0.13025}, **clips}
    zeros = {"force_zeros_for_empty_prompt": True}
    return Published("StableDiffusionXLPipeline", {**parts, "scheduler": scheduler}, CLIP_TOKENIZERS, zeros)


PNDM = _steps("PNDMScheduler") | {"skip_prk_steps": True, "set_alpha_to_one": False}


def _first(scale: Scale, levels: int, own: Mapping[str, Any]) -> Published:
    """Stable Diffusion 1.x."""
    words = _clip(scale, 768, 12, projection=768, act="quick_gelu", kind="CLIPTextModel")
    down, up = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    unet = _unet(scale, (320, 640, 1280, 1280)[:levels]) | {
        "cross_attention_dim": words["hidden_size"], "attention_head_dim": 8,
        "down_block_types": down[:levels], "up_block_types": up[-levels:], **own,
    }  # fmt: skip
    parts = {"text_encoder": words, "unet": unet, "vae": _codec(scale) | {"sample_size": 512}, "scheduler": PNDM}
    return Published("StableDiffusionPipeline", parts, {"tokenizer": CLIP_TOKENIZERS["tokenizer"]})


def _small(scale: Scale, levels: int, own: Mapping[str, Any]) -> Published:
    """The same with fewer layers (Kim et al. 2023, BK-SDM)."""
    made = _first(scale, levels, {"layers_per_block": 1, **own})
    return replace(made, parts={**made.parts, "vae": _codec(scale) | {"force_upcast": False}})


def _second(scale: Scale, scheduler: dict[str, Any], own: Mapping[str, Any]) -> Published:
    """Stable Diffusion 2.1."""
    words = _clip(scale, 1024, 23, projection=512, act="gelu", kind="CLIPTextModel")
    unet = _unet(scale, (320, 640, 1280, 1280)) | {
        "cross_attention_dim": words["hidden_size"], "use_linear_projection": True,
        "attention_head_dim": [max(2, scale.width(heads)) for heads in (5, 10, 20, 20)], **own,
    }  # fmt: skip
    parts = {"text_encoder": words, "unet": unet, "vae": _codec(scale) | {"sample_size": 512}, "scheduler": scheduler}
    return Published("StableDiffusionPipeline", parts, {"tokenizer": CLIP_TOKENIZERS["tokenizer_2"]})


def _joint(scale: Scale, own: Mapping[str, Any]) -> Published:
    """Stable Diffusion 3 and 3.5 medium, without T5."""
    clips, heads, depth = _clips(scale, "CLIPTextModelWithProjection"), max(2, scale.width(24)), scale.depth(24)
    head = 64 if scale.narrower == 1 else 16
    transformer = {
        "_library": "diffusers", "_class_name": "SD3Transformer2DModel", "sample_size": 128, "patch_size": 2,
        "in_channels": 16, "out_channels": 16, "num_layers": depth, "attention_head_dim": head, "num_attention_heads": heads,
        "joint_attention_dim": scale.width(4096), "caption_projection_dim": heads * head,
        "pooled_projection_dim": scale.width(768) + scale.width(1280), **own,
    }  # fmt: skip
    codec = _codec(scale) | {
        "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": False,
        "use_post_quant_conv": False,
    }  # fmt: skip
    parts = {"transformer": transformer, "vae": codec, **clips, "scheduler": FLOW}
    return Published("StableDiffusion3Pipeline", parts, CLIP_TOKENIZERS, dict.fromkeys(T5, (None, None)))


def _klein(scale: Scale) -> Published:
    """FLUX.2 klein 4B: 5 double and 20 single blocks, words from three layers of Qwen3-4B."""
    head = scale.width(128)
    width = scale.width(2560)
    words = {
        "_library": "transformers", "_class_name": "Qwen3ForCausalLM", "vocab_size": 151936, "hidden_size": width,
        "intermediate_size": scale.width(9728), "num_hidden_layers": 36 if scale.narrower == 1 else 28, "head_dim": head,
        "num_attention_heads": max(2, scale.width(32)), "num_key_value_heads": max(2, scale.width(8)),
        "tie_word_embeddings": True, "max_position_embeddings": 40960, "rope_theta": 1000000,
    }  # fmt: skip
    transformer = {
        "_library": "diffusers", "_class_name": "Flux2Transformer2DModel", "in_channels": 128, "num_layers": scale.depth(5),
        "num_single_layers": scale.depth(20), "attention_head_dim": head, "num_attention_heads": max(2, scale.width(24)),
        "joint_attention_dim": 3 * width, "axes_dims_rope": [head // 4] * 4, "guidance_embeds": False,
    }  # fmt: skip
    shifting = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    flow = FLOW | shifting | {"base_image_seq_len": 256, "max_image_seq_len": 4096}
    codec = _codec(scale, "AutoencoderKLFlux2")
    parts = {"transformer": transformer, "vae": codec, "text_encoder": words, "scheduler": flow}
    tokenizer = {"tokenizer": ("Qwen2TokenizerFast", write_qwen_vocabulary)}
    return Published("Flux2KleinPipeline", parts, tokenizer, {"is_distilled": True})


SSD = {
    "transformer_layers_per_block": (1, (2, 2), (4, 4)), "mid_block_type": "UNetMidBlock2D",
    "reverse_transformer_layers_per_block": ((4, 4, 10), (2, 1, 1), 1),
}  # fmt: skip
SD35 = {"pos_embed_max_size": 384, "qk_norm": "rms_norm"}

PIPELINES: dict[str, Callable[[Scale], Published]] = {
    "sdxl": lambda scale: _xl(scale, _euler("", "leading"), {}),
    "ssd1b": lambda scale: _xl(scale, _euler("", "leading"), SSD),
    "sdxl-turbo": lambda scale: _xl(scale, _euler("Ancestral", "trailing"), {"sample_size": 64}),
    "sd-turbo": lambda scale: _second(scale, _euler("", "trailing"), {}),
    "bk-base": lambda scale: _small(scale, 4, {}),
    "bk-small": lambda scale: _small(scale, 4, {"mid_block_type": None}),
    "bk-tiny": lambda scale: _small(scale, 3, {"mid_block_type": None}),
    "sd3m": lambda scale: _joint(scale, {"pos_embed_max_size": 192}),
    "sd35m": lambda scale: _joint(scale, {**SD35, "dual_attention_layers": tuple(range(scale.depth(13)))}),
    "klein": _klein,
}


def write_stable_diffusion(folder: Path, generation: int, scale: Scale) -> None:
    """stable-diffusion-v1-5 (generation 1) or stable-diffusion-2-1-base (2), as diffusers 0.6 to 0.10 saved them."""
    version, published = "0.6.0", _first(scale, 4, {})
    index: dict[str, Any] = {
        "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
    if generation == 2:
        version, published = "0.10.0.dev0", _second(scale, PNDM, {"upcast_attention": True})
        index = {"feature_extractor": ["transformers", "CLIPImageProcessor"], "safety_checker": [None, None]}
        index["requires_safety_checker"] = False
    for part, config in published.parts.items():
        index[part] = [config["_library"], config["_class_name"]]
        written = {"_diffusers_version": version, **{name: value for name, value in config.items() if name != "_library"}}
        if part == "scheduler":  # which has an option that this scheduler never had
            write_json(folder / part / "scheduler_config.json", written | {"clip_sample": False})
            continue
        network = network_of(config, scale.dtype)
        if part == "text_encoder":
            written = network.config.to_dict() | {"architectures": [config["_class_name"]]}
            del written["transformers_version"]
        write_json(folder / part / "config.json", written)
        _write_old(folder / part, part, network, scale)
    index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    published.tokenizers["tokenizer"][1](folder / "tokenizer")
    write_json(folder / "feature_extractor" / "preprocessor_config.json", clip_pictures())
    write_json(folder / "model_index.json", {"_class_name": published.kind, "_diffusers_version": version, **index})


OLD_VAE_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # before diffusers 0.17


def _write_old(folder: Path, part: str, network: torch.nn.Module, scale: Scale) -> None:
    """A network's file under the names that its tensors had when the repository was made."""
    tensors = {name: tensor.to(scale.dtype).contiguous() for name, tensor in network.state_dict().items()}
    if part == "vae":
        for new, old in OLD_VAE_NAMES.items():
            tensors = {n.replace(f".attentions.0.{new}.", f".attentions.0.{old}."): tensor for n, tensor in tensors.items()}
    if part == "text_encoder":
        tensors = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}
        tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # a buffer that was kept then
    stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
    save_file(tensors, folder / f"{stem}{'.fp16' if scale.half else ''}.safetensors", {"format": "pt"})
