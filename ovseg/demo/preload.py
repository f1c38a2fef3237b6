"""Loading before the page is served: where calls run in forked processes, what a call loads is lost at its end."""

import os

from ovseg.methods import METHODS, obstacle_to, suited_to
from ovseg.models import Models


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU: there, a call that uses an accelerator runs in a fork of this process."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def load_everything(models: Models) -> None:
    """Load every network that the page may use, with its fingerprint, which names what is kept on disk.

    On ZeroGPU this must run in the main thread: the place of the accelerator is taken by a stand-in, thread by thread.
    """
    for own in models.board:
        _load_all_of(own)


def _load_all_of(models: Models) -> None:
    """Load a backbone, and every network that goes with it."""
    own = {"clip": lambda: models.clip, "dino": lambda: models.dino, "captioner": models.captioner}
    _ = models.backbone.fingerprint
    loads = [load for name, load in own.items() if not models.obstacle(name)]
    for kind in METHODS:
        if not obstacle_to(models, kind):
            loads += suited_to(models, kind).helpers(models).values()
    for load in loads:
        _ = load().fingerprint
