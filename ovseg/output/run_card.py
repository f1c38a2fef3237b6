"""The run card: what ran, on what, with which settings; enough to do it again."""

import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version

import torch

from ovseg import __version__
from ovseg.methods import Method, what_runs
from ovseg.methods.base import Network
from ovseg.models import Models
from ovseg.output.cost import Cost
from ovseg.types import Scene, Segmentation
from ovseg.words.classes import ClassWord

LIBRARIES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy")


def run_card(
    models: Models,
    scene: Scene,
    classes: tuple[ClassWord, ...],
    method: Method,
    segmentation: Segmentation,
    *,
    cost: Cost | None = None,
    captioner: str | None = None,
) -> dict:
    """A JSON-ready record of one segmentation.

    Args:
        cost: what it took, as `measuring` says.
        captioner: the name of the captioner that was asked for the caption; None where none was.
    """
    return {
        "method": {"name": method.name, **asdict(method)} | {"threshold": segmentation.threshold},
        "paper": f"{method.paper.title}, arXiv {method.paper.arxiv}",
        "backbone": {"name": models.short_name, "device": str(models.device), "dtype": models.dtype_name},
        "weights": weights_of(models, method, captioner),
        "captioner": captioner_asked(method, captioner, method.helpers(models)),  # "" is the backbone's own
        "network": f"{models.network_check}; {what_runs(models)}",
        "classes": ["|".join(word.phrases) for word in classes],
        "labels": list(segmentation.labels),
        "seed": scene.seed,
        "caption": scene.caption,
        "image_hw": list(scene.image.shape[:2]),
        "latent_hw": scene.latent_hw and list(scene.latent_hw),  # null where the method did not look at the latent
        "shares": segmentation.shares,
        "seconds": {name: round(seconds, 4) for name, seconds in segmentation.timings.items()},
        "cost": asdict(cost or Cost()),
        "machine": {"device": device_name(models.device), "threads": torch.get_num_threads()},
        "versions": versions(),
        **thresholds_of(segmentation),
    }


def thresholds_of(segmentation: Segmentation) -> dict[str, Mapping[str, float]]:
    """What a run card says of classes whose threshold is their own; nothing where there are none."""
    return {"class_thresholds": segmentation.class_thresholds} if segmentation.class_thresholds else {}


def weights_of(
    models: Models, method: Method, captioner: str | None = None, *, besides: Collection[str] = ()
) -> dict[str, str]:
    """Fingerprints of the weights that a method runs on: the backbone's, and those of the networks that it uses besides.

    A captioner counts if it is loaded: where a visitor writes the caption, nobody needs its weights.

    Args:
        captioner: the name of one that was asked for words beside the method; None where none was.
        besides: networks of the backbone that were used beside the method, where it has no other in their place.
    """
    helpers = {name: partial(own_network, models, name) for name in besides} | method.helpers(models)
    asked = captioner_asked(method, captioner, helpers)
    loaded = None if asked is None else models.loaded_captioner(asked)
    weights = {"backbone": models.backbone.fingerprint}
    weights |= {name: load().fingerprint for name, load in helpers.items() if name != "captioner"}
    return weights | ({"captioner": loaded.fingerprint} if loaded else {})


def captioner_asked(method: Method, captioner: str | None, helpers: Collection[str]) -> str | None:
    """The captioner that was asked, beside the method or by it, "" for the backbone's own; None where none was."""
    return captioner if captioner is not None else getattr(method, "captioner", "") if "captioner" in helpers else None


def own_network(models: Models, name: str) -> Network:
    """The network of this kind that goes with the backbone."""
    return {"clip": lambda: models.clip, "dino": lambda: models.dino, "captioner": models.captioner}[name]()


def versions() -> dict[str, str]:
    """What ran it: the libraries that numbers come from, Python, and this package."""
    return {name: version(name) for name in LIBRARIES} | {"python": platform.python_version(), "ovseg": __version__}


def device_name(device: torch.device) -> str:
    """What the device calls itself: "NVIDIA H200", or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
