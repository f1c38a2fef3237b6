"""Torch's own attention, seen and changed while a network runs: whose call it is, what it is given, what it gives."""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Call:
    """What one call is given, heads apart."""

    query: Float[Tensor, "b h n d"]
    key: Float[Tensor, "b h m d"]
    value: Float[Tensor, "b h m d"]
    scale: float


class AttentionCalls(TorchFunctionMode):
    """Sees the calls of some layers in this thread.

    Args:
        see: receives a layer's path and what its call is given, and says which keys can be attended to, by all (b, m) or by
            each query (b, n, m), and which heads are off.
        got: receives a layer's path and what its heads gather (b, h, n, d).

    A layer must call `scaled_dot_product_attention` once, without a mask of its own for single places.
    """

    def __init__(
        self, see: Callable[[str, Call], tuple[Tensor | None, Collection[int]]], got: Callable[[str, Tensor], None]
    ) -> None:
        super().__init__()
        self._see, self._got, self._inside, self._called = see, got, "", False

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Any function of torch; attention of a watched layer is seen."""
        kwargs = kwargs or {}
        if function is not F.scaled_dot_product_attention or not self._inside:
            return function(*args, **kwargs)
        query, key, value = args[:3] if len(args) > 2 else (kwargs[name] for name in ("query", "key", "value"))
        given = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        scale = kwargs.get("scale") or 1 / math.sqrt(query.shape[-1])
        assert given is None and not kwargs.get("is_causal"), "masks of single places are not read"
        self._called = True
        mask, heads = self._see(self._inside, Call(query, key, value, scale))
        if mask is not None:
            mask = (mask[:, None] if mask.ndim == 2 else mask)[:, None].expand(len(query), 1, query.shape[2], -1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        if heads:
            mixed = mixed.clone()
            mixed[:, list(heads)] = 0
        self._got(self._inside, mixed)
        return mixed

    @contextmanager
    def watching(self, network: torch.nn.Module, paths: Collection[str]) -> Iterator[None]:
        """See the calls of these layers during the block.

        Raises:
            ValueError: a layer does not compute its attention by torch's own function.
        """

        def enter(path: str, *_: Any) -> None:
            self._inside, self._called = path, False

        def leave(*_: Any) -> None:
            path, self._inside = self._inside, ""
            if not self._called:
                raise ValueError(f"A layer must call torch's own attention to be read, but {path} does not.")

        with ExitStack() as undo:
            undo.callback(setattr, self, "_inside", "")
            for path in dict.fromkeys(paths):
                module = network.get_submodule(path)
                undo.enter_context(module.register_forward_pre_hook(partial(enter, path)))
                undo.enter_context(module.register_forward_hook(leave))
            undo.enter_context(self)
            yield
