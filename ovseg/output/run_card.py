"""The run card: what ran, on what, with which settings; enough to do it again."""

import platform
from dataclasses import asdict
from importlib.metadata import version

import torch

from ovseg import __version__
from ovseg.methods import Method
from ovseg.models import Models
from ovseg.types import Scene, Segmentation
from ovseg.words.classes import ClassWord


def run_card(
    models: Models, scene: Scene, classes: tuple[ClassWord, ...], method: Method, segmentation: Segmentation
) -> dict:
    """A JSON-ready record of one segmentation."""
    return {
        "method": {"name": method.name, **asdict(method)} | {"threshold": segmentation.threshold},
        "paper": f"{method.paper.title}, arXiv {method.paper.arxiv}",
        "backbone": {"name": models.name, "device": str(models.device), "dtype": models.dtype_name},
        "classes": ["|".join(word.phrases) for word in classes],
        "seed": scene.seed,
        "caption": scene.caption,
        "image_hw": list(scene.image.shape[:2]),
        "latent_hw": list(scene.latent.shape[-2:]),
        "shares": segmentation.shares,
        "seconds": {name: round(seconds, 4) for name, seconds in segmentation.timings.items()},
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")}
        | {"python": platform.python_version(), "ovseg": __version__, "threads": torch.get_num_threads()},
    }
