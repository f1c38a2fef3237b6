"""Loading before the page is served: where calls run in forked processes, what a call loads is lost at its end."""

import os
from functools import partial

from ovseg.methods import METHODS, obstacle_to, suited_to
from ovseg.models import Models
from ovseg.output.run_card import own_network
from ovseg.words.nouns import tagger


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU: there, a call that uses an accelerator runs in a fork of this process."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def load_everything(models: Models) -> None:
    """Load every network that the page may use, with its fingerprint, which names what is kept on disk.

    On ZeroGPU this must run in the main thread: the place of the accelerator is taken by a stand-in, thread by thread.
    """
    tagger()
    for own in models.board:
        loads = [partial(own_network, own, name) for name in ("clip", "dino", "captioner") if not own.obstacle(name)]
        for kind in METHODS:
            if not obstacle_to(own, kind):
                loads += suited_to(own, kind).helpers(own).values()
        for network in (own.backbone, *(load() for load in loads)):
            _ = network.fingerprint
