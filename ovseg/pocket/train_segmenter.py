"""Small UperNets (Xiao et al. 2018) for the pocket world: detectors, students of synthetic data sets, and a yardstick."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from transformers import ResNetConfig, UperNetConfig, UperNetForSemanticSegmentation

from ovseg.maths.overlap import confusion, iou_per_label
from ovseg.pocket.data import rendered_labels
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Budget, Training, autocast, batch_size, save_whole
from ovseg.pocket.world import LABELS, THINGS, scene
from ovseg.pretrained.detector import SemanticDetector
from ovseg.types import BACKGROUND

BATCH = 16
GRID = 4  # pixels of a side for each place of the network's own grid
WIDEST = 256  # channels of the last stage
SHIPPED_WIDEST = 224  # of the segmenter that ships: 2.8 MB in half precision
GROUND_WEIGHT = 0.2  # in the loss, of what is no thing: most pixels are, and from few pictures little else would be learnt


@dataclass(frozen=True)
class Masked:
    """Pictures with label maps: label 0 is the background, and label k is number k - 1 of some names."""

    images: UInt8[np.ndarray, "n h w 3"]
    labels: UInt8[np.ndarray, "n h w"]

    def __len__(self) -> int:
        return len(self.images)


def build_segmenter(names: Sequence[str], widest: int = WIDEST) -> UperNetForSemanticSegmentation:
    """A pyramid on a ResNet of one layer a stage, with an output for the background and one for each name.

    Args:
        widest: channels of the last stage, which has most of the weights.
    """
    labels = [BACKGROUND, *names]
    stages = [f"stage{k}" for k in (1, 2, 3, 4)]
    resnet = ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128, widest], depths=[1, 1, 1, 1], layer_type="basic", out_features=stages
    )
    config = UperNetConfig(
        backbone_config=resnet, hidden_size=48, pool_scales=[1, 2, 4], use_auxiliary_head=False,
        id2label=dict(enumerate(labels)), label2id={name: k for k, name in enumerate(labels)},
    )  # fmt: skip
    return UperNetForSemanticSegmentation(config)


def segmenter_loss(
    model: UperNetForSemanticSegmentation,
    pictures: Float[Tensor, "b 3 h w"],
    labels: Int[Tensor, "b h w"],
    *,
    own_grid: bool = False,
) -> Float[Tensor, ""]:
    """Cross-entropy of every pixel, with a smaller weight on background and stuff.

    Args:
        own_grid: on the network's own grid, a place for each 4 x 4 pixels, which takes half the time on a CPU.
    """
    if own_grid:
        logits = model.decode_head(model.backbone(pictures).feature_maps)
        labels = labels[:, GRID // 2 :: GRID, GRID // 2 :: GRID]
    else:
        logits = model(pictures).logits
    names = model.config.id2label.values()
    weights = torch.tensor([1.0 if name in THINGS else GROUND_WEIGHT for name in names], device=pictures.device)
    return F.cross_entropy(logits.float(), labels, weight=weights)


def real_scenes(budget: Budget, names: Sequence[str]) -> Masked:
    """The training scenes that show no other things than these; stuff that is not named is background."""
    pictures = budget.pictures()
    maps = rendered_labels(budget.root / "scenes", "train", budget.scenes, budget.size)
    kept = [k for k, things in enumerate(pictures.things) if set(things) <= set(names)]
    return Masked(pictures.images[kept], only(names)[maps[kept]])


def only(names: Sequence[str]) -> UInt8[np.ndarray, "256"]:
    """A table from the world's labels to 1, 2, ... for these names in order, and 0 for all others."""
    numbers = np.zeros(256, np.uint8)
    for number, name in enumerate(names, 1):
        numbers[LABELS.index(name)] = number
    return numbers


def train_segmenter(data: Sequence[Masked], names: Sequence[str], out: Path, budget: Budget, *, ships: bool = False) -> bool:
    """Train (or go on training) a segmenter of these names; a batch holds equally many pictures from every set of `data`.

    Once finished, writes `out/segmenter`.

    Args:
        ships: smaller, and trained on its own grid: most of it in little time.
    """
    torch.manual_seed(0)
    device = budget.device
    segmenter = build_segmenter(names, SHIPPED_WIDEST if ships else WIDEST)
    segmenter = segmenter.to(device, memory_format=torch.channels_last)  # a fifth faster on a CPU
    training = Training(segmenter, out, budget.minutes, learning_rate=2e-3, ema=0.998, piece=budget.piece)
    training.module.train()
    each = batch_size(BATCH, device) // len(data)
    for step in training:
        rng, pictures, labels = np.random.default_rng([8, step]), [], []
        for part in data:
            rows = rng.integers(0, len(part), each)
            pictures.append(part.images[rows])
            labels.append(part.labels[rows])
        batch, truth = (
            to_tensor(np.concatenate(pictures), device).contiguous(memory_format=torch.channels_last),
            torch.from_numpy(np.concatenate(labels)).to(device).long(),
        )
        if rng.random() < 0.5:
            batch, truth = batch.flip(-1), truth.flip(-1)
        with autocast(device):
            loss = segmenter_loss(training.module, batch, truth, own_grid=ships)
        training.update(loss, len(batch))
    if training.finished:
        save_whole(out / "segmenter", training.averaged.module.eval())
    return training.finished


def iou_of_labels(segmenter: SemanticDetector, names: Sequence[str], split: str, count: int) -> dict[str, float]:
    """IoU of each name over the pixels of the first scenes of a split; names that nowhere occur are left out."""
    true_numbers, numbers = only(names), np.array([names.index(n) + 1 if n in names else 0 for n in segmenter.labels])
    total = np.zeros((len(names) + 1,) * 2, np.int64)
    for start in range(0, count, 32):
        scenes = [scene(split, index) for index in range(start, min(start + 32, count))]
        predicted = numbers[segmenter.probabilities([s.image for s in scenes]).argmax(1).cpu().numpy()]
        for item, label_map in zip(scenes, predicted, strict=True):
            total += confusion(true_numbers[item.labels], label_map, len(names) + 1)
    return {name: float(value) for name, value in zip(names, iou_per_label(total)[1:], strict=True) if not np.isnan(value)}


def train_world_segmenter(budget: Budget) -> bool:
    """Train (or go on training) a segmenter of all labels of the world, things and stuff: what can be learnt from masks.

    Once finished, writes `root/segmenter/segmenter`.
    """
    return _trained_on_scenes(budget, LABELS, "segmenter", ships=True)


def train_detector(budget: Budget, seen: Sequence[str] = THINGS, name: str = "all") -> bool:
    """Train (or go on training) a detector of the things `seen`, on real scenes that show no other things.

    Once finished, writes `root/detector-NAME/segmenter`.
    """
    return _trained_on_scenes(budget, seen, f"detector-{name}")


def _trained_on_scenes(budget: Budget, names: Sequence[str], folder: str, *, ships: bool = False) -> bool:
    out = budget.root / folder
    if not train_segmenter([real_scenes(budget, names)], names, out, budget, ships=ships):
        return False
    ious = iou_of_labels(SemanticDetector(str(out / "segmenter"), budget.device), names, "val", budget.tested)
    print(f"mIoU of the {len(names)} labels on {budget.tested} val scenes: {np.mean(list(ious.values())):.1%}")
    return True
