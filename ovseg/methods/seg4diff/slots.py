"""Segments without words: what the padding of an empty prompt receives."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

LEAST = 1e-12


def merged(slots: Float[Tensor, "s y x"], nearest: float) -> Float[Tensor, "_g y x"]:
    """Slots whose maps are alike as one, the mean of them: the two nearest first, until none are nearer than `nearest`.

    How far two maps are from each other is the mean of the two KL distances, each map taken as a distribution over places.
    """
    groups = list(slots / slots.sum((-2, -1), keepdim=True).clamp(min=LEAST))
    sizes = [1] * len(groups)
    while len(groups) > 1:
        flat = torch.stack(groups).flatten(1).clamp(min=LEAST)
        own = (flat * flat.log()).sum(1)
        crossed = flat @ flat.log().T
        apart = (own[:, None] - crossed + own[None] - crossed.T) / 2
        apart.fill_diagonal_(torch.inf)
        one, other = divmod(int(apart.argmin()), len(groups))
        if apart[one, other] >= nearest:
            break
        total = sizes[one] + sizes[other]
        groups[one] = (groups[one] * sizes[one] + groups[other] * sizes[other]) / total
        sizes[one] = total
        del groups[other], sizes[other]
    return torch.stack(groups)


def regions(slots: Float[Tensor, "s y x"], nearest: float) -> Int64[np.ndarray, "y x"]:
    """For each place the number of the group of slots that is the strongest there, largest region first."""
    winners = merged(slots, nearest).argmax(0).cpu().numpy()
    found, counts = np.unique(winners, return_counts=True)
    order = {int(old): new for new, old in enumerate(found[np.argsort(-counts, kind="stable")])}
    return np.vectorize(order.get, otypes=[np.int64])(winners)
