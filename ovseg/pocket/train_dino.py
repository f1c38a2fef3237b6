"""The pocket DINO (Caron et al. 2021): a small vision transformer that is trained on scenes without captions or masks.

A student sees large and small crops of a scene, and learns to give for each the output that its teacher, a running average
of the student, gives for the large ones. The teacher's outputs are centred and sharpened, which prevents their collapse.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from ovseg.maths.cuts import mask_cut
from ovseg.maths.overlap import iou
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Budget, Training, autocast, batch_size, save_whole, trainable
from ovseg.pocket.world import scene
from ovseg.pretrained.dino import Dino

BATCH = 32
WIDTH, LAYERS, HEADS, PATCH = 128, 5, 2, 8
OUTPUTS = 1024  # dimensions of the head's output; the paper's 65 536 are for a million pictures
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04  # section 3.1
CENTRE_MOMENTUM = 0.9
LARGE, SMALL = (0.2, 0.6), (0.05, 0.2)  # least and greatest area of crops, as shares of the scene
SIDES = (72, 40)  # pixels of large and small crops: things are about as large as in whole scenes, where keys are taken
SMALL_CROPS = 4


class Student(nn.Module):
    """A vision transformer with a head that is used in training alone; it takes crops of any size."""

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
        self.last = weight_norm(nn.Linear(128, OUTPUTS, bias=False))
        self.last.parametrizations.weight.original0.data.fill_(1)
        self.last.parametrizations.weight.original0.requires_grad = False
        self.register_buffer("centre", torch.zeros(OUTPUTS))

    def forward(self, crops: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n outputs"]:
        """The head's outputs on crops."""
        states = self.vit(crops, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        directions = F.normalize(self.head(states).float(), dim=-1)
        # In half precision, outputs divided by the teacher's temperature would be multiples of a fifth.
        with torch.autocast(crops.device.type, enabled=False):
            return self.last(directions)


def crops(
    pictures: Float[Tensor, "n 3 h w"], generator: torch.Generator, share: tuple[float, float], side: int
) -> Float[Tensor, "n 3 side side"]:
    """A random box of each picture, resized to `side` pixels, mirrored half of the time, its colours changed a little.

    Args:
        share: least and greatest area of the box, as shares of the picture.
    """
    count, draw = len(pictures), lambda *shape: torch.rand(*shape, generator=generator)
    area = share[0] + (share[1] - share[0]) * draw(count)
    stretch = torch.exp((draw(count) * 2 - 1) * 0.288)  # aspects from 3:4 to 4:3
    width, height = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    left, top = (1 - width) * (2 * draw(count) - 1), (1 - height) * (2 * draw(count) - 1)
    flip = torch.where(draw(count) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    boxes = torch.stack([torch.stack([width * flip, zero, left], 1), torch.stack([zero, height, top], 1)], 1)
    grid = F.affine_grid(boxes.to(pictures.device), (count, 3, side, side), align_corners=False)
    boxed = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    gain, lift = 1 + 0.4 * (2 * draw(count, 1, 1, 1) - 1), 0.2 * (2 * draw(count, 1, 1, 1) - 1)
    tint = 0.1 * (2 * draw(count, 3, 1, 1) - 1)
    return (boxed * gain.to(boxed) + (lift + tint).to(boxed)).clamp(-1, 1)


def dino_loss(
    student: Student,
    teacher: Student,
    large: Sequence[Float[Tensor, "n 3 _h _w"]],
    small: Sequence[Float[Tensor, "n 3 _h _w"]],
) -> Float[Tensor, ""]:
    """Cross-entropy between the teacher's outputs on large crops and the student's on all other crops (equation 3).

    The centre of the teacher's outputs, a buffer of the student, is updated.
    """
    with torch.no_grad():
        outputs = teacher(torch.cat(large))
        targets = ((outputs - student.centre) / TEACHER_TEMPERATURE).softmax(1).chunk(len(large))
        student.centre.lerp_(outputs.mean(0), 1 - CENTRE_MOMENTUM)
    answers = [*student(torch.cat(large)).chunk(len(large)), *student(torch.cat(small)).chunk(len(small))]
    losses = [
        -(target * (answer / STUDENT_TEMPERATURE).log_softmax(1)).sum(1).mean()
        for k, target in enumerate(targets)
        for j, answer in enumerate(answers)
        if j != k
    ]
    return torch.stack(losses).mean()


def best_mask_iou(dino: Dino, split: str, count: int) -> float:
    """How well MaskCut on the keys separates things: IoU of each thing with the best of three masks, mean over things."""
    overlaps = []
    for index in range(count):
        item = scene(split, index)
        masks = mask_cut(dino.keys([item.image])[0])
        grown = [np.kron(mask, np.ones((dino.patch, dino.patch), bool)) for mask in masks]
        for number in range(1, int(item.instances.max()) + 1):
            truth = item.instances == number
            overlaps.append(max((iou(truth, mask) for mask in grown), default=0.0))
    return float(np.mean(overlaps))


def train_dino(budget: Budget) -> bool:
    """Train (or go on training) the self-supervised transformer; once finished, writes the folder `dino` to `root/dino`."""
    torch.manual_seed(0)
    out, device, size, pictures = budget.root / "dino", budget.device, budget.size, budget.pictures()
    student = Student(size).to(device)
    trainable(student.vit, device)
    training = Training(student, out, budget.minutes, learning_rate=5e-4, ema=0.996, piece=budget.piece)
    for step in training:
        rows = np.random.default_rng([7, step]).integers(0, len(pictures.images), batch_size(BATCH, device))
        batch, generator = to_tensor(pictures.images[rows], device), torch.Generator().manual_seed(step)
        large = [crops(batch, generator, LARGE, SIDES[0]) for _ in range(2)]
        small = [crops(batch, generator, SMALL, SIDES[1]) for _ in range(SMALL_CROPS)]
        with autocast(device):
            loss = dino_loss(training.module, training.averaged.module, large, small)
        training.update(loss, len(rows))
    if not training.finished:
        return False
    pixels = ViTImageProcessor(size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    save_whole(out / "dino", training.averaged.module.vit, pixels)
    count = min(budget.tested, 64)  # a cut takes a tenth of a second
    overlap = best_mask_iou(Dino(str(out / "dino"), device), "val", count)
    print(f"MaskCut's best mask of each thing, {count} val scenes: mean IoU {overlap:.3f}")
    return True
