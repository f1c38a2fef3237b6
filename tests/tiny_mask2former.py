"""A Mask2Former of COCO's labels, as a folder: of random weights, and sure that every picture shows one label."""

from pathlib import Path

import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor, SwinConfig

from ovseg.factory.splits import COCO


def save_mask2former(folder: Path, label: str, config: Mask2FormerConfig | None = None) -> None:
    """Write it as its repository on the hub is laid out: `config.json`, `model.safetensors`, `preprocessor_config.json`.

    Args:
        config: its widths; tiny ones if not given.
    """
    torch.manual_seed(0)
    network = Mask2FormerForUniversalSegmentation(config or tiny())
    with torch.no_grad():
        network.class_predictor.weight.zero_()
        network.class_predictor.bias.zero_()[COCO.index(label)] = 9.0
        network.model.pixel_level_module.decoder.mask_projection.weight *= 50  # sharp masks have high scores
    network.save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 96}
    Mask2FormerImageProcessor(size=size, num_labels=len(COCO), ignore_index=255).save_pretrained(folder)


def named_labels() -> dict[str, dict]:
    """COCO's labels, as a configuration takes them."""
    return {"id2label": dict(enumerate(COCO)), "label2id": {name: number for number, name in enumerate(COCO)}}


def tiny() -> Mask2FormerConfig:
    """The widths of a network of 0.2 million parameters."""
    swin = SwinConfig(
        image_size=32, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    return Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        dim_feedforward=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=4, **named_labels(),
    )  # fmt: skip
