"""The run card: what ran, on what, with which settings; enough to do it again."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version

import torch

from ovseg import __version__
from ovseg.methods import Method
from ovseg.models import Models
from ovseg.output.cost import Cost
from ovseg.types import Scene, Segmentation
from ovseg.words.classes import ClassWord

LIBRARIES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy")
WEIGHTS: Mapping[str, Callable[[Models], str]] = {
    "clip": lambda models: models.clip.fingerprint,
    "dino": lambda models: models.dino.fingerprint,
}
"""What names the weights of the networks that a method may need beside the backbone, where they have such a name."""


def run_card(
    models: Models,
    scene: Scene,
    classes: tuple[ClassWord, ...],
    method: Method,
    segmentation: Segmentation,
    *,
    cost: Cost | None = None,
) -> dict:
    """A JSON-ready record of one segmentation.

    Args:
        cost: what it took, as `measuring` says.
    """
    return {
        "method": {"name": method.name, **asdict(method)} | {"threshold": segmentation.threshold},
        "paper": f"{method.paper.title}, arXiv {method.paper.arxiv}",
        "backbone": {"name": models.name, "device": str(models.device), "dtype": models.dtype_name},
        "weights": weights_of(models, method),
        "classes": ["|".join(word.phrases) for word in classes],
        "labels": list(segmentation.labels),
        "seed": scene.seed,
        "caption": scene.caption,
        "image_hw": list(scene.image.shape[:2]),
        "latent_hw": list(scene.latent.shape[-2:]),
        "shares": segmentation.shares,
        "seconds": {name: round(seconds, 4) for name, seconds in segmentation.timings.items()},
        "cost": asdict(cost or Cost()),
        "machine": {"device": device_name(models.device), "threads": torch.get_num_threads()},
        "versions": {name: version(name) for name in LIBRARIES}
        | {"python": platform.python_version(), "ovseg": __version__},
    }


def weights_of(models: Models, method: Method) -> dict[str, str]:
    """Fingerprints of the weights that a method runs on: the backbone's and those of the networks it needs besides."""
    others = {name: WEIGHTS[name](models) for name in method.needs if name in WEIGHTS}
    return {"backbone": models.backbone.fingerprint, **others}


def device_name(device: torch.device) -> str:
    """What the device calls itself: "NVIDIA H200", or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
