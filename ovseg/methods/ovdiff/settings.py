"""What can be turned in OVDiff, and which of it decides what is kept of a class."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from ovseg.limits import check_count, limits, quoted
from ovseg.methods.knobs import clip_name, sampled_latent
from ovseg.models import Models
from ovseg.types import knob
from ovseg.words.classes import check_prompt

EXTRACTORS = ("diffusion", "dino", "clip")


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
    )
    guidance: float = knob(
        8.0,
        "How closely support images follow their prompt (classifier-free guidance). The released code uses 8.",
        label="Guidance of the support images",
        low=1,
        high=20,
        step=0.5,
    )
    drawn_released: bool = knob(
        False,
        "Draw support images down to the least noise of the network's training, and resize the attention of each head and"
        " token by itself before the mean is taken, as the released code does.",
        label="Support images drawn as released",
    )
    first_seed: int = knob(
        42,
        "The random seed of the first support image; the next images have the next seeds. The released code uses 42.",
        label="Seed of the first support image",
        high=9999,
    )
    masks: Literal["maskcut", "otsu", "otsu-256", "cutler"] = knob(
        "maskcut",
        "How the object is found in a support image: by cuts of DINO's features (MaskCut), by thresholds on the attention"
        " (Otsu; otsu-256 takes them from 256 bins of the small map, as the released code without CutLER), or by CutLER,"
        " which the released code uses and whose weights you must provide.",
        label="Masks of the support images",
    )
    skip_empty: bool = knob(
        False,
        "Treat empty masks as the released code does: a support image in which the class vanishes on the grid of features"
        " gives no background, and one that objects cover wholly counts as the class everywhere.",
        label="Empty masks as released",
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
        high=999,
    )
    squashed: bool = knob(
        False,
        "Squash pictures and windows to a square for the diffusion network, as the released code does. Otherwise they keep"
        " their aspect.",
        label="Squares for the diffusion network",
    )
    sampled: bool = sampled_latent("a picture's")
    clip: str = clip_name("chooses the classes and gives features", "ViT-B/16")
    clip_sides: tuple[int, ...] = knob(
        (0, 0),
        "Pixels of the side of the square in which CLIP's features are read: for a picture and its windows, and for a"
        " support image; 0 for CLIP's own. The released code uses 448 and 512, which are 28 and 32 patches.",
        label="Sides for CLIP's features",
        high=2048,
    )
    imagenet: bool = knob(
        False,
        "Read CLIP's features with the colour statistics of ImageNet, as the released code does, in place of CLIP's own.",
        label="Colours of ImageNet for CLIP",
    )
    dino_longest: int = knob(
        0,
        "Longest side of what DINO sees of a picture, in pixels; 0 for no limit. The released code uses 800.",
        label="Longest side for DINO",
        high=2048,
        step=8,
    )
    plain: bool = knob(
        False,
        "Give pictures to the networks as the released code does: resized bilinearly without antialiasing, and for DINO cut"
        " to whole patches.",
        label="Plain resizing for the networks",
    )
    parts: int = knob(
        32,
        "How many part prototypes each class gets, and how many its background. The released code uses 32.",
        label="Parts of each class",
        low=1,
        high=128,
    )
    by_library: bool = knob(
        False,
        "Find the parts by scikit-learn's k-means, as the released code does, and keep all prototypes in single precision."
        " It runs on the processor and takes minutes for a class of many pictures.",
        label="Parts by scikit-learn",
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
    stuff: Literal["reviewed", "released"] = knob(
        "reviewed",
        "Which classes have no shape of their own: those of a table that was gone through by hand, or those of the released"
        " code's table, which takes every other word for a thing.",
        label="Table of the stuff filter",
    )
    stuff_cosine: float = knob(
        0.85,
        "Cosine above which a background prototype counts as such a class. The released code uses 0.85.",
        label="Cosine of the stuff filter",
        low=0.5,
    )
    prefilter: bool = knob(
        True,
        "Let CLIP choose which classes are in the picture before pixels are compared. The paper and its released code do"
        " so.",
        label="Choice of the classes by CLIP",
        group="main",
    )
    prefilter_released: bool = knob(
        False,
        "Let CLIP see the whole picture, squashed to a square, and name classes by falling probability where more than ten"
        " pass, as the released code does. Otherwise the longer side's ends are cut off, and the order is that of the"
        " classes.",
        label="CLIP's choice as released",
    )
    short_side: int = knob(
        448,
        "Size to which the picture's shorter side is brought, in pixels; 0 leaves the picture as it is. The released code"
        " uses 448.",
        label="Shorter side of the picture",
        high=1024,
        step=32,
    )
    windows: tuple[int, ...] = knob(
        (448, 336),
        "Sides of the square windows in which the picture is compared as well as in the whole, in pixels. The released code"
        " uses 448 and 336.",
        label="Sides of the windows",
        low=1,
        high=4096,
    )
    window_stride: int = knob(
        224,
        "Distance from one window to the next, in pixels. The released code uses 224.",
        label="Stride of the windows",
        low=32,
        high=1024,
        step=32,
    )
    windows_always: bool = knob(
        False,
        "Compare a window that holds all of the picture beside the picture itself, as the released code does: a square"
        " picture then counts twice.",
        label="Windows as large as the picture",
    )
    refinement: Literal["none", "pamr"] = knob(
        "none",
        "Whether PAMR moves the edges of the masks to those of the picture. The paper reports results of both.",
        label="Refinement of the edges",
        group="main",
    )

    def check(self) -> None:
        """Raise ValueError unless the settings are in their ranges."""
        unknown = [name for name in self.extractors if name not in EXTRACTORS]
        if unknown or not self.extractors:
            raise ValueError(
                f"extractors must be some of {', '.join(EXTRACTORS)}, but got {quoted(', '.join(self.extractors))}."
            )
        check_count("The extractors", len(self.extractors), len(EXTRACTORS))
        check_prompt(self.prompt)
        parse_numbers(self.sites)
        if min(self.images, self.parts, self.steps, self.window_stride) < 1 or min(self.windows, default=1) < 1:
            raise ValueError("images, parts, steps, windows and window_stride must be 1 or more.")
        if len(self.clip_sides) != 2 or min(self.clip_sides) < 0:
            raise ValueError(f"clip_sides must be two numbers, each 0 or more, but got {self.clip_sides}.")

    def unfit(self, models: Models) -> str:
        """Why the backbone has not all layers of `sites`; empty where it has."""
        crossing, chosen = sum(site.kind == "cross" for site in models.backbone.sites), parse_numbers(self.sites)
        if "diffusion" not in self.extractors or max(chosen) < crossing:
            return ""
        return f"sites must name some of 0 to {crossing - 1} on this backbone, but got {quoted(self.sites)}."

    def made_by(self, models: Models, kind: str) -> dict[str, Any]:
        """All that decides the "pictures" of a class, their "masks", or the prototypes of a named extractor, JSON-ready."""
        deciding: dict[str, Any] = {
            name: getattr(self, name) for name in ("prompt", "negative", "steps", "guidance", "first_seed")
        }
        deciding |= {"backbone": models.backbone.fingerprint} | ({"drawn_released": True} if self.drawn_released else {})
        if kind == "pictures":
            return deciding
        deciding |= {"images": self.images, "masks": self.masks}
        if self.masks == "maskcut":
            deciding |= {"dino": models.dino.fingerprint, "crf": 2}  # 2: masks were others before its axes were turned
        if kind == "masks":
            return deciding | ({"skip_empty": True} if self.skip_empty else {})
        network = models.clip_named(self.clip) if kind == "clip" else models.dino if kind == "dino" else models.backbone
        deciding |= {"parts": self.parts, "network": network.fingerprint}
        if kind == "diffusion":
            deciding |= {"sites": self.sites, "timestep": self.timestep}
        # What is as it always was is left out, so that files that were made before these settings still count.
        others = {"skip_empty": self.skip_empty, "by_library": self.by_library}
        others |= {
            "diffusion": {"sampled": self.sampled},
            "dino": {"plain": self.plain},
            "clip": {"clip_side": self.clip_sides[1], "imagenet": self.imagenet},
        }.get(kind, {})
        return deciding | {name: value for name, value in others.items() if value}


def parse_numbers(text: str) -> tuple[int, ...]:
    """ "0, 6-8" as (0, 6, 7, 8).

    Raises:
        ValueError: it is no such list, or too long.
    """
    numbers: list[int] = []
    for entry in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", entry)
        if not match:
            raise ValueError(f"sites must be numbers and ranges such as 0, 6-12, 15, but got {quoted(text)}.")
        chosen = range(int(match[1]), int(match[2] or match[1]) + 1)
        check_count("The layers of sites", len(numbers) + len(chosen), limits().list_values)
        numbers += chosen
    return tuple(numbers)
