"""Pixels and prototypes: the matrix of all prototypes that are compared, and what it says of places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.methods.ovdiff.prototypes import Side
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

    @property
    def classes(self) -> np.ndarray:
        """The class of each row, counted from 0, its background's rows included (n,)."""
        return np.array([owner for owner, *_ in self.origin], int)

    def shown_by(self, rows: np.ndarray) -> set[tuple[int, int]]:
        """The class and the picture, both counted from 0, that stand for each of these rows."""
        return {(owner, int(side.pictures[row])) for owner, _, side, row in (self.origin[k] for k in np.unique(rows))}

    def claims(
        self,
        names: Sequence[str],
        pictures: Mapping[tuple[int, int], np.ndarray],
        nearest: np.ndarray,
        closeness: np.ndarray,
    ) -> Claims:
        """What claims each place, with the picture and the region of it that each prototype stands for.

        Args:
            pictures: by class and number, those of `shown_by`.
            nearest: rows, best first (y, x, k); what is the nearest nowhere is left out of the result.
            closeness: their cosines (y, x, k).
        """
        titles, shown, places = [], [], []
        used, renumbered = np.unique(nearest, return_inverse=True)
        order = {key: number for number, key in enumerate(pictures)}
        for owner, name, side, row in (self.origin[k] for k in used):
            part = side.part_of(row)
            what = "mean" if row == 0 else f"picture {side.pictures[row] + 1}" if part is None else f"part {part + 1}"
            titles.append(f"{names[owner]}{' (background)' if name == 'background' else ''}, {what}")
            shown.append(order[owner, int(side.pictures[row])])
            places.append(side.place_of(row))
        numbers = renumbered.reshape(nearest.shape)
        return Claims(numbers, closeness, tuple(titles), tuple(pictures.values()), tuple(shown), tuple(places))
