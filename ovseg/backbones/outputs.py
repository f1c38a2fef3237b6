"""What a module inside a network gives, without changing the network."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list]:
    """What a module gives during the block, one entry for each call."""
    outputs: list = []
    with module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)):
        yield outputs
