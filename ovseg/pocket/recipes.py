"""The recipes of the pocket bundle by name, in the order in which they are run, and how long each trains."""

from ovseg.pocket.train_captioner import train_captioner
from ovseg.pocket.train_clip import train_clip
from ovseg.pocket.train_codec import train_codec
from ovseg.pocket.train_denoiser import train_denoiser
from ovseg.pocket.train_dino import train_dino
from ovseg.pocket.train_judge import train_judge
from ovseg.pocket.train_segmenter import train_world_segmenter
from ovseg.pocket.train_transformer import train_transformer

RECIPES = {
    "codec": train_codec,
    "denoiser": train_denoiser,
    "clip": train_clip,
    "judge": train_judge,
    "captioner": train_captioner,
    "dino": train_dino,
    "segmenter": train_world_segmenter,
    "transformer": train_transformer,
}

MINUTES: dict[str, float] = {
    "codec": 20, "denoiser": 560, "clip": 60, "judge": 15, "captioner": 40, "dino": 35, "segmenter": 10,
    "transformer": 600, "detector": 13, "grounding": 45,
}  # fmt: skip
"""Minutes that each network is trained where nothing else is asked for, on one or two cores of a CPU."""
