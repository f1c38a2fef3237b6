"""What a backbone is: four verbs, and the values that they take and return."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

OnStep = Callable[[int, int], None]
"""Told how many of how many sampling steps are done; may raise to stop."""


@dataclass(frozen=True)
class Site:
    """An attention module: its path in the network and its stride relative to the latent grid."""

    path: str
    stride: int


@dataclass(frozen=True)
class Capture:
    """What a pass shall record, as data.

    Args:
        cross: strides whose cross-attention probabilities are kept, one map per site.
        self_attention: strides whose self-attention probabilities are kept, averaged over their sites.
        queries: paths of attention modules whose queries are kept.
        features: paths of modules whose output is kept.
    """

    cross: tuple[int, ...] = ()
    self_attention: tuple[int, ...] = ()
    queries: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """Encoded prompts, one row each. `spans[row]` holds the token columns of the phrase that was asked about."""

    prompts: tuple[str, ...]
    embeddings: Float[Tensor, "b t d"]
    spans: tuple[tuple[int, ...], ...]

    def __getitem__(self, rows: slice) -> "Text":
        return replace(self, prompts=self.prompts[rows], embeddings=self.embeddings[rows], spans=self.spans[rows])

    def split(self, rows: int) -> Iterator["Text"]:
        """Consecutive parts of at most `rows` rows."""
        for start in range(0, len(self.prompts), rows):
            yield self[start : start + rows]


@dataclass(frozen=True)
class Trace:
    """What one pass recorded. Heads are averaged; the rows are those of `text`.

    `self_attention` maps a stride to probabilities (row, from, to) over the places of that stride's grid, row-major,
    averaged over the stride's sites as they are never used apart and one alone has 67 MB at 64 x 64.
    """

    text: Text
    timestep: int
    latent_hw: tuple[int, int]
    cross: dict[Site, Float[Tensor, "b _y _x t"]] = field(default_factory=dict)
    self_attention: dict[int, Float[Tensor, "b _n _n"]] = field(default_factory=dict)
    queries: dict[Site, Float[Tensor, "b _d _y _x"]] = field(default_factory=dict)
    features: dict[str, Float[Tensor, "b _c _y _x"]] = field(default_factory=dict)

    def cross_by_stride(self) -> dict[int, Float[Tensor, "b _y _x t"]]:
        """Unweighted mean of the cross-attention over the sites of each stride."""
        strides = sorted({site.stride for site in self.cross})
        return {s: torch.stack([m for site, m in self.cross.items() if site.stride == s]).mean(0) for s in strides}


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled: steps, classifier-free guidance, what to keep out, and whether by DPM-Solver++ whatever
    scheduler the checkpoint came with."""

    steps: int
    guidance: float
    negative: str = ""
    dpm_solver: bool = False


@dataclass(frozen=True)
class Generated:
    """A sampled picture with its clean, scaled latent, and where a phrase of its prompt was looked at, if asked.

    `attribution` is the cross-attention that the phrase's tokens received, the mean over steps, sites, heads and tokens.
    """

    image: UInt8[np.ndarray, "h w 3"]
    latent: Float[Tensor, "1 c y x"]
    attribution: Float[Tensor, "y x"] | None = None


def grid_at(latent_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """The grid of a stride: each halving of the network rounds up."""
    return -(-latent_hw[0] // stride), -(-latent_hw[1] // stride)


def query_states(backbone: "Backbone", words: Sequence[str], sentence: str = "{}") -> Float[Tensor, "n d"]:
    """The text encoder's states of words in a sentence, each the mean over the word's own tokens."""
    text = backbone.encode_text([sentence.replace("{}", word) for word in words], list(words))
    return torch.stack([row[list(span)].mean(0) for row, span in zip(text.embeddings, text.spans, strict=True)])


def word_states(backbone: "Backbone", words: Sequence[str]) -> Float[Tensor, "n d"]:
    """Unit vectors of words alone, on the CPU."""
    return F.normalize(query_states(backbone, words).float().cpu(), dim=-1)


@runtime_checkable
class Backbone(Protocol):
    """A frozen text-to-image network behind four verbs. One row per prompt, no hidden guidance."""

    name: str
    sites: tuple[Site, ...]
    strides: tuple[int, ...]  # of the latent grid at which there is attention, finest first
    blocks: dict[int, tuple[str, ...]]  # by stride, the modules whose outputs are the network's features

    def encode(self, image: UInt8[np.ndarray, "h w 3"], sample_seed: int | None = None) -> Float[Tensor, "1 c y x"]:
        """Scaled latent of a picture: the posterior's mean, or a sample of it if a seed is given."""
        ...

    def encode_text(
        self, prompts: Sequence[str], phrases: Sequence[str], emphasis: float = 1.0, emphasised: Sequence[str] | None = None
    ) -> Text:
        """Encode each prompt and find its phrase's token columns from character offsets."""
        ...

    def trace(self, latent: Float[Tensor, "1 c y x"], text: Text, timestep: int, capture: Capture, seed: int) -> Trace:
        """Noise the latent to `timestep`, run the network once with a row per prompt, return what was recorded."""
        ...

    def generate(
        self, prompt: str, seeds: Sequence[int], sampling: Sampling, phrase: str = "", on_step: OnStep | None = None
    ) -> tuple[Generated, ...]:
        """Sample a picture for each seed, all of them together."""
        ...

    def rows_per_pass(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        """How many prompts one pass can take in the memory at hand."""
        ...

    def working_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """The resolution at which a picture of this shape is worked on: same area as in training, same aspect."""
        ...

    def square_hw(self) -> tuple[int, int]:
        """The square resolution of training."""
        ...
