"""Where a Stable Diffusion U-Net computes attention, and which of its modules are its blocks."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from ovseg.backbones.layer_input import LayerInput, Projections
from ovseg.backbones.layout import Layout
from ovseg.backbones.trace import Site

STAGES = ("down_blocks", "mid_block", "up_blocks")  # in the order of computing; a module's own order is another


def layout_of(unet: UNet2DConditionModel) -> Layout:
    """The layout of a U-Net."""
    return Layout(find_sites(unet), find_blocks(unet), _output, read, projections=projections)


def projections(module: Attention) -> Projections:
    """How an attention layer makes queries, keys and values."""
    return Projections(module.to_q, module.to_k, module.to_v, module.to_out[0].weight, module.heads, module.scale)


def read(module: Attention, args: tuple, kwargs: Mapping[str, Any], grid: tuple[int, int]) -> LayerInput:
    """What an attention layer is given: places, and the tokens that they attend to, or none where to each other.

    diffusers calls it with the places first; it has neither a mask nor a norm of its own in Stable Diffusion.
    """
    places = args[0] if args else kwargs["hidden_states"]
    tokens = kwargs.get("encoder_hidden_states")
    assert places.ndim == 3 and kwargs.get("attention_mask") is None
    assert all(norm is None for norm in (module.group_norm, module.norm_cross or None, module.norm_q, module.norm_k))
    return LayerInput(projections(module), places, places if tokens is None else tokens, grid)


def _output(output: Tensor | tuple, grid: tuple[int, int]) -> Tensor:
    """A block's places; down blocks give a tuple."""
    return output[0] if isinstance(output, tuple) else output


def find_sites(unet: UNet2DConditionModel) -> tuple[Site, ...]:
    """Every attention module of the U-Net in the order of computing, named by its path, with its stride and its kind.

    Down block i works at stride 2^i, the middle at the coarsest, up block i on the way back. In diffusers the first
    attention of a transformer block is self-attention, the second cross-attention.
    """
    depth = len(unet.config.block_out_channels)
    names = (name.removesuffix(".processor") for name in unet.attn_processors)
    paths = sorted(names, key=lambda path: STAGES.index(path.partition(".")[0]))
    return tuple(
        Site(path, 2 ** _power(path, depth), "cross" if path.endswith("attn2") else "self", path.rpartition(".")[0])
        for path in paths
    )


def _power(path: str, depth: int) -> int:
    stage, number = path.split(".")[:2]
    return {"down_blocks": lambda: int(number), "up_blocks": lambda: depth - 1 - int(number)}.get(stage, lambda: depth - 1)()


def find_blocks(unet: UNet2DConditionModel) -> dict[int, tuple[str, ...]]:
    """The modules whose outputs Stable Diffusion's first code calls its blocks, by stride and in the order of computing.

    One for the first convolution, one for every residual block with the attention behind it, one for every downsampler,
    the middle; an upsampler belongs to the block before it. Stable Diffusion 1.x has 25.
    """
    depth = len(unet.config.block_out_channels)
    blocks: list[tuple[int, str]] = [(0, "conv_in")]  # each with the power of 2 that is its stride
    for i, block in enumerate(unet.down_blocks):
        blocks += [(i, path) for path in _layers(f"down_blocks.{i}", block)]
        if block.downsamplers:
            blocks.append((i + 1, f"down_blocks.{i}.downsamplers.0"))
    if unet.mid_block is not None:
        blocks.append((depth - 1, "mid_block"))
    for i, block in enumerate(unet.up_blocks):
        power, paths = depth - 1 - i, _layers(f"up_blocks.{i}", block)
        blocks += [(power, path) for path in (paths[:-1] if block.upsamplers else paths)]
        if block.upsamplers:
            blocks.append((power - 1, f"up_blocks.{i}.upsamplers.0"))
    return {2**power: tuple(path for p, path in blocks if p == power) for power in range(depth)}


def _layers(path: str, block: torch.nn.Module) -> list[str]:
    """The last module of each layer of a block: its attention, or its residual block where it has none."""
    kind = "attentions" if getattr(block, "attentions", None) else "resnets"
    return [f"{path}.{kind}.{k}" for k in range(len(block.resnets))]
