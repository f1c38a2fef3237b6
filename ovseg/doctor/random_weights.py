"""A backbone with all its networks in published formats and random weights, in a folder."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from ovseg.backbones.base import query_states
from ovseg.doctor.pipelines import PIPELINES, Published, of_folder, write_pipeline, write_stable_diffusion
from ovseg.doctor.published import Scale, write_blip, write_dino, write_open_clip
from ovseg.models import Models
from ovseg.pretrained.grounding import QUERY, SD1_FUSED, GroundingModule, GroundingSize, save_grounding, step_features

GENERATIONS = {"sd15": 1, "sd21": 2}
NETWORKS = ("clip", "dino", "captioner", "grounding")
CLIP = "ViT-L-14-quickgelu"
SMALL_CLIP = "ViT-S-32-alt"  # the smallest of open_clip's table


def random_models(
    name: str,
    folder: Path,
    scale: Scale,
    device: str | None = None,
    dtype: str | None = None,
    *,
    networks: Collection[str] = NETWORKS,
) -> Models:
    """The networks of a backbone of the table, written to a folder with random weights, and ready to be loaded from it.

    The captioner is BLIP base, whatever the table says: BLIP-2 of full size takes 15 GB in float32.

    Args:
        networks: those of `NETWORKS` that are written beside the backbone.

    Raises:
        ValueError: the backbone is none that is published, and no folder.
    """
    torch.manual_seed(0)
    own = folder / Path(name).name
    if name in GENERATIONS:
        write_stable_diffusion(own, GENERATIONS[name], scale)
    else:
        write_pipeline(own, published(name, scale), scale.dtype)
    if "clip" in networks:
        write_open_clip(folder / "clip", SMALL_CLIP if scale.narrower > 1 else CLIP)
    if "dino" in networks:
        write_dino(folder / "dino", scale)
    if "captioner" in networks:
        write_blip(folder / "captioner", scale)
    models = Models(str(own), device, dtype)
    models.checkpoint = replace(
        models.checkpoint, clip=f"local-dir:{folder / 'clip'}", dino=str(folder / "dino"),
        captioner=str(folder / "captioner"), grounding=str(folder / "grounding"),
    )  # fmt: skip
    if "grounding" in networks and 1 in models.backbone.feature_strides:  # a module draws on the latent's own grid
        write_grounding(models, folder / "grounding" / "S1", scale)
    return models


def published(name: str, scale: Scale) -> Published:
    """A pipeline by its name in the table of backbones, or one whose configurations lie in a folder, at their own size.

    Raises:
        ValueError: neither, or the folder's shall be narrow.
    """
    if name in PIPELINES:
        return PIPELINES[name](scale)
    if Path(name).is_dir() and scale.narrower == 1:
        return of_folder(Path(name))
    known = ", ".join((*GENERATIONS, *PIPELINES))
    raise ValueError(f"Random weights can be made for {known}, or a folder at its own size, but got {name!r}.")


def write_grounding(models: Models, folder: Path, scale: Scale) -> None:
    """A grounding module of random weights that fits the backbone: the released widths at full size."""
    backbone = models.backbone
    channels = backbone.latent_shape(backbone.square_hw())[0]
    latent = torch.zeros(1, channels, 8, 8, dtype=models.dtype, device=models.device)
    channels = {stride: maps.shape[1] for stride, maps in step_features(backbone, latent, "", 1, 0).items()}
    model = scale.width(512)
    size = GroundingSize(
        channels=channels, text=query_states(backbone, ["cat"], QUERY).shape[-1],
        fused={stride: scale.width(SD1_FUSED[stride // min(channels)]) for stride in channels}, model=model,
        heads=max(1, scale.width(8)), feed_forward=4 * model, layers=scale.depth(3),
    )  # fmt: skip
    training = {"split": "S1", "seen": ["cat"], "backbone": backbone.fingerprint}
    save_grounding(GroundingModule(size).eval(), folder, training, torch.float16)
