"""What a layer of attention was given in one pass: enough to compute its queries, keys, values and maps of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from ovseg.backbones.trace import Site
from ovseg.backbones.weights import check_finite
from ovseg.layer_attention import LayerAttention

Projection = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Projections:
    """How a layer makes queries, keys and values (b, n, heads' channels) of what it is given; `out` projects its output."""

    query: Projection
    key: Projection
    value: Projection
    out: Float[Tensor, "c e"]
    heads: int
    scale: float


@dataclass(frozen=True)
class LayerInput:
    """The places that a layer was given, and what they attend to: the same places, or tokens.

    Queries and keys are made of it when they are asked for: together they take twice the memory of the places.
    """

    layer: Projections
    places: Float[Tensor, "b n c"]
    context: Float[Tensor, "b m e"]
    grid: tuple[int, int]
    column_of: Integer[Tensor, "_b m"] | None = None
    mask: Bool[Tensor, "_b m"] | None = None

    def queries(self) -> Float[Tensor, "b _d y x"]:
        """Queries of the places on their grid, not scaled, all heads one after the other in channels."""
        return self.layer.query(self.places).mT.unflatten(2, self.grid)

    def attention(self) -> LayerAttention:
        """Queries, scaled, and keys, heads apart."""
        query, key = self._heads(self.layer.query(self.places)), self._heads(self.layer.key(self.context))
        return LayerAttention(
            query * self.layer.scale, key, self.grid, self.column_of, self.mask, self._value, self.layer.out
        )

    @torch.no_grad()
    def _value(self) -> Tensor:
        return self._heads(self.layer.value(self.context))

    def _heads(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self.layer.heads, -1)).transpose(1, 2)


@dataclass(frozen=True)
class AttentionCall:
    """What torch's own attention was given for a layer: queries, keys and values of all; places begin at `first`."""

    query: Float[Tensor, "b h _n d"]
    key: Float[Tensor, "b h m d"]
    value: Float[Tensor, "b h m d"]
    scale: float
    grid: tuple[int, int]
    out: Float[Tensor, "c e"] | None
    column_of: Integer[Tensor, "_b m"] | None = None
    mask: Bool[Tensor, "_b m"] | None = None
    first: int = 0

    def queries(self) -> Float[Tensor, "b _d y x"]:
        """Queries of the places on their grid, not scaled, all heads one after the other in channels."""
        return self._of_places().transpose(1, 2).flatten(2).mT.unflatten(2, self.grid)

    def attention(self) -> LayerAttention:
        """Queries, scaled, and keys, heads apart."""
        query = self._of_places() * self.scale
        return LayerAttention(query, self.key, self.grid, self.column_of, self.mask, lambda: self.value, self.out)

    def _of_places(self) -> Tensor:
        return self.query[:, :, self.first : self.first + self.grid[0] * self.grid[1]]


Input = LayerInput | AttentionCall


def last_rows(layer: Input, rows: int) -> Input:
    """The same of the last rows alone: with guidance there are unconditional rows before those of the text."""
    names = ("places", "context") if isinstance(layer, LayerInput) else ("query", "key", "value")
    return replace(layer, **{name: getattr(layer, name)[-rows:] for name in names})


class StatesOnDemand(Mapping[Site, LayerAttention]):
    """Queries and keys by site, made each time that they are looked up."""

    def __init__(self, inputs: Mapping[Site, Input]) -> None:
        self._inputs = inputs

    @torch.no_grad()
    def __getitem__(self, site: Site) -> LayerAttention:
        """The attention of a site.

        Raises:
            ValueError: queries or keys are too large for the precision.
        """
        states = self._inputs[site].attention()
        check_finite("The network's attention and features", states.query.dtype, states.query, states.key)
        return states

    def __iter__(self) -> Iterator[Site]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)
