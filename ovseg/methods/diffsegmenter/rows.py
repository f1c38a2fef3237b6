"""Maps of the classes' phrases, for the method and for people to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ovseg.types import Evidence


@dataclass(frozen=True)
class Rows:
    """Maps of some rows, one for each phrase: refined and fused, and of each stride."""

    refined: Float[Tensor, "b y x"]
    fused: Float[Tensor, "b y x"]
    per_stride: dict[int, Float[Tensor, "b _y _x"]]

    @classmethod
    def combined(cls, parts: Sequence["Rows"], by: Callable[[list[Tensor]], Tensor]) -> "Rows":
        """Several of them as one: maps of one kind by this function, such as `sum` or `torch.cat`."""
        refined, fused = (by([getattr(part, name) for part in parts]) for name in ("refined", "fused"))
        return cls(refined, fused, {s: by([part.per_stride[s] for part in parts]) for s in parts[0].per_stride})

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
