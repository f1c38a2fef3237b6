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
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import BlipConfig, BlipForConditionalGeneration, PreTrainedModel, ViTConfig, ViTModel

from ovseg.doctor.vocabularies import SENTENCES
from ovseg.files import as_json, write_whole

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


def clip_pictures() -> dict[str, Any]:
    """How Stable Diffusion's repositories prepare pictures for CLIP."""
    return {
        "crop_size": 224, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224,
    }  # fmt: skip


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
    ViTModel(config).save_pretrained(folder)
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
    _save_as_pickle(BlipForConditionalGeneration(config), folder)
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


def _save_as_pickle(network: PreTrainedModel, folder: Path) -> None:
    """The network in transformers' old names of tensors, which it goes back to when it saves."""
    network.save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    # Old pickles hold shared tensors under each of their names.
    shared = {name: tensors[other] for name, other in SHARED.items() if other in tensors}
    torch.save({**shared, **tensors}, folder / "pytorch_model.bin")
    path.unlink()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A file of a repository."""
    write_whole(path, as_json(content))
