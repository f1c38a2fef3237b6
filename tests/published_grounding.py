"""The grounding module with the published checkpoint's tensors, and the features of tests/oracles/README.md."""

import json
import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ovseg.pretrained.published_grounding import BLOCKS

ORACLES = Path(__file__).parent / "oracles"
SEEDS = {8: range(10, 16), 4: range(20, 26), 2: range(30, 36), 1: range(40, 47)}  # of each block's features, by stride


def published_weights() -> dict[str, Tensor]:
    """A checkpoint's tensors, filled as the README says; the table may be changed, the tensors not."""
    return dict(_published())


@cache
def _published() -> dict[str, Tensor]:
    shapes = json.loads((ORACLES / "grounding_module_keys.json").read_text())
    return {key: _filled(key, tuple(shapes[key]), 1000 + place) for place, key in enumerate(sorted(shapes))}


def _filled(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if "stored_var" in key:
        return 0.5 + x.abs()
    if key.endswith("u0"):
        return x / x.norm()
    if key.endswith("sv0"):
        return torch.ones(shape)
    if key.endswith(("norm1.weight", "norm2.weight", "norm3.weight")):
        return 1 + 0.1 * x
    return 0.1 * x if x.ndim == 1 else x / math.sqrt(math.prod(shape[1:]))


def published_features() -> dict[int, Tensor]:
    """The features of the one picture as our module takes them: all blocks without the sentence, then all with it."""
    features = {}
    for stride, seeds in SEEDS.items():
        side, halves = 64 // stride, []
        for channels, seed in zip(BLOCKS[stride], seeds, strict=True):
            both = torch.randn(1, 2 * channels, side, side, generator=torch.Generator().manual_seed(seed))
            halves.append(both.chunk(2, 1))
        features[stride] = torch.cat([half[row] for row in range(2) for half in halves], 1)
    return features


def published_word() -> Tensor:
    """The state of the one word (1, 1, 768)."""
    return torch.randn(1, 1, 768, generator=torch.Generator().manual_seed(50))
