"""The published checkpoints of Grounded Diffusion's module, as ours.

A checkpoint is a plain state dict (`torch.save`), made with Stable Diffusion 1.x. Which of its checkpoints is not published.
Differs from ours:
- Features are ordered by block, and each block has its channels without the sentence and then those with it. Ours has all
  blocks without the sentence and then all with it, so the columns of the 1x1 convolutions are put in another order.
- Its spectral norm stores one vector of each 3x3 convolution and does a step of the power iteration before every use. Ours
  stores both vectors after that step. Its `sv0`, the last singular value, is not needed.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.pretrained.grounding import EPSILON, SD1_FUSED, GroundingModule, GroundingSize

BLOCKS: dict[int, tuple[int, ...]] = {  # by stride the channels of each block of Stable Diffusion 1.x, in order of computing
    8: (1280,) * 6,
    4: (640, *(1280,) * 5),
    2: (320, 640, 640, 1280, 640, 640),
    1: (320, 320, 320, 640, 320, 320, 320),
}
SD1_SIZE = GroundingSize({stride: 2 * sum(blocks) for stride, blocks in BLOCKS.items()}, text=768, fused=SD1_FUSED)
"""Widths of the published module."""

_LEVELS = {8: "low", 4: "mid", 2: "high", 1: "highest"}  # what the checkpoints call the strides
_LAYER = {
    "self_attn.in_proj_weight": "among_words.in_proj_weight",
    "self_attn.out_proj.weight": "among_words.out_proj.weight",
    "multihead_attn.in_proj_weight": "at_picture.in_proj_weight",
    "multihead_attn.out_proj.weight": "at_picture.out_proj.weight",
} | {
    f"{theirs}.{kind}": f"{ours}.{kind}"
    for kind in ("weight", "bias")
    for theirs, ours in (
        ("norm1", "norms.0"), ("norm2", "norms.1"), ("norm3", "norms.2"),
        ("linear1", "feed_forward.0"), ("linear2", "feed_forward.2"),
    )
}  # fmt: skip


def read_published(path: Path) -> GroundingModule:
    """The module of a published checkpoint, in evaluation mode. Code in the file is not run.

    Raises:
        ValueError: there is no such file, it is no plain state dict, or its tensors are not those of the published module.
    """
    if not path.is_file():
        raise ValueError(f"The checkpoint must be a file, but {path} is none.")
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"The checkpoint {path.name} must be a file of tensors that torch.save wrote, and nothing else, but it is not:"
            f" {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
        ) from error
    if not isinstance(read, dict) or not all(isinstance(value, Tensor) for value in read.values()):
        raise ValueError(
            f"The checkpoint {path.name} must be a plain table of names and tensors, but it holds something else."
        )
    return from_published(read)


def from_published(theirs: Mapping[str, Tensor]) -> GroundingModule:
    """The module of a published checkpoint's tensors, in evaluation mode.

    Raises:
        ValueError: a tensor is missing, is one too many, has another shape or is not finite.
    """
    _check(theirs)
    state = {ours: theirs[name].float() for name, ours in _names().items() if ours}
    for stride, name in _LEVELS.items():
        columns = state[f"reduce.{stride}.weight"].split([c for block in BLOCKS[stride] for c in (block, block)], 1)
        state[f"reduce.{stride}.weight"] = torch.cat([*columns[::2], *columns[1::2]], 1)
        if stride < max(BLOCKS):
            state |= _singular_vectors(theirs, f"{name}_feature_mix_conv", f"blocks.{_block(stride)}")
    module = GroundingModule(SD1_SIZE)
    counters = {name: value for name, value in module.state_dict().items() if name.endswith("num_batches_tracked")}
    module.load_state_dict(state | counters)
    return module.eval().requires_grad_(False)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of a published checkpoint with its shape."""
    with torch.device("meta"):
        ours = GroundingModule(SD1_SIZE).state_dict()
    shapes = {name: tuple(ours[own].shape) for name, own in _names().items() if own}
    for name in (name for name, own in _names().items() if not own):
        bias = shapes[f"{name.rpartition('.')[0]}.bias"]
        shapes[name] = (1, *bias) if name.endswith("u0") else (1,)
    return shapes


def _check(theirs: Mapping[str, Tensor]) -> None:
    expected = published_shapes()
    missing, strange = sorted(set(expected) - set(theirs)), sorted(set(theirs) - set(expected), key=str)
    if missing or strange:
        wrong = f"lacks {missing[0]}" if missing else f"has {strange[0]}"
        raise ValueError(
            f"The checkpoint must have the {len(expected)} tensors of the published module, but it {wrong}"
            f" ({len(missing)} are missing, {len(strange)} are unknown)."
        )
    for name, shape in expected.items():
        if tuple(theirs[name].shape) != shape:
            raise ValueError(f"The tensor {name} must have the shape {shape}, but it has {tuple(theirs[name].shape)}.")
        if not theirs[name].isfinite().all():
            raise ValueError(f"The tensor {name} must be finite numbers, but it is not.")


def _block(stride: int) -> int:
    """The number of the block that fuses the features of a stride; the coarsest has none."""
    return list(BLOCKS).index(stride) - 1


def _names() -> dict[str, str]:
    """Every tensor of a published checkpoint with its name in our module; "" where ours has none of that shape."""
    names = {"to_k.weight": "tokens.weight", "to_q.weight": "query.weight"}
    for stride, level in _LEVELS.items():
        names[f"{level}_feature_conv.0.weight"] = f"reduce.{stride}.weight"
        if stride < max(BLOCKS):
            names |= _block_names(f"{level}_feature_mix_conv", f"blocks.{_block(stride)}")
    for number in range(3):
        names |= {f"transfromer_decoder.layers.{number}.{part}": f"layers.{number}.{ours}" for part, ours in _LAYER.items()}
        names |= {f"mlp.layers.{number}.{kind}": f"vector.{2 * number}.{kind}" for kind in ("weight", "bias")}
    return names


def _block_names(theirs: str, ours: str) -> dict[str, str]:
    names = {}
    for k in range(2):
        names |= {
            f"{theirs}.conv{k + 1}.weight": f"{ours}.convolutions.{k}.parametrizations.weight.original",
            f"{theirs}.conv{k + 1}.bias": f"{ours}.convolutions.{k}.bias",
            f"{theirs}.stored_mean{k + 1}": f"{ours}.norms.{k}.running_mean",
            f"{theirs}.stored_var{k + 1}": f"{ours}.norms.{k}.running_var",
            f"{theirs}.conv{k + 1}.u0": "",
            f"{theirs}.conv{k + 1}.sv0": "",
        }
    return names


def _singular_vectors(theirs: Mapping[str, Tensor], name: str, ours: str) -> dict[str, Tensor]:
    """Both vectors of each spectral norm of a block, after one power iteration from `u0` to v and back to u."""
    state = {}
    for k in range(2):
        weight = theirs[f"{name}.conv{k + 1}.weight"].float().flatten(1)
        v = F.normalize(theirs[f"{name}.conv{k + 1}.u0"].float() @ weight, eps=EPSILON)
        u = F.normalize(v @ weight.T, eps=EPSILON)
        norm = f"{ours}.convolutions.{k}.parametrizations.weight.0"
        state |= {f"{norm}._u": u[0], f"{norm}._v": v[0]}
    return state
