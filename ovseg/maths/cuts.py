"""MaskCut: objects as normalised cuts of a graph of features (Wang et al. 2023, "CutLER", arXiv 2301.11320, section 3.2)."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_fill_holes
from scipy.sparse.linalg import eigsh
from torch import Tensor

from ovseg.maths.overlap import iou
from ovseg.maths.refine import DenseCRF, energies_of

WEAK_EDGE = 1e-5  # weight of an edge between two places that are not alike
SMALLEST = 0.01  # share of the picture that an object must cover
SAME_OBJECT = 0.5  # IoU of two masks, above which they show one object


def mask_cut(features: Float[Tensor, "c y x"], objects: int = 3, alike: float = 0.15) -> tuple[Bool[np.ndarray, "y x"], ...]:
    """Masks of the most salient objects, most salient first; they do not overlap.

    Args:
        features: such as DINO's keys.
        objects: number of rounds. A round cuts the graph of those places that no earlier round has taken, and gives a
            mask, or none if it is too small or an object that is known already.
        alike: cosine above which two places are joined by an edge of weight 1.
    """
    grid = tuple(features.shape[1:])
    columns = F.normalize(features.flatten(1).float(), dim=0)
    taken, masks = np.zeros(grid, bool), []
    for _ in range(objects):
        masked = columns * torch.from_numpy(~taken.ravel()).to(columns)
        object_mask = foreground(second_eigenvector(masked, alike).reshape(grid))
        known = any(iou(object_mask, earlier) > SAME_OBJECT for earlier in masks)
        fresh = object_mask & ~taken
        taken |= object_mask
        if fresh.mean() > SMALLEST and not known:
            masks.append(fresh)
    return tuple(masks)


def second_eigenvector(columns: Float[Tensor, "c n"], alike: float) -> Float[np.ndarray, " n"]:
    """The generalised eigenvector of (D - A) v = l D v with the second-smallest eigenvalue, by Lanczos' method.

    Its signs split the graph into the two halves that are least alike.

    Args:
        columns: features of unit length, one for each place; a column of zeros is like nothing.
        alike: as in `mask_cut`.
    """
    weights = torch.where(columns.T @ columns > alike, 1.0, WEAK_EDGE).double()
    scale = weights.sum(1).rsqrt()
    normalised = (scale[:, None] * weights * scale).cpu().numpy()
    # The largest eigenvalues of the normalised affinity are the smallest of its Laplacian. A fixed start makes the result
    # repeatable.
    start = np.random.default_rng(0).normal(size=len(normalised))
    values, vectors = eigsh(normalised, k=2, which="LA", v0=start)
    second = vectors[:, int(np.argmin(values))] * scale.cpu().numpy()
    return second.astype(np.float32)


def foreground(vector: Float[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """The object of a cut: of the two halves the one that is not background, and of it the part around its strongest place.

    Parts are connected through the four neighbours. A half that holds three corners of the picture or more is the
    background; otherwise the object is in the half where the vector's magnitude is largest.
    """
    half = vector > vector.mean()
    corners = int(half[0, 0]) + int(half[0, -1]) + int(half[-1, 0]) + int(half[-1, -1])
    strongest = np.unravel_index(np.abs(vector).argmax(), vector.shape)
    if corners >= 3 or not half[strongest]:
        half, vector = ~half, -vector
        strongest = np.unravel_index(np.where(half, vector, -np.inf).argmax(), vector.shape)
    _, parts = cv2.connectedComponents(half.astype(np.uint8), connectivity=4)
    return parts == parts[strongest]


def sharpen(
    mask: Bool[np.ndarray, "y x"], image: UInt8[np.ndarray, "H W 3"], device: torch.device | str = "cpu"
) -> Bool[np.ndarray, "H W"] | None:
    """A mask at the picture's size: a CRF, which runs on `device`, moves its edges, and its holes are filled.

    None if the result has an IoU below `SAME_OBJECT` with the mask: the CRF then has found something else.
    """
    height, width = image.shape[:2]
    grown = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    pixels = torch.from_numpy(image).to(device).permute(2, 0, 1).float()
    crf = DenseCRF(pixels, smoothness=(3, 7), appearance=(50, 5, 10))
    moved = crf.mean_field(energies_of(torch.from_numpy(grown).to(device))).argmax(0).cpu().numpy() == 1
    filled = binary_fill_holes(moved)
    return filled if iou(filled, grown) >= SAME_OBJECT else None
