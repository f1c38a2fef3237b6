"""Stable Diffusion 1.x and 2.x, and small networks of their layout, as a `Backbone`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from jaxtyping import Float
from torch import Tensor

from ovseg.backbones.base import Sampling
from ovseg.backbones.checkpoints import unet_traits
from ovseg.backbones.clip_text import TEXT_ROWS
from ovseg.backbones.diffusers_backbone import ACTIVATIONS, DiffusersBackbone
from ovseg.backbones.loading import Configs, read_config, side_of
from ovseg.backbones.saved_words import Encoded
from ovseg.backbones.text import Text
from ovseg.backbones.trace import Capture, Site, grid_at
from ovseg.backbones.unet_layout import find_sites, layout_of
from ovseg.backbones.weights import generator

CONDITIONS = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
"""What a U-Net may be told besides words; not None where it is."""
BETAS = ("beta_start", "beta_end", "beta_schedule")
"""What says how much noise each step adds; a library takes what is usual elsewhere where it is not said."""


class StableDiffusion(DiffusersBackbone):
    """A U-Net with cross-attention to the words of one text encoder."""

    parts = ("unet", "vae", "text_encoder")
    kind: ClassVar[type[DiffusionPipeline]] = StableDiffusionPipeline
    title: ClassVar[str] = "Stable Diffusion 1.x or 2.x"
    conditions: ClassVar[Mapping[str, str]] = {}
    """What its U-Net is told besides words, as the fields of `CONDITIONS` name it."""
    told_otherwise: ClassVar[str] = "more than words, as in XL"
    unread: ClassVar[Mapping[str, Any]] = {"safety_checker": None, "requires_safety_checker": False}

    def __init__(self, pipeline: DiffusionPipeline, name: str, device: torch.device | str, source: str = "") -> None:
        if not hasattr(pipeline.scheduler, "alphas_cumprod"):
            kind = type(pipeline.scheduler).__name__
            raise ValueError(f"The scheduler in {source} must add noise step by step (alphas_cumprod), but is a {kind}.")
        super().__init__(pipeline, name, device, source)
        self.layout = layout_of(self.network)
        self.coarsest_stride = 2 ** (len(self.network.config.block_out_channels) - 1)

    @classmethod
    def check(cls, folder: Path, configs: Configs) -> None:
        """Other kinds are those for inpainting, editing or enlarging, of another family, of flow matching or EDM."""
        network, codec, sampler = (configs.get(part, {}) for part in ("unet", "vae", "scheduler"))
        encoders = [configs[part] for part in cls.parts if part.startswith("text_encoder") and part in configs]
        lacking = [part for part in cls.parts if part not in configs]
        takes, gives = network.get("in_channels", 4), codec.get("latent_channels", 4)
        is_other = takes != gives
        more = [name for name in CONDITIONS if network.get(name) != cls.conditions.get(name)]
        reads, states = network.get("cross_attention_dim", 1280), sum(words.get("hidden_size", 512) for words in encoders)
        kind, predicts = sampler["_class_name"], sampler.get("prediction_type", "epsilon")
        unsaid = [name for name in BETAS if name not in sampler] if sampler.get("trained_betas") is None else []
        is_flow = kind.startswith(("FlowMatch", "EDM")) or bool(sampler.get("use_flow_sigmas"))
        wrong = [
            f"its index has no {', '.join(lacking)}" * bool(lacking),
            f"its unet takes {takes} channels where the codec gives {gives}, as for inpainting or editing" * is_other,
            f"its unet is told {cls.told_otherwise} ({', '.join(more)})" * bool(more),
            f"its unet reads words of {reads} numbers where its text encoders give {states}" * (reads != states),
            f"its scheduler {kind} is one of flow matching or EDM" * is_flow,
            f"its scheduler does not say its {', '.join(unsaid)}" * bool(unsaid and not is_flow),
            f"its scheduler predicts {predicts}" * (predicts not in ("epsilon", "v_prediction")),
        ]
        if any(wrong):
            raise ValueError(
                f"The backbone must be a {cls.title} that draws of words alone, but of {folder}"
                f" {'; '.join(filter(None, wrong))}."
            )

    @classmethod
    def traits(cls, folder: Path) -> dict[str, Any]:
        config, codec = (read_config(folder / part) for part in ("unet", "vae"))
        with torch.device("meta"):
            sites = find_sites(UNet2DConditionModel.from_config(config))
        latent = config["sample_size"]
        return unet_traits(side_of(latent, codec), latent, tuple(site.stride for site in sites if site.kind == "cross"))

    def _encoded(self, prompts: Sequence[str]) -> Encoded:
        encoder, ids = self.pipeline.text_encoder, self._tokenise(prompts).input_ids.to(self.device)
        return Encoded(torch.cat([encoder(part)[0] for part in ids.split(TEXT_ROWS)]), {})

    def noised(self, latent: Float[Tensor, "n c y x"], timestep: float, seed: int) -> Float[Tensor, "n c y x"]:
        alphas = self.pipeline.scheduler.alphas_cumprod
        if not 0 <= timestep < len(alphas):
            raise ValueError(f"The timestep must be from 0 to {len(alphas) - 1}, but got {timestep}.")
        if timestep != int(timestep):
            raise ValueError(f"The timestep of this network must be a whole number, but got {timestep}.")
        noise, left = torch.randn(latent[:1].shape, generator=generator(seed)).to(latent), alphas[int(timestep)]
        return left.sqrt().to(latent) * latent + (1 - left).sqrt().to(latent) * noise

    def _run(self, noised: Float[Tensor, "b c y x"], timestep: float, text: Text) -> None:
        told = dict(text.conditions) or None
        self.network(noised, timestep, encoder_hidden_states=text.embeddings, added_cond_kwargs=told)

    def _sampler(self, sampling: Sampling) -> SchedulerMixin:
        config = self.pipeline.scheduler.config
        if sampling.ddim:  # 981, 961, ... 1 of 1000 where there are 50 steps, whatever the checkpoint's own sampler does
            spacing = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
            return DDIMScheduler.from_config(config, **spacing)
        if sampling.dpm_solver:
            first = {"final_sigmas_type": "sigma_min", "timestep_spacing": "linspace"} if sampling.least_noise else {}
            return DPMSolverMultistepScheduler.from_config(config, **first)
        return type(self.pipeline.scheduler).from_config(config)

    def row_bytes(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        size = self.dtype.itemsize
        # What a site was given is kept; its queries and keys, and what they are multiplied by, are there for one at a time.
        inputs = [math.prod(grid_at(latent_hw, site.stride)) * self.width(site) * size for site in capture.states]
        activations = self.network.config.block_out_channels[0] * math.prod(latent_hw) * size * ACTIVATIONS
        return sum(inputs) + 4 * max(inputs, default=0) + activations

    def width(self, site: Site) -> int:
        return self.network.get_submodule(site.name).inner_dim
