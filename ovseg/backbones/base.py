"""What a backbone is: the `Backbone` protocol, and the values that it takes and returns.

Nothing outside `ovseg/backbones` knows more of a network than this file says. A network of another kind is one file that
implements `Backbone`, and a row of `BACKBONES`.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from ovseg.backbones.phrases import filled
from ovseg.backbones.text import Text, Token
from ovseg.backbones.trace import NOTHING, Ablation, Capture, Site, Trace, Watch, grid_at, sibling

__all__ = [
    "NOTHING", "Ablation", "Backbone", "Capture", "Generated", "OnStep", "Phrases", "Sampling", "Site", "Text", "Token",
    "Trace", "Watch", "grid_at", "query_states", "sibling", "word_states",
]  # fmt: skip

OnStep = Callable[[int, int], None]
"""Called after each sampling step with the number of steps that are done and of all steps; may raise to stop."""

Phrases = Sequence[str | Sequence[str]]
"""For each prompt a phrase in it, "" for none, or several phrases."""


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled.

    Args:
        guidance: scale of classifier-free guidance; 1 or less is none.
        negative: the prompt of the unconditional rows.
        dpm_solver, ddim: sample by DPM-Solver++ (arXiv 2211.01095) or DDIM (2010.02502), not as the checkpoint comes. A
            family of networks that is sampled in one way alone, such as flow matching, has no other.
        least_noise: DPM-Solver++ as its first version: steps spread over all of the training's, the last one ending at the
            least noise of it; else as the checkpoint's steps are spread, and at none.
        heads_apart: attention to a phrase is resized for each head and token by itself before the mean is taken.
    """

    steps: int
    guidance: float
    negative: str = ""
    dpm_solver: bool = False
    ddim: bool = False
    least_noise: bool = False
    heads_apart: bool = False

    def described(self) -> dict[str, Any]:
        """The settings, JSON-ready; newer ones where they are used alone, so that older folders still count."""
        newer = ("ddim", "least_noise", "heads_apart")
        return {name: value for name, value in asdict(self).items() if name not in newer or value}


@dataclass(frozen=True)
class Generated:
    """A sampled picture with its clean, scaled latent.

    `attribution` is the cross-attention that the tokens of a phrase received, the mean over steps, sites, heads and tokens;
    None where no phrase was given.
    """

    image: UInt8[np.ndarray, "h w 3"]
    latent: Float[Tensor, "1 c y x"]
    attribution: Float[Tensor, "y x"] | None = None


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
    @abstractmethod
    def fingerprint(self) -> str:
        """A short name for the weights of all parts: the same for the same weights on any device."""

    @property
    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """All attention that can be captured, in the order of computing."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the latent grid at which there is attention, finest first."""
        return tuple(sorted({site.stride for site in self.sites}))

    @property
    @abstractmethod
    def feature_strides(self) -> tuple[int, ...]:
        """Strides of the latent grid at which blocks have outputs that can be captured, finest first."""

    @abstractmethod
    def encode(self, image: Num[np.ndarray, "h w 3"], sample_seed: int | None = None) -> Float[Tensor, "1 c y x"]:
        """Scaled latent of a picture, 0 to 255: the posterior's mean, or a sample of it if a seed is given.

        Raises:
            ValueError: the picture's sides are none that `working_hw` gives.
        """

    @abstractmethod
    def decode(self, latent: Float[Tensor, "1 c y x"]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture of a scaled latent, RGB."""

    @abstractmethod
    def encode_text(
        self,
        prompts: Sequence[str],
        phrases: Phrases,
        emphasis: float = 1.0,
        emphasised: Sequence[str] | None = None,
        *,
        starts: Sequence[int | None] | None = None,
    ) -> Text:
        """Encode each prompt and find its phrases' tokens from character offsets.

        Args:
            phrases: for each prompt a phrase in it, "" for none, or several phrases.
            emphasis: how far the phrase's states are moved away from those of the empty prompt; 1 leaves them, 1.21 is
                compel's "++".
            emphasised: for each phrase of all prompts the part that is emphasised, the last one of its kind; the whole
                phrase if not given.
            starts: for each phrase of all prompts the character at which it begins, as `filled` gives it; its first
                occurrence as whole words where that is None.

        Raises:
            ValueError: a prompt does not fit the encoder, or a phrase is not in its prompt.
        """

    @abstractmethod
    def untrained(self, seed: int) -> "Backbone":
        """The same with random weights in the denoiser: a control of what its weights know."""

    @abstractmethod
    def fits(self, prompt: str) -> bool:
        """Whether the text encoder takes all of a prompt."""

    @abstractmethod
    def noised(self, latent: Float[Tensor, "n c y x"], timestep: float, seed: int) -> Float[Tensor, "n c y x"]:
        """What `trace` gives the network: latents, all with the same noise of a seed, as much as belongs to the timestep.

        Raises:
            ValueError: the timestep is outside the noise schedule.
        """

    @abstractmethod
    def tokens(self, prompt: str) -> tuple[Token, ...]:
        """What each token of the encoded prompt reads.

        Raises:
            ValueError: the prompt does not fit the text encoder.
        """

    @abstractmethod
    def width(self, site: Site) -> int:
        """How many numbers the query of one place has at a site, all heads together."""

    @abstractmethod
    def keys(self, site: Site, latent_hw: tuple[int, int]) -> int:
        """How many places, words and others a place attends to at a site."""

    @abstractmethod
    def word_keys(self, text: Text, sites: Sequence[Site]) -> dict[Site, Float[Tensor, "b _h t _d"]]:
        """The keys that words have at sites of cross-attention, heads apart, without a pass.

        Raises:
            ValueError: a site has no keys of words alone.
        """

    def trace(
        self,
        latent: Float[Tensor, "_ c y x"],
        text: Text,
        timestep: float,
        capture: Capture,
        seed: int,
        *,
        off: Ablation = NOTHING,
    ) -> Trace:
        """Noise the latent to `timestep`, run the network once with a row per prompt, return what was recorded.

        Args:
            latent: one for all prompts, or one for each.
            off: what is switched off in this pass.

        Raises:
            ValueError: the timestep is outside the noise schedule, or capture or ablation name what the network does not
                have, or the phrase of a prompt without one.
        """
        return self.trace_noised(self.noised(latent, timestep, seed), text, timestep, capture, off=off)

    @abstractmethod
    def trace_noised(
        self, noised: Float[Tensor, "_ c y x"], text: Text, timestep: float, capture: Capture, *, off: Ablation = NOTHING
    ) -> Trace:
        """The same for latents that have their noise already, such as the `noised` of another trace.

        Raises:
            ValueError: capture or ablation name what the network does not have, or the phrase of a prompt without one.
        """

    @abstractmethod
    def timesteps(self, sampling: Sampling) -> tuple[float, ...]:
        """The timestep of every pass that sampling a picture takes, in order.

        Raises:
            ValueError: there are no steps.
        """

    @abstractmethod
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
            phrase: a phrase of the prompt whose attention is gathered on the way, on the conditional rows; "" for none.
            start: the character at which the phrase begins; its first occurrence as whole words if not given.
            watch: what is recorded of each pass, on the conditional rows. A phrase and a watch exclude each other.

        Raises:
            ValueError: the prompt does not fit the text encoder, the phrase is not in it, there are no steps, or both a
                phrase and a watch are given. Of a negative prompt that does not fit the end is left out, with a warning.
        """

    @abstractmethod
    def rows_per_pass(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        """How many prompts one pass can take in the memory at hand."""

    @abstractmethod
    def working_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """The resolution at which a picture of this shape is worked on: same area as in training, same aspect."""

    @abstractmethod
    def square_hw(self) -> tuple[int, int]:
        """The square resolution of training."""

    @abstractmethod
    def latent_shape(self, working_hw: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent of a picture with sides that `working_hw` gives."""
