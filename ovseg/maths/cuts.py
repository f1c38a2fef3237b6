"""MaskCut: objects as normalised cuts of a graph of features (Wang et al. 2023, "CutLER", arXiv 2301.11320, section 3.2)."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.ndimage import binary_fill_holes
from scipy.sparse.linalg import eigsh
from torch import Tensor

from ovseg.maths.overlap import iou
from ovseg.maths.refine import dense_crf

WEAK = 1e-5  # weight of an edge between places that are not alike
SMALLEST = 0.01  # share of the picture that an object must cover
SAME = 0.5  # overlap from which two masks are one, or below which a refined mask is no longer the one that was cut


def mask_cut(features: Float[Tensor, "c y x"], objects: int = 3, alike: float = 0.15) -> tuple[Bool[np.ndarray, "y x"], ...]:
    """The most salient objects, strongest first; none where everything is alike.

    Args:
        features: such as DINO's keys.
        objects: rounds; each looks where the ones before found nothing.
        alike: cosine above which two places are joined by an edge of weight 1.
    """
    grid = tuple(features.shape[1:])
    columns = F.normalize(features.flatten(1).float(), dim=0)
    taken, found = np.zeros(grid, bool), []
    for _ in range(objects):
        masked = columns * torch.from_numpy(~taken.ravel()).to(columns)
        object_mask = foreground(second_eigenvector(masked, alike).reshape(grid))
        overlaps = [iou(object_mask, earlier) for earlier in found]
        fresh = object_mask & ~taken
        taken |= object_mask
        if fresh.mean() > SMALLEST and max(overlaps, default=0) <= SAME:
            found.append(fresh)
    return tuple(found)


def second_eigenvector(columns: Float[Tensor, "c n"], alike: float) -> Float[np.ndarray, "n"]:
    """The generalised eigenvector of (D - A) v = l D v with the second-smallest eigenvalue, by Lanczos' method.

    Its signs split the graph into two halves that are least alike.
    """
    weights = torch.where(columns.T @ columns > alike, 1.0, WEAK).double()
    scale = weights.sum(1).rsqrt()
    normalised = (scale[:, None] * weights * scale).cpu().numpy()
    # The largest of the normalised affinity are the smallest of its Laplacian. A fixed start makes it repeatable.
    start = np.random.default_rng(0).normal(size=len(normalised))
    values, vectors = eigsh(normalised, k=2, which="LA", v0=start)
    second = vectors[:, int(np.argmin(values))] * scale.cpu().numpy()
    return second.astype(np.float32)


def foreground(vector: Float[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """The half of a cut that is the object: the connected part around the strongest place.

    The half that holds three corners of the picture or more is the background; otherwise the object is the half of the
    place where the vector is largest in size.
    """
    half = vector > vector.mean()
    corners = int(half[0, 0]) + int(half[0, -1]) + int(half[-1, 0]) + int(half[-1, -1])
    strongest = np.unravel_index(np.abs(vector).argmax(), vector.shape)
    if corners >= 3 or not half[strongest]:
        half, vector = ~half, -vector
        strongest = np.unravel_index(np.where(half, vector, -np.inf).argmax(), vector.shape)
    _, parts = cv2.connectedComponents(half.astype(np.uint8), connectivity=4)
    return parts == parts[strongest]


def sharpen(mask: Bool[np.ndarray, "y x"], image: np.ndarray) -> Bool[np.ndarray, "H W"] | None:
    """A mask at the picture's size (H, W, 3) with its edges by a CRF and its holes filled; None if the CRF leaves it."""
    height, width = image.shape[:2]
    grown = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    likely = torch.from_numpy(np.where(grown, 0.9, 0.1).astype(np.float32))
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()
    energies = -torch.stack([1 - likely, likely]).log()
    moved = dense_crf(pixels, energies, smoothness=(3, 7), appearance=(50, 5, 10)).argmax(0).numpy() == 1
    filled = binary_fill_holes(moved)
    return filled if iou(filled, grown) >= SAME else None
