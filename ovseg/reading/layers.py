"""How much each layer counts, and layers of different grids as one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import Site
from ovseg.layer_attention import LayerAttention
from ovseg.reading.heads import in_parts


def by_stride(sites: Sequence[Site], weights: Mapping[int, float]) -> Float[Tensor, " l"]:
    """Each layer by its stride, layers of a stride alike: weights set by hand (DiffSegmenter, arXiv 2309.02773).

    Raises:
        ValueError: no layer has a weight above 0.
    """
    strides = [site.stride for site in sites]
    each = torch.tensor([max(weights.get(stride, 0.0), 0.0) / strides.count(stride) for stride in strides])
    if not each.sum() > 0:
        raise ValueError(f"At least one of the strides {sorted({*strides})} must have a weight above 0, but got {weights}.")
    return each


def last_in_a_row(strides: Sequence[int], stride: int) -> tuple[int, int]:
    """The first and the last number of the last layers in a row at a stride."""
    last = max(k for k, own in enumerate(strides) if own == stride)
    return next(k for k in range(last, -1, -1) if k == 0 or strides[k - 1] != stride), last


def middle_of_second_grid(strides: Sequence[int]) -> int:
    """The reference where none is published: the middle one of the last layers in a row at the second finest grid.

    That is number 11 of Stable Diffusion 1.5, which GoCA takes (arXiv 2603.06178).

    Args:
        strides: of the layers of cross-attention, in the order of computing.
    """
    return sum(last_in_a_row(strides, sorted({*strides})[:2][-1])) // 2


def by_likeness(
    layers: Sequence[LayerAttention], reference: Float[Tensor, "d y x"], renormalised: bool = True
) -> Float[Tensor, " l"]:
    """Each layer by how alike its self-attention is to that of a good feature layer (GoCA, arXiv 2603.06178, layer weights).

    Args:
        layers: for each layer of cross-attention the self-attention of its block; of the first row.
        reference: features of places, whose products, in a softmax, say which places belong together.
        renormalised: whether what a place attends to sums to 1 again on the reference's grid. The released code leaves that
            out, and a coarse layer then counts more by the square of how much coarser it is.

    Returns:
        weights that are 0 or more and sum to 1.
    """
    alike = torch.stack([_likeness(layer, reference.float(), renormalised) for layer in layers])
    return alike / alike.sum()


def _likeness(layer: LayerAttention, reference: Float[Tensor, "d y x"], renormalised: bool) -> Float[Tensor, ""]:
    """The sum of products of the layer's self-attention, on the reference's grid, and the reference's own."""
    (rows, columns), features = reference.shape[1:], reference.flatten(1)
    y, x = (torch.arange(count) * own // count for count, own in zip((rows, columns), layer.grid, strict=True))
    nearest = (y[:, None] * layer.grid[1] + x).flatten().to(reference.device)  # as "nearest" resizes the asking places
    first = layer.first()
    total = 0.0
    for part in in_parts(rows * columns, layer.query.shape[1] * max(layer.key.shape[2], rows * columns)):
        own = replace(first, query=first.query[:, :, nearest[part]], grid=(1, 1))
        attended = own.probabilities()[0].mean(0).unflatten(-1, layer.grid)[:, None].float()
        grown = F.interpolate(attended, (rows, columns), mode="bilinear", align_corners=False).flatten(1)
        if renormalised:
            grown = grown / grown.sum(-1, keepdim=True)
        wanted = (features[:, part].T @ features / len(features) ** 0.5).softmax(-1)
        total = total + (grown * wanted).sum()
    return total


def fused(
    maps: Sequence[Float[Tensor, "b t _y _x"]], weights: Float[Tensor, " l"], grid: tuple[int, int], *, smooth: bool = True
) -> Float[Tensor, "b t y x"]:
    """The weighted sum of layers' maps on one grid.

    Args:
        smooth: resize bilinearly; by the nearest place otherwise (FA-Seg, arXiv 2506.23323).
    """
    how = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest"}
    used = [(one, float(weight)) for one, weight in zip(maps, weights, strict=True) if weight != 0]
    return torch.stack([weight * F.interpolate(one, grid, **how) for one, weight in used]).sum(0)
