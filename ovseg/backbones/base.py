"""What a backbone is: the `Backbone` protocol, and the values that it takes and returns.

Nothing outside `ovseg/backbones` knows more of a network than this file says. A network of another kind is one file that
implements `Backbone`, and a row of `BACKBONES`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.backbones.phrases import filled

OnStep = Callable[[int, int], None]
"""Called after each sampling step with the number of steps that are done and of all steps; may raise to stop."""


@dataclass(frozen=True)
class Site:
    """A place in the network where attention is computed.

    Args:
        name: what the backbone calls it; unlike that of any other site of the same kind, and nothing that others read.
        stride: latent places per place of the site's grid, along each side.
        kind: "self" if places attend to places, "cross" if they attend to the tokens of the prompt.
    """

    name: str
    stride: int
    kind: Literal["self", "cross"]


@dataclass(frozen=True)
class Capture:
    """What a pass shall record, as data. Attention at a stride that has no site gives no entry in the trace.

    Args:
        cross: strides whose cross-attention probabilities are kept, one map per site and token.
        phrases: strides whose cross-attention to each prompt's phrase is kept, one map per site: the mean over the phrase's
            tokens. What the other tokens receive is let go at once.
        queries: sites of the backbone whose queries are kept.
        features: strides, some of the backbone's `feature_strides`, whose blocks' outputs are kept.
        states: sites of the backbone whose queries and keys can be had afterwards, heads apart.
    """

    cross: tuple[int, ...] = ()
    phrases: tuple[int, ...] = ()
    queries: tuple[Site, ...] = ()
    features: tuple[int, ...] = ()
    states: tuple[Site, ...] = ()


@dataclass(frozen=True)
class Token:
    """What one column of an encoded prompt reads.

    Args:
        text: the piece of the prompt, in lower case where the encoder makes no difference; "" for what is no piece of it.
        kind: "word" for a piece of the prompt; "start", "end" and "padding" for what the encoder adds.
        begin: number of the piece's first letter in the prompt; `end` is that of the letter behind its last one.
    """

    text: str
    kind: Literal["start", "word", "end", "padding"]
    begin: int = 0
    end: int = 0


@dataclass(frozen=True)
class AttentionStates:
    """What attention is computed of at one site: softmax(query @ key transposed) over the keys is what each head attends to.

    Args:
        query: one vector for each place, row-major; the site's scale is in it.
        key: one vector for each place, or for each token where the site attends to tokens.
    """

    query: Float[Tensor, "b h n d"]
    key: Float[Tensor, "b h m d"]

    def spread(self, values: Float[Tensor, "b m"]) -> Float[Tensor, "b n"]:
        """For each place the mean of the values over what it attends to, averaged over heads.

        That is the product of the attention with the values, by torch's own kernel, which never makes the matrix.
        """
        # The kernel takes values as wide as its keys; the rest of them is zeros.
        wide = F.pad(values.to(self.key.dtype)[:, None, :, None], (0, self.key.shape[-1] - 1))
        wide = wide.expand(-1, self.key.shape[1], -1, -1)
        mixed = F.scaled_dot_product_attention(self.query, self.key, wide, scale=1.0)[..., 0]
        return mixed.to(torch.promote_types(mixed.dtype, torch.float32)).mean(1)


@dataclass(frozen=True)
class Text:
    """Encoded prompts, one row each.

    Args:
        embeddings: the text encoder's states, on the backbone's device.
        spans: for each row the columns of the tokens of its phrase; empty for no phrase.
    """

    prompts: tuple[str, ...]
    embeddings: Float[Tensor, "b t d"]
    spans: tuple[tuple[int, ...], ...]

    def __getitem__(self, rows: slice) -> "Text":
        return replace(self, prompts=self.prompts[rows], embeddings=self.embeddings[rows], spans=self.spans[rows])

    def repeated(self, rows: int) -> "Text":
        """A single prompt as that many rows, without a copy."""
        (prompt,), (span,) = self.prompts, self.spans
        return Text((prompt,) * rows, self.embeddings.expand(rows, -1, -1), (span,) * rows)

    def split(self, rows: int) -> Iterator["Text"]:
        """Consecutive parts of at most `rows` rows."""
        for start in range(0, len(self.prompts), rows):
            yield self[start : start + rows]


@dataclass(frozen=True)
class Trace:
    """What one pass recorded. Heads are averaged; the rows are those of `text`; sites come in the order of computing.

    `phrases` is the attention that each row's phrase receives. `features` maps a stride to the outputs of all its blocks,
    one after the other in channels, in the order of computing. `states` are the `AttentionStates` of sites; they may be
    computed each time that they are looked up: what they are made of takes half the memory. The matrix of all places by all
    places, 67 MB for a single row at 64 x 64, is never kept: `spread` multiplies by it. `noised` is what the network was
    given: one latent for each row, or one for all.
    """

    text: Text
    timestep: int
    latent_hw: tuple[int, int]
    cross: dict[Site, Float[Tensor, "b _y _x t"]] = field(default_factory=dict)
    phrases: dict[Site, Float[Tensor, "b _y _x"]] = field(default_factory=dict)
    queries: dict[Site, Float[Tensor, "b _d _y _x"]] = field(default_factory=dict)
    features: dict[int, Float[Tensor, "b _c _y _x"]] = field(default_factory=dict)
    states: Mapping = field(default_factory=dict)  # no more is said, as whoever checked it would compute what is in it
    noised: Float[Tensor, "_ c y x"] | None = None

    def tensors(self) -> Iterator[Tensor]:
        """All that was recorded; `states` are left to those who look them up."""
        for kept in (self.cross, self.phrases, self.queries, self.features):
            yield from kept.values()

    def spread(self, maps: Float[Tensor, "b y x"], stride: int, times: int = 1) -> Float[Tensor, "b y x"]:
        """Maps multiplied by the mean self-attention of a stride's sites, `times` times, from their `states`.

        Args:
            maps: on the stride's grid, a row for each row of `text`.
        """
        layers = [site for site in self.states if site.kind == "self" and site.stride == stride]
        flat = maps.flatten(1)
        for _ in range(times):
            flat = torch.stack([self.states[site].spread(flat) for site in layers]).mean(0)
        return flat.reshape(maps.shape)

    def phrases_by_stride(self) -> dict[int, Float[Tensor, "b _y _x"]]:
        """Unweighted mean of the attention to the phrases over the sites of each stride."""
        strides = sorted({site.stride for site in self.phrases})
        return {s: torch.stack([m for site, m in self.phrases.items() if site.stride == s]).mean(0) for s in strides}


@dataclass(frozen=True)
class Watch:
    """What is recorded of every pass of a generation.

    Args:
        capture: what each trace holds.
        see: receives the trace of each pass, with a row for each picture; it may raise to stop.
    """

    capture: Capture
    see: Callable[[Trace], None]


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled.

    Args:
        guidance: scale of classifier-free guidance; 1 or less is none.
        negative: the prompt of the unconditional rows.
        dpm_solver, ddim: sample by DPM-Solver++ (arXiv 2211.01095) or DDIM (2010.02502), not as the checkpoint comes.
    """

    steps: int
    guidance: float
    negative: str = ""
    dpm_solver: bool = False
    ddim: bool = False

    def described(self) -> dict[str, Any]:
        """The settings, JSON-ready; DDIM where it is used alone, so that folders that were made before it still count."""
        return {name: value for name, value in asdict(self).items() if name != "ddim" or value}


@dataclass(frozen=True)
class Generated:
    """A sampled picture with its clean, scaled latent.

    `attribution` is the cross-attention that the tokens of a phrase received, the mean over steps, sites, heads and tokens;
    None where no phrase was given.
    """

    image: UInt8[np.ndarray, "h w 3"]
    latent: Float[Tensor, "1 c y x"]
    attribution: Float[Tensor, "y x"] | None = None


def grid_at(latent_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns of a stride's grid: each halving of the network rounds up."""
    return -(-latent_hw[0] // stride), -(-latent_hw[1] // stride)


def query_states(backbone: "Backbone", words: Sequence[str], sentence: str = "{}") -> Float[Tensor, "n d"]:
    """The text encoder's states of words in a sentence, each the mean over the word's own tokens."""
    prompts, starts = zip(*(filled(sentence, word) for word in words), strict=True)
    text = backbone.encode_text(prompts, list(words), starts=starts)
    return torch.stack([row[list(span)].mean(0) for row, span in zip(text.embeddings, text.spans, strict=True)])


def word_states(backbone: "Backbone", words: Sequence[str]) -> Float[Tensor, "n d"]:
    """Unit vectors of words alone, on the CPU."""
    return F.normalize(query_states(backbone, words).float().cpu(), dim=-1)


@runtime_checkable
class Backbone(Protocol):
    """A frozen text-to-image network. One row per prompt, no hidden guidance. Safe to call from several threads.

    An implementation calls `counting.count_pass` for every pass of its network, so that `counting` works.
    """

    name: str
    """Its name in `BACKBONES`, or the path that it was loaded from."""

    @property
    def fingerprint(self) -> str:
        """A short name for the weights of all parts: the same for the same weights on any device."""
        ...

    @property
    def sites(self) -> tuple[Site, ...]:
        """All attention that can be captured, in the order of computing."""
        ...

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the latent grid at which there is attention, finest first."""
        ...

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Strides of the latent grid at which blocks have outputs that can be captured, finest first."""
        ...

    def encode(self, image: UInt8[np.ndarray, "h w 3"], sample_seed: int | None = None) -> Float[Tensor, "1 c y x"]:
        """Scaled latent of a picture: the posterior's mean, or a sample of it if a seed is given.

        Raises:
            ValueError: the picture's sides are none that `working_hw` gives.
        """
        ...

    def decode(self, latent: Float[Tensor, "1 c y x"]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture of a scaled latent, RGB."""
        ...

    def encode_text(
        self,
        prompts: Sequence[str],
        phrases: Sequence[str],
        emphasis: float = 1.0,
        emphasised: Sequence[str] | None = None,
        *,
        starts: Sequence[int | None] | None = None,
    ) -> Text:
        """Encode each prompt and find its phrase's token columns from character offsets.

        Args:
            phrases: for each prompt a phrase in it, or "" for none.
            emphasis: how far the phrase's states are moved away from those of the empty prompt; 1 leaves them.
            emphasised: the part of each phrase that is emphasised; the whole phrase if not given.
            starts: for each prompt the character at which its phrase begins, as `filled` gives it; the first occurrence
                of the phrase as whole words where that is None.

        Raises:
            ValueError: a prompt does not fit the encoder, or a phrase is not in its prompt.
        """
        ...

    def fits(self, prompt: str) -> bool:
        """Whether the text encoder takes all of a prompt."""
        ...

    def noised(self, latent: Float[Tensor, "n c y x"], timestep: int, seed: int) -> Float[Tensor, "n c y x"]:
        """What `trace` gives the network: latents, all with the same noise of a seed, as much as belongs to the timestep.

        Raises:
            ValueError: the timestep is outside the noise schedule.
        """
        ...

    def tokens(self, prompt: str) -> tuple[Token, ...]:
        """What each column of the encoded prompt reads.

        Raises:
            ValueError: the prompt does not fit the text encoder.
        """
        ...

    def width(self, site: Site) -> int:
        """How many numbers the query of one place has at a site, all heads together."""
        ...

    def trace(self, latent: Float[Tensor, "_ c y x"], text: Text, timestep: int, capture: Capture, seed: int) -> Trace:
        """Noise the latent to `timestep`, run the network once with a row per prompt, return what was recorded.

        Args:
            latent: one for all prompts, or one for each.

        Raises:
            ValueError: the timestep is outside the noise schedule, or the capture names what the network does not have, or
                the phrase of a prompt without one.
        """
        ...

    def trace_noised(self, noised: Float[Tensor, "_ c y x"], text: Text, timestep: int, capture: Capture) -> Trace:
        """The same for latents that have their noise already, such as the `noised` of another trace.

        Raises:
            ValueError: the capture names what the network does not have, or the phrase of a prompt without one.
        """
        ...

    def timesteps(self, sampling: Sampling) -> tuple[int, ...]:
        """The timestep of every pass that sampling a picture takes, in order.

        Raises:
            ValueError: there are no steps.
        """
        ...

    def generate(
        self,
        prompt: str,
        seeds: Sequence[int],
        sampling: Sampling,
        phrase: str = "",
        on_step: OnStep | None = None,
        *,
        start: int | None = None,
        watch: Watch | None = None,
    ) -> tuple[Generated, ...]:
        """Sample a picture for each seed, all of them together.

        Args:
            phrase: a phrase of the prompt whose attention is gathered on the way; "" for none.
            start: the character at which the phrase begins; its first occurrence as whole words if not given.
            watch: what is recorded of each pass, on the conditional rows. A phrase and a watch exclude each other.

        Raises:
            ValueError: the prompt does not fit the text encoder, the phrase is not in it, there are no steps, or both a
                phrase and a watch are given. Of a negative prompt that does not fit the end is left out, with a warning.
        """
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

    def latent_shape(self, working_hw: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent of a picture with sides that `working_hw` gives."""
        ...
