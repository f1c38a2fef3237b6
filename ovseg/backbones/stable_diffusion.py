"""Stable Diffusion 1.x and 2.x, and small networks of their layout, as a `Backbone`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import Sampling
from ovseg.backbones.clip_text import TEXT_ROWS, Encoded
from ovseg.backbones.diffusers_backbone import ACTIVATIONS, DiffusersBackbone
from ovseg.backbones.loading import read_pipeline
from ovseg.backbones.text import Text
from ovseg.backbones.trace import Capture, Site, grid_at
from ovseg.backbones.unet_layout import layout_of
from ovseg.backbones.weights import generator


class StableDiffusion(DiffusersBackbone):
    """A U-Net with cross-attention to the words of one text encoder."""

    parts = ("unet", "vae", "text_encoder")

    def __init__(self, pipeline: StableDiffusionPipeline, name: str, device: torch.device | str, source: str = "") -> None:
        super().__init__(pipeline, name, device, source)
        self.layout = layout_of(self.network)
        self.coarsest_stride = 2 ** (len(self.network.config.block_out_channels) - 1)

    @classmethod
    def load(
        cls, source: str, name: str, device: torch.device | str, dtype: torch.dtype, variant: str | None
    ) -> "StableDiffusion":
        """From a local folder or the hub, without a safety checker.

        Raises:
            ValueError: there is no such pipeline.
        """
        unread = {"safety_checker": None, "requires_safety_checker": False}
        return cls(read_pipeline(StableDiffusionPipeline, source, dtype, variant, unread), name, device, source)

    @property
    def unet(self) -> UNet2DConditionModel:
        """The denoiser."""
        return self.network

    def _encoded(self, prompts: Sequence[str]) -> Encoded:
        encoder = self.pipeline.text_encoder
        ids = self._tokenise(prompts).input_ids.to(encoder.device)
        return Encoded(torch.cat([encoder(part)[0] for part in ids.split(TEXT_ROWS)]), {})

    def noised(self, latent: Float[Tensor, "n c y x"], timestep: float, seed: int) -> Float[Tensor, "n c y x"]:
        """What `trace` gives the network: latents, all with the same noise of a seed, as much as belongs to the timestep.

        Raises:
            ValueError: the timestep is outside the noise schedule, or no whole number.
        """
        alphas = self.pipeline.scheduler.alphas_cumprod
        if not 0 <= timestep < len(alphas):
            raise ValueError(f"The timestep must be from 0 to {len(alphas) - 1}, but got {timestep}.")
        if timestep != int(timestep):
            raise ValueError(f"The timestep of this network must be a whole number, but got {timestep}.")
        noise, left = torch.randn(latent[:1].shape, generator=generator(seed)).to(latent), alphas[int(timestep)]
        return left.sqrt().to(latent) * latent + (1 - left).sqrt().to(latent) * noise

    def _run(self, noised: Float[Tensor, "b c y x"], timestep: float, text: Text) -> None:
        self.network(noised, timestep, encoder_hidden_states=text.embeddings)

    def _sampler(self, sampling: Sampling) -> SchedulerMixin:
        config = self.pipeline.scheduler.config
        if sampling.ddim:  # 981, 961, ... 1 of 1000 where there are 50 steps, whatever the checkpoint's own sampler does
            spacing = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
            return DDIMScheduler.from_config(config, **spacing)
        kind = DPMSolverMultistepScheduler if sampling.dpm_solver else type(self.pipeline.scheduler)
        return kind.from_config(config)

    def _drawn_by(self, scheduler: SchedulerMixin) -> tuple[StableDiffusionPipeline, dict[str, Any]]:
        parts = self.pipeline.components | {"scheduler": scheduler}
        return StableDiffusionPipeline(**parts, requires_safety_checker=False), {}

    def _bytes(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        size = self.network.dtype.itemsize
        # What a site was given is kept; its queries and keys, and what they are multiplied by, are there for one at a time.
        inputs = [math.prod(grid_at(latent_hw, site.stride)) * self.width(site) * size for site in capture.states]
        activations = self.network.config.block_out_channels[0] * math.prod(latent_hw) * size * ACTIVATIONS
        return sum(inputs) + 4 * max(inputs, default=0) + activations

    def width(self, site: Site) -> int:
        """How many numbers the query of one place has at a site, all heads together."""
        return self.network.get_submodule(site.name).inner_dim
