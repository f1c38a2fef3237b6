"""The pocket bundle's recipes by name, in the order in which they are run."""

from ovseg.pocket.bundle import pack
from ovseg.pocket.train_captioner import train_captioner
from ovseg.pocket.train_clip import train_clip
from ovseg.pocket.train_codec import train_codec
from ovseg.pocket.train_denoiser import train_denoiser
from ovseg.pocket.train_dino import train_dino
from ovseg.pocket.train_judge import train_judge

RECIPES = {
    "codec": train_codec,
    "denoiser": train_denoiser,
    "clip": train_clip,
    "judge": train_judge,
    "captioner": train_captioner,
    "dino": train_dino,
}

__all__ = ["RECIPES", "pack"]
