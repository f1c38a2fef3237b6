"""What a layer of attention computes, as a value: queries and keys with heads apart, and all that is made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float16, Float32, Integer
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """Attention of the places of a grid: softmax(query @ key transposed) over all keys is what each head attends to.

    What is attended to has *columns*: places where the layer is self-attention, tokens of the prompt where it is
    cross-attention. A key may count for no column, as where places and words share one softmax; a place's values then sum
    to the share of what has columns.

    Args:
        query: one vector for each place, row-major; the layer's scale is in it.
        key: one vector for each thing that can be attended to.
        grid: rows and columns of the places.
        column_of: for each key, of each row or of all rows alike, its column, or -1 for none; key k has column k if not
            given.
        mask: for each key, of each row or of all rows alike, whether it can be attended to; all can if not given.
        make_value: computes the values, if they were not let go.
        out: weights of the output projection; its columns are the heads' channels, one head after the other.
    """

    query: Float[Tensor, "b h n d"]
    key: Float[Tensor, "b h m d"]
    grid: tuple[int, int]
    column_of: Integer[Tensor, "_b m"] | None = None
    mask: Bool[Tensor, "_b m"] | None = None
    make_value: Callable[[], Tensor] | None = None
    out: Float[Tensor, "c e"] | None = None

    @property
    def columns(self) -> int:
        """How many things are told apart in what is attended to."""
        return self.key.shape[2] if self.column_of is None else int(self.column_of.max()) + 1

    @property
    def nbytes(self) -> int:
        """Bytes of queries and keys."""
        return self.query.nbytes + self.key.nbytes

    def value(self) -> Float[Tensor, "b h m d"]:
        """What each key hands over where it is attended to; computed at each call.

        Raises:
            ValueError: the values were let go.
        """
        if self.make_value is None:
            raise ValueError("The values of a layer must be asked for while its trace is there, but they were let go.")
        return self.make_value()

    def probabilities(self, places: slice = slice(None)) -> Float[Tensor, "b h _n _m"]:
        """What each head attends to from some places, by column, in single precision or better.

        All places of a fine grid to all others are too many to be made at once: `spread` multiplies by them.
        """
        wide = torch.promote_types(self.query.dtype, torch.float32)
        logits = self.query[:, :, places].to(wide) @ self.key.to(wide).mT
        if self.mask is not None:
            logits = logits.masked_fill(~self.mask[:, None, None], -torch.inf)
        attended = logits.softmax(-1)
        if self.column_of is None:
            return attended
        shares = attended.new_zeros(*attended.shape[:-1], self.columns + 1)  # the last is of keys without a column
        return shares.scatter_add(-1, self._columns_or_last().expand_as(attended), attended)[..., :-1]

    def spread(self, maps: Float[Tensor, "b *maps m"]) -> Float[Tensor, "b *maps n"]:
        """For each place the sum of a map's values, each by how much it is attended to, averaged over heads.

        That is the product of the attention with the maps, by torch's own kernel, which never makes the matrix.

        Args:
            maps: for each row any number of maps, with a value for each column.
        """
        width, heads = self.key.shape[-1], self.key.shape[1]
        values = maps.to(self.key.dtype).reshape(len(maps), -1, maps.shape[-1])
        if self.column_of is not None:
            at = self._columns_or_last()[:, 0].expand(len(maps), values.shape[1], -1)
            values = F.pad(values, (0, 1)).gather(-1, at)  # 0 for keys without a column
        means = []
        for part in values.split(width, 1):
            # The kernel takes values as wide as its keys; the rest of them is zeros.
            wide = F.pad(part.mT[:, None], (0, width - part.shape[1])).expand(-1, heads, -1, -1)
            mixed = self.gathered(wide)[..., : part.shape[1]]
            means.append(mixed.to(torch.promote_types(mixed.dtype, torch.float32)).mean(1))
        return torch.cat(means, -1).mT.reshape(*maps.shape[:-1], -1)

    def maps(self) -> Float[Tensor, "b y x m"]:
        """What each place attends to, by column, the mean over heads; never made for all heads at once."""
        one_each = torch.eye(self.columns, dtype=self.key.dtype, device=self.key.device)
        return self.spread(one_each.expand(len(self.key), -1, -1)).mT.unflatten(1, self.grid)

    def order(self) -> Integer[Tensor, " m"]:
        """The keys' numbers in the order of their columns, which are those of the first row; those without one come last."""
        if self.column_of is None:
            return torch.arange(self.key.shape[2], device=self.key.device)
        return self._columns_or_last()[0, 0, 0].argsort(stable=True)

    def keys_in_order(self) -> Float[Tensor, "b h m d"]:
        """The keys in that order."""
        return self.key[:, :, self.order()]

    def at(self, row: int, column: int) -> Float32[np.ndarray, "y x"]:
        """What one place attends to in the first row's self-attention, the mean over heads."""
        place = row * self.grid[1] + column
        return self._rows(slice(place, place + 1)).reshape(self.grid)

    def whole(self) -> Float16[np.ndarray, "y x y x"]:
        """What every place attends to, as `at`: large, twice the bytes of the square of the number of places."""
        starts = range(0, self.grid[0] * self.grid[1], self.grid[1])
        parts = [self._rows(slice(start, start + self.grid[1])).astype(np.float16) for start in starts]
        return np.concatenate(parts).reshape(*self.grid, *self.grid)

    def _rows(self, places: slice) -> Float32[np.ndarray, "_n m"]:
        return self.probabilities(places)[0].mean(0).float().cpu().numpy()

    def _columns_or_last(self) -> Integer[Tensor, "_b 1 1 m"]:
        """Each key's column; one behind the last for keys that have none."""
        return self.column_of.where(self.column_of >= 0, self.columns)[:, None, None]

    def kept(self) -> "LayerAttention":
        """The first row in half precision on the CPU, without values: what can be stored, and sent to another process."""
        own = self.first()
        # Copies: views would be stored with all rows.
        parts = {name: part.cpu().clone() for name, part in vars(own).items() if isinstance(part, Tensor)}
        return replace(own, **parts | {name: parts[name].half() for name in ("query", "key")})

    def first(self) -> "LayerAttention":
        """The first row, without values."""
        parts = {name: part[:1] for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **parts | {"make_value": None, "out": None})

    def gathered(self, values: Float[Tensor, "b h m d"]) -> Float[Tensor, "b h n d"]:
        """What each head gathers of values, one for each key, by torch's own kernel."""
        mask = None if self.mask is None else self.mask[:, None, None].expand(-1, 1, self.query.shape[2], -1)
        return F.scaled_dot_product_attention(self.query, self.key, values, attn_mask=mask, scale=1.0)


def mean_spread(layers: Sequence[LayerAttention], maps: Float[Tensor, "b k n"], times: int = 1) -> Float[Tensor, "b k n"]:
    """Maps times the mean self-attention of layers on one grid (DiffSegmenter, arXiv 2309.02773), or times a power of it."""
    for _ in range(times):
        maps = torch.stack([layer.spread(maps) for layer in layers]).mean(0)
    return maps


NEVER = -3e4  # added to a logit that no softmax shall see; half precision still has it


def all_heads(layers: Sequence[LayerAttention]) -> LayerAttention:
    """Self-attention of layers on one grid as a single one with all their heads: its mean over heads is that over layers.

    Raises:
        ValueError: there are none, or they have different grids or numbers of heads.
    """
    shapes = {(len(layer.query), layer.query.shape[1], layer.grid) for layer in layers}
    if len(shapes) != 1:
        raise ValueError(f"Layers must have one grid and as many heads to be joined, but got {len(shapes)} kinds of them.")
    longest = max(layers, key=lambda layer: layer.key.shape[2])
    width = max(layer.key.shape[-1] for layer in layers)  # zeros behind a vector leave its products as they are
    queries, keys = [], []
    for layer in layers:
        key, lacking = layer.keys_in_order(), longest.key.shape[2] - layer.key.shape[2]
        # One channel more, which is 1 in every query: it hides the keys that a longer layer has besides.
        hidden = F.pad(key.new_zeros(*key.shape[:3], 1), (0, 0, 0, lacking), value=NEVER)
        keys.append(torch.cat([F.pad(key, (0, width - key.shape[-1], 0, lacking)), hidden], -1))
        queries.append(F.pad(F.pad(layer.query, (0, width - key.shape[-1])), (0, 1), value=1.0))
    column_of = None if longest.column_of is None else longest.column_of[:, longest.order()]
    return LayerAttention(torch.cat(queries, 1), torch.cat(keys, 1), longest.grid, column_of)


def as_rows(layers: Sequence[LayerAttention]) -> LayerAttention:
    """The first rows of layers that are alike as the rows of one, without values."""
    query, key = torch.cat([layer.query[:1] for layer in layers]), torch.cat([layer.key[:1] for layer in layers])
    return replace(layers[0], query=query, key=key, make_value=None, out=None)
