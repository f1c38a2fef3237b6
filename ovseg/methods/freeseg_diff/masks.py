"""The masks of the named clusters: their edges moved to those of the picture, and the scores that come of them."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.maths.refine import DenseCRF, Progress, energies_of, pamr, unwatched
from ovseg.pictures import shrunk


def scores_of(
    masks: Sequence[Float[Tensor, "H W"]], chosen: Sequence[int | None], count: int
) -> Float[Tensor, "labels H W"]:
    """The scores of background and of `count` names, one or none for each mask. No later mask paints over an earlier one."""
    scores = torch.zeros(count + 1, *masks[0].shape)
    painted = torch.zeros(masks[0].shape, dtype=torch.bool)
    for mask, name in zip(masks, chosen, strict=True):
        if name is None:
            continue
        free = mask.masked_fill(painted, 0)
        scores[name + 1] = torch.maximum(scores[name + 1], free)
        painted |= free > 0.5
    scores[0] = 1 - scores[1:].amax(0) if count else 1.0
    return scores


def refined(
    image: UInt8[np.ndarray, "H W 3"],
    masks: Sequence[Float[Tensor, "H W"]],
    by: Literal["crf", "pamr", "pamr-max", "none"],
    device: torch.device,
    longest: int = 0,
    progress: Progress = unwatched,
) -> list[Float[Tensor, "H W"]]:
    """Masks of zeros and ones as probabilities, their edges moved to those of the picture; on the CPU.

    Args:
        by: "pamr-max" divides by the highest value, so that a small mask that PAMR has spread out is not lost.
        longest: pixels of the longest side at which this is done, 0 for the picture's own; the results are enlarged.
    """
    if by == "none" or not masks:
        return list(masks)
    if longest and max(image.shape[:2]) > longest:
        small, shape = shrunk(image, longest), image.shape[:2]
        coarse = [F.interpolate(mask[None, None], small.shape[:2], mode="area")[0, 0] > 0.5 for mask in masks]
        done = refined(small, [mask.float() for mask in coarse], by, device, progress=progress)
        return [F.interpolate(m[None, None], shape, mode="bilinear", align_corners=False)[0, 0] for m in done]
    pixels = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1).float()
    crf = DenseCRF(pixels) if by == "crf" else None

    def moved(mask: Tensor, progress: Progress) -> Tensor:
        if crf:
            return crf.mean_field(energies_of(mask > 0.5), progress=progress)[1]
        spread = pamr(pixels, mask[None], progress=progress)[0]
        return spread / spread.max().clamp(min=torch.finfo(spread.dtype).tiny) if by == "pamr-max" else spread

    return [
        moved(mask.to(device), lambda share, number=number: progress((number + share) / len(masks))).cpu()
        for number, mask in enumerate(masks)
    ]
