"""Loading before the page is served: where calls run in forked processes, what a call loads is lost at its end."""

import os

from ovseg.methods import suited_to
from ovseg.methods.grounded_diffusion import GroundedDiffusion
from ovseg.models import Models


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU: there, a call that uses an accelerator runs in a fork of this process."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def load_everything(models: Models) -> None:
    """Load every network that the page may use with this backbone, with its fingerprint, which names what is kept on disk.

    On ZeroGPU this must run in the main thread: the place of the accelerator is taken by a stand-in, thread by thread.
    """
    networks = {"clip": lambda: models.clip.fingerprint, "dino": lambda: models.dino.fingerprint}
    networks |= {"captioner": models.captioner, "grounding": lambda: models.grounding(_module(models))}
    _ = models.backbone.fingerprint
    for name, load in networks.items():
        if not models.obstacle(name):
            load()


def _module(models: Models) -> str:
    return suited_to(models, GroundedDiffusion).module
