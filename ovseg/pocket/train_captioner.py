"""The pocket captioner: a small BLIP-2 (Li et al. 2023), trained on scenes and their captions.

The image tower begins with CLIP's weights, as in the paper; the Q-Former and the language model begin with random weights.
All three are trained. An image tower of this size that began with random weights would hardly learn from captions what
things look like.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
)

from ovseg.pocket.captions import names_in
from ovseg.pocket.tokenizer import world_words
from ovseg.pocket.train_clip import build_tower
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Budget, Training, autocast, batch_size, save_whole, some_patches, trainable
from ovseg.pocket.world import THINGS, scene
from ovseg.pretrained.captioner import Captioner

BATCH = 64
SCENES = 3  # times as many as other networks see, as for CLIP
QUERIES = 16
WIDTH = 160
LONGEST = 24  # tokens of a caption
OF_TOWER = (  # what the captioner's image tower has in common with CLIP's
    "hidden_size", "intermediate_size", "image_size", "num_hidden_layers", "num_attention_heads", "patch_size", "hidden_act",
    "layer_norm_eps",
)  # fmt: skip


def build_processor(size: int = 128) -> Blip2Processor:
    """Scales pictures to [-1, 1]; its tokenizer has one token for every word of the world."""
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
    heads, wide, tokenizer = WIDTH // 32, 4 * WIDTH, processor.tokenizer
    tower = build_tower(processor.image_processor.size["height"])
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = Blip2Config(
        vision_config={**{name: getattr(tower, name) for name in OF_TOWER}, "initializer_range": 0.02},
        qformer_config={
            "vocab_size": len(tokenizer), "hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": heads,
            "intermediate_size": wide, "encoder_hidden_size": tower.hidden_size, "cross_attention_frequency": 1,
            **no_dropout,
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


@torch.no_grad()
def begin_with(model: Blip2ForConditionalGeneration, tower: CLIPVisionModel, pictures: Float[Tensor, "n 3 h w"]) -> None:
    """Copy CLIP's image tower into the captioner's.

    CLIP has a layer norm before its first layer and BLIP-2 has none. Its centring, scale and shift are put into the
    embeddings, with the mean standard deviation over some pictures in place of that of each patch.
    """
    mine, norm, states = model.vision_model, tower.pre_layrnorm, tower.embeddings(pictures)
    gain, width = norm.weight, norm.weight.shape[0]
    centred = torch.eye(width) - 1 / width
    spread = states.var(-1, correction=0).add(norm.eps).sqrt().mean(0)  # of each token; the class token's is exact
    patches = spread[1:].mean()
    kernel = tower.embeddings.patch_embedding.weight
    mine.embeddings.patch_embedding.weight.copy_((gain[:, None] / patches * centred @ kernel.flatten(1)).view_as(kernel))
    mine.embeddings.patch_embedding.bias.zero_()
    places = tower.embeddings.position_embedding.weight @ centred * gain
    mine.embeddings.position_embedding[0, 1:] = places[1:] / patches + norm.bias
    mine.embeddings.class_embedding.copy_(tower.embeddings.class_embedding @ centred * gain / spread[0])
    mine.embeddings.position_embedding[0, 0] = places[0] / spread[0] + norm.bias
    for ours, theirs in zip(mine.encoder.layers, tower.encoder.layers, strict=True):
        attention, parts = theirs.self_attn, (theirs.self_attn.q_proj, theirs.self_attn.k_proj, theirs.self_attn.v_proj)
        ours.self_attn.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        ours.self_attn.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
        ours.self_attn.projection.load_state_dict(attention.out_proj.state_dict())
        for name in ("layer_norm1", "layer_norm2", "mlp"):
            getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    mine.post_layernorm.load_state_dict(tower.post_layernorm.state_dict())


def encode_captions(processor: Blip2Processor, captions: Sequence[str]) -> Int[Tensor, "n tokens"]:
    """Token ids, `QUERIES` + `LONGEST` for each caption: places for the picture, the start, the words, the end, padding."""
    tokenizer = processor.tokenizer
    words = tokenizer(
        [f"{caption}</s>" for caption in captions], padding="max_length", max_length=LONGEST, truncation=True,
        return_tensors="pt",
    ).input_ids  # fmt: skip
    places = torch.full((len(words), QUERIES), tokenizer.convert_tokens_to_ids("<image>"))
    return torch.cat([places, words], 1)


def caption_loss(
    model: Blip2ForConditionalGeneration, pictures: Float[Tensor, "b 3 h w"], ids: Int[Tensor, "b tokens"]
) -> Float[Tensor, ""]:
    """Cross-entropy of every next word, and of the end."""
    padding = ids == model.config.text_config.pad_token_id
    labels = ids.masked_fill(padding, -100)
    labels[:, : QUERIES + 1] = -100  # the picture's places and the start are given
    return model(pixel_values=pictures, input_ids=ids, attention_mask=(~padding).long(), labels=labels).loss


def f1_of_things(captioner: Captioner, split: str, count: int) -> float:
    """F1 of the things that captions name on the first scenes of a split, over all scenes together."""
    hits = named = shown = 0
    for index in range(count):
        item = scene(split, index)
        names, truth = names_in(captioner.caption(item.image), THINGS), set(item.things)
        hits, named, shown = hits + len(names & truth), named + len(names), shown + len(truth)
    return 2 * hits / max(named + shown, 1)


def train_captioner(budget: Budget) -> bool:
    """Train (or go on training) the captioner; once finished, writes the folder `captioner` to `root/captioner`.

    Raises:
        ValueError: there is no CLIP to begin with.
    """
    torch.manual_seed(0)
    out, clip, device = budget.root / "captioner", budget.root / "clip" / "clip", budget.device
    if not clip.is_dir():
        raise ValueError(f"The captioner needs the image tower in {clip}, which is not there: run `train clip` first.")
    pictures, processor = budget.pictures(SCENES), build_processor(budget.size)
    ids = encode_captions(processor, pictures.captions)
    model = build_captioner(processor)
    begin_with(model, CLIPVisionModel.from_pretrained(clip), to_tensor(pictures.images[:256], "cpu"))
    training = Training(trainable(model, device), out, budget.minutes, learning_rate=7e-4, ema=0.998, piece=budget.piece)
    for step in training:
        rng = np.random.default_rng([6, step])
        rows = rng.integers(0, len(ids), batch_size(BATCH, device))
        batch = to_tensor(pictures.mirrored(rows, rng), device)
        patches = some_patches(training.module.vision_model.embeddings, training)
        with autocast(device), patches:
            loss = caption_loss(training.module, batch, ids[rows].to(device))
        training.update(loss, len(rows))
    if not training.finished:
        return False
    save_whole(out / "captioner", training.averaged.module.eval(), processor)
    f1 = f1_of_things(Captioner(str(out / "captioner"), device), "val", budget.tested)
    print(f"F1 of the things named on {budget.tested} val scenes: {f1:.3f}")
    return True
