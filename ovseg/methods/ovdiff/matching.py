"""Pixels and prototypes: the matrix of all prototypes that are compared, and the cosines of a picture's places with it."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ovseg.limits import limits
from ovseg.maths.maps import resize, window_starts, windows
from ovseg.methods.ovdiff.features import Extractor, resized
from ovseg.methods.ovdiff.settings import Settings
from ovseg.methods.ovdiff.store import Prototypes, Side

MOST_COSINES = 2**24  # cosines that are held at once: 64 MB


@dataclass(frozen=True, eq=False)
class Source:
    """The prototypes of a phrase's foreground or background.

    `number` counts the phrases of all classes, and `owner` is the class that the phrase is of; both from 0.
    """

    number: int
    phrase: str
    owner: int
    ground: Literal["foreground", "background"]
    side: Side


@dataclass(frozen=True, eq=False)
class PrototypeTable:
    """Prototypes of one extractor, one after the other.

    `vectors` are unit vectors, `labels` says what each speaks for, 0 for background and k + 1 for class k, and `origin`
    where it comes from: its source and its row there.
    """

    vectors: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    origin: tuple[tuple[Source, int], ...]

    @classmethod
    def of(cls, sources: Sequence[Source], means_only: bool = False) -> "PrototypeTable":
        """All rows of the sources, or their means alone. Rows that half precision could not hold are left out."""
        vectors, labels, origin = [], [], []
        for source in sources:
            stored = source.side.vectors[:1] if means_only else source.side.vectors
            rows = np.flatnonzero(np.isfinite(stored).all(1)).tolist()
            vectors.append(torch.from_numpy(stored[rows].astype(np.float32)))
            labels += [source.owner + 1 if source.ground == "foreground" else 0] * len(rows)
            origin += [(source, row) for row in rows]
        return cls(F.normalize(torch.cat(vectors), dim=1), torch.tensor(labels, dtype=torch.long), tuple(origin))

    def only(self, kept: Bool[Tensor, " n"]) -> "PrototypeTable":
        """The rows that are kept."""
        origin = tuple(item for item, stays in zip(self.origin, kept.tolist(), strict=True) if stays)
        return PrototypeTable(self.vectors[kept.to(self.vectors.device)], self.labels[kept], origin)

    def of_classes(self, asked: Sequence[int], count: int) -> "PrototypeTable":
        """The rows of some of the `count` classes, labelled by their place in `asked`."""
        if tuple(asked) == tuple(range(count)):
            return self
        table = self.only(torch.tensor([source.owner in asked for source, _ in self.origin]))
        place = torch.zeros(count + 1, dtype=torch.long)
        place[[number + 1 for number in asked]] = torch.arange(1, len(asked) + 1)
        return replace(table, labels=place[table.labels])

    def without_hidden_stuff(self, stuff: Sequence[bool], cosine: float) -> "PrototypeTable":
        """Without the background that looks like stuff that is asked for, above `cosine` (the paper's stuff filter)."""
        of_stuff = torch.tensor([label > 0 and stuff[label - 1] for label in self.labels.tolist()])
        if not of_stuff.any():
            return self
        alike = (self.vectors @ self.vectors[of_stuff].T).amax(1)
        return self.only((self.labels > 0) | (alike <= cosine))

    def to(self, device: torch.device) -> "PrototypeTable":
        """The same with its vectors on a device."""
        return replace(self, vectors=self.vectors.to(device))

    def best_of_each(self, features: Float[Tensor, "d y x"], count: int) -> Float[Tensor, "labels y x"]:
        """For background and each of `count` classes the highest cosine of its prototypes; -1 where there is none."""
        grid = features.shape[1:]
        best = torch.full((count + 1, grid.numel()), -1.0, device=features.device)
        for rows, cosines in self._parts(features):
            # The rows of a class lie together, so that each class is a view, not a copy.
            labels, counts = self.labels[rows].unique_consecutive(return_counts=True)
            for label, own in zip(labels.tolist(), cosines.split(counts.tolist()), strict=True):
                torch.maximum(best[label], own.amax(0), out=best[label])
        return best.unflatten(1, grid)

    def nearest(self, features: Float[Tensor, "d y x"], count: int) -> tuple[Int[Tensor, "k y x"], Float[Tensor, "k y x"]]:
        """The rows of the `count` highest cosines at every place, and these cosines, best first; fewer in a small table."""
        rows, values = None, None
        for part, cosines in self._parts(features):
            numbers = torch.arange(part.start, part.start + len(cosines), device=cosines.device)[:, None].expand_as(cosines)
            if values is not None:
                numbers, cosines = torch.cat([rows, numbers]), torch.cat([values, cosines])
            values, chosen = cosines.topk(min(count, len(cosines)), 0)
            rows = numbers.gather(0, chosen)
        return rows.unflatten(1, features.shape[1:]), values.unflatten(1, features.shape[1:])

    def _parts(self, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Some rows after the other, with their cosines at all places (rows, places): all of them at once are a lot."""
        units = F.normalize(features, dim=0).flatten(1)
        step = max(1, MOST_COSINES // units.shape[1])
        for start in range(0, len(self.vectors), step):
            rows = slice(start, start + step)
            yield rows, self.vectors[rows].to(units.device) @ units


def sources_of(
    extractor: str, prototypes: Sequence[Mapping[str, Prototypes]], phrases: Sequence[str], owners: Sequence[int]
) -> list[Source]:
    """The foregrounds of all phrases in one extractor, then their backgrounds; `owners` are the phrases' classes."""
    rows = list(enumerate(zip(prototypes, phrases, owners, strict=True)))
    return [
        Source(number, phrase, owner, ground, getattr(kept[extractor], ground))
        for ground in ("foreground", "background")
        for number, (kept, phrase, owner) in rows
    ]


def compare(
    extractors: Sequence[Extractor],
    settings: Settings,
    image: UInt8[np.ndarray, "H W 3"],
    tables: Mapping[str, PrototypeTable],
    *,
    count: int,
    seed: int,
) -> tuple[Float[Tensor, "labels h w"], dict[str, Float[Tensor, "_d _y _x"]]]:
    """Compare a picture, in windows and as a whole, with the tables of all extractors, which speak of `count` classes.

    Windows of one size go through each network together, several at a time.

    Returns:
        the mean cosine of background and each class over crops and extractors, and the features of the whole picture, by
        extractor.
    """
    picture = resized(image, working_hw(settings, image.shape[:2])) if settings.short_side else image
    device = next(iter(tables.values())).vectors.device
    total = torch.zeros(count + 1, *picture.shape[:2], device=device)
    weight, whole = torch.zeros(picture.shape[:2], device=device), {}
    every = (*boxes_of(settings, picture.shape[:2]), (slice(None), slice(None)))
    for boxes in (list(same) for _, same in itertools.groupby(every, key=lambda box: picture[box].shape)):
        crops = [np.ascontiguousarray(picture[box]) for box in boxes]
        seen = zip(*(extractor.features(crops, seed) for extractor in extractors), strict=True)
        for (rows, columns), crop, features in zip(boxes, crops, seen, strict=True):
            for extractor, own in zip(extractors, features, strict=True):
                best = tables[extractor.name].best_of_each(own, count)
                total[:, rows, columns] += resize(best[None], crop.shape[:2])[0]
                weight[rows, columns] += 1
                whole[extractor.name] = own  # the whole picture comes last
    return (total / weight).cpu(), whole


def working_hw(settings: Settings, image_hw: tuple[int, int]) -> tuple[int, int]:
    """The size at which a picture is compared: what is less than a pixel is cut off, as in the released code.

    A picture that is longer than `Limits.aspect` is squeezed to that where it is resized.
    """
    short = settings.short_side or min(image_hw)
    longest = limits().aspect * min(image_hw) if settings.short_side else max(image_hw)
    return tuple(short * min(side, longest) // min(image_hw) for side in image_hw)


def count_boxes(settings: Settings, hw: tuple[int, int]) -> int:
    """How many windows `boxes_of` gives."""
    sides = [side for side in settings.windows if side < max(hw) or settings.windows_always]
    return sum(math.prod(len(window_starts(length, side, settings.window_stride)) for length in hw) for side in sides)


def boxes_of(settings: Settings, hw: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """The windows on a picture of (h, w), as rows and columns; those that hold the whole picture if `windows_always`."""
    for side in settings.windows:
        if side < max(hw) or settings.windows_always:
            yield from windows(hw, side, settings.window_stride)
