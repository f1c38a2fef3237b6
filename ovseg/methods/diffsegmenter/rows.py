"""Maps of the classes' phrases, and the self-attention beside them, for the method and for people to look at."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import Backbone, Capture, Site, Text, grid_at
from ovseg.models import Models
from ovseg.types import Affinity, Evidence, Scene


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
                items.append(_heat(f"{phrase}: refined", self.refined[row], "Refined by self-attention", label))
            items.append(_heat(f"{phrase}: fused", self.fused[row], "Cross-attention, fused", label))
        for per_row in self.per_stride.values():
            grid = "x".join(str(side) for side in per_row.shape[-2:])
            for row, (phrase, label) in rows:
                items.append(_heat(f"{phrase}: {grid}", per_row[row], f"{grid} grid", label))
        return tuple(items)


def _heat(title: str, values: Tensor, group: str, label: str) -> Evidence:
    return Evidence(title, "heat", map=values.float().cpu().numpy(), group=group, label=label)


def refining_sites(backbone: Backbone, stride: int) -> tuple[Site, ...]:
    """The self-attention at a stride, which the maps are multiplied by."""
    return tuple(site for site in backbone.sites if site.kind == "self" and site.stride == stride)


def self_attention(models: Models, scene: Scene, text: Text, timestep: int, stride: int) -> Iterator[Evidence]:
    """What each place attends to in the pass of the first prompt, which is run again for it; nothing without such layers."""
    if sites := refining_sites(models.backbone, stride):
        trace = models.backbone.trace(scene.latent, text[:1], timestep, Capture(states=sites), seed=scene.seed)
        layers = (tuple(part[0].half().cpu().numpy() for part in (s.query, s.key)) for s in trace.states.values())
        title = f"Self-attention from any point, with the prompt “{text.prompts[0]}”"
        grid = grid_at(trace.latent_hw, stride)
        yield Evidence(title, "affinity", group="Self-attention", affinity=Affinity(grid, tuple(layers)))
