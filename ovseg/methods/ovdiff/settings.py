"""What can be turned in OVDiff, and which of it decides what is kept of a class."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from ovseg.models import Models
from ovseg.types import knob
from ovseg.words.classes import check_prompt

EXTRACTORS = {  # and what names each one's weights
    "diffusion": lambda models: models.backbone.fingerprint,
    "dino": lambda models: models.dino.fingerprint,
    "clip": lambda models: models.clip.fingerprint,
}


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of OVDiff, with the values of the released code for Stable Diffusion 1.5."""

    images: int = knob(
        32,
        "How many pictures of each class are generated to learn what it looks like. The released code uses 32, the paper's"
        " table 64.",
        label="Support images of each class",
        group="main",
        low=1,
        high=128,
        step=1,
    )
    prompt: str = knob(
        "A good picture of a {}",
        "The prompt of the support images; {} is replaced by the class. The default is the released code's.",
        label="Prompt of the support images",
    )
    negative: str = knob(
        "text, low quality, blurry, cartoon, meme, low resolution, bad, poor, faded",
        "What support images shall not look like. The default is the released code's.",
        label="Negative prompt of the support images",
    )
    steps: int = knob(
        30,
        "How many steps the sampler takes for a support image. The released code uses 30.",
        label="Sampling steps of a support image",
        low=1,
        high=100,
        step=1,
    )
    guidance: float = knob(
        8.0,
        "How closely support images follow their prompt (classifier-free guidance). The released code uses 8.",
        label="Guidance of the support images",
        low=1,
        high=20,
        step=0.5,
    )
    first_seed: int = knob(
        42,
        "The random seed of the first support image; the next images have the next seeds. The released code uses 42.",
        label="Seed of the first support image",
        low=0,
        high=9999,
        step=1,
    )
    masks: Literal["maskcut", "otsu", "cutler"] = knob(
        "maskcut",
        "How the object is found in a support image: by cuts of DINO's features (MaskCut), by thresholds on the attention"
        " (Otsu), or by CutLER, which the released code uses and whose weights you must provide.",
        label="Masks of the support images",
    )
    extractors: tuple[str, ...] = knob(
        ("diffusion", "dino", "clip"),
        "The networks whose features are compared; their results are averaged. The released code uses all three: diffusion,"
        " dino, clip.",
        label="Feature networks",
        group="main",
    )
    sites: str = knob(
        "0, 6-12, 15",
        "Which cross-attention layers give the diffusion features, counted from 0 in the order of computing. The default is"
        " the released code's choice for Stable Diffusion 1.5.",
        label="Layers of the diffusion features",
    )
    timestep: int = knob(
        200,
        "How much noise is added to a picture before its diffusion features are read. The released code uses 200.",
        label="Noise level of the diffusion features",
        low=0,
        high=999,
        step=1,
    )
    parts: int = knob(
        32,
        "How many part prototypes each class gets, and how many its background. The released code uses 32.",
        label="Parts of each class",
        low=1,
        high=128,
        step=1,
    )
    kinds: Literal["all", "mean"] = knob(
        "all",
        "Which prototypes are compared: all, as in the released code, or only the mean of each class.",
        label="Prototypes that are compared",
    )
    background: Literal["prototypes", "none"] = knob(
        "prototypes",
        "Whether there is a background: what stands around the classes in their support images, as in the released code, or"
        " none, so that every pixel gets a class.",
        label="Background",
        group="main",
    )
    stuff_filter: bool = knob(
        True,
        "Leave out background prototypes that look like a class without a shape of its own, such as sky, that is asked for."
        " The paper and its released code do so.",
        label="Stuff filter",
    )
    stuff_cosine: float = knob(
        0.85,
        "Cosine above which a background prototype counts as such a class. The released code uses 0.85.",
        label="Cosine of the stuff filter",
        low=0.5,
        high=1,
        step=0.01,
    )
    prefilter: bool = knob(
        True,
        "Let CLIP choose which classes are in the picture before pixels are compared. The paper and its released code do"
        " so.",
        label="Choice of the classes by CLIP",
        group="main",
    )
    short_side: int = knob(
        448,
        "Size to which the picture's shorter side is brought, in pixels; 0 leaves the picture as it is. The released code"
        " uses 448.",
        label="Shorter side of the picture",
        low=0,
        high=1024,
        step=32,
    )
    windows: tuple[int, ...] = knob(
        (448, 336),
        "Sides of the square windows in which the picture is compared as well as in the whole, in pixels. The released code"
        " uses 448 and 336.",
        label="Sides of the windows",
    )
    window_stride: int = knob(
        224,
        "Distance from one window to the next, in pixels. The released code uses 224.",
        label="Stride of the windows",
        low=32,
        high=1024,
        step=32,
    )
    refinement: Literal["none", "pamr"] = knob(
        "none",
        "Whether PAMR moves the edges of the masks to those of the picture. The paper reports results of both.",
        label="Refinement of the edges",
        group="main",
    )

    def check(self) -> None:
        """Pass if the settings are in their ranges.

        Raises:
            ValueError: one is not.
        """
        unknown = [name for name in self.extractors if name not in EXTRACTORS]
        if unknown or not self.extractors:
            raise ValueError(f"extractors must be some of {', '.join(EXTRACTORS)}, but got {', '.join(self.extractors)!r}.")
        check_prompt(self.prompt)
        if min(self.images, self.parts, self.steps, self.window_stride) < 1 or min(self.windows, default=1) < 1:
            raise ValueError("images, parts, steps, windows and window_stride must be 1 or more.")

    def made_by(self, models: Models, kind: str) -> dict[str, Any]:
        """All that decides the pictures of a class, their masks, or an extractor's prototypes, JSON-ready.

        Args:
            kind: "pictures", "masks" or the name of an extractor.
        """
        deciding: dict[str, Any] = {
            name: getattr(self, name) for name in ("prompt", "negative", "steps", "guidance", "first_seed")
        }
        deciding["backbone"] = models.backbone.fingerprint
        if kind == "pictures":
            return deciding
        deciding |= {"images": self.images, "masks": self.masks}
        if self.masks == "maskcut":
            deciding["dino"] = models.dino.fingerprint
        if kind == "masks":
            return deciding
        deciding |= {"parts": self.parts, "network": EXTRACTORS[kind](models)}
        return deciding | ({"sites": self.sites, "timestep": self.timestep} if kind == "diffusion" else {})


def parse_numbers(text: str) -> tuple[int, ...]:
    """ "0, 6-8" as (0, 6, 7, 8).

    Raises:
        ValueError: it is no such list.
    """
    numbers: list[int] = []
    for entry in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", entry)
        if not match:
            raise ValueError(f"sites must be numbers and ranges such as 0, 6-12, 15, but got {text!r}.")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(numbers)
