"""Where a network computes attention, which modules are its blocks, and how its layers are read: what a family states."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ovseg.backbones.layer_input import LayerInput, Projections
from ovseg.backbones.trace import Site

Read = Callable[[torch.nn.Module, tuple, Mapping[str, Any], tuple[int, int]], LayerInput]
"""What a layer is given: from the module, the arguments of its call, and the grid of its places."""


@dataclass(frozen=True)
class Layout:
    """What can be captured of a network, in the order of computing.

    Args:
        sites: a site's name is the path of its module.
        blocks: by stride the paths of the blocks.
        output: the places (b, c, y, x) of what a block puts out, from that and their grid.
        read: reads what a layer is given. None where places and words share a softmax: such layers are read from what
            torch's own attention is given, whatever they do before.
        words_first: where they share one, whether words come before places.
        clock: what timesteps are divided by before the network is told them.
        projections: how a layer makes queries, keys and values of what it is given, from its module. None where the keys of
            words depend on the picture too.
    """

    sites: tuple[Site, ...]
    blocks: Mapping[int, tuple[str, ...]]
    output: Callable[[Any, tuple[int, int]], Tensor]
    read: Read | None = None
    words_first: bool = False
    clock: float = 1.0
    projections: Callable[[torch.nn.Module], Projections] | None = None
