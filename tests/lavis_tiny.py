"""Runs inside LAVIS's own process: tiny BLIP and BLIP-2 checkpoints in LAVIS's format, registered as "tiny".

Weights are random but for one: BLIP's decoder prefers the word "cat" to all others, so a caption shows that the checkpoint
was loaded. The sizes of the vision towers are fixed in LAVIS's code; small ones take their places.
"""

import json
import os
from pathlib import Path

import torch
from lavis.models import BlipCaption
from lavis.models.blip2_models.blip2 import Blip2Base, LayerNorm
from lavis.models.blip2_models.blip2_opt import Blip2OPT
from lavis.models.blip2_models.modeling_opt import OPTForCausalLM
from lavis.models.blip2_models.Qformer import BertLMHeadModel
from lavis.models.med import BertConfig, XBertLMHeadDecoder
from lavis.models.vit import VisionTransformer, VisionTransformerEncoder
from omegaconf import OmegaConf
from transformers import OPTConfig

WIDTH, SIZE = 32, 32
folder = Path(os.environ["OVSEG_TINY_LAVIS"])
folder.mkdir(parents=True, exist_ok=True)
os.chdir(folder)  # where "bert-base-uncased" and "tiny-opt" are found as local folders
torch.manual_seed(0)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "picture", "cat", "dog", "grass", "on"]
BERT = {
    "vocab_size": len(WORDS) + 2, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64, "encoder_width": WIDTH, "add_cross_attention": True,
    "add_type_embeddings": False, "model_type": "bert", "pad_token_id": 0,
}  # fmt: skip


def vision(cls: type) -> VisionTransformer:
    tower = cls(img_size=SIZE, patch_size=16, embed_dim=WIDTH, depth=1, num_heads=2)
    tower.vision_width = WIDTH
    return tower


VisionTransformerEncoder.from_config = classmethod(lambda cls, cfg, from_pretrained=False: vision(cls))
Blip2Base.init_vision_encoder = classmethod(lambda cls, *arguments: (vision(VisionTransformer), LayerNorm(WIDTH)))


def write_words() -> None:
    bert, opt = folder / "bert-base-uncased", folder / "tiny-opt"
    bert.mkdir(exist_ok=True)
    (bert / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (bert / "config.json").write_text(json.dumps(BERT))
    (folder / "med.json").write_text(json.dumps(BERT))
    queries = BertConfig.from_dict(BERT | {"cross_attention_freq": 2, "query_length": 4})
    torch.save(BertLMHeadModel(queries).state_dict(), bert / "pytorch_model.bin")
    letters = ["</s>", "<pad>", "Ċ", "Ġ", *map(chr, range(33, 127))]
    config = OPTConfig(
        vocab_size=len(letters), hidden_size=WIDTH, num_hidden_layers=1, ffn_dim=64, num_attention_heads=2,
        max_position_embeddings=128, word_embed_proj_dim=WIDTH, bos_token_id=0, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    OPTForCausalLM(config).save_pretrained(opt)
    (opt / "vocab.json").write_text(json.dumps({letter: k for k, letter in enumerate(letters)}))
    (opt / "merges.txt").write_text("#version: 0.2\n")
    (opt / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"})
    )


def register(kind: type, config: dict, model: torch.nn.Module) -> None:
    name = kind.__name__.lower()
    torch.save({"model": model.state_dict()}, folder / f"{name}.pth")
    look = {"vis_processor": {"eval": {"name": "blip_image_eval", "image_size": SIZE}}}
    words = {"text_processor": {"eval": {"name": "blip_caption"}}}
    whole = {
        "model": {"load_finetuned": True, "finetuned": str(folder / f"{name}.pth"), "image_size": SIZE, **config},
        "preprocess": look | words,
    }
    OmegaConf.save(OmegaConf.create(whole), folder / f"{name}.yaml")
    kind.PRETRAINED_MODEL_CONFIG_DICT["tiny"] = str(folder / f"{name}.yaml")


write_words()
decoder = XBertLMHeadDecoder(config=BertConfig.from_dict(BERT))
with torch.no_grad():
    decoder.cls.predictions.bias[WORDS.index("cat")] = 50.0
blip = BlipCaption(vision(VisionTransformerEncoder), decoder, prompt="a picture of ")
register(BlipCaption, {"arch": "blip_caption", "med_config_path": str(folder / "med.json"), "prompt": "a picture of "}, blip)
settings = {
    "num_query_token": 4, "opt_model": "tiny-opt", "vit_precision": "fp32", "freeze_vit": False, "prompt": "a photo of",
}  # fmt: skip
blip2 = Blip2OPT(img_size=SIZE, num_query_token=4, opt_model="tiny-opt", freeze_vit=False, prompt="a photo of")
register(Blip2OPT, {"arch": "blip2_opt", **settings}, blip2)
