"""The matrix of all places by all places, which the program never makes: what tests compare with."""

import torch
from torch import Tensor

from ovseg.backbones.base import Backbone, Site, Trace


def selves(backbone: Backbone, *strides: int) -> tuple[Site, ...]:
    """The self-attention of these strides, or all of it."""
    return tuple(site for site in backbone.sites if site.kind == "self" and site.stride in (strides or backbone.strides))


def self_attention(trace: Trace) -> dict[int, Tensor]:
    """By stride the probabilities (row, from, to), the mean over heads and the stride's sites, of a trace's states."""
    matrices: dict[int, list[Tensor]] = {}
    for site in (site for site in trace.states if site.kind == "self"):
        both = trace.states[site]
        matrices.setdefault(site.stride, []).append((both.query @ both.key.mT).softmax(-1).mean(1))
    return {stride: torch.stack(own).mean(0) for stride, own in sorted(matrices.items())}
