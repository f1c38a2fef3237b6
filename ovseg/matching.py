"""Pixels and prototypes: the matrix of all prototypes that are compared, and what it says of places."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.prototypes import Side
from ovseg.types import Claims


@dataclass(frozen=True)
class Table:
    """Prototypes of one extractor, one after the other: unit vectors (n, d), the label of each (n,), 0 for background, and
    for each the class, counted from 0, its side and its row there."""

    vectors: Tensor
    owner: Tensor
    origin: tuple[tuple[int, str, Side, int], ...]

    @classmethod
    def of(cls, sides: Sequence[tuple[int, str, Side]], means_only: bool) -> "Table":
        """All rows of some classes' sides, or their means alone; each side with its class, counted from 0, and its name."""
        vectors, owner, origin = [], [], []
        for number, name, side in sides:
            count = min(1, len(side.vectors)) if means_only else len(side.vectors)
            # What half precision could not hold says nothing.
            rows = [k for k in range(count) if np.isfinite(side.vectors[k]).all()]
            vectors.append(torch.from_numpy(side.vectors[rows].astype(np.float32)))
            owner += [number + 1 if name == "foreground" else 0] * len(rows)
            origin += [(number, name, side, row) for row in rows]
        return cls(F.normalize(torch.cat(vectors), dim=1), torch.tensor(owner), tuple(origin))

    def only(self, kept: Tensor) -> "Table":
        """The rows where `kept` (n,) holds."""
        origin = tuple(item for item, stays in zip(self.origin, kept.tolist(), strict=True) if stays)
        return Table(self.vectors[kept], self.owner[kept], origin)

    def best_of_each(self, cosines: Tensor, labels: int) -> Tensor:
        """For every label the highest cosine of its prototypes (labels, y, x); -1 for a label without any."""
        best = torch.full((labels, *cosines.shape[1:]), -1.0)
        index = self.owner[:, None, None].expand_as(cosines)
        return best.scatter_reduce(0, index, cosines, "amax")

    def claims(
        self, names: Sequence[str], pictures: Sequence[Sequence[np.ndarray]], nearest: np.ndarray, closeness: np.ndarray
    ) -> Claims:
        """What claims each place, with the picture and the region of it that each prototype stands for."""
        titles, shown, places = [], [], []
        offsets = np.cumsum([0, *(len(of_class) for of_class in pictures)])
        for owner, name, side, row in self.origin:
            part = side.part_of(row)
            what = "mean" if row == 0 else f"picture {side.pictures[row] + 1}" if part is None else f"part {part + 1}"
            titles.append(f"{names[owner]}{' (background)' if name == 'background' else ''}, {what}")
            shown.append(int(offsets[owner] + side.pictures[row]))
            places.append(side.place_of(row))
        flat = tuple(picture for of_class in pictures for picture in of_class)
        return Claims(nearest, closeness, tuple(titles), flat, tuple(shown), tuple(places))
