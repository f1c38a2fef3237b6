"""What a pass of a network shall record, what it shall leave out, and what was recorded, as values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ovseg.backbones.text import Text
from ovseg.layer_attention import mean_spread


@dataclass(frozen=True)
class Site:
    """A place in the network where attention is computed.

    Args:
        name: what the backbone calls it; unlike that of any other site of the same kind, and nothing that others read.
        stride: latent places per place of the site's grid, along each side.
        kind: "self" if places attend to places, "cross" if they attend to the tokens of the prompt. Where both share one
            softmax the layer is two sites, one of each kind.
        block: what the backbone calls the block that the site is in.
    """

    name: str
    stride: int
    kind: Literal["self", "cross"]
    block: str = ""


def sibling(site: Site, sites: Sequence[Site]) -> Site | None:
    """The first site of the other kind in the same block: a cross-attention's self-attention; None where there is none."""
    return next((other for other in sites if other.block == site.block and other.kind != site.kind), None)


def mean_by_stride(maps: Mapping[Site, Float[Tensor, "p _y _x"]]) -> dict[int, Float[Tensor, "p _y _x"]]:
    """The unweighted mean over the sites of each stride, finest first."""
    strides = sorted({site.stride for site in maps})
    return {s: torch.stack([own for site, own in maps.items() if site.stride == s]).mean(0) for s in strides}


def timestep_of(value: float | Tensor) -> float:
    """A timestep as a plain number; whole ones are whole numbers."""
    number = float(torch.as_tensor(value).flatten()[0])
    return int(number) if number.is_integer() else number


def grid_at(latent_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns of a stride's grid: each halving of the network rounds up."""
    return -(-latent_hw[0] // stride), -(-latent_hw[1] // stride)


@dataclass(frozen=True)
class Capture:
    """What a pass shall record, as data. Attention at a stride that has no site gives no entry in the trace.

    Args:
        cross: strides whose cross-attention probabilities are kept, one map per site and token.
        phrases: strides whose cross-attention to each phrase of the prompts is kept, one map per site: the mean over the
            phrase's tokens. What the other tokens receive is let go at once.
        queries: sites of the backbone whose queries are kept.
        features: strides, some of the backbone's `feature_strides`, whose blocks' outputs are kept.
        states: sites of the backbone whose queries, keys and values can be had afterwards, heads apart.
        outputs: sites whose layer is joint attention, of which is kept what places and riders gather.
    """

    cross: tuple[int, ...] = ()
    phrases: tuple[int, ...] = ()
    queries: tuple[Site, ...] = ()
    features: tuple[int, ...] = ()
    states: tuple[Site, ...] = ()
    outputs: tuple[Site, ...] = ()

    def crosses(self, site: Site) -> bool:
        """Whether maps of a site are made: it attends to tokens, at a stride whose maps are kept."""
        return site.kind == "cross" and site.stride in (*self.cross, *self.phrases)

    def needs(self, site: Site) -> bool:
        """Whether anything of a site is recorded."""
        return self.crosses(site) or site in self.queries or site in self.states


@dataclass(frozen=True)
class Ablation:
    """What is switched off in a pass, as data; the rest of the pass sees it.

    Args:
        heads: heads by their numbers, each at a site: what the head adds is zero before the output projection.
        layers: sites whose layer puts out zeros.
        tokens: tokens that no softmax sees.
    """

    heads: tuple[tuple[Site, int], ...] = ()
    layers: tuple[Site, ...] = ()
    tokens: tuple[int, ...] = ()

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites that are named."""
        return (*self.layers, *(site for site, _ in self.heads))

    def mask(self, text: Text) -> Bool[Tensor, "b t"] | None:
        """For each column of the prompts whether it can be attended to; None where all can."""
        if not self.tokens:
            return None
        columns = torch.arange(text.embeddings.shape[1]).expand(len(text.prompts), -1)
        token_of = (columns if text.token_of is None else text.token_of).to(text.embeddings.device)
        return ~torch.isin(token_of, torch.tensor(self.tokens, device=token_of.device))


NOTHING = Ablation()


@dataclass(frozen=True)
class Trace:
    """What one pass recorded. Heads are averaged; the rows are those of `text`; sites come in the order of computing.

    `cross` is the attention that each token receives: over the tokens it sums to 1, or to the share of words where places
    and words share one softmax. `phrases` is the attention that each phrase receives, with a map for each phrase of `text`.
    `features` maps a stride to the outputs of all its blocks, one after the other in channels, in the order of computing.
    `states` are the `LayerAttention` of sites; they may be computed each time that they are looked up: what they are made of
    takes half the memory. `outputs` are what the places and the riders of a joint layer gather, heads one after the other in
    channels, before the output projection. The matrix of all places by all places, 67 MB for a single row at 64 x 64, is
    never kept: `spread` multiplies by it. `noised` is what the network was given: one latent for each row, or one for all.
    """

    text: Text
    timestep: float
    latent_hw: tuple[int, int]
    cross: dict[Site, Float[Tensor, "b _y _x t"]] = field(default_factory=dict)
    phrases: dict[Site, Float[Tensor, "p _y _x"]] = field(default_factory=dict)
    queries: dict[Site, Float[Tensor, "b _d _y _x"]] = field(default_factory=dict)
    features: dict[int, Float[Tensor, "b _c _y _x"]] = field(default_factory=dict)
    states: Mapping = field(default_factory=dict)  # no more is said, as whoever checked it would compute what is in it
    noised: Float[Tensor, "_ c y x"] | None = None
    outputs: dict[Site, tuple[Float[Tensor, "b _n _e"], Float[Tensor, "b _r _e"]]] = field(default_factory=dict)

    def tensors(self) -> Iterator[Tensor]:
        """All that was recorded; `states` are left to those who look them up."""
        for kept in (self.cross, self.phrases, self.queries, self.features):
            yield from kept.values()
        for places, riders in self.outputs.values():
            yield from (places, riders)

    def spread(self, maps: Float[Tensor, "p y x"], sites: int | Sequence[Site], times: int = 1) -> Float[Tensor, "p y x"]:
        """Maps multiplied by the mean self-attention of some sites, `times` times, from their `states`.

        Args:
            maps: on the sites' grid, one for each phrase of `text`.
            sites: on one grid; or a stride, for all self-attention of that stride which was captured.
        """
        if isinstance(sites, int):
            sites = [site for site in self.states if site.kind == "self" and site.stride == sites]
        by_row = mean_spread([self.states[site] for site in sites], self.text.packed(maps.flatten(1)), times)
        return self.text.unpacked(by_row).reshape(maps.shape)

    def phrases_by_stride(self) -> dict[int, Float[Tensor, "p _y _x"]]:
        """Unweighted mean of the attention to the phrases over the sites of each stride."""
        return mean_by_stride(self.phrases)


@dataclass(frozen=True)
class Watch:
    """What is recorded of every pass of a generation.

    Args:
        capture: what each trace holds.
        see: receives the trace of each pass, with a row for each picture; it may raise to stop.
    """

    capture: Capture
    see: Callable[[Trace], None]
