"""The grounding module with the published checkpoint's tensors, and the features of tests/oracles/README.md."""

import json
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ovseg.pretrained.grounding import SD1_FUSED, GroundingModule, GroundingSize

ORACLES = Path(__file__).parent / "oracles"
EPSILON = 1e-4  # of the spectral norm
# By stride: the published name, and the channels of every block in the order of computing with its seed.
LEVELS = {
    8: ("low", [1280] * 6, range(10, 16)),
    4: ("mid", [640] + [1280] * 5, range(20, 26)),
    2: ("high", [320, 640, 640, 1280, 640, 640], range(30, 36)),
    1: ("highest", [320, 320, 320, 640, 320, 320, 320], range(40, 47)),
}


def published_weights() -> dict[str, Tensor]:
    """A checkpoint's tensors, filled as the README says."""
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


def published_module() -> GroundingModule:
    """Our module of these weights, in evaluation mode."""
    theirs = published_weights()
    channels = {stride: 2 * sum(blocks) for stride, (_, blocks, _) in LEVELS.items()}
    module = GroundingModule(GroundingSize(channels, text=768, fused=SD1_FUSED))
    state: dict[str, Tensor] = {"tokens.weight": theirs["to_k.weight"], "query.weight": theirs["to_q.weight"]}
    for stride, (name, blocks, _) in LEVELS.items():
        # Theirs has both rows of guidance side by side for each block; ours has all blocks of one row, then of the other.
        columns = theirs[f"{name}_feature_conv.0.weight"].split([c for block in blocks for c in (block, block)], 1)
        state[f"reduce.{stride}.weight"] = torch.cat([*columns[::2], *columns[1::2]], 1)
    for number, name in enumerate(("mid", "high", "highest")):
        state |= _block(theirs, f"{name}_feature_mix_conv", f"blocks.{number}")
    for number in range(3):
        state |= _layer(theirs, f"transfromer_decoder.layers.{number}", f"layers.{number}")
        state |= {f"vector.{2 * number}.{kind}": theirs[f"mlp.layers.{number}.{kind}"] for kind in ("weight", "bias")}
    counters = {name: value for name, value in module.state_dict().items() if name.endswith("num_batches_tracked")}
    module.load_state_dict(state | counters)
    return module.eval().requires_grad_(False)


def _block(theirs: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for k in range(2):
        weight = theirs[f"{old}.conv{k + 1}.weight"]
        # Their one power iteration before each use, from u to v and back to u.
        v = F.normalize(theirs[f"{old}.conv{k + 1}.u0"] @ weight.flatten(1), eps=EPSILON)
        u = F.normalize(v @ weight.flatten(1).T, eps=EPSILON)
        convolution = f"{new}.convolutions.{k}"
        state |= {
            f"{convolution}.bias": theirs[f"{old}.conv{k + 1}.bias"],
            f"{convolution}.parametrizations.weight.original": weight,
            f"{convolution}.parametrizations.weight.0._u": u[0],
            f"{convolution}.parametrizations.weight.0._v": v[0],
            f"{new}.norms.{k}.running_mean": theirs[f"{old}.stored_mean{k + 1}"],
            f"{new}.norms.{k}.running_var": theirs[f"{old}.stored_var{k + 1}"],
        }
    return state


def _layer(theirs: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    names = {
        "self_attn.in_proj_weight": "among_words.in_proj_weight", "self_attn.out_proj.weight": "among_words.out_proj.weight",
        "multihead_attn.in_proj_weight": "at_picture.in_proj_weight",
        "multihead_attn.out_proj.weight": "at_picture.out_proj.weight",
    }  # fmt: skip
    for kind in ("weight", "bias"):
        names |= {f"norm{k + 1}.{kind}": f"norms.{k}.{kind}" for k in range(3)}
        names |= {f"linear1.{kind}": f"feed_forward.0.{kind}", f"linear2.{kind}": f"feed_forward.2.{kind}"}
    return {f"{new}.{ours}": theirs[f"{old}.{name}"] for name, ours in names.items()}


def published_features() -> dict[int, Tensor]:
    """The features of the one picture as our module takes them: all blocks without the sentence, then all with it."""
    features = {}
    for stride, (_, blocks, seeds) in LEVELS.items():
        side, halves = 64 // stride, []
        for channels, seed in zip(blocks, seeds, strict=True):
            both = torch.randn(1, 2 * channels, side, side, generator=torch.Generator().manual_seed(seed))
            halves.append(both.chunk(2, 1))
        features[stride] = torch.cat([half[row] for row in range(2) for half in halves], 1)
    return features


def published_word() -> Tensor:
    """The state of the one word (1, 1, 768)."""
    return torch.randn(1, 1, 768, generator=torch.Generator().manual_seed(50))
