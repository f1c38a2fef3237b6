"""What it takes to make prototypes of some classes, before it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ovseg.backbones.base import Capture
from ovseg.maths.flops import flop_counter, seconds_of
from ovseg.methods.ovdiff.settings import Settings
from ovseg.models import Models


@dataclass(frozen=True)
class BuildCost:
    """Rows of the U-Net to draw support images and to read their features, the arithmetic, and the seconds it takes here."""

    drawing_rows: int
    feature_rows: int
    flops: float
    seconds: float


def cost_of(models: Models, settings: Settings, phrases: int) -> BuildCost:
    """What it takes to make the prototypes of so many phrases on this device.

    One row of the U-Net, one decoding and one encoding are run and counted; masks, the other extractors and clustering
    come on top.
    """
    backbone = models.backbone
    blank = np.zeros((*backbone.square_hw(), 3), np.uint8)
    latent = backbone.encode(blank)
    row = partial(backbone.trace, latent, backbone.encode_text([""], [""]), settings.timestep, Capture(), 0)
    row_flops, row_seconds = _counted(row, models.device)
    drawn_flops, drawn_seconds = _counted(partial(backbone.decode, latent), models.device)
    read_flops, read_seconds = _counted(partial(backbone.encode, blank), models.device)
    pictures = phrases * settings.images
    drawing, reading = pictures * settings.steps * 2, pictures * ("diffusion" in settings.extractors)
    flops = (drawing + reading) * row_flops + pictures * drawn_flops + reading * read_flops
    seconds = (drawing + reading) * row_seconds + pictures * drawn_seconds + reading * read_seconds
    return BuildCost(drawing, reading, flops, seconds)


def build_cost(models: Models, settings: Settings, classes: int) -> str:
    """The cost of so many classes in a sentence."""
    cost = cost_of(models, settings, classes)
    return (
        f"{classes} classes of {settings.images} images: {cost.drawing_rows} rows of the U-Net to draw them,"
        f" {cost.feature_rows} for features; {cost.flops / 1e12:.1f} TFLOP, about {cost.seconds / 60:.1f} minutes on"
        f" {models.device} if none is there yet"
    )


@torch.no_grad()
def _counted(work: Callable[[], object], device: torch.device) -> tuple[int, float]:
    """Floating-point operations (two for each multiply-add) and seconds of some work, which is run twice."""
    with flop_counter() as counter:
        work()
    return counter.get_total_flops(), seconds_of(work, device)
