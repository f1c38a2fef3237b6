"""Settings that several methods have, each with what the method says of its own."""

from typing import Any, Literal

from ovseg.types import knob

OWN = "Empty for the one that goes with the backbone. The released code uses"


def noise_level(default: int, released: str, group: Literal["main", "more"] = "main") -> Any:
    """The setting of the noise that a method's network sees, with what the released code takes, in a sentence."""
    told = f"How much noise is added to the picture before the network looks at it, 0 to 999. {released}"
    return knob(default, told, label="Noise level", group=group, high=999)


def noise_samples(then: str, group: Literal["main", "more"] = "more") -> Any:
    """How many noises are tried; `then` says what becomes of their results."""
    told = f"How many different noises are tried{then}. The released code uses 1."
    return knob(1, told, label="Noise samples", group=group, low=1, high=16)


def background_threshold(default: float, told: str) -> Any:
    """The constant score of the background."""
    return knob(default, told, label="Background threshold", group="main")


def grid_weights(default: tuple[float, ...], released: str, kind: str = "cross", of: str = "the resolutions") -> Any:
    """The weights of the resolutions of one kind of attention; `released` ends the sentence."""
    told = f"How much the {kind}-attention of each resolution counts, from the finest to the coarsest{released}"
    return knob(default, told, label=f"Weights of {of}, finest first", high=100)


def read_layers(released: str, otherwise: str = "all") -> Any:
    """The numbers of the layers of cross-attention that are read; `otherwise` are those that are read without numbers."""
    told = f"Numbers of the layers that are read, counted from 0; {otherwise} if none is named. The released code reads"
    told += f" {released}."
    return knob((), told, label="Layers", high=99)


def refining_stride(told: str) -> Any:
    """The grid of self-attention by which maps are spread."""
    return knob(1, told, label="Grid of the refinement", low=1, high=8)


def sampled_latent(whose: str) -> Any:
    """Whether a latent is a sample of the codec's distribution, as in released codes."""
    drawn = f"Draw {whose} latent from the distribution that the codec gives, as the released code does."
    return knob(False, f"{drawn} Otherwise it is the mean of it.", label="Latent drawn at random")


def captioner_name(does: str, such_as: str, released: str) -> Any:
    """The name of a captioner, and what it does for the method."""
    told = f"Which captioner {does}: a name such as {such_as}, or a folder. {OWN} {released}."
    return knob("", told, label="Captioner", kind="captioner")


def clip_name(does: str, released: str, label: str = "CLIP") -> Any:
    """The name of a CLIP, and what it does for the method."""
    return knob("", f"Which CLIP {does}: what open_clip calls it. {OWN} OpenAI's {released}.", label=label, kind="clip")
