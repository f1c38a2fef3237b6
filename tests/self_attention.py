"""The matrix of all places by all places, which the program never makes: what tests compare with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ovseg.backbones.base import Backbone, Site, Trace
from ovseg.layer_attention import LayerAttention


def selves(backbone: Backbone, *strides: int) -> tuple[Site, ...]:
    """The self-attention of these strides, or all of it."""
    return tuple(site for site in backbone.sites if site.kind == "self" and site.stride in (strides or backbone.strides))


def attended(states: LayerAttention) -> Tensor:
    """The probabilities (row, from, to), the mean over heads, of a softmax over all keys: those that have a column."""
    everything = whole_rows(states).mean(1)
    return everything if states.column_of is None else everything[..., states.column_of[0] >= 0]


def phrase_maps(attention: Tensor, spans: Sequence[tuple[int, ...]]) -> Tensor:
    """The attention (row, y, x) to a phrase of each row: the mean over its tokens (row, y, x, token)."""
    return torch.stack([row[..., list(span)].mean(-1) for row, span in zip(attention, spans, strict=True)])


def whole_rows(states: LayerAttention) -> Tensor:
    """The probabilities (row, head, from, key), keys without a column included."""
    logits = states.query @ states.key.mT
    if states.mask is not None:
        logits = (
            logits + torch.zeros(states.mask.shape, dtype=logits.dtype).masked_fill(~states.mask, -torch.inf)[:, None, None]
        )
    return logits.softmax(-1)


def self_attention(trace: Trace) -> dict[int, Tensor]:
    """By stride the probabilities (row, from, to), the mean over heads and the stride's sites, of a trace's states."""
    matrices: dict[int, list[Tensor]] = {}
    for site in (site for site in trace.states if site.kind == "self"):
        matrices.setdefault(site.stride, []).append(attended(trace.states[site]))
    return {stride: torch.stack(own).mean(0) for stride, own in sorted(matrices.items())}
