"""A choice of parts, and what comes of it: from a picture and sentences to the scores of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.attention.spreading import spreading_sites
from ovseg.backbones.base import Backbone, Capture, Site, Text, Trace, grid_at, sibling
from ovseg.layer_attention import LayerAttention, mean_spread
from ovseg.maths.maps import best_of_each, normalise, pooled, resize
from ovseg.reading import layers as layer_rules
from ovseg.reading import refinement
from ovseg.reading.background import BACKGROUNDS
from ovseg.reading.heads import token_maps
from ovseg.reading.prompts import Sentence
from ovseg.reading.scale import SCALES, blurred, over_content, over_tokens

Refine = Literal["none", "powers", "restart", "entropy", "chain", "grids"]


@dataclass(frozen=True)
class Recipe:
    """Which parts are chosen. Numbers that a part does not use count for nothing.

    Args:
        heads: "mean", or a name of `HEADS`.
        layers: layers by hand, all alike, or by how alike their self-attention is to a reference's.
        weights: of the strides, where layers are weighed by hand.
        reference: number of the cross-attention layer, in the order of computing, whose queries are the reference.
        renormalised: as in `layers.by_likeness`.
        smooth: whether grids are brought together bilinearly; by the nearest place otherwise.
        scale: a name of `SCALES`.
        refine: how self-attention spreads the maps.
        stride: of the self-attention that spreads them.
        times: how often.
        strength: of iSeg's step, of what a restart keeps, or the least share that a chain of heads follows.
        heads_read: heads of the self-attention that iSeg's step reads; all if none is named.
        grids: weights of the strides of self-attention, where all spread at once.
        power: what their entries are raised to.
        background: a name of `BACKGROUNDS`.
        threshold: of the background.
        twin: whether the mirrored picture is looked at too.
    """

    heads: str = "mean"
    layers: Literal["hand", "equal", "likeness"] = "hand"
    weights: Mapping[int, float] = field(default_factory=dict)
    reference: int = 0
    renormalised: bool = True
    smooth: bool = True
    scale: str = "min-max"
    refine: Refine = "powers"
    stride: int = 1
    times: int = 1
    strength: float = 0.0
    heads_read: tuple[int, ...] = ()
    grids: Mapping[int, float] = field(default_factory=dict)
    power: float = 1.0
    background: str = "threshold"
    threshold: float = 0.5
    twin: bool = False

    def capture(self, backbone: Backbone) -> Capture:
        """What a pass shall record for it.

        Raises:
            ValueError: the network has no such layer.
        """
        crossing, selves = crossing_of(backbone), set()
        if self.refine not in ("none", "grids"):
            selves |= {*spreading_sites(backbone, self.stride)}
        if self.refine == "grids":
            selves |= {site for site in backbone.sites if site.kind == "self" and self.grids.get(site.stride, 0.0) > 0}
        queries: tuple[Site, ...] = ()
        if self.layers == "hand":
            crossing = tuple(site for site in crossing if self.weights.get(site.stride, 0.0) > 0)
        elif self.layers == "likeness":
            queries = (crossing_at(backbone, self.reference, "reference must be one of"),)
            selves |= {sibling(site, backbone.sites) for site in crossing}
        ordered = tuple(site for site in backbone.sites if site in selves or site in crossing)
        return Capture(queries=queries, states=ordered)


def crossing_of(backbone: Backbone) -> tuple[Site, ...]:
    """All layers of cross-attention, in the order of computing."""
    return tuple(site for site in backbone.sites if site.kind == "cross")


def crossing_at(backbone: Backbone, number: int, must_be: str) -> Site:
    """One of them by its number, from 0. An error's sentence begins with `must_be`: "layer must be one of".

    Raises:
        ValueError: the backbone has no such layer.
    """
    crossing = crossing_of(backbone)
    if not 0 <= number < len(crossing):
        raise ValueError(f"{must_be} 0 to {len(crossing) - 1} on this backbone, but got {number}.")
    return crossing[number]


def crossing_named(backbone: Backbone, numbers: Sequence[int]) -> tuple[Site, ...]:
    """Those of these numbers, or all where none is named.

    Raises:
        ValueError: the backbone has no such layer; the sentence calls them `layers`, as methods do.
    """
    return tuple(crossing_at(backbone, number, "layers must be of") for number in numbers) or crossing_of(backbone)


@dataclass(frozen=True)
class Maps:
    """What is read of one pass: a map for each phrase of its text, on the latent grid.

    Args:
        fused: what the words receive.
        refined: the same, spread by self-attention.
        weights: of the layers that were read, in the order of computing.
    """

    fused: Float[Tensor, "p y x"]
    refined: Float[Tensor, "p y x"]
    weights: Float[Tensor, " l"]

    def folded(self, mirrored: "Maps") -> "Maps":
        """The mean with the maps of the mirrored picture, mirrored back (FA-Seg, arXiv 2506.23323)."""
        fused, refined = self.fused + mirrored.fused.flip(-1), self.refined + mirrored.refined.flip(-1)
        return replace(self, fused=fused / 2, refined=refined / 2)

    @classmethod
    def join(cls, parts: Sequence["Maps"]) -> "Maps":
        """Maps of several passes one after the other."""
        fused, refined = (torch.cat([getattr(part, name) for part in parts]) for name in ("fused", "refined"))
        return cls(fused, refined, parts[0].weights)


@torch.no_grad()
def read(trace: Trace, recipe: Recipe, keys: Mapping[Site, Tensor] | None = None) -> Maps:
    """The maps of a pass's phrases by a recipe.

    Args:
        keys: for each site of cross-attention the keys of other words than those that the pass was told, for the same rows;
            the trace's text says where its phrases are among them.

    Raises:
        ValueError: no layer has a weight.
    """
    crossing = {site: states for site, states in trace.states.items() if site.kind == "cross"}
    if keys:
        crossing = {site: asked(states, keys[site]) for site, states in crossing.items()}
    weights = layer_weights(trace, tuple(crossing), recipe)
    maps = [token_maps(layer, recipe.heads).float() for layer in crossing.values()]
    fused = phrase_maps(trace, (tuple(crossing), maps, weights), recipe)
    return Maps(fused, refined(trace, fused, recipe), weights)


def asked(states: LayerAttention, key: Float[Tensor, "b h t d"]) -> LayerAttention:
    """The attention of the same places to other words' keys."""
    return replace(states, key=key.to(states.query), column_of=None, mask=None, make_value=None)


def layer_weights(trace: Trace, crossing: Sequence[Site], recipe: Recipe) -> Float[Tensor, " l"]:
    """How much each layer of cross-attention counts."""
    if recipe.layers == "hand":
        return layer_rules.by_stride(crossing, recipe.weights)
    if recipe.layers == "equal":
        return torch.full((len(crossing),), 1 / len(crossing))
    (reference,) = trace.queries.values()
    selves = [trace.states[sibling(site, tuple(trace.states))] for site in crossing]
    return layer_rules.by_likeness(selves, reference[0], recipe.renormalised)


def phrase_maps(
    trace: Trace, read_layers: tuple[Sequence[Site], Sequence[Tensor], Tensor], recipe: Recipe
) -> Float[Tensor, "p y x"]:
    """What each phrase receives, all layers together.

    Resolutions are scaled one by one where they are weighed by hand, and where content words are the scale after the sum.

    Args:
        read_layers: the layers, the maps (b, t, y, x) of all their tokens, and their weights.
    """
    (sites, maps, weights), text = read_layers, trace.text
    counts = text.indicators().float()
    mean = counts / counts.sum(1, keepdim=True)

    def of_phrases(tokens: Float[Tensor, "b t y x"]) -> Float[Tensor, "p y x"]:
        return torch.einsum("pt,ptyx->pyx", mean.to(tokens), tokens[list(text.slots[0])])

    if recipe.scale == "content":
        tokens = over_tokens(layer_rules.fused(maps, weights, trace.latent_hw, smooth=recipe.smooth))
        content = (text.packed((counts > 0).float()).amax(1).to(tokens)[..., None, None] * tokens).sum(1)
        return normalise(blurred(over_content(of_phrases(tokens), content[list(text.slots[0])])))
    if recipe.layers != "hand":
        return normalise(of_phrases(layer_rules.fused(maps, weights, trace.latent_hw, smooth=recipe.smooth)))
    total = 0.0
    for stride in sorted({site.stride for site in sites}):
        own = [k for k, site in enumerate(sites) if site.stride == stride]
        mean_of_stride = torch.stack([of_phrases(maps[k]) for k in own]).mean(0)
        grown = layer_rules.fused([mean_of_stride[None]], torch.ones(1), trace.latent_hw, smooth=recipe.smooth)[0]
        total = total + recipe.weights[stride] * SCALES[recipe.scale](grown)
    return total


def refined(trace: Trace, maps: Float[Tensor, "p y x"], recipe: Recipe) -> Float[Tensor, "p y x"]:
    """Maps spread by the self-attention of their rows, on the latent grid."""
    if recipe.refine == "none":
        return maps
    selves = {site: states for site, states in trace.states.items() if site.kind == "self"}
    if recipe.refine == "grids":
        grids = [
            (weight, [states for site, states in selves.items() if site.stride == stride])
            for stride, weight in recipe.grids.items()
        ]
        used = [(weight, own) for weight, own in grids if weight > 0 and own]
        return trace.text.unpacked(refinement.of_all_grids(used, trace.text.packed(maps), recipe.power))
    own = [states for site, states in selves.items() if site.stride == recipe.stride]
    small = pooled(maps, grid_at(trace.latent_hw, recipe.stride))
    spread = trace.text.unpacked(_spread(own, trace.text.packed(small.flatten(1)), recipe))
    return resize(spread.reshape(small.shape), trace.latent_hw)


def _spread(own: Sequence[LayerAttention], rows: Float[Tensor, "b k n"], recipe: Recipe) -> Float[Tensor, "b k n"]:
    match recipe.refine:
        case "powers":
            return mean_spread(own, rows, recipe.times)
        case "restart":
            return refinement.restarted(own, rows, recipe.times, recipe.strength)
        case "entropy":
            looked = refinement.mean_rows(own[-1:], recipe.heads_read)
            return refinement.entropy_reduced(looked, rows, recipe.strength, recipe.times)
        case _:
            return refinement.chain_of_heads(own, rows, recipe.strength)


def told(backbone: Backbone, sentences: Sequence[Sentence]) -> Text:
    """The sentences as the network reads them, with the tokens of their phrases.

    Raises:
        ValueError: a sentence does not fit the text encoder.
    """
    starts = [start for sentence in sentences for start in sentence.starts]
    prompts, phrases = [sentence.text for sentence in sentences], [sentence.phrases for sentence in sentences]
    return backbone.encode_text(prompts, phrases, starts=starts)


def scored(
    maps: Float[Tensor, "p y x"], owners: Sequence[int], image_hw: tuple[int, int], recipe: Recipe
) -> Float[Tensor, "k H W"]:
    """Scores of the classes, 0 to 1, behind those of the background where it has its own.

    Args:
        owners: for each map its class, or -1 for words that are no class.
    """
    # Expanded first, then stretched, as in DiffSegmenter.
    scores = normalise(resize(best_of_each(maps, owners), image_hw))
    extra = [row for row, owner in enumerate(owners) if owner < 0]
    others = normalise(resize(maps[extra], image_hw)).amax(0) if extra else torch.zeros_like(scores[0])
    own = BACKGROUNDS[recipe.background](scores, recipe.threshold, others)
    return scores if own is None else torch.cat([own[None], scores])
