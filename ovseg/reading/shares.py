"""How much layers and heads count in one picture by GoCA's rules, to be looked at: one more pass on what was seen there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from ovseg.attention import Attention
from ovseg.backbones.base import Site
from ovseg.maths.maps import resize
from ovseg.models import Models
from ovseg.reading.heads import by_contribution
from ovseg.reading.layers import middle_of_second_grid
from ovseg.reading.recipe import Recipe, crossing_of, layer_weights


@dataclass(frozen=True, eq=False)
class Shares:
    """Weights of the layers of cross-attention, in the order of computing, and of each one's heads.

    Args:
        layers: how alike a layer's self-attention is to that of the reference; they sum to 1.
        heads: for each layer what its heads contribute to its output, the mean over places, each place by what the word
            receives there; they sum to 1, and may be negative.
    """

    sites: tuple[Site, ...]
    layers: Float[np.ndarray, " l"]
    heads: tuple[Float[np.ndarray, " _h"], ...]


@torch.no_grad()
def shares_of(models: Models, attention: Attention, level: int, token: int, weights: Mapping[int, float]) -> Shares:
    """The weights of GoCA (arXiv 2603.06178) for a token at a level; its map, with these weights, says which places count.

    Raises:
        ValueError: it was looked at with another backbone, or its layers have no output projection of their own.
    """
    backbone = models.backbone
    crossing = crossing_of(backbone)
    if tuple(attention.cross) != crossing:
        raise ValueError("The layers must be those of this backbone, but they are another one's.")
    recipe = Recipe(layers="likeness", reference=middle_of_second_grid([site.stride for site in crossing]), refine="none")
    text = backbone.encode_text([attention.prompt], [""])
    trace = attention.passed_again(backbone, level, text, recipe.capture(backbone))
    received = torch.from_numpy(attention.fused(token, weights, [level]))[None]
    heads = []
    for site in crossing:
        layer = trace.states[site]
        places = resize(received, layer.grid).flatten().to(layer.query)
        heads.append((by_contribution(layer)[0] * places).sum(-1) / places.sum())
    layers = layer_weights(trace, crossing, recipe)
    return Shares(crossing, layers.float().cpu().numpy(), tuple(one.float().cpu().numpy() for one in heads))
