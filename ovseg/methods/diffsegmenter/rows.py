"""Maps of the classes' phrases, for the method and for people to look at."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.types import Evidence


@dataclass(frozen=True)
class Rows:
    """Maps of some rows, one for each phrase: refined and fused, and of each stride."""

    refined: Float[Tensor, "b y x"]
    fused: Float[Tensor, "b y x"]
    per_stride: dict[int, Float[Tensor, "b _y _x"]]

    def __add__(self, other: "Rows") -> "Rows":
        strides = {s: m + other.per_stride[s] for s, m in self.per_stride.items()}
        return Rows(self.refined + other.refined, self.fused + other.fused, strides)

    def __truediv__(self, count: float) -> "Rows":
        return Rows(self.refined / count, self.fused / count, {s: m / count for s, m in self.per_stride.items()})

    @classmethod
    def join(cls, parts: list["Rows"]) -> "Rows":
        """Rows of several passes one after the other."""
        return cls(
            torch.cat([part.refined for part in parts]),
            torch.cat([part.fused for part in parts]),
            {stride: torch.cat([part.per_stride[stride] for part in parts]) for stride in parts[0].per_stride},
        )

    def evidence(self, phrases: list[str], labels: list[str], was_refined: bool) -> tuple[Evidence, ...]:
        """What the viewer may look at: for each row its maps, under its phrase and the name of its class."""
        items, rows = [], list(enumerate(zip(phrases, labels, strict=True)))
        for row, (phrase, label) in rows:
            if was_refined:
                items.append(Evidence.heat(f"{phrase}: refined", self.refined[row], "Refined by self-attention", label))
            items.append(Evidence.heat(f"{phrase}: fused", self.fused[row], "Cross-attention, fused", label))
        for per_row in self.per_stride.values():
            grid = "x".join(str(side) for side in per_row.shape[-2:])
            for row, (phrase, label) in rows:
                items.append(Evidence.heat(f"{phrase}: {grid}", per_row[row], f"{grid} grid", label))
        return tuple(items)
