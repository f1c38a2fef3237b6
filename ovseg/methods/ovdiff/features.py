"""The features of a picture in OVDiff's three networks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ovseg.backbones import Capture
from ovseg.backbones.base import Text
from ovseg.maths.maps import resize
from ovseg.methods.ovdiff.settings import Settings, parse_numbers
from ovseg.models import Models
from ovseg.reading.recipe import crossing_named
from ovseg.scene import POSTERIOR, squashed

TOGETHER = 8  # pictures that go through a network at once
Picture = UInt8[np.ndarray, "_h _w 3"]


@dataclass(frozen=True, eq=False)
class Extractor:
    """One of OVDiff's networks, with what it needs that depends on no picture.

    "diffusion": the queries of the cross-attention layers `sites`, after noise of `timestep`, on the latent grid. "dino":
    the keys of the last layer. "clip": the keys of the last layer but one. Each has a grid of its own.

    Args:
        nothing: the empty prompt, encoded; None where the network takes no prompt.
        is_support: pictures are support images, not those that are segmented.
    """

    name: str
    models: Models
    settings: Settings
    nothing: Text | None
    is_support: bool

    @classmethod
    def of(cls, models: Models, settings: Settings, name: str, *, is_support: bool = False) -> "Extractor":
        """A network by its name, loaded; ValueError where it cannot be."""
        nothing = models.backbone.encode_text([""], [""]) if name == "diffusion" else None
        return cls(name, models, settings, nothing, is_support)

    def features(self, images: Sequence[Picture], seed: int) -> Iterator[Float[Tensor, "_d _y _x"]]:
        """Features of pictures or crops of one size, several at a time through the network, with the same noise for each.

        Raises:
            ValueError: `sites` names layers that the backbone does not have.
        """
        read = {"dino": self._dino, "clip": self._clip, "diffusion": self._diffusion}[self.name]
        for first in range(0, len(images), TOGETHER):
            yield from read(images[first : first + TOGETHER], seed)

    def _dino(self, images: Sequence[Picture], _seed: int) -> Iterator[Tensor]:
        limit = 0 if self.is_support else self.settings.dino_longest
        within = [_within(image, limit, self.settings.plain) for image in images]
        yield from self.models.dino.keys(within, cut=self.settings.plain)

    def _clip(self, images: Sequence[Picture], _seed: int) -> Iterator[Tensor]:
        settings, clip = self.settings, self.models.clip_named(self.settings.clip)
        side = settings.clip_sides[self.is_support]
        yield from clip.dense(images, "keys", -2, side=side, imagenet=settings.imagenet, bilinear=settings.plain)

    def _diffusion(self, images: Sequence[Picture], seed: int) -> Iterator[Tensor]:
        backbone, settings = self.models.backbone, self.settings
        hw = backbone.square_hw() if settings.squashed else backbone.working_hw(images[0].shape[:2])
        # The released code draws a support image's sample and its noise from one seed.
        sample_seed = seed + POSTERIOR * (not self.is_support) if settings.sampled else None
        fitted = [squashed(image, hw) if settings.plain else resized(image, hw) for image in images]
        latents = torch.cat([backbone.encode(pixels, sample_seed=sample_seed) for pixels in fitted])
        if obstacle := settings.unfit(self.models):
            raise ValueError(obstacle)
        sites = crossing_named(backbone, parse_numbers(settings.sites))
        capture = Capture(queries=sites)
        for part in latents.split(backbone.rows_per_pass(tuple(latents.shape[-2:]), capture)):
            trace = backbone.trace(part, self.nothing.repeated(len(part)), settings.timestep, capture, seed)
            # On the latent grid they take several times the memory, so that this is done for one picture at a time.
            for row in range(len(part)):
                queries = (trace.queries[site][row : row + 1].float() for site in sites)
                yield torch.cat([resize(query, trace.latent_hw) for query in queries], 1)[0]


def _within(image: np.ndarray, longest: int, plain: bool) -> np.ndarray:
    long = max(image.shape[:2])
    if not 0 < longest < long:
        return image
    return (squashed if plain else resized)(image, tuple(side * longest // long for side in image.shape[:2]))


def resized(image: UInt8[np.ndarray, "H W 3"], hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture at another size (h, w), by Lanczos' filter."""
    return np.asarray(Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.LANCZOS))
