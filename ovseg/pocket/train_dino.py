"""The pocket DINO (Caron et al. 2021): a small vision transformer that learns from scenes alone, without a word or mask.

A student sees large and small crops of a scene, and learns to say of each what the teacher, its own running average, says
of the large ones. The teacher's answers are centred and sharpened, which keeps all of them from becoming one.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from ovseg.maths.cuts import mask_cut
from ovseg.maths.overlap import iou
from ovseg.pocket.data import rendered
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Training, batch_size, trainable
from ovseg.pocket.world import scene
from ovseg.pretrained.dino import Dino

BATCH = 32
WIDTH, LAYERS, HEADS, PATCH = 128, 5, 2, 8
ANSWERS = 1024  # dimensions of what student and teacher say; the paper's 65 536 are for a million pictures
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04  # section 3.1
CENTRE_MOMENTUM = 0.9
LARGE, SMALL = (0.2, 0.6), (0.05, 0.2)  # areas of crops, as shares of the scene
SIDES = (72, 40)  # their pixels: a thing is about as large in a crop as in a whole scene, where the keys are taken
SMALL_CROPS = 4


class Student(nn.Module):
    """A vision transformer with the head that training alone needs: answers (n, ANSWERS) on crops of any size."""

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.vit = ViTModel(
            ViTConfig(
                hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
                image_size=size, patch_size=PATCH,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(WIDTH, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 128))
        self.last = weight_norm(nn.Linear(128, ANSWERS, bias=False))
        self.last.parametrizations.weight.original0.data.fill_(1)
        self.last.parametrizations.weight.original0.requires_grad = False
        self.register_buffer("centre", torch.zeros(ANSWERS))

    def forward(self, crops: Tensor) -> Tensor:
        """Answers on crops (n, 3, h, w)."""
        states = self.vit(crops, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        directions = F.normalize(self.head(states).float(), dim=-1)
        # Divided by the teacher's temperature, half precision would round answers to steps of a fifth.
        with torch.autocast(crops.device.type, enabled=False):
            return self.last(directions)


def crops(pictures: Tensor, generator: torch.Generator, share: tuple[float, float], side: int) -> Tensor:
    """A random box of each picture (n, 3, h, w) at `side` pixels, flipped half of the time, its colours shifted."""
    count, draw = len(pictures), lambda *shape: torch.rand(*shape, generator=generator)
    area = share[0] + (share[1] - share[0]) * draw(count)
    stretch = torch.exp((draw(count) * 2 - 1) * 0.288)  # aspects from 3:4 to 4:3
    width, height = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    left, top = (1 - width) * (2 * draw(count) - 1), (1 - height) * (2 * draw(count) - 1)
    flip = torch.where(draw(count) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    boxes = torch.stack([torch.stack([width * flip, zero, left], 1), torch.stack([zero, height, top], 1)], 1)
    grid = F.affine_grid(boxes.to(pictures.device), (count, 3, side, side), align_corners=False)
    found = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    gain, lift = 1 + 0.4 * (2 * draw(count, 1, 1, 1) - 1), 0.2 * (2 * draw(count, 1, 1, 1) - 1)
    tint = 0.1 * (2 * draw(count, 3, 1, 1) - 1)
    return (found * gain.to(found) + (lift + tint).to(found)).clamp(-1, 1)


def dino_loss(student: Student, teacher: Student, large: list[Tensor], small: list[Tensor]) -> Tensor:
    """Cross-entropy between the teacher's answers on large crops and the student's on all others (equation 3).

    The student's centre, which its average copies, is moved on.
    """
    with torch.no_grad():
        told = teacher(torch.cat(large))
        targets = ((told - student.centre) / TEACHER_TEMPERATURE).softmax(1).chunk(len(large))
        student.centre.lerp_(told.mean(0), 1 - CENTRE_MOMENTUM)
    said = [*student(torch.cat(large)).chunk(len(large)), *student(torch.cat(small)).chunk(len(small))]
    losses = [
        -(target * (answer / STUDENT_TEMPERATURE).log_softmax(1)).sum(1).mean()
        for k, target in enumerate(targets)
        for j, answer in enumerate(said)
        if j != k
    ]
    return torch.stack(losses).mean()


def found_things(dino: Dino, split: str, count: int) -> float:
    """How well MaskCut on the keys finds things: the IoU of each thing with the best of three masks, mean over things."""
    overlaps = []
    for index in range(count):
        item = scene(split, index)
        masks = mask_cut(dino.keys([item.image])[0])
        grown = [np.kron(mask, np.ones((dino.patch, dino.patch), bool)) for mask in masks]
        for number in range(1, int(item.instances.max()) + 1):
            truth = item.instances == number
            overlaps.append(max((iou(truth, mask) for mask in grown), default=0.0))
    return float(np.mean(overlaps))


def train_dino(
    root: Path, minutes: float, device: str = "cpu", scenes: int = 24000, size: int = 128, piece: float | None = None
) -> None:
    """Train (or go on training) the self-supervised transformer; leaves the folder `dino` in `root/dino`."""
    torch.manual_seed(0)
    out = root / "dino"
    pictures = rendered(root / "scenes", "train", scenes, size)
    student = Student(size).to(device)
    trainable(student.vit, device)
    training = Training(student, out, minutes, learning_rate=5e-4, ema=0.996, piece=piece)
    for step in training:
        rows = np.random.default_rng([7, step]).integers(0, len(pictures.images), batch_size(BATCH, device))
        batch, generator = to_tensor(pictures.images[rows], device), torch.Generator().manual_seed(step)
        large = [crops(batch, generator, LARGE, SIDES[0]) for _ in range(2)]
        small = [crops(batch, generator, SMALL, SIDES[1]) for _ in range(SMALL_CROPS)]
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = dino_loss(training.module, training.averaged.module, large, small)
        training.update(loss, len(rows))
    if not training.finished:
        return
    folder = out / "dino"
    training.averaged.module.vit.save_pretrained(folder)
    pixels = ViTImageProcessor(size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    pixels.save_pretrained(folder)
    overlap = found_things(Dino(str(folder), device), "val", 64)
    print(f"MaskCut's best mask of each thing, 64 val scenes: mean IoU {overlap:.3f}")
