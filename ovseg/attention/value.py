"""`Attention`: what a network attended to in one picture, at every noise level or sampling step.

Axes have names: `level` counts noise levels, or sampling steps of a drawn picture; `layer` is a site of the backbone;
`token` counts the columns of `tokens`; `y` and `x` are the places of the layer's grid, from the upper left corner. Maps
are in half precision and averaged over heads. Self-attention, whose rows are as many as there are places, is never kept
whole: its queries and keys are, and the row of one place is computed when it is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from jaxtyping import Float16, Float32, UInt8

from ovseg.backbones.base import NOTHING, Ablation, Backbone, Capture, Site, Text, Token, Trace, grid_at
from ovseg.layer_attention import LayerAttention
from ovseg.maths.maps import fuse_strides, place_at


@dataclass(frozen=True, eq=False)
class Heads:
    """Cross-attention of one layer at one level, heads apart."""

    site: Site
    level: int
    maps: Float16[np.ndarray, "head token y x"]


@dataclass(frozen=True, eq=False)
class Attention:
    """What the network attended to in one picture, for one prompt. Everything is on the CPU, in half precision.

    Args:
        image: the picture.
        tokens: what the token axis counts; all padding together is the last one, so a place's maps sum to 1.
        timesteps: what the level axis counts: noise levels, or the timesteps of the sampling steps.
        is_drawn: whether the levels are the sampling steps of a drawn picture.
        cross: for each layer the probability with which each place attends to each token, mean over heads.
        states: queries and keys of the layers of self-attention, with a row for each of the levels `kept`.
        kept: the levels, counted from 0, at which `states` are kept.
        noised: what the network was given at each level.
        seed: of the noise, or of the drawing.
        asked: queries of the layers of cross-attention, with a row for each of the levels `kept`, where they were asked for:
            words that come later are answered from them.
    """

    image: UInt8[np.ndarray, "H W 3"]
    prompt: str
    tokens: tuple[Token, ...]
    timesteps: tuple[float, ...]
    is_drawn: bool
    cross: Mapping[Site, Float16[np.ndarray, "level token _y _x"]]
    states: Mapping[Site, LayerAttention]
    kept: tuple[int, ...]
    noised: Float32[np.ndarray, "level c y x"]
    seed: int
    asked: Mapping[Site, LayerAttention] = field(default_factory=dict)

    def without_states(self) -> "Attention":
        """What another pass needs of it: in a process of its own, as on ZeroGPU, all of it would be sent there."""
        return replace(self, states={})

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        values = [getattr(self, one.name) for one in fields(self)]
        parts = [part for value in values for part in (value.values() if isinstance(value, Mapping) else (value,))]
        return sum(part.nbytes for part in parts if isinstance(part, (np.ndarray, LayerAttention)))

    @property
    def latent_hw(self) -> tuple[int, int]:
        """Rows and columns of the finest grid."""
        return self.noised.shape[-2:]

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides at which there is cross-attention, finest first."""
        return tuple(sorted({site.stride for site in self.cross}))

    @property
    def words(self) -> tuple[int, ...]:
        """The tokens that are pieces of the prompt."""
        return tuple(k for k, token in enumerate(self.tokens) if token.kind == "word")

    def grid(self, stride: int) -> tuple[int, int]:
        """Rows and columns of a stride's grid."""
        return grid_at(self.latent_hw, stride)

    def level_name(self, level: int) -> str:
        """ "noise level 100", or "step 3 (t = 920)" for a drawn picture."""
        timestep = f"{self.timesteps[level]:g}"
        return f"step {level + 1} (t = {timestep})" if self.is_drawn else f"noise level {timestep}"

    def token_name(self, token: int) -> str:
        """The token's piece of the prompt, or "start", "end" or "padding"."""
        return self.tokens[token].text or self.tokens[token].kind

    def passed_again(self, backbone: Backbone, level: int, text: Text, capture: Capture, off: Ablation = NOTHING) -> Trace:
        """Another pass on what the network was given at a level."""
        noised = torch.from_numpy(self.noised[level : level + 1]).to(text.embeddings)
        return backbone.trace_noised(noised, text, self.timesteps[level], capture, off=off)

    def stride_maps(self, token: int, levels: Sequence[int] | None = None) -> dict[int, Float32[np.ndarray, "_y _x"]]:
        """For each stride the mean map of a token over the stride's layers and some levels; over all if none are given."""
        chosen = list(range(len(self.timesteps)) if levels is None else levels)
        of_layers: dict[int, list[np.ndarray]] = {stride: [] for stride in self.strides}
        for site, maps in self.cross.items():
            of_layers[site.stride].append(maps[chosen, token].astype(np.float32).mean(0))
        return {stride: np.mean(maps, axis=0) for stride, maps in of_layers.items()}

    def fused(
        self, token: int, weights: Mapping[int, float], levels: Sequence[int] | None = None
    ) -> Float32[np.ndarray, "y x"]:
        """A token's maps of all resolutions as one, 0 to 1, on the finest grid. No network is needed.

        Each resolution is expanded, stretched to 0 to 1 and weighed (DiffSegmenter, arXiv 2309.02773, code); the result is
        divided by the sum of the weights.

        Args:
            weights: for each stride how much it counts; a stride that is missing counts nothing.
            levels: the levels that are averaged; all if not given.

        Raises:
            ValueError: no stride has a weight above 0.
        """
        maps = {stride: torch.from_numpy(one)[None] for stride, one in self.stride_maps(token, levels).items()}
        total = sum(weights.get(stride, 0.0) for stride in self.strides if weights.get(stride, 0.0) > 0)
        return (fuse_strides(maps, weights, self.latent_hw)[0] / total).numpy()

    def layer_rows(self, site: Site, level: int, x: float, y: float) -> Float32[np.ndarray, "head y x"]:
        """What each head of a layer of self-attention attends to from a place.

        Args:
            x: share of the picture's width from the left, 0 to 1; `y` is the share of its height from the top.

        Raises:
            ValueError: the place is outside, or the level's self-attention was not kept.
        """
        rows, columns = self.grid(site.stride)
        row, column = place_at((rows, columns), x, y)
        if level not in self.kept:
            known = ", ".join(self.level_name(k) for k in self.kept) or "no level"
            raise ValueError(f"Self-attention was kept at {known}, but {self.level_name(level)} was asked for.")
        place = row * columns + column
        attended = self.states[site].probabilities(slice(place, place + 1))[self.kept.index(level)]
        return attended.reshape(-1, rows, columns).numpy()

    def rows_from(self, x: float, y: float, levels: Sequence[int] | None = None) -> dict[int, Float32[np.ndarray, "_y _x"]]:
        """For each stride what a place attends to, the mean over the stride's layers and their heads; it sums to 1.

        Place and errors are those of `layer_rows`; all levels that were kept are averaged if none are given.
        """
        chosen = self.kept if levels is None else levels
        if not chosen:
            raise ValueError("Self-attention must be kept at a level to be looked at, but it was kept at none.")
        found: dict[int, list[np.ndarray]] = {}
        for site in self.states:
            found.setdefault(site.stride, []).extend(self.layer_rows(site, level, x, y).mean(0) for level in chosen)
        return {stride: np.mean(found[stride], axis=0) for stride in sorted(found)}

    def kept_near(self, level: int) -> int | None:
        """The level nearest to this one whose self-attention was kept; None where none was."""
        return min(self.kept, key=lambda k: abs(k - level), default=None)
