"""Segmenters of the hub: read from their repositories' files, old names and preprocessors; CutLER from its own registry."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from ovseg.doctor.pipelines import write_stable_diffusion
from ovseg.doctor.published import Scale, write_blip, write_dino
from ovseg.doctor.vocabularies import write_clip_vocabulary
from ovseg.pretrained.detector import load_detector
from ovseg.pretrained.proposals import Cutler
from tests.published_blip2 import write_blip2

OLD_NAMES = json.loads((Path(__file__).parent / "oracles" / "hub_names.json").read_text())  # by transformers 4.48.3
LABELS = {0: "wall", 1: "cat", 2: "sky", 3: "dog"}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SEEN = {"image_mean": MEAN, "image_std": STD, "do_normalize": True, "do_resize": True, "do_rescale": True, "resample": 2}
SMALL = Scale(narrower=8, layers=2)


def swin() -> dict[str, Any]:
    return {
        "model_type": "swin", "embed_dim": 12, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "window_size": 7,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }  # fmt: skip


PER_MASK = {
    "hidden_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32, "encoder_layers": 2, "decoder_layers": 3,
    "num_attention_heads": 2, "num_queries": 5, "id2label": LABELS,
}  # fmt: skip
ONE_FORMER = {
    "conv_dim": 32, "mask_dim": 32, "text_encoder_width": 32, "text_encoder_num_layers": 1, "query_dec_layers": 1,
    "text_encoder_vocab_size": 100, "is_training": False,
}  # fmt: skip
MASKS = {"size": {"longest_edge": 128, "shortest_edge": 64}, "size_divisor": 32, "ignore_index": 255, **SEEN}
CLASS_FILE = {"class_info_file": "coco_panoptic.json", "repo_path": "shi-labs/oneformer_demo", "num_text": 134}


def write_detector(folder: Path, kind: str) -> None:
    """A repository's folder of random weights under the names that transformers 4 gave to tensors and preprocessors."""
    torch.manual_seed(0)
    network, pictures = {
        "mask2former": lambda: (
            Mask2FormerForUniversalSegmentation(
                Mask2FormerConfig(backbone_config=swin(), feature_size=32, mask_feature_size=32, **PER_MASK)
            ),
            {**MASKS, "feature_extractor_type": "MaskFormerFeatureExtractor",
             "image_processor_type": "Mask2FormerImageProcessor"},
        ),
        "oneformer": lambda: (
            OneFormerForUniversalSegmentation(OneFormerConfig(backbone_config=swin(), **PER_MASK, **ONE_FORMER)),
            {**MASKS, **CLASS_FILE, "image_processor_type": "OneFormerImageProcessor",
             "processor_class": "OneFormerProcessor"},
        ),
        "segformer": lambda: (
            SegformerForSemanticSegmentation(
                SegformerConfig(hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16,
                                depths=[1, 1, 1, 1], id2label=LABELS)
            ),
            {**SEEN, "feature_extractor_type": "SegformerFeatureExtractor", "reduce_labels": True, "size": 64},
        ),
        "upernet": lambda: (
            UperNetForSemanticSegmentation(
                UperNetConfig(backbone_config=swin(), hidden_size=16, auxiliary_channels=8, auxiliary_in_channels=48,
                              id2label=LABELS)
            ),
            {**SEEN, "image_processor_type": "SegformerImageProcessor", "size": {"height": 64, "width": 64}},
        ),
    }[kind]()  # fmt: skip
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    weights = {n: t for n, t in load_file(folder / "model.safetensors").items() if "swin.layernorm" not in n}
    biases = [name for name in weights if name.endswith("relative_position_bias_table")]
    for name in biases:  # a buffer that was kept then
        weights[name.replace("bias_table", "index")] = torch.zeros(49, 49, dtype=torch.int64)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    if kind == "oneformer":
        write_clip_vocabulary(folder)


def patterns(names: Iterator[str] | dict) -> set[str]:
    return {re.sub(r"\d+", "#", name) for name in names}


@pytest.mark.parametrize("kind", ["mask2former", "oneformer", "segformer", "upernet"])
def test_a_segmenter_in_its_repositorys_format(tmp_path: Path, picture: np.ndarray, kind: str) -> None:
    write_detector(tmp_path, kind)
    weights = load_file(tmp_path / "model.safetensors")
    assert patterns(weights) == set(OLD_NAMES[kind])
    detector = load_detector(str(tmp_path))
    assert detector.labels == tuple(LABELS.values()) and detector.knows("wall")
    detector._model.save_pretrained(tmp_path / "again")  # which goes back to the old names
    own = load_file(tmp_path / "again" / "model.safetensors")
    kept = {name for name in weights if not name.endswith("relative_position_index")}
    assert kept <= set(own) and all(torch.equal(own[name], weights[name]) for name in kept)
    read = []
    detector._model.register_forward_pre_hook(
        lambda _module, inputs, named: read.append(named.get("pixel_values", inputs[0] if inputs else None)),
        with_kwargs=True,
    )
    found = detector.instances(picture)
    grey = (np.full((60, 90, 3), 128, np.uint8) / 255 - MEAN) / STD
    detector.instances(np.full((60, 90, 3), 128, np.uint8))
    assert torch.allclose(read[1].mean((0, 2, 3)).double(), torch.tensor(grey.mean((0, 1))), atol=0.02)
    assert min(read[0].shape[2:]) == 64  # the size that the preprocessor asks for
    assert all(item.mask.shape == (60, 90) and item.label in LABELS.values() for item in found)


@pytest.mark.parametrize("kind", ["segformer", "upernet"])
def test_the_first_label_is_a_class_unless_it_is_the_background(tmp_path: Path, picture: np.ndarray, kind: str) -> None:
    write_detector(tmp_path, kind)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["decode_head.classifier.bias"] = torch.tensor([50.0, 0, 0, 0])
    save_file(weights, path, {"format": "pt"})
    (found,) = load_detector(str(tmp_path)).instances(picture)
    assert found.label == "wall" and found.mask.all()
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"wall"', '"background"'))
    assert load_detector(str(tmp_path)).instances(picture) == ()


@pytest.mark.parametrize("kind", ["mask2former", "oneformer"])
def test_instances_are_those_of_the_masks_with_a_class(tmp_path: Path, picture: np.ndarray, kind: str) -> None:
    write_detector(tmp_path, kind)
    detector = load_detector(str(tmp_path))
    logits = torch.full((1, 5, 5), -9.0)
    logits[0, :, -1] = 9  # nothing
    logits[0, 2, :] = torch.tensor([0.0, 9, 0, 0, -9])  # a cat
    masks = torch.full((1, 5, 8, 8), -9.0)
    masks[0, 2, :, :4] = 9
    masks[0, 0, 4:] = 9  # of a query that stands for nothing

    def answer(_module: torch.nn.Module, _inputs: tuple, output: Any) -> Any:
        output.class_queries_logits, output.masks_queries_logits = logits, masks
        return output

    hook = detector._model.register_forward_hook(answer)
    (found,) = detector.instances(picture)
    hook.remove()
    assert found.label == "cat" and found.score > 0.9
    assert found.mask[:, :40].all() and not found.mask[:, 50:].any()


def test_names_of_tensors_are_those_of_the_old_library(tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_dino(tmp_path / "vit", SMALL)
    write_blip(tmp_path / "blip", SMALL)
    write_blip2(tmp_path / "blip2", SMALL)
    write_stable_diffusion(tmp_path / "sd", 1, SMALL)
    text = load_file(tmp_path / "sd" / "text_encoder" / "model.safetensors")
    assert patterns(text) == {*OLD_NAMES["clip_text"], "text_model.embeddings.position_ids"}
    assert patterns(load_file(tmp_path / "vit" / "model.safetensors")) == set(OLD_NAMES["vit"])
    blip = torch.load(tmp_path / "blip" / "pytorch_model.bin", weights_only=True)
    assert set(OLD_NAMES["blip"]) - patterns(blip) == set()
    index = json.loads((tmp_path / "blip2" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(OLD_NAMES["blip2"]) - patterns(index) <= {"language_model.lm_head.weight"}  # shared with the embeddings


DETECTRON = {
    "__init__.py": "",
    "config.py": """
class Node(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__
    def merge_from_file(self, path): self.file = path
def get_cfg():
    return Node(MODEL=Node(ROI_HEADS=Node(), RESNETS=Node(NORM="SyncBN"), FPN=Node(NORM="SyncBN")),
                INPUT=Node(FORMAT="RGB", MIN_SIZE_TEST=120, MAX_SIZE_TEST=1333))
""",
    "checkpoint.py": """
class DetectionCheckpointer:
    def __init__(self, model): self.model = model
    def load(self, path): self.model.loaded = path
""",
    "data/__init__.py": "",
    "data/transforms.py": """
import numpy as np
class ResizeShortestEdge:
    def __init__(self, short, longest): self.short = short
    def get_transform(self, image): return self
    def apply_image(self, image): return image.repeat(self.short[0] // image.shape[0], 0).repeat(2, 1)
""",
}
CUTLER = {
    "config/__init__.py": "def add_cutler_config(config): config.MODEL.ROI_HEADS.USE_DROPLOSS = False\n",
    "modeling/__init__.py": """
from types import SimpleNamespace
import torch
class Model(torch.nn.Module):
    def __init__(self, config): super().__init__(); self.config = config
    def forward(self, batch):
        (one,) = batch
        assert one["image"].shape[1] == 120 and not self.training
        masks = torch.zeros(1, one["height"], one["width"], dtype=torch.bool)
        masks[0] = one["image"][0, ::2, ::2] > 127  # red
        return [{"instances": SimpleNamespace(pred_masks=masks)}]
def build_model(config):
    assert config.MODEL.ROI_HEADS.USE_DROPLOSS is False and config.MODEL.RESNETS.NORM == "BN"
    return Model(config)
""",
    "model_zoo/configs/CutLER-ImageNet/cascade_mask_rcnn_R_50_FPN.yaml": "",
    "cutler_cascade_final.pth": "",
}


def test_cutler_is_built_by_its_own_registry(tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cutler"
    with pytest.raises(
        ValueError, match=r"CutLER needs .*cutler_cascade_final\.pth, .*git clone|clone https://github.com/face"
    ):
        Cutler(folder)
    for name, code in CUTLER.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    with pytest.raises(ValueError, match=r"needs detectron2, .*pip install .*detectron2\.git"):
        Cutler(folder)
    for name, code in DETECTRON.items():
        path = tmp_path / "site" / "detectron2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    before = list(sys.path)
    try:
        (mask,) = Cutler(folder)(picture)
        assert np.array_equal(mask, picture[:, :, 0] > 127) and sys.path == before
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] in ("config", "modeling", "detectron2")]:
            del sys.modules[name]
