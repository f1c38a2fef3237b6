"""The networks of published repositories with random weights: their file names, their old names of tensors, their widths.

Written from the configurations of the repositories, at full size or narrow. What real weights know is not in them; that
they are read, and run, can be seen.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedModel,
    ViTConfig,
    ViTModel,
)

from ovseg.doctor.vocabularies import SENTENCES, write_clip_vocabulary

OLD_VAE_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # before diffusers 0.17

HEAD = "text_decoder.cls.predictions"
SHARED = {
    f"{HEAD}.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight", f"{HEAD}.decoder.bias": f"{HEAD}.bias",
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How large a written network is."""

    narrower: int = 1  # by how much widths are divided; 1 is full size
    layers: int = 100  # at most so many layers of a transformer
    half: bool = False  # weights are stored in float16, as the variant "fp16" beside nothing else

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the files."""
        return torch.float16 if self.half else torch.float32

    @property
    def groups(self) -> int:
        """Into how many groups channels are normalised."""
        return 32 if self.narrower == 1 else 4

    def width(self, full: int) -> int:
        """A width at this scale."""
        return full // self.narrower

    def depth(self, full: int) -> int:
        """A number of layers at this scale."""
        return min(full, self.layers)


def write_stable_diffusion(folder: Path, generation: int, scale: Scale) -> None:
    """stable-diffusion-v1-5 (generation 1) or stable-diffusion-2-1-base (2), as diffusers 0.6 to 0.10 saved them."""
    second = generation == 2
    text = _text_config(second, scale)
    _write_module(folder / "text_encoder", CLIPTextModel(text), "model", scale, _old_text_names)
    write_clip_vocabulary(folder / "tokenizer", "!" if second else "<|endoftext|>")
    unet = _unet_config(second, scale, text.hidden_size)
    _write_module(folder / "unet", built(UNet2DConditionModel, unet, scale.dtype), "diffusion_pytorch_model", scale)
    vae = _vae_config(scale)
    _write_module(folder / "vae", built(AutoencoderKL, vae, scale.dtype), "diffusion_pytorch_model", scale, _old_vae_names)
    version = "0.10.0.dev0" if second else "0.6.0"
    for part, name, config in (("unet", "UNet2DConditionModel", unet), ("vae", "AutoencoderKL", vae)):
        write_json(folder / part / "config.json", {"_class_name": name, "_diffusers_version": version, **config})
    write_json(folder / "text_encoder" / "config.json", {**_plain(text), "architectures": ["CLIPTextModel"]})
    write_json(folder / "scheduler" / "scheduler_config.json", _scheduler(version))
    write_json(folder / "feature_extractor" / "preprocessor_config.json", _clip_pictures())
    write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": version,
        "feature_extractor": ["transformers", "CLIPImageProcessor" if second else "CLIPFeatureExtractor"],
        **({"requires_safety_checker": False, "safety_checker": [None, None]} if second else
           {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}),
        "scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })  # fmt: skip


def _text_config(second: bool, scale: Scale) -> CLIPTextConfig:
    width, layers, heads = (1024, 23, 16) if second else (768, 12, 12)
    width = scale.width(width)
    return CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=scale.depth(layers),
        num_attention_heads=max(1, scale.width(heads)), hidden_act="gelu" if second else "quick_gelu",
        projection_dim=scale.width(512 if second else 768), bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip


def _unet_config(second: bool, scale: Scale, text: int) -> dict[str, Any]:
    down, up = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    config = {
        "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [scale.width(w) for w in (320, 640, 1280, 1280)],
        "center_input_sample": False, "cross_attention_dim": text, "down_block_types": down, "downsample_padding": 1,
        "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
        "norm_eps": 1e-05, "norm_num_groups": 32 if scale.narrower == 1 else 8, "out_channels": 4, "sample_size": 64,
        "up_block_types": up,
    }  # fmt: skip
    if second:
        heads = [max(1, scale.width(n)) for n in (5, 10, 20, 20)]
        config |= {"attention_head_dim": heads, "dual_cross_attention": False, "use_linear_projection": True}
        config |= {"num_class_embeds": None, "only_cross_attention": False, "upcast_attention": True}
    return config


def _vae_config(scale: Scale) -> dict[str, Any]:
    return {
        "act_fn": "silu", "block_out_channels": [scale.width(w) for w in (128, 256, 512, 512)],
        "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
        "norm_num_groups": 32 if scale.narrower == 1 else 8, "out_channels": 3, "sample_size": 512,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }  # fmt: skip


def _scheduler(version: str) -> dict[str, Any]:
    return {
        "_class_name": "PNDMScheduler", "_diffusers_version": version, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True,
        "steps_offset": 1, "trained_betas": None, "clip_sample": False,
    }  # fmt: skip


def _clip_pictures() -> dict[str, Any]:
    return {
        "crop_size": 224, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224,
    }  # fmt: skip


def _old_text_names(name: str) -> str:
    return name if name.startswith("text_model.") else f"text_model.{name}"


def _old_vae_names(name: str) -> str:
    for new, old in OLD_VAE_NAMES.items():
        name = name.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
    return name


def write_open_clip(folder: Path, name: str) -> None:
    """A model of open_clip's table at full size, as timm's and LAION's repositories have it."""
    folder.mkdir(parents=True, exist_ok=True)
    network = open_clip.create_model(name, precision="fp32")
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    pictures = {"mean": network.visual.image_mean, "std": network.visual.image_std}
    write_json(folder / "open_clip_config.json", {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": pictures})


def write_dino(folder: Path, scale: Scale) -> None:
    """facebook/dino-vitb8, with the names that its tensors have there."""
    width = scale.width(768)
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=scale.depth(12), num_attention_heads=scale.width(12),
        intermediate_size=4 * width, image_size=224, patch_size=8, hidden_act="gelu", layer_norm_eps=1e-12, qkv_bias=True,
    )  # fmt: skip
    _save(ViTModel(config), folder)
    write_json(folder / "preprocessor_config.json", {
        "do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor", "resample": 2, "size": 224,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    })  # fmt: skip


def write_blip(folder: Path, scale: Scale) -> None:
    """Salesforce/blip-image-captioning-base: weights as `pytorch_model.bin` alone, and BERT's tokenizer."""
    words = _write_bert_words(folder)
    text = {"vocab_size": max(words, 30524) if scale.narrower == 1 else words, "bos_token_id": 30522, "sep_token_id": 102}
    ids = {name: json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"][token]
           for name, token in (("pad_token_id", "[PAD]"), ("sep_token_id", "[SEP]"), ("bos_token_id", "[DEC]"))}  # fmt: skip
    width = scale.width(768)
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": scale.width(12)}
    config = BlipConfig(
        text_config={**text, **ids, **shape, "eos_token_id": 2, "encoder_hidden_size": width,
                     "num_hidden_layers": scale.depth(12)},
        vision_config={**shape, "image_size": 384, "patch_size": 16, "num_hidden_layers": scale.depth(12)},
        projection_dim=scale.width(512),
    )  # fmt: skip
    _save(BlipForConditionalGeneration(config), folder, as_pickle=True)
    write_json(folder / "preprocessor_config.json", {**blip_pictures(384), "processor_class": "BlipProcessor"})


def blip_pictures(side: int) -> dict[str, Any]:
    """How BLIP's and BLIP-2's repositories prepare pictures."""
    return {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_processor_type": "BlipImageProcessor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3, "rescale_factor": 1 / 255, "size": {"height": side, "width": side},
    }  # fmt: skip


def _write_bert_words(folder: Path) -> int:
    """BERT's tokenizer files over a few words: vocab.txt and tokenizer.json; how many tokens there are."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    words = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    write_json(folder / "special_tokens_map.json", {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]",
                                                "sep_token": "[SEP]", "unk_token": "[UNK]"})  # fmt: skip
    write_json(folder / "tokenizer_config.json", {
        "cls_token": "[CLS]", "do_basic_tokenize": True, "do_lower_case": True, "mask_token": "[MASK]",
        "pad_token": "[PAD]", "model_max_length": 512, "processor_class": "BlipProcessor", "sep_token": "[SEP]",
        "tokenizer_class": "BertTokenizer", "unk_token": "[UNK]", "never_split": None,
        "strip_accents": None, "tokenize_chinese_chars": True,
        "special_tokens_map_file": None,
    })  # fmt: skip
    return len(words)


def built(make: Callable[..., nn.Module], config: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    """A network of random weights, made in the precision of its file so that a large one fits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return make(**config)
    finally:
        torch.set_default_dtype(before)


def _write_module(folder: Path, network: nn.Module, stem: str, scale: Scale, renamed: Any = str) -> None:
    """The network's file under the names that its tensors had when the repository was made."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {
        renamed(name): tensor.to(scale.dtype).contiguous() for name, tensor in network.state_dict().items()
    }
    if renamed is _old_text_names:
        tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # a buffer that was kept then
    save_file(tensors, folder / f"{stem}{'.fp16' if scale.half else ''}.safetensors", {"format": "pt"})


def _save(network: PreTrainedModel, folder: Path, as_pickle: bool = False) -> None:
    """The network in transformers' old names of tensors, which it goes back to when it saves."""
    network.save_pretrained(folder)
    if as_pickle:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        # Old pickles hold shared tensors under each of their names.
        shared = {name: tensors[other] for name, other in SHARED.items() if other in tensors}
        torch.save({**shared, **tensors}, folder / "pytorch_model.bin")
        path.unlink()


def _plain(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key != "transformers_version"}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A file of a repository."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
