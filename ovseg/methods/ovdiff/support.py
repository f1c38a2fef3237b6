"""Where a class is in its support images, and prototypes from it: OVDiff's offline steps as pure functions.

Karazija, Laina, Vedaldi, Rupprecht: Diffusion Models for Open-Vocabulary Segmentation; ECCV 2024, arXiv 2306.09316; steps B
and D of its released code.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_erosion
from torch import Tensor

from ovseg.maths.cluster import kmeans
from ovseg.maths.maps import normalise, resize
from ovseg.methods.ovdiff.prototypes import NOWHERE, Mask, Prototypes, Side

LIKELY, UNLIKELY = 0.5, 0.2  # attributions above and below which a place is taken for the class or for its surroundings
BINS = 64  # of the histogram in which Otsu's thresholds are looked for


def stretched(attribution: Float[np.ndarray, "y x"], hw: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """An attribution map at a picture's size in [0, 1], stretched before and after; zeros for a constant one."""
    values = normalise(torch.from_numpy(attribution.astype(np.float32))).numpy()
    grown = cv2.resize(values, hw[::-1], interpolation=cv2.INTER_LINEAR)
    return normalise(torch.from_numpy(grown)).numpy()


def masks_by_proposals(proposals: Sequence[Bool[np.ndarray, "h w"]], attribution: Float[np.ndarray, "h w"]) -> Mask:
    """Foreground and background from class-agnostic masks; by fixed thresholds where there are none.

    The masks and what they leave compete by their mean attribution: the best is foreground, and the worst that still has
    pixels of its own is background, where the attribution is low, without its edge. An empty mask never competes.
    """
    if not proposals:
        return Mask(attribution > LIKELY, attribution < UNLIKELY)
    rest = ~np.any(proposals, 0)
    candidates = [mask for mask in (rest, *proposals) if mask.any()]
    ranked = sorted(candidates, key=lambda mask: -float(attribution[mask].mean()))
    owned, free = [], np.ones_like(rest)
    for mask in ranked:
        owned.append(mask & free)
        free &= ~mask
    owned = [mask for mask in owned if mask.any()]
    background = owned[-1] if len(owned) > 1 else np.zeros_like(rest)
    return Mask(owned[0], binary_erosion(background & (attribution < UNLIKELY)))


def masks_by_otsu(attributions: Sequence[Float[np.ndarray, "h w"]]) -> tuple[Mask, ...]:
    """Foreground and background by two thresholds on the attributions of all images of a class (multi-Otsu)."""
    low, high = two_thresholds(np.concatenate([a.ravel() for a in attributions]))
    return tuple(Mask(a > high, a < low) for a in attributions)


def two_thresholds(values: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """The two thresholds that part values in [0, 1] into three classes of the least variance (Otsu 1979).

    Where the values are too few to part, the fixed ones.
    """
    counts, edges = np.histogram(values, BINS, (0, 1))
    if np.count_nonzero(counts) < 3:
        return UNLIKELY, LIKELY
    centres = (edges[:-1] + edges[1:]) / 2
    number, total = np.cumsum([0, *counts]), np.cumsum([0, *(counts * centres)])
    first, second = np.triu_indices(BINS - 1, 1)  # the last bins of the lower two classes
    between = np.zeros(len(first))
    for start, stop in ((0 * first, first + 1), (first + 1, second + 1), (second + 1, 0 * first + BINS)):
        held = number[stop] - number[start]
        between += np.where(held > 0, (total[stop] - total[start]) ** 2 / np.maximum(held, 1), -np.inf)
    best = int(between.argmax())
    return float(edges[first[best] + 1]), float(edges[second[best] + 1])


def prototypes_of(
    features: Iterable[Float[Tensor, "d y x"]], masks: Sequence[Mask], parts: int, seed: int = 0
) -> Prototypes:
    """The prototypes of foreground and background from the features of each picture, which are taken one at a time.

    Masks go to the feature grid bilinearly and count wherever anything of them arrives.
    """
    gathered: tuple[list[Tensor], list[Tensor]] = ([], [])
    insides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for found, mask in zip(features, masks, strict=True):
        for side, pixels in enumerate((mask.foreground, mask.background)):
            inside = _on_grid(pixels, tuple(found.shape[1:]))
            insides[side].append(inside)
            gathered[side].append(found[:, inside.to(found.device)].T.float())
    return Prototypes(*(_side(rows, torch.stack(at), parts, seed) for rows, at in zip(gathered, insides, strict=True)))


def _side(rows_of: list[Tensor], inside: Bool[Tensor, "k y x"], parts: int, seed: int) -> Side:
    """The mean of all places, the mean of each picture's, and the centres of their clusters."""
    regions = np.full(inside.shape, NOWHERE, np.uint8)
    shown = [k for k, rows in enumerate(rows_of) if len(rows)]
    rows = torch.cat(rows_of)
    if not shown:
        return Side(np.zeros((0, rows.shape[1]), np.float16), np.zeros(0, np.int32), 0, regions)
    labels, centres = kmeans(rows, parts, restarts=1, seed=seed)
    regions[inside.numpy()] = labels.cpu().numpy().astype(np.uint8)
    means = torch.stack([rows_of[k].mean(0) for k in shown])
    vectors = torch.cat([rows.mean(0, keepdim=True), means, centres])
    # The mean and each part are shown by the picture that is most like them; a part by one that holds any of it.
    near = F.normalize(vectors, dim=1) @ F.normalize(means, dim=1).T
    owner = torch.cat([torch.full((len(rows_of[k]),), n) for n, k in enumerate(shown)])
    held = torch.zeros(len(centres), len(shown)).index_put_((labels.cpu(), owner), torch.ones(()), accumulate=True)
    near[1 + len(shown) :].masked_fill_((held == 0).to(near.device), -2)
    pictures = np.array(shown, np.int32)[near.argmax(1).cpu().numpy()]
    pictures[1 : 1 + len(shown)] = shown
    return Side(vectors.cpu().numpy().astype(np.float16), pictures, len(centres), regions)


def _on_grid(mask: np.ndarray, grid: tuple[int, int]) -> Tensor:
    return resize(torch.from_numpy(mask.astype(np.float32))[None], grid)[0] > 0


def shaded(image: UInt8[np.ndarray, "h w 3"], mask: Mask) -> UInt8[np.ndarray, "h w 3"]:
    """A support image for people: foreground as it is, background half as bright, what is neither nearly black."""
    bright = np.where(mask.foreground, 1.0, np.where(mask.background, 0.5, 0.12))
    return (image * bright[..., None]).astype(np.uint8)
