"""What it takes to make prototypes of some classes, before it is done."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ovseg.backbones.base import Capture
from ovseg.methods.ovdiff.settings import Settings
from ovseg.models import Models


def build_cost(models: Models, settings: Settings, classes: int) -> str:
    """What it takes to make prototypes of so many classes: passes, arithmetic, and the time of it on this device.

    One row of the U-Net, one decoding and one encoding are run and counted; masks, the other extractors and clustering
    come on top.
    """
    backbone = models.backbone
    latent = backbone.encode(np.zeros((*backbone.square_hw(), 3), np.uint8))
    row = partial(backbone.trace, latent, backbone.encode_text([""], [""]), settings.timestep, Capture(), 0)
    row_flops, row_seconds = _counted(row)
    drawn_flops, drawn_seconds = _counted(partial(backbone.decode, latent))
    read_flops, read_seconds = _counted(partial(backbone.encode, np.zeros((*backbone.square_hw(), 3), np.uint8)))
    pictures = classes * settings.images
    sampling, reading = pictures * settings.steps * 2, pictures * ("diffusion" in settings.extractors)
    rows = sampling + reading
    tera = (rows * row_flops + pictures * drawn_flops + reading * read_flops) / 1e12
    minutes = (rows * row_seconds + pictures * drawn_seconds + reading * read_seconds) / 60
    return (
        f"{classes} classes of {settings.images} images: {sampling} rows of the U-Net to draw them, {reading} for features;"
        f" {tera:.1f} TFLOP, about {minutes:.1f} minutes on {models.device} if none is there yet"
    )


@torch.no_grad()
def _counted(work: Callable[[], object]) -> tuple[int, float]:
    """Floating-point operations (two for each multiply-add) and seconds of some work, which is run twice."""
    with FlopCounterMode(display=False) as counter:
        work()
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return counter.get_total_flops(), time.perf_counter() - begun
