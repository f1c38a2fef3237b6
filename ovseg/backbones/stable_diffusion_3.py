"""Stable Diffusion 3, and small networks of its layout, as a `Backbone`: places and words share a transformer's attention.

Esser et al. 2024, "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis". Two CLIP text encoders read a
prompt, and their states of a token are one after the other in channels; T5 is left out, as the paper's section 5.3.3 allows.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from jaxtyping import Float, Integer
from torch import Tensor

from ovseg.backbones.base import Sampling
from ovseg.backbones.clip_text import TEXT_ROWS, Encoded
from ovseg.backbones.diffusers_backbone import ACTIVATIONS, DiffusersBackbone
from ovseg.backbones.layout import Layout
from ovseg.backbones.loading import read_pipeline
from ovseg.backbones.phrases import QUOTES, columns_between
from ovseg.backbones.text import Text
from ovseg.backbones.trace import Capture, Site, grid_at
from ovseg.backbones.weights import generator


def layout_of(transformer: SD3Transformer2DModel) -> Layout:
    """Every joint attention as two sites, and the places' own attention that some blocks of 3.5 have besides."""
    sites: list[Site] = []
    paths = [f"transformer_blocks.{number}" for number in range(len(transformer.transformer_blocks))]
    stride = transformer.config.patch_size
    for path, block in zip(paths, transformer.transformer_blocks, strict=True):
        sites += [Site(f"{path}.attn", stride, kind, path) for kind in ("self", "cross")]
        if block.attn2 is not None:
            sites.append(Site(f"{path}.attn2", stride, "self", path))
    return Layout(tuple(sites), {stride: tuple(paths)}, _output)


def _output(output: tuple[Tensor | None, Tensor], grid: tuple[int, int]) -> Tensor:
    """A block's places; it gives the words before them."""
    return output[1].mT.unflatten(2, grid)


class StableDiffusion3(DiffusersBackbone):
    """A transformer with joint attention, trained by flow matching."""

    parts = ("transformer", "vae", "text_encoder", "text_encoder_2")
    t5_rows = 256
    """Rows of zeros behind the words where T5 would be, as many as the plain pipeline has."""

    def __init__(self, pipeline: StableDiffusion3Pipeline, name: str, device: torch.device | str, source: str = "") -> None:
        super().__init__(pipeline, name, device, source)
        self.layout = layout_of(self.network)
        self.coarsest_stride = self.network.config.patch_size

    @classmethod
    def load(
        cls, source: str, name: str, device: torch.device | str, dtype: torch.dtype, variant: str | None
    ) -> "StableDiffusion3":
        """From a local folder or the hub, without T5.

        Raises:
            ValueError: there is no such pipeline.
        """
        unread = {"text_encoder_3": None, "tokenizer_3": None}
        return cls(read_pipeline(StableDiffusion3Pipeline, source, dtype, variant, unread), name, device, source)

    def working_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Same aspect as the picture, about the area of training, within the table of places."""
        longest = self.network.config.pos_embed_max_size * self.coarsest_stride * self.vae_stride
        height, width = super().working_hw(image_hw)
        return min(height, longest), min(width, longest)

    def _encoded(self, prompts: Sequence[str]) -> Encoded:
        plain, parts = [prompt.translate(QUOTES) for prompt in prompts], []
        for begin in range(0, len(plain), TEXT_ROWS):
            states, _, pooled, _ = self.pipeline.encode_prompt(
                plain[begin : begin + TEXT_ROWS], None, None, self.network.device, do_classifier_free_guidance=False,
                max_sequence_length=self.t5_rows,
            )  # fmt: skip
            parts.append((states, pooled))
        states, pooled = (torch.cat(part) for part in zip(*parts, strict=True))
        return Encoded(states, {"pooled": pooled}, self._token_of(plain).to(states.device))

    def _token_of(self, prompts: list[str]) -> Integer[Tensor, "b t"]:
        """The token of each column: those of CLIP, then for T5's the one that the same characters begin in.

        Raises:
            ValueError: the two CLIP tokenizers do not agree.
        """
        own = self._tokenise(prompts).offset_mapping
        second = self.pipeline.tokenizer_2(
            prompts, padding="max_length", max_length=self._room, return_offsets_mapping=True, return_tensors="pt"
        )
        if not torch.equal(own, second.offset_mapping):
            raise ValueError("The two CLIP tokenizers of the backbone must cut a prompt into the same tokens, but do not.")
        tokens = torch.arange(self._room).expand(len(prompts), -1)
        if self.pipeline.text_encoder_3 is None:
            return torch.cat([tokens, torch.full((len(prompts), self.t5_rows), -1)], 1)
        third = self.pipeline.tokenizer_3(
            prompts, padding="max_length", max_length=self.t5_rows, truncation=True, return_offsets_mapping=True
        )
        both = zip(own.tolist(), third.offset_mapping, strict=True)
        pieces = [[(*columns_between(clip, *piece), -1)[0] for piece in t5] for clip, t5 in both]
        return torch.cat([tokens, torch.tensor(pieces)], 1)

    def noised(self, latent: Float[Tensor, "n c y x"], timestep: float, seed: int) -> Float[Tensor, "n c y x"]:
        """What `trace` gives the network: on the straight line from latents to the noise of a seed.

        Raises:
            ValueError: the timestep is outside the noise schedule.
        """
        most = self.pipeline.scheduler.config.num_train_timesteps
        if not 0 <= timestep <= most:
            raise ValueError(f"The timestep must be from 0 to {most}, but got {timestep}.")
        noise, share = torch.randn(latent[:1].shape, generator=generator(seed)).to(latent), timestep / most
        return (1 - share) * latent + share * noise

    def _run(self, noised: Float[Tensor, "b c y x"], timestep: float, text: Text) -> None:
        self.network(
            hidden_states=noised,
            timestep=torch.tensor(timestep, dtype=torch.float32, device=noised.device).expand(len(noised)),
            encoder_hidden_states=text.embeddings,
            pooled_projections=text.conditions["pooled"],
        )

    def _sampler(self, sampling: Sampling) -> FlowMatchEulerDiscreteScheduler:
        return type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)

    def _shifting(self) -> dict[str, float]:
        config = self.pipeline.scheduler.config
        if not config.get("use_dynamic_shifting"):
            return {}
        places = math.prod(grid_at((self.network.config.sample_size,) * 2, self.coarsest_stride))
        bounds = [config[name] for name in ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")]
        return {"mu": calculate_shift(places, *bounds)}

    def _drawn_by(self, scheduler: FlowMatchEulerDiscreteScheduler) -> tuple[StableDiffusion3Pipeline, dict[str, Any]]:
        parts = self.pipeline.components | {"scheduler": scheduler}
        return StableDiffusion3Pipeline(**parts), {"max_sequence_length": self.t5_rows}

    def _bytes(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        rows = math.prod(grid_at(latent_hw, self.coarsest_stride)) + self._text_columns
        vectors = rows * self.network.inner_dim * self.network.dtype.itemsize
        # Of a captured layer queries, keys and values are kept; two more are made of them, for one layer at a time.
        return (3 * len({site.name for site in capture.states}) + 2 * bool(capture.states) + ACTIVATIONS) * vectors

    @property
    def _text_columns(self) -> int:
        return self._room + self.t5_rows

    def width(self, site: Site) -> int:
        """How many numbers the query of one place has at a site, all heads together."""
        return self.network.inner_dim
