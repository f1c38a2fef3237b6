"""What transformers have in common whose places and words share a softmax, and that were trained by flow matching."""

import math
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import Sampling
from ovseg.backbones.diffusers_backbone import ACTIVATIONS, DiffusersBackbone
from ovseg.backbones.loading import Configs
from ovseg.backbones.trace import Capture, Site, grid_at
from ovseg.backbones.weights import generator


class JointAttention(DiffusersBackbone):
    """A transformer with joint attention, trained by flow matching."""

    folded: ClassVar[int] = 1
    """Places of the codec's latents that are one of the network's, one after the other in channels."""

    @classmethod
    def check(cls, folder: Path, configs: Configs) -> None:
        takes, kind = configs["transformer"]["in_channels"], configs["scheduler"]["_class_name"]
        gives = cls.folded * configs["vae"].get("latent_channels", 32)
        if takes != gives or not kind.startswith("FlowMatch"):
            raise ValueError(
                f"The backbone must be a {cls.title} that draws of words alone, with a scheduler of flow matching, but"
                f" {folder} takes {takes} channels where its codec gives {gives}, and has a {kind}."
            )

    def noised(self, latent: Float[Tensor, "n c y x"], timestep: float, seed: int) -> Float[Tensor, "n c y x"]:
        """On the straight line from latents to the noise of the seed."""
        most = self.pipeline.scheduler.config.num_train_timesteps
        if not 0 <= timestep <= most:
            raise ValueError(f"The timestep must be from 0 to {most}, but got {timestep}.")
        noise, share = torch.randn(latent[:1].shape, generator=generator(seed)).to(latent), timestep / most
        return (1 - share) * latent + share * noise

    def _sampler(self, sampling: Sampling) -> FlowMatchEulerDiscreteScheduler:
        return type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)

    def row_bytes(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        rows = math.prod(grid_at(latent_hw, self.coarsest_stride)) + self._text_columns
        vectors = rows * self.network.inner_dim * self.dtype.itemsize
        # Of a captured layer queries, keys and values are kept; two more are made of them, for one layer at a time.
        return (3 * len({site.name for site in capture.states}) + 2 * bool(capture.states) + ACTIVATIONS) * vectors

    def width(self, site: Site) -> int:
        return self.network.inner_dim
