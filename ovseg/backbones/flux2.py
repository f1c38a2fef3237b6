"""FLUX.2 klein, and small networks of its layout, as a `Backbone`.

Black Forest Labs 2026. Its first blocks keep words and places apart but for their attention, its last ones run attention and
feed-forward part as one layer over both. Qwen3 reads a prompt inside a chat, so that words stand behind a template's tokens.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from jaxtyping import Float
from torch import Tensor
from transformers import BatchEncoding

from ovseg.backbones.base import Sampling
from ovseg.backbones.checkpoints import grid_traits
from ovseg.backbones.joint_attention import JointAttention
from ovseg.backbones.layout import Layout
from ovseg.backbones.loading import read_config, side_of
from ovseg.backbones.saved_words import Encoded
from ovseg.backbones.text import Text
from ovseg.backbones.trace import Site

CLOCK = 1000
PROMPTS_AT_ONCE = 8  # the states of all of Qwen3's layers are there for so many


def layout_of(transformer: Flux2Transformer2DModel) -> Layout:
    """Every attention as two sites. The last blocks' layers have a feed-forward part of their own: it is off with them."""
    kinds = ("transformer_blocks", "single_transformer_blocks")
    paths = tuple(f"{kind}.{number}" for kind in kinds for number in range(len(getattr(transformer, kind))))
    sites = tuple(Site(f"{path}.attn", 1, kind, path) for path in paths for kind in ("self", "cross"))
    return Layout(sites, {1: paths}, _output, words_first=True, clock=CLOCK)


def _output(output: Tensor | tuple[Tensor, Tensor], grid: tuple[int, int]) -> Tensor:
    """A block's places, which come behind the words."""
    places = output[1] if isinstance(output, tuple) else output[:, -math.prod(grid) :]
    return places.mT.unflatten(2, grid)


class Flux2Klein(JointAttention):
    """A latent here is the codec's with four places folded into one, as the network reads it."""

    kind = Flux2KleinPipeline
    title = "FLUX.2 klein"
    parts = ("transformer", "vae", "text_encoder")
    folded = 4
    coarsest_stride = 1
    ignores_case = False
    trained_places: ClassVar[int] = 64
    """Along a side of a picture of its training; the pipeline's own default, as no configuration says it."""
    _room: ClassVar[int] = 512
    """Tokens of every prompt, those of the template included; the network sees those that fill it up, too."""

    def __init__(self, pipeline: Flux2KleinPipeline, name: str, device: torch.device | str, source: str = "") -> None:
        super().__init__(pipeline, name, device, source)
        self.layout = layout_of(self.network)
        self.vae_stride *= 2

    @classmethod
    def traits(cls, folder: Path) -> dict[str, Any]:
        config, codec = (read_config(folder / part) for part in ("transformer", "vae"))
        layers = config["num_layers"] + config["num_single_layers"]
        return grid_traits(2 * side_of(cls.trained_places, codec), cls.trained_places, 1, layers)

    def square_hw(self) -> tuple[int, int]:
        return (self.trained_places * self.vae_stride,) * 2

    def latent_shape(self, working_hw: tuple[int, int]) -> tuple[int, int, int]:
        return self.network.config.in_channels, *super().latent_shape(working_hw)[1:]

    def _encoded(self, prompts: Sequence[str]) -> Encoded:
        parts = [prompts[begin : begin + PROMPTS_AT_ONCE] for begin in range(0, len(prompts), PROMPTS_AT_ONCE)]
        told = {"device": self.device, "max_sequence_length": self._room}
        states = torch.cat([self.pipeline.encode_prompt(list(part), **told)[0] for part in parts])
        # Of each column the place in the prompt, which the network minds: by it words stay apart whatever their order.
        return Encoded(states, {}, torch.arange(self._room, device=states.device).expand(len(prompts), -1))

    def _run(self, noised: Float[Tensor, "b c y x"], timestep: float, text: Text) -> None:
        time = torch.tensor(timestep / CLOCK, dtype=self.dtype, device=noised.device)
        self.network(
            hidden_states=noised.flatten(2).mT,
            timestep=time.expand(len(noised)),
            encoder_hidden_states=text.embeddings,
            txt_ids=F.pad(text.token_of[0, :, None], (3, 0)),
            img_ids=self.pipeline._prepare_latent_ids(noised).to(noised.device),
        )

    def timesteps(self, sampling: Sampling) -> tuple[float, ...]:
        exact = torch.tensor(super().timesteps(sampling))
        return tuple(CLOCK * time for time in (exact.to(self.dtype) / CLOCK).tolist())

    def _shifting(self, steps: int) -> dict[str, Any]:
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": compute_empirical_mu(self.trained_places**2, steps)}

    def _told(self, sampling: Sampling, pictures: int) -> dict[str, Any]:
        height, width = self.square_hw()
        told = {"height": height, "width": width, "max_sequence_length": self._room}
        if sampling.negative and self._passes(sampling) == 2:
            told["negative_prompt_embeds"] = self._encoded([sampling.negative] * pictures).embeddings
        return told

    def _passes(self, sampling: Sampling) -> int:
        """A distilled one is drawn without guidance, whatever is asked for."""
        return 1 if self.pipeline.config.is_distilled or sampling.guidance <= 1 else 2

    def _scaled(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b _c _y _x"]:
        mean, deviation = self._statistics(latent)
        return (self.pipeline._patchify_latents(latent) - mean) / deviation

    def _unscaled(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b _c _y _x"]:
        mean, deviation = self._statistics(latent)
        return self.pipeline._unpatchify_latents(latent * deviation + mean)

    def _statistics(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        norm = self.vae.bn
        deviation = torch.sqrt(norm.running_var + self.vae.config.batch_norm_eps)
        return tuple(values.view(1, -1, 1, 1).to(latent) for values in (norm.running_mean, deviation))

    def _chat(self, prompt: str) -> str:
        """A prompt inside the template, as a question whose answer shall begin without thinking aloud."""
        return self.pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    def _tokenise(self, prompts: Sequence[str]) -> BatchEncoding:
        encoding = self.pipeline.tokenizer(
            [self._chat(prompt) for prompt in prompts], padding="max_length", max_length=self._room, truncation=True,
            return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        shifted = encoding.offset_mapping - self._chat("prompt").index("prompt")
        ends = torch.tensor([len(prompt) for prompt in prompts])[:, None, None]
        shifted = shifted.clamp(min=torch.zeros_like(ends), max=ends)
        encoding["offset_mapping"] = shifted * (shifted[..., :1] < shifted[..., 1:])
        return encoding

    def _kinds(self, encoding: BatchEncoding) -> list[str]:
        said = [end > begin for begin, end in encoding.offset_mapping[0].tolist()]
        first = said.index(True) if any(said) else len(said)
        kinds = ["word" if own else "start" if number < first else "end" for number, own in enumerate(said)]
        return [kind if real else "padding" for kind, real in zip(kinds, encoding.attention_mask[0].tolist(), strict=True)]

    def _tokens_of(self, prompt: str) -> int:
        return len(self.pipeline.tokenizer(self._chat(prompt), verbose=False).input_ids)
