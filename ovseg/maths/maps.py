"""Maps on a grid (y, x): normalising, resizing, fusing. Every leading axis counts maps, one for each prompt."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import find_objects
from torch import Tensor


def normalise(maps: Float[Tensor, "*rows y x"]) -> Float[Tensor, "*rows y x"]:
    """Min-max to [0, 1], each map by itself; a constant map becomes 0."""
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - low).div_((high - low).clamp_min(torch.finfo(maps.dtype).tiny))


def resize(maps: Float[Tensor, "*rows y x"], grid: Sequence[int]) -> Float[Tensor, "*rows y2 x2"]:
    """Maps (b, y, x) or features (b, c, y, x) on another grid: bilinear, corners not aligned, no antialiasing."""
    grid = tuple(grid)
    if tuple(maps.shape[-2:]) == grid:
        return maps
    if maps.ndim == 4:
        return F.interpolate(maps, grid, mode="bilinear", align_corners=False)
    return F.interpolate(maps[:, None], grid, mode="bilinear", align_corners=False)[:, 0]


def enlarged(embeddings: Float[Tensor, "b c y x"], grid: Sequence[int]) -> Float[Tensor, "b c y2 x2"]:
    """Embeddings of places on another grid as in DINO's code: by a factor that is a tenth of a place too large, bicubic."""
    factors = [(length + 0.1) / own for length, own in zip(grid, embeddings.shape[-2:], strict=True)]
    return F.interpolate(embeddings, scale_factor=factors, mode="bicubic", align_corners=False)


def pooled(maps: Float[Tensor, "b y x"], grid: Sequence[int]) -> Float[Tensor, "b y2 x2"]:
    """Maps on a coarser grid: each place has the mean of those that it covers."""
    return maps if tuple(maps.shape[-2:]) == tuple(grid) else F.adaptive_avg_pool2d(maps[None], tuple(grid))[0]


def best_of_each(maps: Float[Tensor, "p y x"], owners: Sequence[int]) -> Float[Tensor, "k y x"]:
    """For each class the highest of its phrases' maps; `owners` says for each map its class, from 0, or -1 for none."""
    rows = ([row for row, owner in enumerate(owners) if owner == k] for k in range(max(owners) + 1))
    return torch.stack([maps[own].amax(0) for own in rows])


def box_of(inside: Bool[np.ndarray, "y x"]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around a mask; two empty slices for an empty mask."""
    (box,) = find_objects(inside.view(np.uint8), 1)
    return box or (slice(0, 0), slice(0, 0))


def of_strides(weights: Sequence[float]) -> dict[int, float]:
    """Weights of grids, finest first, by their strides: 1, 2, 4 and so on."""
    return {2**power: weight for power, weight in enumerate(weights)}


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


def window_starts(length: int, side: int, stride: int) -> list[int]:
    """Where sliding windows of this side begin along an axis of this length: one every `stride`, the last one moved back
    so that it ends with the axis. A window longer than the axis begins at 0."""
    count = max(length - side + stride - 1, 0) // stride + 1
    return [max(min(k * stride, length - side), 0) for k in range(count)]


def windows(hw: tuple[int, int], side: int, stride: int) -> list[tuple[slice, slice]]:
    """Square sliding windows on a picture (H, W), row by row, each as rows and columns."""
    tops, lefts = (window_starts(length, side, stride) for length in hw)
    return [(slice(top, top + side), slice(left, left + side)) for top in tops for left in lefts]


def place_at(grid: tuple[int, int], x: float, y: float) -> tuple[int, int]:
    """Row and column of a grid (y, x) at a place in shares of the picture's width and height, which must lie within it."""
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"The place must lie within the picture, 0 to 1, but got x {x} and y {y}.")
    return min(int(y * grid[0]), grid[0] - 1), min(int(x * grid[1]), grid[1] - 1)


def principal(features: Float[Tensor, "c y x"]) -> UInt8[np.ndarray, "y x 3"]:
    """The three principal components of the features as red, green, blue, each stretched to 0 ... 255."""
    rows = features.flatten(1).T.double()
    centred = rows - rows.mean(0)
    # From the smaller of the two matrices of products: of places, or of channels.
    if len(rows) < rows.shape[1]:
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        parts = vectors[:, -3:] * values[-3:].clamp(min=0).sqrt()
    else:
        parts = centred @ torch.linalg.eigh(centred.T @ centred)[1][:, -3:]
    parts = F.pad(parts, (3 - parts.shape[1], 0)).flip(1)
    low, high = parts.amin(0), parts.amax(0)
    colours = ((parts - low) / (high - low).clamp(min=1e-12) * 255).round().byte()
    return colours.reshape(*features.shape[1:], 3).cpu().numpy()
