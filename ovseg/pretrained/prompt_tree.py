"""Many prompts that begin alike, through a causal text network, each shared beginning computed once.

OVDiff compares a picture with up to 1023 subsets of ten class words. In a causal network the state of a token depends on
the tokens before it alone: the prompts form a tree of tokens, and each node of it is computed once, depth by depth.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Cache = list[tuple[Tensor, Tensor]]
"""For each layer the keys and values (nodes, heads, tokens, d) of every node and of those above it."""


def shares_prefixes(tower: Any) -> bool:
    """Whether this text tower of open_clip is a causal transformer of the plain kind."""
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", ())
    causal = getattr(tower, "attn_mask", None) is not None
    return causal and all(isinstance(getattr(block, "attn", None), nn.MultiheadAttention) for block in blocks)


def encode_tree(tower: Any, rows: Sequence[Sequence[int]]) -> Float[Tensor, "n d"]:
    """The network's state at the last token of each row, before the text projection: what encoding each row alone gives.

    Prompts whose first words are the same form one part of the tree. One part is computed at a time, so that few keys and
    values are kept.

    Args:
        rows: token ids of each prompt up to and with its end token, all with the same start token.
    """
    states: dict[tuple[int, ...], Tensor] = {}
    parts: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for row in dict.fromkeys(tuple(row) for row in rows):
        parts.setdefault(row[:3], []).append(row)
    for part in parts.values():
        states.update(_encode_part(tower, part))
    return torch.stack([states[tuple(row)] for row in rows])


def _encode_part(tower: Any, rows: list[tuple[int, ...]]) -> dict[tuple[int, ...], Tensor]:
    blocks, states, ends = tower.transformer.resblocks, {}, set(rows)
    weight = tower.token_embedding.weight
    parents: dict[tuple[int, ...], int] = {(): 0}
    cache: Cache | None = None
    for depth in range(max(map(len, rows))):
        nodes = list(dict.fromkeys(row[: depth + 1] for row in rows if len(row) > depth))
        tokens = torch.tensor([node[-1] for node in nodes], device=weight.device)
        state = weight[tokens] + tower.positional_embedding[depth]
        back = torch.tensor([parents[node[:-1]] for node in nodes], device=weight.device)
        kept: Cache = []
        for number, block in enumerate(blocks):
            before = None if cache is None else tuple(part[back] for part in cache[number])
            state, added = _step(block, state, before)
            kept.append(added)
        for row, final in zip(nodes, tower.ln_final(state), strict=True):
            if row in ends:
                states[row] = final
        parents, cache = {node: place for place, node in enumerate(nodes)}, kept
    return states


def _step(block: nn.Module, state: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One block on one more token of every node (nodes, width), and the keys and values with those of this token."""
    attention = block.attn
    mixed = F.linear(block.ln_1(state), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (part.unflatten(1, (attention.num_heads, 1, -1)) for part in mixed.chunk(3, 1))
    if before is not None:
        key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
    attended = F.scaled_dot_product_attention(query, key, value).flatten(1)
    state = state + block.ls_1(attention.out_proj(attended))
    return state + block.ls_2(block.mlp(block.ln_2(state))), (key, value)
