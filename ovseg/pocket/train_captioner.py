"""The pocket captioner: a small BLIP-2 (Li et al. 2023), trained from nothing on scenes and their captions."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    PreTrainedTokenizerFast,
)

from ovseg.pocket.captions import names_in
from ovseg.pocket.data import rendered
from ovseg.pocket.tokenizer import world_words
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Training, batch_size, some_patches, trainable
from ovseg.pocket.world import THINGS, scene
from ovseg.pretrained.captioner import Captioner

BATCH = 64
QUERIES = 16
WIDTH = 160
LONGEST = 24  # tokens of a caption


def build_processor(size: int = 128) -> Blip2Processor:
    """Pictures to [-1, 1]; one token for every word of the world."""
    words = ["<pad>", "</s>", "<unk>", ",", *sorted(world_words())]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # OPT begins with its end token, as the released BLIP-2 does.
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    pixels = BlipImageProcessor(size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Blip2Processor(pixels, fast, num_query_tokens=QUERIES)


def build_captioner(processor: Blip2Processor) -> Blip2ForConditionalGeneration:
    """ViT, Q-Former and OPT of one width; the layout of `Salesforce/blip2-opt-2.7b`."""
    heads, wide = WIDTH // 32, 4 * WIDTH
    tokenizer, size = processor.tokenizer, processor.image_processor.size["height"]
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = Blip2Config(
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": wide, "num_hidden_layers": 5, "num_attention_heads": heads,
            "image_size": size, "patch_size": 16, "initializer_range": 0.02,
        },
        qformer_config={
            "vocab_size": len(tokenizer), "hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": heads,
            "intermediate_size": wide, "encoder_hidden_size": WIDTH, "cross_attention_frequency": 1, **no_dropout,
        },
        text_config={
            "model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": WIDTH, "num_hidden_layers": 3,
            "ffn_dim": wide, "num_attention_heads": heads, "max_position_embeddings": 64, "word_embed_proj_dim": WIDTH,
            "dropout": 0.0, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0,
        },
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens, std=0.02)
    return model


def encode_captions(processor: Blip2Processor, captions: tuple[str, ...]) -> Tensor:
    """Token ids (n, QUERIES + LONGEST): places for the picture, the start, the words, the end, padding."""
    tokenizer = processor.tokenizer
    words = tokenizer(
        [f"{caption}</s>" for caption in captions], padding="max_length", max_length=LONGEST, truncation=True,
        return_tensors="pt",
    ).input_ids  # fmt: skip
    places = torch.full((len(words), QUERIES), tokenizer.convert_tokens_to_ids("<image>"))
    return torch.cat([places, words], 1)


def caption_loss(model: Blip2ForConditionalGeneration, pictures: Tensor, ids: Tensor) -> Tensor:
    """Cross-entropy of every next word and of the end."""
    padding = ids == model.config.text_config.pad_token_id
    labels = ids.masked_fill(padding, -100)
    labels[:, : QUERIES + 1] = -100  # the picture's places and the start are given
    return model(pixel_values=pictures, input_ids=ids, attention_mask=(~padding).long(), labels=labels).loss


def f1_of_things(captioner: Captioner, split: str, count: int) -> float:
    """F1 of the things that captions name on the first scenes of a split, over all scenes together."""
    hits = named = held = 0
    for index in range(count):
        item = scene(split, index)
        said, truth = names_in(captioner.caption(item.image), THINGS), set(item.things)
        hits, named, held = hits + len(said & truth), named + len(said), held + len(truth)
    return 2 * hits / max(named + held, 1)


def train_captioner(
    root: Path, minutes: float, device: str = "cpu", scenes: int = 24000, size: int = 128, piece: float | None = None
) -> None:
    """Train (or go on training) the captioner; leaves its checkpoint and the folder `captioner` in `root/captioner`."""
    torch.manual_seed(0)
    out = root / "captioner"
    pictures = rendered(root / "scenes", "train", scenes, size)
    processor = build_processor(size)
    ids = encode_captions(processor, pictures.captions)
    training = Training(
        trainable(build_captioner(processor), device), out, minutes, learning_rate=1e-3, ema=0.998, piece=piece
    )
    for step in training:
        rows = np.random.default_rng([6, step]).integers(0, len(ids), batch_size(BATCH, device))
        batch = to_tensor(pictures.images[rows], device)
        patches = some_patches(training.module.vision_model.embeddings, training)
        with torch.autocast(torch.device(device).type, torch.bfloat16), patches:
            loss = caption_loss(training.module, batch, ids[rows].to(device))
        training.update(loss, len(rows))
    if not training.finished:
        return
    best = training.averaged.module.eval()
    best.save_pretrained(out / "captioner")
    processor.save_pretrained(out / "captioner")
    f1 = f1_of_things(Captioner(str(out / "captioner"), device), "val", 256)
    print(f"F1 of the things named on 256 val scenes: {f1:.3f}")
