"""The features of a picture in OVDiff's three networks."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ovseg.backbones import Capture, Site
from ovseg.maths.maps import resize
from ovseg.methods.ovdiff.settings import Settings, parse_numbers
from ovseg.models import Models
from ovseg.scene import POSTERIOR


def features_of(
    models: Models,
    settings: Settings,
    extractor: str,
    image: UInt8[np.ndarray, "H W 3"],
    seed: int,
    *,
    is_support: bool = False,
) -> Float[Tensor, "d y x"]:
    """Features of a picture or crop, on the extractor's own grid.

    "diffusion": the queries of the cross-attention layers `sites`, after noise of `timestep`, on the latent grid. "dino":
    the keys of the last layer. "clip": the keys of the last layer but one.

    Args:
        seed: of the noise.
        is_support: the picture is a support image, not one that is segmented.

    Raises:
        ValueError: `sites` names layers that the backbone does not have.
    """
    if extractor == "dino":
        limit = 0 if is_support else settings.dino_longest
        return models.dino.keys([_within(image, limit)])[0]
    if extractor == "clip":
        clip, side = models.clip_named(settings.clip), settings.clip_sides[is_support]
        return clip.dense([image], "keys", -2, side=side, imagenet=settings.imagenet)[0]
    backbone = models.backbone
    hw = backbone.square_hw() if settings.squashed else backbone.working_hw(image.shape[:2])
    latent = backbone.encode(resized(image, hw), sample_seed=seed + POSTERIOR if settings.sampled else None)
    sites = _sites(models, settings.sites)
    trace = backbone.trace(latent, backbone.encode_text([""], [""]), settings.timestep, Capture(queries=sites), seed)
    return torch.cat([resize(trace.queries[site].float(), trace.latent_hw) for site in sites], 1)[0]


def _sites(models: Models, numbers: str) -> tuple[Site, ...]:
    """The cross-attention of these numbers, counted in the order of computing."""
    crossing, chosen = [site for site in models.backbone.sites if site.kind == "cross"], parse_numbers(numbers)
    if not chosen or max(chosen) >= len(crossing):
        raise ValueError(f"sites must name some of 0 to {len(crossing) - 1} on this backbone, but got {numbers!r}.")
    return tuple(crossing[number] for number in chosen)


def _within(image: np.ndarray, longest: int) -> np.ndarray:
    scale = longest / max(image.shape[:2])
    return resized(image, tuple(round(side * scale) for side in image.shape[:2])) if 0 < scale < 1 else image


def resized(image: UInt8[np.ndarray, "H W 3"], hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture at another size (h, w), by Lanczos' filter."""
    return np.asarray(Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.LANCZOS))
