"""The pocket CLIP: contrastive on scenes and captions. Its text tower is the pipeline's text encoder."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from ovseg.pocket.data import rendered
from ovseg.pocket.tokenizer import CONTEXT_LENGTH, END, START, build_tokenizer
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Training
from ovseg.pocket.world import LABELS, scene

BATCH = 64


def build_clip(tokenizer: CLIPTokenizer, size: int = 128) -> CLIPModel:
    """A ViT of 16 px patches and a causal text transformer, both small; `quick_gelu` as in OpenAI's."""
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
        "num_attention_heads": 4, "max_position_embeddings": CONTEXT_LENGTH, "projection_dim": 128,
        "bos_token_id": tokenizer.convert_tokens_to_ids(START), "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 5, "num_attention_heads": 3,
        "image_size": size, "patch_size": 16, "projection_dim": 128,
    }  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))
    for table in (model.text_model.embeddings.token_embedding, model.text_model.embeddings.position_embedding):
        torch.nn.init.normal_(table.weight, std=0.05)
    return model


def clip_loss(model: CLIPModel, pictures: Tensor, ids: Tensor) -> Tensor:
    """Symmetric InfoNCE over the batch (Radford et al. 2021, section 2.3)."""
    image = F.normalize(model.visual_projection(model.vision_model(pixel_values=pictures).pooler_output).float(), dim=-1)
    text = F.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output).float(), dim=-1)
    logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Padded token ids (b, CONTEXT_LENGTH)."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def mean_average_precision(model: CLIPModel, tokenizer: CLIPTokenizer, device: str, count: int = 256) -> float:
    """Zero-shot: val scenes ranked by their cosine with "a photo of a NAME"; average precision, mean over all labels."""
    scenes = [scene("val", index) for index in range(count)]
    with torch.no_grad():
        pictures = to_tensor(np.stack([s.image for s in scenes]), device)
        image = model.get_image_features(pixel_values=pictures).pooler_output
        ids = tokenize(tokenizer, [f"a photo of a {name}" for name in LABELS]).to(device)
        text = model.get_text_features(input_ids=ids).pooler_output
    scores = (F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T).cpu().numpy()
    precisions = []
    for column, name in enumerate(LABELS):
        truth = np.array([name in s.things or name in s.stuff for s in scenes])[np.argsort(-scores[:, column])]
        if truth.any():
            precisions.append((np.cumsum(truth) / np.arange(1, count + 1))[truth].mean())
    return float(np.mean(precisions))


def train_clip(root: Path, minutes: float, device: str = "cpu", scenes: int = 24000, size: int = 128) -> None:
    """Train (or go on training) CLIP; leaves its checkpoint and the folders `clip` and `tokenizer` in `root/clip`."""
    torch.manual_seed(0)
    out = root / "clip"
    pictures = rendered(root / "scenes", "train", scenes, size)
    tokenizer = build_tokenizer(out / "tokenizer")
    ids = tokenize(tokenizer, list(pictures.captions))
    training = Training(build_clip(tokenizer, size).to(device), out, minutes, learning_rate=1e-3, ema=0.99)
    for step in training:
        rows = np.random.default_rng([2, step]).integers(0, len(pictures.images), BATCH)
        batch = to_tensor(pictures.images[rows], device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = clip_loss(training.module, batch, ids[rows].to(device))
        training.update(loss, BATCH)
        if step % 300 == 299:
            print(f"mAP on val: {mean_average_precision(training.averaged.module, tokenizer, device, 128):.3f}")
    best = training.averaged.module.eval()
    best.save_pretrained(out / "clip")
    tokenizer.save_pretrained(out / "tokenizer")
    processor = CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor.save_pretrained(out / "clip")
    print(f"mAP on 256 val scenes: {mean_average_precision(best, tokenizer, device):.3f}")
