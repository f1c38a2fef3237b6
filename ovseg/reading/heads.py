"""How much each head of a layer counts at each place; the weights of a place sum to 1 over the heads."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.layer_attention import LayerAttention

AT_ONCE = 2**24  # probabilities that are made at once
LEAST = 1e-8  # share of the mean squared output that is added below a fraction, for half precision

Weigh = Callable[[LayerAttention], Float[Tensor, "b h n"]]


def in_parts(places: int, each: int) -> Iterator[slice]:
    """Places in parts that can be made at once, where each place is so many probabilities."""
    step = max(1, AT_ONCE // each)
    return (slice(start, min(start + step, places)) for start in range(0, places, step))


def chunks(layer: LayerAttention) -> Iterator[slice]:
    """The places of a layer in parts of which all heads' probabilities can be made at once."""
    return in_parts(layer.query.shape[2], layer.query.shape[0] * layer.query.shape[1] * layer.key.shape[2])


def by_contribution(layer: LayerAttention) -> Float[Tensor, "b h n"]:
    """Each head by the share that it has in the layer's output at a place (GoCA, arXiv 2603.06178, weights of heads).

    A head's output o_h is what it gathers times its part of the output projection, without bias; its weight is <o_h, o> over
    the sum of that over heads, which is the squared length of the output o. Weights may be negative.

    Raises:
        ValueError: the layer has no output projection of its own.
    """
    if layer.out is None:
        raise ValueError("Heads are weighed by a layer's output projection, but this layer has none of its own.")
    gathered = layer.gathered(layer.value())
    wide = torch.promote_types(gathered.dtype, torch.float32)
    gathered, out = gathered.to(wide), layer.out.to(wide)
    # <o_h, o> = <gathered_h, (o times the projection, back)_h>: no output of each head has to be made.
    back = (gathered.transpose(1, 2).flatten(2) @ out.mT) @ out
    shares = (gathered * back.unflatten(-1, (gathered.shape[1], -1)).transpose(1, 2)).sum(-1)
    total = shares.sum(1, keepdim=True)
    return shares / (total + LEAST * total.mean(-1, keepdim=True))


def by_entropy(layer: LayerAttention) -> Float[Tensor, "b h n"]:
    """Surer heads more: each by how far the mean entropy of its rows stays below that of no preference.

    That surer heads count more is NERVE's rule (arXiv 2511.08248), whose constants are not published; the weights are ours.
    """
    entropy = torch.cat([torch.special.entr(layer.probabilities(places)).sum(-1) for places in chunks(layer)], -1)
    sureness = torch.log(torch.tensor(float(layer.columns))) - entropy.mean(-1, keepdim=True)
    sureness = sureness.clamp(min=torch.finfo(sureness.dtype).tiny)
    return (sureness / sureness.sum(1, keepdim=True)).expand(-1, -1, layer.query.shape[2])


def weighted_maps(layer: LayerAttention, weights: Float[Tensor, "b h n"]) -> Float[Tensor, "b m y x"]:
    """What each column receives from each place, the sum over heads by their weights at that place."""
    parts = [
        torch.einsum("bhn,bhnm->bmn", weights[..., places].to(layer_rows.dtype), layer_rows)
        for places in chunks(layer)
        for layer_rows in [layer.probabilities(places)]
    ]
    return torch.cat(parts, -1).unflatten(-1, layer.grid)


def token_maps(layer: LayerAttention, heads: str) -> Float[Tensor, "b m y x"]:
    """What each token receives, heads weighed by a rule of `HEADS`, or all alike: their "mean".

    The mean (DAAM, arXiv 2210.04885; DiffSegmenter, 2309.02773) never makes all heads at once.
    """
    if heads == "mean":
        return layer.maps().permute(0, 3, 1, 2)
    return weighted_maps(layer, HEADS[heads](layer))


HEADS: Mapping[str, Weigh] = MappingProxyType({"contribution": by_contribution, "entropy": by_entropy})
"""The rules by name."""
