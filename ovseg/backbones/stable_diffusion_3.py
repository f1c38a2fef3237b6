"""Stable Diffusion 3, and small networks of its layout, as a `Backbone`: places and words share a transformer's attention.

Esser et al. 2024, "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis". Two CLIP text encoders read a
prompt, and their states of a token are one after the other in channels; T5 may be left out (section 5.3.3).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from jaxtyping import Float, Integer
from torch import Tensor

from ovseg.backbones.base import Sampling
from ovseg.backbones.checkpoints import grid_traits
from ovseg.backbones.joint_attention import JointAttention
from ovseg.backbones.layout import Layout
from ovseg.backbones.loading import parts_left_out, read_config, side_of
from ovseg.backbones.phrases import QUOTES, columns_between
from ovseg.backbones.saved_words import Encoded
from ovseg.backbones.text import Text
from ovseg.backbones.trace import Site, grid_at


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


class StableDiffusion3(JointAttention):
    """A transformer whose blocks all keep words and places apart but for their attention."""

    kind = StableDiffusion3Pipeline
    title = "Stable Diffusion 3"
    parts = ("transformer", "vae", "text_encoder", "text_encoder_2")

    def __init__(self, pipeline: StableDiffusion3Pipeline, name: str, device: torch.device | str, source: str = "") -> None:
        super().__init__(pipeline, name, device, source)
        self.layout = layout_of(self.network)
        self.coarsest_stride = self.network.config.patch_size
        # For T5 rows stand behind the words, of zeros where it is left out: 256, as in the plain pipeline. A network that
        # never had T5 takes words no wider than the pooled states of both CLIPs: the least that the pipeline can be told.
        never_had_t5 = self.network.config.joint_attention_dim == self.network.config.pooled_projection_dim
        self.t5_rows = 1 if never_had_t5 else 256

    @classmethod
    def _unread(cls, source: Path) -> dict[str, Any]:
        return parts_left_out(source)

    @classmethod
    def traits(cls, folder: Path) -> dict[str, Any]:
        config, codec = (read_config(folder / part) for part in ("transformer", "vae"))
        latent = config["sample_size"]
        return grid_traits(side_of(latent, codec), latent, config["patch_size"], config["num_layers"])

    def working_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Same aspect as the picture, about the area of training, within the table of places."""
        longest = self.network.config.pos_embed_max_size * self.coarsest_stride * self.vae_stride
        height, width = super().working_hw(image_hw)
        return min(height, longest), min(width, longest)

    def _encoded(self, prompts: Sequence[str]) -> Encoded:
        states, pooled = self._pooled(prompts, {"prompt_2": None, "prompt_3": None, "max_sequence_length": self.t5_rows})
        return Encoded(states, {"pooled": pooled}, self._token_of(prompts).to(states.device))

    def _token_of(self, prompts: Sequence[str]) -> Integer[Tensor, "b t"]:
        """The token of each column: those of CLIP, then for T5's the one that the same characters begin in."""
        tokens = torch.arange(self._room).expand(len(prompts), -1)
        if self.pipeline.text_encoder_3 is None:
            return torch.cat([tokens, torch.full((len(prompts), self.t5_rows), -1)], 1)
        plain, own = [prompt.translate(QUOTES) for prompt in prompts], self._tokenise(prompts).offset_mapping
        third = self.pipeline.tokenizer_3(
            plain, padding="max_length", max_length=self.t5_rows, truncation=True, return_offsets_mapping=True
        )
        both = zip(own.tolist(), third.offset_mapping, strict=True)
        pieces = [[(*columns_between(clip, *piece), -1)[0] for piece in t5] for clip, t5 in both]
        return torch.cat([tokens, torch.tensor(pieces)], 1)

    def _run(self, noised: Float[Tensor, "b c y x"], timestep: float, text: Text) -> None:
        self.network(
            hidden_states=noised,
            timestep=torch.tensor(timestep, dtype=torch.float32, device=noised.device).expand(len(noised)),
            encoder_hidden_states=text.embeddings,
            pooled_projections=text.conditions["pooled"],
        )

    def _shifting(self, steps: int) -> dict[str, Any]:
        config = self.pipeline.scheduler.config
        if not config.get("use_dynamic_shifting"):
            return {}
        places = math.prod(grid_at((self.network.config.sample_size,) * 2, self.coarsest_stride))
        bounds = [config[name] for name in ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")]
        return {"mu": calculate_shift(places, *bounds)}

    def _told(self, sampling: Sampling, pictures: int) -> dict[str, Any]:
        return {**super()._told(sampling, pictures), "max_sequence_length": self.t5_rows}

    @property
    def _text_columns(self) -> int:
        return self._room + self.t5_rows
