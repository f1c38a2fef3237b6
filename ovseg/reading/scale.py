"""What makes the maps of words comparable."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.maths.maps import normalise

BLUR_SIDE, BLUR_SIGMA = 5, 1.1  # GoCA's


def over_places(maps: Float[Tensor, "*p y x"]) -> Float[Tensor, "*p y x"]:
    """Each map divided by its sum over all places (iSeg, arXiv 2409.03209); a map of zeros stays."""
    total = maps.sum((-2, -1), keepdim=True)
    return maps / total.where(total != 0, 1.0)


def unscaled(maps: Float[Tensor, "*p y x"]) -> Float[Tensor, "*p y x"]:
    """Maps as they are."""
    return maps


def over_tokens(maps: Float[Tensor, "b t y x"]) -> Float[Tensor, "b t y x"]:
    """What is below 0 cut off, then each place divided by its sum over all tokens (GoCA, arXiv 2603.06178)."""
    kept = maps.clamp(min=0)
    return kept / kept.sum(1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def over_content(entities: Float[Tensor, "*#p y x"], content: Float[Tensor, "*#p y x"]) -> Float[Tensor, "*#p y x"]:
    """Each place divided by what all content words receive there (GoCA, arXiv 2603.06178, scaling of each place).

    So the start token and the joining words, whose share differs from place to place, count for nothing. A sentence needs
    two content words at least: alone a word is 1 everywhere.

    Args:
        entities: what each entity's tokens receive, their mean.
        content: what all tokens of all entities of the same sentence receive, their sum.
    """
    return entities / content.clamp(min=torch.finfo(content.dtype).tiny)


def blurred(maps: Float[Tensor, "*p y x"]) -> Float[Tensor, "*p y x"]:
    """A Gaussian of 5 places and sigma 1.1, mirrored at the edges (GoCA, arXiv 2603.06178)."""
    reach = BLUR_SIDE // 2
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / BLUR_SIGMA) ** 2)
    bell = (bell / bell.sum()).to(maps)
    for axis in (-2, -1):
        length = maps.shape[axis]
        at = torch.arange(-reach, length + reach, device=maps.device)
        at = (length - 1 - (length - 1 - at.abs()).abs()).clamp(0, length - 1)  # mirrored, the edge itself once
        padded = maps.index_select(axis, at)
        maps = sum(weight * padded.narrow(axis, k, length) for k, weight in enumerate(bell))
    return maps


SCALES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({
    "min-max": normalise, "places": over_places, "content": unscaled, "none": unscaled,
})  # fmt: skip
"""What is done to the maps of each resolution before they are summed; content words are a matter of the sum."""
