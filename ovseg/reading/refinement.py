"""How self-attention spreads maps over whole objects. Rows of maps belong to rows of the attention."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ovseg.layer_attention import LayerAttention, mean_spread
from ovseg.reading.heads import in_parts

Rows = Callable[[slice], Float[Tensor, "b _n n"]]
"""What some places attend to."""


def restarted(
    layers: Sequence[LayerAttention], maps: Float[Tensor, "b k n"], times: int, kept: float
) -> Float[Tensor, "b k n"]:
    """A random walk that starts anew: each round keeps a share of the first maps (NERVE, arXiv 2511.08248)."""
    walked = maps
    for _ in range(times):
        walked = kept * maps + (1 - kept) * mean_spread(layers, walked)
    return walked


def mean_rows(layers: Sequence[LayerAttention], heads: Sequence[int] = ()) -> Rows:
    """What places attend to, the mean over layers and over some heads, or over all."""

    def rows(places: slice) -> Float[Tensor, "b _n n"]:
        each = [layer.probabilities(places) for layer in layers]
        return torch.stack([(one[:, list(heads)] if heads else one).mean(1) for one in each]).mean(0)

    return rows


def head_rows(layer: LayerAttention, head: int) -> Rows:
    """What places attend to in one head."""
    one = replace(layer, query=layer.query[:, head : head + 1], key=layer.key[:, head : head + 1], make_value=None)
    return lambda places: one.probabilities(places)[:, 0]


def _parts(maps: Float[Tensor, "b k n"]) -> Iterator[slice]:
    return in_parts(maps.shape[-1], 8 * maps.shape[-1] * len(maps))


def most_received(rows: Rows, maps: Float[Tensor, "b k n"]) -> Float[Tensor, "b n"]:
    """For each place the most that any place attends to it."""
    return torch.stack([rows(part).amax(1) for part in _parts(maps)]).amax(0)


def multiplied(
    rows: Rows, maps: Float[Tensor, "b k n"], change: Callable[[Float[Tensor, "b _n n"]], Float[Tensor, "b _n n"]]
) -> Float[Tensor, "b k n"]:
    """Maps times the attention with its rows changed; of the matrix only parts are ever made."""
    return torch.cat([maps @ change(rows(part)).to(maps).mT for part in _parts(maps)], -1)


def _to_one(rows: Float[Tensor, "b _n n"]) -> Float[Tensor, "b _n n"]:
    total = rows.sum(-1, keepdim=True)
    return rows / total.where(total > 0, 1.0)


def surer(attended: Float[Tensor, "b _n n"], strength: float) -> Float[Tensor, "b _n n"]:
    """One step that lowers the entropy of rows: A + strength log10(e A) where A is above 0, within 0 and 1, rows to 1.

    What is below 1/e falls and what is above rises (iSeg, arXiv 2409.03209, entropy-reduced self-attention).
    """
    step = strength * torch.log10(torch.e * attended.where(attended > 0, 1.0))
    return _to_one(torch.where(attended > 0, attended + step, attended).clamp(0, 1))


def entropy_reduced(rows: Rows, maps: Float[Tensor, "b k n"], strength: float, times: int) -> Float[Tensor, "b k n"]:
    """iSeg's iteration (arXiv 2409.03209): maps times surer attention, their least value taken off, divided by their sum.

    What places attend to is first divided by the most that each place receives.
    """
    most = most_received(rows, maps)[:, None]
    for _ in range(times):
        maps = multiplied(rows, maps, lambda attended: surer(attended / most, strength))
        maps = _to_one(maps - maps.amin(-1, keepdim=True))
    return maps


def chain_of_heads(layers: Sequence[LayerAttention], maps: Float[Tensor, "b k n"], least: float) -> Float[Tensor, "b k n"]:
    """Maps times the product of all heads of some layers (CLIPer, arXiv 2411.13836, its Stable Diffusion part).

    A head is divided by the most that each place receives, what then is below `least` is zero, and rows sum to 1 again. The
    last head of the last layer comes first: the product is applied from its right, and never made.
    """
    for layer in reversed(layers):
        for head in reversed(range(layer.query.shape[1])):
            rows = head_rows(layer, head)
            most = most_received(rows, maps)[:, None]

            def strong(attended: Tensor, most: Tensor = most) -> Tensor:
                share = attended / most
                return _to_one(share.where(share >= least, 0.0))

            maps = multiplied(rows, maps, strong)
    return maps


def of_all_grids(
    grids: Sequence[tuple[float, Sequence[LayerAttention]]], maps: Float[Tensor, "b k y x"], power: float
) -> Float[Tensor, "b k y x"]:
    """Maps times the self-attention of several weighed grids at once (FA-Seg, arXiv 2506.23323).

    What a place attends to is resized to the maps' grid bicubically, raised to a power, and each grid's matrix stretched
    to 0 ... 1; asking places repeat. So small differences count less, and the sum follows the fine grids' edges.
    """
    total = torch.zeros_like(maps)
    for weight, layers in grids:
        rows, (height, width) = mean_rows(layers), layers[0].grid
        flat, products, ends = maps.flatten(2), [], []
        for places in in_parts(height * width, 4 * flat.shape[-1]):
            attended = rows(places).unflatten(-1, (height, width))
            grown = F.interpolate(attended, maps.shape[-2:], mode="bicubic", align_corners=False).flatten(2).to(maps)
            sharp = grown.clamp(min=0) ** power  # bicubic resizing falls below 0 beside what is sharp
            products.append(flat @ sharp.mT)
            ends.append(torch.stack([sharp.amin((1, 2)), sharp.amax((1, 2))]))
        least, most = torch.stack(ends).amin(0)[0], torch.stack(ends).amax(0)[1]
        product = torch.cat(products, -1) - least[:, None, None] * flat.sum(-1, keepdim=True)
        coarse = product / (most - least).clamp(min=torch.finfo(maps.dtype).tiny)[:, None, None]
        coarse = coarse.unflatten(-1, (height, width))
        total = total + weight * F.interpolate(coarse, maps.shape[-2:], mode="nearest")
    return total
