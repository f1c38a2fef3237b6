"""Pure tensor maths on attention maps. All maps are on a grid (y, x); a leading axis is one row per prompt."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


def normalise(maps: Float[Tensor, "*rows y x"]) -> Float[Tensor, "*rows y x"]:
    """Min-max to [0, 1], each map by itself; a constant map becomes 0."""
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny), 0.0)


def resize(maps: Float[Tensor, "b y x"], grid: tuple[int, int]) -> Float[Tensor, "b y2 x2"]:
    """Bilinear, corners not aligned."""
    if tuple(maps.shape[-2:]) == grid:
        return maps
    return F.interpolate(maps[:, None], grid, mode="bilinear", align_corners=False)[:, 0]


def phrase_maps(attention: Float[Tensor, "b y x t"], columns: Sequence[tuple[int, ...]]) -> Float[Tensor, "b y x"]:
    """Mean over each row's own token columns."""
    return torch.stack([row[..., list(span)].mean(-1) for row, span in zip(attention, columns, strict=True)])


def fuse_strides(
    maps: Mapping[int, Float[Tensor, "b _y _x"]], weights: Mapping[int, float], grid: tuple[int, int]
) -> Float[Tensor, "b y x"]:
    """Weighted sum over strides, each expanded to `grid` and then min-max normalised (DiffSegmenter, code).

    Raises:
        ValueError: no stride has both a map and a weight above zero.
    """
    used = [stride for stride in maps if weights.get(stride, 0.0) > 0]
    if not used:
        raise ValueError(f"At least one of the strides {sorted(maps)} must have a weight above 0, but got {dict(weights)}.")
    return torch.stack([weights[stride] * normalise(resize(maps[stride], grid)) for stride in used]).sum(0)


def propagate(affinity: Float[Tensor, "b n n"], maps: Float[Tensor, "b y x"], times: int = 1) -> Float[Tensor, "b y x"]:
    """Each place takes the mean of the map over what it attends to: affinity @ map, `times` over."""
    flat = maps.flatten(1)[..., None].to(affinity.dtype)
    for _ in range(times):
        flat = affinity @ flat
    return flat[..., 0].reshape(maps.shape)


def window_starts(length: int, side: int, stride: int) -> list[int]:
    """Where windows of this side begin: every stride, the last one moved back to fit."""
    count = max(length - side + stride - 1, 0) // stride + 1
    return [max(min(k * stride, length - side), 0) for k in range(count)]


def principal(features: Float[Tensor, "c y x"]) -> UInt8[np.ndarray, "y x 3"]:
    """The three strongest components of the features as colours."""
    rows = features.flatten(1).T.double()
    centred = rows - rows.mean(0)
    # The strongest directions from the smaller of the two products; few places have many channels, or the reverse.
    if len(rows) < rows.shape[1]:
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        parts = vectors[:, -3:] * values[-3:].clamp(min=0).sqrt()
    else:
        parts = centred @ torch.linalg.eigh(centred.T @ centred)[1][:, -3:]
    parts = F.pad(parts, (3 - parts.shape[1], 0)).flip(1)
    low, high = parts.amin(0), parts.amax(0)
    colours = ((parts - low) / (high - low).clamp(min=1e-12) * 255).round().byte()
    return colours.reshape(*features.shape[1:], 3).cpu().numpy()
