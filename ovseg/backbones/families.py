"""The families of diffusers' pipelines that can be read: a new one is one file, and one entry here."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ovseg.backbones.base import Backbone
from ovseg.files import read_json
from ovseg.types import named

if TYPE_CHECKING:
    from ovseg.backbones.diffusers_backbone import DiffusersBackbone

Loader = Callable[[str, str, torch.device | str, torch.dtype], Backbone]
"""Loads weights: from a source, under a name, onto a device, in a precision."""

FAMILIES: dict[str, tuple[str, str]] = {  # module and class for each class of diffusers' pipelines
    "StableDiffusionPipeline": ("stable_diffusion", "StableDiffusion"),
    "StableDiffusionXLPipeline": ("stable_diffusion_xl", "StableDiffusionXL"),
    "StableDiffusion3Pipeline": ("stable_diffusion_3", "StableDiffusion3"),
    "Flux2KleinPipeline": ("flux2", "Flux2Klein"),
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
        return str(read_json(index)["_class_name"])
    except KeyError as error:
        raise ValueError(f"{index} must name a class of diffusers' pipelines, but does not.") from error


def family_of(pipeline: str) -> "type[DiffusersBackbone]":
    """The family of a class of pipelines.

    Raises:
        ValueError: none reads it.
    """
    module, kind = named(FAMILIES, "class of a pipeline", pipeline)
    return getattr(import_module(f"ovseg.backbones.{module}"), kind)  # here, as diffusers takes seconds to import


def load_pipeline(
    source: str,
    name: str,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    family: str = "StableDiffusionPipeline",
    variant: str | None = None,
    encodes: bool = True,
) -> Backbone:
    """A pipeline of a known family from a local diffusers folder or a repository of the hub.

    Args:
        family: what the pipeline of a repository is; a folder says it by itself.
        variant: which of a repository's files are read where the precision is float16.
        encodes: whether its text encoders are read.

    Raises:
        ValueError: there is no such pipeline.
    """
    family = pipeline_class_of(Path(source)) if Path(source).exists() else family
    return family_of(family).load(source, name, device, dtype, variant=variant, encodes=encodes)
